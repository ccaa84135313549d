"""A detector of copied segments on similarity maps: which rectangles of the map two videos share, as small as possible.

What SPD does with YOLOv5 on maps of 640 x 640 pixels (Jiang et al., Learning segment similarity and alignment in
large-scale content based video retrieval, MM 2021, arXiv:2309.11091; also TransVCL, AAAI 2023, with YOLOX), here
on the map as it is, frame by frame. Every level of a small feature pyramid but the finest says for each of its cells
whether the centre of a segment lies there and how long that is on both axes (anchor-free: Tian et al., FCOS, ICCV
2019). At full resolution every cell says whether a segment's line goes through it, as the heat maps of the first place
of the Video Similarity Challenge 2022 do (SAM). Boxes are then set right along that line, without any further weight
(:mod:`videomatch.models._segment_line`), and two more layers look closely at the two corners where the segment starts
and ends, so that ends may lie within a frame.

What goes in
    ``similarity`` ``(B, Q, R)``, cosines; padding is said by masks and changes nothing. Frame i is the interval
    ``[i, i + 1)``. Beside the similarity the network reads how far it stands out from its row and from its column, and
    how near it comes to being the largest of both.

Key frames
    ``query_weight`` and ``reference_weight`` ``(B, Q)`` and ``(B, R)``, 0 to 1: how much a frame counts; the map is
    multiplied with ``sqrt(p_i p_j)``, so that whoever chooses key frames gets the detector's gradients.

# Deviation: SPD's own training and its 20 best references a row are not published or needed; our net has some hundred
thousand weights instead of millions, and never scales a map, whose frames would be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from videomatch.models import SystemModel
from videomatch.models import _segment_boxes as boxes_
from videomatch.models import _segment_line as line_
from videomatch.models._segment_corners import Corners, Weights, moved
from videomatch.models._segment_pyramid import Folded, Pyramid

#: a map of more cells is computed in tiles of so many frames, with as many around them as a cell can see
TILE, CELLS = 1536, 2048 * 2048
#: boxes of cells are the same from this intersection over union
ALIKE = 0.5
#: a cell and its neighbours
_AROUND = np.ones((3, 3), np.uint8)


class Config(PreTrainedConfig):
    """A segment detector.

    Args:
        width: channels of the finest level; coarser ones have more.
        levels: of the pyramid; the finest has cells of 2 x 2 frames, each next twice that.
        head: channels in which all levels are read.
        confidence: score from which a box is one.
        floor: log odds of a cell at which a line counts as going on; lower ones make segments longer.
        overlap: intersection over union from which the less likely of two boxes goes.
        most: boxes of a map.

    Raises:
        ValueError: no level, or a threshold that is no share.
    """

    model_type = "segment_detector"

    def __init__(
        self,
        *,
        width: int = 16,
        levels: int = 5,
        head: int = 16,
        confidence: float = 0.55,
        floor: float = -1.0,
        overlap: float = 0.3,
        most: int = 50,
        **others: Any,
    ) -> None:
        if min(width, levels, head, most) < 1:
            raise ValueError("segment_detector: width, levels, head and most are at least 1")
        if not (0 <= confidence <= 1 and 0 <= overlap <= 1):
            raise ValueError(f"segment_detector: confidence {confidence}, overlap {overlap}, expected shares of 1")
        self.width, self.levels, self.head = width, levels, head
        self.confidence, self.floor, self.overlap, self.most = confidence, floor, overlap, most
        super().__init__(**others)


class _Prepared(NamedTuple):
    """A detector for inference, and the weights of which it was made."""

    pyramid: Folded
    corners: list[Weights]
    tensors: list[Tensor]
    versions: list[int]


class Model(PreTrainedModel, SystemModel):
    """The detector: an aligner as in :mod:`videomatch.aligners`."""

    detects_segments: ClassVar[bool] = True

    config_class = Config
    GRIDS: ClassVar = {"ours": {"confidence": [0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7]}}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.pyramid = Pyramid(config.width, config.levels, config.head)
        self.corners = nn.ModuleList([Corners(config.head) for _ in range(2)])
        self._frozen: _Prepared | None = None
        # small convolutions are a third faster
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Layers begin as they were drawn."""

    def forward(
        self,
        similarity: Float[Tensor, "maps query_frames reference_frames"],
        query_mask: Bool[Tensor, "maps query_frames"] | None = None,
        reference_mask: Bool[Tensor, "maps reference_frames"] | None = None,
        segments: Float[Tensor, "maps segments 4"] | None = None,
        segments_mask: Bool[Tensor, "maps segments"] | None = None,
        query_weight: Float[Tensor, "maps query_frames"] | None = None,
        reference_weight: Float[Tensor, "maps reference_frames"] | None = None,
    ) -> dict[str, Tensor]:
        """What every cell says, and with the true segments what it should have said.

        Args:
            similarity: padded with anything. query_mask, reference_mask: true where a frame is the video's own.
            segments: ``query_start, query_end, reference_start, reference_end`` in frames; segments_mask: which are
                some. query_weight, reference_weight: of key frames.

        Returns:
            ``objectness`` ``(B, A)`` before the sigmoid, ``boxes`` ``(B, A, 4)`` in frames, ``is_cell`` ``(B, A)``
            (false in the padding), ``line`` ``(B, Q, R)`` before the sigmoid. With segments also ``is_assigned``
            ``(B, A)``, ``target_boxes`` ``(B, A, 4)``, ``is_line`` and ``is_map`` ``(B, Q, R)``, and ``refined``
            ``(B, M, 2, 4)``: the segments after they were shifted at random and set right twice.
        """
        query = torch.ones_like(similarity[:, :, 0], dtype=torch.bool) if query_mask is None else query_mask.bool()
        reference = (
            torch.ones_like(similarity[:, 0], dtype=torch.bool) if reference_mask is None else reference_mask.bool()
        )
        mask = query[:, :, None] & reference[:, None, :]
        if query_weight is not None and reference_weight is not None:
            similarity = weighed(similarity, query_weight, reference_weight)
        fine, line, heads = self.pyramid(*padded(channels(similarity.float(), mask), mask, self.step))
        anchors = boxes_.anchors(tuple(tuple(x.shape[2:]) for x in heads), similarity.device)
        outputs = {**decoded(self.pyramid.said(heads), anchors), "is_cell": boxes_.cells(mask, anchors)}
        outputs["line"] = line[:, 0, : mask.shape[1], : mask.shape[2]]
        if segments is not None and segments_mask is not None:
            levels = torch.tensor([4.0, 2.0**self.config.levels], device=similarity.device)
            is_assigned, which = boxes_.assigned(anchors, segments.float(), segments_mask.bool(), levels)
            outputs["is_assigned"] = is_assigned & outputs["is_cell"]
            targets = segments.float() if segments.shape[1] else similarity.new_zeros(len(similarity), 1, 4)
            outputs["target_boxes"] = targets.gather(1, which[..., None].expand(-1, -1, 4))
            outputs["is_line"] = line_.on_line(segments.float(), segments_mask.bool(), (mask.shape[1], mask.shape[2]))
            outputs["is_map"] = mask
            outputs["refined"] = self._refined(fine, boxes_.shifted(segments.float()))
        return outputs

    @property
    def step(self) -> int:
        """Frames of a cell of the coarsest level: maps are padded to a multiple."""
        return int(2**self.config.levels)

    def _refined(self, fine: Tensor, segments: Tensor) -> Tensor:
        steps = []
        for number, corners in enumerate(self.corners):
            segments = corners(fine, segments.detach(), coarse=number == 0)
            steps.append(segments)
        return torch.stack(steps, 2)

    @torch.inference_mode()
    def align(
        self,
        similarity: np.ndarray,
        *,
        confidence: float | None = None,
        overlap: float | None = None,
        query_weight: np.ndarray | None = None,
        reference_weight: np.ndarray | None = None,
        floor: float | None = None,
        tile: int | None = None,
    ) -> np.ndarray:
        """Segments ``(N, 5)`` float64 as an aligner gives them, the likeliest first: half open, in frames and parts of
        frames; the score, 0 to 1, is the root of the objectness times the mean probability of the cells on the line.

        Args:
            similarity: ``(Q, R)``, any length. confidence, overlap, floor: instead of the configuration's.
            query_weight, reference_weight: of key frames. tile: compute in tiles of so many frames (a multiple of
                :attr:`step`); null where the map is too large to be computed at once. Tiles change nothing but time and
                memory.

        Raises:
            ValueError: no map of finite numbers.
        """
        values = np.asarray(similarity, np.float32)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise ValueError(f"a similarity map of shape {values.shape}, expected finite (query, reference) frames")
        if not values.size:
            return np.zeros((0, 5))
        if self.training:
            raise ValueError("segment_detector: align in training mode, expected a model that is set to evaluate")
        prepared, options = self._prepared(), vars(self.config)  # every look at an attribute of these takes its time
        pyramid, device, step = prepared.pyramid, prepared.tensors[0].device, 2 ** len(prepared.pyramid.levels)
        given = torch.from_numpy(values).to(device)[None]
        if query_weight is not None and reference_weight is not None:
            sides = [np.asarray(weight, np.float32) for weight in (query_weight, reference_weight)]
            given = weighed(given, *(torch.from_numpy(side).to(device)[None] for side in sides))
        read, mask = channels(given), None
        if any(size % step for size in values.shape):
            read, mask = padded(read, torch.ones_like(given, dtype=torch.bool), step)
        if tile is None and values.size > CELLS:
            tile = TILE // step * step
        fine, line, heads = pyramid.forward(read, mask) if tile is None else pyramid.tiled(read, mask, tile)
        limit = options["confidence"] if confidence is None else confidence
        apart = options["overlap"] if overlap is None else overlap
        raw = pyramid.said(heads)[0].cpu().numpy()
        found, score = _found(raw, [x.shape[2:] for x in heads], values.shape, limit)
        kept = boxes_.suppressed(found, score, ALIKE)[: options["most"]]
        line = line[0, 0, : values.shape[0], : values.shape[1]].cpu().numpy()
        found, likely = line_.followed(line, found[kept], floor=options["floor"] if floor is None else floor)
        score = np.sqrt(score[kept] * likely)
        found, score = found[score >= limit], score[score >= limit]
        kept = boxes_.suppressed(found, score, apart)  # several may have followed the same line
        found, score = found[kept], score[kept]
        if not len(found):
            return np.zeros((0, 5))
        fine = fine[0].permute(1, 2, 0).cpu().numpy()
        for number, corners in enumerate(prepared.corners):
            found = moved(fine, found, corners, coarse=number == 0)
        found = boxes_.clipped(found, values.shape)
        kept = boxes_.suppressed(found, score, apart)
        table = np.concatenate([found[kept], score[kept, None]], 1).astype(np.float64)
        return table[(table[:, 1] > table[:, 0]) & (table[:, 3] > table[:, 2])]

    def _prepared(self) -> _Prepared:
        """What :meth:`align` computes with, made anew when weights have changed."""
        made = self._frozen
        if made is None or made.versions != [t._version for t in made.tensors]:
            tensors = [*self.parameters(), *self.buffers()]
            versions = [t._version for t in tensors]
            corners = [corners.weights() for corners in self.corners if isinstance(corners, Corners)]
            made = self._frozen = _Prepared(Folded(self.pyramid), corners, tensors, versions)
        return made

    def train(self, mode: bool = True) -> Self:
        """Weights may be others now."""
        self._frozen = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._frozen = None
        return super()._apply(fn, recurse)


