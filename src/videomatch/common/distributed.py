"""Several processes that train one model: what they tell each other, and how they are started.

Every process holds the whole model and computes some rows of each batch. What an objective needs of the others' rows it
asks for with :func:`everyone`; gradients are added up by the loop. In a single process everything here is the identity,
so models, objectives and the loop say it once and know no difference. Processes talk through ``torch.distributed``:
gloo on the CPU, NCCL with one GPU a process.

Collective calls have to be made by all processes in the same order, and so have their backward passes: an objective
that asked for :func:`everyone` brings the answer into its loss even where its own share is empty (times 0).
"""

from __future__ import annotations

import datetime
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException, spawn

log = logging.getLogger(__name__)

#: bytes of gradients that travel in one message
BUCKET_BYTES = 64 << 20
#: how long a process waits for the others (the first validation may be long)
PATIENCE = datetime.timedelta(hours=2)
BACKEND = "cpu:gloo,cuda:nccl"


def size() -> int:
    """How many processes train together; 1 outside a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0. Process 0 writes results, states and logs."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_size() -> int:
    """How many of them run on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() and "LOCAL_WORLD_SIZE" in os.environ else size()


def everyone(x: Tensor) -> Tensor:
    """The rows of all processes in rank order: ``(B, …)`` becomes ``(sum of B, …)``; row counts may differ, and be 0.

    Differentiable: the gradient of a row is the sum over all processes' losses, so all of them have to reach it (see
    the module's docstring). ``x`` itself in a single process.
    """
    return _Everyone.apply(x) if size() > 1 else x  # pyright: ignore[reportReturnType]


def earlier(x: Tensor) -> int:
    """How many rows the processes before this one have: row ``i`` of ``x`` is row ``earlier(x) + i`` of
    ``everyone(x)``."""
    return sum(_counts(x)[: rank()]) if size() > 1 else 0


def _counts(x: Tensor) -> list[int]:
    """Rows of every process."""
    counts = torch.zeros(size(), dtype=torch.int64, device=x.device)
    counts[rank()] = len(x)
    dist.all_reduce(counts)
    return counts.tolist()


class _Everyone(torch.autograd.Function):
    """Gathers rows padded to the longest process's count; backwards, adds up the gradients and keeps its own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        counts = _counts(x)
        ctx.first, ctx.last = sum(counts[: rank()]), sum(counts[: rank() + 1])
        sent = x.contiguous().view(torch.uint8) if x.dtype == torch.bool else x.contiguous()
        padded = sent.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = sent
        received = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(received, padded)
        rows = torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])
        return rows.view(torch.bool) if x.dtype == torch.bool else rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        total = gradient.to(torch.float32 if gradient.dtype.itemsize < 4 else gradient.dtype, copy=True)
        total = total.contiguous()
        dist.all_reduce(total)
        return total[ctx.first : ctx.last].to(gradient.dtype)


def total(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in place; without gradient."""
    if size() > 1:
        dist.all_reduce(x)
    return x


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Add up gradients over all processes. A parameter without a gradient in all of them stays without one."""
    if size() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    for bucket in _buckets(trained):
        # in front of the gradients: which parameters have one here
        present = torch.tensor([p.grad is not None for p in bucket], dtype=bucket[0].dtype, device=bucket[0].device)
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket]
        flat = torch.cat([present, *parts])
        dist.all_reduce(flat)
        sums = flat[len(bucket) :].split([p.numel() for p in bucket])
        for p, known, gradient in zip(bucket, flat[: len(bucket)].tolist(), sums, strict=True):
            p.grad = gradient.view_as(p).clone() if known else None


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Neighbours of one type, up to so many bytes together."""
    bucket: list[nn.Parameter] = []
    used = 0
    for p in parameters:
        if bucket and (p.dtype != bucket[0].dtype or used + p.nbytes > BUCKET_BYTES):
            yield bucket
            bucket, used = [], 0
        bucket.append(p)
        used += p.nbytes
    if bucket:
        yield bucket


def average_norms(model: nn.Module) -> None:
    """Average the running statistics of batch norms over all processes, so that their models stay the same."""
    if size() == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            for statistics in (module.running_mean, module.running_var):
                if statistics is not None:
                    dist.all_reduce(statistics)
                    statistics /= size()


def barrier() -> None:
    """Wait until all processes are here."""
    if size() > 1:
        dist.barrier()


# ---------------------------------------------------------------------------------------------------------- starting


def launched() -> bool:
    """Whether torchrun, accelerate or the like started this process as one of several."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


@contextmanager
def group() -> Iterator[None]:
    """Inside, this process belongs to the group of those that were launched with it; see :func:`launched`."""
    _choose_gpu(int(os.environ.get("LOCAL_RANK", os.environ["RANK"])))
    dist.init_process_group(_backend(), timeout=PATIENCE)
    if rank():
        logging.getLogger().setLevel(logging.WARNING)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _backend() -> str:
    return BACKEND if torch.cuda.is_available() else "gloo"


def _choose_gpu(local: int) -> None:
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise ValueError(f"process {local + 1} has no GPU: there are {torch.cuda.device_count()}, one a process")
        torch.cuda.set_device(local)


def start(function: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Call ``function(*arguments)`` in so many new processes on this machine, as one group; returns when all are done.

    They end with this process, and all of them when one fails.

    Args:
        function: of a module's top level.
        processes: how many.
        arguments: what can be sent to a process.

    Raises:
        RuntimeError: one of them failed; the message is its error, and the log has its traceback.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise ValueError(f"{processes} processes need a GPU each; there are {torch.cuda.device_count()}")
    # the store lives in this process: no file and no port number to agree on
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)  # pyright: ignore[reportPrivateImportUsage]
    log.info("starting %d processes", processes)
    try:
        spawn(_process, (processes, store.port, function, arguments), nprocs=processes, daemon=True)
    except ProcessException as error:  # it raised, or it was killed
        log.error("%s", error)
        reason = str(error).strip().rpartition("\n")[2]
        raise RuntimeError(f"process {error.error_index + 1} of {processes}: {reason}") from None


def _process(local: int, processes: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    _end_with_parent()
    level = logging.INFO if local == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    logging.captureWarnings(True)
    _choose_gpu(local)
    store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=PATIENCE)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(_backend(), store=store, rank=local, world_size=processes, timeout=PATIENCE)
    try:
        function(*arguments)
    finally:
        dist.destroy_process_group()


def _end_with_parent() -> None:
    """Stop this process when the one that started it is gone, killed or not."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(143)

    threading.Thread(target=watch, daemon=True).start()
