"""The network of the segment detector: a feature pyramid with one head for its levels, and one for the map's cells.

Cells outside the map are set to zero after every layer, as a convolution's own padding is, so neither padding nor
tiles change what a cell says.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Function = Callable[[Tensor, Tensor | None], Tensor]

#: channels that are read
READ = 4


class Norm(nn.BatchNorm2d):
    """BatchNorm of the cells of maps alone: what is padded in training says nothing of the maps that are to come."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """``(B, C, rows, columns)``; ``mask`` ``(B, 1, rows, columns)`` of 1 and 0, or null where all of it is map."""
        if mask is None or not self.training:
            return super().forward(x)
        count = mask.sum().clamp(min=2)
        mean = (x * mask).sum((0, 2, 3)) / count
        centred = x - mean[:, None, None]
        variance = (centred.square() * mask).sum((0, 2, 3)) / count
        with torch.no_grad():
            assert (
                self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
            )
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.0)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


class Layer(nn.Module):
    """Convolution, BatchNorm, ReLU, and nothing outside the map."""

    def __init__(self, inner: int, outer: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, size, stride, (size - 1) // 2, bias=False)
        self.norm = Norm(outer)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``(B, C, rows, columns)``; ``mask`` of the layer's own grid, or null where all of it is map."""
        x = F.relu(self.norm(self.conv(x), mask), inplace=True)
        return x if mask is None else x * mask


class Level(nn.Module):
    """Half the resolution, and a residual layer."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.down = Layer(inner, outer, stride=2)
        self.more = Layer(outer, outer)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``(B, C, rows, columns)`` to ``(B, C', rows / 2, columns / 2)``."""
        x = self.down(x, mask)
        return x + self.more(x, mask)


