"""What is minimised: pure functions from tensors to one number.

A system names an objective and its weight (``objectives: {clip_contrastive: {weight: 1.0}}``). The loop fills the
positional arguments by name from the model's outputs and the batch; keyword-only arguments are options of the
parameters. An objective averages over the examples of its batch, so that losses do not depend on the batch's size.

Where several processes train together each has rows of its own, and the loop weighs its loss by their share. What an
objective compares its rows with comes from all processes (:func:`videomatch.distributed.everyone`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.distributed import earlier, everyone


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
    images, texts = image_embeds.float(), text_embeds.float()
    scale = logit_scale.float().exp().clamp(max=max_scale)
    positive = (video[:, None] == everyone(video)[None, :]).float()
    target = positive / positive.sum(1, keepdim=True)  # symmetric relation: the same rows serve both directions
    to_texts = F.cross_entropy(images @ everyone(texts).T * scale, target)
    to_images = F.cross_entropy(texts @ everyone(images).T * scale, target)
    return (to_texts + to_images) / 2


def at_least_single(x: Tensor) -> Tensor:
    """``x`` in single precision, or in double if it came so: sums and exponentials need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def bce_tags(
    logits: Float[Tensor, "batch labels"],
    labels: Float[Tensor, "batch labels"],
    is_tagged: Bool[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """Binary cross-entropy of multi-label tagging, mean over examples and labels, nats.

    Args:
        logits: one score a label, before the sigmoid.
        labels: 1 where the label applies, else 0.
        is_tagged: false for examples whose labels are unknown: they are left out. 0 if all are.
    """
    scores = at_least_single(logits)
    if is_tagged is None:
        return F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype))
    counted = everyone(is_tagged.to(scores.dtype))
    each = F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="none").mean(1)
    # the loop weighs each process's loss by its rows, tagged or not: this makes it a mean over all that are tagged
    scale = counted.numel() / max(1, len(scores)) / counted.sum().clamp(min=1)
    return torch.where(is_tagged.bool(), each, 0.0).sum() * scale


def mlm(
    token_logits: Float[Tensor, "masked vocabulary"],
    token_targets: Int[Tensor, " masked"],  # pyright: ignore[reportUndefinedVariable]
) -> Float[Tensor, ""]:
    """Masked language modelling (Devlin et al. 2019, arXiv:1810.04805): cross-entropy, mean over masked tokens, nats.

    Args:
        token_logits: of masked tokens only.
        token_targets: the true tokens. None: the loss is 0.
    """
    scores = at_least_single(token_logits)
    return F.cross_entropy(scores, token_targets, reduction="sum") / max(1, len(scores))


def mfm_nce(
    frame_outputs: Float[Tensor, "masked dim"],
    frame_candidates: Float[Tensor, "frames dim"],
    frame_targets: Int[Tensor, " masked"],  # pyright: ignore[reportUndefinedVariable]
    *,
    temperature: float = 1.0,
    normalise: bool = False,
) -> Float[Tensor, ""]:
    """Which frame of the batch was masked? InfoNCE over all frames of the batch, mean over masked ones, nats.

    Source: the winners of AIAC 2021, track 1, who took it from HERO (Li et al. 2020, arXiv:2005.00200, masked frame
    modelling with noise contrastive estimation). By default as theirs: products of the output with features as they
    are, no temperature; negatives are all other frames, those of the same video included.

    # Deviation: theirs is not a number when nothing is masked; here it is 0.

    Args:
        frame_outputs: what the model says about each masked frame.
        frame_candidates: the features of all frames of the batch, unmasked.
        frame_targets: which candidate each masked frame is.
        temperature: divides the scores.
        normalise: compare directions instead.
    """
    outputs, candidates = at_least_single(frame_outputs), at_least_single(frame_candidates)
    if normalise:
        outputs, candidates = F.normalize(outputs, dim=-1), F.normalize(candidates, dim=-1)
    targets = frame_targets + earlier(candidates)
    with torch.autocast(outputs.device.type, enabled=False):  # raw features: large scores that bfloat16 would blur
        scores = outputs @ everyone(candidates).T / temperature
    return F.cross_entropy(scores, targets, reduction="sum") / max(1, len(scores))


