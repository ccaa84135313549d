"""Rank metrics: R@k, MdR, MnR, geometric mean, R@sum and mAP from ``better`` and ``equal``.

Input
    One entry per relevant pair: its ``query`` (any integer key), how many references score ``better`` than it, and how
    many *other* references score the same (``equal``). Of several relevant references of a query (a video with K
    captions), R@k, MdR and MnR look at the best one (all published systems do so for v2t); mAP at all of them.

Units
    Ranks count from 1. R@k, their sum and geometric mean are percent of queries; mAP is a fraction, as the papers print
    it.

Ties: the house rule averages over them
    Every metric is its expected value if ties were broken at random. Of n references that tie at ``better``, of which r
    are relevant, R@k misses with probability C(n-r, m) / C(n, m), m = k - better, and the expected best rank is
    better + (n+1)/(r+1). So a model that gives every pair the same score gets chance, R@k = k/N and MnR = (N+1)/2.

Published conventions, by name
    All take a rank of better + equal/2 + 1; R@1 counts rank = 1, R@k rank < k + 1 (a tie for first place is a miss at
    1). They differ in the median (:data:`CONVENTIONS`). CLIP4Clip's v2t with several captions, which ranks groups of
    captions by their best member, is not one of them.
    # Deviation: CLIP4Clip counts every tied position as a query of its own; here they are one, as in mmt.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import digamma, gammaln

#: the k of R@k that papers print
KS = (1, 5, 10, 50)

#: name of a convention -> its median
CONVENTIONS: dict[str, str] = {
    **dict.fromkeys(("house", "mmt", "collaborative_experts", "moee", "clip4clip", "xclip", "drl", "ts2net"), "both"),
    "hybrid_space": "both",
    "clip4clip_multi": "lower",
    "dual_encoding": "floor",
    "dual_encoding_varied": "floor",
}


def places(
    similarity: Float[np.ndarray, "queries references"], query: Int[np.ndarray, " pairs"], reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``better`` and ``equal`` of pairs from a whole matrix; for large ones see ``retrieval.exact.search``."""
    score = similarity[query, reference][:, None]
    rows = similarity[query]
    return (rows > score).sum(axis=1), (rows == score).sum(axis=1) - 1


def per_query(
    query: np.ndarray, better: np.ndarray, equal: np.ndarray, convention: str = "house", ks: tuple[int, ...] = KS
) -> dict[str, np.ndarray]:
    """``R@k`` (0 to 100), ``rank`` and ``AP`` of every query; (Q,) each, ordered by query."""
    if not len(query):
        raise ValueError("no relevant pair: there is nothing to rank")
    pairs = query, better, equal
    query, better, equal, is_new = _ordered(*pairs)
    first, key = np.flatnonzero(is_new), np.cumsum(is_new) - 1
    # of the best relevant reference of every query: better ones, tied ones with itself, and the relevant ones of these
    relevant = np.bincount(key, weights=better == better[first][key]).astype(np.int64)
    better, tied = better[first], equal[first] + 1
    if convention == "house":
        rank = better + (tied + 1) / (relevant + 1)
        values = {f"R@{k}": 100 * _hit(k, better, tied, relevant) for k in ks}
    else:
        rank = better + (tied + 1) / 2
        values = {f"R@{k}": 100.0 * (rank == 1 if k == 1 else rank < k + 1) for k in ks}
    return values | {"rank": rank, "AP": average_precision(*pairs)}


def _hit(k: int, better: np.ndarray, tied: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Probability that a relevant reference is among the first ``k``."""
    n, r = tied.astype(float), relevant.astype(float)
    m = np.clip(k - better, 0, tied).astype(float)
    room = n - r - m  # fewer others than places: one of the places must be a relevant one's
    some = np.maximum(room, 0)
    miss = np.exp(gammaln(n - r + 1) - gammaln(some + 1) - gammaln(n + 1) + gammaln(n - m + 1))
    # one relevant reference, or no tie: no detour over logarithms, so that whole numbers stay whole
    return np.where(relevant == 1, m / n, np.where(room < 0, 1.0, 1 - miss))


def _ordered(
    query: np.ndarray, better: np.ndarray, equal: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pairs by query and rank, and which of them is the first of its query."""
    query, better, equal = (np.asarray(a, np.int64) for a in (query, better, equal))
    order = np.lexsort((better, query))
    query = query[order]
    return query, better[order], equal[order], np.r_[True, query[1:] != query[:-1]]


def summary(values: dict[str, np.ndarray], convention: str = "house") -> dict[str, float]:
    """The metrics of :func:`per_query`'s values; R@sum and geometric mean (``gmean``) are of R@1, R@5 and R@10."""
    metrics = {name: float(v.mean()) for name, v in values.items() if name.startswith("R@")}
    metrics["MdR"] = median(values["rank"], CONVENTIONS[convention])
    metrics["MnR"] = float(values["rank"].mean())
    metrics["mAP"] = float(values["AP"].mean())
    three = [metrics[name] for name in ("R@1", "R@5", "R@10")]
    return metrics | {"R@sum": sum(three), "gmean": float(np.prod(three)) ** (1 / 3)}


def metrics(
    query: np.ndarray, better: np.ndarray, equal: np.ndarray, convention: str = "house", ks: tuple[int, ...] = KS
) -> dict[str, float]:
    """All metrics of the relevant pairs under a convention of :data:`CONVENTIONS`."""
    return summary(per_query(query, better, equal, convention, ks), convention)


def median(ranks: np.ndarray, kind: str = "both") -> float:
    """The mean of both middle values, the ``lower`` of them, or their mean rounded down (``floor``)."""
    if kind == "lower":
        return float(np.sort(ranks)[(len(ranks) - 1) // 2])
    value = float(np.median(ranks))
    return float(np.floor(value)) if kind == "floor" else value


def average_precision(query: np.ndarray, better: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """Expected average precision of every query over its relevant references, (Q,) ordered by query.

    Without ties: the mean over the relevant references of (relevant ones up to it) / rank. Where n references tie at b,
    r of them relevant and R relevant ones before, each of the n places holds a relevant one with probability r/n, and
    then expects R + 1 + (j-1)(r-1)/(n-1) relevant ones up to place j (as in McSherry and Najork, ECIR 2008);
    the sum over j has the closed form used here.
    """
    query, better, equal, new_query = _ordered(query, better, equal)
    new_tie = new_query | np.r_[True, better[1:] != better[:-1]]
    key, starts = np.cumsum(new_query) - 1, np.flatnonzero(new_tie)
    begin = np.flatnonzero(new_query)[key]  # where the pairs of this query begin
    total = np.bincount(key).astype(float)
    r = np.diff(np.r_[starts, len(query)]).astype(float)
    before, b, n = (starts - begin[starts]).astype(float), better[starts].astype(float), equal[starts] + 1.0
    slope = np.divide(r - 1, n - 1, out=np.zeros_like(r), where=n > 1)
    harmonic = np.where(n == 1, 1 / (b + 1), digamma(b + n + 1) - digamma(b + 1))
    gained = r / n * (n * slope + (before + 1 - slope * (b + 1)) * harmonic)
    return np.bincount(key[starts], weights=gained) / total


def chance(query: np.ndarray, references: int | np.ndarray, ks: tuple[int, ...] = KS) -> dict[str, float]:
    """The expected metrics of random scores, of as many ``references`` as the query of every pair has: those of pairs
    that all tie."""
    zero = np.zeros(len(query), np.int64)
    return metrics(query, zero, zero + references - 1, ks=ks)
