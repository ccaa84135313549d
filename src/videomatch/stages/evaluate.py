"""Evaluate: the metrics of a ranking or of segments, those of random scores, and what both are resampled from.

Rank metrics (R@k for any k, MdR, MnR, mAP, R@sum, gmean) are over the queries with at least one pair of grade > 0;
``R@1 (place)``, of any factor of the table ``facts``, is R@1 among the references that share a value of it with the
right one alone;
Spearman, Pearson and MSE over all judged pairs. MSE is against rank-normalised grades, as its source reports it;
``MSE (plain)`` against the grades as they are. infAP, infNDCG and iP@k (any k) are over all pooled topics of a protocol
that was judged in part (TRECVID's), or with the suffix `` (NIST)`` over those that the system answers.
Of segments: F1, precision, recall, FRR and FAR in percent (VCSL's), of all judged pairs or of one kind of segment
(``F1 edit/crop``), AP and uAP (VSC 2022's), and MB/h: megabytes of descriptors per hour of reference.
Of probes: the accuracy (%) for each factor of the facts.
Of filters: the area under the ROC curve of texts that tell of their own video, against all others, those of other
videos (``AUC (other)``), or those that tell of none (``AUC (none)``).
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
from videomatch.common.digests import digest
from videomatch.common.messages import unknown
from videomatch.data import corpus as corpora
from videomatch.data import facts, tables
from videomatch.data.corpus import pooled_ids, train_ids
from videomatch.data.pairs import judged_pairs
from videomatch.data.store import expert_store
from videomatch.localisation.maps import boxes_by_pair
from videomatch.metrics import OF_FACTOR, avs, bootstrap, correlation, matching, ranking, segments
from videomatch.metrics.segments import TIMES

PAIRS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "Spearman": correlation.spearman,
    "Pearson": correlation.pearson,
    "MSE": correlation.mse,
    "MSE (plain)": correlation.mse,
}
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
    features: list[Path] | None = None,
    probe: dict[str, Any] | None = None,
    scores: Path | None = None,
) -> None:
    """Write ``<member>/metrics.json``: ``metrics``, ``chance`` and ``counts``, name -> value each, and what a bootstrap
    needs (:mod:`videomatch.metrics.bootstrap`): the table ``statistics``, and ``resampled``: the number and name of its
    units, and a digest of all that was judged, which systems that can be paired share. ``approximate`` is what the
    search tells of queries that were looked up.

    Args:
        rankings: result of ``search``.
        segments: results of ``align``, one per member, instead, with their ``split``.
        features, probe: results of ``extract``, and ``expert`` and ``parts`` of a linear classifier, instead, with the
            ``split`` by whose videos it is judged.
        scores: result of ``score_pairs``, instead, with the ``split`` whose videos' texts are judged.
    """
    for number, member in enumerate(members):
        if rankings is not None:
            result, rows, units = _evaluate_ranking(rankings / member, metrics, corpus)
        elif probe is not None:
            assert features and split
            result, rows, units = _evaluate_probe(corpus, split, features, metrics, **probe)
        elif scores is not None:
            assert split
            result, rows, units = _evaluate_filter(corpus, split, scores, metrics)
        else:
            assert segments and split
            result, rows, units = _evaluate_segments(corpus, split, segments[number], metrics)
        wanted = {name for metric in metrics for name in bootstrap.needed(metric)}
        rows = rows.filter(pl.col("statistic").is_in(wanted))
        numbers = [pl.col(side).cast(pl.Enum(units)).to_physical() for side in ("first", "second")]
        tables.write("statistics", rows.with_columns(numbers), output / member)
        files.write_json(output / member / "metrics.json", result)


def _rows(statistic: str, first: Any, value: Any, second: Any = None, other: Any = None) -> pl.DataFrame:
    """Rows of the table ``statistics``, with ids instead of the numbers of units."""
    columns: dict[str, pl.Series] = {}
    for name, given in (("first", first), ("second", second), ("value", value), ("other", other)):
        dtype = pl.String if name in ("first", "second") else pl.Float64
        columns[name] = pl.Series([None] * len(value) if given is None else given).cast(dtype)
    return pl.DataFrame({"statistic": pl.repeat(statistic, len(value), eager=True), **columns})


def _resampled(units: list[str], name: str, judged: pl.DataFrame, references: int) -> dict[str, Any]:
    pairs = judged.select("query_id", "reference_id").sort(pl.all())
    return {"units": len(units), "name": name, "digest": digest([units, pairs.rows(), references])}


def _evaluate_ranking(
    rankings: Path, metrics: list[str], corpus: Path
) -> tuple[dict[str, Any], pl.DataFrame, list[str]]:
    """The metrics of one member's ranking, the rows they are computed from, and the ids of the units."""
    about = json.loads((rankings / "search.json").read_text(encoding="utf-8"))
    ranked = tables.read("rankings", rankings)
    judged = ranked.filter(pl.col("grade").is_not_null())
    if not len(judged):
        raise ValueError(f"{rankings}: protocol {about['split']!r} has no judged pair, there is nothing to measure")
    values, chance, rows = dict[str, float](), dict[str, float](), list[pl.DataFrame]()
    of_pool = [m for m in metrics if _POOL.fullmatch(m)]
    of_pairs = [m for m in metrics if m in PAIRS]
    counts = about["counts"] | {"pairs": len(judged)}
    unit = "videos"
    if len(of_pool) + len(of_pairs) < len(metrics):
        relevant = judged.filter(pl.col("grade") > 0).sort("query_id", maintain_order=True)
        ks = tuple(sorted({1, 5, 10, *(int(m[2:]) for m in metrics if re.fullmatch(r"R@[1-9]\d*", m))}))
        queries = relevant["query_id"].rank("dense").cast(pl.Int64).to_numpy()
        each = ranking.per_query(queries, relevant["better"].to_numpy(), relevant["equal"].to_numpy(), ks=ks)
        values |= ranking.summary(each)
        # a query is ranked against all references with an embedding, except itself
        is_reference = relevant["query_id"].is_in(about["own"]).cast(pl.Int64).to_numpy()
        chance |= ranking.chance(queries, about["counts"]["references"] - is_reference, ks)
        counts["queries"] = len(each["rank"])
        if about["kind"] == "text_video":  # captions belong to their video, topics to themselves
            unit = "videos" if len(each["rank"]) == len(relevant) else "queries"
        relevant = relevant.with_columns(
            owner=pl.col("reference_id" if about["kind"] == "text_video" and unit == "videos" else "query_id")
        )
        owners = relevant.unique("query_id", maintain_order=True)["owner"]
        rows += [_rows("average precision" if n == "AP" else n, owners, v) for n, v in each.items()]
        for metric in filter(OF_FACTOR.fullmatch, metrics):
            hits, chance[metric], owners = _in_groups(corpus, ranked, relevant, metric)
            values[metric] = float(hits.mean())
            rows.append(_rows(metric, owners, hits))
    if of_pairs:
        score, grade = judged["score"].to_numpy(), judged["grade"].to_numpy()
        target = dict.fromkeys(PAIRS, grade) | {"MSE": correlation.rank_normalised(grade)}
        values |= {m: PAIRS[m](score, target[m]) for m in of_pairs}
        # equal scores correlate with nothing; their MSE is that of the best of them, the mean of the grades
        chance |= {m: PAIRS[m](np.full(len(grade), target[m].mean()), target[m]) for m in of_pairs}
        sides = judged["query_id"], judged["reference_id"]
        rows.append(_rows("score", sides[0], score, sides[1], grade))
        rows += [_rows(m, sides[0], (score - target[m]) ** 2, sides[1]) for m in of_pairs]
    if of_pool:
        topics, by_chance, of_topics = _topics(rankings, corpus, about, of_pool)
        values |= {m: float(np.array(list(by_topic.values())).mean()) for m, by_topic in topics.items()}
        rows += [_rows(m, list(by_topic), list(by_topic.values())) for m, by_topic in topics.items()]
        chance |= by_chance
        unit = "queries"
        counts |= of_topics
    _check(metrics, values, [*values, *PAIRS, "infAP", "infNDCG", "iP@10"])
    counts = {name: count for name, count in counts.items() if count}
    if about["missing"]:
        counts["items without embedding"] = len(about["missing"])
    found = pl.concat(rows)
    units = pl.concat([found["first"], found["second"].drop_nulls()]).unique().sort().to_list()
    result = {
        "metrics": {m: values[m] for m in metrics},
        "chance": {m: chance[m] for m in metrics if m in chance},
        "counts": counts,
        "resampled": _resampled(units, unit, judged, about["counts"]["references"]),
        "split": about["split"],
        "convention": "house",
    }
    if "approximate" in about:
        result["approximate"] = about["approximate"]
    return result, found, units


