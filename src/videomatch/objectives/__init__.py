"""What is minimised: pure functions from tensors to a scalar.

``objectives: {clip_contrastive: {weight: 1.0}}`` of a system names a public function of one of this package's modules:

* Positional arguments are tensors; the loop fills them by name from the model's outputs and the batch, with the scalars
  ``progress`` and ``uniform`` of :mod:`videomatch.training.loop`. One with a default is optional.
  Keyword-only arguments are options of the parameters, all with defaults.
* It returns a scalar, a mean over the rows of its first argument. With several processes each has rows of its own, and
  the loop weights its loss by their number. An objective that compares its rows with others, or leaves some out, takes
  ``all_gather`` or ``masked_mean`` of :mod:`videomatch.common.distributed`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

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


def function(name: str) -> Callable[..., Tensor]:
    """An objective by its name; of an unknown name the ``KeyError`` lists those that exist."""
    if name not in functions():
        raise KeyError(f"no objective named {name!r}; there are {', '.join(sorted(functions()))}")
    return functions()[name]
