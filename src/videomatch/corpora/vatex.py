"""VATEX (Wang et al., ICCV 2019): clips of 10 seconds with ten English and ten Chinese captions each.

Files, below ``raw``::

    vatex_training_v1.0.json vatex_validation_v1.0.json   [{"videoID", "enCap": [str], "chCap": [str]}]
    ref_captions.json                     or the captions as {video id: [str]}
    train_list.txt val_list.txt test_list.txt   one id a line

The public test has no captions, so retrieval papers cut the validation set in two (Chen et al., CVPR 2020, "HGR"):
25,991 / 1,500 / 1,500, given as lists of ids. Where there are lists, they are the splits; without, the two files are.
Ids are ``<YouTube id>_<start>_<end>`` in seconds with leading zeros. Chinese captions are queries of
``captions_test_zh`` ….
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from videomatch.corpora import _files
from videomatch.corpora._captions import Collected, Tables

FIELDS = {"en": "enCap", "zh": "chCap"}
FILES = {"train": "vatex_training_v1.0.json", "val": "vatex_validation_v1.0.json"}
#: of the cut of HGR
SIZES = {"train": 25_991, "val": 1500, "test": 1500}

#: video id -> language -> captions
Captions = dict[str, dict[str, list[str]]]


class _Entry(BaseModel):
    video: str = Field(alias="videoID")
    en: list[str] | None = Field(None, alias=FIELDS["en"])
    zh: list[str] | None = Field(None, alias=FIELDS["zh"])


def read(*, raw: Path, languages: Sequence[str] = ("en",), media: str | None = None, partial: bool = False) -> Tables:
    """The tables of VATEX; ``languages`` are ``en``, ``zh``, or both."""
    out = Collected(raw, partial)
    odd = [language for language in languages if language not in FIELDS]
    if odd or not languages:
        raise ValueError(f"languages {list(languages)}, expected some of {', '.join(FIELDS)}")
    files = _files.find_all(out.raw, [*FILES.values(), "ref_captions.json"], "the captions are")
    captioned: Captions = {}
    of_file: dict[str, list[str]] = {}
    for path in files:
        found = _captions(path, languages)
        both = next((v for v in found if v in captioned), None)
        if both is not None:
            raise ValueError(f"{path}: {both[:60]!r} stands in another file, too")
        captioned |= found
        of_file |= {split: list(found) for split, name in FILES.items() if path.name == name}
    listed = " and ".join(path.name for path in files)
    lists = {split: out.raw / f"{split}_list.txt" for split in SIZES}
    there = {split: path for split, path in lists.items() if path.is_file()}
    splits = of_file | {s: out.listed(path, SIZES[s], captioned, listed) for s, path in there.items()}
    if not splits:
        names = [*FILES.values(), *(path.name for path in lists.values())]
        raise _files.missing(out.raw, "what says which videos are to train and to test on is", names)
    for split, ids in splits.items():
        for language in languages:
            queries = []
            for video_id in ids:
                out.clip(video_id)
                for n, words in enumerate(captioned[video_id][language]):
                    queries += out.text(f"{video_id}:{language}:{n}", video_id, words, language=language)
            out.split(split if language == "en" else f"{split}_{language}", ids, queries)
    return out.tables(media)


def _captions(path: Path, languages: Sequence[str]) -> Captions:
    content, form = _files.read_json(path, Any, ""), "[{videoID, enCap, chCap}] or {video id: [sentence]}"
    if isinstance(content, dict):
        if list(languages) != ["en"]:
            raise ValueError(f"{path}: holds captions of one language, languages are {list(languages)}")
        return {i: {"en": own} for i, own in _files.typed(content, dict[str, list[str]], str(path), form).items()}
    found: Captions = {}
    for number, entry in enumerate(_files.typed(content, list[_Entry], str(path), form)):
        if entry.video in found:
            raise ValueError(f"{path}, {number}: {entry.video[:60]!r} stands twice")
        found[entry.video] = {language: getattr(entry, language) for language in languages}
        for language, own in found[entry.video].items():
            if own is None:
                raise ValueError(f"{path}, {entry.video[:60]}: no {FIELDS[language]!r}, expected its captions")
    return found
