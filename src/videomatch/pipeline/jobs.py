"""What every job is made from: one function per rule, and the table of the rules.

A function takes the plan and the wildcards of the rule's output, and returns the :class:`Job`: the settings that the
stage gets (nothing else of the parameters can influence it, so nothing else makes it run again), the results and files
that it reads, and the modules that it loads by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.common.digests import tree_digest
from videomatch.data import tables
from videomatch.data.corpus import shard_file
from videomatch.pipeline import signatures
from videomatch.pipeline.plan import FILES, OUT_OF_FOLD, RANKED, V2T, Json, Plan
from videomatch.pipeline.reached import code_digest
from videomatch.specs.similarity import SimilarityMap
from videomatch.specs.systems import Tune

#: measures of a protocol that was judged in part look at long lists
POOLED = ("infAP", "infNDCG", "iP@")


@dataclass(frozen=True)
class Job:
    """What one job is made from.

    Attributes:
        stage: the module of ``stages`` that does it.
        settings: its arguments of the parameters.
        inputs: argument -> manifest, or manifests, of the results that it reads.
        modules: what it loads by name, as ``models.clip``.
        reads: input -> patterns of the files that are read of it; all files where an input is not named.
        files: files and folders outside the results, whose content counts.
    """

    stage: str
    settings: Json
    inputs: Mapping[str, str | list[str] | None] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    reads: Mapping[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def given_inputs(self) -> dict[str, str | list[str]]:
        """The inputs that there are."""
        return {name: paths for name, paths in self.inputs.items() if paths is not None}

    def request(self) -> Json:
        """The content of the job's settings file."""
        return {
            "stage": self.stage,
            "settings": self.settings,
            "modules": self.modules,
            "code": code_digest(self.stage, *self.modules),
            "inputs": self.given_inputs(),
            "reads": dict(self.reads),
            "files": {file: tree_digest(Path(file).expanduser()) for file in self.files},
        }


# ------------------------------------------------------------------------------------------------ videos and features


def render(plan: Plan, dataset: str, shard: str) -> Job:
    """The videos of a shard of a generated data set."""
    settings = {"shard": int(shard), "shards": plan.shards(dataset), **_generated(plan, dataset)}
    return Job("render", settings)


def prepare(plan: Plan, dataset: str) -> Job:
    """The tables of a data set."""
    entry = plan.dataset(dataset)
    settings = {"dataset": dataset, "corpus": entry["corpus"], "shards": plan.shards(dataset), "raw": entry.get("raw")}
    return Job(
        "prepare",
        settings | _generated(plan, dataset),
        {"renders": plan.renders(dataset)},
        modules=[f"corpora.{entry['corpus']}"],
        files=plan.raw_files(dataset),
    )


def _generated(plan: Plan, dataset: str) -> Json:
    entry = plan.dataset(dataset)
    return {"seed": int(entry.get("seed", plan.seed)), "options": entry.get("options", {})}


def extract(plan: Plan, dataset: str, passage: str, shard: str) -> Job:
    """The features of all experts of one pass over the videos of a shard."""
    experts = plan.passes(dataset)[passage]
    options = {name: {k: v for k, v in plan.experts[name].items() if k != "extraction_pass"} for name in experts}
    sources = sorted({entry["source"] for entry in options.values() if "source" in entry})
    backbones = plan.backbones_of(experts)
    entry = plan.dataset(dataset)
    settings: Json = {
        "shard": int(shard),
        "experts": options,
        "backbones": {b: plan.backbone_path(b) for b in backbones},
    }
    modules = {f"experts.{one['extractor']}" for one in options.values()}
    files = [one[key] for one in options.values() for key in FILES if key in one] + plan.backbone_files(backbones)
    if any(map(plan.comes_with_corpus, experts)):
        settings["released"] = {"corpus": entry["corpus"], "raw": entry.get("raw")}
        modules.add(f"corpora.{entry['corpus']}")
        files = plan.raw_files(dataset) + files
    texts = ["texts.parquet"] if any(map(plan.reads_texts, experts)) else []
    return Job(
        "extract",
        settings,
        {
            "corpus": plan.corpus(dataset),
            "features": [plan.features(dataset, source)[int(shard)] for source in sources],
            "runs": plan.backbone_runs(backbones),
        },
        modules=sorted(modules),
        # of the corpus the videos of this shard: a new video leaves other shards as they are
        reads={"corpus": [shard_file(int(shard)), *texts], "features": [f"{source}/*" for source in sources]},
        files=files,
    )


