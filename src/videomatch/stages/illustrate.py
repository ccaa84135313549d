"""``illustrate``: a page of a run to look at: which method is ahead, tables with charts of their intervals, learning
curves, scores over grades and nearest neighbours; or the similarity maps of a system that aligns videos, with its
segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from videomatch.common.progress import track
from videomatch.data import corpus as corpora
from videomatch.data import tables as corpus_tables
from videomatch.localisation.maps import SimilarityMaps
from videomatch.media.thumbnail import data_url, thumbnail
from videomatch.metrics import correlation
from videomatch.metrics.segments import TIMES, overlaps
from videomatch.reports import charts, drawn_table, pages
from videomatch.reports.segment_maps import DrawnSegment, drawing, resampled, timeline
from videomatch.specs.similarity import SimilarityMap

#: queries on one page: a browser takes long to open a page of more
MAX_QUERIES = 60
#: points of one scatter: more hide each other
MAX_POINTS = 1500


def illustrate(
    *,
    corpus: Path,
    output: Path,
    title: str,
    top: int,
    system: str,
    member: str,
    rankings: Path | None = None,
    segments: Path | None = None,
    features: Sequence[Path] = (),
    similarity_map: dict[str, Any] | None = None,
    split: str | None = None,
    judged: Sequence[Path] = (),
    judged_names: Sequence[Sequence[str]] = (),
    tables: Sequence[Path] = (),
    table_charts: Sequence[str] = (),
    runs: Sequence[Path] = (),
    run_names: Sequence[Sequence[str]] = (),
) -> None:
    """Write ``index.html``, ``neighbours.csv`` and, of judged rankings, ``similarity-<system>-<member>.csv``; or, of
    segments, ``index.html`` and a page for each query.

    Args:
        system, member: what ``rankings`` (of ``search`` between videos) or ``segments`` (of ``align``, with its
            ``features``, ``split`` and ``similarity_map``) are of.
        tables, table_charts: results of ``tabulate``, and the chart of each: ``intervals`` or ``heat map``.
        judged, judged_names: results of ``search`` whose judged pairs are drawn, and the [system, member] of each.
        runs, run_names: results of ``train`` whose logs are drawn, and the [system, member] of each.
    """
    shown = [drawn_table.parts(*each) for each in zip(tables, table_charts, strict=True)]
    if segments is not None:
        assert similarity_map is not None and split is not None
        maps = SimilarityMaps.of(list(features), SimilarityMap.read(similarity_map), corpus)
        rows = segment_pages(output, corpus, segments, maps, split, top)
        about = f"System {system} ({member}) on {split}."
        html = pages.render("segments.html", title=title, about=about, rows=rows, tables=shown)
        (output / "index.html").write_text(html, encoding="utf-8")
        return
    assert rankings is not None
    nearest = neighbours(corpus_tables.read("rankings", rankings / member), top)
    nearest.write_csv(output / "neighbours.csv")
    scatters = []
    for folder, (name, part) in zip(judged, judged_names, strict=True):
        pairs = corpus_tables.read("rankings", folder / part)
        pairs = pairs.filter(pl.col("grade").is_finite() & pl.col("score").is_finite())
        pairs = pairs.select("query_id", "reference_id", "grade", "score").sort("query_id", "reference_id")
        pairs.write_csv(output / f"similarity-{name}-{part}.csv")
        scatters.append(scatter(name if part == "all" else f"{name}, {part}", pairs))
    logs: dict[str, dict[str, charts.Log]] = {}
    for folder, (name, part) in zip(runs, run_names, strict=True):
        logs.setdefault(name, {})[part] = charts.read_log(folder / "log.csv")
    queries, total = query_rows(corpus, nearest)
    html = pages.render(
        "run.html",
        title=title,
        system=system,
        top=top,
        queries=queries,
        total=total,
        tables=shown,
        scatters=scatters,
        systems=[training(name, members) for name, members in logs.items()],
    )
    (output / "index.html").write_text(html, encoding="utf-8")


def neighbours(rankings: pl.DataFrame, top: int) -> pl.DataFrame:
    """The ``top`` best references of each query: query_id, rank (from 1), reference_id, score; ties by id."""
    return (
        rankings.sort(["query_id", "score", "reference_id"], descending=[False, True, False])
        .with_columns(pl.int_range(1, pl.len() + 1).over("query_id").alias("rank"))
        .filter(pl.col("rank") <= top)
        .select("query_id", "rank", "reference_id", "score")
    )


def query_rows(corpus: Path, nearest: pl.DataFrame) -> tuple[list[dict[str, Any]], int]:
    """The queries that fit on a page, with titles, pictures and their ``near``; and how many queries there are."""
    queries = nearest["query_id"].unique(maintain_order=True).to_list()
    part = nearest.filter(pl.col("query_id").is_in(every_nth(queries, MAX_QUERIES)))
    shown = pl.concat([part["query_id"], part["reference_id"]]).unique().implode()
    texts = corpus_tables.read("texts", corpus).filter(pl.col("kind") == "title")
    titles = dict(texts.select("video_id", "text").iter_rows())
    videos = corpora.videos(corpus).filter(pl.col("video_id").is_in(shown))
    pictures = {}
    about = videos.select("video_id", "path", "duration", "start").rows()
    for video, path, duration, start in track(about, label="thumbnails"):
        still = thumbnail(Path(path), duration, start) if path else None
        pictures[video] = data_url(still) if still is not None else None

    def of(video_id: str) -> dict[str, Any]:
        return {"id": video_id, "title": titles.get(video_id, ""), "picture": pictures.get(video_id)}

    rows = [
        of(query) | {"near": [of(r) | {"score": s} for r, s in group.select("reference_id", "score").iter_rows()]}
        for (query,), group in part.group_by("query_id", maintain_order=True)
    ]
    return rows, len(queries)


def every_nth(values: Sequence[Any], count: int) -> Sequence[Any]:
    """At most ``count`` of some values, evenly."""
    return values[:: max(1, -(-len(values) // count))]


def scatter(system: str, pairs: pl.DataFrame) -> dict[str, Any]:
    """``name``, ``note`` (Spearman and Pearson over all pairs) and ``svg`` (at most :data:`MAX_POINTS` of them)."""
    grade, score = pairs["grade"].to_numpy().astype(np.float64), pairs["score"].to_numpy().astype(np.float64)
    note = f"{len(pairs):,} pairs"
    if len(pairs) > 1:
        spearman, pearson = correlation.spearman(score, grade), correlation.pearson(score, grade)
        note = f"Spearman {spearman:.3f} · Pearson {pearson:.3f} · {note}"
    shown = np.array(every_nth(range(len(pairs)), MAX_POINTS), np.int64)
    if len(shown) < len(pairs):
        note += f", {len(shown):,} drawn"
    hints = [f"{q} – {r}: cosine {s:.3f}, grade {g:.3g}" for q, r, g, s in pairs[shown].iter_rows()]
    svg = charts.scatter_chart(f"cosine over grade, {system}", grade, score, shown, hints)
    return {"name": system, "note": note, "svg": svg}


def training(system: str, members: dict[str, charts.Log]) -> dict[str, Any]:
    """``name``, ``note`` and ``charts`` of a system's runs."""
    epochs = max(len(log["epoch"]) for log in members.values())
    note = f"{len(members)} {'run' if len(members) == 1 else 'runs'} ({', '.join(members)}), {epochs} epochs"
    return {"name": system, "note": note, "charts": charts.learning_curves(system, members)}