def cosine_mse(similarity: Float[Tensor, " pairs"], grade: Float[Tensor, " pairs"]) -> Float[Tensor, ""]:  # pyright: ignore[reportUndefinedVariable]
    """Mean squared difference of cosine and grade (the winners of AIAC 2021, track 1).

    Args:
        similarity: cosines.
        grade: what they should be.
    """
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
    else is transformed. Read here: only the prediction goes through the softmax, the grades stay as they are, and the
    correlation is over the pairs of the batch (of all processes). Its normaliser cancels out: what is asked for is that
    exp(cosine / temperature) be linear in the grade. Where either side is constant the correlation counts as 0.

    Args:
        similarity: cosines.
        grade: judged similarities, larger is more alike.
        temperature: small ones look at the most alike pairs only.
    """
    found = everyone(at_least_single(similarity))
    found = (found / temperature).softmax(0)
    wanted = everyone(grade.to(found.dtype))
    found, wanted = found - found.mean(), wanted - wanted.mean()
    return 1 - (F.normalize(found, dim=0) * F.normalize(wanted, dim=0)).sum()


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

    # Deviation: theirs counts another caption of the same video, where the batch holds one, as a negative. Here it is
    left out of sum and mean unless ``same_video``.

    Args:
        similarity: row i is caption i of this process, columns are the videos of all processes in rank order; caption
            and video of an example stand at the same place.
        video: number of the video an example comes from.
        margin: by how much a pair has to beat the others.
        same_video: count another caption of the same video as a negative, as published.

    Returns:
        0 where there is no negative.
    """
    scores = at_least_single(similarity)
    own = torch.arange(len(scores), device=scores.device)
    diagonal = scores[own, own + earlier(scores)]
    short = (margin + scores - diagonal[:, None]).clamp(min=0) + (margin + scores - everyone(diagonal)).clamp(min=0)
    if same_video or video is None:
        others = torch.ones_like(scores, dtype=torch.bool)
        others[own, own + earlier(scores)] = False
    else:
        others = video[:, None] != everyone(video)
    counted = everyone(others.sum(1))
    # the loop weighs each process's loss by its rows: this makes it a mean over all terms
    terms = (2 * counted.sum()).clamp(min=1).to(scores.dtype)
    return torch.where(others, short, 0.0).sum() / terms * (len(counted) / max(1, len(scores)))


def triplet(
    video_embeds: Float[Tensor, "batch *levels dim"],
    text_embeds: Float[Tensor, "batch dim"],
    video: Int[Tensor, " batch"] | None = None,  # pyright: ignore[reportUndefinedVariable]
    *,
    margin: float = 0.2,
    hardest: bool = True,
    each: bool = True,
    mean: bool = False,
    same_video: bool = False,
) -> Float[Tensor, ""]:
    """Triplet ranking loss in both directions with the hardest negative of the batch, summed over the batch.

    Source: VSE++ (Faghri et al. 2018, arXiv:1707.05612, equation 6) as dual encoding trains (Dong et al., CVPR 2019):
    with x_ij the inner product of video i and text j, the sum over i of max(0, margin + max_j x_ij - x_ii), and the
    same with videos and texts exchanged.

    # Deviation: theirs counts another caption of the same video, which the batch may well hold, as a negative, and as
    the hardest one at that. Here it is none unless ``same_video``.

    Args:
        video_embeds: unit vectors, of every level where there are several.
        text_embeds: unit vectors; row i belongs to video i.
        video: number of the video an example comes from.
        margin: by how much a pair has to beat the others.
        hardest: look at the hardest negative only; otherwise at all of them.
        each: of several levels, the mean of their losses; otherwise the loss of their mean score.
        mean: over the batch (over all negatives without ``hardest``) instead of the sum. Of a batch that is computed in
            pieces (``accumulate``) only the mean does not depend on their number.
        same_video: count another caption of the same video as a negative, as published.
    """
    texts, videos = at_least_single(text_embeds), at_least_single(video_embeds)
    videos = videos.reshape(len(videos), -1, videos.shape[-1])
    all_texts, all_videos, first = everyone(texts), everyone(videos), earlier(texts)
    with torch.autocast(texts.device.type, enabled=False):  # a margin of bfloat16 scores would be noise
        by_video = torch.einsum("bld,nd->lbn", videos, all_texts)
        by_text = torch.einsum("bd,nld->lbn", texts, all_videos)
    if not each:
        by_video, by_text = by_video.mean(0, keepdim=True), by_text.mean(0, keepdim=True)
    count, total = by_video.shape[1:]
    places = torch.arange(total, device=texts.device)
    is_negative = places != places[first : first + count, None]
    if video is not None and not same_video:
        is_negative = is_negative & (everyone(video) != video[:, None])
    own = by_video[:, :, first : first + count].diagonal(dim1=1, dim2=2)[..., None]
    costs = [(margin + x - own).clamp(min=0).masked_fill(~is_negative, 0.0) for x in (by_video, by_text)]
    added = sum((cost.amax(2) if hardest else cost).sum() for cost in costs) / len(by_video)
    terms = count * (1 if hardest else total)
    # the loop weighs each process's loss by its rows
    return torch.as_tensor(added) / terms if mean else torch.as_tensor(added) * (total / count)


