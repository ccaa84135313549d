"""The table of the rules, and the results that some parameters need."""

from __future__ import annotations

import functools
import graphlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from videomatch.common import named
from videomatch.data import tables
from videomatch.pipeline import jobs
from videomatch.pipeline.plan import Plan
from videomatch.specs.data import Expert
from videomatch.specs.systems import Combine, Embeddings, Filter, System, Trained


@dataclass(frozen=True)
class Rule:
    """How the results of one kind are made.

    Attributes:
        output: folder of the result below the root, with wildcards.
        seconds: work of one processor or card on a video, in training for an epoch: how long a cluster lets a job work.
        mem_mb: memory that a cluster reserves, and ``kb`` for each video.
        most: processors that a job takes on a cluster at most, where its result does not depend on their number. (On
            one machine a job with several waits until so many are free at once: as long as jobs with one are ready.)
        only: (wildcard, the values that it takes), where rules of the same output differ in that.
    """

    make: Callable[..., jobs.Job]
    output: str
    seconds: float
    mem_mb: int = 1000
    kb: float = 0
    most: int = 1
    gpu: bool = False
    only: tuple[str, Callable[[Plan], list[str]]] | None = None

    @property
    def name(self) -> str:
        return self.make.__name__

    @property
    def folder(self) -> str:
        """The output without the wildcards of which one entry of the parameters has several."""
        return self.output.removesuffix("/{shard}").removesuffix("/{member}")

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


#: jobs of Snakemake for the shards of one folder, at most: what it takes grows with the number of its jobs, so of more
#: shards several are made by one job (benchmarks/growth.py)
JOBS = 128
FEATURES, EMBEDDINGS = "features/{dataset}", "embeddings/{dataset}/{system}"
CELL = "{dataset}/{split}/{system}"
RULES = [
    Rule(jobs.render, "media/{dataset}/{shard}", 0.06, most=8),
    Rule(jobs.prepare, "corpora/{dataset}", 0.02, 2000, 4, most=8),
    Rule(jobs.check_leaks, "leaks/{table}", 0.002, 1000, 4),
    Rule(jobs.extract, FEATURES + "/{passage}/{shard}", 0.3, 4000, most=16, gpu=True, only=("passage", _passes)),
    Rule(jobs.add_texts, "texts/{dataset}/{kinds}", 0.001, 1000, 4),
    Rule(jobs.select_key_frames, FEATURES + "/{expert}/{shard}", 0.01, only=("expert", Plan.key_frame_experts)),
    Rule(jobs.score_pairs, "scores/{dataset}/{system}", 0.01, 2000, 10, only=("system", _of_kinds(Filter))),
    Rule(jobs.train, "runs/{system}/{member}", 0.006, 3000, 20, gpu=True),
    Rule(jobs.embed, EMBEDDINGS, 0.01, 3000, 10, gpu=True, only=("system", _of_kinds(Trained, Embeddings))),
    Rule(jobs.combine, EMBEDDINGS, 0.001, 1000, 20, only=("system", _of_kinds(Combine))),
    Rule(jobs.shortlist, f"shortlists/{CELL}", 0.02, 2000, 50),
    Rule(jobs.tune, "tuned/{dataset}/{system}/{member}", 0.2, 2000, 4, most=16),
    Rule(jobs.align, f"segments/{CELL}/{{member}}", 0.05, 2000, 4, most=16),
    Rule(jobs.search, f"rankings/{CELL}", 0.02, 2000, 20),
    Rule(jobs.evaluate, f"metrics/{CELL}", 0.003, 1000, 4),
    Rule(jobs.tabulate, "tables/{table}", 0.005, 1000, 1),
    Rule(jobs.illustrate, "pages/{page}", 0.001, 1000, 1),
    Rule(jobs.submit, "submissions/{submission}", 0.001, 1000, 10),
]


@functools.cache
def _patterns(plan: Plan) -> list[tuple[Rule, re.Pattern[str]]]:
    found = []
    for rule in RULES:
        named = {name: f"(?P<{name}>{values})" for name, values in rule.constraints(plan).items()}
        found.append((rule, re.compile(plan.result(rule.output.format(**named)))))
    return found


