"""VCSL (Ant Group, CVPR 2022): segment-level video copies, 167,508 labelled pairs; and anything in its form, as VCDB.

Layout of the public repository's ``data/``, beside the features that its authors share; only a label file must be
there::

    raw/pair_file_{train,val,test}.csv       query_id, reference_id; test: 54,630 (2023-03)
    raw/label_file*.json, raw/*_label_file.json   {"<query>-<reference>": [[q0, r0, q1, r1], …]}, whole seconds
    raw/video_categories.json                {category: [id, …]}
    raw/frames_all.csv                       uuid, path, frame_count (one frame a second)
    raw/videos/<id>.*                        media, which the authors do not share
    raw/features/<id>.npy                    (frames, D), one frame a second (ISC 256-d, RMAC 512-d, ViT, DINO)

A pair that is listed and not labelled is no copy (grade 0). The splits ``train``, ``val``, ``test`` and ``appended``
(labelled pairs that no pair file lists: the batches of 2022 and 2023) hold all videos of their pairs in the role
reference, ``copies_<split>`` the pairs' sides in both roles.

The published test list holds 10 pairs of a video with itself; 46 segments of the first test labels end where they
begin, or before.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from videomatch.corpora._files import Seconds, find_all, read_json
from videomatch.data.released import read_array, times_of
from videomatch.data.tables import LONGEST, frame, read_csv, videos

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
#: labelled pairs that are in no list
APPENDED = "appended"
#: of a label file: a pair, and a box
_Key = Annotated[str, Field(max_length=1024)]
_Box = Annotated[list[Seconds], Field(min_length=4, max_length=4)]

Pair = tuple[str, str]
Boxes = list[list[float]]


def read(
    *, raw: Path, labels: list[str] | None = None, pairs: Mapping[str, str] | None = None
) -> dict[str, pl.DataFrame]:
    """The tables of the data set. ``labels`` are files, by default all there are; ``pairs`` is split -> pair file."""
    raw = Path(raw)
    listed = _listed(raw, pairs)
    known = {pair for some in listed.values() for pair in some}
    boxes = _labelled(raw, labels, {video_id for pair in known for video_id in pair})
    listed[APPENDED] = [pair for pair in boxes if pair not in known]
    listed = {split: some for split, some in listed.items() if some}
    named = raw / "video_categories.json"
    categories = read_json(named, dict[str, list[str]], "{category: [id]}") if named.is_file() else {}
    category = {i: name for name, ids in categories.items() for i in ids}
    splits: list[tuple[str, str, str]] = []
    for split, some in listed.items():
        queries, references = (dict.fromkeys(side) for side in zip(*some, strict=True))
        splits += [(split, "reference", i) for i in queries | references]
        splits += [(f"copies_{split}", "query", i) for i in queries]
        splits += [(f"copies_{split}", "reference", i) for i in references]
    unique = dict.fromkeys(pair for some in listed.values() for pair in some)
    return {
        "videos": _videos(raw, dict.fromkeys([*(row[-1] for row in splits), *category]), category),
        "splits": frame("splits", splits),
        "relevance": frame("relevance", [(*pair, float(pair in boxes)) for pair in unique]),
        "segments": frame("segments", [(*pair, *box, None) for pair in unique for box in boxes.get(pair, [])]),
    }


def labels_of(path: Path, ids: Collection[str] = ()) -> dict[Pair, Boxes]:
    """One label file: (query, reference) -> boxes ``[query_start, query_end, reference_start, reference_end]``, s.
    A key with several dashes is parted so that both sides are among ``ids``."""
    found: dict[Pair, Boxes] = {}
    for key, rows in read_json(path, dict[_Key, list[_Box]], "{pair: [[q0, r0, q1, r1], …]} in seconds").items():
        found[_pair_of(key, ids, f"{path}: pair {key[:100]!r}")] = [[q0, q1, r0, r1] for q0, r0, q1, r1 in rows]
    return found


def frame_features(raw: Path, ids: Collection[str] | None = None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """As :mod:`videomatch.corpora` says; frame i covers second i to i + 1."""
    for path in sorted((Path(raw) / "features").glob("*.npy")):
        if ids is not None and path.stem not in ids:
            continue
        values = read_array(path)
        if values.ndim != 2 or values.dtype.kind != "f":
            raise ValueError(f"{path}: {values.dtype} of shape {values.shape}, expected numbers (frames, D)")
        yield path.stem, values, times_of(np.arange(len(values)), 1.0)


def _listed(raw: Path, names: Mapping[str, str] | None) -> dict[str, list[Pair]]:
    """split -> pairs as listed, each once."""
    files = {s: raw / f"pair_file_{s}.csv" for s in SPLITS} if names is None else {s: raw / n for s, n in names.items()}
    if names is None:
        files = {split: path for split, path in files.items() if path.is_file()}
    if APPENDED in files:
        raise ValueError(f"split {APPENDED!r} is the name of the pairs that no file lists, expected another")
    sides = ("query_id", "reference_id")
    return {split: list(dict.fromkeys(read_csv(path, sides).select(sides).rows())) for split, path in files.items()}


def _labelled(raw: Path, names: list[str] | None, ids: set[str]) -> dict[Pair, Boxes]:
    """Boxes of every labelled pair, without those that have no extent."""
    found: dict[Pair, Boxes] = {}
    patterns = ("*_label_file.json", "label_file*.json")
    for path in [raw / name for name in names or ()] or find_all(raw, patterns, "a label file is"):
        for pair, boxes in labels_of(path, ids).items():
            if found.get(pair, boxes) != boxes:
                raise ValueError(
                    f"{path}: pair {'-'.join(pair)[:100]!r} has other segments than in the files before it"
                )
            found[pair] = boxes
    # Deviation: the published evaluation counts boxes that end where they begin, or before, by which precision can
    # exceed 1. They are left out here; a pair of which nothing is left is still a copy in ``relevance``.
    sound = {p: [b for b in boxes if b[0] < b[1] and b[2] < b[3]] for p, boxes in found.items()}
    lost = sum(map(len, found.values())) - sum(map(len, sound.values()))
    if lost:
        empty = sum(bool(found[p]) and not boxes for p, boxes in sound.items())
        log.warning("%s: %d segments without extent are left out, all those of %d pairs", raw, lost, empty)
    return sound


def _pair_of(key: str, ids: Collection[str], where: str) -> Pair:
    """The two ids of ``<query>-<reference>``; ids with dashes are told by the videos that are listed."""
    parts = key.split("-")
    cuts = [("-".join(parts[:n]), "-".join(parts[n:])) for n in range(1, len(parts))]
    if len(cuts) > 1:
        cuts = [cut for cut in cuts if cut[0] in ids and cut[1] in ids]
    if len(cuts) != 1 or not all(cuts[0]):
        raise ValueError(f"{where}: {len(cuts)} ways to part the key, expected '<query>-<reference>'")
    return cuts[0]


def _videos(raw: Path, ids: Iterable[str], category: Mapping[str, str]) -> pl.DataFrame:
    frames = raw / "frames_all.csv"
    columns = ("uuid", "frame_count")
    rows = read_csv(frames, columns[:1], numbers=columns[1:]).select(columns).rows() if frames.is_file() else []
    for video_id, count in rows:
        if not 0 <= count < LONGEST:
            raise ValueError(f"{frames}: frame_count of {video_id!r} is {count:g}, expected a number from 0 up")
    seconds = dict(rows)
    paths = {p.stem: str(p) for p in sorted((raw / "videos").glob("*"))}
    return videos(
        {
            "video_id": i,
            "path": paths.get(i),
            "duration": seconds.get(i),
            "category": category.get(i),
        }
        for i in ids
    )
