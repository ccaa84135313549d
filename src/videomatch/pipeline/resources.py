"""What a job takes of a cluster: minutes, memory, cards, and the small jobs that are submitted together.

Estimates from the number of videos at hand, right to an order of magnitude: a job that needed more is started again
with twice as much. ``set-resources`` of a profile (``profiles/slurm``) replaces each of them by the rule's name.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from pathlib import Path

import polars as pl

from videomatch.pipeline import jobs, rules
from videomatch.pipeline.plan import Plan
from videomatch.specs import listed
from videomatch.specs.systems import Trained

#: minutes that every job may take beside its work
BASE = 5
#: minutes of work up to which a job is small, and a whole run
SMALL, SMALL_RUN = 1.0, 15.0
#: minutes of work for which a job takes one more processor
SHARE = 30.0
#: bytes of raw data that are taken for a video where there are fewer files
BYTES = 1e6
#: taken where nothing says how many videos there are
VIDEOS = 1000


def runtime(plan: Plan, result: str, attempt: int = 1) -> int:
    """The minutes after which a job is ended; with each attempt twice as many."""
    shared = threads(plan, result) if rules.rule_of(plan, result)[0].most > 1 else 1
    return round((BASE + minutes(plan, result) / shared) * 2 ** (attempt - 1))


def threads(plan: Plan, result: str, *, alone: bool = False) -> int:
    """The processors of a job on each of its machines: as many as a run was given, of other jobs more for more work; or
    where no other machine helps (``alone``), of other jobs one."""
    rule, wildcards = rules.rule_of(plan, result)
    if rule.name == "train":
        return math.ceil(jobs.train_threads(plan, wildcards["system"]) / (1 if alone else nodes(plan, result)))
    return 1 if alone else min(rule.most, 1 + int(minutes(plan, result) / SHARE))


def mem_mb(plan: Plan, result: str, attempt: int = 1) -> int:
    """The memory of a job, in MB; with each attempt twice as much."""
    rule = rules.rule_of(plan, result)[0]
    return round((rule.mem_mb + rule.kb * _videos(plan, result) / 1000) * 2 ** (attempt - 1))


def cards(plan: Plan, result: str, attempt: int = 1) -> int:
    """The graphics cards that a job can use, at every attempt; where there is none, it uses none."""
    rule, wildcards = rules.rule_of(plan, result)
    return rule.gpu * _training(plan, rule, wildcards).get("processes", 1)


def nodes(plan: Plan, result: str, attempt: int = 1) -> int:
    """The machines of a cluster that a job runs on, at every attempt."""
    rule, wildcards = rules.rule_of(plan, result)
    return plan.system_of_kind(wildcards["system"], Trained).nodes if rule.name == "train" else 1


def is_spread(plan: Plan, rule: rules.Rule) -> bool:
    """Whether some job of a rule runs on several machines."""
    return rule.name == "train" and any(entry.nodes > 1 for entry in plan.of_kind(Trained).values())


def launcher(plan: Plan, result: str) -> str:
    """What starts the module of a job on all of its machines, from the first of them."""
    count = nodes(plan, result)
    if count == 1:
        return "python -m"
    each = plan.system_of_kind(rules.rule_of(plan, result)[1]["system"], Trained).processes // count
    return (
        f"srun --nodes={count} --ntasks={count} --ntasks-per-node=1 --cpus-per-task={threads(plan, result)} "
        f"python -m torch.distributed.run --nnodes={count} --nproc-per-node={each} --rdzv-backend=c10d "
        f"--rdzv-id=$SLURM_JOB_ID --rdzv-endpoint=$(hostname):$((20000 + SLURM_JOB_ID % 20000)) -m --"
    )


def minutes(plan: Plan, result: str) -> float:
    """How long a job works on one processor, or on a card."""
    rule, wildcards = rules.rule_of(plan, result)
    times = _training(plan, rule, wildcards).get("epochs", 10) if rule.name == "train" else 1
    if "system" in wildcards and "member" not in wildcards:
        times *= len(plan.members(wildcards["system"]))
    return rule.seconds * _videos(plan, result) * times / 60


def group(plan: Plan, result: str, alone: frozenset[str] = frozenset()) -> str | None:
    """The name of those that a job is submitted with; None where it is alone, as those of some rules are."""
    return _groups(plan, alone).get(result)


@functools.cache
def _groups(plan: Plan, alone: frozenset[str]) -> dict[str, str]:
    """Result -> its group: small jobs after equally many large ones (on the longest way), so that no large job lies
    between two of a group. A small run is one group, but for the jobs of rules that are ``alone``, or on several
    machines: the cards and machines of a group add up."""
    alone |= {rule.name for rule in rules.RULES if is_spread(plan, rule)}
    parts: dict[str, list[str]] = {}
    for result in rules.needed(plan):
        parts.setdefault(rules.first(plan, result), []).append(result)
    work, found = {result: minutes(plan, result) for result in parts}, {}
    limit = SMALL_RUN if sum(work.values()) <= SMALL_RUN else SMALL
    after: dict[str, int] = {}

    def large(result: str) -> int:
        if result not in after:
            read = {rules.first(plan, path) for part in parts[result] for path in rules.job_of(plan, part).results}
            after[result] = max(map(large, read), default=0)
            if work[result] <= limit and rules.rule_of(plan, result)[0].name not in alone:
                found[result] = f"small{after[result]}"
            else:
                after[result] += 1
        return after[result]

    for result in parts:
        large(result)
    return found


def _training(plan: Plan, rule: rules.Rule, wildcards: dict[str, str]) -> dict[str, int]:
    return dict(plan.system_of_kind(wildcards["system"], Trained).training or {}) if rule.name == "train" else {}


def _videos(plan: Plan, result: str) -> float:
    """The videos that a job works on: those of its data set, or of its shards."""
    wildcards = rules.rule_of(plan, result)[1]
    entries = {**plan.tables, **plan.pages, **plan.submissions}
    named = next((entries[w] for name, w in wildcards.items() if name in ("table", "page", "submission")), None)
    if named is not None:
        dataset = named.dataset
    elif "dataset" in wildcards:
        dataset = wildcards["dataset"]
    else:
        dataset = plan.system_of_kind(wildcards["system"], Trained).dataset
    manifest = Path(plan.result("corpora", dataset))
    made = manifest.stat().st_mtime_ns if manifest.exists() else 0
    share = len(rules.together(plan, result)) / plan.datasets[dataset].shards if "shard" in wildcards else 1
    return _count(plan, dataset, made) * share


@functools.cache
def _count(plan: Plan, dataset: str, made: int) -> float:
    """The number of videos of a data set: of its tables once they are ``made``, else by its options or raw files."""
    if made:
        with contextlib.suppress(OSError, pl.exceptions.PolarsError):  # damaged: the job that reads it says so
            tables = Path(plan.result("corpora", dataset)).with_name("videos-*.parquet")
            return pl.scan_parquet(tables).select(pl.len()).collect().item()
    entry = plan.datasets[dataset]
    if plan.is_generated(dataset):
        return entry.options.get("videos", VIDEOS)
    sizes = [path.stat().st_size for raw in listed(entry.raw) for path in _files(Path(raw).expanduser())]
    return max(len(sizes), sum(sizes) / BYTES)


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]