def segment_pages(
    output: Path, corpus: Path, segments: Path, source: SimilarityMaps, split: str, top: int
) -> list[dict[str, Any]]:
    """Write a page for each of the ``top`` queries, those with true or found segments first; returns the rows of the
    list of them."""
    queries = set(source.queries.ids)
    asked = [i for i in corpora.pooled_ids(corpus, split, ["query"]) if i in queries]
    references = list(set(source.references.ids) & set(corpora.pooled_ids(corpus, split)))
    is_shown = pl.col("query_id").is_in(asked) & pl.col("reference_id").is_in(references)
    found, true = (corpus_tables.read("segments", folder).filter(is_shown) for folder in (segments, corpus))
    with_segments = {*found["query_id"], *true["query_id"]}
    paths = dict(corpora.videos(corpus).select("video_id", "path").iter_rows())
    rows = []
    asked.sort(key=lambda query: query not in with_segments)
    for page, query in enumerate(track(asked[:top], label="pages"), 1):
        file = f"query{page:03d}.html"
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
    maps: list[tuple[str, Markup, list[DrawnSegment]]] = []
    counts = {"true": 0, "found": 0, "wrong": 0}
    durations = [0.0, 0.0]
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
        drawn_map = drawing(values, segments, durations, files, title=title, true=true_times.tolist())
        maps.append((reference, drawn_map, segments))
    found_of_true = f"{counts['true']} true segments (dashed), {counts['found']} of them found"
    about = f"{found_of_true}; {counts['wrong']} false segments."
    line = timeline(drawn, durations[0], paths.get(query))
    content = {"segments": drawn, "timeline": line, "maps": maps, "players": {}, "links": ()}
    return pages.render("query.html", title=f"Where {query} comes from", about=[about], **content), counts