def select_key_frames(plan: Plan, dataset: str, expert: str, shard: str) -> Job:
    """The key frames among the features of another expert."""
    entry = plan.experts[expert]
    source = entry["key_frames_of"]
    options = {k: v for k, v in entry.items() if k not in ("key_frames_of", "backbone")}
    backbones = plan.backbones_of([expert])
    return Job(
        "select_key_frames",
        {"expert": source, "name": expert} | options,
        {
            "features": [plan.features(dataset, source)[int(shard)]],
            "run": next(iter(plan.backbone_runs(backbones)), None),
        },
        modules=[
            m
            for b in backbones
            if "system" in plan.backbones[b]
            for m in _model_modules(plan, plan.backbones[b]["system"])
        ],
        reads={"features": [f"{source}/*"]},
    )


# ------------------------------------------------------------------------------------------------ runs and embeddings


def train(plan: Plan, system: str, member: str) -> Job:
    """One member of a trained system."""
    entry = plan.systems[system]
    dataset = entry["dataset"]
    given = {k: v for k, v in entry.items() if k not in ("seeds", "init", "dataset", "folds")}
    for part in ("model", "tokenizer"):
        if "backbone" in given.get(part, {}):
            others = {k: v for k, v in given[part].items() if k != "backbone"}
            given[part] = others | {"pretrained": plan.backbone_path(given[part]["backbone"])}
    fold, seed = plan.fold_of(system, member), int(member.rpartition("seed")[2])
    homes = signatures.objectives()
    return Job(
        "train",
        {"system": given, "seed": seed, "member": member} | ({"fold": fold} if fold else {}),
        {
            "corpus": plan.corpus(dataset),
            "features": plan.features_of(dataset, plan.experts_of(system)),
            "init": plan.initial_runs(system, member),
            "backbones": plan.backbone_runs(plan.own_backbones(system)),
        },
        modules=[*_model_modules(plan, system), *sorted({homes[name].module for name in entry["objectives"]})],
        reads=_corpus_and(plan.experts_of(system)),
        files=_pretrained_files(plan, system),
    )


def train_threads(plan: Plan, system: str) -> int:
    """Processors that a run takes."""
    given = plan.systems[system].get("training", {}).get("threads")
    return given or signatures.read("training.loop")["Training"].options["threads"].default


def embed(plan: Plan, dataset: str, system: str) -> Job:
    """The embeddings of all members of a system; of a data set that names splits in ``embed`` only their videos."""
    entry = {k: v for k, v in plan.systems[system].items() if k in ("embeddings", "model", "examples")}
    encoder = entry.get("embeddings", {}).get("text_encoder")
    if encoder:
        entry["embeddings"] = {**entry["embeddings"], "text_encoder": plan.backbone_path(encoder)}
    settings = {"system": entry, "seed": plan.seed, "members": plan.members(system)}
    settings["queries"] = plan.queried(dataset, system)
    splits = plan.dataset(dataset).get("embed")
    trained = plan.is_trained(system)
    return Job(
        "embed",
        settings | ({"splits": splits} if splits else {}),
        {
            "corpus": plan.corpus(dataset),
            "features": plan.features_of(dataset, plan.experts_of(system)),
            "run": [plan.run(system, member) for member in plan.members(system)]
            if trained
            else plan.backbone_runs([encoder] if encoder else []),
        },
        modules=_model_modules(plan, system) if trained else [],
        reads=_corpus_and(plan.experts_of(system)),
        files=_pretrained_files(plan, system),
    )


def combine(plan: Plan, dataset: str, system: str) -> Job:
    """The joined embeddings of several systems."""
    entry = plan.systems[system]["combine"]
    parts = [plan.embedding(dataset, part) for part in entry["systems"]]
    return Job("combine", {"members": combined_members(plan, system), "dim": entry.get("dim")}, {"embeddings": parts})


