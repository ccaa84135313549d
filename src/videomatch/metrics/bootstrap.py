"""Percentile bootstrap of every metric: videos are drawn with replacement, and a query counts as often as its video.

Cluster bootstrap (Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8)
    The captions of a video are no independent queries: they count together, as often as their video was drawn.

Pairs (Snijders and Borgatti, Non-parametric standard errors and tests for network statistics, Connections 22(2), 1999;
Owen and Eckles, Bootstrapping data arrays of arbitrary order, Annals of Applied Statistics 6(3), 2012)
    A pair counts as often as its first video was drawn times as often as its second. So pairs that share a video are
    not taken for independent. These counts have covariance 1 where one video is shared, as they should, but variance 3.
    So twice the variance of independent pairs (a second bootstrap, with exponential weights) is taken off again, which
    leaves the variance of clusters in two ways (Cameron, Gelbach and Miller, Robust inference with multiway clustering,
    Journal of Business and Economic Statistics 29(2), 2011; for pairs of one kind: Aronow, Samii and Assenova,
    Cluster-robust variance estimation for dyadic data, Political Analysis 23(4), 2015), but no less than that of
    independent pairs. The percentiles' distances from the value are scaled by the root of the ratio of variances.

Pairing
    Draws depend on the number of units alone. So the replicates of two systems on the same units are of the same draws,
    and those of their difference are the differences.

A metric is computed anew from each draw, with the counts as weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from videomatch.metrics import matching

RESAMPLES = 10_000
#: of an interval
CONFIDENCE = 0.95
#: numbers in an array of a chunk of draws: more do not fit into a processor's cache
_CHUNK = 2**20
#: they are 0 where there is nothing to measure
_OF_SEGMENTS = re.compile(r"(F1|precision|recall|FRR|FAR)\b")

#: weights of rows in each draw
Counts = Float[np.ndarray, "rows draws"]
#: a metric's value of each draw of videos, and where it is of pairs, of each draw of pairs
Replicates = Float[np.ndarray, "draws kinds"]
Values = Float[np.ndarray, " draws"]


@dataclass(frozen=True)
class Draws:
    """How often each unit was drawn, and for each a uniform number of its own."""

    counts: Float[np.ndarray, "units draws"]
    uniform: Float[np.ndarray, "units draws"]
    #: whether pairs count as if they were independent
    by_pair: bool = False


@dataclass(frozen=True)
class Rows:
    """What a metric is computed from: of each row the units (videos) that it belongs to (``second`` None: it belongs to
    one), its ``value``, and an ``other`` number where the metric needs one."""

    first: Int[np.ndarray, " rows"]
    value: Float[np.ndarray, " rows"]
    second: Int[np.ndarray, " rows"] | None = None
    other: Float[np.ndarray, " rows"] = field(default_factory=lambda: np.zeros(0))

    def counts(self, draws: Draws) -> Counts:
        """How often each row counts in each draw."""
        if self.second is None:
            return draws.counts[self.first]
        if not draws.by_pair:
            return draws.counts[self.first] * draws.counts[self.second]
        total = draws.uniform[self.first] + draws.uniform[self.second]
        # modulo 1 it is uniform again, and independent of that of any other pair
        return -np.log1p((total >= 1) - total)


def needed(metric: str) -> list[str]:
    """Names of the rows that a metric is computed from; none where it has no bootstrap."""
    if metric in ("R@sum", "gmean"):
        return ["R@1", "R@5", "R@10"]
    if metric.startswith("F1"):
        return [metric.replace("F1", name, 1) for name in ("precision", "recall")]
    if metric == "AP":
        return list(matching.SUMS)
    if metric.endswith("/h"):
        return []
    renamed = {"MdR": "rank", "MnR": "rank", "mAP": "average precision", "Spearman": "score", "Pearson": "score"}
    return [renamed.get(metric, metric)]


def draws(units: int, resamples: int, size: int) -> Iterator[Draws]:
    """Chunks of at most ``size`` draws; they do not change the numbers."""
    rng, uniform = np.random.default_rng([0, units]), np.random.default_rng([1, units])
    for first in range(0, resamples, size):
        number = min(size, resamples - first)
        drawn = rng.integers(0, units, size=(number, units)) * number + np.arange(number)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=number * units).reshape(units, number).astype(np.float32)
        yield Draws(counts, np.ascontiguousarray(uniform.random((number, units), np.float32).T))


def replicates(
    metric: str, statistics: Mapping[str, Rows], units: int, resamples: int = RESAMPLES
) -> Replicates | None:
    """The values of a metric of each draw, nan where a draw has nothing to measure; None where its rows are not given,
    or there are none of it."""
    names = needed(metric)
    if not names or not all(name in statistics for name in names):
        return None
    rows = [statistics[name] for name in names]
    is_of_pairs, most = rows[0].second is not None, max([units, *(len(one.first) for one in rows)])
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for some in draws(units, resamples, max(1, _CHUNK // most)):
            kinds = [some, replace(some, by_pair=True)] if is_of_pairs else [some]
            found.append(np.stack([_value(metric, rows, kind) for kind in kinds], axis=1))
    return np.concatenate(found)


def value(metric: str, statistics: Mapping[str, Rows], units: int) -> float:
    """The metric itself: every unit counts once."""
    once = Draws(np.ones((units, 1)), np.zeros((units, 1)))
    return float(_value(metric, [statistics[name] for name in needed(metric)], once)[0])


def interval(found: Replicates, centre: float) -> tuple[float, float]:
    """The interval of a metric, or of a difference, whose value is ``centre``."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(found[:, 0], [tail, 100 - tail])
    scale = 1.0
    if found.shape[1] > 1:
        of_videos, of_pairs = np.nanvar(found, axis=0)
        scale = np.sqrt(max(of_videos - 2 * of_pairs, of_pairs) / of_videos) if of_videos else 1.0
    return float(centre + scale * (low - centre)), float(centre + scale * (high - centre))


