"""The files of the Video Similarity Challenge 2022: written, and checked by its rules without knowing who wrote them.

Matching track
    ``matches.csv``: one line a segment, columns :data:`COLUMNS`, times in seconds, a higher score is more certain.
Descriptor track
    ``query_descriptors.npz`` and ``reference_descriptors.npz``: ``video_ids (F,)``, ``features (F, D)`` float32 with D
    at most 512, ``timestamps (F, 2)`` in seconds; the rows of a video stand together, and a video has at most one row a
    second of its length (a last part of a second counts).

Durations are those of the metadata, and give the videos that may be named.
"""

from __future__ import annotations

import csv
import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from videomatch.common import csvfile

COLUMNS = ("query_id", "ref_id", "query_start", "query_end", "ref_start", "ref_end", "score")
#: numbers a descriptor may have
LARGEST_DIM = 512
#: seconds by which a time may lie outside a video: metadata and decoder do not agree to the last frame
SLACK = 1.0

#: query, reference, query start, query end, reference start, reference end (s), score
Row = tuple[str, str, float, float, float, float, float]


def vsc2022_matching(folder: Path, rows: Iterable[Row]) -> Path:
    """Write ``matches.csv``, best score first; the same rows in any order give the same bytes.

    Args:
        folder: to write into.
        rows: one a segment.

    Raises:
        ValueError: a number that is not finite.
    """
    ordered = sorted(rows, key=lambda row: (-row[6], *row[:6]))
    path = folder / "matches.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for query, reference, *numbers in ordered:
            if not all(map(math.isfinite, numbers)):
                raise ValueError(f"segment of {query!r} in {reference!r}: {numbers}, expected finite numbers")
            writer.writerow([query, reference, *[repr(float(n)) for n in numbers]])
    return path


def check_vsc2022_matching(path: Path, queries: Mapping[str, float], references: Mapping[str, float]) -> None:
    """Check a matching file by the challenge's rules.

    Args:
        path: the csv file.
        queries, references: id -> duration, s, of the videos that are searched.

    Raises:
        ValueError: a column is missing, an id is unknown, a number is none, or a segment has no extent or lies outside
        its
            video by more than a second; the message names the line.
    """
    sides = ("query", queries, 2), ("ref", references, 4)
    for where, row in csvfile.rows(path, COLUMNS):
        numbers = [csvfile.number(row, c, where) for c in COLUMNS[2:]]
        for side, durations, at in sides:
            video_id = row[f"{side}_id"]
            if video_id not in durations:
                raise ValueError(f"{where}: {side}_id {video_id!r} is none of the {len(durations)} videos")
            start, end = numbers[at - 2 : at]
            if not start < end:
                raise ValueError(f"{where}: {side} from {start} to {end}, expected start < end")
            if start < 0 or end > durations[video_id] + SLACK:
                span = f"{side} from {start} to {end}"
                raise ValueError(f"{where}: {span}, but {video_id!r} lasts from 0 to {durations[video_id]} s")


