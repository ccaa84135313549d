"""The page of an answer of :mod:`videomatch.app.copies`: similarity maps with their segments, and pictures of both
videos."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from videomatch.app.copies import WHOLE, Copies, CopySearch
from videomatch.reports import pages, segment_maps

#: maps on a page at most, so that browsers open it quickly
MAX_MAPS = 40


def render(search: CopySearch, answer: Copies) -> str:
    """The page of the last answer of ``search``."""
    segments = [
        segment_maps.DrawnSegment(
            s.query_start, s.query_end, s.reference_start, s.reference_end, s.score, number, s.reference,
            "" if s.view == WHOLE else s.view,
        )
        for number, s in enumerate(answer.segments, 1)
    ]  # fmt: skip
    pairs: dict[tuple[str, str], list[segment_maps.DrawnSegment]] = {}
    for found, drawn in zip(answer.segments, segments, strict=True):
        pairs.setdefault((found.reference, found.view), []).append(drawn)
    maps = [_map(search, answer, *pair, drawn) for pair, drawn in list(pairs.items())[:MAX_MAPS]]
    about = [
        f"{segment_maps.clock(answer.duration)} long, {answer.frames} frames ({answer.descriptor}); "
        f"{len(segments)} segments, aligned by {answer.aligner} in {answer.candidates} candidates "
        f"of {len(search.index)} videos of the library {answer.library}.",
        *(f"{note[:1].upper()}{note[1:]}." for note in answer.notes),
    ]
    if len(pairs) > MAX_MAPS:
        about.append(f"The first {MAX_MAPS} of {len(pairs)} maps are drawn.")
    title = f"Where {Path(answer.asked).name} comes from"
    return pages.render("query.html", title=title, about=about, segments=segments, maps=maps)


def _map(
    search: CopySearch, answer: Copies, reference: str, view: str, segments: list[segment_maps.DrawnSegment]
) -> tuple[str, Markup]:
    """The heading and the drawing of one map."""
    similarity, *durations = search.map(view, reference)
    paths = answer.asked, search.files.get(reference, {}).get("path")
    title = f"similarity of {Path(answer.asked).name} and {reference}"
    drawn = segment_maps.drawing(similarity, segments, durations, paths, title=title)
    return reference if view == WHOLE else f"{reference}: {view} of the query", drawn