def _in_groups(
    corpus: Path, ranked: pl.DataFrame, relevant: pl.DataFrame, metric: str
) -> tuple[np.ndarray, float, pl.Series]:
    """R@k of every query within the group of its relevant references, what chance reaches, and the ``owner`` of each
    query."""
    found = OF_FACTOR.fullmatch(metric)
    assert found
    members = facts.group_members(corpus, found[2], relevant, ranked["reference_id"].unique().to_list())
    each = facts.ranked_in_group(relevant, members.join(ranked.select(*facts.PAIR, "score"), on=facts.PAIR))
    queries = each["query_id"].rank("dense").cast(pl.Int64).to_numpy()
    k, better, equal = int(found[1]), each["better"].to_numpy(), each["equal"].to_numpy()
    hits = ranking.per_query(queries, better, equal, ks=(k,))[f"R@{k}"]
    by_chance = ranking.chance(queries, each["size"].to_numpy(), (k, *ranking.KS))[f"R@{k}"]
    return hits, by_chance, each.unique("query_id", maintain_order=True)["owner"]


def _topics(
    rankings: Path, corpus: Path, about: dict, metrics: list[str]
) -> tuple[dict[str, dict[str, float]], dict[str, float], dict[str, int]]:
    """The values of each measure by topic, of all, or with the suffix of those with an answer; the measures of random
    rankings of all topics; and counts of topics."""
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
    references = set(pooled_ids(corpus, about["split"])).difference(about["missing"])
    found: dict[str, dict[str, float]] = {}
    random: list[dict[str, float]] = []
    for (topic,), pool in sorted(strata.partition_by("query_id", as_dict=True).items()):
        run = answers.get((topic,), best.clear())
        ranks, pooled = ((t["stratum"].to_numpy(), t["judgement"].to_numpy()) for t in (run, pool))
        found[str(topic)] = avs.inferred(*ranks, pooled, ks)
        is_ranked = pool["reference_id"].is_in(references).to_numpy()
        random.append(avs.chance(len(references), (pooled[0][is_ranked], pooled[1][is_ranked]), pooled, ks))
    answered = [topic for topic in found if (topic,) in answers]
    if not answered:
        raise ValueError(f"{rankings}: no judged topic of protocol {about['split']!r} has a ranking")
    values = {
        m: {t: found[t][m.removesuffix(NIST)] for t in (answered if m.endswith(NIST) else found)} for m in metrics
    }
    counts = {"judged topics": len(found), "judged topics without an answer": len(found) - len(answered)}
    chance = {m: sum(topic[m.removesuffix(NIST)] for topic in random) / len(random) for m in metrics}
    return values, chance, counts


