"""Where each part of a video comes from: a file against a library of own videos (:mod:`videomatch.app.video_library`).

The frames of the file vote for videos of the library; each of those gets a map of similarities with the file, and what
aligns finds the segments in it. Where the picture as a whole is found nowhere, it is looked at mirrored and by halves,
too (two videos side by side, one below the other).

Only the query is: of the library's videos the halves are not kept. They would make it five times as large and every
question as much slower, for what can be asked the other way round: a library of the query alone, and the copies of each
video that may hold it beside another. (Mirrored is mirrored from either side.)

The map
    Cosines, less what is usual: 0 is what a frame has in common with frames of the library drawn at random, 1 the same
    frame. So one threshold does for all descriptors (grey pixels of different videos are uncorrelated; CLIP's cosines
    are all above 0.5). A trained detector and tuned options read the cosines as they are, as they did in training.
"""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from videomatch import aligners
from videomatch.app.requests import Answer, RequestError, check_top, unknown
from videomatch.app.video_library import VideoLibrary
from videomatch.common import digests, named
from videomatch.localisation import frame_similarity, intervals
from videomatch.reports.segment_maps import CELLS, resampled
from videomatch.retrieval.frame_index import FrameIndex
from videomatch.specs.similarity import SimilarityMap

#: similarity, less what is usual, from which frames count as the same; seconds that a segment lasts at least
SAME, SHORTEST = 0.7, 1.25
#: frames of the library that say what is usual, and videos that they are drawn from
USUAL, USUAL_VIDEOS = 1024, 64
#: frames of the query whose map with a video is in memory at once
ROWS = 1024
#: seconds by which the two halves of a segment that was cut there may be shifted against each other
SHIFT = 1.0
#: share of the query that is found as it is from which on parts of the picture are not looked at
FOUND = 0.9
WHOLE = "whole"


@dataclass(frozen=True)
class Segment:
    """A part of the query and where it comes from; times in seconds, half open.

    Attributes:
        reference: id of the library's video; path: its file.
        score: mean similarity along it (of a detector: how sure it is).
        view: what of the query's picture it is: ``whole``, or a name of :data:`videomatch.app.descriptors.VIEWS`.
    """

    query_start: float
    query_end: float
    reference: str
    reference_start: float
    reference_end: float
    score: float
    view: str
    path: str


@dataclass
class Copies(Answer):
    """What was found of a query.

    Attributes:
        asked: the file. library, descriptor, aligner: where and by what it was looked for.
        segments: by their start.
        duration: of the query, s.
        frames: of the query that were compared.
        candidates: videos that were aligned, those of each view counted.
    """

    asked: str
    library: str
    descriptor: str
    aligner: str
    segments: list[Segment] = field(default_factory=list)
    duration: float = 0.0
    frames: int = 0
    candidates: int = 0


@dataclass(frozen=True)
class Aligner:
    """What finds segments in a map.

    Attributes:
        aligner: of :mod:`videomatch.aligners`.
        name: for people.
        options: seconds per frame to options of ``aligner``.
        raw: it reads cosines as they are.
        bias: added to every similarity.
        every: seconds between frames, to which key frames are spread out before they are compared.
    """

    aligner: aligners.Aligner
    name: str
    options: Callable[[float], Mapping[str, Any]]
    raw: bool = True
    bias: float = 0.0
    every: float | None = None


def choose_aligner(name: str | None = None, run: Path | None = None, tuned: Path | None = None) -> Aligner:
    """What aligns.

    Args:
        name: file in ``aligners/``, with its own defaults; the temporal network with thresholds of this module if all
            three are None.
        run: checkpoint of a trained detector.
        tuned: result of ``tune``: of an aligner, or of the detector ``run``.

    Raises:
        RequestError: there is no such thing.
    """
    if name is not None and name not in named.names("aligners"):
        raise RequestError(unknown("aligner", name, named.names("aligners")))
    if name is not None and (run is not None or tuned is not None):
        raise RequestError("an aligner, and a detector or tuned options: expected one or the other")
    options: dict[str, Any] = {}
    bias, every = 0.0, None
    if tuned is not None:
        path = tuned / "tuned.json" if tuned.is_dir() else tuned
        if not path.is_file():
            raise RequestError(f"{path} is not there: expected a result of `tune`")
        found = json.loads(path.read_text(encoding="utf-8"))
        compared = SimilarityMap.read(found["similarity_map"])
        if compared.similarity != "cosine":
            raise RequestError(f"{path} was tuned on {compared.similarity!r} similarities; a library has cosines")
        if compared.noise is not None:
            raise RequestError(f"{path} was tuned on normalised scores; a library has plain cosines")
        name, options, bias, every = found["aligner"], found["options"], compared.bias, compared.every
        if (name is None) != (run is not None):
            raise RequestError(f"{path} holds options of {name or 'a detector: say which'}")
    if run is not None and not (run / "system.yaml").is_file():
        raise RequestError(f"{run} is no checkpoint of a trained detector: it has no system.yaml")
    if name is None and run is None:
        return Aligner(aligners.load("temporal_network"), "the temporal network", _by_seconds, raw=False)
    try:
        loaded = aligners.load(name, run)
    except (ValueError, KeyError) as error:
        raise RequestError(str(error)) from error
    return Aligner(loaded, name or f"the detector {run}", lambda _: options, bias=bias, every=every)


