"""``videomatch timing``: where the time of a run went, by what the logs of its jobs say.

(Snakemake's report knows no CPU time, and its ``benchmark`` would watch the process that waits for the fork server.)
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from videomatch.app.requests import load_plan
from videomatch.common.messages import count
from videomatch.pipeline import rules
from videomatch.pipeline.plan import Plan

FINISHED = re.compile(r"^([\d-]+ [\d:,]+) INFO videomatch: \w+ finished: ([\d.]+) s, ([\d.]+) s of CPU$", re.M)
#: where Snakemake leaves a log of every call, named by the time of its start
CALLS, CALL = Path(".snakemake/log"), "%Y-%m-%dT%H%M%S.%f.snakemake.log"

#: share of the CPU time below which a row is not listed alone
SMALL = 0.005


@dataclass
class Finished:
    """A job by its log.

    Attributes:
        name: its system; of one without, its stage and what that is called for.
        start, end: s since the epoch.
        cpu: s of its process and threads, without that of processes which it starts.
        beside: core seconds during which a core had no job while this one ran, shared with the others that did.
    """

    result: str
    stage: str
    name: str
    start: float
    end: float
    cpu: float
    beside: float = 0.0


def finished(plan: Plan) -> list[Finished]:
    """The jobs of all needed results whose last run made the result, in the order in which they ended. A job that found
    its result unchanged, or whose log is gone, is not among them."""
    found = []
    for result, job in rules.needed(plan).items():
        log = Path("logs", Path(result).parent.relative_to("results"))
        log = log.with_name(f"{log.name}.log")
        ends = FINISHED.findall(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else []
        if ends:
            _, wildcards = rules.rule_of(plan, result)
            end = datetime.strptime(ends[-1][0], "%Y-%m-%d %H:%M:%S,%f").timestamp()
            rest = [value for name, value in wildcards.items() if name != "shard"]
            name = wildcards.get("system") or " ".join([job.stage, *rest])
            found.append(Finished(result, job.stage, name, end - float(ends[-1][1]), end, float(ends[-1][2])))
    return sorted(found, key=lambda job: job.end)


class Run:
    """The time from the start of a run to the end of its last job, without breaks between two calls of Snakemake.

    Args:
        jobs: at least one. What they waited beside is filled in.
        calls: times at which Snakemake was started, s since the epoch, ascending.
    """

    def __init__(self, jobs: Sequence[Finished], calls: Sequence[float], cores: int) -> None:
        self.cores, self._breaks = cores, list[tuple[float, float]]()
        first = min(job.start for job in jobs)
        self.start = max((call for call in calls if call <= first), default=first)
        self.unused = cores * (first - self.start)
        edges = sorted({edge for job in jobs for edge in (job.start, job.end)})
        by_start, running = sorted(jobs, key=lambda job: job.start), list[Finished]()
        for start, end in pairwise(edges):
            while by_start and by_start[0].start <= start:
                running.append(by_start.pop(0))
            running = [job for job in running if job.end > start]
            if not running:
                begun = max((call for call in calls if start <= call <= end), default=start)
                self._breaks.append((start, begun))
                self.unused += cores * (end - begun)
            # a job with threads of its own has more than one core
            taken = sum(max(1.0, job.cpu / (job.end - job.start)) for job in running)
            for job in running:
                job.beside += max(0.0, cores - taken) * (end - start) / len(running)
        self.seconds = self.until(jobs[-1].end)

    def until(self, moment: float) -> float:
        """Seconds of the run before a moment."""
        return moment - self.start - sum(end - start for start, end in self._breaks if start < moment)


def show_timing(options: argparse.Namespace) -> int:
    """Print where the time of the last run went: when each table stood, and seconds by stage and by system."""
    cores = os.cpu_count() or 1 if options.cores is None else options.cores
    if cores < 1:
        raise ValueError(f"--cores {cores}: expected at least 1")
    plan = load_plan(options.configfile, options.config)
    jobs = finished(plan)
    missing = len(rules.needed(plan)) - len(jobs)
    if not jobs:
        raise ValueError(f"logs/{plan.params['scale']} has no finished job: run `{plan.command()}`")
    calls = sorted(datetime.strptime(p.name, CALL).timestamp() for p in CALLS.glob("*.snakemake.log"))
    run = Run(jobs, calls, cores)
    # no less than the logs can say
    cpu, waited = sum(job.cpu for job in jobs) or 0.1, sum(max(0.0, job.end - job.start - job.cpu) for job in jobs)
    total, beside = run.cores * max(run.seconds, 0.1), sum(job.beside for job in jobs)
    without = f"; {missing} more without a record of a run" if missing else ""
    print(f"{count(len(jobs), 'job')} in {run.seconds / 60:.1f} min on {count(run.cores, 'core')}{without}")
    parts = [
        ("CPU time of jobs", cpu),
        ("jobs that waited, for the disk or for a core that others used", waited),
        ("idle: a core had no job while others had one", beside),
        ("idle: no job ran, before the first one and between two", run.unused),
    ]
    for text, seconds in parts:
        print(f"{seconds:10.0f} core s {seconds / total:5.0%}  {text}")
    tables = [(job.name.split()[-1], [f"{run.until(job.end) / 60:.1f}"]) for job in jobs if job.stage == "tabulate"]
    _columns("table", ["min after the start"], tables)
    for title, key in (("stage", lambda job: job.stage), ("system", lambda job: job.name)):
        _columns(title, ["jobs", "wall s", "CPU s", "CPU", "idle core s beside"], _sums(jobs, key, cpu))
    return 0


def _sums(jobs: Iterable[Finished], key: Callable[[Finished], str], total: float) -> list[tuple[str, list[str]]]:
    """A row for each value of a key, that with most CPU time first; those of little time and idleness are one row."""
    groups: dict[str, list[Finished]] = {}
    for job in jobs:
        groups.setdefault(key(job), []).append(job)
    small = [name for name, group in groups.items() if sum(max(j.cpu, j.beside) for j in group) < SMALL * total]
    if len(small) > 1:
        groups[f"{len(small)} others"] = [job for name in small for job in groups.pop(name)]
    rows = []
    for name, group in groups.items():
        wall, cpu, beside = (sum(n) for n in zip(*((j.end - j.start, j.cpu, j.beside) for j in group), strict=True))
        rows.append((cpu, name, [str(len(group)), f"{wall:.0f}", f"{cpu:.0f}", f"{cpu / total:.0%}", f"{beside:.0f}"]))
    return [(name, cells) for _, name, cells in sorted(rows, key=lambda row: (-row[0], row[1]))]


def _columns(title: str, heads: list[str], rows: list[tuple[str, list[str]]]) -> None:
    width = max(len(name) for name, _ in [(title, []), *rows])
    print()
    for name, cells in [(title, heads), *rows]:
        print(f"{name:{width}}", *(f"{cell:>{max(7, len(head))}}" for cell, head in zip(cells, heads, strict=True)))
