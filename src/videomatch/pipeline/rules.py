"""The table of the rules, and the results that some parameters need."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from videomatch.data import tables
from videomatch.pipeline import jobs
from videomatch.pipeline.plan import Plan
from videomatch.specs.systems import Combine, Embeddings, System, Trained


@dataclass(frozen=True)
class Rule:
    """How the results of one kind are made.

    Attributes:
        output: folder of the result below the root, with wildcards.
        part: the stage of ``dvc.yaml`` that the rule belongs to.
        mem_mb: memory that a cluster reserves.
        only: (wildcard, the values that it takes), where rules of the same output differ in that.
    """

    make: Callable[..., jobs.Job]
    output: str
    part: str
    mem_mb: int = 1000
    threads: int | Callable[[Plan, str], int] = 1
    gpu: bool = False
    only: tuple[str, Callable[[Plan], list[str]]] | None = None

    @property
    def name(self) -> str:
        return self.make.__name__

    def constraints(self, plan: Plan) -> dict[str, str]:
        """Regular expressions of its wildcards."""
        found = dict.fromkeys(re.findall(r"{(\w+)}", self.output), r"[\w-]+")
        if self.only is not None:
            name, values = self.only
            found[name] = "|".join(sorted(values(plan))) or "(?!)"
        return found


def _passes(plan: Plan) -> list[str]:
    return list({passage for dataset in plan.datasets for passage in plan.passes(dataset)})


def _of_kinds(*kinds: type[System]) -> Callable[[Plan], list[str]]:
    return lambda plan: [system for system, entry in plan.systems.items() if isinstance(entry, kinds)]


#: the stages of ``dvc.yaml``
PARTS = ("systems", "segments", "benchmark")
FEATURES, EMBEDDINGS = "features/{dataset}", "embeddings/{dataset}/{system}"
CELL = "{dataset}/{split}/{system}"
RULES = [
    Rule(jobs.render, "media/{dataset}/{shard}", "systems"),
    Rule(jobs.prepare, "corpora/{dataset}", "systems", 2000, threads=2),
    Rule(jobs.extract, FEATURES + "/{passage}/{shard}", "systems", 4000, gpu=True, only=("passage", _passes)),
    Rule(jobs.select_key_frames, FEATURES + "/{expert}/{shard}", "systems", only=("expert", Plan.key_frame_experts)),
    Rule(jobs.train, "runs/{system}/{member}", "systems", 4000, threads=jobs.train_threads, gpu=True),
    Rule(jobs.embed, EMBEDDINGS, "systems", 4000, gpu=True, only=("system", _of_kinds(Trained, Embeddings))),
    Rule(jobs.combine, EMBEDDINGS, "systems", 4000, only=("system", _of_kinds(Combine))),
    Rule(jobs.shortlist, "shortlists/{dataset}/{split}/{expert}", "segments", 4000),
    Rule(jobs.tune, "tuned/{dataset}/{system}/{member}", "segments", 2000),
    Rule(jobs.align, f"segments/{CELL}/{{member}}", "segments", 2000),
    Rule(jobs.search, f"rankings/{CELL}", "benchmark", 4000),
    Rule(jobs.evaluate, f"metrics/{CELL}", "benchmark"),
    Rule(jobs.tabulate, "tables/{table}", "benchmark", 500),
    Rule(jobs.illustrate, "pages/{page}", "benchmark"),
    Rule(jobs.submit, "submissions/{submission}", "benchmark", 2000),
]


@functools.cache
def _patterns(plan: Plan) -> list[tuple[Rule, re.Pattern[str]]]:
    found = []
    for rule in RULES:
        named = {name: f"(?P<{name}>{values})" for name, values in rule.constraints(plan).items()}
        found.append((rule, re.compile(plan.result(rule.output.format(**named)))))
    return found


def job_of(plan: Plan, result: str) -> jobs.Job:
    """The job that makes a result."""
    rule, match = next((rule, m) for rule, pattern in _patterns(plan) if (m := pattern.fullmatch(result)))
    return rule.make(plan, **match.groupdict())


def needed(plan: Plan) -> dict[str, jobs.Job]:
    """Result -> its job, of all that tables, pages and submissions are made from, and of the features of every expert
    that a data set among them lists. A ``ValueError`` where that cannot be."""
    found: dict[str, jobs.Job] = {}
    waiting = [
        *(plan.result("tables", name) for name in plan.tables),
        *(plan.result("pages", name) for name in plan.pages),
        *(plan.result("submissions", name) for name in plan.submissions),
    ]
    waiting += [plan.result("rankings", *cell) for cell in plan.cells]
    while waiting:
        result = waiting.pop()
        if result in found:
            continue
        job = found[result] = job_of(plan, result)
        for paths in job.inputs.values():
            waiting += [paths] if isinstance(paths, str) else paths
        if job.stage == "prepare":
            dataset = job.settings["dataset"]
            waiting += plan.features_of(dataset, plan.datasets[dataset].experts)
    return found


def results(plan: Plan) -> dict[str, list[str]]:
    """Stage of ``dvc.yaml`` -> all its results."""
    parts = {rule.name: rule.part for rule in RULES}
    found = needed(plan)
    return {part: sorted(path for path, job in found.items() if parts[job.stage] == part) for part in PARTS}


def datasets(plan: Plan) -> list[str]:
    """The data sets that some result needs, in the order of the parameters."""
    found = needed(plan)
    return [dataset for dataset in plan.datasets if plan.result("corpora", dataset) in found]


def rejected(plan: Plan, dataset: str) -> pl.DataFrame:
    """``path`` and ``reason`` of the files of a data set that could not be read, in reading and in any pass."""
    features = sorted(plan.features_of(dataset, plan.datasets[dataset].experts))
    folders = [Path(path).parent for path in (plan.result("corpora", dataset), *features)]
    return tables.read("rejected", *folders).select("path", "reason").unique().sort("path")
