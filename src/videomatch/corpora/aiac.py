"""AIAC 2021 track 1 (QQ Browser), "multimodal video similarity": TFRecords of titles, ASR, tags and frame features.

Layout as given out by the organisers; what is absent is left out, but something must be there::

    raw/pointwise/pretrain_{0..19}.tfrecords   1,000,000 videos with tags and category
    raw/pairwise/pairwise.tfrecords            63,613 videos with tags and category
    raw/pairwise/label.tsv                     67,899 lines: id, id, score in 0, 0.05 … 1
    raw/test_a/*.tfrecords raw/test_b/*.tfrecords   31,514 and 43,027 videos, 10,581 of them in both; no tags
    raw/tag_list.txt                           the 10,000 most frequent tags

Ids have up to 19 digits. There are no media; frame features are EfficientNet-B3's, 1536-d float16, one frame per
second, 5 to 32 frames.

Splits: ``pretrain`` (pointwise and pairwise, what the winners pretrained on), ``train`` (pointwise), ``pairwise``,
``pairs`` (every label), ``pairs_val`` (the winners' validation: both ids divisible by 5), ``val`` (its videos),
``test_a``, ``test_b`` and ``test`` (= ``test_b``). There are no labels of test videos, so no ``pairs_test``. The
winners' training pairs are no product of queries and references: see ``data/pairs.py``.
"""

import logging
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from videomatch.common.files import text_of
from videomatch.common.progress import track
from videomatch.data import text, tfrecord
from videomatch.data.released import times_of
from videomatch.data.tables import SCHEMAS, frame, read_cells, videos

log = logging.getLogger(__name__)

#: size of a released frame feature
DIM = 1536
#: of the longest ids and tags
DIGITS = 19
PARTS = ("pointwise", "pairwise", "test_a", "test_b")
#: records that become rows of the tables at a time
_CHUNK = 20_000


def read(*, raw: Path, listed_tags: bool = True, cleaned: bool = True) -> dict[str, pl.DataFrame]:
    """The tables of the competition. ``listed_tags`` keeps only tags of ``tag_list.txt``, as the winners did;
    ``cleaned`` cleans titles and ASR (:mod:`videomatch.data.text`), which the winners used as they are."""
    raw = Path(raw)
    kept_tags = set(tag_classes(raw)) if listed_tags else None
    ids: dict[str, list[str]] = {part: [] for part in PARTS}
    found, texts = [], []
    seen: set[str] = set()
    for part, path in _files(raw):
        for chunk in _chunks(path, kept_tags):
            ids[part] += chunk["video_id"].to_list()
            chunk = chunk.filter(~pl.col("video_id").is_in(seen))  # test_a and test_b overlap
            seen.update(chunk["video_id"])
            found.append(videos(chunk))
            rows = _texts(chunk)
            texts.append(text.clean_table(rows) if cleaned else rows)
    tables = {
        "videos": pl.concat(found),
        "texts": pl.concat(texts),
        "relevance": labels(raw / "pairwise" / "label.tsv"),
    }
    judged = tables["relevance"]
    for column in judged.columns[:2]:
        unknown = judged.filter(~pl.col(column).is_in(seen))
        if len(unknown):
            raise ValueError(
                f"{raw / 'pairwise' / 'label.tsv'}: {len(unknown)} labels name a video that no TFRecord holds, "
                f"first {unknown[column][0]!r}"
            )
    return {**tables, "splits": _splits(ids, judged)}


def labels(path: Path) -> pl.DataFrame:
    """The labelled pairs as a relevance table, a row per line of the file; empty if there is no such file."""
    if not path.exists():
        return frame("relevance")
    cells = read_cells(path, list(SCHEMAS["relevance"]), "\t")
    rows = cells.with_columns(pl.col("grade").cast(pl.Float64, strict=False))
    odd = cells.filter(~rows["grade"].is_between(0, 1).fill_null(False))
    if len(odd):
        raise ValueError(f"{path}: score {odd['grade'][0][:60]} of pair {odd.row(0)[:2]}, expected 0 to 1")
    # Deviation: 45 pairs are judged twice (in either order), 25 of them differently. Every line stays, so that counts
    # are those of the file, but lines of one pair carry the mean of its scores: the winners train on both as they are.
    first, second = pl.col("query_id"), pl.col("reference_id")
    pair = pl.concat_list(pl.min_horizontal(first, second), pl.max_horizontal(first, second))
    return rows.with_columns(pl.col("grade").mean().over(pair))