def _check(metrics: list[str], values: Mapping[str, float], known: Collection[str]) -> None:
    for metric in metrics:
        if metric not in values:
            raise ValueError(unknown("metric", metric, known))


def segment_metrics(
    corpus: Path, split: str, found: pl.DataFrame
) -> tuple[dict[str, dict[str, float]], pl.DataFrame, np.ndarray]:
    """:func:`videomatch.metrics.segments.localisation` of the segments that a system found, over the judged pairs of a
    protocol; and, if all have a score, ``matching``: ``AP`` of the segments and ``uAP`` of their pairs, over all pairs
    of its queries and references. The rows they are computed from (in percent, as they are printed), and the scores of
    all pairs."""
    found, truth, pairs, given, true = _judged(corpus, split, found)
    places = segments.by_place(given, true, _edits(corpus, pairs, true))
    result = segments.localisation(places)
    query, reference = np.array(pairs).T
    rows = list[pl.DataFrame]()
    for place, (numbers, scores) in places.items():
        where = "" if place == "overall" else f" {place}"
        predicted, relevant = (scores[:, 2:] > 0).T
        shares = {"precision": (predicted, scores[:, 0]), "recall": (relevant, scores[:, 1])}
        if place == "overall":
            shares |= {"FRR": (relevant, ~predicted), "FAR": (~relevant, predicted)}
        for name, (among, share) in shares.items():
            at = numbers[among]
            rows.append(_rows(name + where, query[at], 100.0 * share[among], reference[at]))
    if len(found) and not found["score"].null_count():
        result["matching"], of_matching = _matching(found, truth)
        rows += of_matching
    return result, pl.concat(rows), places["overall"][1]


