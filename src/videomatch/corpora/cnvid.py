"""CNVid-3.5M (Gan et al., CVPR 2023): short Chinese videos and what is said in them, to pretrain on.

Files, below ``raw``::

    caption.json       {video id: {"text": [str], "start": [s], "end": [s]}}: speech as a recogniser wrote it
    CNVid_antmmf_pretrained_format_total_full_filterL3_train3_5m.jsonl   a line for each video: {"clip_name": …}
    CNVid_antmmf_pretrained_format_total_full_filterL3_val5k.jsonl

Splits ``train`` and ``val`` are the videos of the two lists; without lists all videos are ``train``. These are what the
authors' filter left of 4.5 million. There are no captions: texts are of the kind ``asr``.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import polars as pl
from pydantic import BaseModel, model_validator

from videomatch.common.files import parse_json
from videomatch.corpora import _files
from videomatch.corpora._captions import Collected
from videomatch.data import text
from videomatch.data.tables import frame, videos

CAPTIONS = "caption.json"
LIST = "CNVid_antmmf_pretrained_format_total_full_filterL3_{}.jsonl"
LISTS = {"train": LIST.format("train3_5m"), "val": LIST.format("val5k")}
#: videos of a list whose number is published
SIZES = {"val": 5000}


class _Transcript(BaseModel):
    text: list[str]
    start: list[_files.Seconds]
    end: list[_files.Seconds]

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not len(self.text) == len(self.start) == len(self.end):
            counts = f"{len(self.text)} texts, {len(self.start)} starts and {len(self.end)} ends"
            raise ValueError(f"{counts}, expected as many of each")
        for number, (start, end) in enumerate(zip(self.start, self.end, strict=True)):
            if start > end:
                raise ValueError(f"text {number} is from {start} to {end} s, expected start <= end")
        return self


class _Listed(BaseModel):
    clip_name: str


def read(
    *, raw: Path, media: str | None = None, cleaned: bool = True, partial: bool = False
) -> dict[str, pl.DataFrame]:
    """The tables of CNVid. ``cleaned`` cleans the transcripts (:mod:`videomatch.data.text`); ``partial`` takes lists of
    another length, and leaves out their videos that have no transcript."""
    out, splits = Collected(raw, partial), dict[str, list[str]]()
    (path,) = _files.find_all(out.raw, [CAPTIONS], "the transcripts are")
    content = _files.read_json(path, dict[str, _Transcript], "{video id: {text, start, end}}")
    spoken = {_files.video_name(name): entry for name, entry in content.items()}
    for split, path in {split: out.raw / name for split, name in LISTS.items()}.items():
        if path.is_file():
            ids = _listed(path)
            out.expect(path, len(ids), SIZES.get(split), "videos")
            out.apart(path, ids, split)
            splits[split] = out.known(path, ids, spoken, CAPTIONS)
    splits = splits or {"train": list(spoken)}
    ids = [video_id for of_split in splits.values() for video_id in of_split]
    files, texts = _files.media_files(out.raw, media), _texts(ids, spoken)
    return {
        "videos": videos({"video_id": video_id, "path": files.get(video_id)} for video_id in ids),
        "texts": text.clean_table(texts) if cleaned else texts,
        "splits": frame("splits", [(split, "reference", v) for split, own in splits.items() for v in own]),
    }


def _listed(path: Path) -> list[str]:
    """The videos of a list, in its order; of one that is listed twice, once."""
    ids: dict[str, None] = {}
    for number, line in _files.lines(path):
        where = f"{path}, line {number}"
        entry = _files.typed(parse_json(line, where), _Listed, where, '{"clip_name": …}')
        ids[_files.video_name(entry.clip_name)] = None
    return list(ids)


def _texts(ids: Iterable[str], spoken: dict[str, _Transcript]) -> pl.DataFrame:
    """Rows of the table of texts, without blank ones."""
    rows = [(video_id, own.text, own.start, own.end) for video_id in ids for own in [spoken[video_id]]]
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
