"""From frames to seconds: what an aligner finds in frames, on the clock of the two videos.

A frame stands for an interval ``[start, end)``, which the store keeps with its features (``Store.times``): frames at
any rate, key frames at any distance and with any gaps between them. A segment of frames ``[first, stop)`` lasts from
the start of its first to the end of its last frame.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def regular(frames: int, rate: float = 1.0) -> Float[np.ndarray, "frames 2"]:
    """Intervals of ``frames`` frames at ``rate`` a second, from 0."""
    starts = np.arange(frames) / rate
    return np.stack([starts, (np.arange(frames) + 1) / rate], axis=1)


def filled(times: Float[np.ndarray, "frames 2"], duration: float | None = None) -> Float[np.ndarray, "frames 2"]:
    """Intervals that reach halfway to their neighbours, for frames that stand for moments or are far apart.

    Moments, and frames taken every half second with the times of a single picture, leave gaps; a segment would end
    with the picture. Intervals that touch stay as they are, be they ever so unequal (those of key frames). The first
    interval begins at 0, the last ends with the video where ``duration`` is known, else as far after its frame's middle
    as it begins before it.

    Raises:
        ValueError: times that do not rise.
    """
    times = _checked(times, "times")
    if not len(times):
        return times.copy()
    middle = times.mean(axis=1)
    touch = np.isclose(times[:-1, 1], times[1:, 0], rtol=0, atol=1e-6)
    between = np.where(touch, times[1:, 0], (middle[1:] + middle[:-1]) / 2)
    start = np.r_[0.0, between]
    last = times[-1, 1] if len(times) == 1 else max(times[-1, 1], 2 * middle[-1] - start[-1])
    return np.stack([start, np.r_[between, last if duration is None else max(duration, middle[-1])]], axis=1)


def to_seconds(
    segments: Float[np.ndarray, "segments columns"],
    query_times: Float[np.ndarray, "query_frames 2"],
    reference_times: Float[np.ndarray, "reference_frames 2"],
    *,
    published: bool = False,
    whole: bool = True,
) -> Float[np.ndarray, "segments columns"]:
    """Segments with their four times in seconds instead of frames; further columns stay.

    Args:
        segments: (N, 4 or more), ``query_start, query_end, reference_start, reference_end``, whole frames. query_times,
        reference_times: (Q, 2) and (R, 2), start and end of every frame, s. published: ends are last frames and are
        read as their *starts*, as VCSL does at one frame a second: every segment
            is a frame short.
        whole: false for ends that may lie within a frame; frames then follow one another without gaps (:func:`filled`).

    Raises:
        ValueError: a frame that does not exist, or times that do not rise.
    """
    result = np.array(segments, np.float64)
    if result.ndim != 2 or result.shape[1] < 4:
        raise ValueError(f"segments of shape {result.shape}, expected (N, 4) or more columns")
    for first, times, name in ((0, query_times, "query"), (2, reference_times, "reference")):
        times = _checked(times, f"{name} times")
        if not whole:
            result[:, first : first + 2] = _within(result[:, first : first + 2], times, name)
            continue
        start, end = np.round(result[:, first]).astype(np.int64), np.round(result[:, first + 1]).astype(np.int64)
        last = end if published else end - 1
        odd = np.flatnonzero((start < 0) | (last < start) | (last >= len(times)))
        if len(odd):
            found = f"{name} frames {start[odd[0]]} to {last[odd[0]]}"
            raise ValueError(f"segment {odd[0]} holds {found}, expected some of 0 to {len(times) - 1}")
        result[:, first], result[:, first + 1] = times[start, 0], times[last, 0 if published else 1]
    return result


def to_frames(
    segments: Float[np.ndarray, "segments columns"],
    query_times: Float[np.ndarray, "query_frames 2"],
    reference_times: Float[np.ndarray, "reference_frames 2"],
) -> Float[np.ndarray, "segments columns"]:
    """Segments with their four times in frames and parts of frames instead of seconds, cut off at the videos' ends; the
    way back from ``to_seconds(…, whole=False)``.

    Raises:
        ValueError: times that do not rise.
    """
    result = np.array(segments, np.float64)
    for first, times, name in ((0, query_times, "query"), (2, reference_times, "reference")):
        times = _checked(times, f"{name} times")
        edges = np.r_[times[:, 0], times[-1, 1]] if len(times) else np.zeros(1)
        result[:, first : first + 2] = np.interp(result[:, first : first + 2], edges, np.arange(len(edges)))
    return result


def _within(ends: np.ndarray, times: np.ndarray, name: str) -> np.ndarray:
    """Seconds of moments in frames, of frames without gaps."""
    odd = np.flatnonzero((ends[:, 0] < 0) | (ends[:, 1] <= ends[:, 0]) | (ends[:, 1] > len(times)))
    if len(odd):
        found = f"{name} frames {ends[odd[0], 0]} to {ends[odd[0], 1]}"
        raise ValueError(f"segment {odd[0]} holds {found}, expected some of 0 to {len(times)}")
    edges = np.r_[times[:, 0], times[-1, 1]] if len(times) else np.zeros(1)
    return np.interp(ends, np.arange(len(edges)), edges)


def _checked(times: np.ndarray, name: str) -> np.ndarray:
    times = np.asarray(times, np.float64)
    if times.ndim != 2 or times.shape[1] != 2:
        raise ValueError(f"{name} of shape {times.shape}, expected (frames, 2)")
    if (times[:, 1] < times[:, 0]).any() or (np.diff(times, axis=0) < 0).any() or not np.isfinite(times).all():
        raise ValueError(f"{name} do not rise, expected frames that end after their start, in the order of time")
    return times