@functools.cache
def rule_of(plan: Plan, result: str) -> tuple[Rule, dict[str, str]]:
    """The rule that makes a result, and its wildcards."""
    for rule, pattern in _patterns(plan):
        if match := pattern.fullmatch(result):
            return rule, match.groupdict()
    raise ValueError(
        f"{Path(result).parent}: no rule makes it; names of protocols and tables hold letters, digits, _ and -"
    )


@functools.cache
def job_of(plan: Plan, result: str) -> jobs.Job:
    """The job that makes a result."""
    rule, wildcards = rule_of(plan, result)
    return rule.make(plan, **wildcards)


@functools.cache
def first(plan: Plan, result: str) -> str:
    """The result by which Snakemake knows the job that makes a result: itself, but where there are more than
    :data:`JOBS` shards."""
    rule, wildcards = rule_of(plan, result)
    shard = int(wildcards.get("shard", 0))
    return result if shard < JOBS else plan.result(rule.output.format(**wildcards | {"shard": shard % JOBS}))


def together(plan: Plan, result: str) -> list[str]:
    """The results that are made by the job which Snakemake knows by a result, this one first."""
    rule, wildcards = rule_of(plan, result)
    if int(wildcards.get("shard", JOBS)) >= JOBS:
        return [result]
    shards = range(int(wildcards["shard"]), plan.datasets[wildcards["dataset"]].shards, JOBS)
    return [result, *(plan.result(rule.output.format(**wildcards | {"shard": shard})) for shard in shards[1:])]


def targets(plan: Plan) -> dict[str, str]:
    """Name of a target -> its result: tables by their names, ``page_<name>`` and ``submission_<name>``."""
    found = {name: plan.result("tables", name) for name in plan.tables}
    found |= {f"page_{name}": plan.result("pages", name) for name in plan.pages}
    return found | {f"submission_{name}": plan.result("submissions", name) for name in plan.submissions}


@functools.cache
def needed(plan: Plan) -> dict[str, jobs.Job]:
    """Result -> its job, of all that tables, pages and submissions are made from, and of the features of every expert
    that a data set among them lists. A ``ValueError`` where that cannot be."""
    found: dict[str, jobs.Job] = {}
    waiting = list(targets(plan).values())
    while waiting:
        result = waiting.pop()
        if result in found:
            continue
        job = found[result] = job_of(plan, result)
        waiting += job.results
        if job.stage == "prepare":
            dataset = job.settings["dataset"]
            waiting += plan.features_of(dataset, plan.datasets[dataset].experts)
    try:
        graphlib.TopologicalSorter({result: job.results for result, job in found.items()}).prepare()
    except graphlib.CycleError as error:
        circle = " → ".join(str(Path(result).parent) for result in error.args[1])
        raise ValueError(f"a circle of results, each made from the one before: {circle}") from None
    return found


@functools.cache
def of_tables(plan: Plan) -> dict[str, set[str]]:
    """Table -> all results that it is made from, and itself."""
    found = {}
    for table in plan.tables:
        waiting, seen = [plan.result("tables", table)], set[str]()
        while waiting:
            if (result := waiting.pop()) not in seen:
                seen.add(result)
                waiting += needed(plan)[result].results
        found[table] = seen
    return found


@functools.cache
def priorities(plan: Plan) -> dict[str, int]:
    """Result -> its priority: what the first table of the parameters needs has the highest one."""
    last_first = enumerate(reversed(of_tables(plan).values()), 1)
    return {result: number for number, results in last_first for result in results}


