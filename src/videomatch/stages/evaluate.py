"""Evaluate: the metrics of a ranking or of segments, those of random scores, and bootstrap standard errors.

Rank metrics (R@k for any k, MdR, MnR, mAP, R@sum, gmean) are over the queries with at least one pair of grade > 0;
Spearman, Pearson and MSE over all judged pairs. MSE is against rank-normalised grades, as its source reports it;
``MSE (plain)`` against the grades as they are. infAP, infNDCG and iP@k (any k) are over all pooled topics of a protocol
that was judged in part (TRECVID's), or with the suffix `` (NIST)`` over those that the system answers.
Of segments: F1, precision, recall, FRR and FAR in percent (VCSL's), of all judged pairs or of one kind of segment
(``F1 edit/crop``), AP and uAP (VSC 2022's), and frames/h: the number of frames per hour of reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.common import files
from videomatch.common.messages import unknown
from videomatch.data import tables
from videomatch.data.corpus import pooled_ids
from videomatch.data.pairs import judged_pairs
from videomatch.localisation.maps import boxes_by_pair
from videomatch.metrics import avs, correlation, matching, ranking, segments
from videomatch.metrics.segments import TIMES

PAIRS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "Spearman": correlation.spearman,
    "Pearson": correlation.pearson,
    "MSE": correlation.mse,
    "MSE (plain)": correlation.mse,
}
#: bootstrap samples, of queries or of pairs
SAMPLES = 200
#: metrics of segments, of all judged pairs or of one kind of segment
OF_SEGMENTS = ("F1", "precision", "recall", "FRR", "FAR")
#: suffix of a measure of a pool: the mean over the topics that are answered, as NIST's
NIST = " (NIST)"
_POOL = re.compile(r"(?:infAP|infNDCG|iP@([1-9]\d*))(?: \(NIST\))?")


def evaluate(
    *,
    corpus: Path,
    output: Path,
    metrics: list[str],
    members: list[str],
    rankings: Path | None = None,
    segments: list[Path] | None = None,
    split: str | None = None,
) -> None:
    """Write ``<member>/metrics.json``: ``metrics``, ``chance``, ``spread`` (a bootstrap standard error) and
    ``counts``, name -> value each.

    Args:
        rankings: result of ``search``.
        segments: results of ``align``, one per member, instead, with their ``split``.
    """
    for number, member in enumerate(members):
        rng = np.random.default_rng([0, SAMPLES])
        if rankings is not None:
            result = _evaluate_ranking(rankings / member, metrics, rng, corpus)
        else:
            assert segments and split
            result = _evaluate_segments(corpus, split, segments[number], metrics, rng)
        files.write_json(output / member / "metrics.json", result)


def _evaluate_ranking(rankings: Path, metrics: list[str], rng: np.random.Generator, corpus: Path) -> dict[str, Any]:
    """The metrics of one member's ranking."""
    about = json.loads((rankings / "search.json").read_text(encoding="utf-8"))
    judged = tables.read("rankings", rankings).filter(pl.col("grade").is_not_null())
    if not len(judged):
        raise ValueError(f"{rankings}: protocol {about['split']!r} has no judged pair, there is nothing to measure")
    values, chance, spread = dict[str, float](), dict[str, float](), dict[str, float]()
    of_pool = [m for m in metrics if _POOL.fullmatch(m)]
    of_pairs = [m for m in metrics if m in PAIRS]
    counts = about["counts"] | {"pairs": len(judged)}
    if len(of_pool) + len(of_pairs) < len(metrics):
        relevant = judged.filter(pl.col("grade") > 0)
        ks = tuple(sorted({1, 5, 10, *(int(m[2:]) for m in metrics if re.fullmatch(r"R@[1-9]\d*", m))}))
        queries = relevant["query_id"].rank("dense").cast(pl.Int64).to_numpy()
        each = ranking.per_query(queries, relevant["better"].to_numpy(), relevant["equal"].to_numpy(), ks=ks)
        values |= ranking.summary(each)
        # a query is ranked against all references with an embedding, except itself
        is_reference = relevant["query_id"].is_in(about["own"]).cast(pl.Int64).to_numpy()
        chance |= ranking.chance(queries, about["counts"]["references"] - is_reference, ks)
        size = len(each["rank"])
        counts["queries"] = size
        resampled = [{n: v[at] for n, v in each.items()} for at in rng.integers(0, size, size=(SAMPLES, size))]
        spread |= _spread([ranking.summary(some) for some in resampled])
    if of_pairs:
        score, grade = judged["score"].to_numpy(), judged["grade"].to_numpy()
        target = dict.fromkeys(PAIRS, grade) | {"MSE": correlation.rank_normalised(grade)}
        values |= {m: PAIRS[m](score, target[m]) for m in of_pairs}
        chance |= dict.fromkeys(("Spearman", "Pearson"), 0.0)
        draws = (rng.integers(0, len(judged), size=len(judged)) for _ in range(SAMPLES))
        spread |= _spread([{m: PAIRS[m](score[at], target[m][at]) for m in of_pairs} for at in draws])
    if of_pool:
        topics, of_topics = _topics(rankings, corpus, about, of_pool)
        values |= {m: float(of_all.mean()) for m, of_all in topics.items()}
        spread |= _spread([{m: float(rng.choice(v, len(v)).mean()) for m, v in topics.items()} for _ in range(SAMPLES)])
        counts |= of_topics
    _check(metrics, values, [*values, *PAIRS, "infAP", "infNDCG", "iP@10"])
    counts = {name: count for name, count in counts.items() if count}
    if about["missing"]:
        counts["items without embedding"] = len(about["missing"])
    return {
        "metrics": {m: values[m] for m in metrics},
        "chance": {m: chance[m] for m in metrics if m in chance},
        "spread": {m: spread[m] for m in metrics if m in spread},
        "counts": counts,
        "split": about["split"],
        "convention": "house",
    }


