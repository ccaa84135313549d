"""Charts as inline SVG of a page: intervals of a table's rows (forest plots), heat maps, learning curves, and scores
over grades. Drawn by matplotlib.

A training log has a row per epoch and columns ``epoch``, ``train/<name>`` and ``val/<name>``. Both sides of one name
share a chart; ``best/<name>``, the best value so far, goes into the legend. Other columns are left out.

A chart has no script, no font and no address; all text is escaped and stays text. The same values give the same bytes.
Colours are the page's (``templates/style.css``), in light and dark, and differ for the colour-blind.
"""

import io
import itertools
import math
import re
import textwrap
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

#: (epoch, value), finite
Line = list[tuple[float, float]]
#: column -> values by epoch
Log = dict[str, list[float]]
SIDES = {"train": "training", "val": "validation"}

#: inches; a page scales the drawing
SIZE = (4.2, 2.9)
#: points: width of a forest plot, and of the part of it that has the axis; height of a line of text
FOREST_WIDTH, PLOT_WIDTH, LINE = 360.0, 214.0, 12.5
#: points: a cell of a heat map
CELL = (42.0, 22.0)
#: characters of a row's label in a line
FOREST_LABEL, HEAT_LABEL = 62, 26
#: colours of the drawing -> the page's variables that replace them
COLOURS = {
    "#010101": "var(--soft)",
    "#020202": "var(--line)",
    "#050505": "var(--ink)",
    "#030303": "var(--train)",
    "#040404": "var(--val)",
}
SOFT, FAINT, INK, TRAIN, VALIDATION = COLOURS
TEMPLATES = Path(__file__).with_name("templates")
STYLE = TEMPLATES / "charts.mplstyle"
#: a box needs so many points
MIN_IN_BOX = 5
#: more different grades than this are drawn in as many equal steps
MAX_BOXES = 12
#: matplotlib writes an element's address; this one, with a number, marks where a hint belongs
HINT = "#hint"
#: what a row of a forest plot is -> its sign, its colour, and whether the sign is filled
LOOKS = {
    "system": ("o", INK, True),
    "base": ("s", INK, True),
    "ahead": (">", TRAIN, True),
    "behind": ("<", VALIDATION, True),
    "level": ("o", SOFT, False),
    "limit": ("|", SOFT, True),
    "reported": ("D", SOFT, False),
}


@dataclass(frozen=True)
class Mark:
    """A row of a forest plot: a value with its ``text``, and its interval; ``is_sd`` if that is a standard deviation.
    ``look`` is a name of :data:`LOOKS`; a limit has a line through all rows. Without a value it has no sign."""

    label: str
    text: str
    look: str
    value: float | None = None
    interval: tuple[float, float] | None = None
    is_sd: bool = False


def read_log(file: Path) -> Log:
    """The columns of a ``log.csv`` of ``train``; an empty cell is nan."""
    rows = pl.read_csv(file, infer_schema=False).cast(pl.Float64)
    return rows.fill_null(math.nan).to_dict(as_series=False)