def _evaluate_segments(
    corpus: Path, split: str, aligned: Path, metrics: list[str]
) -> tuple[dict[str, Any], pl.DataFrame, list[str]]:
    """The metrics of the segments in a result of ``align``, the rows they are computed from, and the ids of the
    units: all videos of the protocol."""
    found = tables.read("segments", aligned)
    about = json.loads((aligned / "align.json").read_text(encoding="utf-8"))
    measured, rows, scores = segment_metrics(corpus, split, found)
    values = {"MB/h": about["bytes"] / 1e6 / about["hours"], **_named(measured)}
    if not len(found):
        values |= {"AP": 0.0, "uAP": 0.0}
    _check(metrics, values, values)
    pairs = judged_pairs(corpus, split).select("query_id", "reference_id").unique()
    counts = {
        "queries": pairs["query_id"].n_unique(),
        "references": len(set(pooled_ids(corpus, split, ["reference"]))),
        "judged references": pairs["reference_id"].n_unique(),
        "pairs": len(pairs),
        "pairs with a copy": int((scores[:, 3] > 0).sum()),
        "segments": int(scores[:, 3].sum()),
    }
    units = sorted(set(pooled_ids(corpus, split, ["query", "reference"])))
    chance = _named(segment_metrics(corpus, split, whole)[0]) if len(whole := _whole(corpus, pairs)) else {}
    result = {
        "metrics": {m: values[m] for m in metrics},
        "counts": counts,
        "resampled": _resampled(units, "videos", pairs, len(units)),
        "chance": {m: chance[m] for m in metrics if m in chance},
        "split": split,
    }
    return result, rows, units


