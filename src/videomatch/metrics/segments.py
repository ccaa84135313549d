"""Localisation of copied segments: precision, recall and F1 as VCSL defines them.

Segments are ``(N, 4)`` boxes in seconds, in the order of :data:`TIMES` (VCSL's files: start, start, end, end), half
open. A fifth column (score) is ignored.

One pair of videos (He et al., A Large-scale Comprehensive Dataset and Copy-overlap Aware Evaluation Protocol for
Segment-level Video Copy Detection, CVPR 2022; ``vcsl/metric.py``)
    A prediction and a true segment meet if they overlap on *both* axes. On one axis, precision is the length of every
    prediction that its meeting true segments cover (their union), summed, over the predictions' lengths, summed; recall
    is the same with the roles swapped. Both are the product of their two axes, so half a segment costs three quarters
    of its recall, and swapped boxes score 0. Denominators are 1e-6 s larger, as published.

Many pairs (what the papers print)
    Precision is the mean over pairs with a prediction, recall over pairs with a true segment, F1 of the two. Pairs that
    are no copies enter precision only, with 0, if something was predicted. FRR is the share of copies without a
    prediction, FAR the share of other pairs with one. All are fractions of 1.

By kind of segment: duration, speed, edit (ours)
    In bucket b, over pairs with a true segment of b: recall is over the true segments of b (every prediction may cover
    them); precision over the predictions that meet a segment of b or no true segment at all, covered by true segments
    of any kind. So a false alarm costs each kind that its pair has, and a prediction of another kind costs nothing.

Repeated predictions and a segment in several pieces cost nothing. A box of negative or no length would make precision
exceed 1: :func:`check` refuses it (the published test labels hold 46, see ``corpora/vcsl.py``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

Segments = Float[np.ndarray, "segments columns"]

#: columns of an array of segments ``(N, 4 or 5)``, the four times among them, and their numbers
COLUMNS = ("query_start", "query_end", "reference_start", "reference_end", "score")
TIMES = COLUMNS[:4]
QUERY_START, QUERY_END, REFERENCE_START, REFERENCE_END, SCORE = range(5)
#: start and end on each axis; starts and ends of both axes; the order of the columns with query and reference swapped
QUERY, REFERENCE = slice(0, 2), slice(2, 4)
STARTS, ENDS = slice(0, 4, 2), slice(1, 4, 2)
SWAPPED = (REFERENCE_START, REFERENCE_END, QUERY_START, QUERY_END)

#: seconds in the published denominators
EPSILON = 1e-6
#: upper ends of the buckets of duration on the query side, s; they belong to their bucket
DURATIONS = (5.0, 10.0, 30.0, 60.0)
#: upper ends of the buckets of speed: reference seconds per query second
SPEEDS = (0.67, 0.9, 1.1, 1.5)


#: of every pair: precision (1 without a prediction), recall (1 without a true segment), and how many segments were
#: predicted and are true
Scores = Float[np.ndarray, "pairs 4"]


def check(segments: np.ndarray, where: str = "segments") -> np.ndarray:
    """The four times of segments as float64; a ValueError unless they are finite, each end after its start."""
    boxes = np.asarray(segments, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
        if boxes.size == 0:
            return np.zeros((0, 4))
        raise ValueError(f"{where} of shape {boxes.shape}, expected (N, 4), or (N, 5) with a score")
    boxes = boxes[:, :SCORE]
    # the comparison is false for nan too
    odd = np.flatnonzero(~(boxes[:, ENDS] > boxes[:, STARTS]).all(axis=1) | ~np.isfinite(boxes).all(axis=1))
    if len(odd):
        raise ValueError(
            f"{where}: segment {odd[0]} is {boxes[odd[0]].tolist()}, expected query start < end, reference start < end"
        )
    return boxes


def union_length(start: np.ndarray, end: np.ndarray) -> float:
    """Length of the union of intervals ``(N,)``; those with end <= start add nothing."""
    if not len(start):
        return 0.0
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum(start, end)[order]
    begin = np.maximum(start[1:], np.maximum.accumulate(end)[:-1])  # what earlier ones reach is counted already
    return float(end[0] - start[0] + np.maximum(end[1:] - begin, 0).sum())


def overlaps(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which of ``left (N, 4)`` and ``right (M, 4)`` overlap on both axes, (N, M)."""
    start, end = intersections(left, right)
    return np.asarray((end > start).all(axis=2))


