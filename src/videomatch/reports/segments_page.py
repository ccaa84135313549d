"""Pages of the segments that a system found: the maps of some queries with their segments, found and true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from videomatch.common.progress import track
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.localisation.maps import Frames, frames_of
from videomatch.media.thumbnail import data_url, strip
from videomatch.metrics.segments import overlaps
from videomatch.reports import copies, copies_index

TIMES = ("query_start", "query_end", "reference_start", "reference_end")


def write(
    *,
    corpus: Path,
    segments: Path,
    features: list[Path],
    compared: dict[str, Any],
    split: str,
    output: Path,
    title: str,
    about: str,
    top: int,
    printed: list[Markup],
) -> None:
    """Write ``index.html`` and a page of each of the ``top`` queries, those with true or found segments first.

    Args:
        corpus: result of ``prepare``.
        segments: result of ``align``.
        features: of ``extract`` or ``condense``.
        compared: ``expert``, ``similarity``, ``bias``, ``every``, ``query_expert`` and ``noise`` of the maps.
        split: the protocol.
        output: empty folder.
        title: heading. about: a line below it. top: queries. printed: tables for the first page.
    """
    frames = frames_of(
        features,
        compared["expert"],
        compared.get("similarity", "cosine"),
        compared.get("bias", 0.0),
        compared.get("noise"),
        corpus,
        compared.get("every"),
        compared.get("query_expert"),
    )
    splits = tables.read("splits", corpus)
    there = set(frames.queries.ids)
    sides = {
        "query": set(split_ids(splits, split, "query")) & there,
        "reference": set(split_ids(splits, split, "reference")) & set(frames.store.ids),
    }
    inside = [pl.col(f"{role}_id").is_in(list(ids)) for role, ids in sides.items()]
    found, true = (tables.read("segments", folder).filter(inside) for folder in (segments, corpus))
    asked = [i for i in split_ids(splits, split, "query") if i in there]
    some = set(found["query_id"]) | set(true["query_id"])
    asked = [*(i for i in asked if i in some), *(i for i in asked if i not in some)][:top]
    paths = dict(corpora.videos(corpus).select("video_id", "path").iter_rows())
    rows = []
    for number, query in enumerate(track(asked, label="pages"), 1):
        mine, known = (table.filter(pl.col("query_id") == query) for table in (found, true))
        file = f"query{number:03d}.html"
        page, row = _query(frames, paths, query, mine, known, file)
        (output / file).write_text(page, encoding="utf-8")
        rows.append(row)
    page = copies_index.render(title=title, about=[about], rows=rows, tables=printed)
    (output / "index.html").write_text(page, encoding="utf-8")


def _query(
    frames: Frames, paths: dict[str, str | None], query: str, found: pl.DataFrame, true: pl.DataFrame, file: str
) -> tuple[str, copies_index.Row]:
    """The page of one query, and its row of the first page."""
    boxes: list[copies.Box] = []
    pairs: list[copies.Pair] = []
    met, right, wrong = 0, 0, 0
    references = [*found["reference_id"].unique(maintain_order=True), *true["reference_id"].unique(maintain_order=True)]
    for reference in dict.fromkeys(references):
        here = found.filter(pl.col("reference_id") == reference)
        given, known = (
            here.select(TIMES).to_numpy(),
            true.filter(pl.col("reference_id") == reference).select(TIMES).to_numpy(),
        )
        meets = overlaps(given, known)
        met, right = met + int(meets.any(axis=0).sum()), right + len(known)
        hits = [bool(row.any()) for row in meets]
        wrong += hits.count(False)
        mine = [
            copies.Box(
                *(start, end, first, last),
                score=score or 0.0,
                number=len(boxes) + n,
                reference=reference,
                note="" if hit else "no true segment",
            )
            for n, ((start, end, first, last), score, hit) in enumerate(
                zip(given.tolist(), here["score"].to_list(), hits, strict=True), 1
            )
        ]
        drawn = _drawing(frames, paths, query, reference, mine, known)
        boxes += mine
        pairs.append(copies.Pair(reference, drawn, mine))
    about = [f"{right} true segments (dashed), {met} of them found; {wrong} found that are none."]
    page = copies.render(title=f"Where {query} comes from", about=about, boxes=boxes, pairs=pairs)
    return page, copies_index.Row(query, file, right, met, wrong)


def _drawing(
    frames: Frames, paths: dict[str, str | None], query: str, reference: str, boxes: list[copies.Box], true: np.ndarray
) -> Markup:
    values, *times = frames.map(query, reference)
    lengths = [float(clock[-1, 1]) for clock in times]
    for axis in (0, 1):
        values = copies.resampled(values, times[axis], lengths[axis], axis=axis)
    sizes = copies.layout(*lengths)
    strips = [
        _strip(paths.get(video_id), length, count)
        for video_id, length, count in zip((query, reference), lengths, (sizes.down, sizes.across), strict=True)
    ]
    return copies.drawing(values, boxes, sizes, *strips, title=f"similarity of {query} and {reference}", true=true)


def _strip(path: str | None, duration: float, count: int) -> list[str | None]:
    if path is None:
        return [None] * count
    return [None if still is None else data_url(still, 70) for still in strip(Path(path), duration, count)]
