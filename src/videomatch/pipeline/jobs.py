"""What every job is made from: one function per rule of :mod:`videomatch.pipeline.rules`, of the plan and the wildcards
of the rule's output. Nothing of the parameters but the settings of its :class:`Job` makes a stage run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videomatch.common.digests import dumps, tree_digest
from videomatch.data.corpus import shard_file
from videomatch.pipeline import lineage, signatures
from videomatch.pipeline.plan import AVS_LENGTH, OUT_OF_FOLD, V2T, Plan
from videomatch.pipeline.reached import code_digest
from videomatch.specs import listed
from videomatch.specs.data import KeyFrames
from videomatch.specs.reports import MEASURED, Row
from videomatch.specs.systems import Align, Combine, Embeddings, Filter, Probe, Rescore, Trained

Json = dict[str, Any]

#: processors of a run, the default of ``training.loop.Training``
THREADS = 2
#: files of a result of ``align`` that do not differ from run to run
SEGMENTS = ["segments.parquet", "align.json"]
#: measures of a protocol that was judged in part look at long lists
POOLED = ("infAP", "infNDCG", "iP@")


@dataclass(frozen=True)
class Job:
    """What one job is made from.

    Attributes:
        settings: arguments of the stage from the parameters.
        inputs: argument -> manifest, or manifests, of the results that it reads.
        modules: what it loads by name, as ``models.clip``.
        experts: those that it reads of the input ``features``.
        patterns: input -> names of the files that are read of it, where that is not all or the tables of a corpus.
        files: files and folders outside the results, whose content counts.
    """

    stage: str
    settings: Json
    inputs: Mapping[str, str | list[str]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    experts: Sequence[str] = ()
    patterns: Mapping[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    @property
    def results(self) -> list[str]:
        """All results that it reads."""
        return [path for paths in self.inputs.values() for path in listed(paths)]

    def request(self, content: Callable[[Path], str] = tree_digest) -> Json:
        """The content of the job's settings file; ``content`` gives the digest of files outside the results."""
        features = {"features": [f"{expert}/*" for expert in self.experts]} if self.experts else {}
        return {
            "stage": self.stage,
            "settings": self.settings,
            "modules": self.modules,
            "code": code_digest(f"stages.{self.stage}", *self.modules),
            "inputs": dict(self.inputs),
            "reads": {"corpus": ["*.parquet"], **features, **self.patterns},
            "files": {file: content(Path(file).expanduser()) for file in self.files},
        }


def render(plan: Plan, dataset: str, shard: str) -> Job:
    """The videos of a shard of a generated data set."""
    return Job("render", {"shard": int(shard)} | _generated(plan, dataset))


def prepare(plan: Plan, dataset: str) -> Job:
    """The tables of a data set."""
    entry = plan.datasets[dataset]
    return Job(
        "prepare",
        {"dataset": dataset, "corpus": entry.corpus, "raw": entry.raw} | _generated(plan, dataset),
        {"renders": plan.renders(dataset)},
        modules=[f"corpora.{entry.corpus}"],
        files=listed(entry.raw),
    )


def _generated(plan: Plan, dataset: str) -> Json:
    entry = plan.datasets[dataset]
    seed = plan.seed if entry.seed is None else entry.seed
    return {"shards": entry.shards, "seed": seed, "options": entry.options}


