"""Pairs that belong together against all others of the batch."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from videomatch.common.distributed import all_gather


def clip_contrastive(
    image_embeds: Float[Tensor, "batch dim"],
    text_embeds: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
    video: Int[Tensor, " batch"],  # pyright: ignore[reportUndefinedVariable]
    *,
    max_scale: float = 100.0,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE between images and texts, in which all pairs from one video are positives.

    Source: CLIP (Radford et al. 2021, arXiv:2103.00020, figure 3) with the bidirectional multi-positive cross-entropy
    of UniCL (Yang et al. 2022, arXiv:2204.03610, equations 2-4): the target of a row is uniform over its positives.
    Without two examples of one video in the batch it is CLIP's objective exactly.

    Args:
        image_embeds, text_embeds: unit vectors; row i of both belongs together.
        logit_scale: logarithm of the inverse temperature.
        video: number of the video an example comes from; equal numbers are positives of one another.
        max_scale: the inverse temperature is clamped to this (CLIP, section 2.5).

    Returns:
        mean over both directions and all rows, nats.
    """
    images, texts = image_embeds.float(), text_embeds.float()
    scale = logit_scale.float().exp().clamp(max=max_scale)
    positive = (video[:, None] == all_gather(video)[None, :]).float()
    target = positive / positive.sum(1, keepdim=True)  # symmetric relation: the same rows serve both directions
    to_texts = F.cross_entropy(images @ all_gather(texts).T * scale, target)
    to_images = F.cross_entropy(texts @ all_gather(images).T * scale, target)
    return (to_texts + to_images) / 2
