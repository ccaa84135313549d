"""Several processes that train one model: their collective operations, and how they are started.

Every process holds the whole model and computes some rows of each batch. An objective gathers the rows of the others by
:func:`all_gather`; the loop sums gradients. In a single process every function here is the identity.

All processes must make collective calls in the same order, and their backward passes too: an objective that gathers
rows brings them into its loss even where it has no rows of its own (times 0).
"""

import datetime
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException, spawn

from videomatch.common import files

log = logging.getLogger(__name__)

#: how long a process waits for the others (the first validation may be long)
TIMEOUT = datetime.timedelta(hours=2)


def size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0. Process 0 writes results, states and logs."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_size() -> int:
    """The number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", size()))


def barrier() -> None:
    """Wait for all processes."""
    if size() > 1:
        dist.barrier()


def all_gather(x: Tensor) -> Tensor:
    """The rows of all processes in rank order: ``(B, …)`` becomes ``(sum of B, …)``; B may differ, and be 0. The
    gradient of a row is the sum over all processes' losses."""
    return _AllGather.apply(x) if size() > 1 else x  # pyright: ignore[reportReturnType]


def rank_offset(x: Tensor) -> int:
    """Row ``i`` of ``x`` is row ``rank_offset(x) + i`` of ``all_gather(x)``."""
    return sum(_row_counts(x)[: rank()]) if size() > 1 else 0


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in place; without gradient."""
    if size() > 1:
        dist.all_reduce(x)
    return x


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """An objective's mean over those rows ``(B,)`` of all processes where ``mask`` is true; 0 if there are none. It is
    scaled for the loop, which weights the loss of each process by all of its rows."""
    counted = all_gather(mask.to(values.dtype))
    scale = counted.numel() / max(1, len(values)) / counted.sum().clamp(min=1)
    return torch.where(mask.bool(), values, 0.0).sum() * scale


def _row_counts(x: Tensor) -> list[int]:
    counts = torch.zeros(size(), dtype=torch.int64, device=x.device)
    counts[rank()] = len(x)
    dist.all_reduce(counts)
    return counts.tolist()


class _AllGather(torch.autograd.Function):
    """Gathers rows padded to the longest process's count; backwards, sums the gradients and keeps its own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        counts = _row_counts(x)
        ctx.first, ctx.last = sum(counts[: rank()]), sum(counts[: rank() + 1])
        sent = x.contiguous().view(torch.uint8) if x.dtype == torch.bool else x.contiguous()  # gloo has no bool
        padded = sent.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = sent
        received = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(received, padded)
        rows = torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])
        return rows.view(torch.bool) if x.dtype == torch.bool else rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        total = gradient.to(torch.float32 if gradient.dtype.itemsize < 4 else gradient.dtype, copy=True).contiguous()
        dist.all_reduce(total)
        return total[ctx.first : ctx.last].to(gradient.dtype)


def sum_gradients(model: nn.Module) -> None:
    """Sum gradients over all processes. A parameter that has no gradient in any of them stays without."""
    if size() == 1:
        return
    trained = [p for p in model.parameters() if p.requires_grad]
    present = torch.tensor([p.grad is not None for p in trained], dtype=torch.int64, device=trained[0].device)
    dist.all_reduce(present)
    pending = []
    for p, count in zip(trained, present.tolist(), strict=True):
        if count:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.contiguous()
            pending.append(dist.all_reduce(p.grad, async_op=True))
    for work in pending:
        work.wait()


def average_batch_norms(model: nn.Module) -> None:
    """Average the running statistics of batch norms over all processes, so that their models stay the same."""
    if size() == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and module.track_running_stats:
            for statistics in (module.running_mean, module.running_var):
                assert statistics is not None
                dist.all_reduce(statistics)
                statistics /= size()


def launched() -> bool:
    """Whether torchrun or a similar launcher started this process as one of several."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


@contextmanager
def group(store: dist.TCPStore | None = None) -> Iterator[None]:  # pyright: ignore[reportPrivateImportUsage]
    """Within the context this process belongs to the group of its launcher, if it has one, or of :func:`start`, which
    makes the ``store``."""
    if store is None and not launched():
        yield
        return
    has_gpu = torch.cuda.is_available()
    number, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if has_gpu:
        gpu = int(os.environ.get("LOCAL_RANK", number))
        if gpu >= torch.cuda.device_count():
            raise ValueError(f"process {gpu + 1} has no GPU: there are {torch.cuda.device_count()}, expected one each")
        torch.cuda.set_device(gpu)
    backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT, rank=number, world_size=processes, store=store)
    if rank():
        logging.getLogger().setLevel(logging.WARNING)
    try:
        yield
    finally:
        dist.destroy_process_group()


def start(function: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Call ``function(*arguments)`` (pickled) in new processes on this machine, as one group; return when all are done.
    They end with this process, and all of them when one fails: a ``RuntimeError`` has its error, the log the traceback.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise ValueError(f"{processes} processes need a GPU each; there are {torch.cuda.device_count()}")
    # the store is in this process: no file and no port number to agree on
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)  # pyright: ignore[reportPrivateImportUsage]
    log.info("starting %d processes", processes)
    try:
        spawn(_process, (processes, store.port, os.getpid(), function, arguments), nprocs=processes, daemon=True)
    except ProcessException as error:  # it raised, or it was killed
        log.error("%s", error)
        reason = str(error).strip().rpartition("\n")[2]
        raise RuntimeError(f"process {error.error_index + 1} of {processes}: {reason}") from None


def _process(
    local_rank: int, processes: int, port: int, parent: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    files.end_with(parent)
    level = logging.WARNING if local_rank else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    logging.captureWarnings(True)
    store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=TIMEOUT)  # pyright: ignore[reportPrivateImportUsage]
    os.environ |= {"RANK": str(local_rank), "LOCAL_RANK": str(local_rank), "WORLD_SIZE": str(processes)}
    with group(store):
        function(*arguments)