def combined_members(plan: Plan, system: str) -> dict[str, list[list[Any]]]:
    """Member of a combined system -> its parts, as [number of the system, member of it, weight].

    A system's weight is shared among its members. ``by_member`` joins, for each member, the parts' members of that
    name, and parts without members.

    Raises:
        ValueError: ``by_member`` of systems with other members.
    """
    entry = plan.systems[system]["combine"]
    weights = entry.get("weights") or [1.0] * len(entry["systems"])
    members = plan.members(system)

    def joined(part: str, member: str) -> list[str]:
        own = plan.members(part)
        if not entry.get("by_member") or own == ["all"]:
            return own
        if own != members:
            raise ValueError(
                f"systems.{system}.combine.by_member: {part!r} has the members {own}, expected {members} of the first"
            )
        return [member]

    return {
        member: [
            [number, name, weights[number] / len(names)]
            for number, part in enumerate(entry["systems"])
            for names in [joined(part, member)]
            for name in names
        ]
        for member in members
    }


def _model_modules(plan: Plan, system: str) -> list[str]:
    """Modules that a job with a trained system loads by name; its objectives are not among them."""
    entry = plan.systems[system]
    return [f"models.{entry['model']['name']}", f"examples.{entry['examples']['kind']}", "objectives"]


def _corpus_and(experts: list[str]) -> dict[str, list[str]]:
    """All tables of a corpus, and the features of some experts."""
    return {"corpus": ["*.parquet"], "features": [f"{expert}/*" for expert in experts]}


def _pretrained_files(plan: Plan, system: str) -> list[str]:
    """Local folders of weights or tokenizers that a system itself loads."""
    entry = plan.systems[system]
    encoder = entry.get("embeddings", {}).get("text_encoder")
    tokenizer = (entry.get("tokenizer") or {}).get("pretrained")
    local = [tokenizer] if tokenizer and Path(tokenizer).expanduser().exists() else []
    return local + plan.backbone_files([*([encoder] if encoder else []), *plan.own_backbones(system)])


# ----------------------------------------------------------------------------------------------- same-source segments


def shortlist(plan: Plan, dataset: str, split: str, expert: str) -> Job:
    """The references that get most votes of each query: the longest list that a system aligns."""
    entries = [entry["align"] for entry in plan.systems.values() if "align" in entry]
    wanted = [entry["shortlist"] for entry in entries if entry["expert"] == expert and "shortlist" in entry]
    given = {k: v for one in wanted for k, v in one.items()}
    tops = [one["top"] for one in wanted if "top" in one]
    settings = {"split": split, "expert": expert, "seed": plan.seed} | given | ({"top": max(tops)} if tops else {})
    return Job(
        "shortlist",
        settings,
        {"corpus": plan.corpus(dataset), "features": plan.features(dataset, expert)},
        reads={"corpus": ["splits.parquet"], "features": [f"{expert}/*"]},
    )


def tune(plan: Plan, dataset: str, system: str, member: str) -> Job:
    """The best options of an aligner or a detector."""
    entry = plan.systems[system]["align"]
    aligner = {"aligner": entry["aligner"]} if "aligner" in entry else {}
    settings = {"similarity_map": SimilarityMap.read(entry).settings()} | aligner | Tune(**entry["tune"]).settings()
    return Job("tune", settings, **_aligned(plan, dataset, system, member))


def align(plan: Plan, dataset: str, split: str, system: str, member: str) -> Job:
    """The segments that pairs of videos share."""
    entry = plan.systems[system]["align"]
    settings = {"split": split} | {k: entry[k] for k in ("score",) if k in entry}
    if "tune" not in entry:
        settings |= {"similarity_map": SimilarityMap.read(entry).settings()}
        settings |= {k: entry[k] for k in ("aligner", "options") if k in entry}
    if "top" in entry.get("shortlist", {}):
        settings["top"] = entry["shortlist"]["top"]
    made = _aligned(plan, dataset, system, member)
    made["inputs"] |= {
        "tuned": plan.result("tuned", dataset, system, member) if "tune" in entry else None,
        "rankings": plan.result("shortlists", dataset, split, entry["expert"]) if "shortlist" in entry else None,
    }
    return Job("align", settings, **made)


