"""CNVid-3.5M (Gan et al., CVPR 2023): short Chinese videos and what is said in them, to pretrain on.

Files, below ``raw``::

    caption.json       {video id: {"text": [str], "start": [s], "end": [s]}}: speech as a recogniser wrote it
    CNVid_antmmf_pretrained_format_total_full_filterL3_train3_5m.jsonl   a line for each video: {"clip_name": …}
    CNVid_antmmf_pretrained_format_total_full_filterL3_val5k.jsonl

Splits ``train`` and ``val`` are the videos of the two lists; without lists all videos are ``train``. These are what the
authors' filter left of 4.5 million. There are no captions: texts are of the kind ``asr``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from videomatch.common.files import parse_json
from videomatch.corpora import _files
from videomatch.data import text
from videomatch.data.tables import frame, videos
from videomatch.data.walk import EXTENSIONS

CAPTIONS = "caption.json"
LIST = "CNVid_antmmf_pretrained_format_total_full_filterL3_{}.jsonl"
LISTS = {"train": LIST.format("train3_5m"), "val": LIST.format("val5k")}
#: videos of a list whose number is published
SIZES = {"val": 5000}


def read(
    *, raw: Path, media: str | None = None, cleaned: bool = True, partial: bool = False
) -> dict[str, pl.DataFrame]:
    """The tables of CNVid. ``cleaned`` cleans the transcripts (:mod:`videomatch.data.text`); ``partial`` takes lists of
    another length, and leaves out their videos that have no transcript."""
    raw = Path(raw)
    (path,) = _files.find_all(raw, [CAPTIONS], "the transcripts are")
    content = _files.read_json(path, dict, "{video id: {text, start, end}}")
    spoken = {_video_id(name): _transcript(path, name, entry) for name, entry in content.items()}
    splits = {split: _listed(raw / name, split, partial) for split, name in LISTS.items() if (raw / name).is_file()}
    owner: dict[str, str] = {}
    for split, ids in splits.items():
        for video_id in ids:
            if owner.setdefault(video_id, split) != split:
                raise ValueError(f"{raw / LISTS[split]}: {video_id!r} stands in the {owner[video_id]} list, too")
        lost = [video_id for video_id in ids if video_id not in spoken]
        if lost and not partial:
            raise ValueError(
                f"{raw / LISTS[split]}: {len(lost):,} of its {len(ids):,} videos are not in {CAPTIONS}, first "
                f"{lost[0][:60]!r}; `partial: true` leaves them out"
            )
        splits[split] = [video_id for video_id in ids if video_id in spoken]
    splits = splits or {"train": list(spoken)}
    ids = [video_id for of_split in splits.values() for video_id in of_split]
    files = _files.media_files(raw, media)
    texts = _texts(ids, spoken)
    return {
        "videos": videos({"video_id": video_id, "path": files.get(video_id)} for video_id in ids),
        "texts": text.clean_table(texts) if cleaned else texts,
        "splits": frame("splits", [(split, "reference", v) for split, own in splits.items() for v in own]),
    }


def _video_id(name: str) -> str:
    """The id of a video by its name, which may have a folder and an ending."""
    pure = PurePosixPath(name)
    return pure.stem if pure.suffix.lower() in EXTENSIONS else pure.name


def _transcript(path: Path, name: str, entry: Any) -> tuple[list[str], list[float], list[float]]:
    """Texts, starts and ends of a video."""
    words = _files.strings(path, name, _files.field(path, name, entry, "text", list))
    starts, ends = (
        [_files.seconds(path, f"{name}: {key}", value) for value in _files.field(path, name, entry, key, list)]
        for key in ("start", "end")
    )
    if not len(words) == len(starts) == len(ends):
        counts = f"{len(words)} texts, {len(starts)} starts and {len(ends)} ends"
        raise ValueError(f"{path}, {name[:100]}: {counts}, expected as many of each")
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if start > end:
            raise ValueError(f"{path}, {name[:100]}: text {number} is from {start} to {end} s, expected start <= end")
    return words, starts, ends


def _listed(path: Path, split: str, partial: bool) -> list[str]:
    """The videos of a list, in its order; of one that is listed twice, once."""
    ids: dict[str, None] = {}
    for number, line in _files.lines(path):
        where = f"line {number}"
        entry = parse_json(line, f"{path}, {where}")
        ids[_video_id(_files.field(path, where, entry, "clip_name", str))] = None
    wanted = SIZES.get(split, len(ids))
    if len(ids) != wanted and not partial:
        raise ValueError(f"{path}: {len(ids):,} videos, expected {wanted:,} (`partial: true` takes what is there)")
    return list(ids)


def _texts(ids: Iterable[str], spoken: dict[str, tuple[list[str], list[float], list[float]]]) -> pl.DataFrame:
    """Rows of the table of texts, without blank ones."""
    rows = [(video_id, *spoken[video_id]) for video_id in ids]
    schema = {
        "video_id": pl.String, "text": pl.List(pl.String), "start": pl.List(pl.Float64), "end": pl.List(pl.Float64),
    }  # fmt: skip
    found = pl.DataFrame(rows, schema=schema, orient="row").explode("text", "start", "end").drop_nulls("text")
    number = pl.int_range(pl.len()).over("video_id").cast(pl.String)
    found = found.with_columns(pl.col("text").str.strip_chars(), text_id=pl.col("video_id") + ":" + number)
    return found.filter(pl.col("text") != "").select(
        "text_id",
        "video_id",
        kind=pl.lit("asr"),
        language=pl.lit("zh"),
        start="start",
        end="end",
        text="text",
        confidence=pl.lit(None, pl.Float64),
    )
