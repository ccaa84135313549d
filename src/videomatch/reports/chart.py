"""Charts as SVG, to stand inside a page: no script, no font, no address; all text is escaped.

Colours are the page's (:mod:`reports.template`), so that a chart follows light and dark; the two hues are told
apart by every common kind of colour blindness, and the training side is dashed besides.
Coordinates have one decimal: the same numbers give the same bytes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from videomatch.reports.axes import Axis, axis

#: of the drawing, in its own units: a page scales it
WIDTH, HEIGHT = 300, 205
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 38
#: a box needs so many points
LEAST_IN_BOX = 5
#: more different grades than this are drawn in as many equal steps
MOST_BOXES = 12


@dataclass(frozen=True)
class Lines:
    """Lines of one colour: of each member the values by epoch. ``side`` is ``train`` or ``val``."""

    side: str
    members: Mapping[str, tuple[Sequence[float], Sequence[float]]]

    def mean(self) -> tuple[list[float], list[float]]:
        """The mean over members, at the epochs at which all of them have a finite value."""
        found = [dict(finite(*line)) for line in self.members.values()]
        found = [line for line in found if line]
        shared = sorted(set.intersection(*(set(line) for line in found))) if found else []
        return shared, [math.fsum(line[x] for line in found) / len(found) for x in shared]


def finite(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    """The points whose two values are numbers."""
    return [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]


def tag(name: str, inner: str = "", **attributes: object) -> Markup:
    """An element; ``_`` in an attribute's name is ``-`` and numbers have one decimal."""
    texts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(f"{value:.1f}" if isinstance(value, float) else value)}"'
        for key, value in attributes.items()
    ]
    return Markup(f"<{name}{''.join(texts)}>{escape(inner)}</{name}>")


def line_chart(title: str, lines: Sequence[Lines], *, x_label: str, y_label: str) -> Markup:
    """Lines over epochs: thin ones of the members, a thick one of their mean."""
    points = [p for some in lines for line in some.members.values() for p in finite(*line)]
    across = axis((x for x, _ in points), LEFT, WIDTH - RIGHT, whole=True, margin=0.02)
    up = axis((y for _, y in points), HEIGHT - BOTTOM, TOP)
    drawn = [frame(across, up, x_label, y_label)]
    if not points:
        drawn.append(nothing())
    for some in lines:
        mean = list(zip(*some.mean(), strict=True))
        several = sum(1 for line in some.members.values() if finite(*line)) > 1
        for name, line in some.members.items():
            drawn.append(path(finite(*line), across, up, f"{some.side} {'thin' if several else 'thick'}", name))
        if several:
            drawn.append(path(mean, across, up, f"{some.side} thick", "mean"))
    return svg(title, drawn)


def path(points: Sequence[tuple[float, float]], across: Axis, up: Axis, style: str, name: str) -> Markup:
    """One line with a hint that names it; a dot at each of a few points, so that a single one is seen."""
    if not points:
        return Markup("")
    where = [(across(x), up(y)) for x, y in points]
    text = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in where)
    hint = tag("title", name)
    dots = where if len(where) == 1 else where[-1:] if "thick" in style else []
    return tag("path", hint, d=text, class_=style) + Markup("").join(
        tag("circle", hint, cx=x, cy=y, r=2.5, class_=style) for x, y in dots
    )


def scatter(
    title: str,
    grade: np.ndarray,
    score: np.ndarray,
    shown: np.ndarray,
    names: Sequence[str],
    *,
    x_label: str,
    y_label: str,
) -> Markup:
    """Scores over grades: the points, moved sideways a little by a function of their names, and boxes.

    A box spans the middle half of the scores of one grade (of a twelfth of the axis where there are more than
    ``MOST_BOXES`` grades), its line is their median. Boxes are of all pairs; points of those ``shown`` (their numbers),
    with ``names`` as hints.
    """
    across = axis(grade, LEFT, WIDTH - RIGHT, margin=0.08)
    up = axis(score, HEIGHT - BOTTOM, TOP)
    if not len(grade):
        return svg(title, [frame(across, up, x_label, y_label), nothing()])
    edges, centres = steps(grade)
    room = across(float(edges[1])) - across(float(edges[0])) if len(edges) > 1 else 40.0
    drawn = [frame(across, up, x_label, y_label)]
    spread = min(room * 0.6, 14.0) if len(centres) == len(np.unique(grade)) else 0.0
    for x, y, name in zip(grade[shown], score[shown], names, strict=True):
        shift = (zlib.crc32(name.encode()) / 2**32 - 0.5) * spread
        drawn.append(tag("circle", tag("title", name), cx=across(x) + shift, cy=up(y), r=1.6, class_="point"))
    for low, high, centre in zip(edges[:-1], edges[1:], centres, strict=True):
        inside = score[(grade >= low) & (grade < high)]
        if len(inside) >= LEAST_IN_BOX:
            drawn.append(box(across(float(centre)), min(room * 0.7, 22.0), *(up(float(q)) for q in quartiles(inside))))
    return svg(title, drawn)


def steps(grade: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges (one more than boxes; the last lies above all grades) and centres of the boxes."""
    distinct = np.unique(grade)
    if len(distinct) > MOST_BOXES:
        edges = np.linspace(distinct[0], distinct[-1], MOST_BOXES + 1)
        centres = (edges[:-1] + edges[1:]) / 2
        edges[-1] = np.nextafter(edges[-1], np.inf)
        return edges, centres
    between = (distinct[:-1] + distinct[1:]) / 2
    return np.concatenate([distinct[:1] - 0.5, between, distinct[-1:] + 0.5]), distinct


def quartiles(values: np.ndarray) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def box(x: float, width: float, low: float, middle: float, high: float) -> Markup:
    """A box from ``low`` to ``high`` with a line at ``middle``, all in pixels."""
    left = x - width / 2
    return tag("rect", x=left, y=high, width=width, height=low - high, class_="box") + tag(
        "path", d=f"M{left:.1f} {middle:.1f}h{width:.1f}", class_="median"
    )


def frame(across: Axis, up: Axis, x_label: str, y_label: str) -> Markup:
    """Grid, ticks and the names of both axes."""
    bottom, parts = HEIGHT - BOTTOM, []
    for value, label in zip(up.ticks, up.labels, strict=True):
        parts.append(tag("path", d=f"M{LEFT} {up(value):.1f}H{WIDTH - RIGHT}", class_="grid"))
        parts.append(tag("text", label, x=LEFT - 5, y=up(value) + 3.5, text_anchor="end"))
    for value, label in zip(across.ticks, across.labels, strict=True):
        parts.append(tag("path", d=f"M{across(value):.1f} {bottom}v4", class_="axis"))
        parts.append(tag("text", label, x=across(value), y=bottom + 15, text_anchor="middle"))
    parts.append(tag("path", d=f"M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}", class_="axis"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(tag("text", x_label, x=middle, y=HEIGHT - 6, text_anchor="middle", class_="name"))
    turned = f"translate(10 {(TOP + bottom) / 2:.1f}) rotate(-90)"
    parts.append(tag("text", y_label, transform=turned, text_anchor="middle", class_="name"))
    return Markup("").join(parts)


def nothing() -> Markup:
    """What an empty chart says."""
    return tag("text", "no values", x=WIDTH / 2, y=HEIGHT / 2, text_anchor="middle")


def svg(title: str, parts: Sequence[Markup]) -> Markup:
    """The drawing, named for those who cannot see it."""
    return tag("svg", Markup("").join(parts), viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)