def _aligned(plan: Plan, dataset: str, system: str, member: str) -> dict[str, Any]:
    """What ``tune`` and ``align`` both read."""
    entry = plan.systems[system]["align"]
    experts, detector = plan.compared_experts(system), entry.get("detector")
    return {
        "inputs": {
            "corpus": plan.corpus(dataset),
            "features": plan.features_of(dataset, experts),
            "run": plan.run(detector, member) if detector else None,
        },
        "modules": _model_modules(plan, detector) if detector else [f"aligners.{entry['aligner']}"],
        "reads": {
            "corpus": ["splits.parquet", "relevance.parquet", "segments.parquet"],
            "features": [f"{expert}/*" for expert in experts],
        },
    }


# -------------------------------------------------------------------------------------- rankings, tables, pages, files


def search(plan: Plan, dataset: str, split: str, system: str) -> Job:
    """The rankings of a protocol. Its settings hold member -> None, or the fold whose validation pairs are judged."""
    members: Json = dict.fromkeys(plan.members(system))
    splits: str | list[str] = split.removeprefix(V2T)
    if split == OUT_OF_FOLD:
        examples = plan.examples_of(system)
        splits = examples["split"]
        protocol = {"protocol": examples["protocol"]} if examples.get("protocol") is not None else {}
        members = {member: {"fold": plan.fold_of(system, member)} | protocol for member in members}
    settings = {
        "split": splits,
        "kind": plan.kind(split),
        "top": _top(plan, dataset, split, system),
        "members": members,
    }
    rescore = plan.systems[system].get("rescore", {})
    if rescore:
        settings["rescore"] = {k: v for k, v in rescore.items() if k not in ("system", "frame_texts")}
    frames = [rescore["expert"]] if "expert" in rescore else []
    texts = [plan.embedding(dataset, rescore["frame_texts"])] if "frame_texts" in rescore else []
    return Job(
        "search",
        settings,
        {
            "corpus": plan.corpus(dataset),
            "embeddings": [plan.embedding(dataset, plan.base(system))],
            "features": plan.features_of(dataset, frames),
            "frame_embeddings": texts,
        },
        reads=_corpus_and(frames),
    )


def _top(plan: Plan, dataset: str, split: str, system: str) -> int:
    """How many neighbours a search keeps: as many as its pages, submissions and measures need, at least 10."""

    def shows(entry: Json) -> bool:
        return (entry["dataset"], entry["split"], entry["system"]) == (dataset, split, system)

    needed = [10, *(page.get("top", 5) for page in plan.pages.values() if shows(page))]
    needed += [RANKED[s["format"]] for n, s in plan.submissions.items() if plan.submits_rankings(n) and shows(s)]
    if any(metric.startswith(POOLED) for metric in plan.metric_names(dataset, split)):
        needed.append(RANKED["avs"])
    return max(needed)


def evaluate(plan: Plan, dataset: str, split: str, system: str) -> Job:
    """The metrics of rankings, or of segments."""
    settings: Json = {"metrics": plan.metric_names(dataset, split), "members": plan.members(system)}
    inputs: dict[str, str | list[str] | None] = {"corpus": plan.corpus(dataset)}
    if plan.localises(system):
        settings["split"] = split
        inputs["segments"] = [plan.segments(dataset, split, system, member) for member in plan.members(system)]
    else:
        inputs["rankings"] = plan.ranking(dataset, split, system)
    return Job("evaluate", settings, inputs, reads={"corpus": ["*.parquet"]})


def tabulate(plan: Plan, table: str) -> Job:
    """A table: its settings are the table's own file, and which input belongs to which row."""
    entry = plan.tables[table]
    dataset, cells = entry["dataset"], plan.table_cells(table)
    columns = entry["metrics"] if isinstance(entry["metrics"], dict) else {name: name for name in entry["metrics"]}
    settings = {
        "table": entry,
        "splits": [[split, head] for split, head in plan.table_splits(table).items()],
        "columns": [[metric, head] for metric, head in columns.items()],
        "cells": [[split, system, plan.members(system)] for split, system in cells],
        "corpus_kind": plan.dataset(dataset)["corpus"],
        "scale": plan.params["scale"],
    }
    return Job("tabulate", settings, {"metrics": [plan.metrics(dataset, split, system) for split, system in cells]})


