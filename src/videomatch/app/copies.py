"""Where each part of a video comes from: a file against a library of own videos (:mod:`videomatch.app.video_library`).

The frames of the file vote for videos of the library; an aligner finds segments in the similarity map of the file and
each of those. If most of the file is not found, its picture is searched mirrored, turned and in parts as well.
Halves of the library's videos would make it and each search five times as large.

A map holds cosines, rescaled per query frame: 0 is its mean cosine with random frames of the library (the baseline), 1
the same frame. So one threshold does for all descriptors: grey pixels of different videos are uncorrelated, and CLIP's
cosines are all above 0.5. Trained detectors and tuned options read cosines, as in training.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from videomatch import aligners
from videomatch.app.requests import Answer, check_top
from videomatch.app.video_library import VideoLibrary
from videomatch.common import digests, named
from videomatch.common.messages import did_you_mean, unknown
from videomatch.common.vectors import unit_rows
from videomatch.data.store import Store
from videomatch.data.walk import NOT_TEXT, is_text, printable
from videomatch.localisation import frame_similarity, intervals
from videomatch.metrics.segments import union_length
from videomatch.reports.segment_maps import resampled
from videomatch.retrieval.frame_index import FrameIndex
from videomatch.specs.similarity import SimilarityMap

#: rescaled similarity of two frames that are the same, and seconds of a segment, at least
MIN_SIMILARITY, MIN_SECONDS = 0.7, 1.25
#: random frames of the library that the baseline is computed from, and the videos that they are from
BASELINE_FRAMES, BASELINE_VIDEOS = 1024, 64
#: seconds that may be missing at the border of two pieces of a query, and by which they may be shifted there
MAX_JUMP = 1.0
#: share of the query that is found in the whole picture, from which on parts of the picture are not searched
FOUND = 0.9
WHOLE = "whole"


@dataclass(frozen=True)
class Segment:
    """A part of the query and where it comes from (``reference`` is the id, ``path`` the file), s; ``score`` is a mean
    similarity along it, or a detector's; ``view`` is ``whole``, or of :data:`videomatch.app.descriptors.VIEWS`."""

    query_start: float
    query_end: float
    reference: str
    reference_start: float
    reference_end: float
    score: float
    view: str
    path: str

    def repeats(self, other: Segment) -> bool:
        """Whether half of the shorter one of two segments of one video is the same part of the query."""
        shared = min(self.query_end, other.query_end) - max(self.query_start, other.query_start)
        shorter = min(self.query_end - self.query_start, other.query_end - other.query_start)
        return self.reference == other.reference and shared > 0.5 * shorter


@dataclass
class Copies(Answer):
    """What was found of the file ``asked``, of ``duration`` s. ``frames`` of it were compared, and ``candidates`` are
    the videos that were aligned, those of each view counted."""

    asked: str
    library: str
    descriptor: str
    aligner: str
    segments: list[Segment] = field(default_factory=list)
    duration: float = 0.0
    frames: int = 0
    candidates: int = 0


@dataclass(frozen=True)
class ChosenAligner:
    """An aligner with its options; with None it reads rescaled similarities, with the thresholds of this module.
    ``bias`` is added to every similarity; key frames are spread out to one ``every`` s before they are compared."""

    aligner: aligners.Aligner
    name: str
    options: Mapping[str, Any] | None = None
    bias: float = 0.0
    every: float | None = None


def choose_aligner(name: str | None = None, run: Path | None = None, tuned: Path | None = None) -> ChosenAligner:
    """The aligner ``name`` with its own defaults, the detector in the checkpoint ``run``, or what ``tune`` left in
    ``tuned``, of an aligner or of that detector; by default the temporal network and the thresholds of this module."""
    if name is not None and name not in named.names("aligners"):
        raise ValueError(unknown("aligner", name, named.names("aligners")))
    if name is not None and (run is not None or tuned is not None):
        raise ValueError("an aligner, and a detector or tuned options: expected one or the other")
    if name is None and run is None and tuned is None:
        return ChosenAligner(aligners.load("temporal_network"), "the temporal network")
    if tuned is None:
        return ChosenAligner(aligners.load(name, run), name or f"the detector {run}", {})
    path = tuned / "tuned.json" if tuned.is_dir() else tuned
    if not path.is_file():
        raise ValueError(f"{path} does not exist: expected a result of `tune`")
    found = json.loads(path.read_text(encoding="utf-8"))
    compared = SimilarityMap.read(found["similarity_map"])
    if compared.noise is not None:
        raise ValueError(f"{path} was tuned on normalised scores; a library has plain cosines")
    name = found["aligner"]
    if (name is None) != (run is not None):
        raise ValueError(f"{path} holds options of {name or 'a detector: name it, too'}")
    of_name = name or f"the detector {run}"
    return ChosenAligner(aligners.load(name, run), of_name, found["options"], compared.bias, compared.every)