def learning_curves(system: str, logs: Mapping[str, Log]) -> list[dict[str, Any]]:
    """``name``, ``svg`` and ``legend`` (side, text) of each quantity that a system's runs (member -> log) wrote."""
    columns = dict.fromkeys(column for log in logs.values() for column in log)
    quantities = dict.fromkeys(c.partition("/")[2] for c in columns if c.partition("/")[0] in SIDES)
    found = []
    for name in quantities:
        sides = {side: _lines(logs, f"{side}/{name}") for side in SIDES if f"{side}/{name}" in columns}
        legend = [(side, f"{SIDES[side]} {_mean_of_last(lines)}") for side, lines in sides.items()]
        if f"best/{name}" in columns and "val" in sides:
            legend[-1] = ("val", f"{legend[-1][1]}, best {_mean_of_last(_lines(logs, f'best/{name}'))}")
        found.append({"name": name, "svg": line_chart(f"{name} by epoch, {system}", name, sides), "legend": legend})
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
def forest_plot(title: str, marks: Sequence[Mark], zero: float | None = None) -> Markup:
    """A row for each mark: its label above, its interval below, its text beside that. With a vertical line at ``zero``;
    a thin line before the first row that is no limit, and before the first that is reported."""
    labels = [textwrap.wrap(mark.label, FOREST_LABEL) or [""] for mark in marks]
    bottoms = list(itertools.accumulate(LINE * (len(label) + 1.5) for label in labels))
    height = bottoms[-1] + 2.4 * LINE
    figure = Figure((FOREST_WIDTH / 72, height / 72))
    axes = figure.add_axes((14 / FOREST_WIDTH, 2 * LINE / height, PLOT_WIDTH / FOREST_WIDTH, bottoms[-1] / height))
    axes.set_ylim(bottoms[-1], 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    across = axes.get_yaxis_transform()
    if zero is not None:
        axes.axvline(zero, color=SOFT, lw=1)
    for number, (mark, label, bottom) in enumerate(zip(marks, labels, bottoms, strict=True)):
        sign, colour, is_filled = LOOKS[mark.look]
        y, top = bottom - 0.55 * LINE, bottom - LINE * (len(label) + 1.5)
        weight = "bold" if mark.look in ("base", "ahead") else "normal"
        axes.text(0, top + 0.45 * LINE, "\n".join(label), va="top", color=INK, transform=across, weight=weight)
        axes.text((FOREST_WIDTH - 18) / PLOT_WIDTH, y, mark.text, ha="right", va="center", color=INK, transform=across)
        if number and (mark.look in ("limit", "reported")) != (marks[number - 1].look in ("limit", "reported")):
            axes.axhline(top, color=FAINT, lw=0.8)
        if mark.value is None:
            continue
        if mark.look == "limit":
            axes.axvline(mark.value, color=SOFT, lw=0.8, ls=":")
        if mark.interval is not None:
            axes.plot(mark.interval, (y, y), color=colour, lw=4 if mark.is_sd else 1.5, alpha=0.4 if mark.is_sd else 1)
        face = colour if is_filled else "none"
        axes.plot(mark.value, y, sign, color=colour, markerfacecolor=face, markersize=6, url=f"{HINT}{number}")
    return _svg(figure, axes, title, [f"{mark.label}: {mark.text}" for mark in marks])


@mpl.rc_context(fname=STYLE)
def heat_map(
    title: str, heads: Sequence[str], rows: Mapping[str, Sequence[tuple[float, str] | None]], limits: int = 0
) -> Markup:
    """Values (row -> one with its text for each of ``heads``) as cells: the larger, the fuller its colour. The first
    rows are ``limits``; the largest of a column among the others is bold."""
    labels = {label: textwrap.wrap(label, HEAT_LABEL) or [""] for label in rows}
    left = 6 + 5.3 * max((len(line) for lines in labels.values() for line in lines), default=0)
    head = 10 + 4.2 * max(map(len, heads))
    width, height = left + CELL[0] * len(heads) + 0.8 * head, head + CELL[1] * len(rows) + 4
    figure = Figure((width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    values = {label: [cell[0] if cell else math.nan for cell in cells] for label, cells in rows.items()}
    drawn = [value for line in values.values() for value in line if math.isfinite(value)]
    low, high = min([0.0, *drawn]), max([0.0, *drawn])
    largest = [
        max((y for y in ys if math.isfinite(y)), default=0) for ys in zip(*[*values.values()][limits:], strict=True)
    ]
    hints = []
    for n, name in enumerate(heads):
        axes.text(left + CELL[0] * (n + 0.4), head - 4, name, rotation=40, ha="left", va="bottom", color=INK)
    if limits:
        axes.axhline(head + CELL[1] * limits, color=SOFT, lw=0.8)
    for m, (label, cells) in enumerate(rows.items()):
        y = head + CELL[1] * (m + 0.5)
        axes.text(0, y, "\n".join(labels[label]), va="center", color=INK)
        for n, cell in enumerate(cells):
            if cell is None or not math.isfinite(cell[0]):
                continue
            x, full = left + CELL[0] * n, 0.6 * (cell[0] - low) / (high - low or 1)
            corner = (x + 1, y - CELL[1] / 2 + 1)
            box = Rectangle(
                corner, CELL[0] - 2, CELL[1] - 2, facecolor=TRAIN, alpha=full, lw=0, url=f"{HINT}{len(hints)}"
            )
            axes.add_patch(box)
            weight = "bold" if m >= limits and cell[0] == largest[n] else "normal"
            axes.text(x + CELL[0] / 2, y, cell[1], ha="center", va="center", color=INK, weight=weight)
            hints.append(f"{label}, {heads[n]}: {cell[1]}")
    return _svg(figure, axes, title, hints)


def band(members: Mapping[str, Line]) -> list[tuple[float, float, float]]:
    """Epoch, smallest and largest value where several members have one."""
    values: dict[float, list[float]] = {}
    for line in members.values():
        for x, y in line:
            values.setdefault(x, []).append(y)
    return [(x, min(ys), max(ys)) for x, ys in sorted(values.items()) if len(ys) > 1]


@mpl.rc_context(fname=STYLE)
def line_chart(title: str, quantity: str, sides: Mapping[str, Mapping[str, Line]]) -> Markup:
    """A line of the mean over members in a band from their smallest to their largest value; ``sides`` is ``train`` or
    ``val`` -> member -> line."""
    figure, axes = _axes("epoch", quantity)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    hints: list[str] = []
    for side, lines in sides.items():
        colour, style = (TRAIN, "--") if side == "train" else (VALIDATION, "-")
        if filled := band(lines):
            epochs, low, high = zip(*filled, strict=True)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, lw=0, url=f"{HINT}{len(hints)}")
            hints.append(f"{SIDES[side]}: from the smallest to the largest of {', '.join(lines)}")
        if points := mean_line(lines):
            axes.plot(*zip(*points, strict=True), style, color=colour, lw=2, url=f"{HINT}{len(hints)}")
            axes.plot(*points[-1], "o", color=colour, markersize=4)  # so that a line of one point is seen
            hints.append(f"{SIDES[side]}, {'mean' if len(lines) > 1 else next(iter(lines))}")
    return _svg(figure, axes, title, hints)


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
    with mpl.rc_context({"svg.hashsalt": title}):  # ids are of one drawing, not of all that are like it
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
    width, height = (72 * side for side in figure.get_size_inches())
    size = f'viewBox="0 0 {width:g} {height:g}" style="--width: {width:g}"'
    return Markup(f'<svg {size} role="img" aria-label="{escape(title)}">{drawn}')


def as_file(chart: Markup) -> str:
    """A chart as the text of an SVG file, with the colours of a page."""
    colours = (TEMPLATES / "style.css").read_text(encoding="utf-8").partition("\n* {")[0]
    style = f"<style>{colours} text {{ font-family: system-ui, sans-serif !important; fill: var(--soft); }}</style>"
    head, _, drawn = str(chart).partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{drawn}\n'
