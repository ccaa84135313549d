"""Where each part of a video comes from: a file against a library of own videos (:mod:`videomatch.app.video_library`).

The frames of the file vote for videos of the library; an aligner finds segments in the similarity map of the file and
each of those. If most of the file is not found, parts of its picture are searched: by corners that look and lie alike
(:mod:`videomatch.localisation.point_matches`), then without what a title may cover, mirrored and turned.

A map holds cosines, rescaled per query frame: 0 is its mean cosine with random frames of the library (the baseline), 1
the same frame. So one threshold does for all descriptors: grey pixels of different videos are uncorrelated, and CLIP's
cosines are all above 0.5. Trained detectors and tuned options read cosines, as in training.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch import aligners
from videomatch.app.descriptors import GREY, QUERY_POINTS, joined
from videomatch.app.requests import Answer, check_top
from videomatch.app.video_library import VideoLibrary
from videomatch.common import digests, named
from videomatch.common.messages import did_you_mean, unknown
from videomatch.common.vectors import unit_rows
from videomatch.data.store import Store
from videomatch.data.walk import NOT_TEXT, is_text, printable
from videomatch.localisation import distinct, frame_similarity, intervals, point_matches
from videomatch.localisation.line_ends import followed
from videomatch.localisation.maps import NOISE, normalisation
from videomatch.metrics.segments import QUERY, SCORE, union_length
from videomatch.reports.segment_maps import resampled
from videomatch.retrieval.frame_index import FrameIndex
from videomatch.retrieval.score_normalisation import ScoreNormalisation
from videomatch.specs.similarity import SimilarityMap

#: rescaled similarity of two frames that are the same, and seconds of a segment, at least
MIN_SIMILARITY, MIN_SECONDS = 0.7, 1.25
#: the aligner that finds segments unless another is named, and the least score of a segment of each, so that strangers
#: have none (435 pairs of real clips; ``results/LOG.md``)
DEFAULT = "hough"
MIN_SCORES = {"hough": 0.8, "temporal_network": 0.7, "dynamic_programming": 0.7, "dtw": 0.7}
#: seconds of a cell of the map of related frames, least similarity in it, cells of a segment, and its least score
CELL, RELATED, CELLS, MIN_RELATED = 1.0, 0.5, 2, 0.6
#: norm of a frame that has features, of 1, at least
FLAT = 0.5
#: seconds of the query that are described, and whose corners are searched, at once
PART = 120.0
#: random frames of the library that the baseline is computed from, and the videos that they are from
BASELINE_FRAMES, BASELINE_VIDEOS = 1024, 64
#: seconds that may be missing at the border of two pieces of a query, and by which they may be shifted there
MAX_JUMP = 1.0
#: seconds by which times in single precision may be off
ROUNDED = 0.01
#: share of the query that is found in the whole picture, from which on parts of the picture are not searched
FOUND = 0.9
WHOLE = "whole"
#: how frames are compared unless options were tuned: of whichever features
COSINES = SimilarityMap("")
#: parts of the grid of grey pixels that are compared alone, as a title may cover the rest: shares of the height
UNCOVERED = {"without the lower quarter": (0.0, 0.75), "without the upper quarter": (0.25, 1.0)}
#: share of the contrast of a picture that such a part has at least
CONTRAST = 0.3
#: views by corners
PARTS, MIRRORED = "parts of the picture", "parts of the picture, mirrored"


@dataclass(frozen=True)
class Segment:
    """A part of the query and where it comes from (``reference`` is the id, ``path`` the file), s; ``score`` is a mean
    similarity along it, or a detector's; ``view`` is ``whole``, by corners, or of
    :data:`videomatch.app.descriptors.VIEWS`."""

    query_start: float
    query_end: float
    reference: str
    reference_start: float
    reference_end: float
    score: float
    view: str
    path: str

    @property
    def duration(self) -> float:
        """Seconds of the query."""
        return self.query_end - self.query_start

    def repeats(self, other: Segment) -> bool:
        """Whether two segments of one video are of the same part of the query."""
        parts = ((one.query_start, one.query_end) for one in (self, other))
        return self.reference == other.reference and distinct.is_same_part(*parts)


@dataclass
class Copies(Answer):
    """What was found of the file ``asked``, of ``duration`` s. ``frames`` of it were compared, and ``candidates`` are
    the videos that were aligned, those of each view counted; ``identical`` ones are this very file."""

    asked: str
    library: str
    descriptor: str
    aligner: str
    segments: list[Segment] = field(default_factory=list)
    duration: float = 0.0
    frames: int = 0
    candidates: int = 0
    identical: list[str] = field(default_factory=list)

    @property
    def is_found(self) -> bool:
        """Whether most of the query was."""
        found = np.array([[s.query_start, s.query_end] for s in self.segments]).reshape(-1, 2)
        return union_length(*found.T) >= FOUND * self.duration


@dataclass(frozen=True)
class ChosenAligner:
    """An aligner with its options; with None it reads rescaled similarities, with the thresholds of this module.
    Similarities are made as ``spec`` says, whose ``noise`` are such frames, as the features have them. Segments have
    ``min_score``; ``score`` and ``follow`` are as of :func:`videomatch.stages.align.align`."""

    aligner: aligners.Aligner
    name: str
    options: Mapping[str, Any] | None = None
    spec: SimilarityMap = COSINES
    noise: np.ndarray | None = None
    score: str = "mean"
    follow: bool = False
    min_score: float = -np.inf


def choose_aligner(name: str | None = None, run: Path | None = None, tuned: Path | None = None) -> ChosenAligner:
    """The aligner ``name`` (by default :data:`DEFAULT`) with the thresholds of this module, the detector in the
    checkpoint ``run``, or what ``tune`` left in ``tuned``, of an aligner or of that detector."""
    if name is not None and name not in named.names("aligners"):
        raise ValueError(unknown("aligner", name, named.names("aligners")))
    if name is not None and (run is not None or tuned is not None):
        raise ValueError("an aligner, and a detector or tuned options: expected one or the other")
    if run is None and tuned is None:
        name = name or DEFAULT
        return ChosenAligner(aligners.load(name), name, min_score=MIN_SCORES[name])
    if tuned is None:
        return ChosenAligner(aligners.load(run=run), f"the detector {run}", {})
    path = tuned / "tuned.json" if tuned.is_dir() else tuned
    if not path.is_file():
        raise ValueError(f"{path} does not exist: expected a result of `tune`")
    with _expected(path, "a result of `tune` with aligner, options and similarity_map"):
        found = json.loads(path.read_text(encoding="utf-8"))
        name, options, compared = found["aligner"], dict(found["options"]), SimilarityMap.read(found["similarity_map"])
        score, follow = found.get("score", "mean"), found.get("follow", False)
        if name is not None and name not in (known := named.names("aligners")):
            raise ValueError(unknown("aligner", name, known))
    if compared.similarity != "cosine":
        raise ValueError(f"{path} was tuned on similarity {compared.similarity!r}, expected 'cosine': a library's")
    if (name is None) != (run is not None):
        raise ValueError(f"{path} holds options of {name or 'a detector: name it, too'}")
    aligner, of_name = aligners.load(name, run), name or f"the detector {run}"
    with _expected(path, f"options of {of_name}"):
        defaults = aligners.defaults(aligner)
        for option, value in options.items():
            if option not in defaults:
                raise ValueError(unknown("option", option, defaults))
            if isinstance(defaults[option], int | float) and not isinstance(value, int | float):
                raise ValueError(f"{option} = {value!r}, expected a number")
    noise = None
    if compared.noise is not None:
        if not (frames := path.with_name(NOISE)).is_file():
            raise ValueError(f"{frames} does not exist: {path} was tuned on scores normalised by the frames in it")
        with _expected(frames, "the frames that `tune` wrote, a file of NumPy with numbers (N, D)"):
            noise = np.load(frames, allow_pickle=False).astype(np.float32)
    return ChosenAligner(aligner, of_name, options, compared, noise, score, follow)


@contextmanager
def _expected(path: Path, what: str) -> Iterator[None]:
    """An error in reading a file becomes a ValueError that names it and what was expected."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}; expected {what}") from error


