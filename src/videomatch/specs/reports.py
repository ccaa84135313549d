"""Tables, pages and submissions: what is made of results."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from videomatch.common.messages import unknown
from videomatch.specs import OpenSpec, Spec, option

#: metrics that every run measures anew, of ``align``: columns of them say so, and nothing else is made from them
MEASURED = ("CPU s/h", "answer s/h")


@dataclass(frozen=True, kw_only=True)
class Row(Spec):
    """A row of a table: what a system of ours reaches. With ``shares: train`` videos that are judged may have been
    trained on, in all protocols, or in those of a mapping protocol -> ``train``."""

    label: str
    system: str = option(section="systems")
    shares: Mapping[str, str] | str | None = None

    def may_share(self, split: str) -> bool:
        """Whether videos of a protocol may have been trained on."""
        return split in self.shares if isinstance(self.shares, Mapping) else self.shares is not None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        words = list(self.shares.values()) if isinstance(self.shares, Mapping) else [self.shares or "train"]
        if set(words) != {"train"}:
            yield "shares", f"{self.shares!r} is not `train`, or `{{protocol: train}}`"


@dataclass(frozen=True, kw_only=True)
class Reported(Spec):
    """Numbers that others report.

    Attributes:
        source: where they report them.
        corpus: reader of the data set that they are for.
        split: data set and split, in words, and what was trained on where systems differ in that.
        protocols: our protocols with the same queries and references. Where a table shows these of that data set, the
            numbers are lines of the table; else they stand apart.
        rows: label -> head of a column -> number, ``number ± number``, or ``number ?`` for one that is quoted from
            memory. A label of a row of ours is the same system.
    """

    source: str
    corpus: str = option(room="corpora", what="corpus", has=("read",))
    split: str
    protocols: Sequence[str] = ()
    rows: Mapping[str, Any]

    def mistakes(self) -> Iterator[tuple[str, str]]:
        for label, numbers in self.rows.items():
            if not isinstance(numbers, Mapping) or not numbers:
                yield f"rows.{label}", f"expected head of a column -> number, got {numbers!r}"
                continue
            for head, number in numbers.items():
                if not re.fullmatch(r"-?\d*\.?\d+( ± \d*\.?\d+)?( \?)?", str(number)):
                    yield f"rows.{label}.{head}", f"{number!r} is not a number, `number ± number` or `number ?`"


@dataclass(frozen=True, kw_only=True)
class Table(Spec):
    """A file of ``workflow/tables``: systems compared on a data set by ``metrics`` (names, or name -> heading) of the
    protocol ``split``, or of ``splits`` (protocol -> heading). ``compared``: the systems whose first metric ``dvc exp
    show`` has a column for; by default those of all rows. ``base``: the system of a row from which the others' metrics
    are subtracted, the first or those in ``differences``. ``chart``: how pages draw it, the ``intervals`` of the first
    metric's columns with their differences to the base, or a ``heat map`` of all columns, which then have one scale.
    ``wanted``: head of a column -> the value that some system should reach."""

    title: str
    dataset: str = option(section="datasets")
    metrics: Sequence[str] | Mapping[str, str] = ()
    rows: Sequence[Mapping[str, Any]] = option(spec=Row, default=())
    reported: Sequence[Mapping[str, Any]] = option(spec=Reported, default=())
    split: str | None = None
    splits: Mapping[str, str] | None = None
    compared: Sequence[str] = option(section="systems", default=())
    base: str | None = option(section="systems", default=None)
    differences: Sequence[str] = ()
    chart: Literal["intervals", "heat map"] = "intervals"
    wanted: Mapping[str, float] | None = None
    note: str | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from self.either(split=" (a protocol)", splits=" (protocol -> heading)")
        names = list(self.metrics.values()) if isinstance(self.metrics, Mapping) else list(self.metrics)
        heads = (
            names if self.splits is None else [f"{name} ({label})" for label in self.splits.values() for name in names]
        )
        rows = [(row["label"], row["system"]) for row in self.rows]
        systems = [system for _, system in rows]
        for option_name, system in [*(("compared", s) for s in self.compared), ("base", self.base)]:
            if system is not None and system not in systems:
                yield option_name, f"no row of system {system!r}; there are: {', '.join(systems)}"
        for metric in set(self.differences).difference(self.metrics):
            yield "differences", unknown("metric of this table", metric, self.metrics)
        for number, row in enumerate(self.rows):
            shares, shown = row.get("shares"), list(self.splits or [self.split])
            for split in set(shares).difference(shown) if isinstance(shares, Mapping) else ():
                yield f"rows.{number}.shares", unknown("protocol of this table", split, shown)
            if rows[number] in rows[:number]:
                yield f"rows.{number}", f"row {row['label']!r} of system {row['system']!r} stands twice"
        for head in set(self.wanted or {}).difference(heads):
            yield f"wanted.{head}", f"no column {head!r}; there are: {', '.join(heads)}"
        for number, group in enumerate(self.reported):
            for head in {head for numbers in group["rows"].values() for head in numbers} - set(heads):
                yield f"reported.{number}.rows", f"no column {head!r}; there are: {', '.join(heads)}"


@dataclass(frozen=True, kw_only=True)
class Page(Spec):
    """``pages.<name>``: the neighbours or segments that a system found.

    Attributes:
        top: neighbours of each query, or queries whose segments are shown.
        judged: protocol whose scores are drawn over grades.
        scatter: systems of which they are drawn.
        curves: trained systems whose learning curves are drawn.
    """

    dataset: str = option(section="datasets")
    split: str
    system: str = option(section="systems")
    top: int = 5
    title: str | None = None
    judged: str | None = None
    scatter: Sequence[str] = option(section="systems", default=())
    tables: Sequence[str] = option(section="tables", default=())
    curves: Sequence[str] = option(section="systems", trained=True, default=())

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.scatter and self.judged is None:
            yield "scatter", "option 'judged' is missing: the protocol whose pairs are drawn"


#: attribute of a run of TRECVID's ad-hoc video search -> its values: ``trType`` (training data: A only the collection's
#: own, D any other, E and F not annotated), ``class`` (F fully automatic, M manually assisted, R relevance feedback),
#: ``task`` (M main, P progress), ``novelty`` (N novel, C common), ``priority``; any text for ``pid`` (the team's, as
#: registered) and ``desc``
AVS_RUN: dict[str, tuple[str, ...]] = {
    "trType": ("A", "D", "E", "F"),
    "class": ("F", "M", "R"),
    "task": ("M", "P"),
    "novelty": ("N", "C"),
    "priority": tuple(str(n) for n in range(1, 11)),
    "pid": (),
    "desc": (),
}


def avs_run_mistakes(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(attribute, sentence) of what is wrong with the attributes of a run."""
    for name in dict.fromkeys([*AVS_RUN, *run]):
        value, allowed = str(run.get(name, "")), AVS_RUN.get(name)
        if allowed is None:
            yield name, f"unknown attribute {name!r}, there are {', '.join(AVS_RUN)}"
        elif not value.strip():
            yield "", f"attribute {name!r} is missing"
        elif allowed and value not in allowed:
            yield name, f"{name} {value!r}, expected one of {', '.join(allowed)}"


@dataclass(frozen=True, kw_only=True)
class Submission(OpenSpec):
    """``submissions.<name>``: a challenge's own file. Further options are those of the stage ``submit``."""

    callee = "stages.submit:submit"
    filled = ("corpus", "member", "output", "results", "expert", "noise")
    dataset: str = option(section="datasets", workflow=True)
    split: str
    system: str = option(section="systems", workflow=True)
    format: str | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.format != "avs":
            return
        run = self.further.get("run") or {}
        for name, text in avs_run_mistakes(run):
            yield f"run.{name}".rstrip("."), text
        if "progress" in self.split and run.get("task") == "M":
            yield "run.task", f"task 'M' is the main task, but {self.split!r} has progress topics: task P"
        elif "progress" not in self.split and run.get("task") == "P":
            yield (
                "run.task",
                f"task 'P' is the progress task, whose protocols are named captions_progress…: {self.split!r}",
            )

    @property
    def is_ranked(self) -> bool:
        """Whether it is written from rankings."""
        return self.format == "avs"
