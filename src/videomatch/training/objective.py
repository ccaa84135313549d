"""An objective with its weight, tensors by name, and means over the processes that share a batch.

A loss of several processes is the mean of their losses, weighed by the rows of the objective's first argument. That is
the undivided batch's loss for every mean over those rows (examples, masked tokens), and for objectives that turn to
:func:`videomatch.common.distributed.everyone` for what other rows they need.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from videomatch.common import distributed


@dataclass(frozen=True)
class Objective:
    """A function of :mod:`videomatch.objectives` with its weight and options."""

    function: Callable[..., Tensor]
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        """Its value, and how many rows it is a mean of: those of its first argument."""
        chosen = by_name(self.function, tensors)
        first = next(iter(chosen.values()), None)
        return self.function(**chosen, **self.options), len(first) if first is not None and first.ndim else 1


def by_name(function: Callable[..., Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of ``tensors`` that a function asks for by the names of its ordinary arguments.

    Raises:
        KeyError: an argument without a default is not among them; the message lists what there is.
    """
    found = {}
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is not argument.POSITIONAL_OR_KEYWORD:
            continue
        if name in tensors:
            found[name] = tensors[name]
        elif argument.default is argument.empty:
            who = getattr(function, "__qualname__", function)
            raise KeyError(f"{who} asks for {name!r}; there are {', '.join(sorted(tensors))}")
    return found


def objectives_of(module: Any, chosen: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Objective]:
    """``objectives:`` of a system: name -> {weight, options}; weight 1 unless given."""
    found = {}
    for name, entry in chosen.items():
        options = dict(entry or {})
        weight = float(options.pop("weight", 1.0))
        found[name] = Objective(getattr(module, name), weight, options)
    return found


def over_processes(losses: Mapping[str, tuple[Tensor, int]]) -> dict[str, tuple[float, float]]:
    """name -> (loss over the rows of all processes, this process's share of those rows)."""
    if distributed.size() == 1:
        return {name: (float(loss.detach()), 1.0) for name, (loss, _) in losses.items()}
    sums = torch.tensor([[n, n and n * float(loss.detach())] for loss, n in losses.values()], dtype=torch.float64)
    found = {}
    for (name, (_, count)), (every, total) in zip(losses.items(), distributed.total(sums).tolist(), strict=True):
        found[name] = (total / every, count / every) if every else (0.0, 1 / distributed.size())
    return found