class Passes:
    """Levels from fine to coarse, and back again (Lin et al., FPN, CVPR 2017), with one head for all of them but the
    finest, and a look at every cell of the map itself; as modules, or folded for inference."""

    levels: Any
    across: Any
    head: Any
    says: Any
    close: Any
    line: Any

    @property
    def reach(self) -> int:
        """Frames from which a cell knows anything, to each side, at most; a multiple of the coarsest cell."""
        sides = [2 ** (n + 1) for n in range(len(self.levels))]
        # one frame around the finest cells, one of these cells for the line; every coarser level: a convolution over
        # the finer grid and one over its own; then the head's; half a coarsest cell
        far = 1 + 2 + sum(side // 2 + side for side in sides[1:]) + sides[-1] + sides[-1]
        return -(-far // sides[-1]) * sides[-1]

    def forward(
        self, read: Float[Tensor, "maps channels rows columns"], mask: Bool[Tensor, "maps rows columns"] | None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Fine features ``(B, head, rows / 2, columns / 2)``; ``(B, 1, rows, columns)`` whether a cell lies on a
        segment's line, before the sigmoid; and of every level but the finest what :meth:`said` reads ``(B, head, …)``.
        Rows and columns are multiples of the coarsest cell."""
        masks: list[Tensor | None] = [None] * len(self.levels)
        if mask is not None and not bool(mask.all()):
            some: Tensor = mask[:, None].to(read.dtype)
            for number in range(len(masks)):
                some = F.max_pool2d(some, 2)
                masks[number] = some
        x, seen = read, []
        for level, across, own in zip(self.levels, self.across, masks, strict=True):
            x = level(x, own)
            seen.append(across(x, own))
        for number in range(len(seen) - 1, 0, -1):
            finer = seen[number - 1] + F.interpolate(seen[number], scale_factor=2, mode="nearest")
            own = masks[number - 1]
            seen[number - 1] = finer if own is None else finer * own
        line = self.close(seen[0], masks[0])
        line = F.pixel_shuffle(_each(self.line, line.flatten(2)).unflatten(2, line.shape[2:]), 2)
        return seen[0], line, [self.head(y, own) for y, own in zip(seen[1:], masks[1:], strict=True)]

    def said(self, heads: list[Tensor]) -> Float[Tensor, "maps 5 cells"]:
        """Objectness, centre and logarithm of the sides of the cells of all levels but the finest, row by row."""
        return _each(self.says, torch.cat([x.flatten(2) for x in heads], 2))

    def tiled(
        self,
        read: Float[Tensor, "1 channels rows columns"],
        mask: Bool[Tensor, "1 rows columns"] | None,
        tile: int,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The same as at once, tile by tile: each is computed with all around it that its cells can see.

        Args:
            tile: frames, a multiple of the coarsest cell.
        """
        rows, columns = read.shape[2:]
        whole: list[Tensor] = []
        for top in range(0, rows, tile):
            for left in range(0, columns, tile):
                above, before = max(0, top - self.reach), max(0, left - self.reach)
                seen = (slice(above, top + tile + self.reach), slice(before, left + tile + self.reach))
                inner = read[:, :, seen[0], seen[1]]
                features, line, heads = self.forward(inner, None if mask is None else mask[:, seen[0], seen[1]])
                parts = [features, line, *heads]
                if not whole:
                    sides = [inner.shape[2] // part.shape[2] for part in parts]
                    whole = [
                        p.new_empty(1, p.shape[1], rows // n, columns // n) for p, n in zip(parts, sides, strict=True)
                    ]
                for part, to in zip(parts, whole, strict=True):
                    side = rows // to.shape[2]
                    part = part[:, :, (top - above) // side :, (left - before) // side :]
                    place = to[:, :, top // side : (top + tile) // side, left // side : (left + tile) // side]
                    place.copy_(part[:, :, : place.shape[2], : place.shape[3]])
        return whole[0], whole[1], whole[2:]


class Pyramid(Passes, nn.Module):
    """The network as it is trained.

    Args:
        width: channels of the finest level. levels: how many. head: channels in which they are read.
    """

    def __init__(self, width: int, levels: int, head: int) -> None:
        nn.Module.__init__(self)
        sizes = [min(int(width * (1 + n / 2)) // 8 * 8 or width, 4 * width) for n in range(levels)]
        # of the map itself, two by two cells and those around them are read at once: no layer works on single cells
        first = Layer(READ, sizes[0], size=4, stride=2)
        self.levels = nn.ModuleList([first, *(Level(a, b) for a, b in itertools.pairwise(sizes))])
        self.across = nn.ModuleList([Layer(size, head, size=1) for size in sizes])
        self.head = Layer(head, head)
        self.says = nn.Conv2d(head, 5, 1)
        self.close = Layer(head, sizes[0])
        self.line = nn.Conv2d(sizes[0], 4, 1)
        for layer, bias in ((self.says, [-4.6, 0, 0, 0, 0]), (self.line, [-4.6])):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            with torch.no_grad():  # a cell in a hundred finds something, to begin with (focal loss, section 4.1)
                layer.bias[:] = torch.tensor(bias)


def _each(conv: nn.Conv2d, x: Float[Tensor, "maps channels cells"]) -> Float[Tensor, "maps outputs cells"]:
    """A convolution of 1 x 1 to few channels as a product of matrices, which takes a fifth of the time."""
    assert conv.bias is not None
    return conv.weight.flatten(1) @ x + conv.bias[:, None]


class Folded(Passes):
    """A copy for inference: norms in their convolutions, which read channels last (with as few as here that takes a
    third less time), and functions for modules, whose calls take longer than a small convolution."""

    def __init__(self, pyramid: Pyramid) -> None:
        pyramid = copy.deepcopy(pyramid).eval().requires_grad_(False)
        self.levels = [_level(level) if isinstance(level, Level) else _folded(level) for level in pyramid.levels]
        self.across = [_folded(layer) for layer in pyramid.across]
        self.head, self.close = _folded(pyramid.head), _folded(pyramid.close)
        self.says, self.line = pyramid.says, pyramid.line


def _level(level: Level) -> Function:
    down, more = _folded(level.down), _folded(level.more)

    def function(x: Tensor, mask: Tensor | None) -> Tensor:
        x = down(x, mask)
        return more(x, mask).add_(x)

    return function


def _folded(layer: Layer) -> Function:
    conv = fuse_conv_bn_eval(layer.conv, layer.norm)
    weight, bias = conv.weight.detach().to(memory_format=torch.channels_last), conv.bias
    stride, padding = conv.stride, (conv.kernel_size[0] - 1) // 2

    def function(x: Tensor, mask: Tensor | None) -> Tensor:
        x = torch.conv2d(x, weight, bias, stride, padding).relu_()
        return x if mask is None else x * mask

    return function