class CopySearch:
    """The search of one library. The map of ``rows`` frames of the query with a video is in memory at once."""

    def __init__(self, library: VideoLibrary, aligner: ChosenAligner, rows: int = 1024) -> None:
        self.library, self.aligner, self.rows = library, aligner, rows
        library.descriptor.check()
        self.index = library.open_index()
        self.points = library.open_points()
        self.files = {row["video_id"]: row for row in library.videos().iter_rows(named=True)}
        self._baseline = _random_frames(self.index)
        self._normalisation = None if aligner.noise is None else self._fitted(aligner)
        self._queries: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # view -> frames and their times
        self._related: dict[tuple[str, str], np.ndarray] = {}  # view by corners, reference -> map
        self.min_seconds = MIN_SECONDS
        self.min_score: float | None = None

    def copies(
        self,
        file: Path,
        *,
        top: int = 10,
        views: bool = True,
        threads: int = 1,
        min_score: float | None = None,
        min_seconds: float = MIN_SECONDS,
    ) -> Copies:
        """Where each part of a file comes from. If the file itself is in the library, it does not count. ``top`` videos
        are aligned for each view; ``views``: also search parts of the picture, mirrored and turned. Segments last
        ``min_seconds`` and have ``min_score`` (by default that of the aligner)."""
        check_top(top)
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"min_score = {min_score:g}, expected 0 to 1")
        if not 0 < min_seconds <= 3600:
            raise ValueError(f"min_seconds = {min_seconds:g}, expected more than 0 and at most 3600 s")
        self.min_score, self.min_seconds = min_score, min_seconds
        if not is_text(str(file)):
            raise ValueError(f"{printable(str(file))}: {NOT_TEXT}")
        if not file.is_file():
            if file.is_dir():
                raise ValueError(f"{file}: is a folder; expected one video")
            message = f"{file}: there is no such file, nor a video of the library"
            raise ValueError(did_you_mean(message, file, self.files))
        self._queries, self._related = {}, {}
        descriptor = self.library.descriptor
        answer = Copies(str(file), str(self.library.folder), str(descriptor), self.aligner.name)
        digest = digests.file_digest(file)
        same = [i for i, row in self.files.items() if row["sha256"] == digest]
        answer.identical = same
        answer.notes += [f"this very file is in the library, as {i}, and does not count" for i in same]
        with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
            with answer.timed("frames"):
                store, videos, rejected = descriptor.describe({WHOLE: file}, Path(scratch) / WHOLE, threads, part=PART)
            if store is None or not len(videos):
                raise ValueError(f"{file}: {rejected['reason'][0]}")
            answer.duration = float(videos["duration"].sum())
            frames, times = joined(store, videos)
            answer.frames = len(frames)
            candidates = self._search(answer, WHOLE, frames, times, top, same)
            if views and self.points is not None and not answer.is_found:
                # a second pass over the file, as corners take three times as long as all that a found copy needs
                with answer.timed("frames"):
                    found = QUERY_POINTS.describe({WHOLE: file}, Path(scratch) / PARTS, threads, part=PART)
                self._search_points(answer, *found[:2], top, same)
            is_grid = descriptor.options["extractor"] == GREY and self.index.dim == self.index.inputs
            if views and is_grid and self._normalisation is None and not answer.is_found:
                self._search_uncovered(answer, candidates)
            if views and not answer.is_found:
                with answer.timed("frames"):
                    store = descriptor.describe_views(videos, Path(scratch) / "views", threads)
                for view in dict.fromkeys(video_id.partition("/")[0] for video_id in store.ids):
                    self._search(answer, view, *joined(store, videos, f"{view}/"), top, same)
        answer.segments.sort(key=lambda s: (s.query_start, -s.score, s.reference))
        if answer.segments:
            return answer
        note = "its picture was compared as a whole, mirrored, turned and by its corners"
        if answer.duration < min_seconds:
            note = f"it lasts {answer.duration:.2f} s, and a segment lasts {min_seconds:g} s at least"
        elif not views:
            note = "its picture was compared as a whole only (--whole)"
        answer.notes.append(note)
        return answer

    def map(self, view: str, reference: str) -> tuple[np.ndarray, float, float]:
        """The map of a view of the last query with a video of the library in cells of time, and the seconds of both."""
        if (related := self._related.get((view, reference))) is not None:
            rows, columns = (CELL * np.stack([np.arange(n), np.arange(1, n + 1)], axis=1) for n in related.shape)
            ends = float(rows[-1, 1]), float(columns[-1, 1])
            return resampled(resampled(related, columns, ends[1], axis=1), rows, ends[0]), *ends
        query, query_times = self._queries[view]
        frames, times = self.frames(reference)
        durations = [float(t[-1, 1]) if len(t) else 0.0 for t in (query_times, times)]
        pieces = [
            resampled(self._similarity(query[start : start + self.rows], frames), times, durations[1], axis=1)
            for start in range(0, max(1, len(query)), self.rows)
        ]
        return resampled(np.concatenate(pieces), query_times, durations[0]), durations[0], durations[1]

    def _search(
        self, answer: Copies, view: str, rows: np.ndarray, times: np.ndarray, top: int, exclude: Collection[str]
    ) -> list[str]:
        """Add the segments that one view of the query shares with the library; returns the videos that were aligned."""
        with answer.timed("search"):
            candidates = self.index.search(rows, times, top, exclude=exclude)
            self._queries[view] = self.index.project(rows), intervals.filled(times)
        answer.candidates += len(candidates)
        for reference, _ in candidates:
            with answer.timed("align"):
                found = self.align(*self._queries[view], *self.frames(reference))
            self._add(answer, view, reference, found)
        if view != WHOLE and all(segment.view != view for segment in answer.segments):
            del self._queries[view]  # of hours these are gigabytes
        return [reference for reference, _ in candidates]

    def _search_uncovered(self, answer: Copies, candidates: Sequence[str]) -> None:
        """Add the segments that parts of the picture share with the same parts of videos, of grey pixels alone."""
        for view, (top, bottom) in UNCOVERED.items():
            query, times = self._queries[view] = self._queries[WHOLE]
            for reference in candidates:
                with answer.timed("align"):
                    frames, reference_times = self.frames(reference)
                    parts = [_part(rows, top, bottom) for rows in (query, frames, self._baseline)]
                    found = self.align(parts[0], times, parts[1], reference_times, parts[2])
                self._add(answer, view, reference, found)

    def _search_points(
        self, answer: Copies, store: Store | None, videos: pl.DataFrame, top: int, exclude: Collection[str]
    ) -> None:
        """Add the segments in which a part of the picture, or of its mirror image, is found by its corners; the store
        has those of the parts of the query, which are ``videos``."""
        assert self.points is not None
        for view in (PARTS, MIRRORED):
            if answer.is_found:
                break
            found = dict[str, point_matches.RelatedFrames]()
            for part in videos["video_id"] if store is not None else ():
                with answer.timed("search"):
                    rows, times = joined(store, videos.filter(pl.col("video_id") == part))
                    corners = point_matches.mirrored(rows) if view == MIRRORED else rows.astype(np.float32)
                    for video, pairs in point_matches.related(self.points, corners, times, exclude).items():
                        found[video] = found[video] + pairs if video in found else pairs
            best = sorted(found, key=lambda video: (-found[video].similarity.sum(), video))[:top]
            answer.candidates += len(best)
            for reference in best:
                with answer.timed("align"):
                    duration = self.files.get(reference, {}).get("duration") or found[reference].times[:, 3].max()
                    related = found[reference].map(CELL, answer.duration, duration)
                    query, columns = (CELL * np.stack([np.arange(n), np.arange(1, n + 1)], 1) for n in related.shape)
                    options = {"min_similarity": RELATED, "min_length": CELLS}
                    segments = aligners.find_segments(aligners.load("hough"), related, query, columns, options)
                    segments = distinct.distinct(segments, related, query, columns, RELATED)
                self._related[view, reference] = related
                self._add(answer, view, reference, self._good(segments, MIN_RELATED))

    def _good(self, found: np.ndarray, min_score: float) -> np.ndarray:
        """Those of some segments ``(N, 5)`` that last as long as was asked for, and have the score that was, or by
        default ``min_score``."""
        is_long = np.ptp(found[:, QUERY], axis=1) >= self.min_seconds - ROUNDED
        return found[is_long & (found[:, SCORE] >= (min_score if self.min_score is None else self.min_score))]

    def _add(self, answer: Copies, view: str, reference: str, found: np.ndarray) -> None:
        """Add the segments ``(N, 5)`` of one view and video. Of two views of the same part of the query the whole one
        counts, else the one that finds more of it."""
        path = str(self.files.get(reference, {}).get("path") or "")
        for query_start, query_end, start, end, score in found.tolist():
            segment = Segment(query_start, query_end, reference, start, end, score, view, path)
            same = [] if view == WHOLE else [other for other in answer.segments if segment.repeats(other)]
            if all(other.view != WHOLE and other.duration < segment.duration for other in same):
                answer.segments = [other for other in answer.segments if other not in same] + [segment]

    def frames(self, video_id: str) -> tuple[np.ndarray, np.ndarray]:
        """The frames of a video of the library, and their times without gaps. What codes make of a frame of one colour,
        which has no features, is like nothing."""
        frames, times = self.index.features(video_id)
        frames *= np.linalg.norm(frames, axis=1, keepdims=True) >= FLAT
        return frames, intervals.filled(times)

    def align(
        self,
        query: np.ndarray,
        query_times: np.ndarray,
        frames: np.ndarray,
        times: np.ndarray,
        random: np.ndarray | None = None,
    ) -> np.ndarray:
        """Segments ``(N, 5)``, s, of the least score or more; ``random`` frames of the library are compared as the
        others are. Long queries are aligned in pieces, so that no map is too large for the memory."""
        every, options = self.aligner.spec.every, self.aligner.options
        kept = query, query_times, frames, times
        if every is not None:
            query, query_times = frame_similarity.resampled(query, query_times, every)
            frames, times = frame_similarity.resampled(frames, times, every)
        if options is None:
            seconds = float(np.median(np.concatenate([np.diff(query_times), np.diff(times)])))
            least = min(MIN_SECONDS, self.min_seconds)  # of a piece; what is joined may be asked to last longer
            options = {"min_similarity": MIN_SIMILARITY, "min_length": max(1, round(least / seconds))}
        pieces = []
        for start in range(0, len(query), self.rows):
            at = slice(start, start + self.rows)
            similarity = self._similarity(query[at], frames, random)
            given = self.aligner.aligner, similarity, query_times[at], times, options
            piece = aligners.find_segments(*given, score=self.aligner.score, level=self.aligner.spec.bias)
            if self.aligner.options is None:
                piece = distinct.distinct(piece, similarity, query_times[at], times, MIN_SIMILARITY)
            pieces.append(piece)
        found = join_pieces(pieces, query_times[self.rows :: self.rows, 0].tolist(), self.aligner.score)
        return self._good(followed(found, *kept) if self.aligner.follow else found, self.aligner.min_score)

    def _fitted(self, aligner: ChosenAligner) -> ScoreNormalisation:
        """The normalisation, fitted to frames of noise as they would be kept in the library."""
        noise = np.zeros((0, 0)) if aligner.noise is None else aligner.noise
        if noise.ndim != 2 or noise.shape[1] != self.index.inputs:
            given = f"{aligner.name} was tuned with frames of shape {noise.shape}"
            raise ValueError(f"{given}; those of {self.library.folder} have {self.index.inputs} dimensions")
        return normalisation(self.index.project(noise), aligner.spec)

    def _similarity(self, query: np.ndarray, frames: np.ndarray, random: np.ndarray | None = None) -> np.ndarray:
        if self._normalisation is not None:
            normalised = self._normalisation.queries(query) @ self._normalisation.references(frames).T
            return normalised + np.float32(self.aligner.spec.bias)
        cosines = frame_similarity.cosines(query, frames)
        if self.aligner.options is not None:
            return cosines + np.float32(self.aligner.spec.bias)
        random = self._baseline if random is None else random
        baseline = np.maximum(0, (query @ random.T).mean(axis=1, keepdims=True))
        return (cosines - baseline) / np.maximum(1 - baseline, 1e-3)


