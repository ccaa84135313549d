"""Objectives with their weights, metrics, and how both are filled by name and averaged over processes."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videomatch import objectives
from videomatch.common import distributed


@dataclass(frozen=True)
class Objective:
    """A function of :mod:`videomatch.objectives` with its weight and options."""

    function: Callable[..., Tensor]
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        """Its value, and the number of rows of its first argument, which it is a mean of."""
        arguments = by_name(self.function, tensors)
        first = next(iter(arguments.values()), None)
        return self.function(**arguments, **self.options), len(first) if first is not None and first.ndim else 1


def configured(chosen: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Objective]:
    """``objectives:`` of a system: name -> {weight, options}; the weight is 1 by default."""
    options = {name: {"weight": 1.0, **(entry or {})} for name, entry in chosen.items()}
    return {name: Objective(objectives.function(name), float(o.pop("weight")), o) for name, o in options.items()}


def by_name(function: Callable[..., Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of ``tensors`` that are positional arguments of a function; a ``KeyError`` if a required one is missing."""
    found = {}
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is not argument.POSITIONAL_OR_KEYWORD:
            continue
        if name in tensors:
            found[name] = tensors[name]
        elif argument.default is argument.empty:
            raise KeyError(f"{function.__qualname__} asks for {name!r}; there are {', '.join(sorted(tensors))}")
    return found


def over_processes(losses: Mapping[str, tuple[Tensor, int]]) -> dict[str, tuple[float, float]]:
    """name -> (loss over the rows of all processes, this process's part of those rows)."""
    if distributed.size() == 1:
        return {name: (float(loss.detach()), 1.0) for name, (loss, _) in losses.items()}
    sums = torch.tensor([[n, n and n * float(loss.detach())] for loss, n in losses.values()], dtype=torch.float64)
    totals = distributed.all_reduce_sum(sums).tolist()
    return {
        name: (total / rows, count / rows) if rows else (0.0, 1 / distributed.size())
        for (name, (_, count)), (rows, total) in zip(losses.items(), totals, strict=True)
    }


class Validation:
    """Mean losses and metrics of a pass over the examples. The arguments of metrics are outputs and batch tensors,
    concatenated over the pass, in the order of the examples' numbers where there is one row per example."""

    def __init__(self, objectives: Mapping[str, Objective], metrics: Mapping[str, Callable[..., float]]) -> None:
        self._objectives, self._metrics = objectives, metrics
        self._sums = np.zeros((len(objectives), 2))  # rows, and losses times rows
        self._tensors: dict[str, list[Tensor]] = defaultdict(list)
        self._numbers: list[np.ndarray] = []

    def update(self, tensors: Mapping[str, Tensor], numbers: np.ndarray) -> None:
        """Add a batch with the model's outputs, and its examples' numbers."""
        for place, objective in enumerate(self._objectives.values()):
            loss, rows = objective(tensors)
            self._sums[place] += [rows, rows and rows * float(loss)]
        for name in sorted({name for metric in self._metrics.values() for name in by_name(metric, tensors)}):
            value = tensors[name].detach()
            self._tensors[name].append((value.float() if value.dtype == torch.bfloat16 else value).cpu())
        self._numbers.append(numbers)

    def compute(self) -> dict[str, float]:
        """Losses and metrics over the rows of all processes; an objective without any row is left out."""
        sums = distributed.all_reduce_sum(torch.from_numpy(self._sums)).tolist()
        means = {name: total / rows for name, (rows, total) in zip(self._objectives, sums, strict=True) if rows}
        numbers = distributed.all_gather(torch.from_numpy(np.concatenate(self._numbers)))
        order = torch.from_numpy(np.argsort(numbers.numpy(), kind="stable"))
        tensors = {}
        for name, values in self._tensors.items():
            if not values[0].ndim:  # a scalar of the model, like a temperature
                tensors[name] = values[-1]
                continue
            gathered = distributed.all_gather(torch.cat(values))
            tensors[name] = gathered[order] if len(gathered) == len(order) else gathered
        return means | {name: float(metric(**by_name(metric, tensors))) for name, metric in self._metrics.items()}
