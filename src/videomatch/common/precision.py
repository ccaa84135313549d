"""What torch computes on and how exactly: device, type of matrix products, threads, determinism."""

import contextlib
import ctypes
import functools
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: rows to a multiple of which matrices are filled up, see :class:`_FastOnCpu`
ROWS = 64
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # malloc.h


def default_device() -> torch.device:
    """The GPU of this process, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively; an emulation is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def at_least_single(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if that is its type: sums and exponentials need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def running_sum(x: Tensor, dim: int, *, multiplies: bool | None = None) -> Tensor:
    """Sums up to each place of a dimension. A card has no deterministic kernel for them, so there (or if it
    ``multiplies``) it is a product with a triangle of ones."""
    if not (x.device.type != "cpu" if multiplies is None else multiplies):
        return x.cumsum(dim)
    count = x.shape[dim]
    with torch.autocast(x.device.type, enabled=False):
        sums = x.movedim(dim, -1) @ torch.ones(count, count, dtype=x.dtype, device=x.device).triu()
    return sums.movedim(-1, dim)


@contextlib.contextmanager
def autocast(device: torch.device, *, bf16: bool) -> Iterator[None]:
    """Within the context matrix products are of bfloat16, if ``bf16``."""
    with (
        torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        _FastOnCpu() if bf16 and device.type == "cpu" else contextlib.nullcontext(),
    ):
        yield


def _single(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.is_floating_point() else x


def filled_up(rows: Tensor) -> Tensor:
    """Rows, where a CPU multiplies bfloat16 with zeros up to a multiple of :data:`ROWS`: several linear layers in a row
    need not each fill them up."""
    missing = -len(rows) % ROWS if rows.device.type == "cpu" and torch.is_autocast_enabled("cpu") else 0
    return F.pad(rows, (0, 0, 0, missing)) if missing else rows


class _FastOnCpu(TorchFunctionMode):
    """Lets oneDNN multiply bfloat16 where that is faster than float32 (CPU time of forward and backward, one thread).

    It compiles a product for every new shape, in some 10 ms, and packed sequences have another number of rows in every
    batch: zeros fill the rows of linear layers up, so that shapes recur (layers of 96 and 384 on 800 to 1,000 rows:
    28 ms as it is, 4 filled up, 7 in float32; of 256 and 1,024 on 2,000 rows: 83, 25 and 64). Attention is computed in
    float32 (32 examples of 34 rows, four heads: 17 ms in bfloat16, 5 in float32; 16 of 197, twelve heads: 201 and 165).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and args[0].dim() == 2 and len(args[0]) % ROWS:
            rows, *others = args
            return func(filled_up(rows), *others, **kwargs)[: len(rows)]
        if func is F.scaled_dot_product_attention:
            with torch.autocast("cpu", enabled=False):
                return func(*map(_single, args), **{name: _single(value) for name, value in kwargs.items()})
        return func(*args, **kwargs)


@functools.cache
def keep_memory() -> None:
    """Let glibc's malloc keep freed memory; nothing happens elsewhere. Call it before the first large allocation.

    By default each large block is mapped and unmapped afresh, and page faults cost an image network half its time on a
    CPU (EfficientNet-B3, batches of 16, two cores: 12.7 images per second before, 25.7 after).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20), (M_ARENA_MAX, 1)):
            libc.mallopt(name, value)


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Within the context torch uses ``threads`` threads and only deterministic algorithms; memory is kept (see
    :func:`keep_memory`)."""
    keep_memory()
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # filling every new tensor only helps to find mistakes, and takes time
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
