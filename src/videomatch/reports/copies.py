"""The page of one query video and where its parts come from: maps of similarity with the segments drawn in.

Each pair of videos is one drawing: the reference's time runs to the right, the query's down, both strips of pictures
stand along their axis, and a segment is a box. Everything is in the page itself: no script, no font, no address; all
text is escaped. These are functions of arrays, times and pictures (``data:`` addresses); who has files brings them.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from PIL import Image

from videomatch.reports.chart import tag
from videomatch.reports.template import framed

#: room for the map, and the least of a side, in units of the drawing
WIDTH, HEIGHT, LEAST = 780.0, 560.0, 120.0
#: of a picture in the strips; between strip and map, for the ticks; around all
STILL_WIDTH, STILL_HEIGHT, TICKS, MARGIN = 84.0, 52.0, 48.0, 6.0
#: cells of a map's picture on a side at most
CELLS = 640
#: steps of a time axis, s
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
#: colours from unlike to alike (dark to light in steps that look equal, for every kind of colour vision)
COLOURS = np.array([[0, 20, 60], [40, 62, 110], [108, 110, 116], [176, 160, 106], [255, 234, 90]], np.float64)


@dataclass(frozen=True)
class Box:
    """A segment: four times in seconds, its score, its number in the table, and what else is known of it."""

    query_start: float
    query_end: float
    reference_start: float
    reference_end: float
    score: float
    number: int
    reference: str = ""
    note: str = ""

    @property
    def speed(self) -> float:
        """Seconds of the reference a second of the query."""
        return (self.reference_end - self.reference_start) / max(self.query_end - self.query_start, 1e-9)


@dataclass(frozen=True)
class Layout:
    """Sizes of one drawing.

    Attributes:
        query_duration, reference_duration: s. width, height: of the map: a second has one length on both axes, unless
        a side would be shorter than :data:`LEAST`. across, down: pictures of the reference's and the query's strip.
    """

    query_duration: float
    reference_duration: float
    width: float
    height: float
    across: int
    down: int


@dataclass(frozen=True)
class Pair:
    """A query and one reference: names, segments, and the drawing of :func:`drawing`."""

    reference: str
    drawing: Markup
    boxes: Sequence[Box] = field(default=())


def layout(query_duration: float, reference_duration: float) -> Layout:
    """How large the drawing of two videos is, and how many pictures stand along its sides."""
    query, reference = (max(float(d), 1e-3) for d in (query_duration, reference_duration))
    scale = min(WIDTH / reference, HEIGHT / query)
    width, height = max(LEAST, scale * reference), max(LEAST, scale * query)
    across, down = (max(1, round(side / still)) for side, still in ((width, STILL_WIDTH), (height, STILL_HEIGHT)))
    return Layout(query, reference, width, height, across, down)


def resampled(
    values: Float[np.ndarray, "rows columns"],
    times: Float[np.ndarray, "frames 2"],
    duration: float,
    cells: int = CELLS,
    axis: int = 0,
) -> np.ndarray:
    """A map whose frames on one axis stand at their times: ``min(cells, …)`` equal cells of time, each the most alike
    of the frames in it, so that a thin line stays one. A cell without a frame of its own shows the one on screen.

    Args:
        values: the map.
        times: start and end of every frame of that axis, s, rising.
        duration: that the cells span, s.
        cells: at most; never fewer than it takes to tell the shortest frame, up to that.
        axis: 0 the query's, 1 the reference's.

    Raises:
        ValueError: times that are not as many as frames.
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
    boxes: Sequence[Box],
    sizes: Layout,
    query_strip: Sequence[str | None],
    reference_strip: Sequence[str | None],
    *,
    title: str,
    true: Float[np.ndarray, "segments 4"] | None = None,
) -> Markup:
    """A map with its segments, both strips and both axes.

    Args:
        similarity: equal cells of time on both axes (:func:`resampled`), whatever range.
        boxes: of this pair.
        sizes: of :func:`layout`.
        query_strip, reference_strip: ``data:`` addresses of pictures at the middles of equal parts of each video, in
            the order of time; None where there is none.
        title: for those who cannot see it.
        true: segments that are known to be there, s, drawn dashed.
    """
    left, top = MARGIN + STILL_WIDTH + TICKS, MARGIN + STILL_HEIGHT + 20
    right, bottom = left + sizes.width, top + sizes.height
    across, down = sizes.width / sizes.reference_duration, sizes.height / sizes.query_duration
    drawn = [
        tag("image", x=left, y=top, width=sizes.width, height=sizes.height, href=picture(similarity),
            preserveAspectRatio="none", class_="map"),
    ]  # fmt: skip
    drawn += _strip(reference_strip, left, MARGIN, sizes.width / max(1, len(reference_strip)), 0.0)
    drawn += _strip(query_strip, MARGIN, top, 0.0, sizes.height / max(1, len(query_strip)))
    step, seconds = ticks(sizes.reference_duration, sizes.width / 70)
    for second in seconds:
        x = left + second * across
        drawn.append(tag("path", d=f"M{x:.1f} {top - 4:.1f}v4", class_="axis"))
        anchor = "end" if x > right - 14 else "middle"
        drawn.append(tag("text", clock(second, step), x=x, y=top - 7, text_anchor=anchor))
    step, seconds = ticks(sizes.query_duration, sizes.height / 40)
    for second in seconds:
        y = top + second * down
        drawn.append(tag("path", d=f"M{left - 4:.1f} {y:.1f}h4", class_="axis"))
        drawn.append(tag("text", clock(second, step), x=left - 7, y=min(y + 4, bottom), text_anchor="end"))
    for box in boxes:
        x, y = left + box.reference_start * across, top + box.query_start * down
        width = (box.reference_end - box.reference_start) * across
        height = (box.query_end - box.query_start) * down
        hint = tag("title", said(box))
        drawn.append(tag("rect", x=x, y=MARGIN, width=width, height=STILL_HEIGHT, class_="part"))
        drawn.append(tag("rect", x=MARGIN, y=y, width=STILL_WIDTH, height=height, class_="part"))
        drawn.append(tag("rect", hint, x=x, y=y, width=width, height=height, class_="segment"))
        drawn.append(tag("text", str(box.number), x=x + 4, y=y + 13, class_="number"))
    for start, end, first, last in [] if true is None else true.tolist():
        place = {"x": left + first * across, "y": top + start * down}
        size = {"width": (last - first) * across, "height": (end - start) * down}
        drawn.append(tag("rect", **place, **size, class_="true"))
    view = f"0 0 {right + MARGIN:.0f} {bottom + MARGIN:.0f}"
    return tag(
        "svg", Markup("").join(drawn), viewBox=view, role="img", aria_label=title,
        style=f"max-width: {right + MARGIN:.0f}px",
    )  # fmt: skip


