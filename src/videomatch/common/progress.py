"""Progress of long stages: a bar on a terminal, and a line in the job's log now and then."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO, TypeVar

from videomatch.common import files

T = TypeVar("T")
Result = TypeVar("Result")
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


def track_calls(
    function: Callable[[T], Result], items: Sequence[T], *, processes: int, chunk: int = 1, label: str = ""
) -> Iterator[Result]:
    """Yield the results of a function of each item, in order; ``processes`` get ``chunk`` items at once each."""
    if processes < 2 or len(items) <= chunk:
        yield from track(map(function, items), total=len(items), label=label)
        return
    with files.workers(processes) as pool:
        yield from track(pool.map(function, items, chunksize=chunk), total=len(items), label=label)
