"""From the parameters to files: which results there are, where each lies, and what each one's job gets to see.

The rules in ``workflow/rules`` say what is made from what; this module answers their questions of the form "which
features does this system read". A job's settings are the slice of the parameters that its stage sees: nothing else can
influence it, so nothing else makes it run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from videomatch import named
from videomatch.data.corpus import shard_file
from videomatch.provenance import MANIFEST

Json = dict[str, Any]
TABLES = named.PACKAGE.parents[1] / "workflow" / "tables"


class Plan:
    """All paths and settings of one set of resolved parameters."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.root = f"results/{params['scale']}"
        self.datasets: Json = params["datasets"]
        self.experts: Json = params["experts"]
        self.systems: Json = params["systems"]
        self.backbones: Json = params["backbones"]
        self.seed: int = params["seed"]
        self.tables: dict[str, Json] = {
            name: yaml.safe_load((TABLES / f"{name}.yaml").read_text(encoding="utf-8")) for name in params["tables"]
        }

    # ------------------------------------------------------------------------------------------------ data sets

    def dataset(self, name: str) -> Json:
        """A data set's entry of the parameters."""
        return self.datasets[name]

    def shards(self, dataset: str) -> int:
        """Into how many parts the videos of a data set are split."""
        return int(self.dataset(dataset).get("shards", 1))

    def corpus(self, dataset: str) -> str:
        """The result of ``prepare``."""
        return f"{self.root}/corpora/{dataset}/{MANIFEST}"

    def renders(self, dataset: str) -> list[str]:
        """The rendered videos of a generated data set, shard by shard; none where people bring their own."""
        if self.dataset(dataset)["corpus"] != "generated":
            return []
        return [f"{self.root}/media/{dataset}/{shard}/{MANIFEST}" for shard in range(self.shards(dataset))]

    def render_settings(self, dataset: str, shard: str) -> Json:
        """What ``render`` sees."""
        entry = self.dataset(dataset)
        return {
            "shard": int(shard),
            "shards": self.shards(dataset),
            "seed": self.dataset_seed(dataset),
            "options": entry.get("options", {}),
        }

    def dataset_seed(self, dataset: str) -> int:
        """The seed of a generated data set: its own, so that two of them tell different stories, or that of all."""
        return int(self.dataset(dataset).get("seed", self.seed))

    def prepare_settings(self, dataset: str) -> Json:
        """What ``prepare`` sees; the content of a person's own files counts too (:meth:`raw_files`)."""
        entry = self.dataset(dataset)
        return {
            "dataset": dataset,
            "corpus": entry["corpus"],
            "shards": self.shards(dataset),
            "raw": entry.get("raw"),
            "seed": self.dataset_seed(dataset),
            "options": entry.get("options", {}),
        }

    def raw_files(self, dataset: str) -> list[str]:
        """Files or folders outside the project that a data set is read from."""
        raw = self.dataset(dataset).get("raw")
        return [raw] if raw else []

    # ------------------------------------------------------------------------------------------------- features

    def pass_of(self, expert: str) -> str:
        """The pass over the videos in which an expert is computed: all experts of a pass share one decoding. Experts
        that read another's frames, or need a backbone that is trained here, have a pass of their own."""
        entry = self.experts[expert]
        if "pass" in entry:
            return str(entry["pass"])
        trained = "system" in self.backbones.get(entry.get("backbone", ""), {})
        return expert if trained or "reads" in entry else "media"

    def passes(self, dataset: str) -> dict[str, list[str]]:
        """Pass -> its experts, of one data set."""
        found: dict[str, list[str]] = {}
        for expert in self.dataset(dataset).get("experts", []):
            found.setdefault(self.pass_of(expert), []).append(expert)
        return found

    def features(self, dataset: str, expert: str) -> list[str]:
        """The results that hold the features of an expert, one a shard.

        Raises:
            ValueError: the data set does not list the expert.
        """
        listed = self.dataset(dataset).get("experts", [])
        if expert not in listed:
            raise ValueError(f"datasets.{dataset}.experts lists {listed}, but expert {expert!r} is needed there")
        folder = f"{self.root}/features/{dataset}/{self.pass_of(expert)}"
        return [f"{folder}/{shard}/{MANIFEST}" for shard in range(self.shards(dataset))]

    def extract_settings(self, dataset: str, passage: str, shard: str) -> Json:
        """What ``extract`` sees: the options of its experts, and where their backbones lie."""
        experts = self.passes(dataset)[passage]
        return {
            "shard": int(shard),
            "experts": {name: {k: v for k, v in self.experts[name].items() if k != "pass"} for name in experts},
            "backbones": {b: self.backbone_path(b) for b in self._backbones_of(experts)},
        }

    def read_features(self, dataset: str, passage: str, shard: str) -> list[str]:
        """Features that the experts of a pass read instead of the media."""
        reads = {self.experts[e]["reads"] for e in self.passes(dataset)[passage] if "reads" in self.experts[e]}
        return [self.features(dataset, expert)[int(shard)] for expert in sorted(reads)]

    def pass_runs(self, dataset: str, passage: str) -> list[str]:
        """Trained backbones that a pass needs."""
        return self.backbone_runs(self._backbones_of(self.passes(dataset)[passage]))

    def _backbones_of(self, experts: list[str]) -> list[str]:
        return sorted({self.experts[e]["backbone"] for e in experts if "backbone" in self.experts[e]})

    def extract_modules(self, dataset: str, passage: str) -> list[str]:
        """Modules that ``extract`` loads by name."""
        return sorted({f"experts.{self.experts[e]['extractor']}" for e in self.passes(dataset)[passage]})

    def extract_reads(self, dataset: str, passage: str, shard: str) -> dict[str, list[str]]:
        """Which files ``extract`` reads of its inputs: the videos of its shard (a new video leaves the other shards as
        they are) and the features that its experts name."""
        reads = {self.experts[e]["reads"] for e in self.passes(dataset)[passage] if "reads" in self.experts[e]}
        return {"corpus": [shard_file(int(shard))], "features": [f"{expert}/*" for expert in sorted(reads)]}

    def system_reads(self, system: str) -> dict[str, list[str]]:
        """Which files ``train`` and ``embed`` read: the tables, and the features of one expert."""
        expert = self._expert_of(system)
        return {"corpus": ["*.parquet"], "features": [f"{expert}/*"] if expert else []}

    def _expert_of(self, system: str) -> str | None:
        entry = self.systems[system]
        return entry.get("embeddings", {}).get("features") or entry.get("examples", {}).get("expert")

    # ------------------------------------------------------------------------------------------------ backbones

    @property
    def trained_backbones(self) -> list[str]:
        """Systems that some backbone names."""
        return sorted({b["system"] for b in self.backbones.values() if "system" in b})

    def run(self, system: str, member: str | None = None) -> str:
        """The result of training one member of a system."""
        folder = "backbones" if system in self.trained_backbones else "runs"
        return f"{self.root}/{folder}/{system}/{member or self.members(system)[0]}/{MANIFEST}"

    def backbone_path(self, backbone: str) -> str:
        """What ``from_pretrained`` is given for a backbone: a folder or a hub id."""
        entry = self.backbones[backbone]
        if "system" in entry:
            return str(Path(self.run(entry["system"])).parent)
        return (
            str(Path(entry["pretrained"]).expanduser()) if entry["pretrained"].startswith("~") else entry["pretrained"]
        )

    def backbone_runs(self, backbones: list[str]) -> list[str]:
        """Results of training, for those of the backbones that are trained here."""
        return [self.run(self.backbones[b]["system"]) for b in backbones if "system" in self.backbones[b]]

    def backbone_files(self, backbones: list[str]) -> list[str]:
        """Local folders of weights that people bring: their content counts, not their names."""
        paths = [self.backbones[b]["pretrained"] for b in backbones if "pretrained" in self.backbones[b]]
        return [p for p in paths if Path(p).expanduser().is_dir()]

    def pass_files(self, dataset: str, passage: str) -> list[str]:
        """Local weights that a pass needs."""
        return self.backbone_files(self._backbones_of(self.passes(dataset)[passage]))

    def text_files(self, system: str) -> list[str]:
        """Local folders of weights or tokenizers that a system itself loads."""
        entry = self.systems[system]
        encoder = entry.get("embeddings", {}).get("text_encoder")
        tokenizer = (entry.get("tokenizer") or {}).get("pretrained")
        brought = [tokenizer] if tokenizer and Path(tokenizer).expanduser().exists() else []
        return brought + (self.backbone_files([encoder]) if encoder else [])

    # -------------------------------------------------------------------------------------------------- systems

    def is_trained(self, system: str) -> bool:
        """Whether a system has weights of its own."""
        return "model" in self.systems[system]

    def members(self, system: str) -> list[str]:
        """``seed0``, … of a trained system; ``all`` of one that is not trained."""
        if not self.is_trained(system):
            return ["all"]
        return [f"seed{seed}" for seed in self.systems[system].get("seeds", [self.seed])]

    def train_settings(self, system: str, member: str) -> Json:
        """What ``train`` sees."""
        entry = {k: v for k, v in self.systems[system].items() if k not in ("seeds", "init", "dataset")}
        return {"system": entry, "seed": int(member.removeprefix("seed")), "member": member}

    def train_features(self, system: str) -> list[str]:
        """Features that a system trains on."""
        expert = self._expert_of(system)
        return self.features(self.systems[system]["dataset"], expert) if expert else []

    def train_corpus(self, system: str) -> str:
        """The corpus that a system trains on."""
        return self.corpus(self.systems[system]["dataset"])

    def train_init(self, system: str) -> list[str]:
        """The run whose weights a system starts from."""
        return [self.run(self.systems[system]["init"])] if "init" in self.systems[system] else []

    def train_modules(self, system: str) -> list[str]:
        """Modules that ``train`` loads by name."""
        return [f"models.{self.systems[system]['model']['name']}"]

    def embedding(self, dataset: str, system: str, member: str) -> str:
        """The result of ``embed`` or ``combine``."""
        return f"{self.root}/embeddings/{dataset}/{system}/{member}/{MANIFEST}"

    def embed_features(self, dataset: str, system: str) -> list[str]:
        """Features that a system embeds."""
        expert = self._expert_of(system)
        return self.features(dataset, expert) if expert else []

    def embed_runs(self, system: str, member: str) -> list[str]:
        """Checkpoints that a system embeds with: its own, or the text encoder's."""
        if self.is_trained(system):
            return [self.run(system, member)]
        encoder = self.systems[system]["embeddings"].get("text_encoder")
        return self.backbone_runs([encoder]) if encoder else []

    def embed_settings(self, system: str) -> Json:
        """What ``embed`` sees."""
        entry = {k: v for k, v in self.systems[system].items() if k in ("embeddings", "model", "examples")}
        encoder = entry.get("embeddings", {}).get("text_encoder")
        if encoder:
            entry["embeddings"] = {**entry["embeddings"], "text_encoder": self.backbone_path(encoder)}
        return {"system": entry, "seed": self.seed}

    def embed_modules(self, system: str) -> list[str]:
        """Modules that ``embed`` loads by name."""
        return self.train_modules(system) if self.is_trained(system) else []

    def combined(self, dataset: str, system: str) -> list[str]:
        """Embeddings that a combined system is made of: every member of every system it names."""
        parts = self.systems[system]["combine"]["systems"]
        return [self.embedding(dataset, part, member) for part in parts for member in self.members(part)]

    def combine_settings(self, system: str) -> Json:
        """What ``combine`` sees: a system's weight is shared among its members."""
        entry = self.systems[system]["combine"]
        parts = entry["systems"]
        weights = entry.get("weights") or [1.0] * len(parts)
        spread = [w / len(self.members(p)) for p, w in zip(parts, weights, strict=True) for _ in self.members(p)]
        return {"weights": spread, "dim": entry.get("dim")}

    # ------------------------------------------------------------------------------------------------ benchmark

    def ranking(self, dataset: str, split: str, system: str, member: str) -> str:
        """The result of ``search``."""
        return f"{self.root}/rankings/{dataset}/{split}/{system}/{member}/{MANIFEST}"

    def metrics(self, dataset: str, split: str, system: str, member: str) -> str:
        """The result of ``evaluate``."""
        return f"{self.root}/metrics/{dataset}/{split}/{system}/{member}/{MANIFEST}"

    def kind(self, split: str) -> str:
        """What a protocol matches: captions against videos, or videos against videos."""
        return "text_video" if split.startswith("captions") else "video_video"

    def metric_names(self, dataset: str, split: str) -> list[str]:
        """All metrics that some table asks of a protocol."""
        names = {
            metric
            for table in self.tables.values()
            if (table["dataset"], table["split"]) == (dataset, split)
            for metric in table["metrics"]
        }
        return sorted(names)

    def table_cells(self, table: str) -> dict[str, list[str]]:
        """System -> its members' metrics, for the rows of a table."""
        entry = self.tables[table]
        dataset, split = entry["dataset"], entry["split"]
        systems = [row["system"] for row in entry["rows"]]
        return {s: [self.metrics(dataset, split, s, m) for m in self.members(s)] for s in systems}

    def table_inputs(self, table: str) -> list[str]:
        """All metrics that a table shows."""
        return [path for paths in self.table_cells(table).values() for path in paths]

    def table_settings(self, table: str) -> Json:
        """What ``tabulate`` sees: the table's own file, and which input belongs to which row."""
        cells = [[system, len(paths)] for system, paths in self.table_cells(table).items()]
        corpus = self.dataset(self.tables[table]["dataset"])["corpus"]
        return {"table": self.tables[table], "cells": cells, "corpus_kind": corpus, "scale": self.params["scale"]}

    def page_ranking(self, page: str) -> str:
        """The ranking that a page shows."""
        entry = self.params["pages"][page]
        member = self.members(entry["system"])[0]
        return self.ranking(entry["dataset"], entry["split"], entry["system"], member)

    def page_settings(self, page: str) -> Json:
        """What ``illustrate`` sees."""
        entry = self.params["pages"][page]
        return {"title": entry.get("title", page), "top": entry.get("top", 5), "system": entry["system"]}

    # ---------------------------------------------------------------------------------- what tables and pages need

    def cells(self) -> list[tuple[str, str, str, str]]:
        """(dataset, split, system, member) of every table row and page."""
        asked = [(t["dataset"], t["split"], row["system"]) for t in self.tables.values() for row in t["rows"]]
        asked += [(p["dataset"], p["split"], p["system"]) for p in self.params["pages"].values()]
        return [(d, sp, sy, m) for d, sp, sy in dict.fromkeys(asked) for m in self.members(sy)]

    def embedded(self) -> list[tuple[str, str, str]]:
        """(dataset, system, member) of every embedding that those are made from."""
        found: dict[tuple[str, str, str], None] = {}

        def add(dataset: str, system: str) -> None:
            for part in self.systems[system].get("combine", {}).get("systems", []):
                add(dataset, part)
            found.update(dict.fromkeys((dataset, system, member) for member in self.members(system)))

        for dataset, _, system, _ in self.cells():
            add(dataset, system)
        return list(found)

    def needed_runs(self) -> list[str]:
        """Trained systems that tables and pages need, backbones left out."""
        return [s for s in self._trained_needed() if s not in self.trained_backbones]

    def _trained_needed(self) -> list[str]:
        trained = dict.fromkeys(s for _, s, _ in self.embedded() if self.is_trained(s))
        for system in list(trained):
            while "init" in self.systems[system]:
                system = self.systems[system]["init"]
                trained[system] = None
        return list(trained)

    def needed_datasets(self) -> list[str]:
        """Data sets that tables and pages need, those included that only a backbone trains on."""
        datasets = dict.fromkeys(d for d, _, _ in self.embedded())
        datasets.update(dict.fromkeys(self.systems[s]["dataset"] for s in self.needed_runs()))
        while True:
            more = {self.systems[s]["dataset"] for s in self.needed_backbones(list(datasets))} - datasets.keys()
            if not more:
                return list(datasets)
            datasets.update(dict.fromkeys(sorted(more)))

    def needed_backbones(self, datasets: list[str]) -> list[str]:
        """Systems trained as backbones of the experts of these data sets, or as somebody's text encoder."""
        names = {b for d in datasets for b in self._backbones_of(self.dataset(d).get("experts", []))}
        names |= {
            self.systems[s]["embeddings"]["text_encoder"]
            for _, s, _ in self.embedded()
            if "text_encoder" in self.systems[s].get("embeddings", {})
        }
        systems = {self.backbones[b]["system"] for b in names if "system" in self.backbones[b]}
        systems |= {s for s in self._trained_needed() if s in self.trained_backbones}
        return sorted(systems)

    def data_results(self) -> list[str]:
        """All results of the stage ``data``."""
        results: list[str] = []
        datasets = self.needed_datasets()
        for dataset in datasets:
            results += [*self.renders(dataset), self.corpus(dataset)]
            for experts in self.passes(dataset).values():
                results += self.features(dataset, experts[0])
        return results + [self.run(s, m) for s in self.needed_backbones(datasets) for m in self.members(s)]

    def check(self) -> None:
        """Ask for the inputs of every job.

        Raises:
            ValueError: some job would read features that its data set does not list.
        """
        datasets = self.needed_datasets()
        for dataset in datasets:
            for passage in self.passes(dataset):
                self.read_features(dataset, passage, "0")
        for system in (*self.needed_runs(), *self.needed_backbones(datasets)):
            self.train_features(system)
        for dataset, system, _ in self.embedded():
            self.embed_features(dataset, system)

    def systems_results(self) -> list[str]:
        """All results of the stage ``systems``."""
        runs = [self.run(s, m) for s in self.needed_runs() for m in self.members(s)]
        return runs + [self.embedding(*cell) for cell in self.embedded()]

    def benchmark_results(self) -> list[str]:
        """All results of the stage ``benchmark``."""
        cells = self.cells()
        judged = {(t["dataset"], t["split"]) for t in self.tables.values()}
        return [
            *(self.ranking(*cell) for cell in cells),
            *(self.metrics(*cell) for cell in cells if cell[:2] in judged),
            *(self.table(name) for name in self.tables),
            *(self.page(name) for name in self.params["pages"]),
        ]

    def table(self, name: str) -> str:
        """The result of ``tabulate``."""
        return f"{self.root}/tables/{name}/{MANIFEST}"

    def page(self, name: str) -> str:
        """The result of ``illustrate``."""
        return f"{self.root}/pages/{name}/{MANIFEST}"

    def search_top(self, dataset: str, split: str, system: str) -> int:
        """How many neighbours a search keeps: what the pages that show it ask for, at least 10."""
        asked = [
            p.get("top", 5)
            for p in self.params["pages"].values()
            if (p["dataset"], p["split"], p["system"]) == (dataset, split, system)
        ]
        return max([10, *asked])