def weighed(
    similarity: Float[Tensor, "maps query_frames reference_frames"],
    query: Float[Tensor, "maps query_frames"],
    reference: Float[Tensor, "maps reference_frames"],
) -> Float[Tensor, "maps query_frames reference_frames"]:
    """The map times ``sqrt(p_i p_j)``; at p = 0 the slope is held finite."""
    roots = [weight.clamp(min=1e-6).sqrt() for weight in (query, reference)]
    return similarity * roots[0][:, :, None] * roots[1][:, None, :]


def channels(
    similarity: Float[Tensor, "maps query_frames reference_frames"],
    mask: Bool[Tensor, "maps query_frames reference_frames"] | None = None,
) -> Float[Tensor, "maps 4 query_frames reference_frames"]:
    """The similarity; by how many deviations it is above the mean of its row and of its column; how near it comes to
    the largest of both (1 where it is, less by a factor of e for each deviation that lacks)."""
    values = similarity if mask is None else torch.where(mask, similarity, 0.0)
    read, near = [2 * values], None
    for axis in (2, 1):
        count = values.shape[axis] if mask is None else mask.sum(axis, keepdim=True).clamp(min=1)
        far = values - values.sum(axis, keepdim=True) / count
        if mask is not None:
            far = torch.where(mask, far, 0.0)
        far = far * (far.square().sum(axis, keepdim=True) / count + 1e-4).rsqrt()
        lacks = far - far.amax(axis, keepdim=True)
        near = lacks if near is None else near + lacks
        read.append((0.4 * far).clamp(-2, 2))
    assert near is not None
    near = near.exp()
    return torch.stack([*read, near if mask is None else near * mask], 1)


