"""Objectives of pretraining: tags, masked words, masked frames, false texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.common.distributed import all_gather, masked_mean, rank_offset
from videomatch.common.precision import at_least_single


def bce_tags(
    logits: Float[Tensor, "batch labels"],
    labels: Float[Tensor, "batch labels"],
    is_tagged: Bool[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """Binary cross-entropy of multi-label tagging, mean over labels and the examples that are ``is_tagged``, nats; 0 if
    none is."""
    scores = at_least_single(logits)
    if is_tagged is None:
        return F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype))
    each = F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="none").mean(1)
    return masked_mean(each, is_tagged)


def softmax_tags(logits: Float[Tensor, "batch labels"], labels: Float[Tensor, "batch labels"]) -> Float[Tensor, ""]:
    """Cross-entropy of one softmax over all labels, of which each of an example's k is to have 1 / k, nats (Mahajan et
    al. 2018, arXiv:1805.00932): unlike :func:`bce_tags`, absent labels count no more the more of them there are. Mean
    over the examples that have a label."""
    targets = labels / labels.sum(1, keepdim=True).clamp(min=1)
    each = F.cross_entropy(at_least_single(logits), targets.float(), reduction="none")
    return masked_mean(each, labels.any(1))


def mlm(
    token_logits: Float[Tensor, "masked vocabulary"],
    token_targets: Int[Tensor, " masked"],  # pyright: ignore[reportUndefinedVariable]
) -> Float[Tensor, ""]:
    """Masked language modelling (Devlin et al. 2019, arXiv:1810.04805): cross-entropy, mean over masked tokens, nats; 0
    if there are none."""
    scores = at_least_single(token_logits)
    return F.cross_entropy(scores, token_targets, reduction="sum") / max(1, len(scores))


def fused_mlm(
    fused_logits: Float[Tensor, "masked vocabulary"],
    fused_targets: Int[Tensor, " masked"],  # pyright: ignore[reportUndefinedVariable]
) -> Float[Tensor, ""]:
    """:func:`mlm` where the encoder has also seen the video."""
    return mlm(fused_logits, fused_targets)


def itm(match_logits: Float[Tensor, "batch captions"]) -> Float[Tensor, ""]:
    """Image-text matching: does a text belong to the video? Binary cross-entropy of logits whose first column is of the
    true text and the others are of false ones, mean over both, nats (UNITER, Chen et al. 2020, arXiv:1909.11740)."""
    logits = at_least_single(match_logits)
    truth = torch.zeros_like(logits)
    truth[:, 0] = 1.0
    return F.binary_cross_entropy_with_logits(logits, truth)


def mfm_nce(
    frame_outputs: Float[Tensor, "masked dim"],
    frame_candidates: Float[Tensor, "frames dim"],
    frame_targets: Int[Tensor, " masked"],  # pyright: ignore[reportUndefinedVariable]
    *,
    temperature: float = 1.0,
    normalise: bool = False,
) -> Float[Tensor, ""]:
    """Which frame of the batch was masked? InfoNCE over all frames of the batch, those of the same video included, mean
    over masked ones, nats; 0 if there are none (the winners': nan). ``normalise``: compare by cosine.

    Source: the winners of AIAC 2021, track 1, who took it from HERO (Li et al. 2020, arXiv:2005.00200, masked frame
    modelling with noise contrastive estimation). By default as theirs, without a temperature.
    """
    outputs, candidates = at_least_single(frame_outputs), at_least_single(frame_candidates)
    if normalise:
        outputs, candidates = F.normalize(outputs, dim=-1), F.normalize(candidates, dim=-1)
    targets = frame_targets + rank_offset(candidates)
    with torch.autocast(outputs.device.type, enabled=False):  # raw features: large scores that bfloat16 would blur
        scores = outputs @ all_gather(candidates).T / temperature
    return F.cross_entropy(scores, targets, reduction="sum") / max(1, len(scores))
