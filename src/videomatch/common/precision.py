"""What torch computes on and how exactly: device, type of matrix products, threads, determinism."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor


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


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Within the context torch uses ``threads`` threads and only deterministic algorithms."""
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
