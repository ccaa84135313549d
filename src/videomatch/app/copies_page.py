"""The page of an answer of :mod:`videomatch.app.copies`: maps and strips of pictures, with pictures of files."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from videomatch.app.copies import WHOLE, Copies, CopySearch
from videomatch.media.thumbnail import data_url, strip
from videomatch.reports import segment_maps

#: drawings on a page: more would be a page that no browser opens quickly
MOST = 40


def render(search: CopySearch, answer: Copies) -> str:
    """The page of the question that ``search`` was asked last."""
    boxes = [
        segment_maps.DrawnSegment(
            s.query_start, s.query_end, s.reference_start, s.reference_end, s.score, number, s.reference,
            "" if s.view == WHOLE else s.view,
        )
        for number, s in enumerate(answer.segments, 1)
    ]  # fmt: skip
    asked: dict[tuple[str, str], list[segment_maps.DrawnSegment]] = {}
    for segment, box in zip(answer.segments, boxes, strict=True):
        asked.setdefault((segment.reference, segment.view), []).append(box)
    maps = [_map(search, answer, *pair, mine) for pair, mine in list(asked.items())[:MOST]]
    about = [
        f"{segment_maps.clock(answer.duration)} long, {answer.frames} frames ({answer.descriptor}); "
        f"{len(boxes)} segments, aligned by {answer.aligner} in {answer.candidates} candidates "
        f"of {len(search.index)} videos of the library {answer.library}.",
        *(f"{note[:1].upper()}{note[1:]}." for note in answer.notes),
    ]
    if len(asked) > MOST:
        about.append(f"The first {MOST} of {len(asked)} maps are drawn.")
    title = f"Where {Path(answer.asked).name} comes from"
    return segment_maps.page(title=title, about=about, segments=boxes, maps=maps)


def _map(
    search: CopySearch, answer: Copies, reference: str, view: str, boxes: list[segment_maps.DrawnSegment]
) -> tuple[str, Markup]:
    values, query, there = search.map(view, reference)
    sizes = segment_maps.layout(query, there)
    path = search.files.get(reference, {}).get("path")
    drawn = segment_maps.drawing(
        values, boxes, sizes,
        _pictures(Path(answer.asked), query, sizes.down),
        _pictures(Path(path), there, sizes.across) if path else [None] * sizes.across,
        title=f"similarity of {Path(answer.asked).name} and {reference}",
    )  # fmt: skip
    return reference if view == WHOLE else f"{reference}: {view} of the query", drawn


def _pictures(path: Path, duration: float, count: int) -> list[str | None]:
    return [None if still is None else data_url(still, 70) for still in strip(path, duration, count)]