def extract(plan: Plan, dataset: str, passage: str, shard: str) -> Job:
    """The features of all experts of one pass over the videos of a shard."""
    experts = plan.passes(dataset)[passage]
    sources = sorted({expert.source for expert in experts.values() if expert.source is not None})
    backbones = sorted({backbone for expert in experts.values() for backbone in expert.backbones})
    entry = plan.datasets[dataset]
    settings: Json = {
        "shard": int(shard),
        "experts": {name: expert.settings() for name, expert in experts.items()},
        "backbones": {backbone: plan.backbone_path(backbone) for backbone in backbones},
    }
    modules = {f"experts.{expert.extractor}" for expert in experts.values()}
    files = [file for expert in experts.values() for file in listed(expert.folder)] + plan.backbone_files(backbones)
    if any(expert.comes_with_corpus for expert in experts.values()):
        settings["released"] = {"corpus": entry.corpus, "raw": entry.raw}
        modules.add(f"corpora.{entry.corpus}")
        files = listed(entry.raw) + files
    # the videos of this shard: a new video leaves other shards as they are
    read = {"videos", *filter(None, (expert.reads_corpus for expert in experts.values()))}
    if "facts" in read:
        plan.require_facts(dataset, f"expert {passage!r}")
    return Job(
        "extract",
        settings,
        {
            "corpus": plan.result("corpora", dataset),
            "features": [plan.features(dataset, source)[int(shard)] for source in sources],
            "runs": plan.backbone_runs(backbones),
        },
        modules=sorted(modules),
        experts=sources,
        # one list of facts for all shards, whose features have the same columns
        patterns={"corpus": sorted(f"{n}.parquet" if n == "facts" else shard_file(int(shard), n) for n in read)},
        files=files,
    )


def add_texts(plan: Plan, dataset: str, kinds: str) -> Job:
    """The tables of a data set with the texts of some kinds (``asr-ocr``) that experts recognise in its videos."""
    wanted = kinds.split("-")
    experts = plan.recognisers(dataset, wanted)
    return Job(
        "add_texts",
        {"kinds": wanted, "experts": experts},
        _corpus(plan, dataset, experts),
        patterns={"features": [f"{expert}/texts.parquet" for expert in experts]},
    )


def select_key_frames(plan: Plan, dataset: str, expert: str, shard: str) -> Job:
    """The key frames among the features of another expert."""
    entry = plan.experts[expert]
    if not isinstance(entry, KeyFrames):
        raise TypeError(f"expert {expert!r} is no key frames of another")
    source = entry.key_frames_of
    trained = [system for name in listed(entry.backbone) for system in listed(plan.backbones[name].system)]
    return Job(
        "select_key_frames",
        {"expert": source, "name": expert} | entry.settings(),
        {"features": [plan.features(dataset, source)[int(shard)]]} | ({"run": plan.run(trained[0])} if trained else {}),
        modules=[module for system in trained for module in _model_modules(plan, system)],
        experts=[source],
    )


def score_pairs(plan: Plan, dataset: str, system: str) -> Job:
    """The scores of texts against the frames of their videos."""
    entry = plan.system_of_kind(system, Filter)
    return Job(
        "score_pairs",
        entry.settings() | {"text_encoder": plan.backbone_path(entry.text_encoder)},
        _corpus(plan, dataset, [entry.expert], system) | {"backbones": plan.backbone_runs([entry.text_encoder])},
        experts=[entry.expert],
        patterns={"corpus": ["texts.parquet"]},
        files=plan.backbone_files([entry.text_encoder]),
    )


def train(plan: Plan, system: str, member: str) -> Job:
    """One member of a trained system."""
    entry = plan.system_of_kind(system, Trained)
    given = entry.settings()
    for name, part in (("model", entry.model), ("tokenizer", entry.tokenizer)):
        if part is not None and part.backbone is not None:
            given[name]["pretrained"] = plan.backbone_path(part.backbone)
    if entry.model.vision is not None:
        given["model"]["vision"] = plan.backbone_path(entry.model.vision)
    fresh = {"fresh": list(entry.init.fresh)} if entry.init and entry.init.fresh else {}
    fold, seed = plan.fold_of(system, member), int(member.rpartition("seed")[2])
    homes = signatures.objectives()
    objectives = sorted(f"{homes[name].module}:{name}" for name in entry.objectives or ())
    return Job(
        "train",
        {"system": given, "seed": seed, "member": member} | ({"fold": fold} if fold else {}) | fresh,
        _corpus(plan, entry.dataset, plan.experts_of(system), system)
        | {
            "init": [plan.run(*initial) for initial in plan.initial_members(system, member)],
            "backbones": plan.backbone_runs(entry.backbones),
            "scores": [plan.result("scores", entry.dataset, name) for name in listed(entry.examples.filter)],
        },
        modules=[*_model_modules(plan, system), *objectives],
        experts=plan.experts_of(system),
        files=_pretrained_files(plan, entry),
    )


