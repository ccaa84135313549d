"""MSR-VTT (Xu et al., CVPR 2016): 10,000 clips of 10 to 32 seconds with 20 captions each, and all its protocols.

Files, below ``raw``; only annotations must be there::

    MSRVTT_data.json, or train_val_videodatainfo.json and test_videodatainfo.json
        {"videos": [{video_id, category, url, "start time", "end time", split}], "sentences": [{video_id, caption}]}
    MSRVTT_JSFUSION_test.csv                key,vid_key,video_id,sentence: the 1k-A test (Yu et al., ECCV 2018)
    MSRVTT_train.9k.csv MSRVTT_train.7k.csv one column video_id: two training sets for 1k-A
    train_list_miech.txt test_list_miech.txt  the 1k-B split (Miech et al., 2018)

============================== ======================= =====================================================
protocol                       videos                  captions
============================== ======================= =====================================================
captions_train, _val, _test    6,513 / 497 / 2,990     20 each: the official split ("full")
captions_1ka_test              1,000 of the test       one each; only 995 of the sentences differ
captions_train_9k, _train_7k   9,000 / 7,010           20 each: all but the 1k-A test / the official train + val
captions_1ka_fit, _1ka_val     8,000 / 1,000 of the 9k 20 each / the first: to choose without the test, as MMT does
captions_1kb_train, _1kb_test  6,656 / 1,000           20 each / the first one each, as MMT does
============================== ======================= =====================================================

A 1k-A sentence that equals a caption of its video is that caption (968 do); the 32 others are texts of kind ``query``.
"""

from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

import numpy as np
from pydantic import BaseModel, Field

from videomatch.corpora import _files
from videomatch.corpora._captions import Collected, Tables
from videomatch.data.tables import read_csv

ANNOTATIONS = ("MSRVTT_data.json", "train_val_videodatainfo.json", "test_videodatainfo.json")
#: split of the annotations -> ours, and its number of videos
OFFICIAL = {"train": ("train", 6513), "validate": ("val", 497), "test": ("test", 2990)}
#: list -> its protocol, its number of videos
LISTS = {
    "MSRVTT_train.9k.csv": ("train_9k", 9000),
    "MSRVTT_train.7k.csv": ("train_7k", 7010),
    "train_list_miech.txt": ("1kb_train", 6656),
    "test_list_miech.txt": ("1kb_test", 1000),
}
TEST_1KA = "MSRVTT_JSFUSION_test.csv"
CAPTIONS = 20


class _Video(BaseModel):
    video_id: str
    split: Literal["train", "validate", "test"]
    category: Any = None
    url: str | None = None
    start: _files.Seconds | None = Field(None, alias="start time")
    end: _files.Seconds | None = Field(None, alias="end time")


class _Sentence(BaseModel):
    video_id: str
    caption: str


class _Annotations(BaseModel):
    videos: list[_Video]
    sentences: list[_Sentence]


def read(*, raw: Path, media: str | None = None, partial: bool = False) -> Tables:
    """The tables of MSR-VTT. Of a list that is not there, there is no protocol."""
    out = Collected(raw, partial)
    files = _files.find_all(out.raw, ANNOTATIONS, "the annotations are")
    files = files[:1] if files[0].name == ANNOTATIONS[0] else files
    official: dict[str, list[str]] = {}
    for path in files:
        _annotations(path, out, official)
    listed = " and ".join(path.name for path in files)
    for name, (split, wanted) in OFFICIAL.items():
        if name in official:
            out.expect(files[0].parent / listed, len(official[name]), wanted, f"videos of the split {name!r}")
            out.split(split, official[name])
    for file, (name, wanted) in LISTS.items():
        path = out.raw / file
        if path.is_file():
            out.split(name, out.listed(path, wanted, out.videos, listed), most=1 if name == "1kb_test" else None)
            if name == "train_9k":
                _selection(out, _files.id_list(path))
    if (out.raw / TEST_1KA).is_file():
        _test_1ka(out.raw / TEST_1KA, out, listed)
    return out.tables(media)


def _annotations(path: Path, out: Collected, official: dict[str, list[str]]) -> None:
    """Videos, captions (in the order of the file) and official splits of one annotation file."""
    content = _files.read_json(path, _Annotations, "an object with `videos` and `sentences`")
    for video in content.videos:
        where = f"{path}, video {video.video_id[:60]!r}"
        if video.video_id in out.videos:
            raise ValueError(f"{where}: stands twice")
        if video.start is not None and video.end is not None and video.start > video.end:
            raise ValueError(f"{where}: from {video.start} to {video.end} s, expected an end not before the start")
        category = None if video.category is None else str(video.category)
        source = (_upload(video.url), video.start, video.end) if video.url else None
        out.video(video.video_id, category=category, source=source)
        official.setdefault(video.split, []).append(video.video_id)
    for sentence in content.sentences:
        if (video_id := sentence.video_id) not in out.videos:
            raise ValueError(f"{path}, a sentence: {video_id[:60]!r} is none of its videos")
        out.text(f"{video_id}:{len(out.captions[video_id])}", video_id, sentence.caption)
    short = next((v for v, found in out.captions.items() if len(found) != CAPTIONS), None)
    if short is not None and not out.partial:
        count = len(out.captions[short])
        raise ValueError(f"{path}: {short[:60]!r} has {count} captions, expected {CAPTIONS} (`partial: true`)")


def _upload(url: str) -> str:
    """The upload that an address means: one and the same for every way to write it."""
    named = parse_qs(url.partition("?")[2].partition("#")[0]).get("v")
    return f"youtube:{named[0]}" if named else url


def _selection(out: Collected, ids: list[str]) -> None:
    """MMT's cut of the training list for choosing hyper-parameters: 1,000 videos of it, drawn with seed 0, validate."""
    order = np.array(ids)
    np.random.RandomState(0).shuffle(order)
    out.split("1ka_val", [v for v in order[:1000].tolist() if v in out.videos], most=1)
    out.split("1ka_fit", [v for v in order[1000:].tolist() if v in out.videos])


def _test_1ka(path: Path, out: Collected, listed: str) -> None:
    rows = read_csv(path, ("video_id", "sentence")).select("video_id", "sentence").rows()
    out.expect(path, len(rows), 1000, "rows")
    sentences = dict(rows)
    if len(sentences) < len(rows):
        raise ValueError(f"{path}: {len(rows) - len(sentences)} videos stand twice, expected one sentence a video")
    videos = out.known(path, sentences, out.videos, listed)
    queries = []
    for video_id in videos:
        words = sentences[video_id]
        same = next((t for t in out.captions[video_id] if out.rows[t][-1] == words), None)
        queries += [same] if same else out.text(f"{video_id}:1ka", video_id, words, kind="query")
    out.split("1ka_test", videos, queries)
