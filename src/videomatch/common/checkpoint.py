"""Load a result of ``train``: a ``save_pretrained`` folder, and in it ``system.yaml``, the resolved system.

What a model can do is a class variable of ``models.SystemModel``, like ``embeds_texts``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from videomatch.common import named


def model_class(folder: Path) -> tuple[type[Any], dict[str, Any]]:
    """The class of a checkpoint's model and the resolved system; reads no weights.

    Raises:
        ValueError: the folder holds no checkpoint.
    """
    file = Path(folder) / "system.yaml"
    if not file.is_file():
        raise ValueError(f"{folder} is no checkpoint: expected a result of `train`, with a system.yaml")
    system = yaml.safe_load(file.read_text(encoding="utf-8"))
    return named.module("models", system["model"]["name"]).Model, system


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> tuple[Any, dict[str, Any]]:
    """A checkpoint's model in evaluation mode on ``device``, and the resolved system.

    Raises:
        ValueError: the folder holds no checkpoint.
    """
    found, system = model_class(folder)
    return found.from_pretrained(folder).eval().to(device), system
