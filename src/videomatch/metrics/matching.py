"""Average precision of copies over a whole collection: the two tracks of the Video Similarity Challenge 2022.

What goes in
    Predictions with scores (higher is more certain), each of a pair of videos that is named by any integer; segments in
    seconds, columns ``query_start, query_end, reference_start, reference_end``, half open.

Matching track (Pizzi et al., The 2023 Video Similarity Dataset and Challenge; ``match_metric`` of its public code)
    Predictions are taken in by falling score. At every score, on each axis and for each pair: the length of the union
    of the pair's predictions, and of its part inside the union of those true segments that overlap (on *both* axes)
    some prediction of the pair. Sums over all pairs give ``P_axis`` = inside / predicted, ``R_axis`` = inside / length
    of all true segments (union by pair). ``P = sqrt(P_query P_reference)``, R likewise, ``AP = sum of P dR``.
    Unlike VCSL's: pooled lengths instead of means over pairs, a geometric mean instead of a product.

Descriptor track
    ``micro_ap``: the average precision of all pairs in one list; pairs that were not found count as never retrieved.

Ties
    Equal scores are one threshold: they enter together. (``pairwise_simple_ap`` of the published code depends on their
    order and is no target.)

Units
    Fractions of 1, higher is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from videomatch.metrics.segments import check, union_length


@dataclass(frozen=True)
class Curve:
    """Precision and recall at every score at which recall grows, by falling score; (T,) each."""

    precision: np.ndarray
    recall: np.ndarray
    score: np.ndarray


def micro_ap(score: Float[np.ndarray, " pairs"], relevant: np.ndarray, total: int) -> float:
    """Average precision over all pairs at once.

    Args:
        score: of every retrieved pair.
        relevant: (pairs,) true where it is a copy.
        total: how many copies there are, found or not.

    Raises:
        ValueError: a score that is not finite, no copy at all, or more found than there are.
    """
    score, relevant = np.asarray(score, np.float64), np.asarray(relevant, bool)
    _scores(score, len(relevant))
    if total < max(1, relevant.sum()):
        raise ValueError(f"{total} copies in all, expected at least 1 and no fewer than the {relevant.sum()} found")
    order = np.argsort(-score, kind="stable")
    last = _last_of_ties(score[order])
    found = np.cumsum(relevant[order])[last]
    precision = found / (last + 1)
    return float((precision * np.diff(found, prepend=0)).sum() / total)


def pair_scores(pair: Int[np.ndarray, " segments"], score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair once, ascending, and the largest score of its segments: pairs of the descriptor track from matches."""
    pairs, key = np.unique(np.asarray(pair), return_inverse=True)
    largest = np.full(len(pairs), -np.inf)
    np.maximum.at(largest, key, np.asarray(score, np.float64))
    return pairs, largest


def matching_ap(
    predicted: Float[np.ndarray, "segments columns"],
    score: np.ndarray,
    pair: np.ndarray,
    truth: Float[np.ndarray, "true columns"],
    truth_pair: np.ndarray,
) -> tuple[float, Curve]:
    """The matching track's average precision, and its curve.

    Args:
        predicted: (N, 4) segments.
        score, pair: (N,) of each.
        truth: (M, 4) true segments.
        truth_pair: (M,) the pair of each, by the same integers.

    Raises:
        ValueError: boxes without extent, scores that are not finite, lengths that do not fit, or no true segment.
    """
    predicted, truth = check(predicted, "predicted segments"), check(truth, "true segments")
    score, pair = np.asarray(score, np.float64), np.asarray(pair)
    _scores(score, len(predicted))
    if len(pair) != len(predicted) or len(truth_pair) != len(truth):
        raise ValueError(
            f"{len(pair)} pairs for {len(predicted)} segments, {len(truth_pair)} for {len(truth)} true ones"
        )
    if not len(truth):
        raise ValueError("no true segment: there is nothing to measure")
    by_pair = _grouped(np.asarray(truth_pair))
    whole = sum(np.array(_lengths(truth[at])) for at in by_pair.values())
    order = np.argsort(-score, kind="stable")
    score, pair, predicted = score[order], pair[order], predicted[order]
    seen: dict[int, list[int]] = {}
    before: dict[int, np.ndarray] = {}  # inside and predicted lengths of every pair, (2, axes)
    sums = np.zeros((2, 2))
    none = np.zeros((0, 4))
    steps, first = [], 0
    for last in _last_of_ties(score).tolist():
        changed = pair[first : last + 1].tolist()
        for at, name in enumerate(changed, start=first):
            seen.setdefault(name, []).append(at)
        for name in set(changed):
            now = _pair_lengths(predicted[seen[name]], truth[by_pair[name]] if name in by_pair else none)
            sums += now - before.get(name, 0.0)
            before[name] = now
        steps.append((np.sqrt(np.prod(sums[0] / sums[1])), np.sqrt(np.prod(sums[0] / whole)), score[last]))
        first = last + 1
    precision, recall, at = np.array(steps).reshape(-1, 3).T
    gain = np.diff(recall, prepend=0.0)
    grew = gain > 0
    return float((precision * gain).sum()), Curve(precision[grew], recall[grew], at[grew])


def _pair_lengths(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of one pair, on each axis: predicted length inside the true segments that some prediction meets, and in all."""
    start = np.maximum(predicted[:, None, 0::2], truth[None, :, 0::2])
    end = np.minimum(predicted[:, None, 1::2], truth[None, :, 1::2])
    met = (end > start).all(axis=2).any(axis=0)
    inside = [float(union_length(start[:, met, a].ravel(), end[:, met, a].ravel())) for a in (0, 1)]
    return np.array([inside, _lengths(predicted)])


def _lengths(boxes: np.ndarray) -> list[float]:
    return [float(union_length(boxes[:, 2 * a], boxes[:, 2 * a + 1])) for a in (0, 1)]


def _grouped(keys: np.ndarray) -> dict[int, np.ndarray]:
    groups: dict[int, list[int]] = {}
    for at, key in enumerate(keys.tolist()):
        groups.setdefault(key, []).append(at)
    return {key: np.array(at) for key, at in groups.items()}


def _last_of_ties(ordered: np.ndarray) -> np.ndarray:
    """Positions of the last of every run of equal scores."""
    return np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) if len(ordered) else np.zeros(0, np.int64)


def _scores(score: np.ndarray, count: int) -> None:
    if score.shape != (count,) or not np.isfinite(score).all():
        raise ValueError(f"scores of shape {score.shape}, expected {count} finite numbers")
