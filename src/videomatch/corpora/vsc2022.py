"""VSC 2022, the Video Similarity Challenge (Meta AI, Pizzi et al. 2023): queries with footage of references.

Layout; every part is a folder (any name) with metadata or a ground truth::

    raw/<part>/*query_metadata.csv       video_id, duration_sec, frames_per_sec, width, height
    raw/<part>/*reference_metadata.csv   the same
    raw/<part>/*ground_truth.csv         query_id, ref_id, query_start, query_end, ref_start, ref_end (s); one of
                                         pairs only (the descriptor track's) is read, too
    raw/<part>/**/<id>.mp4               media
    raw/**/*.npz                         features: video_ids (F,), features (F, D), timestamps (F,) or (F, 2)

Ids are ``Q…`` and ``R…``. Train: 8,404 queries (23 % with a copy), 40,311 references.

Splits: ``<part>`` (all its videos, role reference) and ``copies_<part>`` (its queries and references). Pairs without a
segment are not listed: the challenge searches all of them.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.data import tables
from videomatch.data.released import read_arrays
from videomatch.data.tables import LONGEST, frame, read_csv

TIMES = ("query_start", "query_end", "ref_start", "ref_end")
#: first letter of the ids of a role
LETTERS = {"query": "Q", "reference": "R"}
METADATA = {"duration": "duration_sec", "fps": "frames_per_sec", "width": "width", "height": "height"}


def read(*, raw: Path) -> dict[str, pl.DataFrame]:
    """The tables of the challenge's data."""
    raw = Path(raw)
    videos: dict[str, dict[str, Any]] = {}
    splits: list[tuple[str, str, str]] = []
    relevance: dict[tuple[str, ...], None] = {}
    segments: list[tuple[Any, ...]] = []
    columns = {"query_id": "query", "ref_id": "reference"}
    for part in _parts(raw):
        paths = {p.stem: str(p) for p in sorted(part.rglob("*.mp4"))}
        ids: dict[str, dict[str, dict[str, Any]]] = {role: {} for role in LETTERS}
        for role in LETTERS:
            for path in sorted(part.glob(f"*{role}_metadata.csv")):
                ids[role] |= _metadata(path, role)
        for path in sorted(part.glob("*ground_truth.csv")):
            rows = read_csv(path, list(columns), optional=TIMES)
            for line, row in enumerate(rows.iter_rows(named=True), start=2):
                where = f"{path}, line {line}"
                pair = tuple(_id(row[column], role, where) for column, role in columns.items())
                for role, video_id in zip(LETTERS, pair, strict=True):
                    ids[role].setdefault(video_id, {})
                relevance[pair] = None
                if TIMES[0] in row:
                    segments.append((*pair, *_times(row, where), None))
        for role, some in ids.items():
            for video_id, about in some.items():
                if video_id in videos:
                    raise ValueError(f"{part}: video {video_id[:60]!r} is in another part, too")
                videos[video_id] = {"path": paths.get(video_id), **about}
                splits += [(part.name, "reference", video_id), (f"copies_{part.name}", role, video_id)]
    return {
        "videos": tables.videos({"video_id": i, **about} for i, about in videos.items()),
        "splits": frame("splits", splits),
        "relevance": frame("relevance", [(*pair, 1.0) for pair in relevance]),
        "segments": frame("segments", segments),
    }


def frame_features(raw: Path, ids: Collection[str] | None = None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """As :mod:`videomatch.corpora` says, but a file in memory at a time. A single timestamp is the start
    of a frame, which lasts to the next one's; the last as long as the one before it, or a second."""
    seen: set[str] = set()
    for path in sorted(Path(raw).rglob("*.npz")):
        video_ids, values, times = _features(path)
        starts = np.flatnonzero(np.r_[True, video_ids[1:] != video_ids[:-1]]) if len(video_ids) else np.zeros(0, int)
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(video_ids)], strict=True):
            video_id = str(video_ids[start])
            if video_id in seen:
                raise ValueError(f"{path}: frames of {video_id[:60]!r} are in two places, expected them together")
            seen.add(video_id)
            if ids is None or video_id in ids:
                lasting = _lasting(times[start:stop])
                if (lasting[:, 0] > lasting[:, 1]).any():
                    raise ValueError(f"{path}: timestamps of {video_id[:60]!r} go back, expected them in order")
                yield video_id, values[start:stop], lasting


def _features(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arrays = read_arrays(path, ("video_ids", "features", "timestamps"))
    video_ids, values, times = arrays.values()
    count = video_ids.size
    if video_ids.ndim != 1 or values.ndim != 2 or len(values) != count or times.shape not in ((count,), (count, 2)):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(f"{path}: shapes {shapes}, expected (F,), (F, D) and (F,) or (F, 2)")
    # numbers without their letter do not tell queries from references
    for array, kinds, expected in (
        (video_ids, "US", "strings Q… and R…"),
        (values, "f", "numbers"),
        (times, "fiu", "s"),
    ):
        if array.dtype.kind not in kinds:
            raise ValueError(f"{path}: {array.dtype} of shape {array.shape}, expected {expected}")
    times = times.astype(np.float64)
    if not ((times >= 0) & (times < LONGEST)).all() or (times.ndim == 2 and (times[:, 0] > times[:, 1]).any()):
        raise ValueError(f"{path}: timestamps, expected seconds from 0 up, no end before its start")
    try:
        return video_ids.astype(str), values, times
    except ValueError as error:
        raise ValueError(f"{path}: video_ids are no text ({error})") from error


def _lasting(times: np.ndarray) -> np.ndarray:
    if times.ndim == 2:
        return times
    last = times[-1] - times[-2] if len(times) > 1 else 1.0
    return np.stack([times, np.r_[times[1:], times[-1] + last]], axis=1)


def _parts(raw: Path) -> list[Path]:
    kinds = ("*query_metadata.csv", "*reference_metadata.csv", "*ground_truth.csv")
    found = [p for p in sorted(raw.glob("*")) if p.is_dir() and any(any(p.glob(kind)) for kind in kinds)]
    if not found:
        raise ValueError(f"{raw}: no folder with {' or '.join(kinds)}; expected one a part, as raw/train/")
    return found


def _id(value: str, role: str, where: str) -> str:
    if not value.startswith(LETTERS[role]):
        raise ValueError(f"{where}: {role} {value[:60]!r}, expected an id that begins with {LETTERS[role]}")
    return value


def _times(row: dict[str, Any], where: str) -> list[float]:
    times = [float(row[c] if row.get(c) is not None else "nan") for c in TIMES]
    if not (0 <= times[0] < times[1] < LONGEST and 0 <= times[2] < times[3] < LONGEST):
        raise ValueError(f"{where}: segment {times}, expected query start < end, reference start < end, from 0 up")
    return times


def _metadata(path: Path, role: str) -> dict[str, dict[str, Any]]:
    found = {}
    rows = read_csv(path, ("video_id",), optional=list(METADATA.values()))
    for line, row in enumerate(rows.iter_rows(named=True), start=2):
        about: dict[str, Any] = {n: row[c] for n, c in METADATA.items() if row.get(c) is not None}
        odd = next((n for n, value in about.items() if not 0 <= value < LONGEST), None)
        if odd is not None:
            raise ValueError(f"{path}, line {line}: {METADATA[odd]} is {about[odd]}, expected a number from 0 up")
        about |= {n: int(about[n]) for n in ("width", "height") if n in about}
        found[_id(row["video_id"], role, f"{path}, line {line}")] = about
    return found
