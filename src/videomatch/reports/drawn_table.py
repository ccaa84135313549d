"""A table as a page shows it: what its rows say in a line, and charts of its intervals. All of it is what the table's
``table.csv`` says: nothing is computed anew."""

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videomatch.metrics import HIGHER
from videomatch.reports import charts, pages
from videomatch.reports.spread import Difference, Interval, Value, number

#: kinds of rows that are no systems: they limit what can be reached
LIMITS = ("chance", "wanted", "oracle")


@dataclass(frozen=True)
class Line:
    """A row in one column. ``kind`` as in ``table.csv``; ``text`` is the value as the table prints it."""

    label: str
    kind: str
    value: Value
    text: str
    difference: Difference | None = None
    is_shared: bool = False

    @property
    def is_system(self) -> bool:
        """Whether it is ours, and neither a limit nor reported by others."""
        return self.kind in ("base", "system")


@dataclass(frozen=True)
class Column:
    """A column of a table: its ``head``, its metric (``measure``), and the rows that have a value."""

    head: str
    measure: str
    lines: Sequence[Line]

    @property
    def base(self) -> Line | None:
        """The row from which differences are taken."""
        return next((line for line in self.lines if line.kind == "base"), None)

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if HIGHER.search(self.measure) else -1

    def best(self, among: Sequence[Line]) -> Line | None:
        """The row with the best mean; the first of equal ones."""
        return max(among, key=lambda line: self.sign * line.value.mean, default=None)

    def verdict(self, difference: Difference) -> str:
        """``ahead`` or ``behind`` where the interval of a difference to the base leaves out zero, else ``level``."""
        low, high = sorted(self.sign * bound for bound in difference.interval)
        return "ahead" if low > 0 else "behind" if high < 0 else "level"

    def summary(self) -> dict[str, str] | None:
        """``best`` row with its ``value``, the ``other`` it is compared with (the base, or if that is best the next),
        the ``difference`` between both, and its ``verdict``; None without two rows to compare. Rows that were trained
        on what they are judged by count only among themselves."""
        systems = [line for line in self.lines if line.is_system]
        systems = [line for line in systems if not line.is_shared] or systems
        best = self.best(systems)
        others = [self.base] if self.base not in (best, None) else [line for line in systems if line is not best]
        other = self.best([line for line in others if line is not None])
        if best is None or other is None:
            return None
        difference = best.difference if other.kind == "base" else None
        if best.kind == "base" and (given := other.difference):
            low, high = given.interval
            difference = Difference(-given.mean, (-high, -low), given.over)
        found = {"head": self.head, "best": best.label, "value": best.text, "other": other.label}
        if difference is None:
            return found | {"difference": "", "verdict": ""}
        return found | {"difference": number(self.measure, difference), "verdict": self.verdict(difference)}


def read(file: Path) -> list[Column]:
    """The columns of a ``table.csv``, without what is reported of other data."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row["kind"] != "elsewhere"]
    # chance is known of some metrics alone: systems have the order of the table's columns
    ordered = sorted(rows, key=lambda row: row["kind"] in ("chance", "wanted"))
    lines: dict[tuple[str, str], list[Line]] = {(row["metric"], row["measure"]): [] for row in ordered}
    for row in rows:
        lines[row["metric"], row["measure"]].append(_line(row))
    return [Column(*key, found) for key, found in lines.items()]


def _line(row: dict[str, str]) -> Line:
    def interval(low: str, high: str) -> Interval | None:
        return (float(row[low]), float(row[high])) if row[low] else None

    if row["kind"] == "reported":
        mean = float(row["reported"].split()[0])
        return Line(row["label"], row["kind"], Value(mean, 0), row["reported"])
    sd = float(row["sd"]) if row["sd"] else None
    value = Value(float(row["mean"]), int(row["runs"] or 0), sd=sd, interval=interval("low", "high"))
    bounds = interval("difference_low", "difference_high")
    difference = Difference(float(row["difference"]), bounds, ()) if bounds else None
    is_shared = int(row["shared"] or 0) > 0
    return Line(row["label"], row["kind"], value, number(row["measure"], value), difference, is_shared)


def headlines(columns: Sequence[Column]) -> list[Column]:
    """The columns of a table's first metric, one per protocol."""
    return [column for column in columns if column.measure == columns[0].measure]


def parts(folder: Path, chart: str) -> dict[str, Any]:
    """``id``, ``title``, ``summary`` (a line per headline column with two rows to compare), ``charts`` and ``html`` of
    a table."""
    text = (folder / "table.md").read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    title = first.removeprefix("# ")
    columns = read(folder / "table.csv")
    first_metric = headlines(columns)
    if chart == "heat map":
        drawn = [heat_map(title, columns)]
    else:
        drawn = [one for column in first_metric for one in interval_charts(title, column)]
    summary = [s for column in first_metric if chart == "intervals" or column.base if (s := column.summary())]
    return {
        "id": f"table-{folder.name}",
        "title": title,
        "summary": summary,
        "charts": drawn,
        "html": pages.markdown(rest),
    }


def interval_charts(title: str, column: Column) -> list[dict[str, Any]]:
    """``name`` and ``svg`` of the values of a column, and of the differences to its base where there are any."""
    groups: dict[str, list[charts.Mark]] = {"limit": [], "system": [], "reported": []}
    for line in column.lines:
        spread, look = line.value, "limit" if line.kind in LIMITS else line.kind
        bounds = (spread.mean - spread.sd, spread.mean + spread.sd) if spread.sd is not None else spread.interval
        label = _named(line) + ("; trained on some of what it is judged by" if line.is_shared else "")
        mark = charts.Mark(label, line.text, look, spread.mean, bounds, is_sd=spread.sd is not None)
        groups["system" if line.is_system else look].append(mark)
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


def _named(line: Line) -> str:
    """The label of a row with what it is."""
    label = f"{line.kind}: {line.label}" if line.kind in ("oracle", "reported") else line.label
    return f"{label} (base)" if line.kind == "base" else label


def _difference_mark(column: Column, line: Line) -> charts.Mark:
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
