"""Which examples form which batch, and the seeds of everything random: a batch is a function of its key ``(seed, epoch,
step)``, so that it can be sampled ahead in a thread, or again after a kill."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from videomatch.common import distributed
from videomatch.examples import Batch, Examples

Key = tuple[int, ...]


def seed_torch(key: Key) -> None:
    """Seed torch's global generator (dropout) by a key and the rank: processes differ."""
    key = (*key, distributed.rank()) if distributed.rank() else key
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def epoch_batches(examples: Examples, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The numbers of an epoch's examples, batch by batch; an incomplete last batch is dropped."""
    order = examples.epoch(rng)
    return [order[i : i + size] for i in range(0, max(1, len(order) - size + 1), size)]


def even_batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """All of ``order`` in batches of nearly equal length, at most ``size``."""
    return np.array_split(order, max(1, -(-len(order) // size)))


def sampled(examples: Examples, work: Iterable[tuple[np.ndarray, Key]], prefetch: int) -> Generator[Batch]:
    """The batches of ``work`` (numbers of examples, key); a thread samples up to ``prefetch`` of them in advance."""
    if not prefetch:
        for numbers, key in work:
            yield examples.batch(numbers, np.random.default_rng(key))
        return
    pool = ThreadPoolExecutor(1, "batches")
    waiting: deque[Future[Batch]] = deque()
    try:
        for numbers, key in work:
            waiting.append(pool.submit(_pinned, examples, numbers, np.random.default_rng(key)))
            if len(waiting) > prefetch:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pinned(examples: Examples, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
    """A batch, where there is a card in memory from which it is copied while the card computes."""
    batch = examples.batch(numbers, rng)
    return {name: value.pin_memory() for name, value in batch.items()} if torch.cuda.is_available() else batch


def micro_batches(batch: Batch, count: int) -> Iterator[tuple[Batch, float]]:
    """The batch in ``count`` runs of rows (fewer if a process would have no row of one), with their shares of it."""
    size = _rows(batch)
    for first, last in itertools.pairwise(_edges(size, max(1, min(count, size // distributed.size())))):
        yield {name: value[first:last] for name, value in batch.items()}, (last - first) / size


def local_shard(batch: Batch) -> Batch:
    """This process's rows of a batch that all processes have sampled whole."""
    part = local_rows(_rows(batch))
    return {name: value[part] for name, value in batch.items()}


def local_rows(size: int) -> slice:
    """Which of ``size`` rows this process computes."""
    processes = distributed.size()
    if size < processes:
        raise ValueError(f"{size} examples are fewer than the {processes} processes that share them")
    edges = _edges(size, processes)
    return slice(edges[distributed.rank()], edges[distributed.rank() + 1])


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _edges(size: int, count: int) -> Sequence[int]:
    return [round(n * size / count) for n in range(count + 1)]
