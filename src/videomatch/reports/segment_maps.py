"""A similarity map as a drawing: the reference's time runs to the right, the query's down, both strips of frames are
along their axis, and a segment is a box; and the timeline of a query, where a segment is a bar."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from PIL import Image

from videomatch.media.thumbnail import strip
from videomatch.reports import pages
from videomatch.reports.pages import clock

#: room for the map, and the least of a side, in units of the drawing
WIDTH, HEIGHT, LEAST = 780.0, 560.0, 120.0
#: cells of a map's picture on a side at most
CELLS = 640
#: frames and ticks of a timeline, so that telephones show them
STILLS, TICKS = 12, 5
#: steps of a time axis, s
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
#: colours of similarities from low to high (dark to light in steps that look equal, for every kind of colour vision)
COLOURS = np.array([[0, 20, 60], [40, 62, 110], [108, 110, 116], [176, 160, 106], [255, 234, 90]], np.float64)


@dataclass(frozen=True)
class DrawnSegment:
    """A segment: four times in seconds, its score, its number in the table, and a note on it."""

    query_start: float
    query_end: float
    reference_start: float
    reference_end: float
    score: float
    number: int
    reference: str = ""
    note: str = ""


class Layout:
    """Sizes: ``width`` and ``height`` of the map, frames of the reference's strip (``across``) and of the query's
    (``down``). A second has one length on both axes, unless a side would be shorter than :data:`LEAST`."""

    margin = 6.0  # around all
    still_width, still_height = 84.0, 52.0  # of a frame in the strips
    left, top = margin + still_width + 48, margin + still_height + 20  # corner of the map, behind the ticks

    def __init__(self, query_duration: float, reference_duration: float) -> None:
        self.query_duration, self.reference_duration = max(query_duration, 1e-3), max(reference_duration, 1e-3)
        scale = min(WIDTH / self.reference_duration, HEIGHT / self.query_duration)
        self.width = max(LEAST, scale * self.reference_duration)
        self.height = max(LEAST, scale * self.query_duration)
        self.across = max(1, round(self.width / self.still_width))
        self.down = max(1, round(self.height / self.still_height))

    def x(self, second: float) -> float:
        """Where a time of the reference is in the drawing."""
        return self.left + second * self.width / self.reference_duration

    def y(self, second: float) -> float:
        """Where a time of the query is in the drawing."""
        return self.top + second * self.height / self.query_duration


def resampled(
    values: Float[np.ndarray, "rows columns"],
    times: Float[np.ndarray, "frames 2"],
    duration: float,
    cells: int = CELLS,
    axis: int = 0,
) -> np.ndarray:
    """A map in at most ``cells`` equal cells of time on one axis (0 the query's), as many as tell the shortest frame:
    each the maximum of the frames in it, so that a thin line stays one. A cell in which no frame starts has the frame
    on screen. ``times`` are start and end of every frame (s, rising), ``duration`` is that of all cells.
    """
    if len(times) != values.shape[axis]:
        raise ValueError(f"{len(times)} times for axis {axis} of a map of shape {values.shape}, expected one each")
    if not len(times):
        return values
    shortest = float(np.diff(times, axis=1).min())
    count = cells if shortest <= 0 else int(np.clip(math.ceil(duration / shortest - 1e-6), 1, cells))
    edges = np.arange(count + 1) * (duration / count)
    first = np.clip(np.searchsorted(times[:, 0], edges[:-1] + 1e-9, side="right") - 1, 0, len(times) - 1)
    last = np.clip(np.searchsorted(times[:, 0], edges[1:] - 1e-9) - 1, 0, len(times) - 1)
    # `reduceat` goes up to the frame on screen where the next cell begins, which may have begun in this one
    return np.maximum(np.maximum.reduceat(values, first, axis=axis), np.take(values, last, axis=axis))


def drawing(
    similarity: Float[np.ndarray, "rows columns"],
    segments: Sequence[DrawnSegment],
    durations: Sequence[float],
    paths: Sequence[str | None],
    *,
    title: str,
    true: Sequence[Sequence[float]] = (),
) -> Markup:
    """A map (:func:`resampled` on both axes) with its segments; ``true`` ones (four times, s) are dashed. ``durations``
    and ``paths`` are of the query and the reference; without a path there are no pictures."""
    sizes = Layout(*durations)
    step, seconds = ticks(sizes.reference_duration, sizes.width / 70)
    query_step, query_seconds = ticks(sizes.query_duration, sizes.height / 40)
    svg = pages.render(
        "map.svg",
        title=title,
        picture=picture(similarity),
        segments=segments,
        truth=true,
        sizes=sizes,
        query_strip=strip(paths[0], durations[0], sizes.down),
        reference_strip=strip(paths[1], durations[1], sizes.across),
        reference_ticks=[(s, clock(s, step)) for s in seconds],
        query_ticks=[(s, clock(s, query_step)) for s in query_seconds],
    )
    return Markup(svg)


def timeline(segments: Sequence[DrawnSegment], duration: float, path: str | None) -> dict[str, list[Any]]:
    """The time of a query, which lasts ``duration`` s, from left to right: a ``strip`` of its frames, ``ticks`` (place,
    label), and ``lanes``, one per reference and note: its name, and its segments with place and width, in percent."""
    scale = 100 / max(duration, 1e-3)
    step, seconds = ticks(duration, TICKS)
    lanes: dict[str, list[tuple[DrawnSegment, float, float]]] = {}
    for s in segments:
        name = f"{s.reference} ({s.note})" if s.note else s.reference
        lanes.setdefault(name, []).append((s, scale * s.query_start, scale * (s.query_end - s.query_start)))
    return {
        "strip": strip(path, duration, STILLS) if segments else [],
        "ticks": [(scale * s, clock(s, step)) for s in seconds],
        "lanes": list(lanes.items()),
    }


def picture(similarity: Float[np.ndarray, "rows columns"]) -> str:
    """A map as the address of a PNG, from the 20 % quantile (dark) to the maximum (light)."""
    values = np.nan_to_num(np.asarray(similarity, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if not values.size:
        values = np.zeros((1, 1))
    low, high = np.quantile(values, 0.2), values.max()
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    stops = np.linspace(0, 1, len(COLOURS))
    table = np.stack([np.interp(np.linspace(0, 1, 256), stops, COLOURS[:, c]) for c in range(3)], axis=1)
    image = Image.fromarray(np.round(share * 255).astype(np.uint8), "P")
    image.putpalette(np.round(table).astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def ticks(duration: float, most: float) -> tuple[float, list[float]]:
    """A round step, and its multiples from 0 to the end of a video, about ``most`` of them at most."""
    step = next((s for s in STEPS if duration / s <= max(1.0, most)), duration)
    return step, [n * step for n in range(math.floor(duration / step + 1e-9) + 1)]
