"""Pages of the segments that a system found: a list of queries, and the maps of each with found and true segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from videomatch.common.progress import track
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.localisation.maps import SimilarityMaps
from videomatch.metrics.segments import TIMES, overlaps
from videomatch.reports import pages
from videomatch.reports.segment_maps import DrawnSegment, drawing, resampled


def write(
    output: Path, corpus: Path, segments: Path, source: SimilarityMaps, split: str, top: int
) -> list[dict[str, Any]]:
    """Write a page for each of the ``top`` queries, those with true or found segments first; returns the rows of the
    list of them."""
    splits = tables.read("splits", corpus)
    queries = set(source.queries.ids)
    asked = [i for i in split_ids(splits, split, "query") if i in queries]
    references = list(set(source.references.ids) & set(split_ids(splits, split, "reference")))
    is_shown = pl.col("query_id").is_in(asked) & pl.col("reference_id").is_in(references)
    found, true = (tables.read("segments", folder).filter(is_shown) for folder in (segments, corpus))
    with_segments = {*found["query_id"], *true["query_id"]}
    paths = dict(corpora.videos(corpus).select("video_id", "path").iter_rows())
    rows = []
    asked.sort(key=lambda query: query not in with_segments)
    for number, query in enumerate(track(asked[:top], label="pages"), 1):
        file = f"query{number:03d}.html"
        of_query = (table.filter(pl.col("query_id") == query) for table in (found, true))
        html, counts = _query_page(source, paths, query, *of_query)
        (output / file).write_text(html, encoding="utf-8")
        rows.append({"query": query, "file": file} | counts)
    return rows


def _query_page(
    source: SimilarityMaps, paths: dict[str, str | None], query: str, found: pl.DataFrame, true: pl.DataFrame
) -> tuple[str, dict[str, int]]:
    """The page of one query, and how many segments are true, ``found`` of these, or found without a true one."""
    drawn: list[DrawnSegment] = []
    maps: list[tuple[str, Markup]] = []
    counts = {"true": 0, "found": 0, "wrong": 0}
    references = pl.concat([found["reference_id"], true["reference_id"]]).unique(maintain_order=True)
    for reference in references:
        here, known = (table.filter(pl.col("reference_id") == reference) for table in (found, true))
        true_times = known.select(TIMES).to_numpy()
        meets = overlaps(here.select(TIMES).to_numpy(), true_times)
        is_right = [bool(row.any()) for row in meets]
        counts["true"] += len(true_times)
        counts["found"] += int(meets.any(axis=0).sum())
        counts["wrong"] += is_right.count(False)
        rows = zip(here.select(*TIMES, pl.col("score").fill_null(0.0)).iter_rows(), is_right, strict=True)
        segments = [
            DrawnSegment(a, b, c, d, score, len(drawn) + n, reference, "" if right else "no true segment")
            for n, ((a, b, c, d, score), right) in enumerate(rows, 1)
        ]
        drawn += segments
        values, *times = source.map(query, reference)
        durations = [float(clock[-1, 1]) for clock in times]
        for axis in (0, 1):
            values = resampled(values, times[axis], durations[axis], axis=axis)
        files, title = (paths.get(query), paths.get(reference)), f"similarity of {query} and {reference}"
        maps.append((reference, drawing(values, segments, durations, files, title=title, true=true_times.tolist())))
    about = (
        f"{counts['true']} true segments (dashed), {counts['found']} of them found; {counts['wrong']} false segments."
    )
    html = pages.render("query.html", title=f"Where {query} comes from", about=[about], segments=drawn, maps=maps)
    return html, counts
