"""A table as a page shows it: what its rows say in a line, and charts of its intervals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videomatch.reports import charts, comparisons, pages
from videomatch.reports.comparisons import LIMITS, Column
from videomatch.reports.spread import number

#: kind of a table's row -> its sign in a chart
LOOKS = {"base": "base", "system": "row", "reported": "reported"}


def parts(folder: Path, chart: str) -> dict[str, Any]:
    """``id``, ``title``, ``summary`` (a line per headline column with two rows to compare), ``charts`` and ``html`` of
    a table."""
    text = (folder / "table.md").read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    title = first.removeprefix("# ")
    columns = comparisons.read(folder / "table.csv")
    headlines = comparisons.headlines(columns)
    if chart == "heat map":
        drawn = [heat_map(title, columns)]
    else:
        drawn = [one for column in headlines for one in interval_charts(title, column)]
    summary = [s for column in headlines if chart == "intervals" or column.base if (s := column.summary())]
    return {
        "id": f"table-{folder.name}",
        "title": title,
        "summary": summary,
        "charts": drawn,
        "html": pages.markdown(rest),
    }


def interval_charts(title: str, column: Column) -> list[dict[str, Any]]:
    """``name`` and ``svg`` of the values of a column, and of the differences to its base where there are any."""
    groups: dict[str, list[charts.Mark]] = {"limit": [], "row": [], "reported": []}
    for line in column.lines:
        spread, look = line.value, "limit" if line.kind in LIMITS else LOOKS[line.kind]
        bounds = (spread.mean - spread.sd, spread.mean + spread.sd) if spread.sd is not None else spread.interval
        label = _named(line) + ("; trained on some of what it is judged by" if line.is_shared else "")
        mark = charts.Mark(label, line.text, look, spread.mean, bounds, is_sd=spread.sd is not None)
        groups["row" if line.is_system else look].append(mark)
    drawn = [
        {
            "name": column.head,
            "svg": charts.forest_plot(f"{title}: {column.head}", [*itertools.chain.from_iterable(groups.values())]),
        }
    ]
    base = column.base
    if base is not None and any(line.difference for line in column.lines if line.is_system):
        marks = [_difference_mark(column, line) for line in column.lines if line.is_system]
        name = f"difference in {column.head} to {base.label}"
        drawn.append({"name": name, "svg": charts.forest_plot(f"{title}: {name}", marks, zero=0.0)})
    return drawn


def _named(line: comparisons.Line) -> str:
    """The label of a row with what it is."""
    label = f"{line.kind}: {line.label}" if line.kind in ("oracle", "reported") else line.label
    return f"{label} (base)" if line.kind == "base" else label


def _difference_mark(column: Column, line: comparisons.Line) -> charts.Mark:
    if line.kind == "base":
        return charts.Mark(_named(line), "", "base", 0.0)
    difference = line.difference
    if difference is None:
        return charts.Mark(_named(line), "not paired", "level")
    text, look = number(column.measure, difference), column.verdict(difference)
    return charts.Mark(_named(line), text, look, difference.mean, difference.interval)


def heat_map(title: str, columns: Sequence[Column]) -> dict[str, Any]:
    """``name`` and ``svg`` of all values of a table, limits first."""
    lines = [(m, line) for m, column in enumerate(columns) for line in column.lines if line.kind != "reported"]
    lines.sort(key=lambda each: each[1].kind not in LIMITS)
    rows: dict[str, list[tuple[float, str] | None]] = {}
    for m, line in lines:
        text = number(columns[m].measure, line.value.mean)
        rows.setdefault(_named(line), [None] * len(columns))[m] = (line.value.mean, text)
    limits = len({_named(line) for _, line in lines if line.kind in LIMITS})
    return {"name": "", "svg": charts.heat_map(title, [column.head for column in columns], rows, limits)}
