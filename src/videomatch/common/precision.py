"""Precision of floats where it matters."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """``x`` in single precision, or in double if it came so: sums and exponentials need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