def _by_seconds(frame: float) -> dict[str, Any]:
    """Options of the temporal network, its least length a time."""
    return {"min_similarity": SAME, "min_length": max(1, round(SHORTEST / frame))}


class CopySearch:
    """Questions to one library.

    Args:
        library: that is searched.
        by: what aligns.
    """

    def __init__(self, library: VideoLibrary, by: Aligner) -> None:
        self.library, self.by = library, by
        library.descriptor.check()
        self.index = library.open_index()
        self.files = {row["video_id"]: row for row in library.videos().iter_rows(named=True)}
        self._usual = _drawn(self.index)
        self._seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def copies(self, file: Path, *, top: int = 10, views: bool = True, threads: int = 1) -> Copies:
        """Where each part of a file comes from. The file itself, where it is in the library, does not count.

        Args:
            file: a video.
            top: videos of the library that are aligned, for every view.
            views: also look at the picture mirrored and by halves.
            threads: that decode.

        Raises:
            RequestError: the file cannot be read, or ``top`` is not possible.
        """
        check_top(top)
        if not file.is_file():
            raise RequestError(f"{file}: {self._absent(file)}")
        self._seen = {}
        answer = Copies(str(file), str(self.library.folder), str(self.library.descriptor), self.by.name)
        digest = digests.file_digest(file)
        same = [i for i, row in self.files.items() if row["sha256"] == digest]
        answer.notes += [f"this very file is in the library, as {i}, and does not count" for i in same]
        with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
            with answer.timed("frames"):
                found = self.library.descriptor.describe({"query": file}, Path(scratch) / WHOLE, threads)
            if found.store is None or not len(found.videos):
                raise RequestError(f"{file}: {found.rejected['reason'][0]}")
            answer.duration = float(found.videos["duration"][0] or 0.0)
            if found.store.shape != (self.index.inputs,):
                raise RequestError(
                    f"{self.library.descriptor} gives {found.store.shape[0]} numbers a frame, the index of "
                    f"{self.library.folder} was made for {self.index.inputs}: it belongs to another library"
                )
            rows = found.store["query"]
            answer.frames = len(rows)
            times = intervals.filled(_times(found.store.times("query")))
            self._look(answer, WHOLE, rows, times, top, same)
            if views and _covered(answer.segments) < FOUND * answer.duration:
                with answer.timed("frames"):
                    store = self.library.descriptor.describe_views(file, Path(scratch) / "views", threads)
                for view in store.ids:
                    self._look(answer, view, store[view], intervals.filled(_times(store.times(view))), top, same)
        answer.segments.sort(key=lambda s: (s.query_start, -s.score, s.reference))
        if not answer.segments:
            answer.notes += self._why_nothing(answer, views)
        return answer

    def _absent(self, file: Path) -> str:
        """Why a path is no query, and which video of the library may be meant."""
        if file.is_dir():
            return "is a folder; expected one video"
        near = [i for i in self.files if Path(i).name == file.name]
        near = near or difflib.get_close_matches(str(file), self.files, 1)
        return f"there is no such file, nor a video of the library{f'; did you mean {near[0]!r}?' if near else ''}"

    def _why_nothing(self, answer: Copies, views: bool) -> list[str]:
        """What somebody should know who finds nothing."""
        if self.by.options is _by_seconds and answer.duration < SHORTEST:
            return [f"it lasts {answer.duration:.2f} s, and a segment lasts {SHORTEST} s at least"]
        if not views:
            return ["its picture was looked at as a whole only (--whole)"]
        return [
            "of the library's videos the whole pictures were compared: one that shows this video in a half of its own "
            "is found the other way round, by the copies of that one in a library of this"
        ]

    def _look(
        self, answer: Copies, view: str, rows: np.ndarray, times: np.ndarray, top: int, exclude: Collection[str]
    ) -> None:
        """Add what one view of the query shares with the library."""
        with answer.timed("search"):
            found = self.index.search(rows, top, exclude=exclude)
            query = self.index.project(rows)
        self._seen[view] = query, times
        answer.candidates += len(found)
        for candidate in found:
            with answer.timed("align"):
                there, reference_times = self.index.features(candidate.reference)
                segments = self._aligned(query, times, there, intervals.filled(reference_times))
            path = str(self.files.get(candidate.reference, {}).get("path") or "")
            for q_start, q_end, r_start, r_end, score in segments.tolist():
                one = Segment(q_start, q_end, candidate.reference, r_start, r_end, score, view, path)
                if view == WHOLE or not any(_same(one, other) for other in answer.segments):
                    answer.segments.append(one)

    def map(self, view: str, reference: str, cells: int = CELLS) -> tuple[np.ndarray, float, float]:
        """The similarity map of the query that was asked last with a video of the library, at most ``cells`` equal
        cells of time on a side, and the seconds that it spans on both axes: those of the query and of the reference."""
        query, times = self._seen[view]
        there, reference_times = self.index.features(reference)
        reference_times = intervals.filled(reference_times)
        ends = [float(t[-1, 1]) if len(t) else 0.0 for t in (times, reference_times)]
        across = [
            resampled(self._values(query[start : start + ROWS], there), reference_times, ends[1], cells, axis=1)
            for start in range(0, max(1, len(query)), ROWS)
        ]
        return resampled(np.concatenate(across), times, ends[0], cells), ends[0], ends[1]

    def _aligned(
        self, query: np.ndarray, times: np.ndarray, there: np.ndarray, reference_times: np.ndarray
    ) -> np.ndarray:
        """Segments ``(N, 5)`` in seconds; long queries come in pieces, so that no map is too large for the memory."""
        parts = []
        if self.by.every is not None:
            query, times = frame_similarity.resampled(query, times, self.by.every)
            there, reference_times = frame_similarity.resampled(there, reference_times, self.by.every)
        options = self.by.options(float(np.median(np.concatenate([np.diff(times), np.diff(reference_times)]))))
        for start in range(0, len(query), ROWS):
            piece = slice(start, start + ROWS)
            values = self._values(query[piece], there) + self.by.bias
            parts.append(aligners.find_segments(self.by.aligner, values, times[piece], reference_times, options))
        return joined(parts, [float(times[start, 0]) for start in range(ROWS, len(query), ROWS)])

    def _values(self, query: np.ndarray, there: np.ndarray) -> np.ndarray:
        values = frame_similarity.cosines(query, there)
        if self.by.raw:
            return values
        usual = np.maximum(0, (query @ self._usual.T).mean(axis=1, keepdims=True))
        return (values - usual) / np.maximum(1 - usual, 1e-3)