def segment_focal(
    objectness: Float[Tensor, "maps cells"],
    is_cell: Bool[Tensor, "maps cells"],
    is_assigned: Bool[Tensor, "maps cells"],
    boxes: Float[Tensor, "maps cells 4"],
    target_boxes: Float[Tensor, "maps cells 4"],
    *,
    beta: float = 2.0,
    usual: float = 8.0,
) -> Float[Tensor, ""]:
    """Which cells of a similarity map find a segment: quality focal loss, mean over maps.

    Source: Li et al., Generalized Focal Loss, NeurIPS 2020, equation 6: binary cross-entropy against how well the
    cell's box fits (its IoU with the segment; 0 for cells that are to find nothing), weighed by the distance to that,
    to the power ``beta``.

    # Deviation: theirs divides by the assigned cells of the whole batch; here every map is divided by its own, so that
    a map without a segment counts as much as one with ten.

    Args:
        objectness: before the sigmoid.
        is_cell: false in the padding.
        is_assigned: which cells are to find a segment.
        boxes, target_boxes: ``query_start, query_end, reference_start, reference_end`` found, and to be found.
        beta: how little cells that are nearly right count.
        usual: a map is divided by at least so many cells.
    """
    scores = at_least_single(objectness)
    fits = _overlap(boxes.detach().to(scores.dtype), target_boxes.to(scores.dtype))[0]
    target = torch.where(is_assigned, fits, 0.0)
    each = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
    each = each * (scores.sigmoid().detach() - target).abs() ** beta
    total = torch.where(is_cell, each, 0.0).sum(1)
    return (total / is_assigned.sum(1).clamp(min=usual)).mean()


def segment_giou(
    boxes: Float[Tensor, "maps cells 4"],
    target_boxes: Float[Tensor, "maps cells 4"],
    is_assigned: Bool[Tensor, "maps cells"],
) -> Float[Tensor, ""]:
    """How far the boxes that cells find are from their segments: 1 - GIoU, 0 to 2 (Rezatofighi et al., CVPR 2019, arXiv
    1902.09630), mean over a map's assigned cells, then over the maps that have some. 0 if none has.
    """
    overlap, _, united = _overlap(at_least_single(boxes), at_least_single(target_boxes))
    start = torch.minimum(boxes[..., 0::2], target_boxes[..., 0::2])
    end = torch.maximum(boxes[..., 1::2], target_boxes[..., 1::2])
    hull = (end - start).prod(-1).clamp(min=1e-6)
    each = torch.where(is_assigned, 1 - overlap + (hull - united) / hull, 0.0)
    return _mean_of_some(each.sum(1) / is_assigned.sum(1).clamp(min=1), is_assigned.any(1))


def segment_corners(
    refined: Float[Tensor, "maps segments steps 4"],
    segments: Float[Tensor, "maps segments 4"],
    segments_mask: Bool[Tensor, "maps segments"],
) -> Float[Tensor, ""]:
    """How far ends that were shifted and set right again are from the true ones, frames: Huber's loss (linear beyond
    one frame), mean over a map's segments, then over the maps that have some. 0 if none has.
    """
    wanted = segments[:, :, None].expand_as(refined).to(refined.dtype)
    each = F.smooth_l1_loss(at_least_single(refined), at_least_single(wanted), reduction="none").mean((2, 3))
    each = torch.where(segments_mask.bool(), each, 0.0).sum(1) / segments_mask.sum(1).clamp(min=1)
    return _mean_of_some(each, segments_mask.bool().any(1))


