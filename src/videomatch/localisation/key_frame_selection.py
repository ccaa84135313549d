"""Key frames: select a few frames of a video, and the interval that each of them covers.

Of one video's frames ``features (N, D)`` (only directions count) with ``times (N, 2)``, ``ceil(share * N)`` are key
frames: the first, the last, and others at most ``longest`` seconds apart (where frames are); with ``coverage``, one
covers a run of at most that length instead. A budget too small for that is exceeded, by all methods alike.

uniform      equal steps
shots        cut the video at its largest changes; the first and the middle frame of each shot
k_center     repeatedly the frame least similar to all selected so far (Gonzalez 1985)
differences  the largest local maxima of the change from frame to frame, apart from one another
coverage     exact k-medoids of a sequence, by dynamic programming: the cheapest cut into ``budget`` runs with one key
             frame each. A run costs the sum over its frames of one minus the cosine with its key frame, divided by
             :data:`TEMPERATURE`, less the score of that frame. It is the mode of the distribution that a scorer is
             trained with (:func:`videomatch.models.key_frames.soft_assignment`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from videomatch.common.vectors import unit_rows

METHODS = ("uniform", "shots", "k_center", "differences", "coverage")
#: of all frames; seconds between key frames
SHARE, LONGEST = 0.15, 10.0
#: cosine that weighs as much as a score of 1
TEMPERATURE = 0.05
#: a run has at most this many times the mean number of frames
MAX_UNEVENNESS = 6
#: frames between which runs are optimised at once; longer videos in blocks, each with its part of the budget
BLOCK = 4096
#: cosines by which frames must differ, in sum, for a boundary elsewhere than halfway
MIN_DIFFERENCE = 0.05

Features = Float[np.ndarray, "frames D"]
Times = Float[np.ndarray, "frames 2"]
Positions = Int[np.ndarray, " keys"]
Scores = Float[np.ndarray, " frames"]


def select(
    features: Features,
    times: Times,
    *,
    method: str = "uniform",
    scores: Scores | None = None,
    share: float = SHARE,
    longest: float = LONGEST,
) -> Positions:
    """Positions of the key frames of one video by one of :data:`METHODS`. ``scores`` are of all frames, from a trained
    scorer, for ``coverage``; only differences count."""
    if method not in METHODS:
        raise ValueError(f"no method {method!r} to select key frames; there are {', '.join(METHODS)}")
    limits, count = _Limits(times, share, longest), len(times)
    if scores is not None and not np.isfinite(scores).all():
        raise ValueError("a score is not finite, expected one finite score per frame")
    budget = limits.budget
    if budget >= count:
        return np.arange(count)
    if method == "uniform":
        return limits.selected(np.round(np.linspace(0, count - 1, budget)).astype(np.int64).tolist())
    unit = unit_rows(features)
    if method == "coverage":
        return _covering(unit, limits, np.zeros(count) if scores is None else np.asarray(scores, np.float64))
    if method == "k_center":
        return limits.selected(_farthest(unit, budget))
    change = np.r_[0.0, 1 - np.einsum("nd,nd->n", unit[1:], unit[:-1], dtype=np.float64)]  # from the frame before
    if method == "differences":
        around = np.r_[-np.inf, change, -np.inf]
        is_peak = (change >= around[:-2]) & (change > around[2:])  # local maxima come before all others
        order = np.argsort(-(change + np.where(is_peak, change.max() + 1, 0)), kind="stable").tolist()
        return limits.selected(order, spacing=max(1, math.floor(0.5 * count / budget)))
    cuts = np.sort(np.argsort(-change[1:], kind="stable")[: max(1, budget // 2) - 1] + 1)
    starts, ends = np.r_[0, cuts], np.r_[cuts, count]
    return limits.selected([*starts.tolist(), *((starts + ends) // 2).tolist()])


def _covering(unit: Features, limits: _Limits, scores: Scores) -> Positions:
    """The cheapest selection, block by block."""
    count = len(unit)
    edges = np.linspace(0, count, max(1, math.ceil(count / BLOCK)) + 1).round().astype(int)
    budgets = np.diff(np.round(edges * (limits.budget / count)).astype(int))
    blocks = []
    for start, end, budget in zip(edges[:-1].tolist(), edges[1:].tolist(), budgets.tolist(), strict=True):
        lengths = np.minimum(limits.last[start:end], end - 1) - np.arange(start, end) + 1
        budget = min(max(budget, _min_runs(lengths)), end - start)
        blocks.append(start + cheapest_runs(unit[start:end], lengths, budget, scores[start:end]))
    return np.concatenate(blocks)


def cheapest_runs(unit: Features, lengths: Int[np.ndarray, " frames"], budget: int, scores: Scores) -> Positions:
    """Positions of the key frames of the cheapest cut of unit vectors into ``budget`` runs, by dynamic programming.
    ``lengths`` are the max frames of a run from each frame, within the video; ``budget`` is enough for these."""
    count = len(unit)
    longest = int(min(lengths.max(), max_run(budget, count)))
    if _min_runs(np.minimum(lengths, longest)) > budget:
        longest = int(lengths.max())
    cost, key = _run_costs(unit, scores, longest)
    cost[np.arange(1, longest + 1) > lengths[:, None]] = np.inf
    # total[b]: of the cheapest cut of the first b frames; a run of l frames from frame a on ends at b = a + l
    ends = np.arange(count + 1)[:, None]
    starts = ends - np.arange(1, longest + 1)
    is_outside = starts < 0
    starts = np.maximum(starts, 0)
    into = np.where(is_outside, np.inf, cost[np.minimum(starts, count - 1), np.arange(longest)])
    total = np.where(ends[:, 0] == 0, 0.0, np.inf)
    best_length = np.zeros((budget, count + 1), np.int32)
    for number in range(budget):
        reached = total[starts] + into
        best_length[number] = reached.argmin(axis=1)
        total = np.take_along_axis(reached, best_length[number][:, None], axis=1)[:, 0]
    keys, end = [], count
    for of_run in best_length[::-1]:
        length = int(of_run[end]) + 1
        end -= length
        keys.append(end + int(key[end, length - 1]))
    return np.array(keys[::-1], np.int64)


def max_run(budget: int, count: int) -> int:
    """Max frames that a key frame covers, with ``budget`` key frames for ``count`` frames."""
    return min(count, math.ceil(MAX_UNEVENNESS * count / budget))


def assigned_intervals(
    positions: Positions, times: Times, *, features: Features | None = None
) -> Float[np.ndarray, "keys 2"]:
    """The interval ``[start, end)`` that each key frame covers, s; their union is the whole video. By ``features`` the
    boundary of two key frames is where the frames between become more similar to the later one, so at a cut if there is
    one; without, or where all are similar, halfway."""
    if not len(positions):
        return np.zeros((0, 2))
    selected = times[positions]
    between = (selected[:-1, 1] + selected[1:, 0]) / 2
    if features is not None:
        unit = unit_rows(features)
        for gap, (before, after) in enumerate(pairwise(positions.tolist())):
            rows = unit[before : after + 1]
            sums = np.cumsum(rows @ rows[0] - rows @ rows[-1])[:-1]
            if sums.max() - sums.min() >= MIN_DIFFERENCE:
                boundary = before + int(sums.argmax()) + 1
                between[gap] = (times[boundary - 1, 1] + times[boundary, 0]) / 2
    return np.stack([np.r_[min(0.0, float(times[0, 0])), between], np.r_[between, times[-1, 1]]], axis=1)


def pooled(features: Features, times: Times, intervals: Float[np.ndarray, "keys 2"]) -> Float[np.ndarray, "keys D"]:
    """The mean direction of the frames in each interval of :func:`assigned_intervals`, unit vectors."""
    unit = unit_rows(features)
    owner = np.searchsorted(intervals[:-1, 1], times.mean(axis=1), side="right")
    total = np.zeros((len(intervals), unit.shape[1]))
    np.add.at(total, owner, unit)
    return unit_rows(total).astype(unit.dtype)


def _farthest(unit: np.ndarray, budget: int) -> list[int]:
    """The ends, then repeatedly the frame least similar to those before it."""
    order = [0, len(unit) - 1]
    nearest = np.maximum(unit @ unit[0], unit @ unit[-1])
    while len(order) < budget:
        order.append(int(nearest.argmin()))
        np.maximum(nearest, unit @ unit[order[-1]], out=nearest)
    return order


def _min_runs(lengths: np.ndarray) -> int:
    """The min number of runs, with the longest possible run from each frame."""
    start = runs = 0
    while start < len(lengths):
        start, runs = start + int(lengths[start]), runs + 1
    return runs


def _run_costs(unit: np.ndarray, scores: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Cost of the run of every length from every frame, and which of its frames is the key frame: (frames, lengths)
    each, for runs that end with the video at the latest."""
    count = len(unit)
    cost, key = np.full((count, longest), np.inf), np.zeros((count, longest), np.int32)
    padded = np.concatenate([unit, np.zeros((longest, unit.shape[1]), unit.dtype)])
    bonus = np.concatenate([TEMPERATURE * scores, np.full(longest, -np.inf)])
    is_beyond = np.triu(np.ones((longest, longest), bool), 1)  # the key frame is one of the run's frames
    step = max(1, 2**22 // longest**2)
    for start in range(0, count, step):
        at = np.arange(start, min(start + step, count))[:, None] + np.arange(longest)
        rows = padded[at]
        costs = np.cumsum(1.0 - rows @ rows.transpose(0, 2, 1), axis=1)  # (starts, frames of the run, key frames)
        costs = costs - bonus[at][:, None]
        costs[:, is_beyond] = np.inf
        key[at[:, 0]] = costs.argmin(axis=2)
        cost[at[:, 0]] = costs.min(axis=2)
    return cost, key


class _Limits:
    """The constraints of a selection: ``budget`` key frames, the two ends, and for every frame the last one within
    ``longest`` seconds, and the last one that may be the next key frame (``reach``)."""

    def __init__(self, times: Times, share: float, longest: float) -> None:
        times = np.asarray(times, np.float64)
        if not 0 < share <= 1 or longest <= 0:
            raise ValueError(f"share {share} and longest {longest}, expected a share in (0, 1] and seconds above 0")
        middle = times.reshape(-1, 2).mean(axis=1)
        if times.shape != (len(middle), 2) or not np.isfinite(times).all() or (np.diff(middle) < 0).any():
            raise ValueError(f"times of shape {times.shape}, expected (frames, 2), rising")
        self.last = np.searchsorted(middle, middle + longest + 1e-9, side="right") - 1
        self.count = count = len(middle)
        self.reach: list[int] = np.maximum(self.last, np.arange(count) + 1).tolist()
        needed = min(count, 2) + (self._steps(0, count - 1) if count else 0)
        self.budget = min(count, max(math.ceil(share * count - 1e-9), needed))

    def _steps(self, first: int, last: int) -> int:
        """Min number of key frames between two."""
        steps = 0
        while self.reach[first] < last:
            first, steps = self.reach[first], steps + 1
        return steps

    def selected(self, wanted: Iterable[int], spacing: int = 1) -> np.ndarray:
        """``budget`` frames: the first of ``wanted`` that fit, and others in the gaps."""
        selected = sorted({0, self.count - 1})
        spare = self.budget - len(selected) - self._steps(0, self.count - 1)
        wanted = list(wanted)
        for distance in dict.fromkeys((spacing, 1)):
            for frame in wanted:
                if spare <= 0 and len(selected) >= self.budget:
                    break
                at = bisect_left(selected, frame)
                if not at or selected[at] - frame < distance or frame - selected[at - 1] < distance:
                    continue
                before, after = selected[at - 1], selected[at]
                saved = self._steps(before, after) - self._steps(before, frame) - self._steps(frame, after)
                if spare + saved < 1:
                    continue
                spare += saved - 1
                insort(selected, frame)
        # divide the gaps that are too long; then repeatedly the longest, up to the budget
        for before, after in list(pairwise(selected)):
            steps = self._steps(before, after)
            even = np.round(np.linspace(before, after, steps + 2)).astype(np.int64).tolist()
            if any(self.reach[a] < b for a, b in pairwise(even)):
                even = [before]
                for _ in range(steps):
                    even.append(self.reach[even[-1]])
            for frame in even[1 : steps + 1]:
                insort(selected, frame)
        while len(selected) < self.budget:
            gaps = np.diff(selected)
            widest = int(gaps.argmax())
            selected.insert(widest + 1, selected[widest] + int(gaps[widest]) // 2)
        return np.array(selected, np.int64)
