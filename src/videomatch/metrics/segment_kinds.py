"""The metrics of :mod:`videomatch.metrics.segments` by kind of segment: by duration, speed and edit.

The published metric is not defined by kind. Here, in bucket b, over pairs with a true segment of b: recall is over the
true segments of b (every prediction may cover them); precision over the predictions that meet a segment of b or no true
segment at all, covered by true segments of any kind. So a false alarm costs each kind that its pair has, and a
prediction of another kind costs nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from videomatch.metrics.segments import ENDS, STARTS, Scores, check, overall, overlaps, pair, per_pair

#: upper ends of the buckets of duration on the query side, s; they belong to their bucket
DURATIONS = (5.0, 10.0, 30.0, 60.0)
#: upper ends of the buckets of speed: reference seconds per query second
SPEEDS = (0.67, 0.9, 1.1, 1.5)


def by_bucket(
    pairs: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str | Sequence[str]]]],
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1, and numbers of true ``segments`` and of ``pairs`` with one, of every bucket by name.

    Args:
        pairs: predicted (N, 4), truth (M, 4) and the bucket or buckets of every true segment.

    Raises:
        ValueError: not as many labels as segments.
    """
    found: dict[str, list[tuple[float, float, int, int]]] = {}
    for predicted, truth, labels in pairs:
        predicted, truth = check(predicted, "predicted segments"), check(truth, "true segments")
        if len(labels) != len(truth):
            raise ValueError(f"{len(labels)} labels for {len(truth)} true segments")
        kinds = [{label} if isinstance(label, str) else set(label) for label in labels]
        meet = overlaps(predicted, truth)
        for bucket in set().union(*kinds):
            in_bucket = np.array([bucket in kind for kind in kinds])
            recall = pair(predicted, truth[in_bucket])[1]
            counted = predicted[meet[:, in_bucket].any(axis=1) | ~meet.any(axis=1)]
            precision = pair(counted, truth)[0]
            found.setdefault(bucket, []).append((precision, recall, len(counted), int(in_bucket.sum())))
    result = {}
    for bucket in sorted(found):
        precision, recall, predicted, relevant = np.array(found[bucket]).T
        values = overall(Scores(precision, recall, predicted, relevant))
        result[bucket] = {name: values[name] for name in ("precision", "recall", "F1")}
        result[bucket] |= {"segments": int(relevant.sum()), "pairs": len(relevant)}
    return result


def duration_buckets(truth: np.ndarray) -> list[str]:
    """The bucket of every segment by its length in the query."""
    query, _ = _lengths(truth)
    return _labels(query, DURATIONS, " s")


def speed_buckets(truth: np.ndarray) -> list[str]:
    """The bucket of every segment by its speed."""
    query, reference = _lengths(truth)
    return _labels(reference / query, SPEEDS, "x")


def _lengths(truth: np.ndarray) -> np.ndarray:
    boxes = check(truth, "true segments")
    return (boxes[:, ENDS] - boxes[:, STARTS]).T


def _labels(values: np.ndarray, ends: Sequence[float], unit: str) -> list[str]:
    """Names that sort in the order of the buckets."""
    edges = [f"{end:g}" for end in ends]
    names = [f"to {edges[0]}{unit}", *(f"{a} to {b}{unit}" for a, b in itertools.pairwise(edges))]
    names.append(f"over {edges[-1]}{unit}")
    return [f"{at + 1}: {names[at]}" for at in np.searchsorted(ends, values, side="left")]


def localisation(
    predicted: Sequence[np.ndarray], truth: Sequence[np.ndarray], edits: Sequence[Sequence[Sequence[str]]] | None = None
) -> Mapping[str, Mapping[str, float]]:
    """``overall``, and an entry per bucket (``duration/…``, ``speed/…``, ``edit/…`` if given)."""
    pairs = list(zip(predicted, truth, strict=True))
    result: dict[str, dict[str, float]] = {"overall": overall(per_pair(pairs))}
    kinds: dict[str, list[Sequence[str | Sequence[str]]]] = {
        "duration": [duration_buckets(t) for t in truth],
        "speed": [speed_buckets(t) for t in truth],
    }
    if edits is not None:
        kinds["edit"] = list(edits)
    for kind, labels in kinds.items():
        buckets = by_bucket((p, t, one) for (p, t), one in zip(pairs, labels, strict=True))
        result |= {f"{kind}/{bucket}": values for bucket, values in buckets.items()}
    return result