def joined(parts: Sequence[np.ndarray], borders: Sequence[float], gap: float = SHIFT) -> np.ndarray:
    """Segments of consecutive pieces of a query as one list; what goes on across a border is one segment.

    Args:
        parts: ``(N, 5)`` of each piece, s.
        borders: start of all pieces but the first, s.
        gap: seconds that may be missing at a border, and by which the two parts may be shifted against each other.
    """
    found = [list(row) for row in parts[0].tolist()] if len(parts) else []
    for part, border in zip(parts[1:], borders, strict=True):
        for row in part.tolist():
            shift = row[2] - row[0]
            before = [
                f for f in found
                if row[0] - border <= gap and border - f[1] <= gap and f[1] <= border + 1e-6
                and abs((f[3] - f[1]) - shift) <= gap
            ]  # fmt: skip
            if not before:
                found.append(row)
                continue
            one = before[0]
            first, second = one[1] - one[0], row[1] - row[0]
            one[4] = (one[4] * first + row[4] * second) / (first + second)
            one[1], one[3] = row[1], row[3]
    return np.array(found, np.float64).reshape(-1, 5)


def _drawn(index: FrameIndex) -> np.ndarray:
    """Unit vectors of frames of the library, drawn at random."""
    generator = np.random.default_rng(0)
    some = generator.permutation(len(index))[:USUAL_VIDEOS].tolist()
    each = -(-USUAL // max(1, len(some)))
    rows = []
    for number in some:
        frames = index.features(index.ids[number])[0]
        rows.append(frames[generator.permutation(len(frames))[:each]])
    found = np.concatenate([np.zeros((0, index.dim), np.float32), *rows])
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)


def _covered(segments: Sequence[Segment]) -> float:
    """Seconds of the query that are found."""
    total, end = 0.0, 0.0
    for start, stop in sorted((s.query_start, s.query_end) for s in segments):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _same(one: Segment, other: Segment) -> bool:
    """Whether a segment of a view is one that was found already, for the most part."""
    if one.reference != other.reference:
        return False
    shared = min(one.query_end, other.query_end) - max(one.query_start, other.query_start)
    return shared > 0.5 * min(one.query_end - one.query_start, other.query_end - other.query_start)


def _times(times: np.ndarray | None) -> np.ndarray:
    assert times is not None, "extract and select_key_frames write times"
    return times
