"""Key frames: which few frames of a video stand for all of it, and for how long each.

Conventions
    ``features (N, D)`` are the frames of one video in the order of time, unit vectors or not (only directions count);
    ``times (N, 2)`` start and end of each, s. Positions count from 0, rise, and hold the first and the last frame,
    except those of ``coverage``. ``share`` is the budget: ``ceil(share * N)`` key frames, the two ends included. Key
    frames lie at most ``longest`` seconds apart (where frames do), or, by ``coverage``, stand for as much at most; a
    budget too small for that is exceeded, and it comes out of the budget otherwise, so that all methods are compared at
    the same number.

A key frame stands for an interval ``[start, end)``: from halfway to the key frame before it to halfway to the one
behind it, to the ends of the video at the ends (:func:`spans`). What an aligner finds among key frames becomes seconds
by these intervals (:func:`videomatch.localisation.intervals.to_seconds`).

Methods; a trained one is :mod:`videomatch.models.key_frames`:

``uniform``      equal steps.
``shots``        the video is cut at its largest changes; each shot gives its first and its middle frame.
``k_center``     the frame that is least like all chosen so far, again and again (Gonzalez 1985).
``differences``  the largest local maxima of the change from frame to frame, apart from one another.
``coverage``     runs of frames and one of each, such that all frames are as alike to theirs as can be
                 (:mod:`videomatch.localisation.keyframe_cover`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from videomatch.common.vectors import unit_rows
from videomatch.localisation.keyframe_cover import cover

METHODS = ("uniform", "shots", "k_center", "differences", "coverage")
#: of all frames
SHARE = 0.15
#: between key frames, s
LONGEST = 10.0
#: cosines by which frames must differ, together, for a gap to be parted elsewhere than halfway
PLAIN = 0.05

Features = Float[np.ndarray, "frames D"]
Times = Float[np.ndarray, "frames 2"]
Positions = Int[np.ndarray, " keys"]


def choose(
    features: Features, times: Times, *, method: str = "uniform", share: float = SHARE, longest: float = LONGEST
) -> Positions:
    """Positions of the key frames of one video by one of :data:`METHODS`.

    Raises:
        ValueError: an unknown method, a share outside (0, 1], or times that do not fit.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r} to choose key frames; there are {', '.join(METHODS)}")
    if method == "coverage":
        return covering(features, times, share=share, longest=longest)
    limits = _Limits.of(times, share, longest)
    count = len(times)
    if len(features) != count:
        raise ValueError(f"{len(features)} frames with {count} times, expected one each")
    if limits.budget >= count:
        return np.arange(count)
    if method == "uniform":
        return limits.chosen(np.round(np.linspace(0, count - 1, limits.budget)).astype(np.int64).tolist())
    unit = unit_rows(features)
    if method == "k_center":
        return limits.chosen(_farthest(unit, limits.budget))
    change = changes(unit)
    if method == "shots":
        return limits.chosen(_shots(change, limits.budget))
    return from_scores(_peaks(change), times, share=share, longest=longest)


def covering(
    features: Features,
    times: Times,
    *,
    scores: Float[np.ndarray, " frames"] | None = None,
    share: float = SHARE,
    longest: float = LONGEST,
) -> Positions:
    """Positions of the key frames that stand best for all frames, those with scores preferred
    (:mod:`videomatch.localisation.keyframe_cover`).

    Args:
        features: of all frames.
        times: start and end of every frame, s.
        scores: one a frame; those of a trained scorer, for example.
        share: of frames that are chosen.
        longest: seconds for which a key frame stands, by the middles of its frames.

    Raises:
        ValueError: a share outside (0, 1], scores or times that do not fit.
    """
    limits = _Limits.of(times, share, longest)
    count = len(times)
    if len(features) != count:
        raise ValueError(f"{len(features)} frames with {count} times, expected one each")
    if scores is not None and (len(scores) != count or not np.isfinite(scores).all()):
        raise ValueError(f"{len(scores)} scores with {count} times, expected one finite score a frame")
    if limits.budget >= count:
        return np.arange(count)
    middle = np.asarray(times, np.float64).mean(axis=1)
    reach = np.searchsorted(middle, middle + longest + 1e-9, side="right") - 1
    return cover(unit_rows(features), reach, limits.budget, scores)