def _strip(pictures: Sequence[str | None], x: float, y: float, right: float, down: float) -> list[Markup]:
    """Pictures in a row, or one below the other."""
    parts = []
    for number, one in enumerate(pictures):
        where: dict[str, Any] = {
            "x": x + number * right,
            "y": y + number * down,
            "width": right or STILL_WIDTH,
            "height": down or STILL_HEIGHT,
        }
        parts.append(tag("rect", **where, class_="frame"))
        if one:
            parts.append(tag("image", **where, href=one, preserveAspectRatio="xMidYMid slice"))
    return parts


def picture(similarity: Float[np.ndarray, "rows columns"]) -> str:
    """A map as a PNG, from the value that one cell in five is below (dark) to the largest (light)."""
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


def clock(seconds: float, step: float = 0.1) -> str:
    """``mm:ss.s``, ``h:mm:ss.s`` from an hour on; without tenths where ``step`` is whole seconds."""
    tenths = max(0, round(seconds * 10))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60) if minutes >= 60 else (0, minutes)
    text = (f"{hours}:" if hours else "") + f"{minutes:02d}:{rest // 10:02d}"
    return text if step >= 1 else f"{text}.{rest % 10}"


def ticks(duration: float, most: float) -> tuple[float, list[float]]:
    """A round step, and its multiples from 0 to the end of a video, about ``most`` of them at most."""
    step = next((s for s in STEPS if duration / s <= max(1.0, most)), duration)
    return step, [n * step for n in range(math.floor(duration / step + 1e-9) + 1)]


def said(box: Box) -> str:
    """A segment in words."""
    where = f"{clock(box.query_start)}–{clock(box.query_end)} is {clock(box.reference_start)}–"
    return (
        f"{box.number}: {where}{clock(box.reference_end)}, score {box.score:.3f}{f', {box.note}' if box.note else ''}"
    )


MORE = """
.error { color: var(--val); } .pair { margin: 0 0 2rem; } .pair h3 { overflow-wrap: anywhere; }
.map { image-rendering: pixelated; } rect.frame { fill: var(--card); stroke: none; }
.true { fill: none; stroke: #fff; stroke-width: 1.5; stroke-dasharray: 5 4; }
.segment { fill: none; stroke: #ff5a36; stroke-width: 2; } .part { fill: none; stroke: #ff5a36; stroke-width: 3; }
svg text.number { fill: #fff; font-weight: 700; paint-order: stroke; stroke: #b22a0c; stroke-width: 3px; }
th:nth-child(3), td:nth-child(3) { overflow-wrap: anywhere; white-space: normal; text-align: left; }
th:first-child, td:first-child { min-width: 2rem; } .axis { stroke: var(--soft); }
"""

PAGE = """<h1>{{ title }}</h1>
{% for line in about %}<p>{{ line }}</p>
{% endfor %}
{% if not boxes %}<p>No part of it was found.</p>{% else %}
<div class="wide"><table id="segments"><thead><tr><th></th><th>Query</th><th>Comes from</th><th>There</th>
<th>Length</th><th>Speed</th><th>Score</th><th>Picture</th></tr></thead><tbody>
{% for box in boxes %}<tr><td>{{ box.number }}</td><td>{{ clock(box.query_start) }}–{{ clock(box.query_end) }}</td>
<td>{{ box.reference }}</td><td>{{ clock(box.reference_start) }}–{{ clock(box.reference_end) }}</td>
<td>{{ "%.1f s"|format(box.query_end - box.query_start) }}</td><td>{{ "%.2f"|format(box.speed) }}</td>
<td>{{ "%.3f"|format(box.score) }}</td><td>{{ box.note }}</td></tr>
{% endfor %}</tbody></table></div>
<p>Below, the time of the library's video runs to the right, that of the query down; light is alike. A line from the top
left to the bottom right is the same footage.</p>{% endif %}
{% for pair in pairs %}<section class="pair"><h3>{{ pair.reference }}</h3>{{ pair.drawing }}</section>
{% endfor %}"""


def render(*, title: str, about: Sequence[str], boxes: Sequence[Box], pairs: Sequence[Pair]) -> str:
    """The page; values that are no markup are escaped.

    Args:
        title: heading. about: lines below it. boxes: of all pairs, by their number. pairs: in the order in which they
        are drawn.
    """
    page = framed(PAGE, style=MORE)
    return page.render(title=title, about=about, boxes=boxes, pairs=pairs, clock=clock)
