"""Align: the segments that pairs of videos share, from the features of their frames.

Pairs are those that a protocol judges (VCSL), or the nearest references that a search found for every query (VSC 2022).
Maps come and go one at a time, and pairs are shared out among processes.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.common import workers
from videomatch.common.progress import track
from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.localisation.aligning import align_of
from videomatch.localisation.intervals import to_seconds
from videomatch.localisation.maps import Frames, Pair, frames_of, pairs_of

log = logging.getLogger(__name__)

#: pairs that a process aligns before it reports
BATCH = 64
SCORES = ("mean", "max")


def align(
    *,
    corpus: Path,
    features: list[Path],
    output: Path,
    split: str | list[str],
    expert: str,
    aligner: str | None = None,
    options: dict[str, Any] | None = None,
    tuned: Path | None = None,
    run: Path | None = None,
    rankings: Path | None = None,
    top: int = 5,
    similarity: str = "cosine",
    bias: float = 0.0,
    noise: dict[str, Any] | None = None,
    every: float | None = None,
    query_expert: str | None = None,
    score: str = "mean",
    threads: int = 1,
) -> None:
    """Write ``segments.parquet`` (s) and ``align.json`` (of which pairs, and how).

    Args:
        corpus: result of ``prepare``.
        features: results of ``extract``.
        output: empty folder.
        split: the protocol.
        expert: whose features.
        aligner: file in ``aligners/``.
        options: of the aligner.
        tuned: result of ``tune`` that gives aligner, options, similarity, bias, noise, every and query_expert instead.
        run: result of ``train``: the detector that aligns instead of an aligner, with ``options``, or those of
            ``tuned``.
        rankings: folder of a member's ``rankings.parquet``: its ``top`` references of every query of the split are
            aligned instead of the judged pairs.
        top: of ``rankings``.
        similarity: of frames: ``cosine``, ``inner`` or ``chamfer``.
        bias: added to every similarity.
        noise: ``{split, beta, drop}``: scores are normalised by the references of that split.
        every: seconds between frames, to which key frames are spread out: then the line of a copy is straight, as a
            trained detector expects it.
        query_expert: whose frames queries bring, where ``expert``'s are the key frames of references.
        score: of a segment: the ``mean`` similarity along it (the aligner's own), or the ``max`` in its box (VSC
            2022's).
        threads: processes.

    Raises:
        ValueError: neither aligner nor tuned or both (nor a run), an unknown score, or no pair.
    """
    if (aligner is None) == (tuned is None) and (run is None or aligner is not None):
        raise ValueError("expected one of an aligner and the result of tune, to say how to align")
    if score not in SCORES:
        raise ValueError(f"no score {score!r}; there are {', '.join(SCORES)}")
    if tuned is not None:
        found = json.loads((tuned / "tuned.json").read_text(encoding="utf-8"))
        aligner, options = found["aligner"], found["options"]
        similarity, bias, noise = (found[k] for k in ("similarity", "bias", "noise"))
        every, query_expert = found["every"], found["query_expert"]
    align_of(aligner, run)  # an unknown one is refused before any work
    frames = frames_of(features, expert, similarity, bias, noise, corpus, every, query_expert)
    pairs = pairs_of(corpus, split, frames) if rankings is None else _nearest(corpus, split, rankings, top, frames)
    starts = range(0, len(pairs), BATCH)
    jobs = [(frames, pairs[at : at + BATCH], (aligner, run), options or {}, score) for at in starts]
    if threads < 2 or len(jobs) < 2:
        done = [_align_some(job) for job in track(jobs, label="align")]
    else:
        with workers.pool(min(threads, len(jobs))) as pool:
            done = list(track(pool.map(_align_some, jobs), total=len(jobs), label="align"))
    rows = [row for part in done for row in part]
    table = pl.DataFrame(rows, schema=tables.SCHEMAS["segments"], orient="row")
    tables.write("segments", table, output)
    about = {
        "split": split,
        "expert": expert,
        "aligner": aligner or "detector",
        "options": options or {},
        "similarity": similarity,
        "bias": bias,
        "noise": noise,
        "every": every,
        "query_expert": query_expert,
        "score": score,
        **_size(frames, sorted({pair.reference for pair in pairs})),
        "pairs": len(pairs),
        "pairs with a segment": table.select("query_id", "reference_id").n_unique(),
        "segments": len(table),
    }
    (output / "align.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    log.info("%d segments in %d pairs", len(table), len(pairs))


def _size(frames: Frames, references: list[str]) -> dict[str, float]:
    """How many frames were kept of how many hours of references."""
    times = [frames.store.times(reference) for reference in references]
    kept = [clock for clock in times if clock is not None and len(clock)]
    return {"frames": sum(map(len, kept)), "hours": sum(float(clock[-1, 1]) for clock in kept) / 3600}


def _nearest(corpus: Path, split: str | list[str], rankings: Path, top: int, frames: Frames) -> list[Pair]:
    """The ``top`` best references of every query of the split, where both have features; their truth is not looked
    up."""
    splits = tables.read("splits", corpus)
    names = [split] if isinstance(split, str) else split
    sides = {role: [i for name in names for i in split_ids(splits, name, role)] for role in ("query", "reference")}
    found = tables.read("rankings", rankings)
    for role, ids in sides.items():
        column = pl.col(f"{role}_id")
        found = found.filter(
            column.is_in(ids) & column.is_in((frames.queries if role == "query" else frames.store).ids)
        )
    found = found.sort("query_id", "better", "reference_id").group_by("query_id", maintain_order=True).head(top)
    if found.is_empty():
        raise ValueError(f"{rankings} ranks no pair of split {split!r} with features")
    return [Pair(q, r, np.zeros((0, 4))) for q, r in found.select("query_id", "reference_id").iter_rows()]


def _align_some(
    job: tuple[Frames, list[Pair], tuple[str | None, Path | None], dict[str, Any], str],
) -> list[tuple[Any, ...]]:
    """Rows of ``segments`` of some pairs: what a process does."""
    frames, pairs, aligner, options, score = job
    align_map, published = align_of(*aligner)[0], bool(options.get("published", False))
    rows: list[tuple[Any, ...]] = []
    for pair in pairs:
        values, query_times, reference_times = frames.map(pair.query, pair.reference)
        found = align_map(values, **options)
        if score == "max":
            found[:, 4] = [_largest(values, box, published) for box in found[:, :4].tolist()]
        whole = aligner[1] is None
        found = to_seconds(found, query_times, reference_times, published=published, whole=whole)
        # read as published, a segment of one frame has no length
        rows += [(pair.query, pair.reference, *s) for s in found.tolist() if s[1] > s[0] and s[3] > s[2]]
    return rows


def _largest(values: np.ndarray, box: list[float], published: bool) -> float:
    (q_start, r_start), (q_end, r_end) = map(math.floor, box[0::2]), map(math.ceil, box[1::2])
    return float(values[q_start : q_end + published, r_start : r_end + published].max())
