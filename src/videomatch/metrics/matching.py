"""Average precision of copies over a whole collection: the two tracks of the Video Similarity Challenge 2022.

Segments are those of :mod:`videomatch.metrics.segments`, a pair is any integer. Equal scores are one threshold: they
enter together. (``pairwise_simple_ap`` of the published code depends on their order and is no target.)

Matching track (Pizzi et al., The 2023 Video Similarity Dataset and Challenge; ``match_metric`` of its public code)
    Predictions are taken in by falling score. At every score, on each axis and for each pair: the length of the union
    of the pair's predictions, and of its part inside the union of those true segments that overlap (on *both* axes)
    some prediction of the pair. Sums over all pairs give ``P_axis`` = inside / predicted, ``R_axis`` = inside / length
    of all true segments (union by pair). ``P = sqrt(P_query P_reference)``, R likewise, ``AP = sum of P dR``.

Descriptor track
    ``micro_ap``: the average precision of all pairs in one list; pairs that were not found count as never retrieved.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from videomatch.metrics.segments import QUERY, REFERENCE, check, intersections, union_length

#: of the matching track: what has been added to each sum of :data:`SUMS`: of which pairs, how much, and at which
#: threshold (their number, ascending)
Changes = Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
#: the lengths that the matching track adds up, by axis
SUMS = tuple(f"AP {part} {axis}" for part in ("inside", "predicted", "true") for axis in ("query", "reference"))


def micro_ap(score: Float[np.ndarray, " pairs"], relevant: np.ndarray, total: int) -> float:
    """Average precision over all retrieved pairs at once, some ``relevant``, of ``total`` copies, found or not."""
    score, relevant = np.asarray(score, np.float64), np.asarray(relevant, bool)
    _check_scores(score, len(relevant))
    if total < max(1, relevant.sum()):
        raise ValueError(f"{total} copies in all, expected at least 1 and no fewer than the {relevant.sum()} found")
    order = np.argsort(-score, kind="stable")
    last = last_of_ties(score[order])
    found = np.cumsum(relevant[order])[last]
    precision = found / (last + 1)
    return float((precision * np.diff(found, prepend=0)).sum() / total)


def pair_scores(pair: Int[np.ndarray, " segments"], score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair once, ascending, and the largest score of its segments: pairs of the descriptor track from matches."""
    pairs, key = np.unique(np.asarray(pair), return_inverse=True)
    largest = np.full(len(pairs), -np.inf)
    np.maximum.at(largest, key, np.asarray(score, np.float64))
    return pairs, largest


def changes(
    predicted: Float[np.ndarray, "segments columns"],
    score: np.ndarray,
    pair: np.ndarray,
    truth: Float[np.ndarray, "true columns"],
    truth_pair: np.ndarray,
) -> Changes:
    """What the matching track adds up, by names of :data:`SUMS`; ``score`` and ``pair`` are of the predictions."""
    predicted, truth = check(predicted, "predicted segments"), check(truth, "true segments")
    score, pair = np.asarray(score, np.float64), np.asarray(pair)
    _check_scores(score, len(predicted))
    if not len(truth):
        raise ValueError("no true segment: there is nothing to measure")
    true_pairs = np.asarray(truth_pair)
    by_pair = {name: truth[true_pairs == name] for name in dict.fromkeys(true_pairs.tolist())}
    whole = np.array([_lengths(boxes) for boxes in by_pair.values()])
    order = np.argsort(-score, kind="stable")
    score, pair, predicted = score[order], pair[order], predicted[order]
    seen: dict[int, list[int]] = {}
    before: dict[int, np.ndarray] = {}  # inside and predicted lengths of every pair, (2, axes)
    none = np.zeros((0, 4))
    pairs: list[int] = []
    steps: list[int] = []
    added, first = [np.zeros((0, 2, 2))], 0
    for step, last in enumerate(last_of_ties(score).tolist()):
        changed = pair[first : last + 1].tolist()
        for at, name in enumerate(changed, start=first):
            seen.setdefault(name, []).append(at)
        for name in set(changed):
            now = _pair_lengths(predicted[seen[name]], by_pair.get(name, none))
            added.append((now - before.get(name, 0.0))[None])
            before[name] = now
            pairs.append(name)
            steps.append(step)
        first = last + 1
    lengths = np.concatenate(added).reshape(-1, 4).T
    at = np.array(pairs, np.int64), np.array(steps, np.int64)
    start = np.array(list(by_pair)), np.zeros(len(by_pair), np.int64)
    found = {name: (at[0], values, at[1]) for name, values in zip(SUMS, lengths, strict=False)}
    return found | {name: (start[0], values, start[1]) for name, values in zip(SUMS[4:], whole.T, strict=True)}


def ap_of_changes(
    found: Changes, counts: Mapping[str, Float[np.ndarray, "draws changes"]] | None = None
) -> Float[np.ndarray, " draws"]:
    """The average precision of :func:`changes`, of each of which counts as often as given (once by default)."""
    once = np.ones((1, 1))
    sums = {
        name: np.cumsum((counts[name] if counts else once) * added, axis=1) for name, (_, added, _) in found.items()
    }
    last = last_of_ties(found[SUMS[0]][2])
    inside, predicted = (np.stack([sums[name][:, last] for name in names]) for names in (SUMS[:2], SUMS[2:4]))
    whole = np.stack([sums[name][:, -1:] for name in SUMS[4:]])
    # nothing is predicted yet where the first pairs do not count
    precision = np.sqrt(np.divide(inside, predicted, out=np.zeros_like(inside), where=predicted > 0).prod(axis=0))
    recall = np.sqrt((inside / whole).prod(axis=0))
    return (precision * np.diff(recall, prepend=0.0, axis=1)).sum(axis=1)


def _pair_lengths(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of one pair, on each axis: predicted length inside the true segments that some prediction meets, and in all."""
    start, end = intersections(predicted, truth)
    met = (end > start).all(axis=2).any(axis=0)
    inside = [union_length(start[:, met, a].ravel(), end[:, met, a].ravel()) for a in (0, 1)]
    return np.array([inside, _lengths(predicted)])


def _lengths(boxes: np.ndarray) -> list[float]:
    return [union_length(*boxes[:, axis].T) for axis in (QUERY, REFERENCE)]


def last_of_ties(ordered: np.ndarray) -> np.ndarray:
    """Positions of the last score of every run of equal ones."""
    return np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) if len(ordered) else np.zeros(0, np.int64)


def _check_scores(score: np.ndarray, count: int) -> None:
    if score.shape != (count,) or not np.isfinite(score).all():
        raise ValueError(f"scores of shape {score.shape}, expected {count} finite numbers")