def _topics(
    rankings: Path, corpus: Path, about: dict, metrics: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The values of each measure of all topics, or with the suffix of those with an answer; and counts of topics."""
    strata = tables.read("strata", corpus)
    strata = strata.filter(pl.col("query_id").is_in(pooled_ids(corpus, about["split"], ["query"])))
    if not len(strata):
        raise ValueError(f"{metrics[0]}: {corpus} has no judged pool (table strata) of protocol {about['split']!r}")
    strata = strata.with_columns(pl.col("stratum").rank("dense").cast(pl.Int64) - 1)
    best = tables.ranked(tables.read("rankings", rankings), avs.MAX_SHOTS, about["counts"]["references"])
    best = best.join(strata, on=["query_id", "reference_id"], how="left", maintain_order="left")
    best = best.with_columns(pl.col("stratum", "judgement").fill_null(-1))
    ks = tuple(sorted({int(m[1]) for metric in metrics if (m := _POOL.fullmatch(metric)) and m[1]}))
    answers = best.partition_by("query_id", as_dict=True)
    found: dict[str, dict[str, float]] = {}
    for (topic,), pool in sorted(strata.partition_by("query_id", as_dict=True).items()):
        run = answers.get((topic,), best.clear())
        ranks, pooled = ((t["stratum"].to_numpy(), t["judgement"].to_numpy()) for t in (run, pool))
        found[str(topic)] = avs.inferred(*ranks, pooled, ks)
    answered = [topic for topic in found if (topic,) in answers]
    if not answered:
        raise ValueError(f"{rankings}: no judged topic of protocol {about['split']!r} has a ranking")
    values = {m: [found[t][m.removesuffix(NIST)] for t in (answered if m.endswith(NIST) else found)] for m in metrics}
    counts = {"judged topics": len(found), "judged topics without an answer": len(found) - len(answered)}
    return {m: np.array(v) for m, v in values.items()}, counts


def _check(metrics: list[str], values: Mapping[str, float], known: Collection[str]) -> None:
    for metric in metrics:
        if metric not in values:
            raise ValueError(unknown("metric", metric, known))


def _spread(samples: list[dict[str, float]]) -> dict[str, float]:
    """Standard deviation of every metric over the bootstrap samples."""
    return {name: float(np.std([s[name] for s in samples], ddof=1)) for name in samples[0]}


def segment_metrics(corpus: Path, split: str, found: pl.DataFrame) -> dict[str, dict[str, float]]:
    """:func:`videomatch.metrics.segments.localisation` of the segments that a system found, over the judged pairs of a
    protocol; and, if all have a score, ``matching``: ``AP`` of the segments and ``uAP`` of their pairs, over all pairs
    of its queries and references."""
    found, truth, pairs, given, true = _judged(corpus, split, found)
    result = segments.localisation(given, true, _edits(corpus, pairs, true))
    if len(found) and not found["score"].null_count():
        result["matching"] = _matching(found, truth)
    return result


def _evaluate_segments(
    corpus: Path, split: str, aligned: Path, metrics: list[str], rng: np.random.Generator
) -> dict[str, Any]:
    """The metrics of the segments in a result of ``align``."""
    found = tables.read("segments", aligned)
    about = json.loads((aligned / "align.json").read_text(encoding="utf-8"))
    values: dict[str, float] = {"frames/h": about["frames"] / about["hours"]}
    for place, numbers in segment_metrics(corpus, split, found).items():
        if place == "matching":
            values |= numbers
            continue
        where = "" if place == "overall" else f" {place}"
        values |= {f"{name}{where}": 100 * numbers[name] for name in OF_SEGMENTS if name in numbers}
    if not len(found):
        values |= {"AP": 0.0, "uAP": 0.0}
    _check(metrics, values, values)
    _, _, pairs, given, true = _judged(corpus, split, found)
    scores = segments.per_pair(zip(given, true, strict=True))
    true_counts = scores[:, 3]
    spread = _spread([segments.overall(scores[at]) for at in rng.integers(0, len(pairs), size=(SAMPLES, len(pairs)))])
    counts = {
        "queries": len({query for query, _ in pairs}),
        "references": len({reference for _, reference in pairs}),
        "pairs": len(pairs),
        "pairs with a copy": int((true_counts > 0).sum()),
        "segments": int(true_counts.sum()),
    }
    return {
        "metrics": {m: values[m] for m in metrics},
        "spread": {m: 100 * spread[m] for m in metrics if m in spread},
        "counts": counts,
        "chance": {},
        "split": split,
    }


def _judged(
    corpus: Path, split: str, found: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, list[tuple[str, str]], list[np.ndarray], list[np.ndarray]]:
    """Found and true segments between the protocol's queries and references; the judged pairs, and those of each."""
    inside = [pl.col(f"{role}_id").is_in(pooled_ids(corpus, split, [role])) for role in ("query", "reference")]
    found, truth = (table.filter(inside) for table in (found, tables.read("segments", corpus)))
    none = np.zeros((0, 4))
    pairs = judged_pairs(corpus, split).select("query_id", "reference_id").unique(maintain_order=True).rows()
    given, true = ([boxes.get(pair, none) for pair in pairs] for boxes in map(boxes_by_pair, (found, truth)))
    return found, truth, pairs, given, true


def _edits(corpus: Path, pairs: list[tuple[str, str]], true: list[np.ndarray]) -> list[list[list[str]]] | None:
    """The edits and their kinds of every true segment (``none`` without edits); None if the corpus has no table."""
    if not (corpus / "edits.parquet").exists():
        return None
    done: dict[tuple[str, str, float], list[str]] = {}
    for query, reference, start, edit, kind in tables.read("edits", corpus).iter_rows():
        done.setdefault((query, reference, start), []).extend([edit, kind])
    return [
        [done.get((*pair, start), ["none"]) for start in boxes[:, 0].tolist()]
        for pair, boxes in zip(pairs, true, strict=True)
    ]


def _matching(found: pl.DataFrame, truth: pl.DataFrame) -> dict[str, float]:
    keys = pl.concat([t.select("query_id", "reference_id") for t in (found, truth)]).rows()
    number = {pair: n for n, pair in enumerate(dict.fromkeys(keys))}
    pair_numbers = np.array([number[pair] for pair in keys])
    pair, true_pair = pair_numbers[: len(found)], pair_numbers[len(found) :]
    score = found["score"].to_numpy()
    boxes = [table.select(TIMES).to_numpy() for table in (found, truth)]
    ap = matching.matching_ap(boxes[0], score, pair, boxes[1], true_pair)
    pairs, best = matching.pair_scores(pair, score)
    return {"AP": ap, "uAP": matching.micro_ap(best, np.isin(pairs, true_pair), len(set(true_pair.tolist())))}
