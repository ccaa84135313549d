"""The files of the Video Similarity Challenge 2022: written, and checked by its rules.

Matching track
    ``matches.csv``: one line per segment, columns :data:`COLUMNS`, times in seconds, a higher score is more certain.
Descriptor track
    ``query_descriptors.npz`` and ``reference_descriptors.npz``: ``video_ids (F,)``, ``features (F, D)`` float32 with D
    at most 512, ``timestamps (F, 2)`` in seconds; the rows of a video are consecutive, and there is at most one row per
    second of its length (a last part of a second counts).

Durations are those of the metadata, and give the videos that may be named.
"""

import csv
import itertools
import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.data import tables
from videomatch.data.corpus import pooled_ids, videos
from videomatch.localisation.maps import SimilarityMaps
from videomatch.specs.similarity import SimilarityMap

ROLES = ("query", "reference")
COLUMNS = ("query_id", "ref_id", "query_start", "query_end", "ref_start", "ref_end", "score")
#: numbers a descriptor may have
LARGEST_DIM = 512
#: seconds by which a time may be outside a video: metadata and decoder do not agree to the last frame
SLACK = 1.0

#: query, reference, query start, query end, reference start, reference end (s), score
Row = tuple[str, str, float, float, float, float, float]


def submit_matching(corpus: Path, output: Path, split: str, segments: Path) -> dict[str, Any]:
    """Write and check ``matches.csv`` of the segments of a result of ``align``; returns what it holds."""
    durations = _durations(corpus, split)
    found = tables.read("segments", segments)
    for role in ROLES:
        found = found.filter(pl.col(f"{role}_id").is_in(list(durations[role])))
    if found["score"].null_count():
        raise ValueError(f"{segments}: {found['score'].null_count()} segments have no score, and the challenge ranks")
    file = write_matching(output, found.iter_rows())
    check_matching(file, durations["query"], durations["reference"])
    pairs = found.select("query_id", "reference_id").n_unique()
    return {"file": file.name, "segments": len(found), "pairs": pairs}


def submit_descriptors(
    corpus: Path, output: Path, split: str, features: list[Path], expert: str, noise: dict[str, Any] | None
) -> dict[str, Any]:
    """Write and check both files of descriptors, at most one row a second; returns what they hold."""
    durations = _durations(corpus, split)
    maps = SimilarityMaps.of(features, SimilarityMap.read({"expert": expert, "noise": noise}), corpus)
    there = set(maps.references.ids)
    about: dict[str, Any] = {"files": [], "rows": {}, "missing": {}}
    for role in ROLES:
        rows = []
        for video_id in sorted(durations[role].keys() & there):
            _, (values, times) = maps.frames(video_id, is_reference=role == "reference")
            values, times = one_a_second(values, times, durations[role][video_id])
            if maps.normalisation is None:
                values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
            rows.append((video_id, values, times))
        file = write_descriptors(output, role, rows)
        check_descriptors(file, durations[role])
        about["files"].append(file.name)
        about["rows"][role] = sum(len(values) for _, values, _ in rows)
        about["missing"][role] = sorted(durations[role].keys() - there)
    return about


def _durations(corpus: Path, split: str) -> dict[str, dict[str, float]]:
    """Role -> id -> seconds of the protocol's videos."""
    lengths = dict(videos(corpus).select("video_id", "duration").iter_rows())
    listed = {role: pooled_ids(corpus, split, [role]) for role in ROLES}
    unknown = [i for ids in listed.values() for i in ids if lengths.get(i) is None]
    if unknown:
        raise ValueError(
            f"{corpus}: the duration of {unknown[0]!r} is unknown, and the challenge asks for times within"
        )
    return {role: {i: float(lengths[i]) for i in ids} for role, ids in listed.items()}


def write_matching(folder: Path, rows: Iterable[Row]) -> Path:
    """Write ``matches.csv``, best score first; the same rows in any order give the same bytes."""
    ordered = sorted(rows, key=lambda row: (-row[6], *row[:6]))
    path = folder / "matches.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *ordered])
    return path