class CopySearch:
    """The search of one library. The map of ``rows`` frames of the query with a video is in memory at once."""

    def __init__(self, library: VideoLibrary, aligner: ChosenAligner, rows: int = 1024) -> None:
        self.library, self.aligner, self.rows = library, aligner, rows
        library.descriptor.check()
        self.index = library.open_index()
        self.files = {row["video_id"]: row for row in library.videos().iter_rows(named=True)}
        self._baseline = _random_frames(self.index)
        self._queries: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # view -> frames and their times

    def copies(self, file: Path, *, top: int = 10, views: bool = True, threads: int = 1) -> Copies:
        """Where each part of a file comes from. If the file itself is in the library, it does not count. ``top`` videos
        are aligned for each view; ``views``: also search the picture mirrored, turned and in parts."""
        check_top(top)
        if not is_text(str(file)):
            raise ValueError(f"{printable(str(file))}: {NOT_TEXT}")
        if not file.is_file():
            if file.is_dir():
                raise ValueError(f"{file}: is a folder; expected one video")
            message = f"{file}: there is no such file, nor a video of the library"
            raise ValueError(did_you_mean(message, file, self.files))
        self._queries = {}
        descriptor = self.library.descriptor
        answer = Copies(str(file), str(self.library.folder), str(descriptor), self.aligner.name)
        digest = digests.file_digest(file)
        same = [i for i, row in self.files.items() if row["sha256"] == digest]
        answer.notes += [f"this very file is in the library, as {i}, and does not count" for i in same]
        with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
            with answer.timed("frames"):
                whole, videos, rejected = descriptor.describe({WHOLE: file}, Path(scratch) / WHOLE, threads)
            if whole is None or not len(videos):
                raise ValueError(f"{file}: {rejected['reason'][0]}")
            answer.duration = float(videos["duration"][0] or 0.0)
            answer.frames = len(whole[WHOLE])
            self._search(answer, WHOLE, whole, top, same)
            found = np.array([[s.query_start, s.query_end] for s in answer.segments]).reshape(-1, 2)
            if views and union_length(*found.T) < FOUND * answer.duration:
                with answer.timed("frames"):
                    store = descriptor.describe_views(file, Path(scratch) / "views", threads)
                for view in store.ids:
                    self._search(answer, view, store, top, same)
        answer.segments.sort(key=lambda s: (s.query_start, -s.score, s.reference))
        if answer.segments:
            return answer
        note = (
            "of the library's videos the whole pictures were compared: one that shows this video in a half of its own "
            "is found the other way round, by the copies of that one in a library of this"
        )
        if self.aligner.options is None and answer.duration < MIN_SECONDS:
            note = f"it lasts {answer.duration:.2f} s, and a segment lasts {MIN_SECONDS} s at least"
        elif not views:
            note = "its picture was compared as a whole only (--whole)"
        answer.notes.append(note)
        return answer

    def of_frames(
        self, frames: np.ndarray, times: np.ndarray, *, top: int, exclude: Collection[str] = ()
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Which videos of the library share footage with frames as :meth:`frames` has them, and the segments ``(N, 5)``
        (s; columns of :data:`videomatch.metrics.segments.COLUMNS`) with each: whole pictures, of ``top`` videos."""
        for reference, _ in self.index.search(frames, top, exclude=exclude):
            found = self.align(frames, times, *self.frames(reference))
            if len(found):
                yield reference, found

    def map(self, view: str, reference: str) -> tuple[np.ndarray, float, float]:
        """The map of a view of the last query with a video of the library in cells of time, and the seconds of both."""
        query, query_times = self._queries[view]
        frames, times = self.frames(reference)
        durations = [float(t[-1, 1]) if len(t) else 0.0 for t in (query_times, times)]
        pieces = [
            resampled(self._similarity(query[start : start + self.rows], frames), times, durations[1], axis=1)
            for start in range(0, max(1, len(query)), self.rows)
        ]
        return resampled(np.concatenate(pieces), query_times, durations[0]), durations[0], durations[1]

    def _search(self, answer: Copies, view: str, store: Store, top: int, exclude: Collection[str]) -> None:
        """Add the segments that one view of the query shares with the library."""
        with answer.timed("search"):
            candidates = self.index.search(store[view], top, exclude=exclude)
            self._queries[view] = self.index.project(store[view]), intervals.filled(store.times(view))
        answer.candidates += len(candidates)
        for reference, _ in candidates:
            with answer.timed("align"):
                found = self.align(*self._queries[view], *self.frames(reference))
            path = str(self.files.get(reference, {}).get("path") or "")
            for query_start, query_end, start, end, score in found.tolist():
                segment = Segment(query_start, query_end, reference, start, end, score, view, path)
                if view == WHOLE or not any(segment.repeats(other) for other in answer.segments):
                    answer.segments.append(segment)

    def frames(self, video_id: str) -> tuple[np.ndarray, np.ndarray]:
        """The frames of a video of the library, and their times without gaps."""
        frames, times = self.index.features(video_id)
        return frames, intervals.filled(times)

    def align(self, query: np.ndarray, query_times: np.ndarray, frames: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Segments ``(N, 5)``, s; long queries are aligned in pieces, so that no map is too large for the memory."""
        every, options = self.aligner.every, self.aligner.options
        if every is not None:
            query, query_times = frame_similarity.resampled(query, query_times, every)
            frames, times = frame_similarity.resampled(frames, times, every)
        if options is None:
            seconds = float(np.median(np.concatenate([np.diff(query_times), np.diff(times)])))
            options = {"min_similarity": MIN_SIMILARITY, "min_length": max(1, round(MIN_SECONDS / seconds))}
        pieces = []
        for start in range(0, len(query), self.rows):
            at = slice(start, start + self.rows)
            similarity = self._similarity(query[at], frames) + self.aligner.bias
            pieces.append(aligners.find_segments(self.aligner.aligner, similarity, query_times[at], times, options))
        return join_pieces(pieces, query_times[self.rows :: self.rows, 0].tolist())

    def _similarity(self, query: np.ndarray, frames: np.ndarray) -> np.ndarray:
        cosines = frame_similarity.cosines(query, frames)
        if self.aligner.options is not None:
            return cosines
        baseline = np.maximum(0, (query @ self._baseline.T).mean(axis=1, keepdims=True))
        return (cosines - baseline) / np.maximum(1 - baseline, 1e-3)


def join_pieces(pieces: Sequence[np.ndarray], borders: Sequence[float]) -> np.ndarray:
    """Segments ``(N, 5)``, s, of pieces of a query, joined at ``borders``: the starts of all but the first, s."""
    found = pieces[0].tolist() if len(pieces) else []
    for piece, border in zip(pieces[1:], borders, strict=True):
        for row in piece.tolist():
            before = next((other for other in found if _continues(other, row, border)), None)
            if before is None:
                found.append(row)
                continue
            first, second = before[1] - before[0], row[1] - row[0]
            before[4] = (before[4] * first + row[4] * second) / (first + second)
            before[1], before[3] = row[1], row[3]
    return np.array(found, np.float64).reshape(-1, 5)


def _continues(before: list[float], after: list[float], border: float) -> bool:
    """Whether a segment before a border goes on after it, along the same line."""
    reaches = border - MAX_JUMP <= before[1] <= border + 1e-6 and after[0] - border <= MAX_JUMP
    return reaches and abs((before[3] - before[1]) - (after[2] - after[0])) <= MAX_JUMP


def _random_frames(index: FrameIndex) -> np.ndarray:
    """Unit vectors of random frames of a library."""
    generator = np.random.default_rng(0)
    videos = generator.permutation(len(index))[:BASELINE_VIDEOS].tolist()
    each = -(-BASELINE_FRAMES // max(1, len(videos)))
    frames = (index.features(index.ids[number])[0] for number in videos)
    rows = [some[generator.permutation(len(some))[:each]] for some in frames]
    return unit_rows(np.concatenate([np.zeros((0, index.dim), np.float32), *rows]), np.float32)
