"""What several models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

#: dimensions of an attention head
HEAD = 32


def normalise(
    frames: UInt8[Tensor, "batch height width 3"],
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
    std: Sequence[float] = IMAGENET_DEFAULT_STD,
) -> Float[Tensor, "batch 3 height width"]:
    """``(frames / 255 - mean) / std``, channels first, computed on the device of the bytes."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=frames.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=frames.device)
    return torch.addcmul(shift, frames.float(), scale).permute(0, 3, 1, 2)


def square(size: Any) -> dict[str, Any]:
    """Options of an image processor of transformers for squares that :func:`normalise` reads."""
    return {
        "size": {"height": size, "width": size},
        "image_mean": list(IMAGENET_DEFAULT_MEAN),
        "image_std": list(IMAGENET_DEFAULT_STD),
    }


def multi_label(id2label: dict[int, str] | None) -> dict[str, Any]:
    """Options of a transformers configuration for a multi-label head."""
    return {
        "id2label": id2label,
        "label2id": {name: number for number, name in id2label.items()} if id2label else None,
        "problem_type": "multi_label_classification",
    }


def resnet_sizes(model: str, *, channels: Sequence[int], blocks: Sequence[int], image_size: int) -> dict[str, Any]:
    """Options of a transformers configuration for a small ResNet. Before the first stage, which has a quarter of the
    image's resolution, half as many channels suffice."""
    if len(channels) != len(blocks) or not channels or min(*channels, *blocks) < 1:
        raise ValueError(f"{model}: channels {list(channels)}, blocks {list(blocks)}, expected one each a stage")
    return {
        "layer_type": "basic",
        "embedding_size": max(1, channels[0] // 2),
        "hidden_sizes": list(channels),
        "depths": list(blocks),
        "hidden_size": channels[-1],
        "image_size": image_size,
    }


def vit_sizes(model: str, *, width: int, layers: int, dropout: float) -> dict[str, Any]:
    """Options of a transformers configuration for an encoder of a vision transformer's proportions."""
    if width % HEAD:
        raise ValueError(f"{model}: width {width}, expected a multiple of {HEAD} (the size of a head)")
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD,
        "intermediate_size": 4 * width,
        "hidden_dropout_prob": dropout,
    }


def clamped_spread(rows: Float[Tensor, "n dim"]) -> Float[Tensor, " dim"]:
    """The standard deviation of every dimension, at least a tenth of the median: a divisor."""
    spread = rows.std(0)
    return spread.clamp(min=max(float(spread.median()) / 10, 1e-6))
