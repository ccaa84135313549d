"""What is measured in one pass without gradients: mean losses, and metrics over the pass as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from videomatch.common import distributed
from videomatch.training.objective import Objective, by_name


class Pass:
    """Adds up losses, and keeps what the metrics ask for, batch by batch.

    Args:
        objectives: name -> objective; a mean is over the rows of its first argument.
        metrics: name -> function whose ordinary arguments are filled by name with outputs and batch tensors,
            concatenated over the pass: in the order of the examples' numbers where there is one row an example.
    """

    def __init__(self, objectives: Mapping[str, Objective], metrics: Mapping[str, Callable[..., float]]) -> None:
        self._objectives, self._metrics = objectives, metrics
        self._sums = np.zeros((len(objectives), 2))  # rows, and losses times rows
        self._kept: dict[str, list[Tensor]] = defaultdict(list)
        self._numbers: list[np.ndarray] = []

    def add(self, tensors: Mapping[str, Tensor], numbers: np.ndarray) -> None:
        """A batch with the model's outputs on it, and its examples' numbers."""
        for place, objective in enumerate(self._objectives.values()):
            loss, rows = objective(tensors)
            self._sums[place] += [rows, rows and rows * float(loss)]
        wanted = {name for metric in self._metrics.values() for name in by_name(metric, tensors)}
        for name in sorted(wanted):
            value = tensors[name].detach()
            self._kept[name].append((value.float() if value.dtype == torch.bfloat16 else value).cpu())
        self._numbers.append(numbers)

    def result(self) -> dict[str, float]:
        """Losses and metrics over the rows of all processes. An objective that never had a row is left out."""
        sums = distributed.total(torch.from_numpy(self._sums)).tolist()
        means = {name: total / rows for name, (rows, total) in zip(self._objectives, sums, strict=True) if rows}
        order = np.argsort(distributed.everyone(torch.from_numpy(np.concatenate(self._numbers))).numpy(), kind="stable")
        tensors = {}
        for name, values in self._kept.items():
            if not values[0].ndim:  # a number of the model, like a temperature
                tensors[name] = values[-1]
                continue
            together = distributed.everyone(torch.cat(values))
            tensors[name] = together[torch.from_numpy(order)] if len(together) == len(order) else together
        return means | {name: float(metric(**by_name(metric, tensors))) for name, metric in self._metrics.items()}
