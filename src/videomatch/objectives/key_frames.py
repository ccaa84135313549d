"""Key frames: few that represent all frames, and the same ones in an edited copy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.common.precision import at_least_single


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
