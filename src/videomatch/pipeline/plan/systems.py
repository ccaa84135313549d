"""Training, embedding and combining: what ``workflow/rules/systems.smk`` makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import cast

from videomatch.pipeline.plan.data import DataPlan, Json
from videomatch.pipeline.provenance import MANIFEST
from videomatch.pipeline.signatures import field_default, objective_modules, source


class SystemsPlan(DataPlan, ABC):
    """Paths and settings of runs and embeddings. A run is one member's; the embeddings of all members are one result:
    a process that starts costs more than to embed a corpus of ordinary size."""

    def system_reads(self, system: str) -> dict[str, list[str]]:
        """Which files ``train`` and ``embed`` read: the tables, and the features of some experts."""
        return {"corpus": ["*.parquet"], "features": [f"{expert}/*" for expert in self.experts_of(system)]}

    def experts_of(self, system: str) -> list[str]:
        """The experts whose features a system reads."""
        entry = self.systems[system]
        examples = entry.get("examples", {})
        one = entry.get("embeddings", {}).get("features") or examples.get("expert")
        return [one] if one else list(examples.get("experts", []))

    def _features_of(self, dataset: str, system: str) -> list[str]:
        found = (path for expert in self.experts_of(system) for path in self.features(dataset, expert))
        return list(dict.fromkeys(found))  # experts of one pass share their results

    def text_files(self, system: str) -> list[str]:
        """Local folders of weights or tokenizers that a system itself loads."""
        entry = self.systems[system]
        encoder = entry.get("embeddings", {}).get("text_encoder")
        tokenizer = (entry.get("tokenizer") or {}).get("pretrained")
        brought = [tokenizer] if tokenizer and Path(tokenizer).expanduser().exists() else []
        return brought + self.backbone_files([*([encoder] if encoder else []), *self.own_backbones(system)])

    def own_backbones(self, system: str) -> list[str]:
        """The backbones whose weights and whose tokenizer a trained system starts from."""
        entry = self.systems[system]
        named = [entry.get(part, {}).get("backbone") for part in ("model", "tokenizer")]
        return sorted({backbone for backbone in named if backbone})

    # ------------------------------------------------------------------------------------------------- training

    def train_settings(self, system: str, member: str) -> Json:
        """What ``train`` sees."""
        entry = {k: v for k, v in self.systems[system].items() if k not in ("seeds", "init", "dataset", "folds")}
        for part in ("model", "tokenizer"):
            if "backbone" in entry.get(part, {}):
                others = {k: v for k, v in entry[part].items() if k != "backbone"}
                entry[part] = others | {"pretrained": self.backbone_path(entry[part]["backbone"])}
        fold, seed = self.fold_of(system, member), int(member.rpartition("seed")[2])
        return {"system": entry, "seed": seed, "member": member} | ({"fold": fold} if fold else {})

    def train_threads(self, system: str) -> int:
        """Processors that a run takes."""
        given = self.systems[system].get("training", {}).get("threads")
        return given or cast(int, field_default(source("training", "loop"), "Training", "threads"))

    def train_features(self, system: str) -> list[str]:
        """Features that a system trains on."""
        return self._features_of(self.systems[system]["dataset"], system)

    def train_backbones(self, system: str) -> list[str]:
        """Runs of the backbones that a system starts from, where these are trained here."""
        return self.backbone_runs(self.own_backbones(system))

    def train_corpus(self, system: str) -> str:
        """The corpus that a system trains on."""
        return self.corpus(self.systems[system]["dataset"])

    def train_init(self, system: str, member: str) -> list[str]:
        """The runs whose weights a member starts from: those with the same seed if there are, else the first."""
        seed = f"seed{member.rpartition('seed')[2]}"
        return [self.run(init, seed if seed in self.members(init) else None) for init in self.inits(system)]

    def train_modules(self, system: str) -> list[str]:
        """Modules that ``train`` loads by name."""
        entry = self.systems[system]
        places = objective_modules()
        objectives = sorted({f"objectives.{places[name]}" for name in entry["objectives"]})
        return [*self.model_modules(system), *objectives]

    # ------------------------------------------------------------------------------------------------ embedding

    def embedding(self, dataset: str, system: str) -> str:
        """The result of ``embed`` or ``combine``: a folder a member."""
        return f"{self.root}/embeddings/{dataset}/{system}/{MANIFEST}"

    def embed_features(self, dataset: str, system: str) -> list[str]:
        """Features that a system embeds."""
        return self._features_of(dataset, system)

    def embed_runs(self, system: str) -> list[str]:
        """Checkpoints that a system embeds with: its members' own, or the text encoder's."""
        if self.is_trained(system):
            return [self.run(system, member) for member in self.members(system)]
        encoder = self.systems[system]["embeddings"].get("text_encoder")
        return self.backbone_runs([encoder]) if encoder else []

    @abstractmethod
    def queried(self, dataset: str, system: str) -> list[str]:
        """Protocols whose captions are held against a system's videos: texts of others are not embedded. What is held
        against what only the whole plan knows."""

    def embed_settings(self, dataset: str, system: str) -> Json:
        """What ``embed`` sees; of a data set that names splits in ``embed`` only their videos."""
        entry = {k: v for k, v in self.systems[system].items() if k in ("embeddings", "model", "examples")}
        encoder = entry.get("embeddings", {}).get("text_encoder")
        if encoder:
            entry["embeddings"] = {**entry["embeddings"], "text_encoder": self.backbone_path(encoder)}
        splits = self.dataset(dataset).get("embed")
        settings = {"system": entry, "seed": self.seed, "members": self.members(system)}
        settings["queries"] = self.queried(dataset, system)
        return settings | ({"splits": splits} if splits else {})

    def embed_modules(self, system: str) -> list[str]:
        """Modules that ``embed`` loads by name."""
        return self.model_modules(system) if self.is_trained(system) else []

    def combined(self, dataset: str, system: str) -> list[str]:
        """Embeddings that a combined system is made of."""
        return [self.embedding(dataset, part) for part in self.systems[system]["combine"]["systems"]]

    def _has_members(self, system: str) -> bool:
        """Whether a system was trained more than once, or could have been."""
        return self.members(system) != ["all"]

    def combine_settings(self, system: str) -> Json:
        """What ``combine`` sees: member -> its parts as [number of the system, member of it, weight]. A system's weight
        is shared among its members; ``by_member`` makes one ensemble a member, of the parts' members of that name; a
        part without members stands in each."""
        entry = self.systems[system]["combine"]
        parts = entry["systems"]
        weights = entry.get("weights") or [1.0] * len(parts)
        made = {
            member: [
                [number, name, weights[number] / len(names)]
                for number, part in enumerate(parts)
                for names in [[member] if entry.get("by_member") and self._has_members(part) else self.members(part)]
                for name in names
            ]
            for member in self.members(system)
        }
        return {"members": made, "dim": entry.get("dim")}