def _value(metric: str, rows: Sequence[Rows], draws: Draws) -> Values:
    one = rows[0]
    if metric == "R@sum":
        return np.sum([_mean(r, draws) for r in rows], axis=0)
    if metric == "gmean":
        return np.prod([_mean(r, draws) for r in rows], axis=0) ** (1 / 3)
    if metric == "MdR":
        return _median(one, draws)
    if metric in ("Spearman", "Pearson"):
        counts = one.counts(draws)
        centred = _deviations if metric == "Pearson" else _mean_ranks
        return _correlation(centred(one.value, counts), centred(one.other, counts), counts)
    if metric == "AP":
        by_sum = dict(zip(matching.SUMS, rows, strict=True))
        changes = {name: (r.first, r.value, r.other) for name, r in by_sum.items()}
        return matching.ap_of_changes(changes, {name: r.counts(draws).T for name, r in by_sum.items()})
    if metric == "uAP":
        return _micro_ap(one, draws)
    if metric.startswith("AUC"):
        return _auc(one, draws)
    means = [_mean(r, draws) for r in rows]
    if _OF_SEGMENTS.match(metric):
        means = [np.nan_to_num(mean) for mean in means]
    if len(means) == 1:
        return means[0]
    precision, recall = means
    return np.nan_to_num(2 * precision * recall / (precision + recall))


def _mean(rows: Rows, draws: Draws) -> Values:
    if rows.second is not None:
        counts = rows.counts(draws)
        return rows.value.astype(counts.dtype) @ counts / counts.sum(axis=0)
    units = len(draws.counts)  # one product for all rows of a unit
    total, number = (np.bincount(rows.first, weights=v, minlength=units) for v in (rows.value, None))
    return total.astype(draws.counts.dtype) @ draws.counts / (number.astype(draws.counts.dtype) @ draws.counts)


def _median(rows: Rows, draws: Draws) -> Values:
    """The mean of both middle values."""
    order = np.argsort(rows.value, kind="stable")
    ordered = rows.value[order]
    below = np.cumsum(Rows(rows.first[order], ordered).counts(draws), axis=0)
    half = below[-1] / 2
    return (ordered[(below < half).sum(axis=0)] + ordered[(below <= half).sum(axis=0)]) / 2


def _deviations(values: np.ndarray, counts: Counts) -> Counts:
    """Values less their mean, of rows which count as often as given."""
    return values.astype(counts.dtype)[:, None] - values.astype(counts.dtype) @ counts / counts.sum(axis=0)


def _mean_ranks(values: np.ndarray, counts: Counts) -> Counts:
    """Mean ranks less their mean."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    of_group = np.add.reduceat(counts[order], starts, axis=0)
    below = np.cumsum(of_group, axis=0)
    return (below - (of_group + below[-1]) / 2)[group]


def _correlation(x: Counts, y: Counts, counts: Counts) -> Values:
    """Pearson's of deviations; 0 where a side is constant."""
    weighted = counts * x
    both, first = (np.einsum("rd,rd->d", weighted, side) for side in (y, x))
    second = np.einsum("rd,rd->d", counts * y, y)
    is_constant = np.minimum(first, second) <= 1e-12 * counts.sum(axis=0)
    return np.where(is_constant, 0.0, both / np.sqrt(first * second))


def _auc(rows: Rows, draws: Draws) -> Values:
    """Chance that a row whose ``other`` is above 0 has a larger value than one of the rest (Mann and Whitney 1947)."""
    counts, positive = rows.counts(draws), rows.other > 0
    ranks = _mean_ranks(rows.value, counts)
    of_positive, of_rest = (counts[side].sum(axis=0) for side in (positive, ~positive))
    return 0.5 + np.einsum("rd,rd->d", counts[positive], ranks[positive]) / (of_positive * of_rest)


def _micro_ap(rows: Rows, draws: Draws) -> Values:
    """Average precision of all pairs in one list; ``value`` is a pair's score, nan if it was not found, ``other``
    whether it is a copy."""
    counts, is_copy = rows.counts(draws), rows.other > 0
    total = counts[is_copy].sum(axis=0)
    found = np.flatnonzero(~np.isnan(rows.value))
    order = found[np.argsort(-rows.value[found], kind="stable")]
    last = matching.last_of_ties(rows.value[order])
    retrieved, copies = (np.cumsum(c[order], axis=0)[last] for c in (counts, counts * is_copy[:, None]))
    precision = np.divide(copies, retrieved, out=np.zeros_like(copies), where=retrieved > 0)
    return (precision * np.diff(copies, prepend=0.0, axis=0)).sum(axis=0) / total
