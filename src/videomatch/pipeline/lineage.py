"""What a system learned from: its own training, that of the runs it starts from, and that of all backbones behind its
features, with the splits by which checkpoints and options were chosen and scores normalised. From the parameters
alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from videomatch.pipeline.plan import Plan
from videomatch.specs import listed
from videomatch.specs.data import KeyFrames
from videomatch.specs.systems import Combine, Embeddings, Filter, Probe, Rescore, Trained, needs_validation

Json = dict[str, Any]
Path = tuple[str, ...]


def learned(plan: Plan, dataset: str, system: str, member: str) -> dict[str, Json]:
    """How -> the ``dataset`` and its videos that a member of a system, evaluated on a data set, learned from: those of
    ``splits`` (an empty list: of the train split), or of ``examples`` and a ``fold``: those to train on, and if it
    ``selects`` those to validate on. Its ``own`` are not those of initial weights and backbones."""
    found = _Lineage(plan)
    found.system(dataset, system, member, (system,))
    return found.found


class _Lineage:
    """Walks from a system to the runs behind it; each run is found once, by the first way that leads to it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.found: dict[str, Json] = {}
        self._seen: set[tuple[str, ...]] = set()

    def _is_new(self, *what: str) -> bool:
        is_new = what not in self._seen
        self._seen.add(what)
        return is_new

    def _add(self, path: Path, about: Json) -> None:
        self.found[" → ".join(path)] = about

    def system(self, dataset: str, name: str, member: str, path: Path) -> None:
        entry = self.plan.systems[name]
        if isinstance(entry, Trained):
            self.run(name, member, path, is_own=True)
            if dataset != entry.dataset:  # it reads other features there
                self.experts(self._read(dataset, name), path)
        elif isinstance(entry, Embeddings):
            self.experts(self._read(dataset, name), path)
            self.backbones(listed(entry.text_encoder), path)
            if entry.texts and entry.features is None:
                self._add((*path, "text analysis"), {"dataset": dataset, "splits": []})
        elif isinstance(entry, Combine):
            for number, part, _ in self.plan.combined_members(name)[member]:
                own = str(entry.systems[number])
                self.system(dataset, own, part, (*path, own))
        elif isinstance(entry, Rescore):
            self.system(dataset, entry.system, member, (*path, entry.system))
            for other in listed(entry.frame_texts):
                self.system(dataset, other, self.plan.members(other)[0], (*path, other))
            if entry.reranker is not None:
                self.run(*self.plan.reranker(name, member), (*path, f"reranker {entry.reranker}"), is_own=True)
            self.experts(listed(entry.expert), path)
            self.splits(dataset, entry.bank, (*path, "bank"))
        elif isinstance(entry, Probe):
            self.experts([entry.expert], path)
            self._add((*path, "linear classifier"), {"dataset": dataset, "splits": []})
        elif isinstance(entry, Filter):
            self.experts([entry.expert], path)
            self.backbones([entry.text_encoder], path)
        else:
            self.experts([*entry.experts, *entry.searched], path)
            for detector in listed(entry.detector):
                self.run(detector, member, (*path, f"detector {detector}"), is_own=True)
            self.splits(dataset, entry.tune and entry.tune.split, (*path, "tune"))
            self.splits(dataset, entry.noise and entry.noise.split, (*path, "noise"))

    def splits(self, dataset: str, names: Sequence[str] | str | None, path: Path) -> None:
        """Splits whose videos or queries an option names."""
        if names is not None:
            self._add(path, {"dataset": dataset, "splits": listed(names)})

    def run(self, name: str, member: str, path: Path, *, is_own: bool = False) -> None:
        if not self._is_new("run", name, member):
            return
        entry = self.plan.system_of_kind(name, Trained)
        about: Json = {"dataset": entry.dataset, "examples": entry.examples.settings()}
        about |= {"fold": self.plan.fold_of(name, member), "own": is_own}
        about["selects"] = needs_validation(entry.training or {})
        self._add(path, about)
        if about["fold"] and entry.init is None and entry.tokenizer is not None and entry.tokenizer.is_trained:
            splits = listed(entry.examples.further["split"])
            self._add((*path, "vocabulary"), {"dataset": entry.dataset, "splits": splits})  # of all folds
        for init, initial in self.plan.initial_members(name, member):
            self.run(init, initial, (*path, f"init {init}"))
        for chosen in listed(entry.examples.filter):
            self.system(entry.dataset, chosen, self.plan.members(chosen)[0], (*path, f"filter {chosen}"))
        self.backbones(entry.backbones, path)
        self.experts(self._read(entry.dataset, name), path)

    def _read(self, dataset: str, name: str) -> list[str]:
        """The experts whose features, or whose texts, a system reads of a data set."""
        return self.plan.experts_of(name) + self.plan.recognisers(dataset, self.plan.text_kinds(name))

    def backbones(self, names: Iterable[str], path: Path) -> None:
        for name in names:
            for system in listed(self.plan.backbones[name].system):
                self.run(system, self.plan.members(system)[0], (*path, f"backbone {name} (system {system})"))

    def experts(self, names: Iterable[str], path: Path) -> None:
        for name in names:
            if self._is_new("expert", name):
                expert, own = self.plan.experts[name], (*path, f"expert {name}")
                is_selection = isinstance(expert, KeyFrames)
                self.backbones(listed(expert.backbone) if is_selection else expert.backbones, own)
                self.experts(listed(expert.key_frames_of if is_selection else expert.source), own)
