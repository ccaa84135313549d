"""What every answer at a door can do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any


def counted(number: int, what: str) -> str:
    """``1 video``, ``2 videos``."""
    return f"{number} {what}{'s' * (number != 1)}"


@dataclass
class Answered:
    """An answer that counts where the time went, in ``seconds``."""

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the time inside for ``what``, and for all."""
        started = time.perf_counter()
        yield
        seconds: dict[str, float] = vars(self)["seconds"]
        for name in (what, "total"):
            seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - started, 4)
