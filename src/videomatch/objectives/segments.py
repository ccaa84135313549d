"""Same source: which cells of a similarity map find a segment and how well its ends are placed; key frames, few that
represent all and the same ones in an edited copy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.common.distributed import masked_mean
from videomatch.common.precision import at_least_single


def segment_focal(
    objectness: Float[Tensor, "maps cells"],
    is_cell: Bool[Tensor, "maps cells"],
    is_assigned: Bool[Tensor, "maps cells"],
    boxes: Float[Tensor, "maps cells 4"],
    target_boxes: Float[Tensor, "maps cells 4"],
    *,
    beta: float = 2.0,
    min_cells: float = 8.0,
) -> Float[Tensor, ""]:
    """Which cells of a similarity map find a segment: quality focal loss, mean over maps.

    Source: Li et al., Generalized Focal Loss, NeurIPS 2020, equation 6: binary cross-entropy against the IoU of the
    cell's box with its segment (0 for cells without), weighted by the distance to that, to the power ``beta``.

    # Deviation: theirs divides by the assigned cells of the whole batch; here every map is divided by its own, so that
    a map without a segment counts as much as one with ten (by ``min_cells`` at least).
    """
    scores = at_least_single(objectness)
    fits = _overlap(boxes.detach().to(scores.dtype), target_boxes.to(scores.dtype))[0]
    target = torch.where(is_assigned, fits, 0.0)
    each = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
    each = each * (scores.sigmoid().detach() - target).abs() ** beta
    total = torch.where(is_cell, each, 0.0).sum(1)
    return (total / is_assigned.sum(1).clamp(min=min_cells)).mean()


def segment_giou(
    boxes: Float[Tensor, "maps cells 4"],
    target_boxes: Float[Tensor, "maps cells 4"],
    is_assigned: Bool[Tensor, "maps cells"],
) -> Float[Tensor, ""]:
    """How far boxes are from their segments: 1 - GIoU, 0 to 2 (Rezatofighi et al., CVPR 2019, arXiv:1902.09630), mean
    over a map's assigned cells, then over the maps that have some; 0 if none has."""
    overlap, united = _overlap(at_least_single(boxes), at_least_single(target_boxes))
    (start, end), (target_start, target_end) = (b.unflatten(-1, (2, 2)).unbind(-1) for b in (boxes, target_boxes))
    hull = (torch.maximum(end, target_end) - torch.minimum(start, target_start)).prod(-1).clamp(min=1e-6)
    each = torch.where(is_assigned, 1 - overlap + (hull - united) / hull, 0.0)
    return masked_mean(each.sum(1) / is_assigned.sum(1).clamp(min=1), is_assigned.any(1))


def segment_line(
    line: Float[Tensor, "maps query_frames reference_frames"],
    is_line: Bool[Tensor, "maps query_frames reference_frames"],
    is_map: Bool[Tensor, "maps query_frames reference_frames"],
    *,
    min_cells: float = 24.0,
) -> Float[Tensor, ""]:
    """Which cells of a map are on a segment's line: binary cross-entropy, mean over maps, nats. A map's sum is divided
    by its cells on lines, at least by ``min_cells``. Without class weights logits remain log odds, which may be added.
    """
    each = F.binary_cross_entropy_with_logits(at_least_single(line), is_line.to(line.dtype), reduction="none")
    total = torch.where(is_map, each, 0.0).sum((1, 2))
    return (total / is_line.sum((1, 2)).clamp(min=min_cells)).mean()


def segment_corners(
    refined: Float[Tensor, "maps segments steps 4"],
    segments: Float[Tensor, "maps segments 4"],
    segments_mask: Bool[Tensor, "maps segments"],
) -> Float[Tensor, ""]:
    """How far shifted and refined ends are from the true ones, frames: Huber's loss (linear beyond one frame), mean
    over a map's segments, then over the maps that have some; 0 if none has."""
    wanted = segments[:, :, None].expand_as(refined).to(refined.dtype)
    each = F.smooth_l1_loss(at_least_single(refined), at_least_single(wanted), reduction="none").mean((2, 3))
    each = torch.where(segments_mask.bool(), each, 0.0).sum(1) / segments_mask.sum(1).clamp(min=1)
    return masked_mean(each, segments_mask.bool().any(1))


def key_frame_coverage(
    assignment: Float[Tensor, "batch frames frames"],
    frames: Float[Tensor, "batch frames dim"],
    mask: Bool[Tensor, "batch frames"],
) -> Float[Tensor, ""]:
    """Mean over frames of one minus the cosine with the assigned key frame, in expectation over selections.

    Source: ours, in place of the unpublished loss of SSAN's key-frame extractor (arXiv:2309.11091). ``assignment`` is
    of :func:`videomatch.models.key_frames.soft_assignment`; only directions of ``frames`` count.
    """
    unit = F.normalize(at_least_single(frames), dim=-1)
    with torch.autocast(unit.device.type, enabled=False):
        cosine = unit @ unit.transpose(1, 2)
    lost = 1 - (at_least_single(assignment) * cosine).sum(-1)
    return ((lost * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def key_frame_stability(
    edited_keep_probability: Float[Tensor, "batch copied"],
    keep_probability: Float[Tensor, "batch frames"],
    source_frame: Int[Tensor, "batch copied"],
) -> Float[Tensor, ""]:
    """Mean absolute difference between the probabilities that a copied frame and its source are key frames. (Ours.)
    ``source_frame`` is -1 for a frame of the copy without one, which does not count."""
    has_source = source_frame >= 0
    original = at_least_single(keep_probability).gather(1, source_frame.clamp(min=0))
    difference = (at_least_single(edited_keep_probability) - original).abs() * has_source
    return (difference.sum(1) / has_source.sum(1).clamp(min=1)).mean()


def _overlap(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union of boxes (..., 4) with those at their places."""
    (start, end), (other_start, other_end) = (b.unflatten(-1, (2, 2)).unbind(-1) for b in (boxes, others))
    both = (torch.minimum(end, other_end) - torch.maximum(start, other_start)).clamp(min=0).prod(-1)
    areas = (end - start).clamp(min=0).prod(-1) + (other_end - other_start).clamp(min=0).prod(-1)
    united = (areas - both).clamp(min=1e-6)
    return both / united, united
