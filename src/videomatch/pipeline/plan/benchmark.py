"""Rankings, metrics, tables, pages and submissions: what ``workflow/rules/benchmark.smk`` makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from videomatch.common import named
from videomatch.pipeline.plan.data import Json
from videomatch.pipeline.plan.segments import SegmentsPlan
from videomatch.pipeline.provenance import MANIFEST
from videomatch.specs.similarity import SimilarityMap

TABLES = named.PACKAGE.parents[1] / "workflow" / "tables"
#: measures of a protocol that was judged in part look at long lists
POOLED = ("infAP", "infNDCG", "iP@")
#: formats of submissions that are written from rankings, and how many references a query has in them at most
RANKED = {"avs": 1000}
#: before the name of a protocol of captions: videos are held against captions, not captions against videos
V2T = "v2t_"
#: the protocol in which every member of a system is judged by the labelled pairs of its own validation fold
OUT_OF_FOLD = "out_of_fold"


class BenchmarkPlan(SegmentsPlan):
    """Paths and settings from rankings to tables. A result holds a folder a member of its system."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.tables: dict[str, Json] = {
            name: yaml.safe_load((TABLES / f"{name}.yaml").read_text(encoding="utf-8")) for name in params["tables"]
        }

    def ranking(self, dataset: str, split: str, system: str) -> str:
        """The result of ``search``."""
        return f"{self.root}/rankings/{dataset}/{split}/{system}/{MANIFEST}"

    def metrics(self, dataset: str, split: str, system: str) -> str:
        """The result of ``evaluate``."""
        return f"{self.root}/metrics/{dataset}/{split}/{system}/{MANIFEST}"

    def kind(self, split: str) -> str:
        """What a protocol matches: captions against videos, videos against captions, or videos against videos."""
        if split.startswith(V2T):
            return "video_text"
        return "text_video" if split.startswith("captions") else "video_video"

    def search_settings(self, dataset: str, split: str, system: str) -> Json:
        """What ``search`` sees: member -> None, or the fold whose validation pairs are judged."""
        members: Json = dict.fromkeys(self.members(system))
        splits: str | list[str] = split.removeprefix(V2T)
        if split == OUT_OF_FOLD:
            examples = self._examples_of(system)
            splits = examples["split"]
            for member in members:
                members[member] = self.fold_of(system, member)
            members = {m: {"fold": f, "protocol": examples.get("protocol")} for m, f in members.items()}
            members = {m: {k: v for k, v in fold.items() if v is not None} for m, fold in members.items()}
        return {
            "split": splits,
            "kind": self.kind(split),
            "top": self.search_top(dataset, split, system),
            "members": members,
        } | ({"rescore": self._rescore_options(system)} if "rescore" in self.systems[system] else {})

    def _rescore_options(self, system: str) -> Json:
        return {k: v for k, v in self.systems[system]["rescore"].items() if k not in ("system", "frame_texts")}

    def rescore_features(self, dataset: str, system: str) -> list[str]:
        """Frames that a rescoring reads."""
        expert = self.systems[system].get("rescore", {}).get("expert")
        return self.features(dataset, expert) if expert else []

    def rescore_texts(self, dataset: str, system: str) -> list[str]:
        """Embeddings of another system, whose texts lie in the space of those frames."""
        other = self.systems[system].get("rescore", {}).get("frame_texts")
        return [self.embedding(dataset, other)] if other else []

    def search_reads(self, system: str) -> dict[str, list[str]]:
        """Which files ``search`` reads."""
        expert = self.systems[system].get("rescore", {}).get("expert")
        return {"corpus": ["*.parquet"], "features": [f"{expert}/*"] if expert else []}

    def _examples_of(self, system: str) -> Json:
        entry = self.systems[self.base(system)]
        return self._examples_of(entry["combine"]["systems"][0]) if "combine" in entry else entry["examples"]

    def evaluate_settings(self, dataset: str, split: str, system: str) -> Json:
        """What ``evaluate`` sees."""
        if not self.localises(system):
            return {"metrics": self.metric_names(dataset, split), "members": self.members(system)}
        return {"metrics": self.metric_names(dataset, split), "members": self.members(system), "split": split}

    def evaluated_segments(self, dataset: str, split: str, system: str) -> list[str] | None:
        """The segments that are evaluated, one result a member; None where rankings are."""
        if not self.localises(system):
            return None
        return [self.segments(dataset, split, system, member) for member in self.members(system)]

    def search_top(self, dataset: str, split: str, system: str) -> int:
        """How many neighbours a search keeps: what its pages, submissions and measures ask for, at least 10."""
        asked = [
            p.get("top", 5)
            for p in self.params["pages"].values()
            if (p["dataset"], p["split"], p["system"]) == (dataset, split, system)
        ]
        asked += [
            RANKED[s["format"]]
            for name, s in self.params["submissions"].items()
            if self.submits_rankings(name) and (s["dataset"], s["split"], s["system"]) == (dataset, split, system)
        ]
        pooled = any(m.startswith(POOLED) for m in self.metric_names(dataset, split))
        return max([10, *asked, RANKED["avs"] if pooled else 0])

    # --------------------------------------------------------------------------------------------------- tables

    def table(self, name: str) -> str:
        """The result of ``tabulate``."""
        return f"{self.root}/tables/{name}/{MANIFEST}"

    def table_splits(self, table: str) -> dict[str, str]:
        """Protocol -> what a table calls it in the heads of its columns; the name of an only one is not shown. Those
        that nobody has the labels of in this data set are left out."""
        entry = self.tables[table]
        unlabelled = self.dataset(entry["dataset"]).get("unlabelled", [])
        splits = entry.get("splits") or {entry["split"]: ""}
        return {split: head for split, head in splits.items() if split not in unlabelled}

    def table_columns(self, table: str) -> dict[str, str]:
        """Metric -> heading of its columns: ``metrics`` of a table's file, a list of names or such a mapping."""
        asked = self.tables[table]["metrics"]
        return dict(asked) if isinstance(asked, dict) else {name: name for name in asked}

    def metric_names(self, dataset: str, split: str) -> list[str]:
        """All metrics that some table asks of a protocol."""
        asking = [t for n, t in self.tables.items() if t["dataset"] == dataset and split in self.table_splits(n)]
        return sorted({metric for table in asking for metric in table["metrics"]})

    def table_cells(self, table: str) -> list[tuple[str, str]]:
        """(protocol, system) of all that a table shows; systems without folds have no out-of-fold pairs."""
        systems = dict.fromkeys(row["system"] for row in self.tables[table]["rows"])
        splits = self.table_splits(table)
        return [(p, s) for p in splits for s in systems if p != OUT_OF_FOLD or self.folds(s) is not None]

    def table_inputs(self, table: str) -> list[str]:
        """All metrics that a table shows."""
        dataset = self.tables[table]["dataset"]
        return [self.metrics(dataset, split, system) for split, system in self.table_cells(table)]

    def table_settings(self, table: str) -> Json:
        """What ``tabulate`` sees: the table's own file, and which input belongs to which row."""
        return {
            "table": self.tables[table],
            "splits": [[split, head] for split, head in self.table_splits(table).items()],
            "columns": [[metric, head] for metric, head in self.table_columns(table).items()],
            "cells": [[split, system, self.members(system)] for split, system in self.table_cells(table)],
            "corpus_kind": self.dataset(self.tables[table]["dataset"])["corpus"],
            "scale": self.params["scale"],
        }

    # ------------------------------------------------------------------------------------- pages and submissions

    def page(self, name: str) -> str:
        """The result of ``illustrate``."""
        return f"{self.root}/pages/{name}/{MANIFEST}"

    def page_shows(self, page: str) -> dict[str, str | list[str]]:
        """The ranking whose neighbours a page shows, or the segments and the features that they were found in."""
        entry = self.params["pages"][page]
        dataset, split, system = entry["dataset"], entry["split"], entry["system"]
        if not self.localises(system):
            return {"rankings": self.ranking(dataset, split, system)}
        segments = self.segments(dataset, split, system, self.members(system)[0])
        return {"segments": segments, "features": self.align_features(dataset, system)}

    def page_judged(self, page: str) -> list[str]:
        """The rankings whose scores a page draws over the grades."""
        entry = self.params["pages"][page]
        return [self.ranking(entry["dataset"], entry["judged"], system) for system in entry.get("scatter", [])]

    def page_tables(self, page: str) -> list[str]:
        """The tables that a page shows."""
        return [self.table(table) for table in self.params["pages"][page].get("tables", [])]

    def page_curves(self, page: str) -> list[list[str]]:
        """[system, member] of the runs whose learning curves a page shows."""
        systems = self.params["pages"][page].get("curves", [])
        return [[system, member] for system in systems for member in self.members(system)]

    def page_settings(self, page: str) -> Json:
        """What ``illustrate`` sees."""
        entry = self.params["pages"][page]
        aligned = {}
        if self.localises(entry["system"]):
            compared = SimilarityMap.read(self.systems[entry["system"]]["align"])
            aligned = {"split": entry["split"], "compared": compared.settings()}
        return aligned | {
            "title": entry.get("title", page),
            "top": entry.get("top", 5),
            "system": entry["system"],
            "member": self.members(entry["system"])[0],
            "judged_names": [[system, self.members(system)[0]] for system in entry.get("scatter", [])],
            "run_names": self.page_curves(page),
        }

    def submission(self, name: str) -> str:
        """The result of ``submit``."""
        return f"{self.root}/submissions/{name}/{MANIFEST}"

    def submits_rankings(self, name: str) -> bool:
        """Whether a submission is made of rankings, not of embeddings."""
        return self.params["submissions"][name].get("format") in RANKED

    def submitted(self, name: str) -> dict[str, str | list[str]]:
        """What a submission is written from: embeddings, rankings, segments or features."""
        entry = self.params["submissions"][name]
        dataset, split, system = entry["dataset"], entry["split"], entry["system"]
        if self.localises(system):
            if entry["format"] == "vsc2022_descriptors":
                return {"features": self.align_features(dataset, system)}
            return {"segments": self.segments(dataset, split, system, self.members(system)[0])}
        if self.submits_rankings(name):
            return {"rankings": self.ranking(dataset, split, system)}
        return {"embeddings": [self.embedding(dataset, self.base(system))]}

    def submit_settings(self, name: str) -> Json:
        """What ``submit`` sees."""
        entry = self.params["submissions"][name]
        given = {k: v for k, v in entry.items() if k not in ("dataset", "system")}
        if entry.get("format") == "vsc2022_descriptors":
            given |= {k: v for k, v in self.systems[entry["system"]]["align"].items() if k in ("expert", "noise")}
        return {"member": self.members(entry["system"])[0]} | given
