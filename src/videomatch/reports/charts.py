"""Charts as inline SVG of a page: learning curves, and scores over grades. Drawn by matplotlib.

A training log has a row per epoch and columns ``epoch``, ``train/<name>`` and ``val/<name>``. Both sides of one name
share a chart; ``best/<name>``, the best value so far, goes into the legend. Other columns are left out.

A chart has no script, no font and no address; all text is escaped and stays text. The same values give the same bytes.
Colours are the page's (``templates/style.css``), in light and dark, and differ for the colour-blind.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

#: (epoch, value), finite
Line = list[tuple[float, float]]
#: column -> values by epoch
Log = dict[str, list[float]]
SIDES = {"train": "training", "val": "validation"}

#: inches; a page scales the drawing
SIZE = (4.2, 2.9)
#: colours of the drawing -> the page's variables that replace them
COLOURS = {"#010101": "var(--soft)", "#020202": "var(--line)", "#030303": "var(--train)", "#040404": "var(--val)"}
*_, TRAIN, VALIDATION = COLOURS
STYLE = Path(__file__).with_name("templates") / "charts.mplstyle"
#: a box needs so many points
MIN_IN_BOX = 5
#: more different grades than this are drawn in as many equal steps
MAX_BOXES = 12
#: matplotlib writes an element's address; this one, with a number, marks where a hint belongs
HINT = "#hint"


def read_log(file: Path) -> Log:
    """The columns of a ``log.csv`` of ``train``; an empty cell is nan."""
    rows = pl.read_csv(file, infer_schema=False).cast(pl.Float64)
    return rows.fill_null(math.nan).to_dict(as_series=False)


def learning_curves(logs: Mapping[str, Log]) -> list[dict[str, Any]]:
    """``name``, ``svg`` and ``legend`` (side, text) of each quantity that a system's runs (member -> log) wrote."""
    columns = dict.fromkeys(column for log in logs.values() for column in log)
    quantities = dict.fromkeys(c.partition("/")[2] for c in columns if c.partition("/")[0] in SIDES)
    found = []
    for name in quantities:
        sides = {side: _lines(logs, f"{side}/{name}") for side in SIDES if f"{side}/{name}" in columns}
        legend = [(side, f"{SIDES[side]} {_mean_of_last(lines)}") for side, lines in sides.items()]
        if f"best/{name}" in columns and "val" in sides:
            legend[-1] = ("val", f"{legend[-1][1]}, best {_mean_of_last(_lines(logs, f'best/{name}'))}")
        found.append({"name": name, "svg": line_chart(name, sides), "legend": legend})
    return found


def _lines(logs: Mapping[str, Log], column: str) -> dict[str, Line]:
    """Member -> its line, of the members that have finite values."""
    points = {m: zip(log["epoch"], log[column], strict=True) for m, log in logs.items() if column in log}
    lines = {member: [p for p in line if all(map(math.isfinite, p))] for member, line in points.items()}
    return {member: line for member, line in lines.items() if line}


def _mean_of_last(lines: Mapping[str, Line]) -> str:
    """Mean over members of the last value that each has, with three significant digits."""
    if not lines:
        return "–"
    mean = math.fsum(line[-1][1] for line in lines.values()) / len(lines)
    return f"{mean:#.3g}".rstrip(".").replace("-", "−")


def mean_line(members: Mapping[str, Line]) -> Line:
    """The mean over members, at the epochs that all of them have."""
    found = [dict(line) for line in members.values()]
    shared = sorted(set.intersection(*map(set, found))) if found else []
    return [(x, math.fsum(points[x] for points in found) / len(found)) for x in shared]


