"""What is minimised: pure functions from tensors to one number.

A system names an objective and its weight (``objectives: {clip_contrastive: {weight: 1.0}}``). The loop fills the
positional arguments by name from the model's outputs and the batch; keyword-only arguments are options of the
parameters. An objective averages over the examples of its batch, so that losses do not depend on the batch's size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


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
        image_embeds: unit vectors.
        text_embeds: unit vectors; row i belongs to image i.
        logit_scale: logarithm of the inverse temperature.
        video: number of the video an example comes from; equal numbers are positives of one another.
        max_scale: the inverse temperature is cut off here (CLIP, section 2.5).

    Returns:
        mean over both directions and all rows, nats.
    """
    similarity = image_embeds.float() @ text_embeds.float().T
    logits = similarity * logit_scale.float().exp().clamp(max=max_scale)
    positive = (video[:, None] == video[None, :]).float()
    target = positive / positive.sum(1, keepdim=True)  # symmetric relation: the same rows serve both directions
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def bce_tags(logits: Float[Tensor, "batch labels"], labels: Float[Tensor, "batch labels"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of multi-label tagging, mean over examples and labels, nats.

    Args:
        logits: one score a label, before the sigmoid.
        labels: 1 where the label applies, else 0.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), labels.to(torch.float32))
