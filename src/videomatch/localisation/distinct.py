"""Which of the segments of two videos say something of their own.

Where a picture stands still, every frame of the one video is similar to every frame of the other, and lines at many
offsets and speeds explain the same part of the query. Only one of them is kept, and as a still picture has no speed, it
goes on as fast as the query. A part of the query that moves has several places in a video only if it is shown there
several times: all of these are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from videomatch.localisation.intervals import Times
from videomatch.metrics.segments import QUERY, REFERENCE, SCORE

#: by how much frames on the line of a segment that moves are more similar than those a share of its length away
CONTRAST, AWAY = 0.1, 0.25
#: seconds of a still segment at least: its frames all say the same
STILL = 2.0

Segments = Float[np.ndarray, "segments 5"]
Map = Float[np.ndarray, "query_frames reference_frames"]


def distinct(
    segments: Segments, similarity: Map, query_times: Times, reference_times: Times, min_similarity: float
) -> Segments:
    """The segments, s, best first (similarity times seconds, of the video in which it is shorter), without those that
    stand still and last less than :data:`STILL`, or are of the same part of the query as a better one. What stands
    still lasts as long in the reference, if frames of ``min_similarity`` do. Times are without gaps
    (:func:`videomatch.localisation.intervals.filled`)."""
    least = min(STILL, float(np.ptp(query_times))) if len(query_times) else 0.0
    found = []
    for segment in segments:
        parts = (query_times, segment[QUERY]), (reference_times, segment[REFERENCE])
        rows, columns = (_within(*each) for each in parts)
        contrast = _contrast(segment, similarity[rows, columns], query_times[rows], reference_times[columns])
        seconds = min(np.ptp(segment[QUERY]), np.ptp(segment[REFERENCE]))
        found.append((segment[SCORE] * seconds, contrast, segment, rows, columns))
    kept: list[np.ndarray] = []
    for _, contrast, segment, rows, columns in sorted(found, key=lambda each: -each[0]):
        if contrast >= CONTRAST:
            kept.append(segment)
        elif np.ptp(segment[QUERY]) >= least and not any(is_same_part(segment[QUERY], k[QUERY]) for k in kept):
            is_alike = similarity[rows].mean(axis=0) >= min_similarity
            is_inside = rows.start > 0, rows.stop < len(similarity)
            kept.append(_settled(segment, is_inside, is_alike, columns, reference_times))
    return np.array(kept).reshape(-1, segments.shape[1])


def is_same_part(part: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> bool:
    """Whether two parts of a video (start and end) have half of the shorter one in common."""
    (start, end), (first, last) = part, other
    return min(end, last) - max(start, first) > 0.5 * min(end - start, last - first)


def _within(times: np.ndarray, part: np.ndarray) -> slice:
    """The frames whose middle is in a part, one at least."""
    first, stop = np.searchsorted(times.mean(axis=1), part)
    first = min(first, len(times) - 1)
    return slice(int(first), int(max(stop, first + 1)))


def _contrast(segment: np.ndarray, box: np.ndarray, query_times: np.ndarray, reference_times: np.ndarray) -> float:
    """By how much a segment's frames are more similar to those on its line than to others of it."""
    line = np.interp(query_times.mean(axis=1), segment[QUERY], segment[REFERENCE])
    away = np.abs(reference_times.mean(axis=1) - line[:, None])
    others = box[away >= AWAY * np.ptp(segment[REFERENCE])]
    on_line = box[np.arange(len(box)), away.argmin(axis=1)]
    return float(on_line.mean() - others.mean()) if len(others) else 0.0


def _settled(
    segment: np.ndarray, is_inside: tuple[bool, bool], is_alike: np.ndarray, columns: slice, times: np.ndarray
) -> np.ndarray:
    """A still segment at the speed of the query, as far as frames of the reference are alike. It begins with these if
    it begins inside of the query, or else ends with them if it ends there, or else keeps its middle."""
    before, after = is_alike[: columns.start][::-1], is_alike[columns.stop :]
    first = columns.start - int(np.argmin(np.append(before, False)))
    last = columns.stop + int(np.argmin(np.append(after, False))) - 1
    low, high = min(times[first, 0], segment[REFERENCE][0]), max(times[last, 1], segment[REFERENCE][1])
    length = min(float(np.ptp(segment[QUERY])), high - low)
    middle = float(np.clip(segment[REFERENCE].mean() - length / 2, low, high - length))
    start = low if is_inside[0] else high - length if is_inside[1] else middle
    settled = segment.copy()
    settled[REFERENCE] = start, start + length
    return settled
