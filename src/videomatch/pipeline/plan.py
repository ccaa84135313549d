"""Questions about one set of resolved parameters: where results are, and which members, features and runs there are."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from videomatch.common import named
from videomatch.common.digests import dumps
from videomatch.metrics import OF_FACTOR
from videomatch.pipeline import signatures
from videomatch.pipeline.provenance import MANIFEST
from videomatch.specs import listed, systems
from videomatch.specs.data import Backbone, Dataset, Expert, KeyFrames, is_path
from videomatch.specs.reports import MEASURED, Page, Submission, Table
from videomatch.specs.systems import Align, Combine, Embeddings, Filter, Probe, Rescore, System, Trained

Kind = TypeVar("Kind", bound=System)

TABLES = named.PACKAGE.parents[1] / "workflow" / "tables"
#: the pass over the videos that experts share
MEDIA = "media"
#: before the name of a protocol of captions: videos are searched with, captions are found
V2T = "v2t_"
#: the protocol in which every member of a system is judged by the labelled pairs of its own validation fold
OUT_OF_FOLD = "out_of_fold"
#: how many references a query has in a submission of rankings at most
AVS_LENGTH = 1000


class Plan:
    """All paths, and the entries (name -> spec) of resolved parameters with what follows from several of them.
    ``options`` are those of Snakemake that lead to the same parameters."""

    def __init__(self, params: Mapping[str, Any], options: str = "") -> None:
        self.params, self.options = params, options
        self.root = f"results/{params['scale']}"
        self.seed: int = params["seed"]
        self.datasets = {name: Dataset.read(entry) for name, entry in params["datasets"].items()}
        self.backbones = {name: Backbone.read(entry) for name, entry in params["backbones"].items()}
        self.experts: dict[str, Expert | KeyFrames] = {
            name: (KeyFrames if "key_frames_of" in entry else Expert).read(entry)
            for name, entry in params["experts"].items()
        }
        self.systems = {name: systems.read_system(entry) for name, entry in params["systems"].items()}
        self.pages = {name: Page.read(entry) for name, entry in params["pages"].items()}
        self.submissions = {name: Submission.read(entry) for name, entry in params["submissions"].items()}
        self.tables = {
            name: self._with_oracles(Table.read(yaml.safe_load((TABLES / f"{name}.yaml").read_text(encoding="utf-8"))))
            for name in params["tables"]
        }

    def _with_oracles(self, table: Table) -> Table:
        """A table with the oracles of its data set as first rows, of those that are judged as its own systems are."""
        kinds = {self._judged_as(row["system"]) for row in table.rows}
        oracles = [r for r in self.datasets[table.dataset].oracles if {self._judged_as(r["system"])} == kinds]
        return dataclasses.replace(table, rows=[*oracles, *table.rows])

    def _judged_as(self, system: str) -> type[System] | None:
        """Align, Probe or Filter; None of a system that ranks."""
        return next((kind for kind in (Align, Probe, Filter) if isinstance(self.systems[system], kind)), None)

    def result(self, *folders: str) -> str:
        """The path of a result's manifest, by which it is named. Folders are those of ``rules.RULES``."""
        return "/".join([self.root, *folders, MANIFEST])

    def command(self, target: str = "") -> str:
        """The command that makes a result, or all."""
        # the options come last: snakemake's --configfile and --config take any number of values
        return " ".join(filter(None, ["snakemake", target, self.options]))

    def corpus(self, dataset: str, system: str | None = None) -> str:
        """The result that holds the tables of a data set; for a system that reads texts which experts recognise in its
        videos, the one with these."""
        kinds = self.text_kinds(system) if system is not None else []
        read = sorted({kind for kind in kinds if self.recognisers(dataset, [kind])})
        return self.result("texts", dataset, "-".join(read)) if read else self.result("corpora", dataset)

    def recognisers(self, dataset: str, kinds: Iterable[str]) -> list[str]:
        """The experts of a data set that recognise texts of some kinds."""
        experts = {name: self.experts[name] for name in self.datasets[dataset].experts}
        return [name for name, e in experts.items() if isinstance(e, Expert) and e.recognises in list(kinds)]

    def text_kinds(self, system: str) -> list[str]:
        """Kinds of texts of a video that a system reads."""
        entry = self.systems[system]
        if isinstance(entry, Embeddings):
            return list(entry.texts) if entry.features is None else []
        if isinstance(entry, Filter):
            return list(entry.texts)
        return list(entry.examples.further.get("texts") or []) if isinstance(entry, Trained) else []

    def ids_of(self, dataset: str) -> str:
        """A name that is the same for data sets in which an id is the same video: those of one published data set,
        wherever its files are; of the same folder, however it is spelled; or generated alike."""
        entry = self.datasets[dataset]
        if entry.raw is None:
            made = [self.seed if entry.seed is None else entry.seed, dict(entry.options)]
        else:
            made = [str(Path(entry.raw).expanduser().resolve())] if entry.corpus == "folder" else []
        return dumps([entry.corpus, *made])

    def renders(self, dataset: str) -> list[str]:
        """The results of ``render``, one per shard; none where the reader starts from other files."""
        if not self.is_generated(dataset):
            return []
        return [self.result("media", dataset, str(shard)) for shard in range(self.datasets[dataset].shards)]

    def is_generated(self, dataset: str) -> bool:
        """Whether the reader of a data set starts from rendered videos."""
        return "renders" in signatures.read(f"corpora.{self.datasets[dataset].corpus}")["read"].options

    def require_facts(self, dataset: str, what: str) -> None:
        """A ValueError where a data set has no table of facts, which ``what`` reads."""
        if not self.is_generated(dataset):
            raise ValueError(
                f"{what} reads facts, which only generated videos have: the videos of data set {dataset!r} are read by "
                f"corpus {self.datasets[dataset].corpus!r}"
            )

    @functools.cache  # noqa: B019 (a plan lives as long as its process; the lists of all its jobs are the same ones)
    def features(self, dataset: str, expert: str) -> list[str]:
        """The results that hold the features of an expert, one per shard; the data set has to list it."""
        given = self.datasets[dataset].experts
        if expert not in given:
            raise ValueError(f"datasets.{dataset}.experts lists {given}, but expert {expert!r} is needed there")
        passage = self.pass_of(expert)
        return [self.result("features", dataset, passage, str(shard)) for shard in range(self.datasets[dataset].shards)]

    def features_of(self, dataset: str, experts: Iterable[str]) -> list[str]:
        """The results that hold the features of some experts."""
        return list(dict.fromkeys(path for expert in experts for path in self.features(dataset, expert)))

    def run(self, system: str, member: str | None = None) -> str:
        """The result of training one member of a system; its first by default."""
        return self.result("runs", system, member or self.members(system)[0])

    def segments(self, dataset: str, split: str, system: str, member: str | None = None) -> str:
        """The result of ``align`` for one member; the first by default."""
        return self.result("segments", dataset, split, system, member or self.members(system)[0])

    def pass_of(self, expert: str) -> str:
        """The pass over the videos, one decoding, in which an expert is computed. An expert that reads another's
        features, released ones or speech, or needs a backbone that is trained here, has a pass of its own."""
        entry = self.experts[expert]
        if isinstance(entry, KeyFrames):
            return expert
        trained = any(self.backbones[backbone].system for backbone in entry.backbones)
        alone = trained or entry.source is not None or entry.extractor == "released" or entry.reads_corpus
        return expert if alone else MEDIA

    @functools.cache  # noqa: B019
    def passes(self, dataset: str) -> dict[str, dict[str, Expert]]:
        """Pass -> its experts, without key frames."""
        found: dict[str, dict[str, Expert]] = {}
        for name in self.datasets[dataset].experts:
            expert = self.experts[name]
            if isinstance(expert, Expert):
                found.setdefault(self.pass_of(name), {})[name] = expert
        return found

    def key_frame_experts(self) -> list[str]:
        return [name for name, expert in self.experts.items() if isinstance(expert, KeyFrames)]

    def experts_of(self, system: str) -> list[str]:
        """The experts whose features a system that is trained or embeds reads."""
        entry = self.systems[system]
        if isinstance(entry, Trained):
            return entry.examples.all_experts
        return listed(entry.features) if isinstance(entry, Embeddings) else []

    def backbone_path(self, backbone: str) -> str:
        """What ``from_pretrained`` is given for a backbone: a folder or a hub id."""
        entry = self.backbones[backbone]
        if entry.system is not None:
            return str(Path(self.run(entry.system)).parent)
        given = str(entry.pretrained)
        return str(Path(given).expanduser()) if given.startswith("~") else given

    def backbone_runs(self, backbones: Iterable[str]) -> list[str]:
        """Runs of those of the backbones that are trained here."""
        systems = [self.backbones[backbone].system for backbone in backbones]
        return list(dict.fromkeys(self.run(system) for system in systems if system is not None))

    def backbone_files(self, backbones: Iterable[str]) -> list[str]:
        """Local folders of pretrained weights; their content counts, not their names."""
        paths = [self.backbones[backbone].pretrained for backbone in backbones]
        return [path for path in paths if path is not None and is_path(path)]

    def of_kind(self, kind: type[Kind]) -> dict[str, Kind]:
        return {name: entry for name, entry in self.systems.items() if isinstance(entry, kind)}

    def system_of_kind(self, name: str, kind: type[Kind]) -> Kind:
        entry = self.systems[name]
        if not isinstance(entry, kind):
            raise TypeError(f"system {name!r} is of the kind {type(entry).__name__}, expected {kind.__name__}")
        return entry

    def base(self, system: str) -> str:
        """The system whose embeddings are searched: its own, but for one that rescores another's."""
        entry = self.systems[system]
        return entry.system if isinstance(entry, Rescore) else system

    def _trained_by_member(self, system: str) -> Trained | None:
        """The trained system that a system has its members and folds from; None where there is none."""
        entry = self.systems[self.base(system)]
        if isinstance(entry, Combine) and entry.by_member:
            return self._trained_by_member(entry.systems[0])
        if isinstance(entry, Align) and entry.detector is not None:
            entry = self.systems[entry.detector]
        return entry if isinstance(entry, Trained) else None

    def folds(self, system: str) -> systems.Folds | None:
        trained = self._trained_by_member(system)
        return trained and trained.folds

    def seeds(self, system: str) -> list[int]:
        """The seeds of its members; none where it is not trained."""
        trained = self._trained_by_member(system)
        return [] if trained is None else list(trained.seeds or [self.seed])

    def members(self, system: str) -> list[str]:
        """``fold0-seed0``, … of a system trained on folds, ``seed0``, … of one that is trained, else ``all``."""
        seeds, folds = [f"seed{seed}" for seed in self.seeds(system)], self.folds(system)
        if not seeds:
            return ["all"]
        return seeds if folds is None else [f"fold{fold}-{seed}" for fold in folds.numbers for seed in seeds]

    def fold_of(self, system: str, member: str) -> list[int] | None:
        """[fold, number of folds] of a member; None where there are no folds."""
        folds = self.folds(system)
        return None if folds is None else [int(member.partition("-")[0].removeprefix("fold")), folds.count]

    def initial_members(self, system: str, member: str) -> list[tuple[str, str]]:
        """(system, member) whose weights a member starts from: that with the same seed if there is, else the first."""
        seed = f"seed{member.rpartition('seed')[2]}"
        init = self.system_of_kind(system, Trained).init
        members = {name: self.members(name) for name in listed(init and init.from_)}
        return [(name, seed if seed in own else own[0]) for name, own in members.items()]

    def reranker(self, system: str, member: str) -> tuple[str, str]:
        """(system, member) whose scores of pairs a member of a rescored one takes: that of its name, else the first."""
        name = str(self.system_of_kind(system, Rescore).reranker)
        own = self.members(name)
        return name, member if member in own else own[0]

    def combined_members(self, system: str) -> dict[str, list[list[Any]]]:
        """Member of a combined system -> its parts, as [number of the system, member of it, weight], a system's weight
        shared among its members. ``by_member`` joins, for each member, the parts' members of that name, and parts
        without members."""
        entry, members = self.system_of_kind(system, Combine), self.members(system)
        found: dict[str, list[list[Any]]] = {member: [] for member in members}
        weights = entry.weights or [1.0] * len(entry.systems)
        for number, (part, weight) in enumerate(zip(entry.systems, weights, strict=True)):
            own = self.members(part)
            by_member = entry.by_member and own != ["all"]
            if by_member and own != members:
                raise ValueError(
                    f"systems.{system}.combine.by_member: {part!r} has the members {own}, expected {members} of the "
                    f"first"
                )
            for member in members:
                names = [member] if by_member else own
                found[member] += [[number, name, weight / len(names)] for name in names]
        return found

    def examples_of(self, system: str) -> systems.Examples:
        entry = self.systems[self.base(system)]
        if isinstance(entry, Combine):
            return self.examples_of(entry.systems[0])
        return self.system_of_kind(self.base(system), Trained).examples

    def parts_of(self, system: str) -> set[str]:
        """A system and those whose embeddings it is made of."""
        entry = self.systems[system]
        parts = entry.systems if isinstance(entry, Combine) else []
        if isinstance(entry, Rescore):
            parts = [entry.system, *listed(entry.frame_texts)]
        return {system}.union(*map(self.parts_of, parts))

    def kind(self, split: str) -> str:
        """What a protocol matches: captions against videos, videos against captions, or videos against videos."""
        if split.startswith(V2T):
            return "video_text"
        return "text_video" if split.startswith("captions") else "video_video"

    def table_splits(self, table: str) -> dict[str, str]:
        """Protocol with labels -> what a table calls it in the heads of its columns; nothing if it is the only one."""
        entry = self.tables[table]
        splits = entry.splits or {str(entry.split): ""}
        return {p: head for p, head in splits.items() if p not in self.datasets[entry.dataset].unlabelled}

    def table_cells(self, table: str) -> list[tuple[str, str]]:
        """(protocol, system) of all that a table shows; systems without folds have no out-of-fold pairs."""
        systems = dict.fromkeys(row["system"] for row in self.tables[table].rows)
        splits = self.table_splits(table)
        return [(p, s) for p in splits for s in systems if p != OUT_OF_FOLD or self.folds(s) is not None]

    def metric_names(self, dataset: str, split: str) -> list[str]:
        """All metrics that some table shows of a protocol."""
        shown = [t for n, t in self.tables.items() if t.dataset == dataset and split in self.table_splits(n)]
        return sorted({metric for table in shown for metric in table.metrics}.difference(MEASURED))

    def groups(self, dataset: str, split: str) -> dict[str, list[str]]:
        """The factors by which metrics of a protocol group references, as ``groups`` of a search; empty for none."""
        named = map(OF_FACTOR.fullmatch, self.metric_names(dataset, split))
        factors = sorted({match[2] for match in named if match})
        if factors:
            self.require_facts(dataset, f"a metric of groups ({factors[0]})")
        return {"groups": factors} if factors else {}

    @functools.cached_property
    def cells(self) -> list[tuple[str, str, str]]:
        """(dataset, split, system) of every ranking that a table, a page or a submission shows."""
        shown = [(t.dataset, split, s) for n, t in self.tables.items() for split, s in self.table_cells(n)]
        for page in self.pages.values():
            shown.append((page.dataset, page.split, page.system))
            shown += [(page.dataset, str(page.judged), system) for system in page.scatter]
        shown += [(entry.dataset, entry.split, entry.system) for entry in self.submissions.values() if entry.is_ranked]
        return [cell for cell in dict.fromkeys(shown) if self._judged_as(cell[2]) is None]

    def queried(self, dataset: str, system: str) -> list[str]:
        """Protocols whose captions are compared with a system's videos; other texts are not embedded."""
        found: set[str] = set()
        for where, split, shown in self.cells:
            if where == dataset and self.kind(split) != "video_video" and system in self.parts_of(shown):
                entry = self.systems[shown]
                bank = listed(entry.bank) if isinstance(entry, Rescore) else []
                found |= {split.removeprefix(V2T), *bank}
        return sorted(found)
