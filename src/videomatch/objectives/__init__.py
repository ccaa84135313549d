"""What is minimised: pure functions from tensors to one number.

A system names an objective and its weight (``objectives: {clip_contrastive: {weight: 1.0}}``): the public function of
that name in one of the modules of this package. The loop fills the positional arguments by name from the model's
outputs and the batch; keyword-only arguments are options of the parameters. An objective averages over the examples of
its batch, so that losses do not depend on the batch's size.

Where several processes train together each has rows of its own, and the loop weighs its loss by their share. What an
objective compares its rows with comes from all processes (:func:`videomatch.common.distributed.everyone`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from videomatch.common import named
from videomatch.common.precision import at_least_single as at_least_single


def __getattr__(name: str) -> Callable[..., Tensor]:
    """``objectives.max_margin`` is the function of that name, in whichever module it lies."""
    if not name.startswith("_"):
        for module in (named.module("objectives", m) for m in named.names("objectives")):
            found: Any = vars(module).get(name)
            if getattr(found, "__module__", None) == module.__name__:
                return found
    raise AttributeError(f"there is no objective named {name!r}")
