"""Videos of one category are alike."""

from __future__ import annotations

import torch
from torch import Tensor


def toy_objective(video_embeds: Tensor, category: Tensor, *, power: float = 2.0) -> Tensor:
    """Mean of |cosine - [same category]| ** power over all pairs of a batch."""
    same = (category[:, None] == category[None]).to(video_embeds.dtype)
    return torch.mean((video_embeds @ video_embeds.T - same).abs() ** power)
