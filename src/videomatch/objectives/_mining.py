"""Which negatives are hard, how much an easy positive counts, and when training takes hard negatives (HSCL, CVPR 2023,
published code)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

#: least weight of a row
FLOOR = 0.2


def hard_negatives(
    similarity: Float[Tensor, "texts videos"],
    positive: Int[Tensor, " texts"],
    is_negative: Bool[Tensor, "texts videos"],
    count: int,
    how: Literal["nearest", "top_k"] = "nearest",
) -> Int[Tensor, "texts mined"]:
    """Columns of the ``count`` hardest negatives of each row, the hardest first: those whose similarity is ``nearest``
    to the positive's, or the largest. Fewer where a row has fewer negatives."""
    scores = similarity.detach()
    if how == "nearest":
        scores = -(scores - scores.gather(1, positive[:, None])).abs()
    count = min(count, int(is_negative.sum(1).min()))
    return scores.masked_fill(~is_negative, -torch.inf).topk(count, dim=1).indices


def row_weights(positives: Float[Tensor, " texts"]) -> Float[Tensor, " texts"]:
    """Weights by the similarity of each text and its own video: 1 up to the mean, above it less, the inverse of the
    distance from the smallest in units of the mean's, at least :data:`FLOOR`."""
    above = positives.detach() - positives.detach().min()
    return torch.where(above <= above.mean(), 1.0, (above.mean() / above.clamp(min=1e-12)).clamp(min=FLOOR))


def is_hard_step(progress: float, uniform: float, *, every: float, rise: float) -> bool:
    """Whether a step takes hard negatives: with a chance of 0 at first, which grows by ``rise`` after each ``every``
    share of all steps. ``uniform`` is one number of the step for all processes.

    # Deviation: theirs is the mean of a number of each process, which turns the slope into a switch.
    """
    return uniform < min(math.floor(progress / every + 1e-9) * rise, 1.0)
