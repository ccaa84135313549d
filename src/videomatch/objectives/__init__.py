"""What is minimised: pure functions from tensors to a scalar.

``objectives: {clip_contrastive: {weight: 1.0}}`` of a system names a public function of one of this package's modules:

* Positional arguments are tensors; the loop fills them by name from the model's outputs and the batch. One with a
  default is optional. Keyword-only arguments are options of the parameters, all with defaults.
* It returns a scalar, a mean over the rows of its first argument. With several processes each has rows of its own, and
  the loop weights its loss by their number. An objective that compares its rows with others, or leaves some out, takes
  ``all_gather`` or ``masked_mean`` of :mod:`videomatch.common.distributed`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from videomatch.common import named


@functools.cache
def functions() -> dict[str, Callable[..., Tensor]]:
    """All objectives by name."""
    return {
        name: found
        for module in (named.module("objectives", name) for name in named.names("objectives"))
        for name, found in inspect.getmembers(module, inspect.isfunction)
        if found.__module__ == module.__name__ and not name.startswith("_")
    }


@dataclass(frozen=True)
class Objective:
    """A function with its weight and options."""

    function: Callable[..., Tensor]
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        """Its value, and the number of rows of its first argument, which it is a mean of."""
        arguments = by_name(self.function, tensors)
        first = next(iter(arguments.values()), None)
        return self.function(**arguments, **self.options), len(first) if first is not None and first.ndim else 1


def configured(chosen: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Objective]:
    """``objectives:`` of a system: name -> {weight, options}; the weight is 1 by default. Of an unknown name the
    ``KeyError`` lists those that exist."""
    known, found = functions(), {}
    for name, entry in chosen.items():
        if name not in known:
            raise KeyError(f"no objective named {name!r}; there are {', '.join(sorted(known))}")
        options = {"weight": 1.0, **(entry or {})}
        found[name] = Objective(known[name], float(options.pop("weight")), options)
    return found


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
