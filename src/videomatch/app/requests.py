"""What all requests to the app share: limits, and answers that are timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

#: results of an answer
MAX_RESULTS = 1000
#: characters of a question
MAX_CHARACTERS = 2000


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


def check_top(top: int) -> None:
    """Raise a ValueError unless ``top`` results can be asked for."""
    if not 1 <= top <= MAX_RESULTS:
        raise ValueError(f"top = {top}, expected 1 to {MAX_RESULTS}")


def count(number: int, what: str) -> str:
    """``1 video``, ``2 videos``."""
    return f"{number} {what}{'s' * (number != 1)}"
