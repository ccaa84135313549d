"""What found segments are worth against the true ones of a protocol: the numbers that ``evaluate`` writes."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.data.pairs import judged_pairs
from videomatch.metrics import matching, segment_kinds, segments

#: of all pairs, or of one bucket
OVERALL = ("F1", "precision", "recall", "FRR", "FAR")
TIMES = ("query_start", "query_end", "reference_start", "reference_end")


def localised(corpus: Path, split: str, found: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Metrics of the segments that a system found for the pairs of a protocol.

    Args:
        corpus: result of ``prepare``.
        split: the protocol.
        found: table ``segments``, with scores.

    Returns:
        ``overall``, ``duration/…``, ``speed/…`` and, where the corpus tells the edits, ``edit/…`` as in
        :mod:`videomatch.metrics.segment_kinds`, over the judged pairs (a segment of any other pair is not looked at);
        and, where every segment has a score, ``matching``: ``AP`` of the segments, and ``uAP`` of their pairs, over
        all pairs of the protocol's queries and references.

    Raises:
        ValueError: no judged pair, or no true segment.
    """
    found, truth = _inside(corpus, split, found)
    pairs, given, true = _judged(corpus, split, found, truth)
    result = segment_kinds.localisation(given, true, _edits(corpus, pairs, true))
    values = {name: dict(metrics) for name, metrics in result.items()}
    if len(found) and not found["score"].null_count():
        values["matching"] = _matching(found, truth)
    return values


def measured(
    corpus: Path, split: str, aligned: Path, metrics: list[str], samples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """What ``evaluate`` writes of the segments that a system found: ``metrics``, ``spread`` and ``counts``.

    Args:
        corpus: result of ``prepare``.
        split: the protocol.
        aligned: result of ``align``.
        metrics: names of :data:`OVERALL`, alone or before a bucket (``F1 edit/crop``), in percent; ``AP``, ``uAP``,
            ``frames/h``.
        samples: bootstrap samples (of pairs) behind ``spread``, which those of all pairs have.
        rng: of the samples.

    Raises:
        ValueError: an unknown metric or bucket, or nothing to measure.
    """
    found = tables.read("segments", aligned)
    about = json.loads((aligned / "align.json").read_text(encoding="utf-8"))
    values: dict[str, float] = {"frames/h": about["frames"] / about["hours"]}
    for place, numbers in localised(corpus, split, found).items():
        if place == "matching":
            values |= numbers
            continue
        where = "" if place == "overall" else f" {place}"
        values |= {f"{name}{where}": 100 * numbers[name] for name in OVERALL if name in numbers}
    if not len(found):
        values |= {"AP": 0.0, "uAP": 0.0}
    unknown = [m for m in metrics if m not in values]
    if unknown:
        near = difflib.get_close_matches(unknown[0], values, 1, 0)
        raise ValueError(f"no metric {unknown[0]!r}, did you mean {near[0]!r}? There are {', '.join(values)}")
    pairs, given, true = _judged(corpus, split, *_inside(corpus, split, found))
    scores = segments.per_pair(zip(given, true, strict=True))
    drawn = [segments.overall(scores[at]) for at in rng.integers(0, len(pairs), size=(samples, len(pairs)))]
    spread = {name: 100 * float(np.std([d[name] for d in drawn], ddof=1)) for name in OVERALL} if samples > 1 else {}
    counts = {
        "queries": len({query for query, _ in pairs}),
        "references": len({reference for _, reference in pairs}),
        "pairs": len(pairs),
        "pairs with a copy": int((scores.relevant > 0).sum()),
        "segments": int(scores.relevant.sum()),
    }
    return {
        "metrics": {m: values[m] for m in metrics},
        "spread": {m: spread[m] for m in metrics if m in spread},
        "counts": counts,
    }


def _inside(corpus: Path, split: str, found: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Found and true segments between the protocol's queries and references."""
    sides = {role: split_ids(tables.read("splits", corpus), split, role) for role in ("query", "reference")}
    inside = [pl.col(f"{role}_id").is_in(ids) for role, ids in sides.items()]
    return found.filter(inside), tables.read("segments", corpus).filter(inside)


def _judged(
    corpus: Path, split: str, found: pl.DataFrame, truth: pl.DataFrame
) -> tuple[list[tuple[str, str]], list[np.ndarray], list[np.ndarray]]:
    """The judged pairs, and the found and the true segments of each."""
    by_pair = [_boxes(table) for table in (found, truth)]
    none = np.zeros((0, 4))
    pairs = judged_pairs(corpus, split).select("query_id", "reference_id").unique(maintain_order=True).rows()
    given, true = ([boxes.get(pair, none) for pair in pairs] for boxes in by_pair)
    return pairs, given, true


def _edits(corpus: Path, pairs: list[tuple[str, str]], true: list[np.ndarray]) -> list[list[list[str]]] | None:
    """What was done to every true segment, each edit and its kind, ``none`` if nothing; None where the corpus does not
    tell."""
    if not (corpus / "edits.parquet").exists():
        return None
    done: dict[tuple[str, str, float], list[str]] = {}
    for query, reference, start, edit, kind in tables.read("edits", corpus).iter_rows():
        done.setdefault((query, reference, start), []).extend([edit, kind])
    return [
        [done.get((*pair, start), ["none"]) for start in boxes[:, 0].tolist()]
        for pair, boxes in zip(pairs, true, strict=True)
    ]


def _boxes(table: pl.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for query, reference, *times in table.select("query_id", "reference_id", *TIMES).iter_rows():
        rows.setdefault((query, reference), []).append(tuple(times))
    return {pair: np.array(boxes, np.float64) for pair, boxes in rows.items()}


def _matching(found: pl.DataFrame, truth: pl.DataFrame) -> dict[str, float]:
    """The two numbers of the matching track."""
    keys = pl.concat([t.select("query_id", "reference_id") for t in (found, truth)]).rows()
    number = {pair: n for n, pair in enumerate(dict.fromkeys(keys))}
    all_pairs = np.array([number[pair] for pair in keys])
    pair, true_pair = all_pairs[: len(found)], all_pairs[len(found) :]
    score = found["score"].to_numpy()
    boxes = [table.select(TIMES).to_numpy() for table in (found, truth)]
    ap, _ = matching.matching_ap(boxes[0], score, pair, boxes[1], true_pair)
    pairs, best = matching.pair_scores(pair, score)
    return {"AP": ap, "uAP": matching.micro_ap(best, np.isin(pairs, true_pair), len(set(true_pair.tolist())))}
