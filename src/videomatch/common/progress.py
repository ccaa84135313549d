"""Progress of long stages: a bar on a terminal, and a line in the job's log now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)

#: seconds between two lines in the log
EVERY = 30.0

#: where the bar is shown; a job that writes its standard error to a log sets it
terminal: TextIO = sys.stderr


def track(items: Iterable[T], *, total: int | None = None, label: str = "") -> Iterator[T]:
    """Yield ``items``; show a bar on standard error where that is a terminal, and log how far it is every 30 s."""
    from tqdm import tqdm  # here: a command that only asks another process starts without it

    if total is None and hasattr(items, "__len__"):
        total = len(items)  # pyright: ignore[reportArgumentType]
    started = logged = time.monotonic()
    bar = tqdm(items, total=total, desc=label, file=terminal, disable=None, leave=False)
    for done, item in enumerate(bar, 1):
        yield item
        if time.monotonic() - logged > EVERY:
            logged = time.monotonic()
            log.info("%s: %d of %s, %.1f/s", label, done, total or "?", done / (logged - started))
