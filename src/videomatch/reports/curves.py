"""Learning curves: the logs of a system's runs as small charts, one a quantity.

A log has a row an epoch and the columns ``epoch``, ``train/<name>`` and ``val/<name>``; what is missing is empty. Both
sides of one name share a chart. ``best/<name>`` is the best value so far and goes into the legend; other columns (the
learning rate) are left out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videomatch.reports.axes import short
from videomatch.reports.chart import Lines, finite, line_chart

#: column -> values by epoch
Log = dict[str, list[float]]
SIDES = {"train": "training", "val": "validation"}


def read_log(file: Path) -> Log:
    """The columns of a ``log.csv``; an absent or empty file has none, and what is no number is nan."""
    if not file.exists():
        return {}
    with file.open(encoding="utf-8", newline="") as opened:
        heads, *rows = list(csv.reader(opened)) or [[]]
    return {name: [_value(row[n] if n < len(row) else "") for row in rows] for n, name in enumerate(heads)}


def charts(logs: Mapping[str, Log]) -> list[dict[str, Any]]:
    """``name``, ``svg`` and ``legend`` (side, text) of each quantity that a system's runs (member -> log) wrote."""
    columns = dict.fromkeys(column for log in logs.values() for column in log if column.partition("/")[0] in SIDES)
    quantities = dict.fromkeys(column.partition("/")[2] for column in columns)
    found = []
    for name in quantities:
        lines, legend = [], []
        for side, label in SIDES.items():
            column = f"{side}/{name}"
            if column not in columns:
                continue
            members = {m: (log.get("epoch", []), log[column]) for m, log in logs.items() if column in log}
            lines.append(Lines(side, members))
            best = {m: (log.get("epoch", []), log[f"best/{name}"]) for m, log in logs.items() if f"best/{name}" in log}
            text = f"{label} {_last(members)}"
            legend.append((side, text + (f", best {_last(best)}" if best and side == "val" else "")))
        drawn = line_chart(f"{name} by epoch", lines, x_label="epoch", y_label=name)
        found.append({"name": name, "svg": drawn, "legend": legend})
    return found


def _last(members: Mapping[str, tuple[list[float], list[float]]]) -> str:
    """Mean over members of the last value that each has."""
    values = [points[-1][1] for line in members.values() if (points := finite(*line))]
    return short(math.fsum(values) / len(values) if values else math.nan)


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
