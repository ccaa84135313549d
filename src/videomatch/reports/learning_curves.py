"""Learning curves: the logs of a system's runs as charts, one per quantity.

A log has a row per epoch and the columns ``epoch``, ``train/<name>`` and ``val/<name>``; missing values are empty. Both
sides of one name share a chart. ``best/<name>`` is the best value so far and goes into the legend; other columns (the
learning rate) are left out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videomatch.reports.charts import Line, finite, line_chart

#: column -> values by epoch
Log = dict[str, list[float]]
SIDES = {"train": "training", "val": "validation"}


def read_log(file: Path) -> Log:
    """The columns of a ``log.csv``; none of a missing or empty file. A cell that is not a number is nan."""
    if not file.exists():
        return {}
    with file.open(encoding="utf-8", newline="") as opened:
        heads, *rows = list(csv.reader(opened)) or [[]]
    return {name: [_value(row[n] if n < len(row) else "") for row in rows] for n, name in enumerate(heads)}


def charts(logs: Mapping[str, Log]) -> list[dict[str, Any]]:
    """``name``, ``svg`` and ``legend`` (side, text) of each quantity that a system's runs (member -> log) wrote."""
    columns = dict.fromkeys(column for log in logs.values() for column in log)
    quantities = dict.fromkeys(c.partition("/")[2] for c in columns if c.partition("/")[0] in SIDES)
    found = []
    for name in quantities:
        sides = {side: _lines(logs, f"{side}/{name}") for side in SIDES if f"{side}/{name}" in columns}
        legend = [(side, f"{SIDES[side]} {_mean_of_last(lines)}") for side, lines in sides.items()]
        best = _lines(logs, f"best/{name}")
        if best and "val" in sides:
            legend[-1] = ("val", f"{legend[-1][1]}, best {_mean_of_last(best)}")
        found.append({"name": name, "svg": line_chart(name, sides), "legend": legend})
    return found


def _lines(logs: Mapping[str, Log], column: str) -> dict[str, Line]:
    return {member: (log.get("epoch", []), log[column]) for member, log in logs.items() if column in log}


def _mean_of_last(lines: Mapping[str, Line]) -> str:
    """Mean over members of the last value that each has, with three significant digits."""
    values = [points[-1][1] for line in lines.values() if (points := finite(line))]
    mean = math.fsum(values) / len(values) if values else math.nan
    return "–" if not math.isfinite(mean) else f"{mean:#.3g}".rstrip(".").replace("-", "−")


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