@functools.cache
def checks(plan: Plan, names: frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """Result that reads a corpus -> the checks for leaks that come before its job: of those tables that it serves, if
    ``names`` of targets are given, and all are tables, of those among them."""
    found = {}
    for table in sorted(names) if names and names <= set(plan.tables) else plan.tables:
        for result in (result for result in of_tables(plan)[table] if "corpus" in needed(plan)[result].inputs):
            found.setdefault(result, []).append(plan.result("leaks", table))
    return found


@dataclass(frozen=True)
class Stage:
    """A stage of ``dvc.yaml``: the results that the same tables need.

    Attributes:
        results: in the order of their paths.
        folders: of the entries that they belong to, below the root; no other stage has results there.
        reads: stage -> those of its folders that this one reads.
    """

    results: list[str]
    folders: list[str]
    reads: dict[str, list[str]]


@functools.cache
def stages(plan: Plan) -> dict[str, Stage]:
    """The stages of ``dvc.yaml``. The stage of a table makes what this table alone needs. What several tables need is a
    stage of its own, so a table is made without anything that it does not read. A stage reads only stages that more
    tables need, so there is no circle. Pages and submissions have stages of what no table needs."""
    results: dict[str, list[str]] = {}
    reads: dict[str, set[str]] = {}
    for result, job in sorted(needed(plan).items()):
        folder = _folder_of(plan, result)
        results.setdefault(folder, []).append(result)
        reads.setdefault(folder, set()).update({_folder_of(plan, path) for path in job.results} - {folder})
    needing: dict[str, list[str]] = {folder: [] for folder in results}
    for name, result in targets(plan).items():
        waiting = [_folder_of(plan, result)]
        while waiting:
            folder = waiting.pop()
            if name not in needing[folder]:
                needing[folder].append(name)
                waiting += reads[folder]
    stage_of = {folder: _stage_name(plan, names) for folder, names in needing.items()}
    found: dict[str, Stage] = {}
    for folder in sorted(results, key=lambda folder: (-len(needing[folder]), stage_of[folder])):
        stage = found.setdefault(stage_of[folder], Stage([], [], {}))
        stage.results.extend(results[folder])
        stage.folders.append(folder)
        for read in sorted(reads[folder]):
            if stage_of[read] != stage_of[folder] and read not in stage.reads.setdefault(stage_of[read], []):
                stage.reads[stage_of[read]].append(read)
    return found


def _folder_of(plan: Plan, result: str) -> str:
    """The folder below the root of the entry that a result belongs to, as ``runs/mmt``."""
    rule, wildcards = rule_of(plan, result)
    return rule.folder.format(**wildcards)


def _stage_name(plan: Plan, names: list[str]) -> str:
    """The stage of what some targets need: families whose tables all do are named as one."""
    names = [name for name in names if name in plan.tables] or names
    if len(names) == 1:
        return names[0]
    if not names:
        return "features"  # of experts that a data set lists and nothing reads
    families: dict[str, list[str]] = {}
    for name in plan.tables:
        families.setdefault(name.partition("_")[0], []).append(name)
    whole = {family: tables for family, tables in families.items() if len(tables) > 1 and set(tables) <= set(names)}
    rest = [name for name in names if not any(name in tables for tables in whole.values())]
    return "shared_by_" + ("all" if set(names) == set(plan.tables) else "_and_".join([*whole, *rest]))


def datasets(plan: Plan) -> list[str]:
    """The data sets that some result needs, in the order of the parameters."""
    found = needed(plan)
    return [dataset for dataset in plan.datasets if plan.result("corpora", dataset) in found]


def require_packages(plan: Plan) -> None:
    """A ValueError where an expert that some result needs takes an optional package that is not installed."""
    experts = [plan.experts[name] for dataset in datasets(plan) for name in plan.datasets[dataset].experts]
    if any(isinstance(expert, Expert) and expert.recognises == "asr" for expert in experts):
        named.require("faster_whisper", "speech")


def rejected(plan: Plan, dataset: str) -> pl.DataFrame:
    """``path`` and ``reason`` of the files of a data set that could not be read, in reading and in any pass."""
    features = sorted(plan.features_of(dataset, plan.datasets[dataset].experts))
    folders = [Path(path).parent for path in (plan.result("corpora", dataset), *features)]
    return tables.read("rejected", *folders).select("path", "reason").unique().sort("path")