def intersections(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of what ``left (N, 4)`` and ``right (M, 4)`` share on both axes, (N, M, 2) each."""
    start = np.maximum(left[:, None, STARTS], right[None, :, STARTS])
    return start, np.minimum(left[:, None, ENDS], right[None, :, ENDS])


def pair(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Precision and recall of one pair of videos, of ``(N, 4)`` and ``(M, 4)`` segments (:func:`check`)."""
    predicted, truth = check(predicted, "predicted segments"), check(truth, "true segments")
    if not len(predicted) or not len(truth):
        return float(not len(predicted)), float(not len(truth))
    # a pair has few segments: lists are some ten times faster than arrays here
    left, right = predicted.tolist(), truth.tolist()
    return _covered(left, right), _covered(right, left)


def _covered(boxes: list[list[float]], others: list[list[float]]) -> float:
    """Share of the boxes' lengths that the others which meet them cover, product of the axes."""
    covered = [0.0, 0.0]
    for a, b, c, d in boxes:
        met = [o for o in others if o[0] < b and a < o[1] and o[2] < d and c < o[3]]
        if met:
            covered[0] += _union(sorted((max(o[0], a), min(o[1], b)) for o in met))
            covered[1] += _union(sorted((max(o[2], c), min(o[3], d)) for o in met))
    lengths = sum(b - a for a, b, _, _ in boxes), sum(d - c for _, _, c, d in boxes)
    return covered[0] / (lengths[0] + EPSILON) * (covered[1] / (lengths[1] + EPSILON))


def _union(intervals: list[tuple[float, float]]) -> float:
    """Length of the union of sorted intervals."""
    total, reach = 0.0, -math.inf
    for start, end in intervals:
        if end > reach:
            total += end - max(start, reach)
            reach = end
    return total


def per_pair(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Scores:
    """Scores of many pairs, each ``(predicted, truth)``, in their order."""
    rows = [(*pair(predicted, truth), len(predicted), len(truth)) for predicted, truth in pairs]
    return np.array(rows, np.float64).reshape(-1, 4)


def overall(scores: Scores) -> dict[str, float]:
    """``precision``, ``recall``, ``F1``, ``FRR`` and ``FAR`` of the pairs; those over nothing are 0."""
    if not len(scores):
        raise ValueError("no pair: there is nothing to measure")
    predicted, relevant = (scores[:, 2:] > 0).T
    precision = float(scores[predicted, 0].mean()) if predicted.any() else 0.0
    recall = float(scores[relevant, 1].mean()) if relevant.any() else 0.0
    missed, alarmed = int((relevant & ~predicted).sum()), int((predicted & ~relevant).sum())
    frr, far = missed / max(int(relevant.sum()), 1), alarmed / max(int((~relevant).sum()), 1)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return {"precision": precision, "recall": recall, "F1": f1, "FRR": frr, "FAR": far}


def by_bucket(
    pairs: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str | Sequence[str]]]],
) -> dict[str, tuple[Int[np.ndarray, " pairs"], Scores]]:
    """The numbers of the pairs with a true segment of each bucket, and their scores in it, from predicted (N, 4), truth
    (M, 4) and the bucket or buckets of every true segment of each pair."""
    found: dict[str, list[tuple[int, float, float, int, int]]] = {}
    for number, (predicted, truth, labels) in enumerate(pairs):
        predicted, truth = check(predicted, "predicted segments"), check(truth, "true segments")
        kinds = [{label} if isinstance(label, str) else set(label) for label in labels]
        meet = overlaps(predicted, truth)
        for bucket in set().union(*kinds):
            in_bucket = np.array([bucket in kind for kind in kinds])
            recall = pair(predicted, truth[in_bucket])[1]
            counted = predicted[meet[:, in_bucket].any(axis=1) | ~meet.any(axis=1)]
            precision = pair(counted, truth)[0]
            found.setdefault(bucket, []).append((number, precision, recall, len(counted), int(in_bucket.sum())))
    columns = {bucket: np.array(rows) for bucket, rows in sorted(found.items())}
    return {bucket: (rows[:, 0].astype(np.int64), rows[:, 1:]) for bucket, rows in columns.items()}


def buckets(truth: np.ndarray) -> dict[str, list[str]]:
    """``duration`` (in the query) and ``speed``: the bucket of every segment, by names that sort in their order."""
    boxes = check(truth, "true segments")
    query, reference = (boxes[:, ENDS] - boxes[:, STARTS]).T
    result = {}
    for kind, values, ends, unit in (("duration", query, DURATIONS, " s"), ("speed", reference / query, SPEEDS, "x")):
        edges = [f"{end:g}" for end in ends]
        names = [f"to {edges[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(edges)), f"over {edges[-1]}"]
        result[kind] = [f"{at + 1}: {names[at]}{unit}" for at in np.searchsorted(ends, values, side="left")]
    return result


def by_place(
    predicted: Sequence[np.ndarray], truth: Sequence[np.ndarray], edits: Sequence[Sequence[Sequence[str]]] | None = None
) -> dict[str, tuple[Int[np.ndarray, " pairs"], Scores]]:
    """Numbers and scores of all pairs (``overall``), and :func:`by_bucket` (``duration/…``, ``speed/…``, ``edit/…`` if
    given) of those of at least one pair."""
    pairs = list(zip(predicted, truth, strict=True))
    result = {"overall": (np.arange(len(pairs)), per_pair(pairs))}
    labels: list[dict[str, Any]] = [buckets(boxes) for boxes in truth]
    if edits is not None:
        labels = [of_pair | {"edit": edit} for of_pair, edit in zip(labels, edits, strict=True)]
    for kind in labels[0]:
        found = by_bucket((*pair, of_pair[kind]) for pair, of_pair in zip(pairs, labels, strict=True))
        result |= {f"{kind}/{bucket}": scores for bucket, scores in found.items()}
    return result


def localisation(places: Mapping[str, tuple[np.ndarray, Scores]]) -> dict[str, dict[str, float]]:
    """The metrics of :func:`by_place`'s scores; of a bucket without rates, and with its numbers of true ``segments``
    and of ``pairs``."""
    result = {place: overall(scores) for place, (_, scores) in places.items()}
    for place, (_, scores) in places.items():
        if place != "overall":
            del result[place]["FRR"], result[place]["FAR"]
            result[place] |= {"segments": int(scores[:, 3].sum()), "pairs": len(scores)}
    return result