def train_threads(plan: Plan, system: str) -> int:
    """Processors that a run takes: each of its processes at least one."""
    entry = plan.system_of_kind(system, Trained)
    return max(dict(entry.training or {}).get("threads") or THREADS, entry.processes)


def embed(plan: Plan, dataset: str, system: str) -> Job:
    """The embeddings of all members of a system."""
    entry = plan.systems[system]
    if isinstance(entry, Trained):
        given = {"model": entry.model.settings(), "examples": entry.examples.settings()}
        runs = [plan.run(system, member) for member in plan.members(system)]
        modules, files = _model_modules(plan, system), _pretrained_files(plan, entry)
    else:
        entry = plan.system_of_kind(system, Embeddings)
        encoders, options = listed(entry.text_encoder), entry.settings()
        if entry.text_encoder is not None:
            options["text_encoder"] = plan.backbone_path(entry.text_encoder)
        if entry.facts is not None:
            plan.require_facts(dataset, f"system {system!r}")
        given = {"embeddings": options}
        runs, modules, files = plan.backbone_runs(encoders), [], plan.backbone_files(encoders)
    settings = {"system": given, "seed": plan.seed, "members": plan.members(system)}
    settings["queries"] = plan.queried(dataset, system)
    splits = plan.datasets[dataset].embed
    return Job(
        "embed",
        settings | ({"splits": splits} if splits else {}),
        _corpus(plan, dataset, plan.experts_of(system), system) | {"run": runs},
        modules=modules,
        experts=plan.experts_of(system),
        files=files,
    )


def combine(plan: Plan, dataset: str, system: str) -> Job:
    """The joined embeddings of several systems."""
    entry = plan.system_of_kind(system, Combine)
    parts = [plan.result("embeddings", dataset, part) for part in entry.systems]
    return Job("combine", {"members": plan.combined_members(system)} | entry.settings(), {"embeddings": parts})


def _corpus(plan: Plan, dataset: str, experts: Sequence[str], system: str | None = None) -> dict[str, str | list[str]]:
    """The corpus, as a system reads it, and some features of a data set as inputs."""
    return {"corpus": plan.corpus(dataset, system), "features": plan.features_of(dataset, experts)}


def _model_modules(plan: Plan, system: str) -> list[str]:
    """Modules that a job with a trained system loads by name; its objectives are not among them."""
    entry = plan.system_of_kind(system, Trained)
    return [f"models.{entry.model.name}", f"examples.{entry.examples.kind}", "objectives"]


def _pretrained_files(plan: Plan, entry: Trained) -> list[str]:
    """Local folders of weights or tokenizers that a system itself loads."""
    tokenizer = entry.tokenizer.pretrained if entry.tokenizer else None
    local = [tokenizer] if tokenizer and Path(tokenizer).expanduser().exists() else []
    return local + plan.backbone_files(entry.backbones)


def shortlist(plan: Plan, dataset: str, split: str, system: str) -> Job:
    """The references that get most votes of each query, for a system that aligns them."""
    entry = plan.system_of_kind(system, Align)
    if entry.shortlist is None:
        raise TypeError(f"system {system!r} has no shortlist")
    settings: Json = {"split": split, "expert": entry.expert, "seed": plan.seed} | entry.shortlist.settings()
    return Job(
        "shortlist",
        settings,
        _corpus(plan, dataset, entry.searched),
        experts=entry.searched,
        patterns={"corpus": ["splits.parquet"]},
    )


def tune(plan: Plan, dataset: str, system: str, member: str) -> Job:
    """The best options of an aligner or a detector."""
    entry = plan.system_of_kind(system, Align)
    if entry.tune is None:
        raise TypeError(f"system {system!r} tunes nothing")
    settings = entry.settings() | entry.tune.settings()
    made = {"rankings": plan.result("shortlists", dataset, str(entry.tune.split), system)} if entry.shortlist else {}
    return _aligning("tune", settings, made, plan, dataset, entry, member)


