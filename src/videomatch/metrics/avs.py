"""Extended inferred AP of TRECVID's ad-hoc video search: average precision from a pool that was judged in part.

Source: Yilmaz, Kanoulas and Aslam, SIGIR 2008, "A simple and efficient sampling method for estimating AP and NDCG",
as NIST's ``sample_eval`` implements it: the numbers here equal that program's. They are fractions.

Input
    The ranked shots of one topic (:func:`videomatch.data.tables.ranked`), as the ``stratum`` of each (from 0; -1 where
    the shot was never pooled) and its ``judgement`` (1 relevant, 0 not, -1 pooled but not judged).

Estimates
    Stratum c holds N pooled, n judged and r relevant shots: R_c = r N / n relevant ones are expected. At a relevant
    shot at rank k, with d_c pooled, j_c judged and q_c relevant shots of each stratum *before* it, precision is
    expected to be (1 + sum_c d_c (q_c + e) / (j_c + 3e)) / k, e = 1e-5. Its mean over the relevant shots of c, weighed
    by R_c / R, sums up to infAP.

As NIST has it
    * If more than 1,000 relevant shots are expected, infAP is multiplied by R / 1000, since a run holds no more than
      1,000. It can then exceed 1: a perfect run of 2021 scores 1.23.
    * NIST's mean is over the topics that a run answers. Here ``infAP`` is the mean over all judged topics of the
      protocol, those without an answer as 0; ``infAP (NIST)`` is NIST's.
    * Shots that were never pooled count as ranks only, neither relevant nor not.
    * iP@k is divided by k even if a run has fewer shots.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

#: shots of a topic that count
MAX_SHOTS = 1000
#: the k of iP@k that NIST prints
KS = (10, 100, 1000)
_EPSILON = 1e-5
#: random rankings of a topic that chance is the mean of
RANDOM = 10


def inferred(
    stratum: Int[np.ndarray, " ranks"],
    judgement: Int[np.ndarray, " ranks"],
    pool: tuple[Int[np.ndarray, " pool"], Int[np.ndarray, " pool"]],
    ks: tuple[int, ...] = KS,
) -> dict[str, float]:
    """The estimates of one topic: ``infAP``, ``infNDCG``, ``iP@k``, and the relevant shots expected in the run
    (``relevant returned``) and at all (``relevant``); ``pool`` is the stratum and judgement of every pooled shot."""
    stratum, judgement = stratum[:MAX_SHOTS], judgement[:MAX_SHOTS]
    ranks, size = np.arange(1, len(stratum) + 1), int(pool[0].max(initial=-1)) + 1
    of_pool = [pool[0], pool[0][pool[1] >= 0], pool[0][pool[1] > 0]]
    all_pooled, all_judged, all_relevant = (np.bincount(some, minlength=size) for some in of_pool)
    weighted = all_relevant * all_pooled.astype(float)
    expected = np.divide(weighted, all_judged, out=np.zeros(size), where=all_judged > 0)  # R_c
    in_stratum = stratum[:, None] == np.arange(size)
    is_judged, is_relevant = in_stratum & (judgement >= 0)[:, None], in_stratum & (judgement > 0)[:, None]
    seen = [np.vstack([np.zeros((1, size)), np.cumsum(mask, axis=0)]) for mask in (in_stratum, is_judged, is_relevant)]
    pooled, judged, relevant = seen  # row k: among the first k shots
    guessed = (pooled * (relevant + _EPSILON) / (judged + 3 * _EPSILON)).sum(axis=1)
    precision = (1 + guessed[:-1]) / ranks
    of_stratum = (is_relevant * precision[:, None]).sum(axis=0)
    total = float(expected.sum())
    mean = np.divide(of_stratum, all_relevant, out=np.zeros(size), where=all_relevant > 0)
    ap = float((expected * mean).sum() / total) if total else 0.0
    ap *= max(1.0, total / MAX_SHOTS)
    gain = (is_relevant / np.log2(ranks + 1)[:, None]).sum(axis=0)
    dcg = float(np.divide(pooled[-1] * gain, judged[-1], out=np.zeros(size), where=judged[-1] > 0).sum())
    best = float((1 / np.log2(np.arange(1, min(int(total), MAX_SHOTS) + 1) + 1)).sum())
    return {
        "infAP": ap,
        "infNDCG": dcg / best if best else 0.0,
        **{f"iP@{k}": float(guessed[min(k, len(stratum))]) / k for k in ks},
        "relevant returned": float(guessed[-1]),
        "relevant": total,
    }


def chance(
    references: int,
    among: tuple[Int[np.ndarray, " some"], Int[np.ndarray, " some"]],
    pool: tuple[Int[np.ndarray, " pool"], Int[np.ndarray, " pool"]],
    ks: tuple[int, ...] = KS,
) -> dict[str, float]:
    """The mean estimates of one topic for random rankings of so many references, ``among`` them these pooled shots."""
    rng, (stratum, judgement) = np.random.default_rng(0), (np.append(side, -1) for side in among)
    found = []
    for _ in range(RANDOM):
        run = np.minimum(rng.choice(references, min(references, MAX_SHOTS), replace=False), len(stratum) - 1)
        found.append(inferred(stratum[run], judgement[run], pool, ks))
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}
