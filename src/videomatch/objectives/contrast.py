"""Contrastive objectives: pairs or views that belong together against all others of the batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from videomatch.common.distributed import all_gather, rank_offset
from videomatch.common.precision import at_least_single
from videomatch.objectives.hard_negatives import row_nce


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
    only one video: SSCD's differential entropy regulariser (equation 3; Sablayrolles et al., Spreading vectors for
    similarity search, ICLR 2019, arXiv:1806.03198)."""
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


def mil_nce(
    text_embeds: Float[Tensor, "batch *texts dim"],
    clip_embeds: Float[Tensor, "batch *clips dim"],
    row_weights: Float[Tensor, " batch"] | None = None,  # pyright: ignore[reportUndefinedVariable]
    *,
    temperature: float = 1.0,
    all_pairs: bool = False,
) -> Float[Tensor, ""]:
    """Which texts belong to a video, and which video to a text, of all in the batch, where several of a video do? Mean
    over videos, nats, each times its ``row_weights``.

    Source: CNVid's form of MIL-NCE (Gan et al., CVPR 2023, published code): the middle clip of a video against all
    texts, of which each of its own counts as right, and its middle text against the clips of all other videos. A single
    text is repeated for every clip. With ``all_pairs`` as published for HowTo100M (Miech et al. 2020,
    arXiv:1912.06430): all of a video's clips against all texts and all of its texts against all clips, so that its own
    pairs count twice among all. Both publications compare without a temperature.
    """
    texts, clips = (x.reshape(len(x), -1, x.shape[-1]) for x in map(at_least_single, (text_embeds, clip_embeds)))
    if not all_pairs:
        texts = texts.expand(-1, max(texts.shape[1], clips.shape[1]), -1)
    anchors = [x if all_pairs else x[:, x.shape[1] // 2, None] for x in (texts, clips)]
    by_clip, by_text = _log_sums(anchors[1], texts, temperature), _log_sums(anchors[0], clips, temperature)
    return _mil_nce(by_clip, by_text, rank_offset(texts), row_weights, own_twice=all_pairs)


def lvwm(
    word_embeds: Float[Tensor, "batch words dim"],
    clip_embeds: Float[Tensor, "batch clips dim"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Local vision-word matching: :func:`mil_nce` of some words of each text with the clips, where a text's score is
    the log of the sum over its words of exp(product / temperature); nats.

    Source: SNP-S3 (Dong et al., IEEE T-CSVT 2023, published code), whose words are no unit vectors and which has no
    temperature.
    """
    words, clips = at_least_single(word_embeds), at_least_single(clip_embeds)
    by_clip = _log_sums(clips[:, clips.shape[1] // 2, None], words, temperature) + math.log(clips.shape[1])
    return _mil_nce(by_clip, _log_sums(words, clips, temperature), rank_offset(words))


def vtm(
    pair_scores: Float[Tensor, "batch columns"],
    own_column: Int[Tensor, " batch"],  # pyright: ignore[reportUndefinedVariable]
    row_weight: Float[Tensor, " batch"] | None = None,  # pyright: ignore[reportUndefinedVariable]
) -> Float[Tensor, ""]:
    """Video-text matching by a joint encoder: :func:`mil_nce` of its logits within groups of examples (CNVid, Gan et
    al., CVPR 2023, published code), or with a ``row_weight``, as the videos of each text were mined,
    :func:`videomatch.objectives.hard_negatives.row_nce`; mean over examples, nats.

    ``pair_scores[i, j]`` is the logit of text i with video j of its group; groups are runs of as many rows as there are
    columns, and ``own_column`` counts 0, 1, … in each (the last may be shorter: logits that do not exist are -inf).
    """
    if row_weight is not None:
        return row_nce(pair_scores, row_weight)
    scores = at_least_single(pair_scores)
    columns = torch.arange(scores.shape[1], device=scores.device)
    group = torch.arange(len(scores), device=scores.device) - own_column  # its first row
    rows = (group[:, None] + columns).clamp(max=len(scores) - 1)
    by_video = scores[rows, own_column[:, None]].masked_fill(scores.isneginf(), -torch.inf)
    own = columns == own_column[:, None]
    by_text = scores.masked_fill(own, -torch.inf)
    return (torch.cat((by_video, by_text), 1).logsumexp(1) - scores[own]).mean()


def moco_nce(
    text_embeds: Float[Tensor, "batch dim"],
    video_embeds: Float[Tensor, "batch dim"],
    text_keys: Float[Tensor, "batch dim"],
    video_keys: Float[Tensor, "batch dim"],
    text_queue: Float[Tensor, "queue dim"],
    video_queue: Float[Tensor, "queue dim"],
    queue_video: Int[Tensor, " queue"],
    video: Int[Tensor, " batch"],  # pyright: ignore[reportUndefinedVariable]
    *,
    temperature: float = 0.05,
) -> Float[Tensor, ""]:
    """InfoNCE of texts against a queue of videos and of videos against a queue of texts, whose entries a momentum
    encoder computed for earlier batches; mean over examples and both directions, nats.

    Source: MoCo (He et al. 2020, arXiv:1911.05722) as CNVid (Gan et al., CVPR 2023) uses it, temperature 0.05.

    # Deviation: theirs begins with random vectors in the queue and counts other texts of the same video as negatives.
    Here entries of no video (``queue_video`` -1) and of the example's own ``video`` do not count.
    """
    skipped = (queue_video < 0) | (queue_video == video[:, None])
    total = []
    for query, key, queue in ((text_embeds, video_keys, video_queue), (video_embeds, text_keys, text_queue)):
        query, key, queue = at_least_single(query), at_least_single(key), at_least_single(queue)
        with torch.autocast(query.device.type, enabled=False):
            right = (query * key).sum(1, keepdim=True) / temperature
            wrong = (query @ queue.T / temperature).masked_fill(skipped, -torch.inf)
        total.append((torch.cat((right, wrong), 1).logsumexp(1) - right[:, 0]).mean())
    return (total[0] + total[1]) / 2


def _log_sums(own: Tensor, others: Tensor, temperature: float) -> Float[Tensor, "batch total"]:
    """Log of the sum of exp(product / temperature) over all pairs of one of an example's own vectors and one of those
    of any example of any process."""
    with torch.autocast(own.device.type, enabled=False):
        return torch.einsum("iad,jbd->ijab", own, all_gather(others)).div(temperature).flatten(2).logsumexp(2)


def _mil_nce(
    by_clip: Tensor, by_text: Tensor, first: int, weights: Tensor | None = None, own_twice: bool = False
) -> Tensor:
    """Of log-sums ``(batch, total)``: an example's clip with the texts of all, and its text with the clips of all."""
    rows = torch.arange(len(by_clip), device=by_clip.device)
    own = by_clip[rows, rows + first]
    if not own_twice:
        is_own = torch.arange(by_text.shape[1], device=by_text.device) == (rows + first)[:, None]
        by_text = by_text.masked_fill(is_own, -torch.inf)
    each = torch.cat((by_clip, by_text), 1).logsumexp(1) - own
    return each.mean() if weights is None else (each * weights).mean()