def align(plan: Plan, dataset: str, split: str, system: str, member: str) -> Job:
    """The segments that pairs of videos share."""
    entry = plan.system_of_kind(system, Align)
    settings, made = {"split": split} | entry.settings(), {}
    if entry.tune is not None:  # its result has both
        settings = {name: value for name, value in settings.items() if name not in ("similarity_map", "aligner")}
        made["tuned"] = plan.result("tuned", dataset, system, member)
    if entry.shortlist is not None:
        made["rankings"] = plan.result("shortlists", dataset, split, system)
        if entry.shortlist.top is not None:
            settings["top"] = entry.shortlist.top
    return _aligning("align", settings, made, plan, dataset, entry, member)


def _aligning(
    stage: str, settings: Json, made: dict[str, str], plan: Plan, dataset: str, entry: Align, member: str
) -> Job:
    """A job of an aligner or a detector, which reads what was ``made`` for it, too."""
    detector = entry.detector
    return Job(
        stage,
        settings,
        _corpus(plan, dataset, entry.experts) | ({"run": plan.run(detector, member)} if detector else {}) | made,
        modules=_model_modules(plan, detector) if detector else [f"aligners.{entry.aligner}"],
        experts=entry.experts,
        patterns={
            "corpus": ["splits.parquet", "relevance.parquet", "segments.parquet"],
            **({"rankings": ["rankings.parquet", "library/*"]} if "rankings" in made else {}),
        },
    )


def search(plan: Plan, dataset: str, split: str, system: str) -> Job:
    """The rankings of a protocol. Its settings hold member -> None, or the fold whose validation pairs are judged."""
    splits, members = _judged(plan, split, system)
    settings: Json = {"split": splits, "kind": plan.kind(split), "top": _top(plan, dataset, split, system)}
    settings |= {"members": members} | plan.groups(dataset, split)
    if (most := plan.datasets[dataset].exact_up_to) is not None:
        settings["exact_up_to"] = most
    frames, modules = [], []
    inputs: dict[str, str | list[str]] = {"embeddings": plan.result("embeddings", dataset, plan.base(system))}
    rescore = plan.systems[system]
    if isinstance(rescore, Rescore):
        settings["rescore"] = rescore.settings()
        frames = listed(rescore.expert)
        if rescore.frame_texts is not None:
            inputs["frame_embeddings"] = plan.result("embeddings", dataset, rescore.frame_texts)
        if rescore.reranker is not None:
            frames, modules = plan.experts_of(rescore.reranker), _model_modules(plan, rescore.reranker)
            inputs["run"] = [plan.run(*plan.reranker(system, member)) for member in sorted(members)]
    return Job("search", settings, _corpus(plan, dataset, frames) | inputs, modules=modules, experts=frames)


def _judged(plan: Plan, split: str, system: str) -> tuple[str | list[str], dict[str, Json | None]]:
    """The splits of a protocol, and member of a system -> None, or the fold whose validation pairs are judged."""
    members = plan.members(system)
    if split != OUT_OF_FOLD:
        return split.removeprefix(V2T), dict.fromkeys(members)
    examples = plan.examples_of(system).further
    protocol = {"protocol": examples["protocol"]} if examples.get("protocol") is not None else {}
    return examples["split"], {member: {"fold": plan.fold_of(system, member)} | protocol for member in members}


def _top(plan: Plan, dataset: str, split: str, system: str) -> int:
    """How many neighbours a search keeps: as many as its pages, submissions and measures need, at least 10."""
    cell = (dataset, split, system)
    pages = [page.top for page in plan.pages.values() if (page.dataset, page.split, page.system) == cell]
    is_submitted = any(e.is_ranked and (e.dataset, e.split, e.system) == cell for e in plan.submissions.values())
    is_pooled = any(metric.startswith(POOLED) for metric in plan.metric_names(dataset, split))
    return max([10, *pages, AVS_LENGTH if is_submitted or is_pooled else 0])


