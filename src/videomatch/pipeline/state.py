"""Which results of some parameters are current before anything runs: Snakemake is told of what has to be made alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from videomatch.common.digests import tree_digest
from videomatch.pipeline import provenance, rules
from videomatch.pipeline.plan import Plan

#: why a result may have to be made that is current itself
AGAIN = "an input is made again"


class State:
    """The judgement of results, each with all that it is made from. What it has looked at it does not look at again.

    The tables of a data set that are there and have to be made again are made at once, by ``make`` (whether it could):
    which shards differ shows in them alone, and until then a new video would start the jobs of all shards. ``tidy`` is
    called once with each folder of results before it looks at them.
    """

    def __init__(
        self, plan: Plan, make: Callable[[str], bool] = lambda _: False, tidy: Callable[[Path], None] = lambda _: None
    ) -> None:
        self._plan, self._make, self._tidy = plan, make, functools.cache(tidy)
        self._reasons: dict[str, str | None] = {}
        outputs = functools.cache(provenance.outputs)
        self._look = functools.cache(lambda path, reads: provenance.input_digest(path, reads, outputs))
        self._content = functools.cache(tree_digest)

    def why(self, result: str) -> str | None:
        """Why a result has to be made, in words; None where it is current, and with it all that it is made from. Marks
        it for Snakemake (:func:`videomatch.pipeline.provenance.mark`)."""
        if result not in self._reasons:
            self._tidy(Path(result).parent.parent)
            job = rules.job_of(self._plan, result)
            above = [path for path in job.results if self.why(path) is not None]
            content = job.request(self._content)
            others = rules.together(self._plan, result)[1:]
            settings = content | ({"together": others} if others else {})
            reason = provenance.mark(Path(result), settings, self._look)
            is_ready = job.stage == "prepare" and not above and Path(result).exists()
            if reason is not None and is_ready and self._make(result):
                reason = provenance.mark(Path(result), settings, self._look)
            self._reasons[result] = reason or (AGAIN if above else None)
        return self._reasons[result]

    def made_with(self, result: str) -> dict[str, str]:
        """Result -> why, of those that the job which Snakemake knows by a result has to make; marks this one."""
        reasons = {path: self.why(path) for path in rules.together(self._plan, result)}
        if any(reasons.values()):
            provenance.outdate(Path(result))
        return {path: reason for path, reason in reasons.items() if reason is not None}

    def wanted(self, results: Iterable[str]) -> list[str]:
        """The results by which Snakemake knows the jobs that make those of some which are not current."""
        return list(dict.fromkeys(rules.first(self._plan, path) for path in results if self.why(path) is not None))
