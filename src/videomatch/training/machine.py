"""What a model runs on: the device, the type that matrices are multiplied in, threads, determinism."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch


def hardware(precision: str) -> tuple[torch.device, torch.dtype]:
    """The device, and the type that matrices are multiplied in."""
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        device = torch.device("cuda")
    else:
        able = torch.cpu.get_capabilities()
        fast = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
        device = torch.device("cpu")
    return device, torch.bfloat16 if precision == "bf16" or (precision == "auto" and fast) else torch.float32


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Inside, torch uses so many threads and only deterministic algorithms."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # a net for mistakes that every new tensor pays for
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
