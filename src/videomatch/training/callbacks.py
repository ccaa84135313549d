"""What validations decide: the weights that are kept, when training stops, when the learning rate is reduced."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videomatch.common import distributed

#: the weights of the best validation so far, in the folder that survives a kill
BEST = "best.pt"
#: validations for which a learning rate is kept at least
COOLDOWN = 3
#: metrics of which more is better; of all others, and of losses, less is
HIGHER = re.compile(r"(?:^|/)(?:Spearman|Pearson|mAP|R@(?:\d+|sum))$")


class EarlyStopping:
    """Follows one metric: stops training, reduces the learning rate and keeps the best weights by it.

    Args:
        patience: validations in a row without improvement after which training stops; None to continue.
        plateau: factor of the learning rate after a validation without improvement.
        folder: where the best weights are written; None to keep them in memory.
    """

    def __init__(
        self,
        monitor: str | None,
        *,
        patience: int | None = None,
        plateau: float = 1.0,
        keep_best: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.monitor, self.patience, self.plateau = monitor, patience, plateau
        self.keep_best, self.folder = keep_best, folder
        self.best: float | None = None
        self.bad, self.since = 0, 0  # validations since the best one, and since lr_factor changed
        self.lr_factor = 1.0
        self._weights: dict[str, Tensor] = {}

    def update(self, metrics: dict[str, float], model: nn.Module) -> None:
        """Take a validation's metrics and the model that was validated."""
        if self.monitor is None:
            return
        if self.monitor not in metrics:
            raise ValueError(f"training.monitor {self.monitor!r} is not measured; there are {', '.join(metrics)}")
        self.bad += 1
        self.since += 1
        if self._improves(metrics[self.monitor]):
            self.best, self.bad = metrics[self.monitor], 0
            if not self.keep_best:
                return
            if self.folder is None:
                self._weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}
            else:
                save(self.folder / BEST, model.state_dict())
        elif self.since >= COOLDOWN:
            self.lr_factor, self.since = self.lr_factor * self.plateau, 0

    def _improves(self, value: float) -> bool:
        if self.best is None or math.isnan(value):
            return not math.isnan(value)
        return value > self.best if HIGHER.search(self.monitor or "") else value < self.best

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
            return self._weights
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