def illustrate(plan: Plan, page: str) -> Job:
    """A page of neighbours, or of segments."""
    entry = plan.pages[page]
    dataset, split, system = entry["dataset"], entry["split"], entry["system"]
    scatter, curves = entry.get("scatter", []), [[s, m] for s in entry.get("curves", []) for m in plan.members(s)]
    settings: Json = {
        "title": entry.get("title", page),
        "top": entry.get("top", 5),
        "system": system,
        "member": plan.members(system)[0],
        "judged_names": [[shown, plan.members(shown)[0]] for shown in scatter],
        "run_names": curves,
    }
    if plan.localises(system):
        settings |= {"split": split, "similarity_map": SimilarityMap.read(plan.systems[system]["align"]).settings()}
        features = plan.features_of(dataset, plan.compared_experts(system))
        shown = {"segments": plan.segments(dataset, split, system), "features": features}
    else:
        shown = {"rankings": plan.ranking(dataset, split, system)}
    return Job(
        "illustrate",
        settings,
        {
            "corpus": plan.corpus(dataset),
            **shown,
            "judged": [plan.ranking(dataset, entry["judged"], system) for system in scatter],
            "tables": [plan.table(table) for table in entry.get("tables", [])],
            "runs": [plan.run(*run) for run in curves],
        },
        reads={"corpus": ["*.parquet"], "tables": ["table.md", "table.csv"], "runs": ["log.csv"]},
    )


def submit(plan: Plan, submission: str) -> Job:
    """A challenge's file, from segments, features, rankings or embeddings."""
    entry = plan.submissions[submission]
    dataset, split, system = entry["dataset"], entry["split"], entry["system"]
    settings = {"member": plan.members(system)[0]} | {k: v for k, v in entry.items() if k not in ("dataset", "system")}
    read: dict[str, str | list[str]]
    if entry.get("format") == "vsc2022_descriptors":
        settings |= {k: v for k, v in plan.systems[system]["align"].items() if k in ("expert", "noise")}
        read = {"features": plan.features_of(dataset, plan.compared_experts(system))}
    elif plan.localises(system):
        read = {"segments": plan.segments(dataset, split, system)}
    elif plan.submits_rankings(submission):
        read = {"rankings": plan.ranking(dataset, split, system)}
    else:
        read = {"embeddings": [plan.embedding(dataset, plan.base(system))]}
    return Job("submit", settings, {"corpus": plan.corpus(dataset), **read}, reads={"corpus": ["*.parquet"]})


# ---------------------------------------------------------------------------------------------------------- the rules


@dataclass(frozen=True)
class Rule:
    """How the results of one kind are made.

    Attributes:
        make: the job of some wildcards.
        output: folder of the result below the root, with wildcards.
        part: the stage of ``dvc.yaml`` that the rule belongs to.
        mem_mb: memory that a cluster reserves.
        threads: processors; a function of the plan and the system where that depends on it.
        gpu: whether a graphics card is used where there is one.
        only: (wildcard, the values that it takes), where rules of the same output differ in that.
    """

    make: Callable[..., Job]
    output: str
    part: str
    mem_mb: int = 1000
    threads: int | Callable[[Plan, str], int] = 1
    gpu: bool = False
    only: tuple[str, Callable[[Plan], list[str]]] | None = None

    @property
    def name(self) -> str:
        """Of the rule and of its stage."""
        return self.make.__name__

    def constraints(self, plan: Plan) -> dict[str, str]:
        """Regular expressions of its wildcards."""
        found = dict.fromkeys(re.findall(r"{(\w+)}", self.output), r"[\w-]+")
        if self.only is not None:
            name, values = self.only
            found[name] = "|".join(sorted(values(plan))) or "(?!)"
        return found

    def pattern(self, plan: Plan) -> re.Pattern[str]:
        """Matches the results that it makes."""
        named = {name: f"(?P<{name}>{values})" for name, values in self.constraints(plan).items()}
        return re.compile(plan.result(self.output.format(**named)))


