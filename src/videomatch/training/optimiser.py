"""AdamW's parameter groups and the running average of the weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

log = logging.getLogger(__name__)

#: ``encoder.layer.3.`` (BERT) or ``encoder.layers.3.`` (CLIP): a stack and the number of a layer in it
LAYER = re.compile(r"^(.*?\blayers?)\.(\d+)\.")
#: what comes before the stack: ``embeddings.``, ``frame_embeddings.``, ``embed_tokens.``, ``frames.`` (fusion_bert)
EMBEDDING = re.compile(r"(?:^|\.)(?:\w*embeddings|embed_\w+|patch_embed|frames)\.")


def rate_factors(
    names: Iterable[str], scale: Mapping[str, float] | Sequence[tuple[str, float]], layer_decay: float
) -> dict[str, float]:
    """Name of every parameter -> factor of its learning rate, the product of two factors.

    ``scale``: regular expression -> factor; the first found in a name counts, a mapping's in alphabetical order.
    ``layer_decay``: factor for each layer below the top one of its stack (ELECTRA, Clark et al. 2020, arXiv:2003.10555,
    table 6); embeddings are one below the lowest layer, all else has the factor 1.
    """
    names = list(names)
    patterns = sorted(scale.items()) if isinstance(scale, Mapping) else list(scale)
    depths: dict[str, int] = {}
    for match in filter(None, map(LAYER.match, names)):
        depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    found = {}
    for name in names:
        layer, below = LAYER.match(name), 0
        if layer:
            below = depths[layer[1]] - 1 - int(layer[2])
        elif depths and EMBEDDING.search(name):
            below = depths[max(depths, key=lambda stack: _common_components(stack, name))]
        chosen = next((factor for pattern, factor in patterns if re.search(pattern, name)), 1.0)
        found[name] = chosen * layer_decay**below
    for pattern, _ in patterns:
        if not any(re.search(pattern, name) for name in names):
            log.warning("training.lr_scale: %r is in no parameter's name; there are %s, …", pattern, names[:5])
    return found


def _common_components(one: str, other: str) -> int:
    """The number of leading components that two names share."""
    pairs = list(zip(one.split("."), other.split("."), strict=False))
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))


def optimiser(
    model: nn.Module, *, lr: float, weight_decay: float, eps: float = 1e-8, factors: Mapping[str, float] | None = None
) -> torch.optim.AdamW:
    """AdamW whose groups differ in ``weight_decay`` (matrices and filters decay, vectors do not) and ``factor``."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            key = (weight_decay if p.ndim > 1 else 0.0, factors[name] if factors else 1.0)
            groups.setdefault(key, []).append(p)
    chosen = [{"params": ps, "weight_decay": decay, "factor": factor} for (decay, factor), ps in groups.items()]
    return torch.optim.AdamW(chosen, lr=lr, eps=eps, fused=True)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights and statistics, in evaluation mode.

    Each step keeps ``decay`` of the average, but at most ``(1 + n) / (10 + n)`` at step n, as TensorFlow's
    ``ExponentialMovingAverage`` does with ``num_updates``, so that the initial weights soon count little.
    """

    def average(averages: Sequence[Tensor], new: Sequence[Tensor], step: Tensor) -> None:
        if averages[0].is_floating_point():
            get_ema_multi_avg_fn(min(decay, (1 + int(step)) / (10 + int(step))))(averages, new, step)  # pyright: ignore[reportArgumentType]
        else:  # counters
            for mine, theirs in zip(averages, new, strict=True):
                mine.copy_(theirs)

    found = AveragedModel(model, multi_avg_fn=average, use_buffers=True)  # pyright: ignore[reportArgumentType]
    found.n_averaged.fill_(1)  # the initial weights are the first: 0 would replace them
    return found.eval().requires_grad_(False)
