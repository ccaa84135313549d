"""A detector of copied segments on similarity maps.

SPD does this with YOLOv5 on maps of 640 x 640 pixels (Jiang et al., MM 2021, arXiv:2309.11091), TransVCL (AAAI 2023)
with YOLOX. Here a small network reads the map frame by frame:

1. A feature pyramid (Lin et al., FPN, CVPR 2017). For each cell of every level but the finest a head predicts whether
   it is the centre of a segment, and the segment's box (anchor-free: Tian et al., FCOS, ICCV 2019).
2. For every cell of the map another head predicts whether a segment's line passes through it, like the heat maps of the
   first place of the Video Similarity Challenge 2022 (SAM). Boxes are fitted to that line without further weights
   (:mod:`videomatch.localisation.line_fit`).
3. Two small networks refine the corners where a segment starts and ends, to fractions of a frame
   (:mod:`videomatch.localisation.corners`).

Frame i is the interval ``[i, i + 1)``. A box is ``query_start, query_end, reference_start, reference_end`` in frames,
half open; a cell ``query centre, reference centre, side`` in frames. Padding and tiles do not change a result.

# Deviation: SPD's training and its 20 best references per row are not published; this network has some hundred thousand
weights instead of millions, and never rescales a map, which would lose frames.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import PreTrainedConfig, PreTrainedModel

from videomatch.localisation.corners import Corners, refine_corners
from videomatch.localisation.line_fit import fit_lines
from videomatch.localisation.map_paths import nms
from videomatch.metrics.segments import ENDS, STARTS
from videomatch.models import SystemModel

#: of :func:`channels`
CHANNELS = 4
#: frames of a tile; maps of more cells are computed in tiles
TILE, MAX_CELLS = 1536, 2048 * 2048
#: IoU threshold of the first non-maximum suppression, of the cells' boxes
CELL_IOU = 0.5
#: a level finds segments whose longer side is between so many sides of its cells; neighbouring levels overlap
MIN_SIDES, MAX_SIDES = 3.0, 10.0
#: cells within so many sides of a segment's centre are assigned to it
CENTRE_RADIUS = 1.5


class Config(PreTrainedConfig):
    """A segment detector.

    Attributes:
        width: channels of the finest level; coarser ones have more.
        levels: of the pyramid; the finest has cells of 2 x 2 frames, each next twice that.
        head: channels that the heads read of every level.
        confidence: min score of a segment.
        floor: log odds of a cell at which a line continues; lower values make segments longer.
        overlap: IoU threshold of the last non-maximum suppression.
        min_length: of both sides of a segment, frames; what strangers show alike (a channel's opening) is short.
        max_boxes: that are fitted to lines.
    """

    model_type = "segment_detector"

    width: int = 16
    levels: int = 5
    head: int = 16
    confidence: float = 0.55
    floor: float = -1.0
    overlap: float = 0.3
    min_length: float = 0.0
    max_boxes: int = 50

    def __post_init__(self, **others: Any) -> None:
        if min(self.width, self.levels, self.head, self.max_boxes) < 1:
            raise ValueError("segment_detector: width, levels, head and max_boxes are at least 1")
        if not (0 <= self.confidence <= 1 and 0 <= self.overlap <= 1):
            given = f"confidence {self.confidence}, overlap {self.overlap}"
            raise ValueError(f"segment_detector: {given}, expected 0 to 1")
        super().__post_init__(**others)


class Norm(nn.BatchNorm2d):
    """BatchNorm without the padding. In all layers ``mask`` ``(B, 1, rows, columns)`` is 0 in the padding, or None."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """``(B, C, rows, columns)``."""
        if mask is None or not self.training:
            return super().forward(x)
        count = mask.sum().clamp(min=2)
        mean = (x * mask).sum((0, 2, 3)) / count
        centred = x - mean[:, None, None]
        variance = (centred.square() * mask).sum((0, 2, 3)) / count
        with torch.no_grad():
            for running, new in ((self.running_mean, mean), (self.running_var, variance * count / (count - 1))):
                running.lerp_(new, self.momentum or 0.0)  # pyright: ignore[reportOptionalMemberAccess]
            self.num_batches_tracked += 1  # pyright: ignore[reportOperatorIssue]
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


class Layer(nn.Module):
    """Convolution, BatchNorm, ReLU, and zero outside the map."""

    def __init__(self, inner: int, outer: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, size, stride, (size - 1) // 2, bias=False)
        self.norm: Norm | None = Norm(outer)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``mask`` is of the output's grid."""
        x = self.conv(x)
        x = (x if self.norm is None else self.norm(x, mask)).relu_()
        return x if mask is None else x * mask


class Level(nn.Module):
    """Half the resolution, and a residual layer."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.down = Layer(inner, outer, stride=2)
        self.more = Layer(outer, outer)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.down(x, mask)
        return x + self.more(x, mask)


class Outputs(NamedTuple):
    """Features of the finest level, of half the resolution; log odds that a cell is on a segment's line; features of
    the coarser levels, for :meth:`Pyramid.predict`."""

    fine: Tensor
    line: Tensor
    heads: list[Tensor]


class Pyramid(nn.Module):
    """The feature pyramid and its two heads; see :class:`Config`."""

    def __init__(self, width: int, levels: int, head: int) -> None:
        super().__init__()
        #: frames of a coarsest cell
        self.step = 2**levels
        #: max distance in frames at which a cell depends on others: the sum over the levels' convolutions
        self.reach = 5 * self.step
        sizes = [min(int(width * (1 + n / 2)) // 8 * 8 or width, 4 * width) for n in range(levels)]
        # the first layer reads two by two cells and those around them at once: no layer works on single cells
        first = Layer(CHANNELS, sizes[0], size=4, stride=2)
        self.levels = nn.ModuleList([first, *(Level(a, b) for a, b in itertools.pairwise(sizes))])
        self.across = nn.ModuleList([Layer(size, head, size=1) for size in sizes])
        self.head = Layer(head, head)
        self.says = nn.Conv2d(head, 5, 1)
        self.close = Layer(head, sizes[0])
        self.line = nn.Conv2d(sizes[0], 4, 1)
        for layer, bias in ((self.says, [-4.6, 0, 0, 0, 0]), (self.line, [-4.6])):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            with torch.no_grad():  # initially one cell in a hundred is positive (focal loss, section 4.1)
                layer.bias[:] = torch.tensor(bias)

    def fused(self) -> Pyramid:
        """A copy for inference, with all norms folded into convolutions and channels last."""
        pyramid = copy.deepcopy(self).eval().requires_grad_(False)
        for layer in [module for module in pyramid.modules() if isinstance(module, Layer) and module.norm is not None]:
            layer.conv, layer.norm = fuse_conv_bn_eval(layer.conv, layer.norm), None  # pyright: ignore[reportArgumentType]
        return pyramid.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(
        self, read: Float[Tensor, "maps channels rows columns"], mask: Bool[Tensor, "maps rows columns"]
    ) -> Outputs:
        """Rows and columns are multiples of ``step``."""
        masks: list[Tensor | None] = [None] * len(self.levels)
        if not mask.all():
            pooled: Tensor = mask[:, None].to(read.dtype)
            for number in range(len(masks)):
                pooled = F.max_pool2d(pooled, 2)
                masks[number] = pooled
        x, features = read, []
        for level, across, own in zip(self.levels, self.across, masks, strict=True):
            x = level(x, own)
            features.append(across(x, own))
        for number in range(len(features) - 1, 0, -1):
            finer = features[number - 1] + F.interpolate(features[number], scale_factor=2, mode="nearest")
            features[number - 1] = finer if (own := masks[number - 1]) is None else finer * own
        line = self.close(features[0], masks[0])
        line = F.pixel_shuffle(_pointwise(self.line, line.flatten(2)).unflatten(2, line.shape[2:]), 2)
        return Outputs(features[0], line, [self.head(y, own) for y, own in zip(features[1:], masks[1:], strict=True)])

    def predict(self, heads: list[Tensor]) -> Float[Tensor, "maps 5 cells"]:
        """Log odds, offset of the centre, and log size of the box for all cells, level by level and row by row."""
        return _pointwise(self.says, torch.cat([x.flatten(2) for x in heads], 2))

    def tiled(
        self, read: Float[Tensor, "1 channels rows columns"], mask: Bool[Tensor, "1 rows columns"], tile: int
    ) -> Outputs:
        """:meth:`forward`, by tiles of ``tile`` frames, a multiple of ``step``, with ``reach`` frames around them."""
        rows, columns = read.shape[2:]
        whole: list[Tensor] = []
        for top, left in itertools.product(range(0, rows, tile), range(0, columns, tile)):
            above, before = max(0, top - self.reach), max(0, left - self.reach)
            seen = (slice(above, top + tile + self.reach), slice(before, left + tile + self.reach))
            inner = read[:, :, seen[0], seen[1]]
            found = self(inner, mask[:, seen[0], seen[1]])
            parts = [found.fine, found.line, *found.heads]
            sides = [inner.shape[2] // part.shape[2] for part in parts]
            if not whole:
                whole = [p.new_empty(1, p.shape[1], rows // n, columns // n) for p, n in zip(parts, sides, strict=True)]
            for part, to, side in zip(parts, whole, sides, strict=True):
                part = part[:, :, (top - above) // side :, (left - before) // side :]
                place = to[:, :, top // side : (top + tile) // side, left // side : (left + tile) // side]
                place.copy_(part[:, :, : place.shape[2], : place.shape[3]])
        return Outputs(whole[0], whole[1], whole[2:])


def _pointwise(conv: nn.Conv2d, x: Float[Tensor, "maps channels cells"]) -> Float[Tensor, "maps outputs cells"]:
    """A convolution of 1 x 1 to few channels as a product of matrices, which takes a fifth of the time."""
    assert conv.bias is not None
    return conv.weight.flatten(1) @ x + conv.bias[:, None]


class Model(PreTrainedModel, SystemModel):
    """The detector: an aligner as in :mod:`videomatch.aligners`."""

    config_class = Config
    GRIDS: ClassVar = {"ours": {"confidence": [0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8], "min_length": [0, 5, 10]}}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.pyramid = Pyramid(config.width, config.levels, config.head)
        self.corners = nn.ModuleList([Corners(config.head) for _ in range(2)])
        #: the fused pyramid and the arrays of the corners, for :meth:`align`
        self._inference: tuple[Pyramid, list[tuple[np.ndarray, ...]]] | None = None
        #: the last map and what the pyramid made of it: tuning tries many options on the same map
        self._last: tuple[np.ndarray, int | None, Outputs] | None = None
        # small convolutions are a third faster
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Layers keep PyTorch's own initialisation."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode. :meth:`align` uses the weights of its first call after this."""
        self._inference = self._last = None
        return super().train(mode)

    def forward(
        self,
        similarity: Float[Tensor, "maps query_frames reference_frames"],
        query_mask: Bool[Tensor, "maps query_frames"],
        reference_mask: Bool[Tensor, "maps reference_frames"],
        segments: Float[Tensor, "maps segments 4"],
        segments_mask: Bool[Tensor, "maps segments"],
    ) -> dict[str, Tensor]:
        """Predictions for every cell, and their targets. ``objectness`` ``(B, cells)`` and ``line`` ``(B, Q, R)`` are
        before the sigmoid; ``refined`` ``(B, segments, 2, 4)`` are the true ``segments`` after a random shift and one
        or two refinements of their corners."""
        mask = query_mask.bool()[:, :, None] & reference_mask.bool()[:, None, :]
        segments, segments_mask = segments.float(), segments_mask.bool()
        found = self.pyramid(*padded(channels(similarity.float(), mask), mask, self.pyramid.step))
        cells = anchors([x.shape[2:] for x in found.heads], similarity.device)
        sizes = torch.stack([mask.any(2).sum(1), mask.any(1).sum(1)], 1)
        is_cell = (cells[None, :, :2] - cells[None, :, 2:] / 2 < sizes[:, None]).all(2)  # with a frame of the map
        is_assigned, which = assigned(cells, segments, segments_mask)
        refined = [shifted(segments)]
        for number, corners in enumerate(self.corners):
            refined.append(corners(found.fine, refined[-1].detach(), coarse=number == 0))
        return {
            **decoded(self.pyramid.predict(found.heads), cells),
            "is_cell": is_cell,
            "line": found.line[:, 0, : mask.shape[1], : mask.shape[2]],
            "is_assigned": is_assigned & is_cell,
            "target_boxes": segments.gather(1, which[..., None].expand(-1, -1, 4)),
            "is_line": on_line(segments, segments_mask, (mask.shape[1], mask.shape[2])),
            "is_map": mask,
            "refined": torch.stack(refined[1:], 2),
        }

    @torch.inference_mode()
    def align(
        self,
        similarity: np.ndarray,
        *,
        confidence: float | None = None,
        overlap: float | None = None,
        floor: float | None = None,
        min_length: float | None = None,
        tile: int | None = None,
    ) -> np.ndarray:
        """Segments ``(N, 5)`` float64 of a map ``(Q, R)``, highest score first, in frames and fractions of frames. The
        score, 0 to 1, is the root of the objectness times the mean probability of the cells on the line. ``tile``:
        compute in tiles of so many frames, a multiple of the coarsest cell; by default maps of more than ``MAX_CELLS``
        cells. A ``ValueError`` if the map is not of finite numbers, or the model in training mode."""
        values = np.asarray(similarity, np.float32)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise ValueError(f"a similarity map of shape {values.shape}, expected finite (query, reference) frames")
        if not values.size:
            return np.zeros((0, 5))
        if self.training:
            raise ValueError("segment_detector: align in training mode, expected a model that is set to evaluate")
        options = self.config
        min_score = float(options.confidence if confidence is None else confidence)
        max_iou = float(options.overlap if overlap is None else overlap)
        shortest = float(options.min_length if min_length is None else min_length)
        if self._inference is None:
            corners = [corners.arrays() for corners in self.corners if isinstance(corners, Corners)]
            self._inference = self.pyramid.fused(), corners
        pyramid, corner_arrays = self._inference
        step = pyramid.step
        if tile is None and values.size > MAX_CELLS:
            tile = TILE // step * step
        last = self._last
        if last is None or last[1] != tile or not np.array_equal(last[0], values):
            given = torch.from_numpy(values).to(pyramid.line.weight.device)[None]
            mask = torch.ones_like(given, dtype=torch.bool)
            read, mask = padded(channels(given, mask), mask, step)
            found = pyramid(read, mask) if tile is None else pyramid.tiled(read, mask, tile)
            last = self._last = values.copy(), tile, found
        found = last[2]
        raw = pyramid.predict(found.heads)[0].cpu().numpy()
        boxes, score = _peaks(raw, [x.shape[2:] for x in found.heads], values.shape, min_score)
        kept = nms(boxes, score, CELL_IOU)[: options.max_boxes]
        line = found.line[0, 0, : values.shape[0], : values.shape[1]].cpu().numpy()
        boxes, likely = fit_lines(line, boxes[kept], floor=options.floor if floor is None else floor)
        score = np.sqrt(score[kept] * likely)
        boxes, score = boxes[score >= min_score], score[score >= min_score]
        kept = nms(boxes, score, max_iou)  # several boxes may be fitted to the same line
        boxes, score = boxes[kept], score[kept]
        if not len(boxes):
            return np.zeros((0, 5))
        fine = found.fine[0].permute(1, 2, 0).cpu().numpy()
        for number, arrays in enumerate(corner_arrays):
            boxes = refine_corners(fine, boxes, arrays, coarse=number == 0)
        boxes = np.minimum(np.maximum(boxes, 0), np.repeat(values.shape, 2).astype(boxes.dtype))
        kept = nms(boxes, score, max_iou)
        table = np.concatenate([boxes[kept], score[kept, None]], 1).astype(np.float64)
        return table[(table[:, ENDS] - table[:, STARTS] > shortest).all(1)]


def channels(
    similarity: Float[Tensor, "maps query_frames reference_frames"],
    mask: Bool[Tensor, "maps query_frames reference_frames"],
) -> Float[Tensor, "maps 4 query_frames reference_frames"]:
    """The similarity; its distance in standard deviations from the mean of its row, and of its column; the exponential
    of its distances from the maxima of both."""
    values = torch.where(mask, similarity, 0.0)
    read, near = [2 * values], torch.zeros_like(values)
    for axis in (2, 1):
        count = mask.sum(axis, keepdim=True).clamp(min=1)
        far = torch.where(mask, values - values.sum(axis, keepdim=True) / count, 0.0)
        far = far * (far.square().sum(axis, keepdim=True) / count + 1e-4).rsqrt()
        near = near + (far - far.amax(axis, keepdim=True))
        read.append((0.4 * far).clamp(-2, 2))
    return torch.stack([*read, near.exp() * mask], 1)


def padded(read: Tensor, mask: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Channels and mask, padded at their ends to multiples of ``step``."""
    more = (0, -mask.shape[2] % step, 0, -mask.shape[1] % step)
    return F.pad(read, more), F.pad(mask, more)


def anchors(shapes: Sequence[Sequence[int]], device: torch.device) -> Float[Tensor, "cells 3"]:
    """Cells of all levels, finest first, row by row. ``shapes`` are rows and columns of each level; cells of the first
    are of four frames, of each next of twice as many."""
    found = []
    for number, shape in enumerate(shapes):
        side = 2.0 ** (number + 2)
        centres = [(torch.arange(n, device=device) + 0.5) * side for n in shape]
        query, reference = torch.meshgrid(*centres, indexing="ij")
        found.append(torch.stack([query, reference, torch.full_like(query, side)], 2).flatten(0, 1))
    return torch.cat(found)


def decoded(raw: Float[Tensor, "maps 5 cells"], cells: Float[Tensor, "cells 3"]) -> dict[str, Tensor]:
    """``objectness`` ``(maps, cells)`` and ``boxes`` ``(maps, cells, 4)`` of predictions."""
    predicted = raw.transpose(1, 2).float()
    centre = cells[:, :2] + predicted[..., 1:3] * cells[:, 2:]
    half = 2 * cells[:, 2:] * predicted[..., 3:5].clamp(-5, 5).exp()
    return {"objectness": predicted[..., 0], "boxes": torch.stack([centre - half, centre + half], 3).flatten(2)}


def _peaks(
    raw: Float[np.ndarray, "5 cells"], grids: Sequence[Sequence[int]], shape: tuple[int, ...], confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes ``(N, 4)`` of the cells at local maxima of the objectness, and their objectness, 0 to 1: boxes of
    neighbouring cells overlap by more than two segments may."""
    least = min(confidence**2, 1 - 1e-9)  # the line's part of the score is at most 1
    threshold = np.log(least / (1 - least)) if least else -np.inf
    cells, places, first = [np.zeros(0, np.intp)], [np.zeros((3, 0), np.float32)], 0
    for number, (height, width) in enumerate(grids):
        side = 2 ** (number + 2)
        rows, columns = ((size + side // 2 - 1) // side for size in shape)  # of cells with their centre in the map
        if rows and columns:
            odds = raw[0, first : first + height * width].reshape(height, width)[:rows, :columns]
            row, column = ((odds >= threshold) & (odds >= cv2.dilate(odds, np.ones((3, 3), np.uint8)))).nonzero()
            cells.append(row * width + column + first)
            places.append(np.array([(row + 0.5) * side, (column + 0.5) * side, np.full(len(row), side)], np.float32))
        first += height * width
    predicted, places = raw[:, np.concatenate(cells)], np.concatenate(places, 1)
    centre = places[:2] + predicted[1:3] * places[2]
    half = 2 * places[2] * np.exp(np.minimum(np.maximum(predicted[3:], -5), 5))
    boxes = np.array([centre - half, centre + half]).transpose(2, 1, 0).reshape(-1, 4)
    return boxes, 1 / (1 + np.exp(-np.maximum(predicted[0], -30)))


def assigned(
    cells: Float[Tensor, "cells 3"],
    segments: Float[Tensor, "maps segments 4"],
    segments_mask: Bool[Tensor, "maps segments"],
) -> tuple[Bool[Tensor, "maps cells"], Int[Tensor, "maps cells"]]:
    """Whether a cell has a segment to find, and which: the smallest of those whose centre is near it, as in FCOS. The
    finest cells also find shorter segments, the coarsest also longer ones."""
    start, end = segments[:, None, :, STARTS], segments[:, None, :, ENDS]
    centre, lengths = (start + end) / 2, end - start
    side = cells[None, :, None, 2]
    radius = torch.maximum(torch.minimum(lengths / 2, CENTRE_RADIUS * side[..., None]), side[..., None] / 2)
    is_near = ((cells[None, :, None, :2] - centre).abs() <= radius).all(3)
    longer = lengths.amax(3)
    finest, coarsest = cells[0, 2], cells[-1, 2]
    fits = ((longer > MIN_SIDES * side) | (side == finest)) & ((longer <= MAX_SIDES * side) | (side == coarsest))
    able = is_near & fits & segments_mask[:, None]
    area = torch.where(able, lengths.prod(3), torch.inf)
    return able.any(2), area.argmin(2)


def shifted(segments: Float[Tensor, "maps segments 4"]) -> Float[Tensor, "maps segments 4"]:
    """Segments with random errors: 1 frame and 4 % of their length."""
    length = (segments[..., ENDS] - segments[..., STARTS]).mean(2, keepdim=True)
    return segments + torch.randn_like(segments) * (1 + 0.04 * length)


def on_line(
    segments: Float[Tensor, "maps segments 4"], segments_mask: Bool[Tensor, "maps segments"], shape: tuple[int, int]
) -> Bool[Tensor, "maps query_frames reference_frames"]:
    """Which cells lie on a segment's line: one of each row, or of each column where that is longer."""
    device = segments.device
    query = torch.arange(shape[0], device=device)[:, None] + 0.5
    reference = torch.arange(shape[1], device=device) + 0.5
    found = torch.zeros((len(segments), *shape), dtype=torch.bool, device=device)
    for number in range(segments.shape[1]):
        start, end, first, last = segments[:, number, :, None, None].unbind(1)
        speed = (last - first) / (end - start)
        apart = (reference - first - speed * (query - start)).abs()
        slow = (speed <= 1) & (query >= start) & (query < end)
        fast = (speed > 1) & (reference >= first) & (reference < last)
        found |= (apart <= 0.5 * speed.clamp(min=1)) & (slow | fast) & segments_mask[:, number, None, None]
    return found
