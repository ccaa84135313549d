"""Which frames to keep, so that few stand for all and a copy keeps the same ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.common.precision import at_least_single


def key_frame_coverage(
    stands_for: Float[Tensor, "batch frames frames"],
    frames: Float[Tensor, "batch frames dim"],
    mask: Bool[Tensor, "batch frames"],
) -> Float[Tensor, ""]:
    """How badly key frames stand for all frames: mean over frames of one minus the cosine with the key frame that
    stands for it, in expectation over the choices of key frames.

    Source: ours, in place of the unpublished loss of SSAN's key-frame extractor (arXiv:2309.11091).

    Args:
        stands_for: how likely frame j stands for frame i (:func:`videomatch.models._soft_cover.stand_ins`).
        frames: features; only directions count.
        mask: true where a frame is.
    """
    unit = F.normalize(at_least_single(frames), dim=-1)
    with torch.autocast(unit.device.type, enabled=False):
        cosine = unit @ unit.transpose(1, 2)
    lost = 1 - (at_least_single(stands_for) * cosine).sum(-1)
    return ((lost * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def key_frame_stability(
    edited_kept: Float[Tensor, "batch copied"],
    kept: Float[Tensor, "batch frames"],
    shown: Int[Tensor, "batch copied"],
) -> Float[Tensor, ""]:
    """Mean absolute difference of how likely a copied frame and its original are key frames. Source: ours.

    Args:
        edited_kept: how likely a frame of the copy is a key frame.
        kept: the same of the original.
        shown: which frame of the original a frame of the copy shows; -1 for none: it does not count.
    """
    is_shown = shown >= 0
    original = at_least_single(kept).gather(1, shown.clamp(min=0))
    apart = (at_least_single(edited_kept) - original).abs() * is_shown
    return (apart.sum(1) / is_shown.sum(1).clamp(min=1)).mean()
