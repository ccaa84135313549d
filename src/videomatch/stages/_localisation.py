"""What found segments are worth against the true ones of a protocol: the numbers that ``evaluate`` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.data.pairs import judged_pairs
from videomatch.metrics import matching, segment_kinds

TIMES = ("query_start", "query_end", "reference_start", "reference_end")


def localised(corpus: Path, split: str, found: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Metrics of the segments that a system found for the pairs of a protocol.

    Args:
        corpus: result of ``prepare``.
        split: the protocol.
        found: table ``segments``, with scores.

    Returns:
        ``overall``, ``duration/…`` and ``speed/…`` as in :mod:`videomatch.metrics.segment_kinds`, over the judged pairs
        (a segment of any other pair is not looked at); and, where every segment has a score, ``matching``: ``AP`` of
        the segments, and ``uAP`` of their pairs, over all pairs of the protocol's queries and references.

    Raises:
        ValueError: no judged pair, or no true segment.
    """
    truth = tables.read("segments", corpus)
    sides = {role: split_ids(tables.read("splits", corpus), split, role) for role in ("query", "reference")}
    inside = [pl.col(f"{role}_id").is_in(ids) for role, ids in sides.items()]
    found, truth = found.filter(inside), truth.filter(inside)
    by_pair = [_boxes(table) for table in (found, truth)]
    none = np.zeros((0, 4))
    pairs = judged_pairs(corpus, split).select("query_id", "reference_id").unique(maintain_order=True).rows()
    given, true = ([boxes.get(pair, none) for pair in pairs] for boxes in by_pair)
    result = segment_kinds.localisation(given, true)
    values = {name: dict(metrics) for name, metrics in result.items()}
    if len(found) and not found["score"].null_count():
        values["matching"] = _matching(found, truth)
    return values


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
