"""Similarities against margins, and against grades of judged pairs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from videomatch.common.distributed import all_gather, rank_offset
from videomatch.common.precision import at_least_single


def max_margin(
    similarity: Float[Tensor, "captions videos"],
    video: Int[Tensor, " captions"] | None = None,
    *,
    margin: float = 0.05,
    same_video: bool = False,
) -> Float[Tensor, ""]:
    """Bidirectional max-margin ranking loss over all negatives of the batch.

    Source: MMT (Gabeur et al., ECCV 2020, equation 3) in the scale of its published code: with s_ij the similarity of
    caption i and video j, the mean over i, j != i and both directions of max(0, margin + s_ij - s_ii) and
    max(0, margin + s_ij - s_jj). No hardest negatives are mined.

    # Deviation: theirs counts another caption of the same video as a negative. Here it is left out of sum and mean
    unless ``same_video``.
    """
    scores = at_least_single(similarity)
    own = torch.arange(len(scores), device=scores.device)
    diagonal = scores[own, own + rank_offset(scores)]
    short = (margin + scores - diagonal[:, None]).clamp(min=0) + (margin + scores - all_gather(diagonal)).clamp(min=0)
    if same_video or video is None:
        others = torch.ones_like(scores, dtype=torch.bool)
        others[own, own + rank_offset(scores)] = False
    else:
        others = video[:, None] != all_gather(video)
    counted = all_gather(others.sum(1))
    # the loop weights each process's loss by its rows: this makes it a mean over all terms
    terms = (2 * counted.sum()).clamp(min=1).to(scores.dtype)
    return torch.where(others, short, 0.0).sum() / terms * (len(counted) / max(1, len(scores)))


def triplet(
    video_embeds: Float[Tensor, "batch *levels dim"],
    text_embeds: Float[Tensor, "batch dim"],
    video: Int[Tensor, " batch"] | None = None,  # pyright: ignore[reportUndefinedVariable]
    *,
    margin: float = 0.2,
    hardest: bool = True,
    mean: bool = False,
    same_video: bool = False,
) -> Float[Tensor, ""]:
    """Triplet ranking loss in both directions with the hardest negative of the batch, summed over the batch.

    Source: VSE++ (Faghri et al. 2018, arXiv:1707.05612, equation 6) as dual encoding trains (Dong et al., CVPR 2019):
    with x_ij the inner product of video i and text j, the sum over i of max(0, margin + max_j x_ij - x_ii), and the
    same with videos and texts exchanged.

    # Deviation: theirs counts another caption of the same video as a negative, often as the hardest. Here it is not a
    negative unless ``same_video``.

    Args:
        video_embeds, text_embeds: unit vectors; of several levels, the mean of their losses is taken.
        hardest: the hardest negative only; otherwise all of them.
        mean: over the batch (over all negatives without ``hardest``) instead of the sum, which depends on the number of
            micro-batches (``accumulate``).
    """
    texts, videos = at_least_single(text_embeds), at_least_single(video_embeds)
    videos = videos.reshape(len(videos), -1, videos.shape[-1])
    all_texts, all_videos, first = all_gather(texts), all_gather(videos), rank_offset(texts)
    with torch.autocast(texts.device.type, enabled=False):  # a margin of bfloat16 scores would be noise
        by_video = torch.einsum("bld,nd->lbn", videos, all_texts)
        by_text = torch.einsum("bd,nld->lbn", texts, all_videos)
    count, total = by_video.shape[1:]
    places = torch.arange(total, device=texts.device)
    is_negative = places != places[first : first + count, None]
    if video is not None and not same_video:
        is_negative = is_negative & (all_gather(video) != video[:, None])
    own = by_video[:, :, first : first + count].diagonal(dim1=1, dim2=2)[..., None]
    costs = [(margin + x - own).clamp(min=0).masked_fill(~is_negative, 0.0) for x in (by_video, by_text)]
    added = sum((cost.amax(2) if hardest else cost).sum() for cost in costs) / len(by_video)
    terms = count * (1 if hardest else total)
    # the loop weights each process's loss by its rows
    return torch.as_tensor(added) / terms if mean else torch.as_tensor(added) * (total / count)


def cosine_mse(similarity: Float[Tensor, " pairs"], grade: Float[Tensor, " pairs"]) -> Float[Tensor, ""]:  # pyright: ignore[reportUndefinedVariable]
    """Mean squared difference of cosine and grade (the winners of AIAC 2021, track 1)."""
    found = at_least_single(similarity)
    return F.mse_loss(found, grade.to(found.dtype))


def pearson(
    similarity: Float[Tensor, " pairs"],  # pyright: ignore[reportUndefinedVariable]
    grade: Float[Tensor, " pairs"],  # pyright: ignore[reportUndefinedVariable]
    *,
    temperature: float = 0.2,
) -> Float[Tensor, ""]:
    """One minus Pearson's correlation of grades with the softmax, over the batch, of cosine / temperature; 0 to 2.

    Source: a note on the winners of AIAC 2021, track 1 ("LBPC": "Pearson on softmax(cos / 0.2)"). It leaves open what
    else is transformed; here the grades are not, and the correlation is over the pairs of the batch (of all processes).
    The softmax's normaliser cancels out: the objective is that exp(cosine / temperature) is linear in the grade. Where
    either side is constant the correlation counts as 0. With a small temperature the most similar pairs count most.
    """
    found = all_gather(at_least_single(similarity))
    found = (found / temperature).softmax(0)
    wanted = all_gather(grade.to(found.dtype))
    found, wanted = found - found.mean(), wanted - wanted.mean()
    return 1 - (F.normalize(found, dim=0) * F.normalize(wanted, dim=0)).sum()
