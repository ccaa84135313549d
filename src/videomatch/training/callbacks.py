"""What validations decide: the weights that are kept, when training stops, when the learning rate is reduced."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videomatch.common import distributed
from videomatch.metrics import HIGHER

#: the weights of the best validation so far, in the folder that survives a kill
BEST = "best.pt"
#: validations for which a learning rate is kept at least
COOLDOWN = 3


@dataclass
class EarlyStopping:
    """Stops training, reduces the learning rate and keeps the best weights (in ``folder``, or in memory without one) by
    one metric; options are those of ``training:``."""

    monitor: str | None
    patience: int | None
    plateau: float
    keep_best: bool
    folder: Path | None
    best: float | None = None
    bad: int = 0  # validations since the best one
    since: int = 0  # validations since lr_factor changed
    lr_factor: float = 1.0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def update(self, metrics: dict[str, float], model: nn.Module) -> None:
        """Take a validation's metrics and the model that was validated."""
        if self.monitor is None:
            return
        if self.monitor not in metrics:
            raise ValueError(f"training.monitor {self.monitor!r} is not measured; there are {', '.join(metrics)}")
        self.bad += 1
        self.since += 1
        value, sign = metrics[self.monitor], 1 if HIGHER.search(self.monitor) else -1
        if not math.isnan(value) and (self.best is None or sign * value > sign * self.best):
            self.best, self.bad = value, 0
            if self.keep_best and self.folder is None:
                self.weights = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
            elif self.keep_best and self.folder is not None:
                save(self.folder / BEST, model.state_dict())
        elif self.since >= COOLDOWN:
            self.lr_factor, self.since = self.lr_factor * self.plateau, 0

    @property
    def should_stop(self) -> bool:
        """Whether as many validations as ``patience`` allows did not improve."""
        return self.patience is not None and self.bad >= self.patience

    def column(self) -> dict[str, float]:
        """The best value for the log: ``best/Spearman`` of monitor ``val/Spearman``."""
        return {} if self.best is None else {f"best/{(self.monitor or '').removeprefix('val/')}": self.best}

    def best_weights(self, device: torch.device) -> dict[str, Tensor]:
        """Those of the best validation; a ``ValueError`` if the monitor never was a number."""
        if self.best is None:
            raise ValueError(f"training.keep: best, but {self.monitor!r} was never a number")
        if self.folder is None:
            return self.weights
        return torch.load(self.folder / BEST, map_location=device, weights_only=True)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights."""
        return {"best": self.best, "bad": self.bad, "lr_factor": self.lr_factor, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        vars(self).update(state)


def save(path: Path, value: Any) -> None:
    """Save whole or not at all: after a kill the file is the old one or the new one. Only process 0 writes."""
    if distributed.rank():
        return
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
