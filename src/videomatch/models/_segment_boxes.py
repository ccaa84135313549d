"""Boxes of the segment detector: cells, which of them are to find which segment, and which boxes are the same.

A box is ``query_start, query_end, reference_start, reference_end`` in frames, half open. A cell is ``query centre,
reference centre, side`` in frames.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Boxes = Float[np.ndarray, "boxes 4"]

#: a level finds segments whose longer side is between so many sides of its cells; neighbours overlap
SHORTEST, LONGEST = 3.0, 10.0
#: cells this many sides around a segment's centre are to find it
REACH = 1.5


@functools.lru_cache(maxsize=64)
def anchors(shapes: tuple[tuple[int, ...], ...], device: torch.device) -> Float[Tensor, "cells 3"]:
    """Cells of all levels, finest first, row by row.

    Args:
        shapes: rows and columns of each level; the first has cells of four frames, each next of twice as many.
    """
    with torch.inference_mode(False):  # they are remembered, and training needs ordinary tensors
        found = []
        for number, (rows, columns) in enumerate(shapes):
            side = 2.0 ** (number + 2)
            axes = [(torch.arange(n, device=device) + 0.5) * side for n in (rows, columns)]
            query, reference = torch.meshgrid(*axes, indexing="ij")
            found.append(torch.stack([query, reference, torch.full_like(query, side)], 2).flatten(0, 1))
        return torch.cat(found)


def cells(
    mask: Bool[Tensor, "maps query_frames reference_frames"], anchors: Float[Tensor, "cells 3"]
) -> Bool[Tensor, "maps cells"]:
    """Which cells hold a frame of the map: those whose first frame is one."""
    sizes = torch.stack([mask.any(2).sum(1), mask.any(1).sum(1)], 1)
    return (anchors[None, :, :2] - anchors[None, :, 2:] / 2 < sizes[:, None]).all(2)


def assigned(
    anchors: Float[Tensor, "cells 3"],
    segments: Float[Tensor, "maps segments 4"],
    there: Bool[Tensor, "maps segments"],
    levels: Float[Tensor, " 2"],
) -> tuple[Bool[Tensor, "maps cells"], Int[Tensor, "maps cells"]]:
    """Whether a cell is to find a segment, and which: the smallest of those whose centre is near it, as FCOS does.

    Args:
        levels: sides of the finest and of the coarsest cells: they find the shortest and the longest segments.
    """
    if not segments.shape[1]:
        empty = torch.zeros((len(segments), len(anchors)), dtype=torch.bool, device=segments.device)
        return empty, empty.long()
    start, end = segments[:, None, :, 0::2], segments[:, None, :, 1::2]
    centre, sides = (start + end) / 2, end - start
    side = anchors[None, :, None, 2]
    reach = torch.maximum(torch.minimum(sides / 2, REACH * side[..., None]), side[..., None] / 2)
    near = ((anchors[None, :, None, :2] - centre).abs() <= reach).all(3)
    longer = sides.amax(3)
    fits = ((longer > SHORTEST * side) | (side == levels[0])) & ((longer <= LONGEST * side) | (side == levels[1]))
    able = near & fits & there[:, None]
    area = torch.where(able, sides.prod(3), torch.inf)
    return able.any(2), area.argmin(2)


def shifted(segments: Float[Tensor, "maps segments 4"]) -> Float[Tensor, "maps segments 4"]:
    """Segments with other ends, about as wrong as a coarse cell's: 1 frame and 4 % of their length."""
    length = (segments[..., 1::2] - segments[..., 0::2]).mean(2, keepdim=True)
    return segments + torch.randn_like(segments) * (1 + 0.04 * length)


def iou(boxes: Float[np.ndarray, "left 4"], others: Float[np.ndarray, "right 4"]) -> Float[np.ndarray, "left right"]:
    """Intersection over union of all with all."""
    (a, b, c, d), (e, f, g, h) = boxes.T[..., None], others.T
    query, reference = np.minimum(b, f) - np.maximum(a, e), np.minimum(d, h) - np.maximum(c, g)
    both = np.maximum(query, 0) * np.maximum(reference, 0)
    areas = [np.maximum(x[:, 1] - x[:, 0], 0) * np.maximum(x[:, 3] - x[:, 2], 0) for x in (boxes, others)]
    return both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-9)


def suppressed(
    boxes: Boxes,
    score: Float[np.ndarray, " boxes"],  # pyright: ignore[reportUndefinedVariable]
    overlap: float,
) -> Int[np.ndarray, " kept"]:  # pyright: ignore[reportUndefinedVariable]
    """Boxes that no likelier box that stays overlaps by more than ``overlap`` (IoU), the likeliest first."""
    order = np.argsort(-score, kind="stable")
    if len(order) < 2:
        return order
    boxes = boxes[order]
    differs = iou(boxes, boxes) <= overlap
    left, kept = np.ones(len(order), bool), []
    for number in range(len(order)):
        if left[number]:
            kept.append(number)
            left &= differs[number]
    return order[kept]


def clipped(boxes: Boxes, shape: Sequence[int]) -> Boxes:
    """Boxes inside a map of so many query and reference frames."""
    return np.minimum(np.maximum(boxes, 0), np.repeat(shape, 2).astype(boxes.dtype))