def from_scores(
    scores: Float[np.ndarray, " frames"],
    times: Times,
    *,
    share: float = SHARE,
    longest: float = LONGEST,
    apart: float = 0.5,
) -> Positions:
    """Positions of the frames with the highest scores, no two of them closer than a part of the mean distance while
    there are others (non-maximum suppression). Of equal scores the earlier frame wins.

    Args:
        scores: one a frame; those of a trained scorer, for example.
        times: start and end of every frame, s.
        share: of frames that are chosen.
        longest: seconds between key frames.
        apart: of the mean distance of key frames (in frames), how much two of them are apart at least.

    Raises:
        ValueError: a share outside (0, 1], scores or times that do not fit.
    """
    limits = _Limits.of(times, share, longest)
    if len(scores) != len(times) or not np.isfinite(scores).all():
        raise ValueError(f"{len(scores)} scores with {len(times)} times, expected one finite score a frame")
    if limits.budget >= len(scores):
        return np.arange(len(scores))
    order = np.argsort(-np.asarray(scores), kind="stable").tolist()
    return limits.chosen(order, apart=max(1, math.floor(apart * len(scores) / limits.budget)))


def spans(
    positions: Positions, times: Times, duration: float | None = None, *, features: Features | None = None
) -> Float[np.ndarray, "keys 2"]:
    """The interval ``[start, end)`` that each key frame stands for, s; together they are the whole video.

    Args:
        positions: of key frames, rising.
        times: of all frames.
        duration: of the video, where it is known to go on behind its last frame.
        features: of all frames: two key frames then part where the frames between them are more alike to the one
            before that than to the one behind it, so at a cut if there is one. Halfway without, or where all are alike.

    Raises:
        ValueError: positions that do not rise, or lie outside.
    """
    positions, times = np.asarray(positions, np.int64), np.asarray(times, np.float64)
    if len(positions) and (positions[0] < 0 or positions[-1] >= len(times) or (np.diff(positions) <= 0).any()):
        raise ValueError(f"key frames {positions.tolist()[:10]} …, expected rising positions below {len(times)}")
    if not len(positions):
        return np.zeros((0, 2))
    own = times[positions]
    between = (own[:-1, 1] + own[1:, 0]) / 2  # from the end of one frame to the start of the next: halfway
    if features is not None:
        unit = unit_rows(features)
        for gap, (before, after) in enumerate(pairwise(positions.tolist())):
            parted = _parted(unit[before : after + 1])
            if parted is not None:
                between[gap] = (times[before + parted - 1, 1] + times[before + parted, 0]) / 2
    last = max(float(times[-1, 1]), duration or 0.0)
    return np.stack([np.r_[min(0.0, float(times[0, 0])), between], np.r_[between, last]], axis=1)


def _parted(rows: Features) -> int | None:
    """How many of the rows from one key frame to the next belong to the first; None where it makes no difference."""
    nearer = rows @ rows[0] - rows @ rows[-1]
    sums = np.cumsum(nearer)[:-1]
    if len(rows) < 3 or sums.max() - sums.min() < PLAIN:
        return None
    return int(sums.argmax()) + 1


def coverage(features: Features, positions: Positions) -> float:
    """How well key frames stand for all frames: mean over frames of the cosine with the most alike key frame."""
    unit = unit_rows(features)
    return float((unit @ unit[positions].T).max(axis=1).mean())


def repeatability(
    positions: Positions,
    times: Times,
    edited: Positions,
    came_from: Float[np.ndarray, " edited_frames"],
    within: float = 0.5,
) -> float:
    """Share of the key frames of an edited copy that show a moment close to a key frame of the original.

    Args:
        positions: key frames of the original.
        times: of all frames of the original, s.
        edited: key frames of the copy.
        came_from: at which second of the original each frame of the copy lies; nan for what it does not show.
        within: seconds that still count.

    Returns:
        nan if no key frame of the copy shows the original.
    """
    moments = np.asarray(times, np.float64)[positions].mean(axis=1)
    asked = came_from[edited]
    asked = asked[np.isfinite(asked)]
    if not len(asked) or not len(moments):
        return math.nan
    return float((np.abs(asked[:, None] - moments).min(axis=1) <= within).mean())


def changes(unit: Features) -> Float[np.ndarray, " frames"]:
    """One minus the cosine of every frame with the frame before it; 0 for the first."""
    return np.r_[np.zeros(min(1, len(unit))), 1 - np.einsum("nd,nd->n", unit[1:], unit[:-1], dtype=np.float64)]


