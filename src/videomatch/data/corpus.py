"""A corpus folder: what ``prepare`` leaves and every later stage reads."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from videomatch.data import tables


def shard_of(name: str, shards: int) -> int:
    """The shard of a video, by its id, or of all parts of a file, by that file's name. Other videos do not count, and
    one shard more takes half of one other's videos and leaves all others as they are (linear hashing): sizes differ by
    a factor of two unless ``shards`` is a power of two."""
    number, half = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16), 1 << (shards.bit_length() - 1)
    return number % half if half + number % half >= shards else number % (2 * half)


def shard_file(shard: int, rows: str = "videos") -> str:
    """Name of the file that holds the ``videos`` of one shard, or their ``transcripts``: rows of ``texts``."""
    return f"{rows}-{shard:05d}.parquet"


def videos(folder: Path, shard: int | None = None) -> pl.DataFrame:
    """The ``videos`` table of a corpus folder, whole (ordered by id) or one shard of it."""
    if shard is not None:
        return tables.read_file("videos", folder / shard_file(shard))
    frames = [tables.read_file("videos", p) for p in sorted(folder.glob("videos-*.parquet"))]
    return pl.concat(frames).sort("video_id") if frames else tables.frame("videos")


def transcripts(folder: Path, shard: int) -> pl.DataFrame:
    """The given transcripts of a shard's videos: their ``texts`` of the kind asr."""
    return tables.read_file("texts", folder / shard_file(shard, "transcripts"))


def write_videos(rows: pl.DataFrame, folder: Path, shards: int) -> None:
    """Write the checked ``videos`` table as one file per shard (empty for a shard without videos)."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        part = rows.filter(pl.col("shard") == shard).sort("video_id")
        part.write_parquet(folder / shard_file(shard), compression="zstd")


def write_transcripts(texts: pl.DataFrame, videos: pl.DataFrame, folder: Path, shards: int) -> None:
    """Write the transcripts among the ``texts`` again as one file per shard: a job that reads those of its shard does
    not depend on the others."""
    spoken = texts.filter(pl.col("kind") == "asr").sort("video_id", "start", "text_id", nulls_last=True)
    for shard in range(shards):
        ids = videos.filter(pl.col("shard") == shard)["video_id"].implode()
        rows = spoken.filter(pl.col("video_id").is_in(ids))
        rows.write_parquet(folder / shard_file(shard, "transcripts"), compression="zstd")


def split_ids(splits: pl.DataFrame, split: str, role: str) -> list[str]:
    """Ids listed under ``split``, which must exist, in the role ``query`` or ``reference``."""
    if split not in set(splits["split"]):
        raise ValueError(f"no split {split!r}; there are {sorted(set(splits['split']))}")
    return splits.filter((pl.col("split") == split) & (pl.col("role") == role))["id"].sort().to_list()


def train_ids(folder: Path) -> list[str]:
    """Videos of the train split; all of a corpus that has no such split, as a folder of videos."""
    splits = tables.read("splits", folder)
    return (
        split_ids(splits, "train", "reference") if "train" in splits["split"] else videos(folder)["video_id"].to_list()
    )


def pooled_ids(folder: Path, split: str | Sequence[str], roles: Sequence[str] = ("reference",)) -> list[str]:
    """Ids of one split or of several, which must exist, in the order of the splits and by id within one, none twice."""
    splits = tables.read("splits", folder)
    names = [split] if isinstance(split, str) else split
    return list(dict.fromkeys(i for name in names for role in roles for i in split_ids(splits, name, role)))


def split_texts(
    folder: Path, split: str | Sequence[str], kinds: Sequence[str] | None = None, roles: Sequence[str] = ("reference",)
) -> pl.DataFrame:
    """Rows of ``texts`` (of some kinds, or all) that belong to the videos of a split, ordered by video and id."""
    texts = tables.read("texts", folder).filter(pl.col("video_id").is_in(pooled_ids(folder, split, roles)))
    if kinds is not None:
        texts = texts.filter(pl.col("kind").is_in(list(kinds)))
    return texts.sort("video_id", "text_id")


def joined_texts(folder: Path, kinds: Sequence[str], ids: Iterable[str] | None = None) -> pl.DataFrame:
    """Texts of videos, those of one kind (ASR segments) joined by a space in order of time: video_id and a column for
    each kind, ordered by video_id, of every video with any such text; null where it has none of a kind."""
    texts = tables.read("texts", folder).filter(pl.col("kind").is_in(list(kinds)) & pl.col("video_id").is_not_null())
    if ids is not None:
        texts = texts.filter(pl.col("video_id").is_in(list(ids)))
    texts = texts.sort("video_id", "start", "text_id", nulls_last=True)
    of_kind = {kind: pl.col("text").filter(pl.col("kind") == kind) for kind in kinds}
    joined = texts.group_by("video_id", maintain_order=True).agg(
        pl.when(text.len() > 0).then(text.str.join(" ")).alias(kind) for kind, text in of_kind.items()
    )
    return joined.select("video_id", *kinds)


def whole_texts(folder: Path, kinds: Sequence[str], ids: Iterable[str] | None = None) -> dict[str, str]:
    """Texts of videos, those of all kinds joined by a space in the order of the kinds: video_id -> text, of the videos
    that have one."""
    whole = joined_texts(folder, kinds, ids).select("video_id", pl.concat_str(kinds, separator=" ", ignore_nulls=True))
    return {video: text for video, text in whole.iter_rows() if text.strip()}