def _named(measured: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The metrics of segments by their names in tables."""
    values: dict[str, float] = {}
    for place, numbers in measured.items():
        if place == "matching":
            values |= numbers
            continue
        where = "" if place == "overall" else f" {place}"
        values |= {f"{name}{where}": 100 * numbers[name] for name in OF_SEGMENTS if name in numbers}
    return values


def _whole(corpus: Path, pairs: pl.DataFrame) -> pl.DataFrame:
    """The segments of one who knows nothing: each judged pair from start to end, with equal scores; none at all where
    the length of a video is not known."""
    lengths = corpora.videos(corpus).select("video_id", "duration")
    rows = pairs
    for side in ("query", "reference"):
        rows = rows.join(lengths.rename({"video_id": f"{side}_id", "duration": f"{side}_end"}), on=f"{side}_id")
        rows = rows.with_columns(pl.lit(0.0).alias(f"{side}_start"))
    is_known = not sum(rows.null_count().row(0))
    return tables.check("segments", rows.with_columns(score=1.0)) if is_known else tables.frame("segments")


def _evaluate_probe(
    corpus: Path, split: str, features: list[Path], factors: list[str], expert: str, parts: int = 1
) -> tuple[dict[str, Any], pl.DataFrame, list[str]]:
    """In how many percent of the stretches of a split's videos a linear classifier that was trained on the train split
    finds a value of each factor that is true there; chance is the most frequent value. And the rows and units."""
    from videomatch.metrics.probe import hits  # scikit-learn takes a second to import, and only this needs it

    known = facts.read(corpus, factors)
    store = expert_store(features, expert)
    sides = train_ids(corpus), pooled_ids(corpus, split)
    values, chance, rows = dict[str, float](), dict[str, float](), list[pl.DataFrame]()
    for factor in factors:
        train, test = (facts.stretches(known, factor, side) for side in sides)
        if not len(train) or not len(test):
            raise ValueError(f"{corpus}: no video of the train split, or of {split!r}, has a fact of factor {factor!r}")
        names = train["value"].explode().unique().sort()
        true = [np.array([[n in v for n in names] for v in side["value"].to_list()]) for side in (train, test)]
        pooled = [facts.pooled(store, side, parts) for side in (train, test)]
        found, frequent = hits(pooled[0], true[0], pooled[1], true[1])
        values[factor], chance[factor] = (100 * float(side.mean()) for side in (found, frequent))
        rows.append(_rows(factor, test["id"], 100.0 * found))
    every = pl.concat(rows)
    units = every["first"].unique().sort().to_list()
    judged = pl.DataFrame({"query_id": units, "reference_id": units})
    counts = {"videos": len(units)}
    result = {"metrics": values, "counts": counts, "resampled": _resampled(units, "videos", judged, len(units))}
    return result | {"chance": chance, "split": split}, every, units


def _evaluate_filter(
    corpus: Path, split: str, scores: Path, metrics: list[str]
) -> tuple[dict[str, Any], pl.DataFrame, list[str]]:
    """The AUC of scores of texts, the rows it is computed from, and the ids of the videos that they belong to."""
    told_of = facts.read(corpus, ["told_of"]).select("value", text_id="id")
    found = tables.read("scores", scores).join(told_of, on="text_id")
    found = found.filter(pl.col("video_id").is_in(pooled_ids(corpus, split)))
    against = {"AUC": ["other", "none"], "AUC (other)": ["other"], "AUC (none)": ["none"]}
    _check(metrics, dict.fromkeys(against, 0.0), against)
    units = found["video_id"].unique().sort().to_list()
    values, rows = dict[str, float](), list[pl.DataFrame]()
    for metric in metrics:
        judged = found.filter(pl.col("value").is_in(["own", *against[metric]]))
        own = (judged["value"] == "own").cast(pl.Float64)
        if not 0 < own.sum() < len(own):
            raise ValueError(f"{metric}: of the texts of split {split!r} in {scores}, all or none tell of their video")
        rows.append(_rows(metric, judged["video_id"], judged["score"], other=own))
        first = judged["video_id"].cast(pl.Enum(units)).to_physical().to_numpy()
        of_metric = bootstrap.Rows(first, judged["score"].to_numpy(), other=own.to_numpy())
        values[metric] = bootstrap.value(metric, {metric: of_metric}, len(units))
    judged = found.select(query_id="text_id", reference_id="video_id")
    result = {"metrics": values, "counts": {"texts": len(found), "videos": len(units)}}
    result |= {"resampled": _resampled(units, "videos", judged, len(units)), "chance": dict.fromkeys(metrics, 0.5)}
    return result | {"split": split}, pl.concat(rows), units


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


def _matching(found: pl.DataFrame, truth: pl.DataFrame) -> tuple[dict[str, float], list[pl.DataFrame]]:
    """``AP`` and ``uAP`` over all pairs, and the rows they are computed from."""
    keys = pl.concat([t.select("query_id", "reference_id") for t in (found, truth)]).rows()
    number = {pair: n for n, pair in enumerate(dict.fromkeys(keys))}
    pair_numbers, (query, reference) = np.array([number[pair] for pair in keys]), np.array(list(number)).T
    pair, true_pair = pair_numbers[: len(found)], pair_numbers[len(found) :]
    score = found["score"].to_numpy()
    boxes = [table.select(TIMES).to_numpy() for table in (found, truth)]
    changes = matching.changes(boxes[0], score, pair, boxes[1], true_pair)
    rows = [_rows(name, query[at], added, reference[at], step) for name, (at, added, step) in changes.items()]
    pairs, best = matching.pair_scores(pair, score)
    of_all = np.full(len(number), np.nan)
    of_all[pairs] = best
    is_copy = np.isin(np.arange(len(number)), true_pair)
    rows.append(_rows("uAP", query, of_all, reference, is_copy))
    return {
        "AP": float(matching.ap_of_changes(changes)[0]),
        "uAP": matching.micro_ap(best, is_copy[pairs], int(is_copy.sum())),
    }, rows
