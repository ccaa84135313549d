"""Tune: the options of an aligner with the best F1 on the pairs of a split (VCSL's overall F1).

A map is computed once and aligned with every combination of the grid. Pairs are distributed over processes; results do
not depend on their number. Among combinations with the same F1 the one with the fewest options that differ from the
aligner's defaults wins, then the first in the grid's order.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch import aligners
from videomatch.common import files
from videomatch.localisation.line_ends import followed
from videomatch.localisation.maps import NOISE, CandidatePair, SimilarityMaps, for_each_pair, noise, pairs_of_split
from videomatch.metrics import segments
from videomatch.specs.similarity import SimilarityMap

log = logging.getLogger(__name__)

Options = dict[str, Any]


def tune(
    *,
    corpus: Path,
    features: list[Path],
    output: Path,
    split: str | list[str],
    similarity_map: dict[str, Any],
    aligner: str | None = None,
    run: Path | None = None,
    grid: str | dict[str, list[Any]] = "ours",
    rankings: Path | None = None,
    score: str = "mean",
    follow: bool = False,
    threads: int = 1,
) -> None:
    """Write ``tuned.json`` (the best options and their metrics), ``trials.csv`` (every combination, in the order of the
    grid) and, with score normalisation, ``noise.npy`` (its frames in 16 bits). ``aligner`` is a file in ``aligners/``,
    or ``run`` is a trained detector; frames of references are those in the index of ``rankings``, a result of
    ``shortlist``, if there is one; ``score`` and ``follow`` as of ``align``.
    """
    loaded = aligners.load(aligner, run)
    combinations = combined(_grid(loaded, aligner or "detector", grid))
    spec = SimilarityMap.read(similarity_map)
    maps = SimilarityMaps.of(features, spec, corpus, rankings)
    pairs = pairs_of_split(corpus, split, maps)
    log.info("%d pairs, %d combinations", len(pairs), len(combinations))
    function = functools.partial(_score_pair, maps, aligner, run, score, follow, combinations)
    scores = for_each_pair(function, pairs, processes=threads, label="tune")
    trials = [
        {**options, **segments.overall(np.array(of_trial))}
        for options, of_trial in zip(combinations, zip(*scores, strict=True), strict=True)
    ]
    at = best(trials, combinations, aligners.defaults(loaded))
    cells = [{k: v if isinstance(v, int | float | str) else json.dumps(v) for k, v in t.items()} for t in trials]
    pl.DataFrame(cells, infer_schema_length=None).write_csv(output / "trials.csv")
    about = {
        "aligner": aligner,
        "options": combinations[at],
        "score": score,
        "follow": follow,
        "metrics": {name: trials[at][name] for name in ("precision", "recall", "F1", "FRR", "FAR")},
        "split": split,
        "similarity_map": similarity_map,
        "pairs": len(pairs),
        "copies": sum(len(pair.truth) > 0 for pair in pairs),
        "combinations": len(combinations),
    }
    if spec.noise is not None:
        np.save(output / NOISE, noise(features, spec, corpus).astype(np.float16))
    files.write_json(output / "tuned.json", about)
    log.info("best of %d: %s, F1 %.4f", len(trials), combinations[at], trials[at]["F1"])


def combined(grid: aligners.Grid) -> list[Options]:
    """Every combination of the grid's values; the last option changes fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def best(trials: Sequence[Mapping[str, float]], combinations: Sequence[Options], defaults: Mapping[str, Any]) -> int:
    """Position of the trial with the highest ``F1``; of equal ones the one closest to the aligner's defaults."""

    def order(at: int) -> tuple[float, int, int]:
        return -trials[at]["F1"], sum(defaults.get(k) != v for k, v in combinations[at].items()), at

    return min(range(len(trials)), key=order)


def _grid(aligner: aligners.Aligner, name: str, grid: str | dict[str, list[Any]]) -> aligners.Grid:
    if isinstance(grid, str):
        if grid not in aligner.GRIDS:
            raise ValueError(f"aligner {name!r} has no grid {grid!r}; there are {', '.join(aligner.GRIDS)}")
        return aligner.GRIDS[grid]
    known = aligners.defaults(aligner)
    for option, values in grid.items():
        if option not in known:
            raise ValueError(f"aligner {name!r} has no option {option!r}; there are {', '.join(known)}")
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid of {name!r}: {option} is {values!r}, expected a list of values to try")
    return grid


def _score_pair(
    maps: SimilarityMaps,
    aligner: str | None,
    run: Path | None,
    score: str,
    follow: bool,
    combinations: list[Options],
    pair: CandidatePair,
) -> list[tuple[float, float, int, int]]:
    """Precision, recall, and numbers of found and of true segments of a pair, with every combination."""
    loaded, of_pair = aligners.load(aligner, run), maps.map(pair.query, pair.reference)
    how = {"score": score, "level": maps.spec.bias}
    found = [aligners.find_segments(loaded, *of_pair, options, **how) for options in combinations]
    if follow and any(map(len, found)):
        kept = maps.kept(pair)
        found = [followed(given, *kept) for given in found]
    return [(*segments.pair(given, pair.truth), len(given), len(pair.truth)) for given in found]
