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
#: metrics of which more is better; of all others, and of losses, less is
HIGHER = re.compile(r"(?:^|/)(?:Spearman|Pearson|mAP|R@(?:\d+|sum))$")


class EarlyStopping:
    """Follows one metric: stops training, reduces the learning rate and keeps the best weights by it.

    torch's ``ReduceLROnPlateau`` sets the rates of an optimiser; here the rate is a function of the step, and the
    plateau only gives a factor of it.

    Args:
        monitor: name of the metric; None for no metric.
        patience: validations in a row without improvement after which training stops; None to go on.
        plateau: factor of the learning rate after a validation without improvement.
        cooldown: validations for which a learning rate is kept at least.
        keep_best: keep the weights of the best validation.
        folder: where these weights are written; None to keep them in memory.

    Attributes:
        best: the best value of the metric so far; of equals the first counts.
        bad: validations since the best one.
        lr_factor: of the learning rate by now.
        since: validations since ``lr_factor`` changed.
    """

    def __init__(
        self,
        monitor: str | None,
        *,
        patience: int | None = None,
        plateau: float = 1.0,
        cooldown: int = 3,
        keep_best: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.monitor, self.patience, self.plateau, self.cooldown = monitor, patience, plateau, cooldown
        self.keep_best, self.folder = keep_best, folder
        self.best: float | None = None
        self.bad, self.lr_factor, self.since = 0, 1.0, 0
        self._weights: dict[str, Tensor] = {}

    def update(self, metrics: dict[str, float], model: nn.Module) -> None:
        """Take a validation's metrics and the model that was validated.

        Raises:
            ValueError: the monitor is not among the metrics; the message lists them.
        """
        if self.monitor is None:
            return
        if self.monitor not in metrics:
            raise ValueError(f"training.monitor {self.monitor!r} is not measured; there are {', '.join(metrics)}")
        self.bad += 1
        self.since += 1
        if self._improves(metrics[self.monitor]):
            self.best, self.bad = metrics[self.monitor], 0
            if self.keep_best and self.folder is None:
                self._weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}
            elif self.keep_best and self.folder is not None:
                save(self.folder / BEST, model.state_dict())
        elif self.since >= self.cooldown:
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
        """Those of the best validation.

        Raises:
            ValueError: the monitor never had a value.
        """
        if self.best is None:
            raise ValueError(f"training.keep: best, but {self.monitor!r} was never a number")
        if self.folder is None:
            return self._weights
        return torch.load(self.folder / BEST, map_location=device, weights_only=True)

    def state_dict(self) -> dict[str, Any]:
        """All that changes but the weights."""
        return {"best": self.best, "bad": self.bad, "lr_factor": self.lr_factor, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self.best, self.bad, self.lr_factor, self.since = (
            state[name] for name in ("best", "bad", "lr_factor", "since")
        )


def save(path: Path, value: Any) -> None:
    """Save under a temporary name, then rename: after a kill the old file or the new one is there. Process 0 writes."""
    if distributed.rank():
        return
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
