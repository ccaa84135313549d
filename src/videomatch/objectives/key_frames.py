"""Which frames to keep, so that few stand for all and a copy keeps the same ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.precision import at_least_single


def key_frame_coverage(
    keep_logits: Float[Tensor, "batch frames"],
    frames: Float[Tensor, "batch frames dim"],
    mask: Bool[Tensor, "batch frames"],
    *,
    far: float = 0.00625,
) -> Float[Tensor, ""]:
    """How badly the kept frames stand for all: mean over frames of one minus the cosine with the kept frame that stands
    for it, the most alike one, in expectation over which frames are kept; each is with its own probability.

    Source: ours, in place of the unpublished loss of SSAN's key-frame extractor (arXiv:2309.11091). The expectation is
    exact: with all frames j in the order in which they would stand for i, j does if it is kept and none before it is.
    (A relaxed draw, straight through, gave gradients too noisy to tell frames apart.) A frame stands for itself only if
    it is kept; a video of which nothing is kept has cosine 0.

    Args:
        keep_logits: log odds that a frame is kept.
        frames: features; only directions count.
        mask: true where a frame is.
        far: cosine by which another frame, one step further away, must be more alike to stand for a frame.
    """
    logits = at_least_single(keep_logits)
    unit = F.normalize(at_least_single(frames), dim=-1)
    with torch.autocast(unit.device.type, enabled=False):
        cosine = unit @ unit.transpose(1, 2)
    place = torch.arange(unit.shape[1], device=unit.device)
    nearness = (cosine - far * (place[:, None] - place).abs()).masked_fill(~mask[:, None], -torch.inf)
    order = nearness.argsort(-1, descending=True)
    shape = cosine.shape
    kept, left = (
        x.masked_fill(~mask, low)[:, None].expand(shape).gather(2, order)
        for x, low in ((F.logsigmoid(logits), -torch.inf), (F.logsigmoid(-logits), 0.0))
    )
    chance = (kept + left.cumsum(-1) - left).exp()
    lost = 1 - (chance * cosine.gather(2, order)).sum(-1)
    return ((lost * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def key_frame_budget(
    keep_logits: Float[Tensor, "batch frames"],
    mask: Bool[Tensor, "batch frames"],
    *,
    share: float = 0.15,
) -> Float[Tensor, ""]:
    """Squared difference of the mean probability of a video's frames and ``share``, mean over videos. Source: ours.

    Args:
        keep_logits: log odds that a frame is kept.
        mask: true where a frame is.
        share: of frames to be kept.
    """
    kept = (at_least_single(keep_logits).sigmoid() * mask).sum(1) / mask.sum(1).clamp(min=1)
    return (kept - share).square().mean()


def key_frame_stability(
    edited_keep_logits: Float[Tensor, "batch copied"],
    keep_logits: Float[Tensor, "batch frames"],
    shown: Int[Tensor, "batch copied"],
) -> Float[Tensor, ""]:
    """Mean absolute difference of a copied frame's probability and its original's. Source: ours.

    Args:
        edited_keep_logits: log odds that a frame of the copy is kept.
        keep_logits: those of the original.
        shown: which frame of the original a frame of the copy shows; -1 for none: it does not count.
    """
    is_shown = shown >= 0
    original = at_least_single(keep_logits).sigmoid().gather(1, shown.clamp(min=0))
    apart = (at_least_single(edited_keep_logits).sigmoid() - original).abs() * is_shown
    return (apart.sum(1) / is_shown.sum(1).clamp(min=1)).mean()


def key_frame_alignment(
    edited_keep_logits: Float[Tensor, "batch copied"],
    keep_logits: Float[Tensor, "batch frames"],
    frames: Float[Tensor, "batch frames dim"],
    mask: Bool[Tensor, "batch frames"],
    edited: Float[Tensor, "batch copied dim"],
    shown: Int[Tensor, "batch copied"],
    *,
    temperature: float = 0.05,
    within: int = 2,
) -> Float[Tensor, ""]:
    """Kept frames of a copy should point to kept frames near those that they show: cross-entropy of the softmax, over
    the frames of all videos of the batch, of cosine / temperature + log p, averaged over the frames of the copies by
    their p; nats.

    Source: ours; what stands for the alignment's gradient that reaches SSAN's key frames (arXiv:2309.11091).

    Args:
        edited_keep_logits, keep_logits: log odds that a frame of the copy, of the original, is kept.
        frames, edited: features of both; only directions count.
        mask: true where a frame of the original is.
        shown: which frame of the original a frame of the copy shows; -1 for none: it does not count.
        temperature: of cosines.
        within: frames beside the true one that are as good.
    """
    unit, copied = (F.normalize(at_least_single(x), dim=-1) for x in (frames, edited))
    batch, count = mask.shape
    place = torch.arange(count, device=mask.device)
    with torch.autocast(unit.device.type, enabled=False):
        scores = torch.einsum("bmd,nfd->bmnf", copied, unit) / temperature
    scores = (scores + F.logsigmoid(at_least_single(keep_logits))).masked_fill(~mask, -torch.inf)
    near = ((shown[..., None] - place).abs() <= within) & (shown >= 0)[..., None]
    own = scores[torch.arange(batch, device=mask.device), :, torch.arange(batch, device=mask.device)]
    right = own.masked_fill(~(near & mask[:, None]), -torch.inf)
    counted = near.any(-1)
    right = torch.where(counted[..., None], right, 0.0)
    cost = scores.flatten(2).logsumexp(-1) - right.logsumexp(-1)
    weight = at_least_single(edited_keep_logits).sigmoid() * counted
    each = (torch.where(counted, cost, 0.0) * weight).sum(1) / weight.sum(1).clamp(min=1e-6)
    return each.mean()
