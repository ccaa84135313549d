"""What all commands share: the parameters, limits, and answers that are timed."""

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videomatch.pipeline import params as parameters
from videomatch.pipeline.params import PARAMS
from videomatch.pipeline.plan import Plan

#: results of an answer, and characters of a question, at most
MAX_RESULTS, MAX_CHARACTERS = 1000, 2000


def load_plan(files: Sequence[Path] = (), values: Sequence[str] = ()) -> Plan:
    """The plan of some files (``params.yaml`` by default), each laid over the one before, with values ``KEY=VALUE``."""
    check_project()
    config, read = parameters.load(files or [PARAMS], values)
    options = [f"--configfile {shlex.join(map(str, files))}"] if files else []
    options += [f"--config {shlex.join(values)}"] if values else []
    return Plan(parameters.resolved(config, read), " ".join(options))


def check_project() -> None:
    """Raise a ValueError outside of a project."""
    if not PARAMS.is_file():
        raise ValueError("this needs the parameters, and there is no params.yaml here: go to the project's folder")


@dataclass(kw_only=True)
class Answer:
    """What all answers have: ``notes`` for the user, and ``seconds`` by step with their ``total``."""

    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time spent inside to ``step`` and to the total."""
        started = time.perf_counter()
        yield
        for name in (step, "total"):
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 4)


class Cache:
    """Values in memory, as long as the files that they were made from do not change."""

    def __init__(self) -> None:
        self._cache: dict[tuple[str, ...], tuple[list[Any], Any]] = {}

    def cached(self, sources: Iterable[str], key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """The value of ``make``, cached under ``key`` as long as no file of ``sources`` changes."""
        stats = {path: Path(path).stat() if Path(path).exists() else None for path in sources}
        state = [(path, stat and (stat.st_size, stat.st_mtime_ns, stat.st_ino)) for path, stat in stats.items()]
        found = self._cache.get(key)
        if found is None or found[0] != state:
            self._cache[key] = found = (state, make())
        return found[1]


def check_top(top: int) -> None:
    """Raise a ValueError unless ``top`` results can be asked for."""
    if not 1 <= top <= MAX_RESULTS:
        raise ValueError(f"top = {top}, expected 1 to {MAX_RESULTS}")