def _overlap(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """IoU, intersection and union of boxes (..., 4) with those at their places."""
    start = torch.maximum(boxes[..., 0::2], others[..., 0::2])
    end = torch.minimum(boxes[..., 1::2], others[..., 1::2])
    both = (end - start).clamp(min=0).prod(-1)
    areas = [(x[..., 1::2] - x[..., 0::2]).clamp(min=0).prod(-1) for x in (boxes, others)]
    united = (areas[0] + areas[1] - both).clamp(min=1e-6)
    return both / united, both, united


def _mean_of_some(each: Tensor, counts: Tensor) -> Tensor:
    """Mean over the examples that count, of all processes; 0 if none does."""
    counted = everyone(counts.to(each.dtype))
    # the loop weighs each process's loss by its rows, counted or not
    scale = counted.numel() / max(1, len(each)) / counted.sum().clamp(min=1)
    return torch.where(counts, each, 0.0).sum() * scale


def info_nce_views(
    view_embeds: Float[Tensor, "images views dim"],
    video: Int[Tensor, " images"],  # pyright: ignore[reportUndefinedVariable]
    *,
    temperature: float = 0.05,
) -> Float[Tensor, ""]:
    """Which of the batch's views show the same image? InfoNCE over edited views, nats, mean over views.

    Source: SSCD (Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection, CVPR 2022, equations 1-2), which
    is SimCLR's loss with two views or more; its temperature is 0.05.

    # Deviation: other frames of the same video, which may be all but the same, are no negatives.

    Args:
        view_embeds: unit vectors, all views of an image side by side.
        video: number of the video an image comes from.
        temperature: of the softmax.
    """
    own = at_least_single(view_embeds)
    found = everyone(own)
    count, views, dim = own.shape
    first = earlier(own)
    image = torch.arange(len(found), device=own.device)
    with torch.autocast(own.device.type, enabled=False):
        logits = own.reshape(-1, dim) @ found.reshape(-1, dim).T / temperature
    rows = image[first : first + count].repeat_interleave(views)
    columns = image.repeat_interleave(views)
    is_same = rows[:, None] == columns
    is_video = everyone(video)[rows][:, None] == everyone(video)[columns]
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
    """How crowded the sphere is: minus the logarithm of the distance to the nearest other, mean over views, nats.

    Source: the differential entropy regulariser of SSCD (equation 3), the Kozachenko-Leonenko estimator of Sablayrolles
    et al. (Spreading vectors for similarity search, ICLR 2019, arXiv:1806.03198): it makes one threshold mean the same
    everywhere. Nearest is looked for among views of other videos. 0 if there is only one video.
    """
    own = at_least_single(view_embeds)
    found = everyone(own)
    views, dim = own.shape[1:]
    owner, every = video.repeat_interleave(views), everyone(video).repeat_interleave(views)
    others = owner[:, None] != every
    flat, whole = own.reshape(-1, dim), found.reshape(-1, dim)
    with torch.autocast(own.device.type, enabled=False), torch.no_grad():
        nearest = (flat @ whole.T).masked_fill(~others, -2.0).argmax(1)
    distance = (flat - whole[nearest]).square().sum(1).clamp(min=1e-8).sqrt()
    has = others.any(1)
    return -torch.where(has, distance.log(), 0.0).sum() / has.sum().clamp(min=1)


def key_frame_coverage(
    keep_logits: Float[Tensor, "batch frames"],
    frames: Float[Tensor, "batch frames dim"],
    mask: Bool[Tensor, "batch frames"],
    keep_noise: Float[Tensor, "batch frames"],
    *,
    temperature: float = 0.05,
    span: float = 8.0,
    relaxation: float = 0.5,
) -> Float[Tensor, ""]:
    """How badly the kept frames stand for all: mean over frames of 1 - sum_j a_ij cos(i, j), where the weights a_ij are
    a softmax over kept frames j of cos(i, j) / temperature - |i - j| / span.

    Source: ours, in place of the unpublished loss of SSAN's key-frame extractor (arXiv:2309.11091). Which frames are
    kept is drawn: those with a positive logit + noise. The gradient is that of the relaxed draw, log sigmoid((logit +
    noise) / relaxation), straight through (Maddison et al. 2017, arXiv:1611.00712; Jang et al. 2017, arXiv:1611.01144).
    Without a draw every frame would stand for itself, at no cost.

    Args:
        keep_logits: log odds that a frame is kept.
        frames: features; only directions count.
        mask: true where a frame is.
        keep_noise: draws from the standard logistic distribution.
        temperature: of cosines.
        span: frames over which a key frame's weight falls to 1/e.
        relaxation: temperature of the relaxed draw.
    """
    drawn = at_least_single(keep_logits) + keep_noise
    soft = F.logsigmoid(drawn / relaxation)
    weight = soft + (torch.where(drawn > 0, 0.0, -30.0) - soft).detach()
    unit = F.normalize(at_least_single(frames), dim=-1)
    with torch.autocast(unit.device.type, enabled=False):
        cosine = unit @ unit.transpose(1, 2)
    place = torch.arange(unit.shape[1], device=unit.device)
    far = (place[:, None] - place).abs() / span
    scores = (cosine / temperature - far + weight[:, None]).masked_fill(~mask[:, None], -torch.inf)
    lost = 1 - (scores.softmax(-1) * cosine).sum(-1)
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
