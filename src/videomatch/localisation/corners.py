"""The last step of the segment detector: small networks that move the corners where a segment starts and ends, by
features of cells of two frames."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

#: points that are sampled around a corner on each axis, and channels of the layer that reads them
POINTS, HIDDEN = 7, 48
#: distance of these points: min and max in frames, and distances per segment's length
MIN_STEP, MAX_STEP, STEPS_PER_LENGTH = 1.5, 8.0, 12.0
#: offsets of two neighbouring cells, and the bilinear weight of each is its distance from the other
_NEXT, _OTHER = np.arange(2), np.array([1, 0], np.float32)


class Corners(nn.Module):
    """Samples the fine features around a segment's start and end, and moves both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(2):
            inner, outer = nn.Linear(channels * POINTS**2 + 2, HIDDEN), nn.Linear(HIDDEN, 2)
            nn.init.zeros_(outer.weight)
            nn.init.zeros_(outer.bias)
            self.layers.append(nn.Sequential(inner, nn.ReLU(), outer))

    def forward(
        self,
        fine: Float[Tensor, "maps channels rows columns"],
        segments: Float[Tensor, "maps segments 4"],
        *,
        coarse: bool,
    ) -> Float[Tensor, "maps segments 4"]:
        """Segments with refined corners; ``coarse``: sample further around long segments."""
        corners = segments.unflatten(2, (2, 2)).transpose(2, 3)  # (B, M, start and end, query and reference)
        sides = (corners[:, :, 1] - corners[:, :, 0]).clamp(min=0.5)
        mean = sides.mean(2)
        step = (mean / STEPS_PER_LENGTH).clamp(MIN_STEP, MAX_STEP) if coarse else torch.full_like(mean, MIN_STEP)
        step = step[:, :, None, None]
        spread = torch.arange(POINTS, device=fine.device) - (POINTS - 1) / 2
        query, reference = (corners[..., n, None] + spread * step for n in range(2))
        grid = torch.stack(torch.broadcast_tensors(reference[..., None, :], query[..., None]), -1)
        around = bilinear(fine, grid.flatten(1, 2).flatten(2, 3), gathers=fine.device.type != "cpu")
        around = around.transpose(1, 2).flatten(2).unflatten(1, (*mean.shape[1:], 2))  # (B, M, 2, C points²)
        shape = torch.stack([mean.log(), (sides[..., 0] / sides[..., 1]).log()], 2)
        moves = [layer(torch.cat([around[:, :, n], shape], 2)) for n, layer in enumerate(self.layers)]
        return (corners + torch.stack(moves, 2) * step).transpose(2, 3).flatten(2)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Weight and bias of the inner and of the outer layers ``(2, …)``, for :func:`refine_corners`."""
        inner, inner_bias, outer, outer_bias = (
            torch.stack([layer[n].get_parameter(name) for layer in self.layers]).detach().cpu()  # pyright: ignore[reportIndexIssue]
            for n in (0, 2)
            for name in ("weight", "bias")
        )
        samples = inner[..., :-2].unflatten(2, (-1, POINTS**2)).transpose(2, 3).flatten(2)  # channels last
        inner = torch.cat([samples, inner[..., -2:]], 2)
        layers = (inner.transpose(1, 2), inner_bias[:, None], outer.transpose(1, 2), outer_bias[:, None])
        return tuple(np.ascontiguousarray(x.numpy()) for x in layers)


def bilinear(
    fine: Float[Tensor, "maps channels rows columns"], points: Float[Tensor, "maps a b 2"], *, gathers: bool
) -> Float[Tensor, "maps channels a b"]:
    """Features of cells of two frames at points (column and row, in frames), zero beyond the map. The gradient of
    torch's own sampling is not deterministic on a card; that of gathered cells is (``gathers``)."""
    height, width = fine.shape[2:]
    if not gathers:
        size = torch.tensor([width, height], device=fine.device)
        return F.grid_sample(fine, points / size - 1, align_corners=False)
    at = points.flatten(1, 2) / 2 - 0.5
    found = torch.zeros((), device=fine.device)
    for offset in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cell = at.floor() + torch.tensor(offset, device=fine.device)
        column, row = cell.unbind(-1)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
        values = fine.flatten(2).gather(2, place[:, None].expand(-1, fine.shape[1], -1))
        found = found + values * ((1 - (at - cell).abs()).prod(-1) * inside)[:, None]
    return found.unflatten(2, points.shape[1:3])


def refine_corners(
    fine: Float[np.ndarray, "rows columns channels"],
    segments: Float[np.ndarray, "segments 4"],
    arrays: tuple[np.ndarray, ...],
    *,
    coarse: bool,
) -> Float[np.ndarray, "segments 4"]:
    """What :class:`Corners` computes, for one map, from :meth:`Corners.arrays`. For its few segments numpy takes half
    the time of torch, which is 7 % of the time of a map of 128 x 128."""
    corners = segments.reshape(-1, 2, 2).transpose(0, 2, 1)  # (M, start and end, query and reference)
    sides = np.maximum(corners[:, 1] - corners[:, 0], 0.5)
    mean = (sides[:, 0] + sides[:, 1]) / 2
    step = (
        np.minimum(np.maximum(mean / STEPS_PER_LENGTH, MIN_STEP), MAX_STEP) if coarse else np.full_like(mean, MIN_STEP)
    )
    inner, inner_bias, outer, outer_bias = arrays
    spread = np.arange(POINTS, dtype=np.float32) - (POINTS - 1) / 2
    # bilinear: a point lies between the middles of two cells on each axis
    at = (corners[..., None] + spread * step[:, None, None, None]) / 2 - 0.5
    low = np.floor(at)
    weight = np.abs((at - low)[..., None] - _OTHER)
    cell = low.astype(np.intp)[..., None] + _NEXT
    near = np.minimum(np.maximum(cell, 0), np.array(fine.shape[:2])[:, None, None] - 1)
    weight *= near == cell  # zero outside the map
    query, reference = near.reshape(*near.shape[:3], -1).transpose(2, 0, 1, 3)
    around = fine[query[..., None], reference[..., None, :]]  # (M, 2, 2 points, 2 points, C)
    around = around.reshape(len(segments), 2, POINTS, 2, 2 * POINTS, -1)
    around = (around * weight[:, :, 0, :, :, None, None]).sum(3)
    around = around.reshape(len(segments), 2, POINTS, POINTS, 2, -1)
    around *= weight[:, :, 1, None, :, :, None]
    read = np.empty((2, len(segments), inner.shape[1]), np.float32)
    samples = read[..., :-2].reshape(2, len(segments), POINTS, POINTS, -1).swapaxes(0, 1)
    np.add(around[..., 0, :], around[..., 1, :], out=samples)
    read[..., -2] = np.log(mean)
    read[..., -1] = np.log(sides[:, 0] / sides[:, 1])
    moves = np.maximum(read @ inner + inner_bias, 0) @ outer + outer_bias  # (2, M, query and reference)
    return (corners + moves.swapaxes(0, 1) * step[:, None, None]).transpose(0, 2, 1).reshape(-1, 4)
