"""Data sets, features and backbones: what ``workflow/rules/data.smk`` makes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from videomatch.data.corpus import shard_file
from videomatch.pipeline.provenance import MANIFEST
from videomatch.pipeline.signatures import corpus_renders

Json = dict[str, Any]
#: options of experts that name a backbone
NETWORKS = ("backbone", "encoder")


class DataPlan:
    """Paths and settings of data sets, features and backbones."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.root = f"results/{params['scale']}"
        self.datasets: Json = params["datasets"]
        self.experts: Json = params["experts"]
        self.systems: Json = params["systems"]
        self.backbones: Json = params["backbones"]
        self.seed: int = params["seed"]

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
        """The rendered videos of a data set, shard by shard; none where its reader starts from other files."""
        if not corpus_renders(self.dataset(dataset)["corpus"]):
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
        that read another's frames or released features, or need a backbone that is trained here, have a pass of their
        own."""
        entry = self.experts[expert]
        if "key_frames_of" in entry:
            return expert
        if "extraction_pass" in entry:
            return str(entry["extraction_pass"])
        trained = any("system" in self.backbones[b] for b in self._backbones_of([expert]))
        alone = trained or "source" in entry or self._is_released(expert) or self._reads_texts(expert)
        return expert if alone else "media"

    def _reads_texts(self, expert: str) -> bool:
        """Whether an expert reads transcripts of the corpus, not the media."""
        entry = self.experts[expert]
        return entry["extractor"] == "speech" and "backbone" not in entry

    def _is_released(self, expert: str) -> bool:
        """Whether nothing is computed: an expert's features come with the data set, or in files of their own."""
        return self.experts[expert]["extractor"] == "released"

    def _is_brought(self, expert: str) -> bool:
        """Whether the data set's reader finds an expert's features."""
        return self._is_released(expert) and "format" not in self.experts[expert]

    def passes(self, dataset: str) -> dict[str, list[str]]:
        """Pass -> its experts, of one data set; key frames are no pass over the videos."""
        found: dict[str, list[str]] = {}
        for expert in self.dataset(dataset).get("experts", []):
            if "key_frames_of" not in self.experts[expert]:
                found.setdefault(self.pass_of(expert), []).append(expert)
        return found

    def key_frame_experts(self, dataset: str) -> list[str]:
        """Experts of a data set that are the key frames of another."""
        return [e for e in self.dataset(dataset).get("experts", []) if "key_frames_of" in self.experts[e]]

    def key_frames_settings(self, expert: str) -> Json:
        """What ``select_key_frames`` sees."""
        entry = {k: v for k, v in self.experts[expert].items() if k not in ("key_frames_of", "backbone")}
        return {"expert": self.experts[expert]["key_frames_of"], "name": expert} | entry

    def key_frames_features(self, dataset: str, expert: str, shard: str) -> list[str]:
        """The features of one shard of which key frames are kept."""
        return [self.features(dataset, self.experts[expert]["key_frames_of"])[int(shard)]]

    def key_frames_run(self, expert: str) -> str | None:
        """The trained scorer of frames."""
        runs = self.backbone_runs(self._backbones_of([expert]))
        return runs[0] if runs else None

    def key_frames_modules(self, expert: str) -> list[str]:
        """Modules that ``select_key_frames`` loads by name."""
        scorers = [self.backbones[b]["system"] for b in self._backbones_of([expert])]
        return [module for system in scorers for module in self.model_modules(system)]

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
        """What ``extract`` sees: the options of its experts, and where their backbones, or released features, lie."""
        experts = self.passes(dataset)[passage]
        entry = self.dataset(dataset)
        released = {"released": {"corpus": entry["corpus"], "raw": entry.get("raw")}}
        return (released if any(map(self._is_brought, experts)) else {}) | {
            "shard": int(shard),
            "experts": {
                name: {k: v for k, v in self.experts[name].items() if k != "extraction_pass"} for name in experts
            },
            "backbones": {b: self.backbone_path(b) for b in self._backbones_of(experts)},
        }

    def source_features(self, dataset: str, passage: str, shard: str) -> list[str]:
        """Features that the experts of a pass read instead of the media."""
        reads = {self.experts[e]["source"] for e in self.passes(dataset)[passage] if "source" in self.experts[e]}
        return [self.features(dataset, expert)[int(shard)] for expert in sorted(reads)]

    def pass_runs(self, dataset: str, passage: str) -> list[str]:
        """Trained backbones that a pass needs."""
        return self.backbone_runs(self._backbones_of(self.passes(dataset)[passage]))

    def _backbones_of(self, experts: list[str]) -> list[str]:
        return sorted({self.experts[e][key] for e in experts for key in NETWORKS if key in self.experts[e]})

    def extract_modules(self, dataset: str, passage: str) -> list[str]:
        """Modules that ``extract`` loads by name."""
        experts = self.passes(dataset)[passage]
        readers = {f"corpora.{self.dataset(dataset)['corpus']}" for e in experts if self._is_brought(e)}
        return sorted({f"experts.{self.experts[e]['extractor']}" for e in experts} | readers)

    def extract_reads(self, dataset: str, passage: str, shard: str) -> dict[str, list[str]]:
        """Which files ``extract`` reads of its inputs: the videos of its shard (a new video leaves the other shards as
        they are) and the features that its experts name."""
        reads = {self.experts[e]["source"] for e in self.passes(dataset)[passage] if "source" in self.experts[e]}
        texts = ["texts.parquet"] if any(map(self._reads_texts, self.passes(dataset)[passage])) else []
        return {"corpus": [shard_file(int(shard)), *texts], "features": [f"{expert}/*" for expert in sorted(reads)]}

    # ----------------------------------------------------------------------------------------- systems with weights

    def is_trained(self, system: str) -> bool:
        """Whether a system has weights of its own."""
        return "model" in self.systems[system]

    def base(self, system: str) -> str:
        """The system whose embeddings are searched: its own, but for one that rescores another's."""
        return self.systems[system].get("rescore", {}).get("system", system)

    def folds(self, system: str) -> tuple[int, list[int]] | None:
        """Into how many folds a system's labelled pairs are dealt, and which of them it is trained on; None: not at
        all. Those of a system made ``by_member`` of others are theirs."""
        entry = self.systems[system]
        if "rescore" in entry:
            return self.folds(self.base(system))
        if entry.get("combine", {}).get("by_member"):
            return self.folds(entry["combine"]["systems"][0])
        given = entry.get("folds")
        if given is None:
            return None
        count = given["count"] if isinstance(given, dict) else given
        return count, (given.get("only") if isinstance(given, dict) else None) or list(range(count))

    def members(self, system: str) -> list[str]:
        """``fold0-seed0``, … of a system trained on folds, ``seed0``, … of one that is trained, else ``all``."""
        entry = self.systems[system]
        if "rescore" in entry:
            return self.members(self.base(system))
        if entry.get("combine", {}).get("by_member"):
            return self.members(entry["combine"]["systems"][0])
        if "detector" in entry.get("align", {}):
            return self.members(entry["align"]["detector"])
        if not self.is_trained(system):
            return ["all"]
        folds = self.folds(system)
        seeds = [f"seed{seed}" for seed in entry.get("seeds", [self.seed])]
        return seeds if folds is None else [f"fold{fold}-{seed}" for fold in folds[1] for seed in seeds]

    def fold_of(self, system: str, member: str) -> list[int] | None:
        """[fold, number of folds] of a member; None where there are no folds."""
        folds = self.folds(system)
        return None if folds is None else [int(member.partition("-")[0].removeprefix("fold")), folds[0]]

    def model_modules(self, system: str) -> list[str]:
        """Modules that whoever uses a trained system loads by name; none of its objectives."""
        entry = self.systems[system]
        return [f"models.{entry['model']['name']}", f"examples.{entry['examples']['kind']}", "objectives"]

    # ------------------------------------------------------------------------------------------------ backbones

    @functools.cached_property
    def trained_backbones(self) -> list[str]:
        """Systems that some backbone names, and those that they start from."""
        return sorted(self.beginnings({b["system"] for b in self.backbones.values() if "system" in b}))

    def inits(self, system: str) -> list[str]:
        """The systems whose weights a system starts from."""
        given = self.systems[system].get("init") or []
        return [given] if isinstance(given, str) else list(given)

    def beginnings(self, systems: Iterable[str]) -> set[str]:
        """Systems with all that they start from, directly or not."""
        found, waiting = set(systems), list(systems)
        while waiting:
            more = set(self.inits(waiting.pop())) - found
            found |= more
            waiting.extend(more)
        return found

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
        return list(
            dict.fromkeys(self.run(self.backbones[b]["system"]) for b in backbones if "system" in self.backbones[b])
        )

    def backbone_files(self, backbones: list[str]) -> list[str]:
        """Local folders of weights that people bring: their content counts, not their names."""
        paths = [self.backbones[b]["pretrained"] for b in backbones if "pretrained" in self.backbones[b]]
        return [p for p in paths if Path(p).expanduser().is_dir()]

    def pass_files(self, dataset: str, passage: str) -> list[str]:
        """Local weights that a pass needs, and the files of the data set where its features lie in them."""
        experts = self.passes(dataset)[passage]
        raw = self.raw_files(dataset) if any(map(self._is_brought, experts)) else []
        raw += [self.experts[e][key] for e in experts for key in ("folder", "detector") if key in self.experts[e]]
        return raw + self.backbone_files(self._backbones_of(experts))
