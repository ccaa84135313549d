"""How far the numbers of a table spread: over the runs of a system, over its videos, and against a base.

``mean ± sd`` is of several runs (folds or seeds): their standard deviation. ``value [low, high]`` is of a single run:
the 95 % interval of a bootstrap by video (:mod:`videomatch.metrics.bootstrap`).

The 95 % interval of a difference is of both sources of luck; its distances from the difference are added in quadrature:

* The runs: Student's t over the differences of the same folds or seeds, or if the systems have others, over the runs of
  each. (Folds share training pairs, so theirs is somewhat narrow: Nadeau and Bengio, Inference for the generalization
  error, Machine Learning 52, 2003.)
* The videos: the bootstrap, each system the mean of its runs. Folds that are judged by videos of their own hold this.

Systems that were judged by other queries, references or folds have no difference.
"""

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit  # of scipy.stats, to import it takes a second

from videomatch.data import tables
from videomatch.metrics import bootstrap

#: decimals by metric; the rest is in percent or ranks and has one
DECIMALS = {"Spearman": 3, "Pearson": 3, "MSE": 4, "mAP": 3, "infAP": 3, "infNDCG": 3, "iP": 3, "AP": 3, "uAP": 3}
DECIMALS |= {"AUC": 3, "MB/h": 2, "CPU": 2}  # seconds

Interval = tuple[float, float]


@dataclass(frozen=True)
class Value:
    """The mean over the runs of a system, with its standard deviation ``over`` folds or seeds, or of a single run
    its interval, from resamples of what was ``drawn`` (number and name)."""

    mean: float
    runs: int
    sd: float | None = None
    over: str = ""
    interval: Interval | None = None
    drawn: tuple[int, str] = (0, "")


@dataclass(frozen=True)
class Difference:
    """A mean less the base's; its interval is ``over`` folds or seeds, videos or queries, or both."""

    mean: float
    interval: Interval
    over: tuple[str, ...]


class Run:
    """A result of ``evaluate`` for one member of a system, with what ``align`` has ``measured``."""

    def __init__(self, folder: Path, measured: Path | None = None) -> None:
        self.member, self._folder = folder.name, folder
        self.about: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        if measured is not None:
            self.about["metrics"] |= json.loads((measured / "measured.json").read_text(encoding="utf-8"))
        #: number and name of the units, and digest of what was judged; empty where evaluate has not written them
        self.resampled: dict[str, Any] = self.about.get("resampled", {})
        self._replicates: dict[str, np.ndarray | None] = {}

    @functools.cached_property
    def _statistics(self) -> dict[str, bootstrap.Rows]:
        rows: dict[str, bootstrap.Rows] = {}
        for (name,), part in tables.read("statistics", self._folder).partition_by("statistic", as_dict=True).items():
            first, second, value, other = (part[c].to_numpy() for c in ("first", "second", "value", "other"))
            rows[str(name)] = bootstrap.Rows(first, value, None if part["second"].null_count() else second, other)
        return rows

    def replicates(self, metric: str) -> np.ndarray | None:
        """The metric's bootstrap replicates; None where there are none."""
        if metric not in self._replicates:
            units = self.resampled.get("units", 0)
            self._replicates[metric] = bootstrap.replicates(metric, self._statistics, units)
        return self._replicates[metric]


def value(runs: Sequence[Run], metric: str) -> Value:
    """The metric of a system, with its spread."""
    numbers = [run.about["metrics"][metric] for run in runs]
    mean = math.fsum(numbers) / len(numbers)
    if len(runs) > 1:
        return Value(mean, len(runs), sd=_sd(numbers), over=_over(runs))
    replicates = runs[0].replicates(metric)
    if replicates is None:
        return Value(mean, 1)
    units, name = (runs[0].resampled[key] for key in ("units", "name"))
    return Value(mean, 1, interval=bootstrap.interval(replicates, mean), drawn=(units, name))


