"""Hard samples of text-video search: negatives that beat the positive, mined negatives, and masked parts of a pair that
must match less than the whole (Ant Group: DMAE, ACM MM 2023; CNVid and HSCL, CVPR 2023; TPM-CL)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.common.distributed import all_gather
from videomatch.common.precision import at_least_single

#: columns of the partial-order scores: two with masked frames, one with masked words
ORDERS = {"visual": slice(0, 2), "textual": slice(2, 3), "both": slice(0, 3)}


def neg_nce(
    similarity: Float[Tensor, "texts videos"],
    video: Int[Tensor, " texts"] | None = None,
    *,
    scale: float = 100.0,
    negative_weight: float = 0.5,
    margin: float = 0.0,
    clamp: float = 0.0,
    same_video: bool = False,
) -> Float[Tensor, ""]:
    """Symmetric cross entropy of scaled similarities, and of the negatives that beat a positive, in nats.

    Source: NegNCE of DMAE (ACM MM 2023, published code). With P the softmax over a row of ``scale`` s, it is the mean
    of -log P_ii, plus ``negative_weight`` times the mean of -log(1 - P_ij) over all i != j where s_ij is above s_ii or
    s_jj less ``margin``; of s and of its transpose, averaged. With ``negative_weight`` 0 it is CLIP's cross entropy at
    a fixed scale (CLIP4Clip).

    # Deviation: theirs clamps P to [1e-6, 1 - 1e-6], so that the worst rows have no gradient; so does ours with
    ``clamp: 1e-6``. By default the logarithms are exact.
    # Deviation: theirs counts another caption of the same ``video`` as a negative. Here it is none unless
    ``same_video``.
    """
    scores = all_gather(at_least_single(similarity))
    positive = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    is_negative = ~positive
    if video is not None and not same_video:
        videos = all_gather(video)
        is_negative = videos[:, None] != videos
    own = scores.diagonal()
    is_hard = is_negative & (scores > torch.minimum(own[:, None], own) - margin)
    losses = []
    for rows, negative, hard in ((scores, is_negative, is_hard), (scores.T, is_negative, is_hard.T)):
        log_p, log_rest = _log_softmax(scale * rows, negative | positive)
        if clamp:
            log_p, log_rest = (x.clamp(math.log(clamp), math.log1p(-clamp)) for x in (log_p, log_rest))
        losses.append(-log_p.diagonal().mean())
        if negative_weight:
            losses.append(-negative_weight * torch.where(hard, log_rest, 0.0).sum() / hard.sum().clamp(min=1))
    return torch.stack(losses).sum() / 2


def _log_softmax(logits: Tensor, is_kept: Bool[Tensor, "n n"]) -> tuple[Tensor, Tensor]:
    """log P and log(1 - P) of a softmax over those of each row that are kept; 0 for others."""
    logits = logits.masked_fill(~is_kept, -torch.inf)
    total = logits.logsumexp(1, keepdim=True)
    log_p = (logits - total).masked_fill(~is_kept, 0.0)
    # only the largest may be near 1: what the others have is summed up, not subtracted from 1
    is_largest = torch.zeros_like(is_kept).scatter(1, logits.argmax(1, keepdim=True), value=True)
    others = logits.masked_fill(is_largest, -torch.finfo(logits.dtype).max).logsumexp(1, keepdim=True)
    small = torch.log1p(-log_p.masked_fill(is_largest | ~is_kept, -torch.inf).exp())
    return log_p, torch.where(is_largest, others - total, small)


def row_nce(
    mined_scores: Float[Tensor, "texts 1+mined"],
    row_weight: Float[Tensor, " texts"] | None = None,
) -> Float[Tensor, ""]:
    """Weighted cross entropy of a text's own video, in column 0, against the videos mined for it, in nats.

    Source: HSCL's second stage (CVPR 2023, published code), with ``row_weight`` of
    :func:`videomatch.models.video_text.row_weights`.

    # Deviation: theirs is the symmetric MIL-NCE, which takes a column of mined videos, another one in each row, for
    texts of one video. Here rows alone count.
    """
    scores = at_least_single(mined_scores)
    each = scores.logsumexp(1) - scores[:, 0]
    return (each if row_weight is None else row_weight.to(each.dtype) * each).mean()


def partial_order(
    whole_scores: Float[Tensor, "batch 3"],
    part_scores: Float[Tensor, "batch 3"],
    *,
    margin: float = 0.6,
    orders: Literal["visual", "textual", "both"] = "both",
) -> Float[Tensor, ""]:
    """A pair matches better, by a ``margin``, than with its most important frames or words masked: the sum over the
    ``orders`` of the mean of max(0, margin - whole + part).

    Source: TPM-CL (published code, types 2, 3 and 4); scores of :func:`videomatch.models.token_match.partial_scores`.
    """
    columns = ORDERS[orders]
    whole, part = at_least_single(whole_scores[:, columns]), at_least_single(part_scores[:, columns])
    return (margin - whole + part).clamp(min=0).mean(0).sum()