@mpl.rc_context(fname=STYLE)
def line_chart(quantity: str, sides: Mapping[str, Mapping[str, Line]]) -> Markup:
    """Thin lines of the members, a thick one of their mean; ``sides`` is ``train`` or ``val`` -> member -> line."""
    figure, axes = _axes("epoch", quantity)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    hints: list[str] = []

    def draw(points: Line, hint: str, width: float, opacity: float, side: str) -> None:
        colour, style = (TRAIN, "--") if side == "train" else (VALIDATION, "-")
        axes.plot(*zip(*points, strict=True), style, color=colour, lw=width, alpha=opacity, url=f"{HINT}{len(hints)}")
        if width > 1 or len(points) == 1:  # a dot, so that a line of one point is seen
            axes.plot(*points[-1], "o", color=colour, markersize=4, alpha=opacity)
        hints.append(hint)

    for side, lines in sides.items():
        for member, points in lines.items():
            draw(points, member, *((1.0, 0.45) if len(lines) > 1 else (2.0, 1.0)), side)
        if len(lines) > 1 and (mean := mean_line(lines)):
            draw(mean, "mean", 2.0, 1.0, side)
    return _svg(figure, axes, f"{quantity} by epoch", hints)


@mpl.rc_context(fname=STYLE)
def scatter_chart(title: str, grade: np.ndarray, score: np.ndarray, shown: np.ndarray, names: Sequence[str]) -> Markup:
    """Cosines over grades: a box a grade, which spans the middle half of its scores around their median, and the pairs
    numbered ``shown`` as points, moved sideways by their ``names``, which are their hints."""
    figure, axes = _axes("grade", "cosine similarity")
    if len(grade):
        edges, centres = boxes(grade)
        width = float(np.diff(edges).min())
        spread = 0.6 * width if len(centres) == len(np.unique(grade)) else 0.0
        shift = spread * np.array([zlib.crc32(name.encode()) / 2**32 - 0.5 for name in names])
        urls = [f"{HINT}{n}" for n in range(len(names))]
        axes.scatter(grade[shown] + shift, score[shown], s=8, color=TRAIN, alpha=0.4, linewidths=0, urls=urls)
        groups = [score[(grade >= a) & (grade < b)] for a, b in itertools.pairwise(edges)]
        large = [n for n, group in enumerate(groups) if len(group) >= MIN_IN_BOX]
        if large:
            axes.boxplot(
                [groups[n] for n in large],
                positions=centres[large],
                widths=0.7 * width,
                patch_artist=True,
                manage_ticks=False,
                showfliers=False,
                showcaps=False,
                whiskerprops={"visible": False},
                boxprops={"facecolor": "none", "edgecolor": VALIDATION},
                medianprops={"color": VALIDATION, "lw": 2},
            )
    return _svg(figure, axes, title, names)


def boxes(grade: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges (one more than boxes; the last is above all grades) and centres of the boxes: of each grade, or of
    :data:`MAX_BOXES` equal steps."""
    distinct = np.unique(grade)
    if len(distinct) > MAX_BOXES:
        edges = np.linspace(distinct[0], distinct[-1], MAX_BOXES + 1)
        centres = (edges[:-1] + edges[1:]) / 2
        edges[-1] = np.nextafter(edges[-1], np.inf)
        return edges, centres
    between = (distinct[:-1] + distinct[1:]) / 2
    half = float(np.diff(distinct).min()) / 2 if len(distinct) > 1 else 0.5
    return np.concatenate([distinct[:1] - half, between, distinct[-1:] + half]), distinct


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(SIZE)
    axes = figure.add_axes((0.17, 0.16, 0.81, 0.78))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _svg(figure: Figure, axes: Axes, title: str, hints: Sequence[str]) -> Markup:
    """The drawing as an element of a page, named for those who cannot see it; elements with a hint show it."""
    if not axes.has_data():
        axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes)
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    text = file.getvalue()
    drawn = text[text.index("<g ") :]  # without the head, which holds addresses
    used = set(re.findall(r"#(\w+)", drawn))
    drawn = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", drawn).replace("xlink:href", "href")
    for colour, variable in COLOURS.items():
        drawn = drawn.replace(colour, variable)
    drawn = re.sub(
        rf'<a href="{HINT}(\d+)"[^>]*>(.*?)</a>',
        lambda m: f"<g><title>{escape(hints[int(m[1])])}</title>{m[2]}</g>",
        drawn,
        flags=re.DOTALL,
    )
    width, height = (72 * side for side in SIZE)
    return Markup(f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">{drawn}')
