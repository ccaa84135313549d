"""Load a result of ``train``: a ``save_pretrained`` folder, and in it ``system.yaml``, the resolved system.

What a model can do is a class variable of ``models.SystemModel``, like ``embeds_texts``.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from videomatch.common import named

#: weights that an error lists
LISTED = 10


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


def flatten_pooled(model: Any) -> None:
    """Let a dual encoder of transformers project what a convolutional network pools, ``(B, C, 1, 1)`` in transformers,
    of which it expects ``(B, C)``; other models stay as they are."""
    pooler = getattr(getattr(model, "vision_model", None), "pooler", None)
    if isinstance(pooler, nn.AdaptiveAvgPool2d):
        model.vision_model.pooler = nn.Sequential(pooler, nn.Flatten())


def load_weights(model: nn.Module, *checkpoints: Mapping[str, Tensor], fresh: Sequence[str] = ()) -> None:
    """Start a model from the weights of checkpoints, by their names: every weight of a checkpoint is taken, and every
    weight of the model comes from one, but those that a regular expression of ``fresh`` finds: they stay as they are,
    or are left behind.

    A table of positions may be shorter or longer than the checkpoint's. Of a longer one only the first rows are read.
    A shorter one is repeated until the table is full (Longformer, Beltagy et al. 2020, arXiv:2004.05150: BERT's heads
    attend to near tokens, which this keeps; with new positions at random a pretrained model starts from far worse).

    Raises:
        ValueError: weights that do not fit, or that no checkpoint has, and are not ``fresh``, by name.
    """
    own = model.state_dict()
    is_fresh = re.compile("|".join(f"(?:{pattern})" for pattern in fresh) or r"(?!)").search
    taken: dict[str, Tensor] = {}
    problems = []
    for weights in checkpoints:
        for name, value in weights.items():
            if is_fresh(name):
                continue
            if name not in own:
                problems.append(f"{name} {tuple(value.shape)}, which the model does not have")
                continue
            fitted = _extended(model, name, value) if _POSITIONS.search(name) else value
            if fitted.shape == own[name].shape:
                taken[name] = fitted
            else:
                problems.append(f"{name} {tuple(value.shape)}, the model's is {tuple(own[name].shape)}")
    storages = {own[name].data_ptr() for name in taken}  # a checkpoint holds tied weights once
    named = {name for weights in checkpoints for name in weights}
    for name, value in own.items():
        if not (name in named or value.data_ptr() in storages or is_fresh(name)):
            problems.append(f"{name} {tuple(value.shape)}, which no checkpoint has")
    if problems:
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise ValueError(
            f"initial weights do not fit {type(model).__name__}: {'; '.join(problems[:LISTED])}{more}. Name those that "
            f"are meant to start anew or to be left behind: `init: {{from: …, fresh: [regex]}}`"
        )
    model.load_state_dict(taken, strict=False)


#: names of tables of positions in a sequence, transformers' and ours; a grid's, as of a picture, would not be repeated
_POSITIONS = re.compile(r"(?:^|\.)(?<!vision_model\.embeddings\.)position(?:s|_embeddings?)\.weight$")


def _extended(model: nn.Module, name: str, table: Tensor) -> Tensor:
    """A table of positions with as many rows as the model's. Rows up to the padding's (RoBERTa) are no positions."""
    module: Any = model.get_submodule(name.removesuffix(".weight"))
    first = 0 if module.padding_idx is None else module.padding_idx + 1
    rows = torch.arange(module.num_embeddings)
    return table[torch.where(rows < len(table), rows, first + (rows - first) % (len(table) - first))]
