"""Load a result of ``train``: a ``save_pretrained`` folder, and in it ``system.yaml``, the resolved system.

What a model can do is a class variable of ``models.SystemModel``, like ``embeds_texts``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from videomatch.common import named

log = logging.getLogger(__name__)


def model_class(folder: Path) -> tuple[type[Any], dict[str, Any]]:
    """The class of a checkpoint's model and the resolved system; reads no weights. ``ValueError`` of another folder."""
    file = Path(folder) / "system.yaml"
    if not file.is_file():
        raise ValueError(f"{folder} is not a checkpoint: expected a result of `train`, with a system.yaml")
    system = yaml.safe_load(file.read_text(encoding="utf-8"))
    return named.module("models", system["model"]["name"]).Model, system


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> tuple[Any, dict[str, Any]]:
    """A checkpoint's model in evaluation mode on ``device``, and the resolved system; errors as :func:`model_class`."""
    found, system = model_class(folder)
    return found.from_pretrained(folder).eval().to(device), system


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Copy those weights that the model has under the same name and in the same shape; returns their names. The others
    are logged. A ``ValueError`` if none fits."""
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        first = next(iter(weights), None)
        raise ValueError(f"none of the {len(weights)} weights ({first}, …) fits {type(model).__name__}")
    for name, value in weights.items():
        if name not in fitting:
            wanted = f"the model's is {tuple(own[name].shape)}" if name in own else "the model has no such weight"
            log.info("not taken: %s %s, %s", name, tuple(value.shape), wanted)
    taken = {own[name].data_ptr() for name in fitting}  # a checkpoint holds tied weights once
    for name, value in own.items():
        if name not in weights and value.data_ptr() not in taken:
            log.info("left as it was: %s %s", name, tuple(value.shape))
    model.load_state_dict(fitting, strict=False)
    return list(fitting)
