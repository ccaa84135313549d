"""The intervals ``[start, end)`` of frames (``Store.times``), and segments in frames and in seconds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from videomatch.metrics.segments import QUERY, REFERENCE

Times = Float[np.ndarray, "frames 2"]
Segments = Float[np.ndarray, "segments columns"]


def filled(times: Times) -> Times:
    """Intervals that reach halfway to their neighbours, for frames that are moments or have gaps between them. Those
    that touch stay as they are, however unequal (key frames). The first begins at 0; the last is symmetric about its
    frame's middle."""
    times = np.asarray(times, np.float64)
    if (times[:, 1] < times[:, 0]).any() or (np.diff(times, axis=0) < 0).any() or not np.isfinite(times).all():
        raise ValueError("times do not rise, expected frames that end after their start, in the order of time")
    if not len(times):
        return times.copy()
    middle = times.mean(axis=1)
    touch = np.isclose(times[:-1, 1], times[1:, 0], rtol=0, atol=1e-6)
    between = np.where(touch, times[1:, 0], (middle[1:] + middle[:-1]) / 2)
    start = np.r_[0.0, between]
    last = times[-1, 1] if len(times) == 1 else max(times[-1, 1], 2 * middle[-1] - start[-1])
    return np.stack([start, np.r_[between, last]], axis=1)


def to_seconds(segments: Segments, query_times: Times, reference_times: Times) -> Segments:
    """Segments with their four times in seconds instead of frames or fractions of frames, by times without gaps
    (:func:`filled`). Published aligners return the last frame as the end, which becomes the *start* of that frame, as
    in VCSL at one frame a second: such a segment is a frame short."""
    result = np.array(segments, np.float64)
    for columns, times, name in ((QUERY, query_times, "query"), (REFERENCE, reference_times, "reference")):
        edges = _edges(times)
        ends = result[:, columns]
        wrong = np.flatnonzero((ends[:, 0] < 0) | (ends[:, 1] < ends[:, 0]) | (ends[:, 1] > len(edges) - 1))
        if len(wrong):
            found = f"{name} frames {ends[wrong[0], 0]} to {ends[wrong[0], 1]}"
            raise ValueError(f"segment {wrong[0]} holds {found}, expected rising frames in 0 to {len(edges) - 1}")
        result[:, columns] = np.interp(ends, np.arange(len(edges)), edges)
    return result


def to_frames(segments: Segments, query_times: Times, reference_times: Times) -> Segments:
    """The inverse of :func:`to_seconds`; segments are clipped to the videos."""
    result = np.array(segments, np.float64)
    for columns, times in ((QUERY, query_times), (REFERENCE, reference_times)):
        edges = _edges(times)
        result[:, columns] = np.interp(result[:, columns], edges, np.arange(len(edges)))
    return result


def _edges(times: np.ndarray) -> np.ndarray:
    """The starts of the frames and the end of the last: (frames + 1,)."""
    return np.r_[times[:, 0], times[-1, 1]] if len(times) else np.zeros(1)
