"""Same-source segments: what ``workflow/rules/segments.smk`` makes."""

from __future__ import annotations

from videomatch.pipeline.plan.data import Json
from videomatch.pipeline.plan.systems import SystemsPlan
from videomatch.pipeline.provenance import MANIFEST
from videomatch.specs.similarity import SimilarityMap


class SegmentsPlan(SystemsPlan):
    """Paths and settings of systems that align videos. A result is one member's: those of the detector that aligns, or
    ``all``."""

    def localises(self, system: str) -> bool:
        """Whether a system finds segments, not embeddings or rankings."""
        return "align" in self.systems[system]

    def tuned(self, dataset: str, system: str, member: str) -> str:
        """The result of ``tune``."""
        return f"{self.root}/tuned/{dataset}/{system}/{member}/{MANIFEST}"

    def segments(self, dataset: str, split: str, system: str, member: str) -> str:
        """The result of ``align``."""
        return f"{self.root}/segments/{dataset}/{split}/{system}/{member}/{MANIFEST}"

    def shortlist(self, dataset: str, split: str, expert: str) -> str:
        """The result of ``shortlist``."""
        return f"{self.root}/shortlists/{dataset}/{split}/{expert}/{MANIFEST}"

    def align_features(self, dataset: str, system: str) -> list[str]:
        """Features that a system compares."""
        found = [path for expert in self._compared(system) for path in self.features(dataset, expert)]
        return list(dict.fromkeys(found))

    def _compared(self, system: str) -> list[str]:
        """Whose frames are held against each other."""
        entry = self.systems[system]["align"]
        return [entry[key] for key in ("expert", "query_expert") if key in entry]

    def align_reads(self, system: str) -> dict[str, list[str]]:
        """Which files ``tune`` and ``align`` read."""
        tables = ["splits.parquet", "relevance.parquet", "segments.parquet"]
        return {"corpus": tables, "features": [f"{expert}/*" for expert in self._compared(system)]}

    def align_run(self, system: str, member: str) -> str | None:
        """The detector's run."""
        detector = self.systems[system]["align"].get("detector")
        return self.run(detector, member) if detector else None

    def align_tuned(self, dataset: str, system: str, member: str) -> str | None:
        """What says how to align, where that is tuned."""
        return self.tuned(dataset, system, member) if "tune" in self.systems[system]["align"] else None

    def align_shortlist(self, dataset: str, split: str, system: str) -> str | None:
        """The pairs to align, where these are not the judged ones."""
        entry = self.systems[system]["align"]
        return self.shortlist(dataset, split, entry["expert"]) if "shortlist" in entry else None

    def align_modules(self, system: str) -> list[str]:
        """Modules that ``tune`` and ``align`` load by name."""
        entry = self.systems[system]["align"]
        if "detector" in entry:
            return self.model_modules(entry["detector"])
        return [f"aligners.{entry['aligner']}"]

    def tune_settings(self, system: str) -> Json:
        """What ``tune`` sees."""
        entry = self.systems[system]["align"]
        aligner = {"aligner": entry["aligner"]} if "aligner" in entry else {}
        return {"similarity_map": SimilarityMap.read(entry).settings()} | aligner | entry["tune"]

    def align_settings(self, split: str, system: str) -> Json:
        """What ``align`` sees."""
        entry = self.systems[system]["align"]
        given = {k: entry[k] for k in ("score",) if k in entry}
        if "tune" not in entry:
            given["similarity_map"] = SimilarityMap.read(entry).settings()
            given |= {k: entry[k] for k in ("aligner", "options") if k in entry}
        top = {"top": entry["shortlist"]["top"]} if "top" in entry.get("shortlist", {}) else {}
        return {"split": split} | given | top

    def shortlist_settings(self, dataset: str, split: str, expert: str) -> Json:
        """What ``shortlist`` sees: the longest list that a system asks for."""
        asked = [
            entry["align"]["shortlist"]
            for entry in self.systems.values()
            if entry.get("align", {}).get("expert") == expert and "shortlist" in entry["align"]
        ]
        given = {k: v for one in asked for k, v in one.items()}
        tops = [one["top"] for one in asked if "top" in one]
        return {"split": split, "expert": expert, "seed": self.seed} | given | ({"top": max(tops)} if tops else {})
