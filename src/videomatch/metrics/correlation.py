"""Agreement of scores with graded labels: Spearman, Pearson and MSE.

The correlation of constant values is 0 (scipy: nan), so that a collapsed model has a number in a table. The first
place of AIAC 2021 trains on, and reports MSE against, rank-normalised labels (:func:`rank_normalised`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

Values = Float[np.ndarray, " pairs"]


def pearson(similarity: Values, grade: Values) -> float:
    """Linear correlation; 0 if either side is constant."""
    score, grade = _check(similarity, grade)
    if np.ptp(score) == 0 or np.ptp(grade) == 0:
        return 0.0
    score, grade = score - score.mean(), grade - grade.mean()
    return float(np.clip(score @ grade / (np.linalg.norm(score) * np.linalg.norm(grade)), -1, 1))


def spearman(similarity: Values, grade: Values) -> float:
    """Pearson's correlation of the mean ranks; 0 if either side is constant."""
    score, grade = _check(similarity, grade)
    return pearson(rankdata(score), rankdata(grade))


def mse(similarity: Values, grade: Values) -> float:
    """Mean of the squared differences."""
    score, grade = _check(similarity, grade)
    return float(np.mean((score - grade) ** 2))


def rank_normalised(grade: Values) -> np.ndarray:
    """Mean ranks of the grades, scaled so that the lowest is 0 and the highest 1 (all 0 if they are all equal)."""
    ranks = rankdata(np.asarray(grade, np.float64))
    span = np.ptp(ranks) if len(ranks) else 0
    return (ranks - ranks.min()) / span if span else np.zeros(len(ranks))


def _check(score: Values, grade: Values) -> tuple[np.ndarray, np.ndarray]:
    score, grade = np.asarray(score, np.float64), np.asarray(grade, np.float64)
    if score.shape != grade.shape or score.ndim != 1 or len(score) < 2:
        shapes = f"scores {score.shape} and grades {grade.shape}"
        raise ValueError(f"{shapes}, expected two lists of the same two or more pairs")
    if not (np.isfinite(score).all() and np.isfinite(grade).all()):
        raise ValueError("a score or a grade is not finite")
    return score, grade
