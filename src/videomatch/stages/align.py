"""Align: the segments that pairs of videos share, from the features of their frames.

Pairs are those that a protocol judges (VCSL), or the nearest references that a search found for every query (VSC 2022).
One map is in memory at a time, and pairs are distributed over processes.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch import aligners
from videomatch.common import files
from videomatch.data import tables
from videomatch.data.corpus import pooled_ids
from videomatch.localisation.line_ends import followed
from videomatch.localisation.maps import CandidatePair, SimilarityMaps, for_each_pair, pairs_of_split
from videomatch.specs.similarity import SimilarityMap

log = logging.getLogger(__name__)


def align(
    *,
    corpus: Path,
    features: list[Path],
    output: Path,
    split: str | list[str],
    similarity_map: dict[str, Any] | None = None,
    aligner: str | None = None,
    options: dict[str, Any] | None = None,
    tuned: Path | None = None,
    run: Path | None = None,
    rankings: Path | None = None,
    top: int = 5,
    score: str = "mean",
    follow: bool = False,
    threads: int = 1,
) -> None:
    """Write ``segments.parquet`` (s), ``align.json`` (of which pairs, and how), and ``measured.json``, which differs
    from run to run: seconds of CPU to compare an hour of queries with one reference each (map and aligner), and with a
    ``shortlist`` to answer an hour of queries, from its search to the last of its pairs.

    Args:
        aligner, run: file in ``aligners/``, or a trained detector.
        tuned: result of ``tune``, which has aligner, options and similarity map.
        rankings, top: folder of a member's ``rankings.parquet``: its ``top`` references of every query of the split are
            aligned instead of the judged pairs, with the frames of its index if it is a result of ``shortlist``.
        score: of segments (:func:`videomatch.aligners.find_segments`); a sum is of what exceeds the map's bias.
        follow: move the ends of segments along their lines (:mod:`videomatch.localisation.line_ends`).
    """
    if tuned is not None:
        found = json.loads((tuned / "tuned.json").read_text(encoding="utf-8"))
        aligner, options, similarity_map = found["aligner"], found["options"], found["similarity_map"]
    aligners.load(aligner, run)  # an unknown one is refused before any work
    assert similarity_map is not None
    maps = SimilarityMaps.of(features, SimilarityMap.read(similarity_map), corpus, rankings)
    pairs = pairs_of_split(corpus, split, maps) if rankings is None else _nearest(corpus, split, rankings, top, maps)
    function = functools.partial(_align_pair, maps, aligner, run, options or {}, score, follow)
    aligned = for_each_pair(function, pairs, processes=threads, label="align")
    rows = [row for of_pair, _, _ in aligned for row in of_pair]
    table = pl.DataFrame(rows, schema=tables.SCHEMAS["segments"], orient="row")
    tables.write("segments", table, output)
    stored, hours = maps.stored(sorted({pair.reference for pair in pairs}))
    about = {
        "split": split,
        "aligner": aligner or "detector",
        "options": options or {},
        "similarity_map": similarity_map,
        "score": score,
        "follow": follow,
        "bytes": stored,
        "hours": hours,
        "pairs": len(pairs),
        "pairs with a segment": table.select("query_id", "reference_id").n_unique(),
        "segments": len(table),
    }
    files.write_json(output / "align.json", about)
    cpu, compared = math.fsum(s for _, s, _ in aligned), math.fsum(s for *_, s in aligned)
    measured = {"CPU s/h": 3600 * cpu / compared if compared else 0.0}
    if rankings is not None and (rankings / "measured.json").exists():
        search = json.loads((rankings / "measured.json").read_text(encoding="utf-8"))["CPU s/h"]
        asked = json.loads((rankings / "shortlist.json").read_text(encoding="utf-8"))["query hours"]
        measured["answer s/h"] = search + (cpu / asked if asked else 0.0)
    files.write_json(output / "measured.json", measured)
    log.info("%d segments in %d pairs", len(table), len(pairs))


def _nearest(
    corpus: Path, split: str | list[str], rankings: Path, top: int, maps: SimilarityMaps
) -> list[CandidatePair]:
    """The ``top`` best references of every query of the split, of videos with features."""
    found = tables.read("rankings", rankings)
    for role, store in (("query", maps.queries), ("reference", maps.references)):
        known = set(pooled_ids(corpus, split, [role])).intersection(store.ids)
        found = found.filter(pl.col(f"{role}_id").is_in(known))
    found = found.sort("query_id", "better", "reference_id").group_by("query_id", maintain_order=True).head(top)
    if found.is_empty():
        raise ValueError(f"{rankings} ranks no pair of split {split!r} with features")
    return [CandidatePair(q, r, np.zeros((0, 4))) for q, r in found.select("query_id", "reference_id").iter_rows()]


def _align_pair(
    maps: SimilarityMaps,
    aligner: str | None,
    run: Path | None,
    options: dict[str, Any],
    score: str,
    follow: bool,
    pair: CandidatePair,
) -> tuple[list[tuple[Any, ...]], float, float]:
    """The rows of ``segments`` of one pair, seconds of CPU for them, and seconds of the query."""
    loaded, started = aligners.load(aligner, run), time.process_time()
    _, query_times, _ = of_pair = maps.map(pair.query, pair.reference)
    found = aligners.find_segments(loaded, *of_pair, options, score=score, level=maps.spec.bias)
    if follow and len(found):
        found = followed(found, *maps.kept(pair))
    rows = [(pair.query, pair.reference, *segment) for segment in found.tolist()]
    return rows, time.process_time() - started, float(query_times[-1:, 1].sum() - query_times[:1, 0].sum())
