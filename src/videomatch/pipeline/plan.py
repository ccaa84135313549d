"""Questions about one set of resolved parameters: where results are, and which members, features and runs there are.

What each job is made from is in :mod:`videomatch.pipeline.jobs`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from videomatch.common import named
from videomatch.pipeline import signatures
from videomatch.pipeline.provenance import MANIFEST

Json = dict[str, Any]

TABLES = named.PACKAGE.parents[1] / "workflow" / "tables"
#: options of experts that name a backbone
NETWORKS = ("backbone", "encoder")
#: options of experts that name local files
FILES = ("folder", "detector")
#: before the name of a protocol of captions: videos are searched with, captions are found
V2T = "v2t_"
#: the protocol in which every member of a system is judged by the labelled pairs of its own validation fold
OUT_OF_FOLD = "out_of_fold"
#: formats of submissions that are written from rankings, and how many references a query has in them at most
RANKED = {"avs": 1000}


class Plan:
    """All paths, and the entries of the parameters with what follows from several of them."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.root = f"results/{params['scale']}"
        self.seed: int = params["seed"]
        self.datasets: Json = params["datasets"]
        self.backbones: Json = params["backbones"]
        self.experts: Json = params["experts"]
        self.systems: Json = params["systems"]
        self.pages: Json = params["pages"]
        self.submissions: Json = params["submissions"]
        self.tables: dict[str, Json] = {
            name: yaml.safe_load((TABLES / f"{name}.yaml").read_text(encoding="utf-8")) for name in params["tables"]
        }

    # ---------------------------------------------------------------------------------------------------- results

    def result(self, *folders: str) -> str:
        """The manifest of a result, which stands for the folder that it is in."""
        return "/".join([self.root, *folders, MANIFEST])

    def corpus(self, dataset: str) -> str:
        """The result of ``prepare``."""
        return self.result("corpora", dataset)

    def renders(self, dataset: str) -> list[str]:
        """The results of ``render``, one per shard; none where the reader starts from other files."""
        if "renders" not in signatures.read(f"corpora.{self.dataset(dataset)['corpus']}")["read"].options:
            return []
        return [self.result("media", dataset, str(shard)) for shard in range(self.shards(dataset))]

    def features(self, dataset: str, expert: str) -> list[str]:
        """The results that hold the features of an expert, one per shard.

        Raises:
            ValueError: the data set does not list the expert.
        """
        listed = self.dataset(dataset).get("experts", [])
        if expert not in listed:
            raise ValueError(f"datasets.{dataset}.experts lists {listed}, but expert {expert!r} is needed there")
        passage = self.pass_of(expert)
        return [self.result("features", dataset, passage, str(shard)) for shard in range(self.shards(dataset))]

    def features_of(self, dataset: str, experts: Iterable[str]) -> list[str]:
        """The features of several experts; those of one pass share their results."""
        return list(dict.fromkeys(path for expert in experts for path in self.features(dataset, expert)))

    def run(self, system: str, member: str | None = None) -> str:
        """The result of training one member of a system; its first by default."""
        return self.result("runs", system, member or self.members(system)[0])

    def embedding(self, dataset: str, system: str) -> str:
        """The result of ``embed`` or ``combine``, with one folder per member."""
        return self.result("embeddings", dataset, system)

    def ranking(self, dataset: str, split: str, system: str) -> str:
        """The result of ``search``, with one folder per member."""
        return self.result("rankings", dataset, split, system)

    def segments(self, dataset: str, split: str, system: str, member: str | None = None) -> str:
        """The result of ``align`` for one member; the first by default."""
        return self.result("segments", dataset, split, system, member or self.members(system)[0])

    def metrics(self, dataset: str, split: str, system: str) -> str:
        """The result of ``evaluate``, with one folder per member."""
        return self.result("metrics", dataset, split, system)

    def table(self, name: str) -> str:
        """The result of ``tabulate``."""
        return self.result("tables", name)

    def page(self, name: str) -> str:
        """The result of ``illustrate``."""
        return self.result("pages", name)

    def submission(self, name: str) -> str:
        """The result of ``submit``."""
        return self.result("submissions", name)

    # -------------------------------------------------------------------------------------- data sets and features

    def dataset(self, name: str) -> Json:
        """The entry of a data set."""
        return self.datasets[name]

    def shards(self, dataset: str) -> int:
        """Into how many parts the videos of a data set are split."""
        return int(self.dataset(dataset).get("shards", 1))

    def raw_files(self, dataset: str) -> list[str]:
        """Files or folders outside the project that a data set is read from."""
        raw = self.dataset(dataset).get("raw")
        return [raw] if raw else []

    def pass_of(self, expert: str) -> str:
        """The pass over the videos in which an expert is computed. All experts of a pass share one decoding. An expert
        that reads another's features, released ones or transcripts, or needs a backbone that is trained here, has a
        pass of its own."""
        entry = self.experts[expert]
        if "extraction_pass" in entry:
            return str(entry["extraction_pass"])
        trained = any("system" in self.backbones[b] for b in self.backbones_of([expert]))
        alone = trained or {"source", "key_frames_of"} & entry.keys() or entry["extractor"] == "released"
        return expert if alone or self.reads_texts(expert) else "media"

    def reads_texts(self, expert: str) -> bool:
        """Whether an expert reads transcripts of the corpus, not the media."""
        entry = self.experts[expert]
        return entry.get("extractor") == "speech" and "backbone" not in entry

    def comes_with_corpus(self, expert: str) -> bool:
        """Whether the features of an expert are released with the data set, and read by its corpus."""
        entry = self.experts[expert]
        return entry.get("extractor") == "released" and "format" not in entry

    def passes(self, dataset: str) -> dict[str, list[str]]:
        """Pass -> its experts, of one data set; key frames are not among them."""
        found: dict[str, list[str]] = {}
        for expert in self.dataset(dataset).get("experts", []):
            if "key_frames_of" not in self.experts[expert]:
                found.setdefault(self.pass_of(expert), []).append(expert)
        return found

    def key_frame_experts(self) -> list[str]:
        """Experts that are the key frames of another."""
        return [expert for expert, entry in self.experts.items() if "key_frames_of" in entry]

    def backbones_of(self, experts: Iterable[str]) -> list[str]:
        """The backbones of some experts."""
        return sorted({self.experts[e][key] for e in experts for key in NETWORKS if key in self.experts[e]})

    def experts_of(self, system: str) -> list[str]:
        """The experts whose features a system that is trained or embeds reads."""
        entry = self.systems[system]
        examples = entry.get("examples", {})
        one = entry.get("embeddings", {}).get("features") or examples.get("expert")
        return [one] if one else list(examples.get("experts", []))

    def compared_experts(self, system: str) -> list[str]:
        """The experts whose features a system that aligns compares."""
        entry = self.systems[system]["align"]
        return [entry[key] for key in ("expert", "query_expert") if key in entry]

    # ---------------------------------------------------------------------------------------------------- backbones

    def backbone_path(self, backbone: str) -> str:
        """What ``from_pretrained`` is given for a backbone: a folder or a hub id."""
        entry = self.backbones[backbone]
        if "system" in entry:
            return str(Path(self.run(entry["system"])).parent)
        given = entry["pretrained"]
        return str(Path(given).expanduser()) if given.startswith("~") else given

    def backbone_runs(self, backbones: Iterable[str]) -> list[str]:
        """Runs of those of the backbones that are trained here."""
        entries = [self.backbones[b] for b in backbones]
        return list(dict.fromkeys(self.run(entry["system"]) for entry in entries if "system" in entry))

    def backbone_files(self, backbones: Iterable[str]) -> list[str]:
        """Local folders of pretrained weights; their content counts, not their names."""
        paths = [self.backbones[b]["pretrained"] for b in backbones if "pretrained" in self.backbones[b]]
        return [path for path in paths if Path(path).expanduser().is_dir()]

    def own_backbones(self, system: str) -> list[str]:
        """The backbones whose weights and whose tokenizer a trained system starts from."""
        entry = self.systems[system]
        return sorted(
            {entry[part]["backbone"] for part in ("model", "tokenizer") if entry.get(part, {}).get("backbone")}
        )

    # ------------------------------------------------------------------------------------------ members of systems

    def is_trained(self, system: str) -> bool:
        """Whether a system has weights of its own."""
        return "model" in self.systems[system]

    def localises(self, system: str) -> bool:
        """Whether a system finds segments, not embeddings or rankings."""
        return "align" in self.systems[system]

    def base(self, system: str) -> str:
        """The system whose embeddings are searched: its own, but for one that rescores another's."""
        return self.systems[system].get("rescore", {}).get("system", system)

    def _trained_by_member(self, system: str) -> str:
        """The trained system that a system has its members and folds from; itself where there is none."""
        entry = self.systems[system]
        if "rescore" in entry:
            return self._trained_by_member(self.base(system))
        if entry.get("combine", {}).get("by_member"):
            return self._trained_by_member(entry["combine"]["systems"][0])
        return entry.get("align", {}).get("detector", system)

    def folds(self, system: str) -> tuple[int, list[int]] | None:
        """The number of folds of a system's labelled pairs and those that are trained on; None where there are none."""
        given = self.systems[self._trained_by_member(system)].get("folds")
        if given is None:
            return None
        count, only = (given["count"], given.get("only")) if isinstance(given, dict) else (given, None)
        return count, only or list(range(count))

    def members(self, system: str) -> list[str]:
        """``fold0-seed0``, … of a system trained on folds, ``seed0``, … of one that is trained, else ``all``."""
        trained = self._trained_by_member(system)
        if not self.is_trained(trained):
            return ["all"]
        folds = self.folds(trained)
        seeds = [f"seed{seed}" for seed in self.systems[trained].get("seeds", [self.seed])]
        return seeds if folds is None else [f"fold{fold}-{seed}" for fold in folds[1] for seed in seeds]

    def fold_of(self, system: str, member: str) -> list[int] | None:
        """[fold, number of folds] of a member; None where there are no folds."""
        folds = self.folds(system)
        return None if folds is None else [int(member.partition("-")[0].removeprefix("fold")), folds[0]]

    def initial_runs(self, system: str, member: str) -> list[str]:
        """The runs whose weights a member starts from: those with the same seed if there are, else the first."""
        given = self.systems[system].get("init") or []
        seed = f"seed{member.rpartition('seed')[2]}"
        inits = [given] if isinstance(given, str) else given
        return [self.run(init, seed if seed in self.members(init) else None) for init in inits]

    def examples_of(self, system: str) -> Json:
        """The examples that a system, or the first that it is made of, was trained on."""
        entry = self.systems[self.base(system)]
        return self.examples_of(entry["combine"]["systems"][0]) if "combine" in entry else entry["examples"]

    def parts_of(self, system: str) -> set[str]:
        """A system and those whose embeddings it is made of."""
        entry = self.systems[system]
        rescored = entry.get("rescore", {})
        parts = [*entry.get("combine", {}).get("systems", []), rescored.get("system"), rescored.get("frame_texts")]
        return {system}.union(*(self.parts_of(part) for part in parts if part))

    # --------------------------------------------------------------------------------- tables, pages, submissions

    def kind(self, split: str) -> str:
        """What a protocol matches: captions against videos, videos against captions, or videos against videos."""
        if split.startswith(V2T):
            return "video_text"
        return "text_video" if split.startswith("captions") else "video_video"

    def table_splits(self, table: str) -> dict[str, str]:
        """Protocol -> what a table calls it in the heads of its columns; the name of an only one is not shown. Those
        without labels in this data set are left out."""
        entry = self.tables[table]
        unlabelled = self.dataset(entry["dataset"]).get("unlabelled", [])
        splits = entry.get("splits") or {entry["split"]: ""}
        return {split: head for split, head in splits.items() if split not in unlabelled}

    def table_cells(self, table: str) -> list[tuple[str, str]]:
        """(protocol, system) of all that a table shows; systems without folds have no out-of-fold pairs."""
        systems = dict.fromkeys(row["system"] for row in self.tables[table]["rows"])
        splits = self.table_splits(table)
        return [(p, s) for p in splits for s in systems if p != OUT_OF_FOLD or self.folds(s) is not None]

    def metric_names(self, dataset: str, split: str) -> list[str]:
        """All metrics that some table shows of a protocol."""
        shown = [t for n, t in self.tables.items() if t["dataset"] == dataset and split in self.table_splits(n)]
        return sorted({metric for table in shown for metric in table["metrics"]})

    def submits_rankings(self, name: str) -> bool:
        """Whether a submission is made of rankings, not of embeddings."""
        return self.submissions[name].get("format") in RANKED

    @functools.cached_property
    def cells(self) -> list[tuple[str, str, str]]:
        """(dataset, split, system) of every ranking that a table, a page or a submission shows."""
        shown = [(t["dataset"], split, s) for n, t in self.tables.items() for split, s in self.table_cells(n)]
        for page in self.pages.values():
            shown.append((page["dataset"], page["split"], page["system"]))
            shown += [(page["dataset"], page["judged"], system) for system in page.get("scatter", [])]
        for name, entry in self.submissions.items():
            if self.submits_rankings(name):
                shown.append((entry["dataset"], entry["split"], entry["system"]))
        return [cell for cell in dict.fromkeys(shown) if not self.localises(cell[2])]

    def queried(self, dataset: str, system: str) -> list[str]:
        """Protocols whose captions are compared with a system's videos; other texts are not embedded."""
        found: set[str] = set()
        for where, split, shown in self.cells:
            if where == dataset and self.kind(split) != "video_video" and system in self.parts_of(shown):
                bank = self.systems[shown].get("rescore", {}).get("bank", [])
                found |= {split.removeprefix(V2T), *([bank] if isinstance(bank, str) else bank)}
        return sorted(found)
