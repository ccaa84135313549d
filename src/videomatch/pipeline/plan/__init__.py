"""From the parameters to files: which results there are, where each lies, and what each one's job gets to see.

The rules in ``workflow/rules`` say what is made from what; this package answers their questions of the form "which
features does this system read", one module a file of rules. A job's settings are the slice of the parameters that its
stage sees: nothing else can influence it, so nothing else makes it run again.

:class:`Plan` also knows what has to be there at all: what tables, pages and submissions are made from.
"""

from __future__ import annotations

from videomatch.pipeline.plan.benchmark import OUT_OF_FOLD, V2T, BenchmarkPlan
from videomatch.pipeline.plan.data import Json

__all__ = ["OUT_OF_FOLD", "Json", "Plan"]


class Plan(BenchmarkPlan):
    """All paths and settings of one set of resolved parameters."""

    def cells(self) -> list[tuple[str, str, str]]:
        """(dataset, split, system) of every ranking that a table or a page shows."""
        asked = [cell for cell in self.judged_cells() if not self.localises(cell[2])]
        for page in self.params["pages"].values():
            if self.localises(page["system"]):
                continue
            asked.append((page["dataset"], page["split"], page["system"]))
            asked += [(page["dataset"], page["judged"], system) for system in page.get("scatter", [])]
        for name, entry in self.params["submissions"].items():
            if self.submits_rankings(name):
                asked.append((entry["dataset"], entry["split"], entry["system"]))
        return list(dict.fromkeys(asked))

    def judged_cells(self) -> list[tuple[str, str, str]]:
        """(dataset, split, system) of everything that a table shows."""
        asked = [(t["dataset"], split, s) for n, t in self.tables.items() for split, s in self.table_cells(n)]
        return list(dict.fromkeys(asked))

    def localised_cells(self) -> list[tuple[str, str, str]]:
        """(dataset, split, system) of all segments that a table, a page or a submission shows."""
        asked = [cell for cell in self.judged_cells() if self.localises(cell[2])]
        for section in ("pages", "submissions"):
            entries = self.params[section].values()
            asked += [(e["dataset"], e["split"], e["system"]) for e in entries if self.localises(e["system"])]
        return list(dict.fromkeys(asked))

    def embedded(self) -> list[tuple[str, str]]:
        """(dataset, system) of every embedding that those, and submissions, are made from."""
        found: dict[tuple[str, str], None] = {}

        shown = [(dataset, system) for dataset, _, system in self.cells()]
        submitted = [(entry["dataset"], entry["system"]) for entry in self.params["submissions"].values()]
        shown += [(dataset, system) for dataset, system in submitted if not self.localises(system)]
        for dataset, system in shown:
            made_of = [s for s in sorted(self._made_of(system)) if "rescore" not in self.systems[s]]
            found |= dict.fromkeys((dataset, part) for part in made_of)
        return list(found)

    def queried(self, dataset: str, system: str) -> list[str]:
        found: set[str] = set()
        for where, split, shown in self.cells():
            if where == dataset and self.kind(split) != "video_video" and system in self._made_of(shown):
                bank = self.systems[shown].get("rescore", {}).get("bank", [])
                found |= {split.removeprefix(V2T), *([bank] if isinstance(bank, str) else bank)}
        return sorted(found)

    def _made_of(self, system: str) -> set[str]:
        """A system and those whose embeddings it is made of."""
        entry = self.systems[system]
        rescored = entry.get("rescore", {})
        parts = [*entry.get("combine", {}).get("systems", []), rescored.get("system"), rescored.get("frame_texts")]
        return {system}.union(*(self._made_of(part) for part in parts if part))

    def _detectors(self) -> list[str]:
        """Trained systems that align."""
        entries = [self.systems[system]["align"] for _, _, system in self.localised_cells()]
        return list(dict.fromkeys(entry["detector"] for entry in entries if "detector" in entry))

    def needed_runs(self) -> list[str]:
        """Trained systems that those need, backbones left out."""
        return [s for s in self._trained_needed() if s not in self.trained_backbones]

    def _trained_needed(self) -> list[str]:
        trained = dict.fromkeys(s for _, s in self.embedded() if self.is_trained(s))
        trained |= dict.fromkeys(self._detectors())
        trained |= dict.fromkeys(s for page in self.params["pages"].values() for s in page.get("curves", []))
        waiting = list(trained)
        while waiting:
            system = waiting.pop()
            starts = [self.backbones[b]["system"] for b in self.own_backbones(system) if "system" in self.backbones[b]]
            starts += self.inits(system)
            waiting += [s for s in starts if s not in trained]
            trained |= dict.fromkeys(starts)
        return list(trained)

    def needed_members(self) -> list[tuple[str, str]]:
        """(system, member) of every run: all members of what is embedded or drawn, else those somebody starts from."""
        shown = [s for _, s in self.embedded()] + self._detectors()
        shown += [s for p in self.params["pages"].values() for s in p.get("curves", [])]
        needed = self.needed_runs()
        found = dict.fromkeys((s, m) for s in shown if s in needed for m in self.members(s))
        waiting = list(found)
        while waiting:
            for path in self.train_init(*waiting.pop()):
                system, member = path.split("/")[-3:-1]
                if system not in self.trained_backbones and (system, member) not in found:
                    found[system, member] = None
                    waiting.append((system, member))
        return list(found)

    def needed_datasets(self) -> list[str]:
        """Data sets that those need, with those included that only a backbone trains on."""
        datasets = dict.fromkeys([*(d for d, _ in self.embedded()), *(d for d, _, _ in self.localised_cells())])
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
            for _, s in self.embedded()
            if "text_encoder" in self.systems[s].get("embeddings", {})
        }
        systems = self.beginnings(self.backbones[b]["system"] for b in names if "system" in self.backbones[b])
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
            for expert in self.key_frame_experts(dataset):
                results += self.features(dataset, expert)
        return results + [self.run(s, m) for s in self.needed_backbones(datasets) for m in self.members(s)]

    def systems_results(self) -> list[str]:
        """All results of the stage ``systems``."""
        return [self.run(*member) for member in self.needed_members()] + [self.embedding(*e) for e in self.embedded()]

    def segments_results(self) -> list[str]:
        """All results of the stage ``segments``."""
        results: dict[str, None] = {}
        for dataset, split, system in self.localised_cells():
            listed = self.align_shortlist(dataset, split, system)
            results |= {listed: None} if listed else {}
            for member in self.members(system):
                tuned = self.align_tuned(dataset, system, member)
                results |= {tuned: None} if tuned else {}
                results[self.segments(dataset, split, system, member)] = None
        return list(results)

    def benchmark_results(self) -> list[str]:
        """All results of the stage ``benchmark``."""
        return [
            *(self.ranking(*cell) for cell in self.cells()),
            *(self.metrics(*cell) for cell in self.judged_cells()),
            *(self.table(name) for name in self.tables),
            *(self.page(name) for name in self.params["pages"]),
            *(self.submission(name) for name in self.params["submissions"]),
        ]

    def results(self) -> dict[str, list[str]]:
        """Stage -> all its results."""
        return {
            "data": self.data_results(),
            "systems": self.systems_results(),
            "segments": self.segments_results(),
            "benchmark": self.benchmark_results(),
        }

    def check(self) -> None:
        """Ask for the inputs of every job.

        Raises:
            ValueError: some job would read features that its data set does not list, or members that do not exist.
        """
        datasets = self.needed_datasets()
        for dataset in datasets:
            for passage in self.passes(dataset):
                self.source_features(dataset, passage, "0")
            for expert in self.key_frame_experts(dataset):
                self.key_frames_features(dataset, expert, "0")
        for dataset, _, system in self.localised_cells():
            self.align_features(dataset, system)
        for system in (*self.needed_runs(), *self.needed_backbones(datasets)):
            self.train_features(system)
        for dataset, _, system in self.cells():
            self.rescore_features(dataset, system)
        for dataset, system in self.embedded():
            if "combine" not in self.systems[system]:
                self.embed_features(dataset, system)
            elif self.systems[system]["combine"].get("by_member"):
                for part in self.systems[system]["combine"]["systems"]:
                    if self._has_members(part) and self.members(part) != self.members(system):
                        raise ValueError(
                            f"systems.{system}.combine.by_member: {part!r} has the members {self.members(part)},"
                            f" expected {self.members(system)} as of the first"
                        )
