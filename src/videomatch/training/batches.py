"""Which examples come when, and what everything random is drawn from.

No generator has a state that outlives a batch: a batch is a function of its key ``(seed, epoch, step)``, so it can be
drawn ahead in a thread, or again after a kill, and is the same.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from videomatch.common import distributed
from videomatch.examples import Batch, Examples

Key = tuple[int, ...]


def seed_torch(key: Key) -> None:
    """Set torch's global generator (dropout) from a key; every process draws something of its own."""
    key = (*key, distributed.rank()) if distributed.rank() else key
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def batches(examples: Examples, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The numbers of an epoch's examples, batch by batch, without an incomplete last one."""
    order = examples.epoch(rng)
    return [order[i : i + size] for i in range(0, max(1, len(order) - size + 1), size)]


def evenly(order: np.ndarray, size: int) -> list[np.ndarray]:
    """All of ``order`` in batches of nearly equal length, at most ``size``."""
    return np.array_split(order, max(1, -(-len(order) // size)))


def drawn(examples: Examples, work: Iterable[tuple[np.ndarray, Key]], ahead: int) -> Generator[Batch]:
    """The batches of ``work`` (numbers of examples, key), up to ``ahead`` of them drawn in advance by a thread."""
    if not ahead:
        for numbers, key in work:
            yield examples.batch(numbers, np.random.default_rng(key))
        return
    pool = ThreadPoolExecutor(1, "batches")
    waiting: deque[Future[Batch]] = deque()
    try:
        for numbers, key in work:
            waiting.append(pool.submit(examples.batch, numbers, np.random.default_rng(key)))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def pieces(batch: Batch, count: int) -> Iterator[tuple[Batch, float]]:
    """The batch in ``count`` runs of rows, each with its share of the examples; fewer, if otherwise a process would be
    left without a row of a piece."""
    size = rows(batch)
    count = max(1, min(count, size // distributed.size()))
    for first, last in itertools.pairwise(_edges(size, count)):
        yield {name: value[first:last] for name, value in batch.items()}, (last - first) / size


def own(batch: Batch) -> Batch:
    """This process's rows of a batch that every process has drawn whole."""
    part = own_rows(rows(batch))
    return {name: value[part] for name, value in batch.items()}


def own_rows(size: int) -> slice:
    """Which of so many rows this process computes.

    Raises:
        ValueError: there are fewer rows than processes.
    """
    processes = distributed.size()
    if size < processes:
        raise ValueError(f"{size} examples are fewer than the {processes} processes that share them")
    edges = _edges(size, processes)
    return slice(edges[distributed.rank()], edges[distributed.rank() + 1])


def rows(batch: dict[str, Tensor]) -> int:
    """How many examples a batch holds."""
    return len(next(iter(batch.values())))


def _edges(size: int, count: int) -> Sequence[int]:
    return [round(n * size / count) for n in range(count + 1)]