def padded(read: Tensor, mask: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Channels and mask, filled up at their ends to multiples of ``step``."""
    more = (0, -mask.shape[2] % step, 0, -mask.shape[1] % step)
    return F.pad(read, more), F.pad(mask, more)


def decoded(raw: Float[Tensor, "maps 5 cells"], anchors: Float[Tensor, "cells 3"]) -> dict[str, Tensor]:
    """``objectness`` ``(maps, cells)`` and ``boxes`` ``(maps, cells, 4)`` of cells."""
    says = raw.transpose(1, 2).float()
    centre = anchors[:, :2] + says[..., 1:3] * anchors[:, 2:]
    half = 2 * anchors[:, 2:] * says[..., 3:5].clamp(-5, 5).exp()
    return {"objectness": says[..., 0], "boxes": torch.stack([centre - half, centre + half], 3).flatten(2)}


def _found(
    raw: Float[np.ndarray, "5 cells"], grids: Sequence[Sequence[int]], shape: tuple[int, ...], limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes ``(N, 4)`` of the cells of a map that find something, and their objectness, 0 to 1.

    Of neighbours only the likeliest is asked: boxes a cell apart overlap by more than two segments may.
    """
    share = min(limit**2, 1 - 1e-9)  # the line's share of the score is 1 at most
    least = np.log(share / (1 - share)) if share else -np.inf
    cells, places, first = [np.zeros(0, np.intp)], [np.zeros((3, 0), np.float32)], 0
    for number, (height, width) in enumerate(grids):
        side = 2 ** (number + 2)
        rows, columns = ((size + side // 2 - 1) // side for size in shape)  # whose centres are of the map
        if rows and columns:
            odds = raw[0, first : first + height * width].reshape(height, width)[:rows, :columns]
            row, column = ((odds >= least) & (odds >= cv2.dilate(odds, _AROUND))).nonzero()
            cells.append(row * width + column + first)
            places.append(np.array([(row + 0.5) * side, (column + 0.5) * side, np.full(len(row), side)], np.float32))
        first += height * width
    says, places = raw[:, np.concatenate(cells)], np.concatenate(places, 1)
    centre = places[:2] + says[1:3] * places[2]
    half = 2 * places[2] * np.exp(np.minimum(np.maximum(says[3:], -5), 5))
    boxes = np.array([centre - half, centre + half]).transpose(2, 1, 0).reshape(-1, 4)
    return boxes, 1 / (1 + np.exp(-np.maximum(says[0], -30)))