def check_matching(path: Path, queries: Mapping[str, float], references: Mapping[str, float]) -> None:
    """Check a matching file by the challenge's rules; ``queries`` and ``references`` are id -> duration, s."""
    rows = tables.read_csv(path, COLUMNS[:2], numbers=COLUMNS[2:])
    for line, row in enumerate(rows.iter_rows(named=True), start=2):
        where = f"{path}, line {line}"
        for role, durations in (("query", queries), ("ref", references)):
            video_id, start, end = (row[f"{role}_{name}"] for name in ("id", "start", "end"))
            span = f"{role} from {start} to {end}"
            if video_id not in durations:
                raise ValueError(f"{where}: {role}_id {video_id!r} is not among the {len(durations)} videos")
            if not start < end:
                raise ValueError(f"{where}: {span}, expected start < end")
            if start < 0 or end > durations[video_id] + SLACK:
                raise ValueError(f"{where}: {span}, but {video_id!r} lasts from 0 to {durations[video_id]} s")


def write_descriptors(folder: Path, role: str, rows: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> Path:
    """Write ``<role>_descriptors.npz`` of id, descriptors ``(L, D)`` and times ``(L, 2)`` (s) of each video."""
    columns = [(np.full(len(values), video_id), values, times) for video_id, values, times in rows]
    if not sum(len(ids) for ids, *_ in columns):
        raise ValueError(f"no {role} has a descriptor")
    ids, values, times = (np.concatenate(column) for column in zip(*columns, strict=True))
    path = folder / f"{role}_descriptors.npz"
    with np.errstate(over="ignore"):  # a number too large becomes infinite, which the check refuses
        np.savez(path, video_ids=ids, features=values.astype(np.float32), timestamps=times.astype(np.float64))
    return path


def check_descriptors(path: Path, durations: Mapping[str, float]) -> None:
    """Check a descriptor file by the challenge's rules; ``durations`` is id -> s of the videos of its role."""
    names = ["features", "timestamps", "video_ids"]
    try:
        with np.load(path, allow_pickle=False) as file:
            if sorted(file.files) != names:
                raise ValueError(f"it holds {file.files}, expected {names}")
            values, times, video_ids = (file[name] for name in names)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is not an archive of descriptors ({error})") from error
    count = len(video_ids)
    is_matrix = values.ndim == 2 and len(values) == count and 1 <= values.shape[1] <= LARGEST_DIM
    if values.dtype != np.float32 or not is_matrix:
        found = f"features {values.dtype} {values.shape}"
        raise ValueError(f"{path}: {found}, expected float32 ({count}, 1 to {LARGEST_DIM})")
    if video_ids.dtype.kind != "U" or video_ids.ndim != 1:
        raise ValueError(f"{path}: video_ids {video_ids.dtype} {video_ids.shape}, expected strings (F,)")
    if times.shape not in ((count,), (count, 2)) or times.dtype.kind != "f":
        raise ValueError(f"{path}: timestamps {times.dtype} {times.shape}, expected numbers ({count},) or ({count}, 2)")
    is_finite = np.isfinite(values).all(axis=1) & np.isfinite(times).reshape(count, -1).all(axis=1)
    if not is_finite.all():
        raise ValueError(f"{path}: a descriptor or a timestamp of {str(video_ids[~is_finite][0])!r} is not finite")
    seen: set[str] = set()
    stop = 0
    for video_id, rows in itertools.groupby(video_ids.tolist()):
        start, stop = stop, stop + len(list(rows))
        if video_id in seen:
            raise ValueError(f"{path}: rows of {video_id!r} are in two places, expected them together")
        seen.add(video_id)
        if video_id not in durations:
            raise ValueError(f"{path}: {video_id!r} is not among the {len(durations)} videos")
        allowed = math.ceil(durations[video_id])
        if stop - start > allowed:
            found = f"{stop - start} descriptors in {durations[video_id]} s"
            raise ValueError(f"{path}: {video_id!r} has {found}, expected at most {allowed}")
        low, high = times[start:stop].min(), times[start:stop].max()
        if low < 0 or high > durations[video_id] + SLACK:
            raise ValueError(f"{path}: {video_id!r} has times from {low} to {high}, but lasts {durations[video_id]} s")


def one_a_second(values: np.ndarray, times: np.ndarray, duration: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a video that the rules allow: the first of those whose middle is in the same second."""
    _, first = np.unique(np.floor(np.asarray(times).mean(axis=1)), return_index=True)
    room = math.ceil(duration)
    if len(first) > room:
        first = first[np.linspace(0, len(first) - 1, room).round().astype(np.int64)]
    return values[first], times[first]
