"""Paths through similarity maps, and boxes of segments (in frames, half open), for the aligners."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from videomatch.localisation.intervals import Segments
from videomatch.metrics.segments import ENDS, SCORE

Boxes = Float[np.ndarray, "boxes 4"]
Overlaps = Float[np.ndarray, "left right"]
#: the box of a segment, and its score
Found = tuple[float, float, float, float, float]
#: frames by which a match may be off a segment's line
BESIDE = 1


def checked(similarity: np.ndarray) -> np.ndarray:
    """The map as contiguous float64, not copied if it is; a ValueError unless it has two axes and finite values."""
    values = np.ascontiguousarray(similarity, np.float64)
    if values.ndim != 2:
        raise ValueError(f"a similarity map of shape {values.shape}, expected (query frames, reference frames)")
    if not np.isfinite(values).all():
        q, r = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"the similarity of query frame {q} and reference frame {r} is {values[q, r]}")
    return values


def segments(found: Sequence[Found], *, published: bool) -> Segments:
    """The result of an aligner: ends are half open, or as published last frames."""
    table = np.array(found, np.float64).reshape(-1, 5)
    if published:
        table[:, ENDS] -= 1
    return table


def iou(boxes: Boxes, others: Boxes) -> Overlaps:
    """Intersection over union of all with all."""
    both, area, other_area = _areas(boxes, others)
    return both / np.maximum(area + other_area - both, 1e-9)


def containment(boxes: Boxes, others: Boxes) -> Overlaps:
    """Intersection over the smaller area of all with all."""
    both, area, other_area = _areas(boxes, others)
    return both / np.minimum(area, other_area)


def nms(
    boxes: Boxes,
    score: Float[np.ndarray, " boxes"],
    max_overlap: float,
    overlap: Callable[[Boxes, Boxes], Overlaps] = iou,
) -> Int[np.ndarray, " kept"]:
    """Positions of the boxes that no kept box of higher score overlaps by more than ``max_overlap``, by falling score;
    of equal scores the first wins."""
    order = np.argsort(-score, kind="stable")
    if len(order) < 2:
        return order
    boxes = boxes[order]
    differs = overlap(boxes, boxes) <= max_overlap
    remaining, kept = np.ones(len(order), bool), []
    for number in range(len(order)):
        if remaining[number]:
            kept.append(number)
            remaining &= differs[number]
    return order[kept]


def _areas(boxes: Boxes, others: Boxes) -> tuple[Overlaps, np.ndarray, np.ndarray]:
    """Areas of the intersections of all with all, of the boxes ``(N, 1)``, and of the others ``(M,)``."""
    (a, b, c, d), (e, f, g, h) = left, right = boxes.T[..., None], others.T
    shared = np.maximum(a, e), np.minimum(b, f), np.maximum(c, g), np.minimum(d, h)
    both, area, other_area = (np.maximum(b - a, 0) * np.maximum(d - c, 0) for a, b, c, d in (shared, left, right))
    return both, area, other_area


def line_sums(
    values: Float[np.ndarray, "query_frames reference_frames"],
    seconds: Float[np.ndarray, " query_frames"],
    boxes: Float[np.ndarray, "segments columns"],
) -> Float[np.ndarray, " segments"]:
    """Of each box, in frames, the sum along its diagonal of the values above 0, times the ``seconds`` of their query
    frames: of each of these the largest value within :data:`BESIDE` frames of the line."""
    sums = []
    for start, end, first, last in boxes[:, :SCORE].tolist():
        rows = np.arange(math.ceil(start - 0.5), max(math.ceil(end - 0.5), math.ceil(start - 0.5) + 1))
        rows = rows[rows < len(values)]
        columns = np.floor(first + (rows + 0.5 - start) * ((last - first) / max(end - start, 1.0))).astype(int)
        beside = np.clip(columns + np.arange(-BESIDE, BESIDE + 1)[:, None], 0, values.shape[1] - 1)
        sums.append(float(np.maximum(values[rows, beside].max(0), 0) @ seconds[rows]))
    return np.array(sums, np.float64)


def along(
    values: np.ndarray,
    paths: Iterable[np.ndarray],
    *,
    straight: int,
    gap: int,
    min_similarity: float,
    mean_similarity: float,
    min_length: int,
    published: bool,
) -> Segments:
    """The parts of paths (cells ``(L, 2)`` in the order of time) through a map that are segments: a path is cut where
    it runs ``straight`` along one axis or has a ``gap``, and trimmed to matches, or as published by ``straight`` alone.
    """
    found = []
    for path in paths:
        parts = straight_runs(path, straight)
        if not published:
            is_match = values[path[:, 0], path[:, 1]] >= min_similarity
            parts = [(s + a, s + b) for s, e in parts if e > s for a, b in matched_parts(is_match[s:e], gap)]
        for start, end in parts:
            if end - start <= min_length:
                continue
            cells = path[start:end]
            mean = float(values[cells[:, 0], cells[:, 1]].mean())
            (q_low, r_low), (q_high, r_high) = cells[0].tolist(), cells[-1].tolist()
            if mean > mean_similarity and min(q_high - q_low, r_high - r_low) > min_length:
                found.append((q_low, q_high + 1, r_low, r_high + 1, mean))
    return segments(found, published=published)


def straight_runs(path: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """The parts ``[start, end)`` of a path ``(L, 2)`` between runs along one axis of more than ``longest`` cells. As
    published, between two runs that share a corner there is a part of negative length."""
    runs = []
    for axis in (0, 1):
        still = np.r_[False, path[1:, axis] == path[:-1, axis], False]
        begin, end = np.flatnonzero(still[1:] & ~still[:-1]), np.flatnonzero(still[:-1] & ~still[1:])
        runs += [(int(b), int(e) + 1) for b, e in zip(begin, end, strict=True) if e + 1 - b > longest]
    parts, at = [], 0
    for begin, end in sorted(runs, key=lambda run: run[0]):  # stable: of two that start together, the query's first
        if begin > 0:
            parts.append((at, begin))
        at = end
    if at != len(path):
        parts.append((at, len(path)))
    return parts


def matched_parts(matched: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """Parts ``[start, end)`` of a path that begin and end with a match and have at most ``gap`` others in a row."""
    at = np.flatnonzero(matched)
    runs = np.split(at, np.flatnonzero(np.diff(at) > gap + 1) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]


def skewed(shape: tuple[int, int], dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Zeros whose rows are the anti-diagonals of a matrix, whose cells do not depend on each other in dynamic
    programming; and the matrix as a view of them. Cell (i, j) of the matrix is cell (i + j, i) of the memory."""
    rows, columns = shape
    memory = np.zeros((rows + columns - 1, rows), dtype)
    across, down = memory.strides
    matrix = np.lib.stride_tricks.as_strided(memory, shape, (across + down, across))
    return memory, matrix


def diagonals(shape: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    """The anti-diagonals of the matrix without its first row and column: number, first row and last row + 1."""
    rows, columns = shape
    for number in range(2, rows + columns - 1):
        first, stop = max(1, number - columns + 1), min(rows, number)
        if first < stop:
            yield number, first, stop
