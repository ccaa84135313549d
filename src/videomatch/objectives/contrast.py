"""Contrastive objectives: pairs or views that belong together against all others of the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from videomatch.common.distributed import all_gather, rank_offset
from videomatch.common.precision import at_least_single


def clip_contrastive(
    image_embeds: Float[Tensor, "batch dim"],
    text_embeds: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
    video: Int[Tensor, " batch"],  # pyright: ignore[reportUndefinedVariable]
    *,
    max_scale: float = 100.0,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE between images and texts, in which all pairs from one video are positives; nats.

    Source: CLIP (Radford et al. 2021, arXiv:2103.00020, figure 3) with the bidirectional multi-positive cross-entropy
    of UniCL (Yang et al. 2022, arXiv:2204.03610, equations 2-4): the target of a row is uniform over its positives.
    Without two examples of one ``video`` in the batch it is CLIP's objective exactly. Embeddings are unit vectors;
    ``logit_scale`` is the logarithm of the inverse temperature, which is clamped to ``max_scale`` (CLIP, section 2.5).
    """
    images, texts = image_embeds.float(), text_embeds.float()
    scale = logit_scale.float().exp().clamp(max=max_scale)
    positive = (video[:, None] == all_gather(video)[None, :]).float()
    target = positive / positive.sum(1, keepdim=True)  # symmetric relation: the same rows serve both directions
    to_texts = F.cross_entropy(images @ all_gather(texts).T * scale, target)
    to_images = F.cross_entropy(texts @ all_gather(images).T * scale, target)
    return (to_texts + to_images) / 2


def info_nce_views(
    view_embeds: Float[Tensor, "images views dim"],
    video: Int[Tensor, " images"],  # pyright: ignore[reportUndefinedVariable]
    *,
    temperature: float = 0.05,
) -> Float[Tensor, ""]:
    """Which of the batch's views show the same image? InfoNCE over edited views, nats, mean over views.

    Source: SSCD (Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection, CVPR 2022, equations 1-2), which
    is SimCLR's loss with two views or more; its temperature is 0.05.

    # Deviation: other frames of the same ``video``, which may be nearly the same, are no negatives.
    """
    own = at_least_single(view_embeds)
    found = all_gather(own)
    count, views, dim = own.shape
    first = rank_offset(own)
    image = torch.arange(len(found), device=own.device)
    with torch.autocast(own.device.type, enabled=False):
        logits = own.reshape(-1, dim) @ found.reshape(-1, dim).T / temperature
    rows = image[first : first + count].repeat_interleave(views)
    columns = image.repeat_interleave(views)
    is_same = rows[:, None] == columns
    is_video = all_gather(video)[rows][:, None] == all_gather(video)[columns]
    itself = torch.arange(len(rows), device=own.device)[:, None] + first * views
    is_self = torch.arange(len(columns), device=own.device) == itself
    others = logits.masked_fill(is_video, -torch.inf).logsumexp(1, keepdim=True)
    each = torch.logaddexp(others, logits) - logits
    positive = is_same & ~is_self
    return torch.where(positive, each, 0.0).sum() / positive.sum().clamp(min=1)


def entropy_spread(
    view_embeds: Float[Tensor, "images views dim"],
    video: Int[Tensor, " images"],  # pyright: ignore[reportUndefinedVariable]
) -> Float[Tensor, ""]:
    """Minus the logarithm of the distance to the nearest view of another video, mean over views, nats; 0 if there is
    only one video.

    Source: the differential entropy regulariser of SSCD (equation 3), the Kozachenko-Leonenko estimator of Sablayrolles
    et al. (Spreading vectors for similarity search, ICLR 2019, arXiv:1806.03198).
    """
    own = at_least_single(view_embeds)
    found = all_gather(own)
    views, dim = own.shape[1:]
    owner, every = video.repeat_interleave(views), all_gather(video).repeat_interleave(views)
    others = owner[:, None] != every
    flat, whole = own.reshape(-1, dim), found.reshape(-1, dim)
    with torch.autocast(own.device.type, enabled=False), torch.no_grad():
        nearest = (flat @ whole.T).masked_fill(~others, -2.0).argmax(1)
    distance = (flat - whole[nearest]).square().sum(1).clamp(min=1e-8).sqrt()
    has = others.any(1)
    return -torch.where(has, distance.log(), 0.0).sum() / has.sum().clamp(min=1)
