"""A model's weights: which learn how fast, their running average, and those that a run starts from."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

#: ``encoder.layer.3.`` (BERT) or ``encoder.layers.3.`` (CLIP): a stack and the number of a layer in it
LAYER = re.compile(r"^(.*?\blayers?)\.(\d+)\.")
#: what comes before the stack: ``embeddings.``, ``frame_embeddings.``, ``embed_tokens.``, ``frames.`` (fusion_bert)
EMBEDDING = re.compile(r"(?:^|\.)(?:\w*embeddings|embed_\w+|patch_embed|frames)\.")


def rate_factors(
    names: Iterable[str], scale: Mapping[str, float] | Sequence[tuple[str, float]], layer_decay: float
) -> dict[str, float]:
    """Factor of the learning rate of every parameter.

    Args:
        names: of the parameters.
        scale: regular expression -> factor. The first that is found in a name (``re.search``) counts; a mapping's are
            tried in alphabetical order, so write pairs where several match.
        layer_decay: factor for each layer below the top one of its stack (ELECTRA, Clark et al. 2020,
            arXiv:2003.10555, table 6); embeddings lie one below the lowest layer, all else has the factor 1.

    Returns:
        name -> product of both factors.
    """
    names = list(names)
    patterns = sorted(scale.items()) if isinstance(scale, Mapping) else [(p, f) for p, f in scale]
    depths: dict[str, int] = {}
    for match in filter(None, map(LAYER.match, names)):
        depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    found = {}
    for name in names:
        layer, below = LAYER.match(name), 0
        if layer:
            below = depths[layer[1]] - 1 - int(layer[2])
        elif depths and EMBEDDING.search(name):
            below = depths[max(depths, key=lambda stack: _common(stack, name))]
        chosen = next((factor for pattern, factor in patterns if re.search(pattern, name)), 1.0)
        found[name] = chosen * layer_decay**below
    for pattern, _ in patterns:
        if not any(re.search(pattern, name) for name in names):
            log.warning("training.lr_scale: %r is in no parameter's name; there are %s, …", pattern, names[:5])
    return found


def _common(one: str, other: str) -> int:
    """How many leading components two names share."""
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


class Average:
    """An exponential moving average of a model's weights and statistics.

    Each step keeps ``decay`` of the average, less in the beginning: ``(1 + n) / (10 + n)`` at step n, as TensorFlow's
    ``ExponentialMovingAverage`` does with ``num_updates``, so that the initial weights are soon forgotten.

    Attributes:
        model: the averaged model; it never trains.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        tensors = zip(_tensors(self.model), _tensors(model), strict=True)
        averaged, new = [], []
        for mine, theirs in tensors:
            if mine.is_floating_point():
                averaged.append(mine)
                new.append(theirs)
            else:
                mine.copy_(theirs)
        torch._foreach_lerp_(averaged, new, 1 - keep)  # pyright: ignore[reportPrivateImportUsage]

    def state(self) -> dict[str, Any]:
        """What has to survive a kill."""
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self.model.load_state_dict(state["model"])
        self.steps = state["steps"]


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Sequence[str]:
    """Copy those weights that the model has under the same name and in the same shape; returns the names copied.

    What did not fit goes to the log, names and shapes.

    Raises:
        ValueError: not one of them fits.
    """
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        first = next(iter(weights), None)
        raise ValueError(f"none of the {len(weights)} weights ({first}, …) fits {type(model).__name__}")
    for name, value in weights.items():
        if name not in own:
            log.info("not taken: %s %s, the model has no such weight", name, tuple(value.shape))
        elif name not in fitting:
            log.info("not taken: %s %s, the model's is %s", name, tuple(value.shape), tuple(own[name].shape))
    taken = {own[name].data_ptr() for name in fitting}  # tied weights stand in a checkpoint once
    for name, value in own.items():
        if name not in weights and value.data_ptr() not in taken:
            log.info("left as it was: %s %s", name, tuple(value.shape))
    model.load_state_dict(fitting, strict=False)
    return list(fitting)