def _part(rows: np.ndarray, top: float, bottom: float) -> np.ndarray:
    """The part of square pictures ``(n, side * side)`` between two shares of their height, as unit vectors."""
    side = round(rows.shape[1] ** 0.5)
    part = rows.reshape(-1, side, side)[:, round(top * side) : round(bottom * side)].reshape(len(rows), -1)
    part = part - part.mean(axis=1, keepdims=True)
    return unit_rows(part * (np.linalg.norm(part, axis=1, keepdims=True) >= CONTRAST), np.float32)


def join_pieces(pieces: Sequence[np.ndarray], borders: Sequence[float], score: str = "mean") -> np.ndarray:
    """Segments ``(N, 5)``, s, of pieces of a query, joined at ``borders``: the starts of all but the first, s. Their
    ``score`` is the mean over both, the sum, or the max."""
    found = pieces[0].tolist() if len(pieces) else []
    for piece, border in zip(pieces[1:], borders, strict=True):
        for row in piece.tolist():
            before = next((other for other in found if _continues(other, row, border)), None)
            if before is None:
                found.append(row)
                continue
            first, second = before[1] - before[0], row[1] - row[0]
            mean = (before[4] * first + row[4] * second) / (first + second)
            before[4] = {"sum": before[4] + row[4], "max": max(before[4], row[4])}.get(score, mean)
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
