"""From stored frames to what an image network reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def normalise(
    frames: UInt8[Tensor, "batch height width 3"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch 3 height width"]:
    """``(frames / 255 - mean) / std`` with the channels first; bytes travel to the device, floats are made there."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=frames.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=frames.device)
    return torch.addcmul(shift, frames.float(), scale).permute(0, 3, 1, 2)