def evaluate(plan: Plan, dataset: str, split: str, system: str) -> Job:
    """The metrics of rankings, or of segments."""
    members, corpus = plan.members(system), plan.result("corpora", dataset)
    settings = {"metrics": plan.metric_names(dataset, split), "members": members}
    if isinstance(plan.systems[system], Align):
        segments = [plan.segments(dataset, split, system, member) for member in members]
        inputs = {"corpus": corpus, "segments": segments}
        return Job("evaluate", settings | {"split": split}, inputs, patterns={"segments": SEGMENTS})
    if isinstance(probe := plan.systems[system], Probe):
        plan.require_facts(dataset, f"system {system!r}")
        settings |= {"split": split, "probe": probe.settings()}
        return Job("evaluate", settings, _corpus(plan, dataset, [probe.expert]), experts=[probe.expert])
    if isinstance(plan.systems[system], Filter):
        plan.require_facts(dataset, f"system {system!r}")
        inputs = {"corpus": corpus, "scores": plan.result("scores", dataset, system)}
        return Job("evaluate", settings | {"split": split}, inputs)
    return Job("evaluate", settings, {"corpus": corpus, "rankings": plan.result("rankings", dataset, split, system)})


def check_leaks(plan: Plan, table: str) -> Job:
    """What a table judges by, and what its systems learned from."""
    entry = plan.tables[table]
    learned: dict[str, Json] = {}
    cells = []
    for split, system in plan.table_cells(table):
        rows = [row for row in map(Row.read, entry.rows) if row.system == system]
        splits, members = _judged(plan, split, system)
        found = []
        for member, fold in members.items():
            uses = lineage.learned(plan, entry.dataset, system, member)
            keys = {how: dumps(about) for how, about in uses.items()}
            learned |= {keys[how]: about for how, about in uses.items()}
            found.append({"judged": {"split": splits} | (fold or {}), "learned": keys})
        shares = all(row.may_share(split) for row in rows)
        cell = {"split": split, "system": system, "rows": [row.label for row in rows], "shares": shares}
        cells.append(cell | {"members": found})
    datasets = list(dict.fromkeys([entry.dataset, *(about["dataset"] for about in learned.values())]))
    ids = [plan.ids_of(dataset) for dataset in datasets]
    numbers = {key: number for number, key in enumerate(learned)}
    for cell in cells:
        for member in cell["members"]:
            member["learned"] = {how: numbers[key] for how, key in member["learned"].items()}
    settings = {
        "table": table,
        "ids": [ids.index(name) for name in ids],
        "learned": [about | {"dataset": datasets.index(about["dataset"])} for about in learned.values()],
        "cells": cells,
    }
    corpora = [plan.result("corpora", dataset) for dataset in datasets]
    modules = sorted({f"examples.{about['examples']['kind']}" for about in learned.values() if "examples" in about})
    return Job("check_leaks", settings, {"corpora": corpora}, modules=modules, patterns={"corpora": ["*.parquet"]})


