"""Tune: the options of an aligner that give the best F1 on the pairs of a split (VCSL's overall F1).

Every combination of the grid is tried on every pair. A map is made once and aligned with all combinations, and pairs
are shared out among processes: results do not depend on how many there are. Of combinations with the same F1 the
simplest is taken: the one with the fewest options that differ from the aligner's own defaults, then the first in the
grid's order.
"""

from __future__ import annotations

import inspect
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.common import workers
from videomatch.common.progress import track
from videomatch.localisation.aligning import Align, Grids, align_of
from videomatch.localisation.intervals import to_seconds
from videomatch.localisation.maps import Frames, Pair, frames_of, pairs_of
from videomatch.metrics import segments

log = logging.getLogger(__name__)

#: pairs that a process aligns before it reports
BATCH = 16

Grid = Mapping[str, Sequence[Any]]
Options = dict[str, Any]
#: a file in ``aligners/``, or a trained detector
Aligner = tuple[str | None, Path | None]


def tune(
    *,
    corpus: Path,
    features: list[Path],
    output: Path,
    split: str | list[str],
    expert: str,
    aligner: str | None = None,
    run: Path | None = None,
    grid: str | dict[str, list[Any]] = "ours",
    similarity: str = "cosine",
    bias: float = 0.0,
    noise: dict[str, Any] | None = None,
    every: float | None = None,
    query_expert: str | None = None,
    threads: int = 1,
) -> None:
    """Write ``tuned.json`` (the best options and what they reach) and ``trials.csv`` (every combination, in the order
    of the grid).

    Args:
        corpus: result of ``prepare``.
        features: results of ``extract``.
        output: empty folder.
        split: the protocol whose judged pairs are aligned (several are pooled): validation pairs, never the test's.
        expert: whose features.
        aligner: file in ``aligners/``.
        run: result of ``train``: the detector that is tuned instead.
        grid: a name of the aligner's ``GRIDS`` (``ours``, ``published``), or option -> values to try.
        similarity: of frames: ``cosine``, ``inner`` or ``chamfer``.
        bias: added to every similarity (VSC 2022: 0.5 after score normalisation).
        noise: ``{split, beta, drop}``: scores are normalised by the references of that split.
        every: seconds between frames, to which key frames are spread out: then the line of a copy is straight, as a
            trained detector expects it.
        query_expert: whose frames queries bring, where ``expert``'s are the key frames of references.
        threads: processes.

    Raises:
        ValueError: an unknown aligner, grid, option or similarity, or no pair with features.
    """
    function, grids = align_of(aligner, run)
    values = _grid(function, grids, aligner or "detector", grid)
    frames = frames_of(features, expert, similarity, bias, noise, corpus, every, query_expert)
    pairs = pairs_of(corpus, split, frames)
    combinations = list(combined(values))
    log.info("%d pairs, %d combinations", len(pairs), len(combinations))
    scores = _scores(frames, pairs, (aligner, run), combinations, threads)
    trials = [{**options, **segments.overall(one)} for options, one in zip(combinations, scores, strict=True)]
    at = best(trials, combinations, defaults(function))
    table = pl.DataFrame([{k: _cell(v) for k, v in trial.items()} for trial in trials], infer_schema_length=None)
    table.write_csv(output / "trials.csv")
    about = {
        "aligner": aligner,
        "options": combinations[at],
        "metrics": {name: trials[at][name] for name in ("precision", "recall", "F1", "FRR", "FAR")},
        "split": split,
        "expert": expert,
        "similarity": similarity,
        "bias": bias,
        "noise": noise,
        "every": every,
        "query_expert": query_expert,
        "pairs": len(pairs),
        "copies": sum(len(pair.truth) > 0 for pair in pairs),
        "combinations": len(combinations),
    }
    (output / "tuned.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    log.info("best of %d: %s, F1 %.4f", len(trials), combinations[at], trials[at]["F1"])


def combined(grid: Grid) -> Iterator[Options]:
    """Every combination of the grid's values; the last option changes fastest."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def score_pair(
    align: Callable[..., np.ndarray],
    values: np.ndarray,
    query_times: np.ndarray,
    reference_times: np.ndarray,
    truth: np.ndarray,
    combinations: Iterable[Options],
    *,
    whole: bool = True,
) -> list[tuple[float, float, int]]:
    """Precision, recall and number of segments of one map under every combination.

    Args:
        align: of an aligner.
        values: (Q, R) similarities; the times of both sides, (Q, 2) and (R, 2), s.
        truth: (M, 4) true segments, s.
        combinations: options of ``align``.
        whole: false where segments may begin and end within a frame.
    """
    found = []
    for options in combinations:
        published = bool(options.get("published", False))
        given = to_seconds(align(values, **options), query_times, reference_times, published=published, whole=whole)
        if published:  # a segment of one frame has no length on that clock
            given = given[(given[:, 1] > given[:, 0]) & (given[:, 3] > given[:, 2])]
        found.append((*segments.pair(given, truth), len(given)))
    return found


def best(trials: Sequence[Mapping[str, float]], combinations: Sequence[Options], usual: Mapping[str, Any]) -> int:
    """Which of the trials has the highest F1; of equal ones the simplest.

    Args:
        trials: with ``F1``.
        combinations: the options of each.
        usual: the aligner's defaults.
    """

    def order(at: int) -> tuple[float, int, int]:
        return -trials[at]["F1"], sum(usual.get(k) != v for k, v in combinations[at].items()), at

    return min(range(len(trials)), key=order)


def defaults(align: Callable[..., Any]) -> Options:
    """The options of an aligner and their defaults."""
    arguments = inspect.signature(align).parameters.values()
    return {a.name: a.default for a in arguments if a.kind is a.KEYWORD_ONLY}


def _grid(align: Align, grids: Grids, aligner: str, grid: str | Grid) -> Grid:
    if isinstance(grid, str):
        if grid not in grids:
            raise ValueError(f"aligner {aligner!r} has no grid {grid!r}; there are {', '.join(grids)}")
        return grids[grid]
    known = defaults(align)
    for name, values in grid.items():
        if name not in known:
            raise ValueError(f"aligner {aligner!r} has no option {name!r}; there are {', '.join(known)}")
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid of {aligner!r}: {name} is {values!r}, expected a list of values to try")
    return grid


def _scores(
    frames: Frames, pairs: list[Pair], aligner: Aligner, combinations: list[Options], threads: int
) -> list[segments.Scores]:
    """What every combination reaches on the pairs."""
    parts = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
    jobs = [(frames, part, aligner, combinations) for part in parts]
    if threads < 2 or len(jobs) < 2:
        done = [_align_some(job) for job in track(jobs, label="tune")]
    else:
        with workers.pool(min(threads, len(jobs))) as pool:
            done = list(track(pool.map(_align_some, jobs), total=len(jobs), label="tune"))
    # (combinations, pairs, 3)
    table = np.array([row for part in done for row in part], np.float64).reshape(len(pairs), len(combinations), 3)
    relevant = np.array([len(pair.truth) for pair in pairs])
    return [
        segments.Scores(table[:, n, 0], table[:, n, 1], table[:, n, 2].astype(np.int64), relevant)
        for n in range(len(combinations))
    ]


def _align_some(job: tuple[Frames, list[Pair], Aligner, list[Options]]) -> list[list[tuple[float, float, int]]]:
    """Some pairs under every combination: what a process does."""
    frames, pairs, aligner, combinations = job
    align, whole = align_of(*aligner)[0], aligner[1] is None
    return [score_pair(align, *frames.map(p.query, p.reference), p.truth, combinations, whole=whole) for p in pairs]


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else json.dumps(value)
