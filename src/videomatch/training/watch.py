"""What validations decide: which weights are kept, how fast learning goes on, and when training ends early."""

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
#: validations that a learning rate is kept for at least
KEPT = 3


class Watch:
    """Looks at every validation.

    Args:
        monitor: name of what is watched, None for nothing.
        keep_best: keep the weights of the best validation.
        patience: validations in a row without improvement after which training ends; None for no end.
        folder: where the weights go; None to keep them in memory.
        plateau: factor of the learning rate after a validation without improvement.

    Attributes:
        seen: the last validation of this epoch.
        best: the best value of the monitor so far; of equals the first counts.
        stale: validations since the best one.
        factor: of the learning rate by now.
        kept: validations since it changed.
    """

    def __init__(
        self, monitor: str | None, keep_best: bool, patience: int | None, folder: Path | None, plateau: float = 1.0
    ) -> None:
        self.monitor, self.keep_best, self.patience, self.folder = monitor, keep_best, patience, folder
        self.seen: dict[str, float] = {}
        self.best: float | None = None
        self.stale = 0
        self.plateau, self.factor, self.kept = plateau, 1.0, 0
        self._weights: dict[str, Tensor] = {}

    def note(self, row: dict[str, float], model: nn.Module) -> None:
        """Take note of a validation and of the weights that it measured.

        Raises:
            ValueError: the monitor is not among what was measured; the message lists that.
        """
        self.seen = row
        if self.monitor is None:
            return
        if self.monitor not in row:
            raise ValueError(f"training.monitor {self.monitor!r} is not measured; there are {', '.join(row)}")
        self.stale += 1
        self.kept += 1
        if self._better(row[self.monitor]):
            self.best, self.stale = row[self.monitor], 0
            if self.keep_best and self.folder is None:
                self._weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}
            elif self.keep_best and self.folder is not None:
                write(self.folder / BEST, model.state_dict())
        elif self.kept >= KEPT:
            self.factor, self.kept = self.factor * self.plateau, 0

    def _better(self, value: float) -> bool:
        if self.best is None or math.isnan(value):
            return not math.isnan(value)
        return value > self.best if HIGHER.search(self.monitor or "") else value < self.best

    @property
    def stops(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.stale >= self.patience

    def column(self) -> dict[str, float]:
        """The best value for the log: ``best/Spearman`` of monitor ``val/Spearman``."""
        return {} if self.best is None else {f"best/{(self.monitor or '').removeprefix('val/')}": self.best}

    def weights(self, device: torch.device) -> dict[str, Tensor]:
        """Those of the best validation.

        Raises:
            ValueError: no validation had a value of the monitor.
        """
        if self.best is None:
            raise ValueError(f"training.keep: best, but {self.monitor!r} was never a number")
        if self.folder is None:
            return self._weights
        return torch.load(self.folder / BEST, map_location=device, weights_only=True)

    def state(self) -> dict[str, Any]:
        """What has to survive a kill, besides the weights."""
        names = ("seen", "best", "stale", "factor", "kept")
        return {name: getattr(self, name) for name in names}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        for name, value in state.items():
            setattr(self, name, value)


def write(path: Path, value: Any) -> None:
    """Save under a temporary name, then rename: a kill leaves the old file or the new one. Process 0 writes."""
    if distributed.rank():
        return
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