def vsc2022_descriptors(folder: Path, role: str, rows: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> Path:
    """Write ``<role>_descriptors.npz``; the same rows give the same bytes.

    Args:
        folder: to write into. role: ``query`` or ``reference``. rows: id, descriptors ``(L, D)`` and times ``(L, 2)``
        (s) of each video; a video without a descriptor is left out.

    Raises:
        ValueError: another role, no descriptor at all, rows of different sizes, or a number too large for float32.
    """
    if role not in ("query", "reference"):
        raise ValueError(f"role {role!r}, expected query or reference")
    ids: list[np.ndarray] = []
    values: list[np.ndarray] = []
    times: list[np.ndarray] = []
    for video_id, some, clock in rows:
        if some.ndim != 2 or np.shape(clock) != (len(some), 2):
            raise ValueError(f"{video_id!r}: shapes {some.shape} and {np.shape(clock)}, expected (L, D) and (L, 2)")
        if values and some.shape[1] != values[0].shape[1]:
            raise ValueError(f"{video_id!r}: {some.shape[1]} numbers a row, {values[0].shape[1]} before it")
        with np.errstate(over="ignore"):
            single = some.astype(np.float32)
        if not np.isfinite(single).all():
            raise ValueError(f"{video_id!r}: a descriptor holds a number that is not finite in float32")
        ids.append(np.full(len(some), video_id))
        values.append(single)
        times.append(np.asarray(clock, np.float64))
    if not sum(map(len, values)):
        raise ValueError(f"no {role} has a descriptor")
    path = folder / f"{role}_descriptors.npz"
    arrays = {
        name: np.concatenate(a)
        for name, a in zip(("video_ids", "features", "timestamps"), (ids, values, times), strict=True)
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def check_vsc2022_descriptors(path: Path, durations: Mapping[str, float]) -> None:
    """Check a descriptor file by the challenge's rules.

    Args:
        path: the npz file.
        durations: id -> duration, s, of the videos of its side.

    Raises:
        ValueError: it is no such archive, its arrays have other shapes or types, D is over 512, an id is unknown or its
            rows do not stand together, a video has more rows than seconds, or a time lies outside it.
    """
    arrays = _arrays(path)
    video_ids, values, times = arrays["video_ids"], arrays["features"], arrays["timestamps"]
    count = len(video_ids)
    if (
        values.dtype != np.float32
        or values.ndim != 2
        or len(values) != count
        or not 1 <= values.shape[1] <= LARGEST_DIM
    ):
        raise ValueError(
            f"{path}: features {values.dtype} {values.shape}, expected float32 ({count}, 1 to {LARGEST_DIM})"
        )
    if video_ids.dtype.kind != "U" or video_ids.ndim != 1:
        raise ValueError(f"{path}: video_ids {video_ids.dtype} {video_ids.shape}, expected strings (F,)")
    if times.shape not in ((count,), (count, 2)) or times.dtype.kind != "f":
        raise ValueError(f"{path}: timestamps {times.dtype} {times.shape}, expected numbers ({count},) or ({count}, 2)")
    if not (np.isfinite(values).all() and np.isfinite(times).all()):
        raise ValueError(f"{path}: a descriptor or a timestamp is not finite")
    starts = np.flatnonzero(np.r_[True, video_ids[1:] != video_ids[:-1]]) if count else np.zeros(0, np.int64)
    seen: set[str] = set()
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), count], strict=True):
        video_id = str(video_ids[start])
        if video_id in seen:
            raise ValueError(f"{path}: rows of {video_id!r} stand in two places, expected them together")
        seen.add(video_id)
        if video_id not in durations:
            raise ValueError(f"{path}: {video_id!r} is none of the {len(durations)} videos")
        allowed = math.ceil(durations[video_id])
        if stop - start > allowed:
            found = f"{stop - start} descriptors in {durations[video_id]} s"
            raise ValueError(f"{path}: {video_id!r} has {found}, expected at most {allowed}")
        low, high = times[start:stop].min(), times[start:stop].max()
        if low < 0 or high > durations[video_id] + SLACK:
            raise ValueError(f"{path}: {video_id!r} has times from {low} to {high}, but lasts {durations[video_id]} s")


def one_a_second(
    values: np.ndarray, times: np.ndarray, duration: float, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a video that the rules allow: of those whose middle lies in the same second the first.

    Args:
        values: (L, D) descriptors.
        times: (L, 2) start and end, s, rising.
        duration: of the video, s.
        most: rows to keep at most, evenly; None: as many as the rules allow.
    """
    _, first = np.unique(np.floor(np.asarray(times).mean(axis=1)), return_index=True)
    room = math.ceil(duration) if most is None else min(most, math.ceil(duration))
    if len(first) > room:
        first = first[np.linspace(0, len(first) - 1, room).round().astype(np.int64)] if room else first[:0]
    return values[first], times[first]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    names = ("video_ids", "features", "timestamps")
    try:
        with np.load(path, allow_pickle=False) as file:
            if sorted(file.files) != sorted(names):
                raise ValueError(f"it holds {file.files}, expected {list(names)}")
            return {name: file[name] for name in names}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is no archive of descriptors ({error})") from error