def difference(runs: Sequence[Run], base: Sequence[Run], metric: str) -> Difference | None:
    """The metric of a system less the base's; None where they cannot be paired."""
    sides = (runs, base)
    judged = [[run.resampled.get("digest") for run in side] for side in sides]
    numbers = [[run.about["metrics"][metric] for run in side] for side in sides]
    have_same_runs = [run.member for run in runs] == [run.member for run in base] and judged[0] == judged[1]
    is_same_for_all = len({*judged[0], *judged[1]}) == 1
    if not all(map(all, judged)) or not (have_same_runs or is_same_for_all):
        return None
    mean = math.fsum(numbers[0]) / len(runs) - math.fsum(numbers[1]) / len(base)
    halves: list[Interval] = []
    over: list[str] = []
    for values in [[one - other for one, other in zip(*numbers, strict=True)]] if have_same_runs else numbers:
        if len(values) > 1:
            student = float(stdtrit(len(values) - 1, (1 + bootstrap.CONFIDENCE) / 2))
            half = student * _sd(values) / math.sqrt(len(values))
            halves.append((half, half))
            over.append(_over(max(sides, key=len)))
    replicates = [[run.replicates(metric) for run in side] if is_same_for_all else [] for side in sides]
    drawn = [[of_run for of_run in side if of_run is not None] for side in replicates]
    if all(drawn):
        low, high = bootstrap.interval(np.mean(drawn[0], axis=0) - np.mean(drawn[1], axis=0), mean)
        halves.append((mean - low, high - mean))
        over.append(str(runs[0].resampled["name"]))
    if not halves:
        return None
    below, above = (math.hypot(*side) for side in zip(*halves, strict=True))
    return Difference(mean, (mean - below, mean + above), tuple(over))


def number(metric: str, value: Value | Difference | float | None) -> str:
    """A value or a difference as it is printed, with its spread."""
    decimals = DECIMALS.get(re.split(r"[ @]", metric)[0], 1)
    if value is None:
        return ""
    if isinstance(value, float | int):
        return f"{value:.{decimals}f}"
    sd, bounds = (value.sd, value.interval) if isinstance(value, Value) else (None, value.interval)
    text = f"{value.mean:{'' if isinstance(value, Value) else '+'}.{decimals}f}"
    if sd is not None:
        text += f" ± {sd:.{decimals}f}"
    return text if bounds is None else f"{text} [{bounds[0]:.{decimals}f}, {bounds[1]:.{decimals}f}]"


def meaning(
    values: Iterable[Value], differences: Mapping[str, Mapping[str, Difference | None]], base: str
) -> list[str]:
    """Sentences on what stands beside the values of a table and its differences to the row ``base``: of each row and
    column, None where they cannot be paired."""
    values, percent = list(values), f"{100 * bootstrap.CONFIDENCE:g} %"
    found = []
    if over := {v.over for v in values if v.over}:
        found.append(f"± is the standard deviation over {_either(over)}.")
    if drawn := [v.drawn for v in values if v.interval]:
        numbers = "–".join(f"{n:,}" for n in dict.fromkeys((min(drawn)[0], max(drawn)[0])))
        draws = f"{bootstrap.RESAMPLES:,} resamples of the {numbers} {_either({name for _, name in drawn})}"
        found.append(f"[low, high] is the {percent} bootstrap interval of a single run ({draws}).")
    if kinds := {kind for of_row in differences.values() for d in of_row.values() if d for kind in d.over}:
        runs, units = kinds & {"folds", "seeds"}, kinds - {"folds", "seeds"}
        ways = [f"Student's t over {_either(runs)}"] if runs else []
        ways += [f"{bootstrap.RESAMPLES:,} resamples of {_either(units)}"] if units else []
        together = f"paired, {' and '.join(ways)}{', added in quadrature' if len(ways) > 1 else ''}"
        found.append(f"Differences are those to `{base}`, with their {percent} interval ({together}).")
        apart = {row: [head for head, d in of_row.items() if d is None] for row, of_row in differences.items()}
        names = [
            f"`{row}`" + ("" if len(heads) == len(differences[row]) else f" ({', '.join(heads)})")
            for row, heads in apart.items()
            if heads
        ]
        if names:
            found.append(f"There is none where other queries, references or folds are judged: {', '.join(names)}.")
    return found


def _over(runs: Sequence[Run]) -> str:
    """What the runs of a system are."""
    folds = {run.member.partition("-")[0] for run in runs if run.member.startswith("fold")}
    return "folds" if len(folds) > 1 else "seeds"


def _either(words: Iterable[str]) -> str:
    return " or ".join(sorted(words))


def _sd(numbers: Sequence[float]) -> float:
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((n - mean) ** 2 for n in numbers) / (len(numbers) - 1))
