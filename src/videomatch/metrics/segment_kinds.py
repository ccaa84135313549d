"""Localisation by kind of segment: by duration, speed and edit.

Segments, units and the metrics themselves are those of :mod:`videomatch.metrics.segments`.

The rule (:func:`by_bucket`)
    The published metric has no answer to a pair with segments of several kinds. Here, in bucket b: recall is over the
    true segments of b (every prediction may cover them); precision over the predictions that meet one in b, or meet no
    true segment at all, in pairs with a segment of b, and whatever true segment they cover counts. So a false alarm
    costs each kind that its pair has, and a find of another kind costs nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from videomatch.metrics.segments import Scores, check, overall, overlaps, pair, per_pair

#: upper ends of the buckets of duration on the query side, s
DURATIONS = (5.0, 10.0, 30.0, 60.0)
#: upper ends of the buckets of speed: reference seconds per query second
SPEEDS = (0.67, 0.9, 1.1, 1.5)


def by_bucket(
    pairs: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str | Sequence[str]]]],
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and counts for every kind of true segment, by the rule in the module's head.

    Args:
        pairs: predicted (N, 4), truth (M, 4) and, for every true segment, its bucket, or several (a segment with two
            edits counts in both, one with none in no bucket).

    Returns:
        bucket -> precision, recall, F1, ``segments`` (true ones) and ``pairs`` that have one; ordered by name.

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
            own = np.array([bucket in kind for kind in kinds])
            recall = pair(predicted, truth[own])[1]
            counted = predicted[meet[:, own].any(axis=1) | ~meet.any(axis=1)]
            precision = pair(counted, truth)[0]
            found.setdefault(bucket, []).append((precision, recall, len(counted), int(own.sum())))
    result = {}
    for bucket in sorted(found):
        precision, recall, predicted, relevant = np.array(found[bucket]).T
        values = overall(Scores(precision, recall, predicted, relevant))
        result[bucket] = {name: values[name] for name in ("precision", "recall", "F1")}
        result[bucket] |= {"segments": int(relevant.sum()), "pairs": len(relevant)}
    return result


def duration_buckets(truth: np.ndarray, ends: Sequence[float] = DURATIONS) -> list[str]:
    """The bucket of every segment by its length in the query: up to and including each of ``ends``, s."""
    boxes = check(truth, "true segments")
    return _labels(boxes[:, 1] - boxes[:, 0], ends, " s")


def speed_buckets(truth: np.ndarray, ends: Sequence[float] = SPEEDS) -> list[str]:
    """The bucket of every segment by its speed: reference seconds per query second."""
    boxes = check(truth, "true segments")
    return _labels((boxes[:, 3] - boxes[:, 2]) / (boxes[:, 1] - boxes[:, 0]), ends, "x")


def _labels(values: np.ndarray, ends: Sequence[float], unit: str) -> list[str]:
    """Names that sort in the order of the buckets."""
    edges = [f"{end:g}" for end in ends]
    names = [f"to {edges[0]}{unit}", *(f"{a} to {b}{unit}" for a, b in itertools.pairwise(edges))]
    names.append(f"over {edges[-1]}{unit}")
    return [f"{at + 1}: {names[at]}" for at in np.searchsorted(ends, values, side="left")]


def localisation(
    predicted: Sequence[np.ndarray], truth: Sequence[np.ndarray], edits: Sequence[Sequence[Sequence[str]]] | None = None
) -> Mapping[str, Mapping[str, float]]:
    """Everything at once: ``overall``, and one entry a bucket (``duration/…``, ``speed/…``, ``edit/…`` if given)."""
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