def tag_classes(raw: Path) -> list[str]:
    """Tags of ``tag_list.txt`` in the order of the model's classes: ascending by number, not as in the file."""
    found = [p for p in (raw / "tag_list.txt", raw / "pairwise" / "tag_list.txt") if p.exists()]
    if not found:
        raise ValueError(f"{raw / 'tag_list.txt'} is missing; read with listed_tags=False to keep every tag")
    tags = text_of(found[0]).split()
    odd = next((tag for tag in tags if not (tag.isascii() and tag.isdigit() and len(tag) <= DIGITS)), None)
    if odd is not None:
        raise ValueError(f"{found[0]}: tag {odd[:60]!r}, expected numbers")
    return sorted(set(tags), key=int)


def frame_features(raw: Path, ids: Collection[str] | None = None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """As :mod:`videomatch.corpora` says; frame i covers second i to i + 1."""
    seen: set[str] = set()
    for _, path in _files(Path(raw)):
        for number, example in enumerate(tfrecord.iterate(path, keys=("id", "frame_feature"))):
            video_id = _string(example, "id")
            if video_id in seen or (ids is not None and video_id not in ids):
                continue
            seen.add(video_id)
            frames = example.get("frame_feature", [])
            sizes = {len(frame) if isinstance(frame, bytes) else 0 for frame in frames} - {2 * DIM}
            if sizes:
                where = f"{path}, record {number}, video {video_id[:60]}"
                raise ValueError(f"{where}: a frame of {min(sizes)} bytes, expected {2 * DIM}")
            values = np.frombuffer(b"".join(frames), dtype="<f2").reshape(-1, DIM)
            yield video_id, values, times_of(np.arange(len(frames)), 1.0)


def _files(raw: Path) -> list[tuple[str, Path]]:
    def order(path: Path) -> tuple[int, str]:
        number = re.search(r"(\d+)$", path.stem)
        return (int(number[1]) if number else -1, path.name)

    files = [(part, path) for part in PARTS for path in sorted((raw / part).glob("*.tfrecord*"), key=order)]
    if not files:
        raise ValueError(f"{raw}: no TFRecord; expected *.tfrecords in some of {', '.join(f'{p}/' for p in PARTS)}")
    return files


def _string(example: tfrecord.Example, key: str) -> str:
    value = example.get(key, [])
    return value[0].decode("utf-8", errors="replace") if isinstance(value, list) and value else ""


def _chunks(path: Path, kept: set[str] | None) -> Iterator[pl.DataFrame]:
    """The records of a file, some at a time, as columns video_id, title, asr, category, tags."""
    schema = {**dict.fromkeys(("video_id", "title", "asr", "category"), pl.String), "tags": pl.List(pl.String)}
    keys = ("id", "title", "asr_text", "tag_id", "category_id")
    rows = []
    for number, example in enumerate(track(tfrecord.iterate(path, keys=keys), label=path.name)):
        video_id = _string(example, "id")
        if not (video_id.isascii() and video_id.isdigit() and len(video_id) <= DIGITS):
            raise ValueError(f"{path}, record {number}: id {video_id[:60]!r}, expected at most {DIGITS} digits")
        category = example.get("category_id", [])
        # test videos have no tags; of others those that are not listed are zeros in the winners' targets
        tags = [str(t) for t in example["tag_id"]] if "tag_id" in example else None
        tags = tags if kept is None or tags is None else [t for t in tags if t in kept]
        category = str(category[0]) if len(category) else None
        rows.append((video_id, _string(example, "title"), _string(example, "asr_text"), category, tags))
        if len(rows) == _CHUNK:
            yield pl.DataFrame(rows, schema=schema, orient="row")
            rows = []
    yield pl.DataFrame(rows, schema=schema, orient="row")


def _texts(chunk: pl.DataFrame) -> pl.DataFrame:
    rows = chunk.unpivot(index="video_id", on=["title", "asr"], variable_name="kind", value_name="text")
    return rows.filter(pl.col("text") != "").select(
        pl.concat_str("video_id", "kind", separator=":").alias("text_id"),
        *(c if c in rows.columns else pl.lit(None, dtype=t).alias(c) for c, t in list(SCHEMAS["texts"].items())[1:]),
    )


def _splits(ids: dict[str, list[str]], judged: pl.DataFrame) -> pl.DataFrame:
    val = judged.filter(pl.all_horizontal(pl.col(c).str.contains("[05]$") for c in ("query_id", "reference_id")))
    alone = {"pretrain": ids["pointwise"] + ids["pairwise"], "train": ids["pointwise"], "pairwise": ids["pairwise"]}
    both = {"val": [*val["query_id"], *val["reference_id"]], "test_a": ids["test_a"]}
    both |= dict.fromkeys(("test_b", "test"), ids["test_b"])
    roles = ("query", "reference")
    named = [(name, "reference", listed) for name, listed in alone.items()]
    named += [(s, role, [*rows[f"{role}_id"]]) for s, rows in (("pairs", judged), ("pairs_val", val)) for role in roles]
    named += [(name, role, listed) for name, listed in both.items() for role in roles]
    return frame("splits", [(split, role, i) for split, role, listed in named for i in sorted(set(listed))])