def _peaks(change: np.ndarray) -> np.ndarray:
    """Changes, those that are no local maximum behind all that are."""
    around = np.r_[-np.inf, change, -np.inf]
    is_peak = (change >= around[:-2]) & (change > around[2:])
    return change + np.where(is_peak, change.max(initial=0) + 1, 0)


def _shots(change: np.ndarray, budget: int) -> list[int]:
    """First and middle frame of as many shots as the budget holds."""
    shots = max(1, budget // 2)
    cuts = np.sort(np.argsort(-change[1:], kind="stable")[: shots - 1] + 1)
    starts, ends = np.r_[0, cuts], np.r_[cuts, len(change)]
    return [*starts.tolist(), *((starts + ends) // 2).tolist()]


def _farthest(unit: np.ndarray, budget: int) -> list[int]:
    """The ends, then each time the frame that is least like those before it."""
    order = [0, len(unit) - 1]
    nearest = np.maximum(unit @ unit[0], unit @ unit[-1])
    while len(order) < budget:
        order.append(int(nearest.argmin()))
        np.maximum(nearest, unit @ unit[order[-1]], out=nearest)
    return order


class _Limits:
    """What every choice keeps to: the budget, the two ends, and the longest gap.

    Attributes:
        budget: number of key frames.
        reach: for every frame the last one that may follow it as the next key frame.
    """

    def __init__(self, count: int, budget: int, reach: list[int]) -> None:
        self.count, self.reach = count, reach
        self.budget = min(count, max(budget, min(count, 2) + (self._steps(0, count - 1) if count else 0)))

    @classmethod
    def of(cls, times: Times, share: float, longest: float) -> _Limits:
        times = np.asarray(times, np.float64)
        if not 0 < share <= 1 or longest <= 0:
            raise ValueError(f"share {share} and longest {longest}, expected a share in (0, 1] and seconds above 0")
        middle = times.reshape(-1, 2).mean(axis=1)
        if times.shape != (len(middle), 2) or not np.isfinite(times).all() or (np.diff(middle) < 0).any():
            raise ValueError(f"times of shape {times.shape}, expected (frames, 2), rising")
        far = np.searchsorted(middle, middle + longest + 1e-9, side="right") - 1
        reach = np.maximum(far, np.arange(len(middle)) + 1)
        return cls(len(middle), math.ceil(share * len(middle) - 1e-9), reach.tolist())

    def _steps(self, first: int, last: int) -> int:
        """Key frames that are needed between two for no gap to be too long."""
        steps = 0
        while self.reach[first] < last:
            first, steps = self.reach[first], steps + 1
        return steps

    def chosen(self, wanted: Iterable[int], apart: int = 1) -> np.ndarray:
        """The first of ``wanted`` that fit: ``budget`` frames, with room kept for those that long gaps need."""
        chosen = sorted({0, self.count - 1})
        spare = self.budget - len(chosen) - self._steps(0, self.count - 1)
        wanted = list(wanted)
        for distance in dict.fromkeys((apart, 1)):
            for frame in wanted:
                if spare <= 0 and len(chosen) >= self.budget:
                    break
                at = bisect_left(chosen, frame)
                if not at or chosen[at] - frame < distance or frame - chosen[at - 1] < distance:
                    continue
                before, after = chosen[at - 1], chosen[at]
                saved = self._steps(before, after) - self._steps(before, frame) - self._steps(frame, after)
                if spare + saved < 1:
                    continue
                spare += saved - 1
                insort(chosen, frame)
        self._fill(chosen)
        return np.array(chosen, np.int64)

    def _fill(self, chosen: list[int]) -> None:
        """Divide what gaps are too long; then the longest, until the budget is spent."""
        for before, after in list(pairwise(chosen)):
            steps = self._steps(before, after)
            even = np.round(np.linspace(before, after, steps + 2)).astype(np.int64).tolist()
            if any(self.reach[a] < b for a, b in pairwise(even)):
                even = [before]
                for _ in range(steps):
                    even.append(self.reach[even[-1]])
            for frame in even[1 : steps + 1]:
                insort(chosen, frame)
        while len(chosen) < self.budget:
            gaps = np.diff(chosen)
            widest = int(gaps.argmax())
            chosen.insert(widest + 1, chosen[widest] + int(gaps[widest]) // 2)
