"""Key frames that stand for all frames as well as so many can: an exact choice, by dynamic programming.

A video is cut into ``budget`` runs of frames, each with one of its frames as key frame. A run costs the sum over its
frames of one minus the cosine with its key frame, in units of :data:`TEMPERATURE`, less what that frame has as a score;
the choice of all runs and key frames that costs least is found exactly. (k-medoids of a sequence; without scores, the
optimum of what :func:`videomatch.localisation.keyframes.coverage` measures, for runs.)

A trained scorer learns those scores through the mean over all choices, each as likely as e to the minus its cost
(:mod:`videomatch.models._soft_cover`); this is the likeliest one.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

#: cosine that weighs as much as a score of 1
TEMPERATURE = 0.05
#: a run has this many times the frames of an even one at most
UNEVEN = 6
#: frames that are divided at once; longer videos part by part, each with its share of key frames
BLOCK = 4096


def longest_run(budget: int, count: int) -> int:
    """Frames of a run at most, where ``budget`` key frames stand for ``count`` frames."""
    return min(count, math.ceil(UNEVEN * count / budget))


def cover(
    unit: Float[np.ndarray, "frames D"],
    reach: Int[np.ndarray, " frames"],
    budget: int,
    scores: Float[np.ndarray, " frames"] | None = None,
) -> Int[np.ndarray, " keys"]:
    """Positions of the key frames, rising.

    Args:
        unit: unit vectors.
        reach: for every frame the last one that a run which begins there may hold.
        budget: number of key frames; more where ``reach`` asks for it.
        scores: of frames, in favour of being one; only differences count.
    """
    count = len(unit)
    scores = np.zeros(count) if scores is None else np.asarray(scores, np.float64)
    edges = np.linspace(0, count, max(1, math.ceil(count / BLOCK)) + 1).round().astype(int)
    shares = np.diff(np.round(edges * (budget / count)).astype(int))
    parts = []
    for start, end, share in zip(edges[:-1].tolist(), edges[1:].tolist(), shares.tolist(), strict=True):
        own = np.minimum(reach[start:end], end - 1) - start
        kept = min(max(share, _fewest(own)), end - start)
        parts.append(start + _block(unit[start:end], own, kept, scores[start:end]))
    return np.concatenate(parts)


def _fewest(reach: np.ndarray) -> int:
    """Runs that are needed at least."""
    at = runs = 0
    while at < len(reach):
        at, runs = int(reach[at]) + 1, runs + 1
    return runs


def _block(unit: np.ndarray, reach: np.ndarray, budget: int, scores: np.ndarray) -> np.ndarray:
    count = len(unit)
    lengths = reach - np.arange(count) + 1  # frames of the longest run from each frame on
    most = int(min(lengths.max(), max(longest_run(budget, count), 1)))
    if _fewest(np.minimum(reach, np.arange(count) + most - 1)) > budget:
        most = int(lengths.max())
    cost, key = _runs(unit, scores, most)
    cost[np.arange(1, most + 1) > lengths[:, None]] = np.inf
    # total[b]: of the best cut of the first b frames into so many runs; a run of l frames from a on ends at b = a + l
    ends = np.arange(count + 1)[:, None]
    starts = ends - np.arange(1, most + 1)
    outside = starts < 0
    starts = np.maximum(starts, 0)
    into = np.where(outside, np.inf, cost[np.minimum(starts, count - 1), np.arange(most)])
    total = np.where(ends[:, 0] == 0, 0.0, np.inf)
    came = np.zeros((budget, count + 1), np.int32)
    for number in range(budget):
        reached = total[starts] + into
        came[number] = reached.argmin(axis=1)
        total = np.take_along_axis(reached, came[number][:, None], axis=1)[:, 0]
    kept, end = [], count
    for number in range(budget - 1, -1, -1):
        length = int(came[number, end]) + 1
        end -= length
        kept.append(end + int(key[end, length - 1]))
    return np.array(kept[::-1], np.int64)


def _runs(unit: np.ndarray, scores: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Cost of the run of every length, 1 to ``most``, from every frame on, and which of its frames is its key frame;
    infinite where the video ends before."""
    count = len(unit)
    cost, key = np.full((count, most), np.inf), np.zeros((count, most), np.int32)
    filled = np.concatenate([unit, np.zeros((most, unit.shape[1]), unit.dtype)])
    bonus = np.concatenate([TEMPERATURE * scores, np.full(most, -np.inf)])
    step = max(1, 2**22 // (most * most))
    for start in range(0, count, step):
        at = np.arange(start, min(start + step, count))[:, None] + np.arange(most)
        rows = filled[at]
        lost = np.cumsum(1.0 - rows @ rows.transpose(0, 2, 1), axis=1)  # (starts, frames of the run, key frames)
        lost = lost - bonus[at][:, None]
        lost[:, np.triu(np.ones((most, most), bool), 1)] = np.inf  # a key frame is one of the run's
        key[at[:, 0]] = lost.argmin(axis=2)
        cost[at[:, 0]] = lost.min(axis=2)
    cost[np.arange(count)[:, None] + np.arange(most) >= count] = np.inf
    return cost, key
