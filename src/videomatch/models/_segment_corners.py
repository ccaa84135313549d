"""A closer look at the two corners of a segment in its map: the learned part of where it starts and ends."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

#: weight and bias of the inner and of the outer layer, those of starts and those of ends ``(2, …)``
Weights = tuple[np.ndarray, ...]
#: how far apart the points are that are looked at: frames at least, at most, and parts of a segment's length
LEAST, MOST, PART = 1.5, 8.0, 12.0
#: a cell and the next, and what a point is to be apart from to count for either
_NEXT, _OTHER = np.arange(2), np.array([1, 0], np.float32)


class Corners(nn.Module):
    """Looks at the map around a segment's start and end, and moves both.

    :func:`moved` does the same in numpy: for the few segments of one map, calling torch takes longer than the numbers.

    Args:
        channels: of the fine features.
        points: that are looked at on each axis.
        hidden: of the layer in between.
    """

    def __init__(self, channels: int, points: int = 7, hidden: int = 48) -> None:
        super().__init__()
        self.points = points
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(channels * points**2 + 2, hidden), nn.ReLU(), nn.Linear(hidden, 2))
                for _ in range(2)
            ]
        )
        for layer in self.layers:
            nn.init.zeros_(layer[-1].weight)  # pyright: ignore[reportIndexIssue, reportArgumentType]
            nn.init.zeros_(layer[-1].bias)  # pyright: ignore[reportIndexIssue, reportArgumentType]

    def forward(
        self,
        fine: Float[Tensor, "maps channels rows columns"],
        segments: Float[Tensor, "maps segments 4"],
        *,
        coarse: bool,
    ) -> Float[Tensor, "maps segments 4"]:
        """Segments with corners set right.

        Args:
            fine: a cell is two frames. coarse: look further around long segments.
        """
        if not segments.shape[1]:
            return segments
        corners = segments.unflatten(2, (2, 2)).transpose(2, 3)  # (B, M, start and end, query and reference)
        sides = (corners[:, :, 1] - corners[:, :, 0]).clamp(min=0.5)
        mean = sides.mean(2)
        step = (mean / PART).clamp(LEAST, MOST) if coarse else torch.full_like(mean, LEAST)
        step = step[:, :, None, None]
        spread = torch.arange(self.points, device=fine.device) - (self.points - 1) / 2
        query, reference = (corners[..., n, None] + spread * step for n in range(2))
        grid = torch.stack(torch.broadcast_tensors(reference[..., None, :], query[..., None]), -1)
        size = torch.tensor(fine.shape[:1:-1], device=fine.device)  # columns, rows, of two frames
        around = F.grid_sample(fine, (grid / size - 1).flatten(1, 2).flatten(2, 3), align_corners=False)
        around = around.transpose(1, 2).flatten(2).unflatten(1, (*mean.shape[1:], 2))  # (B, M, 2, C points²)
        facts = torch.stack([mean.log(), (sides[..., 0] / sides[..., 1]).log()], 2)
        moves = [layer(torch.cat([around[:, :, n], facts], 2)) for n, layer in enumerate(self.layers)]
        return (corners + torch.stack(moves, 2) * step).transpose(2, 3).flatten(2)

    def weights(self) -> Weights:
        """What :func:`moved` reads, point by point."""
        inner, inner_bias, outer, outer_bias = (
            torch.stack([layer[n].get_parameter(name) for layer in self.layers]).detach().cpu()  # pyright: ignore[reportIndexIssue]
            for n in (0, 2)
            for name in ("weight", "bias")
        )
        looks = inner[..., :-2].unflatten(2, (-1, self.points**2)).transpose(2, 3).flatten(2)
        inner = torch.cat([looks, inner[..., -2:]], 2)
        layers = (inner.transpose(1, 2), inner_bias[:, None], outer.transpose(1, 2), outer_bias[:, None])
        return tuple(np.ascontiguousarray(x.numpy()) for x in layers)


def moved(
    fine: Float[np.ndarray, "rows columns channels"],
    segments: Float[np.ndarray, "segments 4"],
    weights: Weights,
    *,
    coarse: bool,
) -> Float[np.ndarray, "segments 4"]:
    """Segments of one map with corners set right, as :class:`Corners` does."""
    corners = segments.reshape(-1, 2, 2).transpose(0, 2, 1)  # (M, start and end, query and reference)
    sides = np.maximum(corners[:, 1] - corners[:, 0], 0.5)
    mean = (sides[:, 0] + sides[:, 1]) / 2
    step = np.minimum(np.maximum(mean / PART, LEAST), MOST) if coarse else np.full_like(mean, LEAST)
    inner, inner_bias, outer, outer_bias = weights
    points = round(((inner.shape[1] - 2) / fine.shape[2]) ** 0.5)
    spread = np.arange(points, dtype=np.float32) - (points - 1) / 2
    # a point lies between the middles of two cells on each axis
    at = (corners[..., None] + spread * step[:, None, None, None]) / 2 - 0.5
    low = np.floor(at)
    share = np.abs((at - low)[..., None] - _OTHER)
    cell = low.astype(np.intp)[..., None] + _NEXT
    last = np.array(fine.shape[:2])[:, None, None] - 1
    near = np.minimum(np.maximum(cell, 0), last)
    share *= near == cell  # outside there is nothing
    query, reference = near.reshape(*near.shape[:3], -1).transpose(2, 0, 1, 3)
    around = fine[query[..., None], reference[..., None, :]]  # (M, 2, 2 points, 2 points, C)
    around = around.reshape(len(segments), 2, points, 2, 2 * points, -1)
    around = (around * share[:, :, 0, :, :, None, None]).sum(3)
    around = around.reshape(len(segments), 2, points, points, 2, -1)
    around *= share[:, :, 1, None, :, :, None]
    read = np.empty((2, len(segments), inner.shape[1]), np.float32)
    looks = read[..., :-2].reshape(2, len(segments), points, points, -1).swapaxes(0, 1)
    np.add(around[..., 0, :], around[..., 1, :], out=looks)
    read[..., -2] = np.log(mean)
    read[..., -1] = np.log(sides[:, 0] / sides[:, 1])
    moves = np.maximum(read @ inner + inner_bias, 0) @ outer + outer_bias  # (2, M, query and reference)
    return (corners + moves.swapaxes(0, 1) * step[:, None, None]).transpose(0, 2, 1).reshape(-1, 4)