def _passes(plan: Plan) -> list[str]:
    return list({passage for dataset in plan.datasets for passage in plan.passes(dataset)})


def _with(*kinds: str) -> Callable[[Plan], list[str]]:
    return lambda plan: [system for system, entry in plan.systems.items() if entry.keys() & set(kinds)]


#: the stages of ``dvc.yaml``
PARTS = ("systems", "segments", "benchmark")
FEATURES, EMBEDDINGS = "features/{dataset}", "embeddings/{dataset}/{system}"
CELL = "{dataset}/{split}/{system}"
RULES = [
    Rule(render, "media/{dataset}/{shard}", "systems"),
    Rule(prepare, "corpora/{dataset}", "systems", 2000, threads=2),
    Rule(extract, "features/{dataset}/{passage}/{shard}", "systems", 4000, gpu=True, only=("passage", _passes)),
    Rule(select_key_frames, "features/{dataset}/{expert}/{shard}", "systems", only=("expert", Plan.key_frame_experts)),
    Rule(train, "runs/{system}/{member}", "systems", 4000, threads=train_threads, gpu=True),
    Rule(embed, EMBEDDINGS, "systems", 4000, gpu=True, only=("system", _with("model", "embeddings"))),
    Rule(combine, EMBEDDINGS, "systems", 4000, only=("system", _with("combine"))),
    Rule(shortlist, "shortlists/{dataset}/{split}/{expert}", "segments", 4000),
    Rule(tune, "tuned/{dataset}/{system}/{member}", "segments", 2000),
    Rule(align, f"segments/{CELL}/{{member}}", "segments", 2000),
    Rule(search, f"rankings/{CELL}", "benchmark", 4000),
    Rule(evaluate, f"metrics/{CELL}", "benchmark"),
    Rule(tabulate, "tables/{table}", "benchmark", 500),
    Rule(illustrate, "pages/{page}", "benchmark"),
    Rule(submit, "submissions/{submission}", "benchmark", 2000),
]


def needed(plan: Plan) -> dict[str, Job]:
    """The jobs of all results: those that tables, pages and submissions are made from, and the features of every expert
    that a data set among them lists.

    Raises:
        ValueError: a job would read features that its data set does not list, or members that do not exist.
    """
    patterns = [(rule, rule.pattern(plan)) for rule in RULES]
    found: dict[str, Job] = {}
    waiting = [*map(plan.table, plan.tables), *map(plan.page, plan.pages), *map(plan.submission, plan.submissions)]
    waiting += [plan.ranking(*cell) for cell in plan.cells]
    while waiting:
        result = waiting.pop()
        if result in found:
            continue
        rule, match = next((rule, m) for rule, pattern in patterns if (m := pattern.fullmatch(result)))
        job = found[result] = rule.make(plan, **match.groupdict())
        for paths in job.given_inputs().values():
            waiting += [paths] if isinstance(paths, str) else paths
        if rule.make is prepare:
            listed = plan.dataset(match["dataset"]).get("experts", [])
            waiting += [path for expert in listed for path in plan.features(match["dataset"], expert)]
    return found


def results(plan: Plan) -> dict[str, list[str]]:
    """Stage of ``dvc.yaml`` -> all its results."""
    parts = {rule.name: rule.part for rule in RULES}
    found = needed(plan)
    return {part: sorted(path for path, job in found.items() if parts[job.stage] == part) for part in PARTS}


def datasets(plan: Plan) -> list[str]:
    """The data sets that some result needs, in the order of the parameters."""
    found = needed(plan)
    return [dataset for dataset in plan.datasets if plan.corpus(dataset) in found]


def rejected(plan: Plan, dataset: str) -> pl.DataFrame:
    """``path`` and ``reason`` of the files of a data set that could not be read, in reading and in any pass."""
    features = {path for expert in plan.dataset(dataset).get("experts", []) for path in plan.features(dataset, expert)}
    folders = [Path(path).parent for path in (plan.corpus(dataset), *sorted(features))]
    return tables.read("rejected", *folders).select("path", "reason").unique().sort("path")
