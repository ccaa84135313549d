"""Evaluate: the metrics of a ranking, what chance gives, and how much they would move with other queries.

Rank metrics (R@k for any k, MdR, MnR, mAP, R@sum, gmean) are over the queries with at least one pair of grade > 0;
Spearman, Pearson and MSE over all judged pairs. MSE is against rank-normalised grades, as its source reports it;
``MSE (plain)`` against the grades as they are. Conventions, units and tie rules: :mod:`videomatch.metrics`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from videomatch.data import tables
from videomatch.metrics import correlation, ranking

RANKS = ("MdR", "MnR", "mAP", "R@sum", "gmean")
PAIRS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "Spearman": correlation.spearman,
    "Pearson": correlation.pearson,
    "MSE": correlation.mse,
    "MSE (plain)": correlation.mse,
}


def evaluate(
    *,
    rankings: Path,
    output: Path,
    metrics: list[str],
    members: list[str],
    convention: str = "house",
    samples: int = 200,
    seed: int = 0,
) -> None:
    """Write ``<member>/metrics.json``: ``metrics``, ``chance``, ``spread`` (name -> value) and ``counts``.

    Args:
        rankings: result of ``search``.
        metrics: names as printed in the papers.
        members: of the system.
        convention: tie rule and median of the rank metrics, a name of ``metrics.ranking.CONVENTIONS``.
        samples: bootstrap samples (of queries, or of pairs) behind ``spread``, a standard error.
        seed: of the samples.

    Raises:
        ValueError: an unknown metric or convention, or nothing to measure it on.
    """
    _check(metrics, convention)
    for member in members:
        result = _measured(rankings / member, metrics, convention, samples, seed)
        folder = output / member
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        (folder / "metrics.json").write_text(text, encoding="utf-8")


def _measured(rankings: Path, metrics: list[str], convention: str, samples: int, seed: int) -> dict:
    """The metrics of one member's ranking."""
    about = json.loads((rankings / "search.json").read_text(encoding="utf-8"))
    judged = tables.read("rankings", rankings).filter(pl.col("grade").is_not_null())
    if not len(judged):
        raise ValueError(f"{rankings}: protocol {about['split']!r} has no judged pair, there is nothing to measure")
    values: dict[str, float] = {}
    chance: dict[str, float] = {}
    spread: dict[str, float] = {}
    rng = np.random.default_rng([seed, samples])
    of_ranks = [m for m in metrics if m not in PAIRS]
    counts = about["counts"] | {"pairs": len(judged)}
    if of_ranks:
        relevant = judged.filter(pl.col("grade") > 0)
        ks = _ks(of_ranks)
        queries = relevant["query_id"].rank("dense").cast(pl.Int64).to_numpy()
        each = ranking.per_query(queries, relevant["better"].to_numpy(), relevant["equal"].to_numpy(), convention, ks)
        values |= ranking.summary(each, convention)
        chance |= ranking.chance(queries, _references(relevant, about), ks)
        size = len(each["rank"])
        counts["queries"] = size
        drawn = [
            ranking.summary({n: v[at] for n, v in each.items()}, convention)
            for at in rng.integers(0, size, size=(samples, size))
        ]
        spread |= _spread(drawn)
    of_pairs = [m for m in metrics if m in PAIRS]
    if of_pairs:
        score, grade = judged["score"].to_numpy(), judged["grade"].to_numpy()
        target = dict.fromkeys(PAIRS, grade) | {"MSE": correlation.rank_normalised(grade)}
        values |= {m: PAIRS[m](score, target[m]) for m in of_pairs}
        chance |= dict.fromkeys(("Spearman", "Pearson"), 0.0)
        draws = (rng.integers(0, len(judged), size=len(judged)) for _ in range(samples))
        spread |= _spread([{m: PAIRS[m](score[at], target[m][at]) for m in of_pairs} for at in draws])
    counts = {name: count for name, count in counts.items() if count}
    if about["missing"]:
        counts["items without embedding"] = len(about["missing"])
    return {
        "metrics": {m: values[m] for m in metrics},
        "chance": {m: chance[m] for m in metrics if m in chance},
        "spread": {m: spread[m] for m in metrics if m in spread},
        "counts": counts,
        "split": about["split"],
        "convention": convention,
    }


def _check(metrics: list[str], convention: str) -> None:
    if convention not in ranking.CONVENTIONS:
        raise ValueError(f"no convention {convention!r}; there are {', '.join(ranking.CONVENTIONS)}")
    names = ["R@1", "R@5", "R@10", *RANKS, *PAIRS]
    for metric in metrics:
        if metric not in names and not re.fullmatch(r"R@[1-9]\d*", metric):
            near = difflib.get_close_matches(metric, names, 1, 0)
            raise ValueError(f"no metric {metric!r}, did you mean {near[0]!r}? There are R@<k>, {', '.join(names[3:])}")


def _ks(metrics: list[str]) -> tuple[int, ...]:
    """The k of every R@k that is asked for, and those that R@sum and gmean are made of."""
    asked = {int(m[2:]) for m in metrics if re.fullmatch(r"R@\d+", m)}
    return tuple(sorted(asked | {1, 5, 10}))


def _references(relevant: pl.DataFrame, about: dict) -> np.ndarray:
    """How many references the query of every pair was ranked against: all with an embedding, but never itself."""
    return about["counts"]["references"] - relevant["query_id"].is_in(about["own"]).cast(pl.Int64).to_numpy()


def _spread(samples: list[dict[str, float]]) -> dict[str, float]:
    """Standard deviation of every metric over the bootstrap samples."""
    if len(samples) < 2:
        return {}
    return {name: float(np.std([s[name] for s in samples], ddof=1)) for name in samples[0]}