def tabulate(plan: Plan, table: str) -> Job:
    """A table: its settings are the table's own file, and which input belongs to which row."""
    entry, cells = plan.tables[table], plan.table_cells(table)
    dataset = plan.datasets[entry.dataset]
    for system in dict.fromkeys(row["system"] for row in entry.rows if entry.base is not None):
        seeds, wanted = plan.seeds(system), plan.seeds(str(entry.base))
        if seeds and wanted and seeds != wanted:
            raise ValueError(
                f"workflow/tables/{table}.yaml: system {system!r} has the seeds {seeds}, its base {entry.base!r} has "
                f"{wanted}; give both the same `seeds:`"
            )
    if absent := plan.table_splits(table).keys() - {split for split, _ in cells}:
        raise ValueError(f"workflow/tables/{table}.yaml: {absent.pop()!r}, but no system of a row has folds")
    columns = entry.metrics if isinstance(entry.metrics, Mapping) else {name: name for name in entry.metrics}
    reported = [{**group, "rows": [[*row] for row in group["rows"].items()]} for group in entry.reported]
    columns = {name: f"{head} (measured)" if name in MEASURED else head for name, head in columns.items()}
    settings = {
        # pairs, where the order of a mapping counts: keys of settings are sorted
        "table": entry.settings() | ({"reported": reported} if reported else {}),
        "splits": [[split, head] for split, head in plan.table_splits(table).items()],
        "columns": [[metric, head] for metric, head in columns.items()],
        "cells": [[split, system, plan.members(system)] for split, system in cells],
        "corpus_kind": f"a part of {dataset.corpus}" if dataset.options.get("partial") else dataset.corpus,
        "scale": plan.params["scale"],
        "oracles": [row["system"] for row in dataset.oracles],
    }
    metrics = [plan.result("metrics", entry.dataset, *cell) for cell in cells]
    inputs: dict[str, str | list[str]] = {"metrics": metrics, "leaks": plan.result("leaks", table)}
    if columns.keys() & set(MEASURED):
        aligned = [(*cell, member) for cell in cells for member in plan.members(cell[1])]
        for _, system in cells:
            plan.system_of_kind(system, Align)
        inputs["measured"] = [plan.segments(entry.dataset, *cell) for cell in aligned]
        return Job("tabulate", settings, inputs, patterns={"measured": ["measured.json"]})
    return Job("tabulate", settings, inputs)


def illustrate(plan: Plan, page: str) -> Job:
    """A page of neighbours, or of segments."""
    entry = plan.pages[page]
    dataset, split, system = entry.dataset, entry.split, entry.system
    curves = [[trained, member] for trained in entry.curves for member in plan.members(trained)]
    settings: Json = {
        "title": entry.title or page,
        "top": entry.top,
        "system": system,
        "member": plan.members(system)[0],
        "table_charts": [plan.tables[table].chart for table in entry.tables],
        "judged_names": [[drawn, plan.members(drawn)[0]] for drawn in entry.scatter],
        "run_names": curves,
    }
    localises, patterns = plan.systems[system], {"tables": ["table.md", "table.csv"], "runs": ["log.csv"]}
    if isinstance(localises, Align):
        settings |= {"split": split, "similarity_map": localises.settings()["similarity_map"]}
        features = plan.features_of(dataset, localises.experts)
        shown = {"segments": plan.segments(dataset, split, system), "features": features}
        patterns["segments"] = SEGMENTS
    else:
        shown = {"rankings": plan.result("rankings", dataset, split, system)}
    return Job(
        "illustrate",
        settings,
        {
            "corpus": plan.result("corpora", dataset),
            **shown,
            "judged": [plan.result("rankings", dataset, str(entry.judged), drawn) for drawn in entry.scatter],
            "tables": [plan.result("tables", table) for table in entry.tables],
            "runs": [plan.run(*run) for run in curves],
        },
        patterns=patterns,
    )


def submit(plan: Plan, submission: str) -> Job:
    """A challenge's file, from segments, features, rankings or embeddings."""
    entry = plan.submissions[submission]
    dataset, split, name = entry.dataset, entry.split, entry.system
    settings = {"member": plan.members(name)[0]} | entry.settings()
    system, patterns = plan.systems[name], {}
    if isinstance(system, Align) and entry.format == "vsc2022_descriptors":
        compared = system.settings()["similarity_map"]
        settings |= {option: value for option, value in compared.items() if option in ("expert", "noise")}
        results = plan.features_of(dataset, system.experts)
    elif isinstance(system, Align):
        results, patterns = [plan.segments(dataset, split, name)], {"results": SEGMENTS}
    elif entry.is_ranked:
        results = [plan.result("rankings", dataset, split, name)]
    else:
        results = [plan.result("embeddings", dataset, plan.base(name))]
    inputs = {"corpus": plan.result("corpora", dataset), "results": results}
    return Job("submit", settings, inputs, patterns=patterns)
