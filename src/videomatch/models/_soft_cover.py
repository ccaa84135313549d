"""All ways to cut videos into runs with a key frame each, every one as likely as e to the minus its cost: which frame
stands for which, in expectation, so that gradients reach the scores of the frames.

The likeliest of them is what :func:`localisation.keyframe_cover.cover` chooses; costs and scores are the same. The
number of key frames of a video is exact, not a penalty. (Sums over segmentations as in a semi-Markov conditional random
field: Sarawagi and Cohen, NIPS 2004.)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from videomatch.localisation.keyframe_cover import TEMPERATURE, longest_run

#: logarithm of the likelihood of what can't be
NEVER = -1e6


def stand_ins(
    scores: Float[Tensor, "batch frames"],
    unit: Float[Tensor, "batch frames dim"],
    mask: Bool[Tensor, "batch frames"],
    *,
    share: float,
    longest: int,
) -> Float[Tensor, "batch frames frames"]:
    """How likely frame j is the key frame that stands for frame i; 0 in the padding, else rows sum to 1. On the
    diagonal, how likely a frame is one.

    Args:
        scores: in favour of a frame; only differences count.
        unit: unit vectors. mask: true where a frame is; padded at the end.
        share: of frames that are key frames, rounded up.
        longest: frames for which one may stand.
    """
    batch, count = mask.shape
    sizes = mask.sum(1)
    budgets = [max(1, math.ceil(share * n - 1e-9)) if n else 0 for n in sizes.tolist()]
    most = min(
        count, longest, max((longest_run(k, n) for k, n in zip(budgets, sizes.tolist(), strict=True) if n), default=1)
    )
    at = torch.arange(count, device=mask.device)[:, None] + torch.arange(most, device=mask.device)
    inside = at[None] < sizes[:, None, None]  # (batch, starts, frames of the run)
    at = at.clamp(max=count - 1)
    with torch.autocast(unit.device.type, enabled=False):
        lost = (1 - unit @ unit.transpose(1, 2)) / TEMPERATURE
    # of the run from a frame on with l frames (third axis) and a key frame of them (fourth)
    run = scores[:, at][:, :, None] - lost[:, at[:, :, None], at[:, None, :]].cumsum(2)
    possible = inside[:, :, :, None] & torch.ones(most, most, dtype=torch.bool, device=mask.device).tril()
    run = run.masked_fill(~possible, NEVER)
    length = run.logsumexp(3)
    chance = _runs(length, sizes, budgets)[..., None] * (run - length[..., None]).exp()
    # a frame of a run: one of its first l
    within = chance.flip(2).cumsum(2).flip(2)
    place = at[:, :, None] * count + at[:, None, :]
    flat = scores.new_zeros(batch, count * count)
    flat = flat.index_add(1, place.flatten(), (within * possible.any(2)[:, :, None] * inside[..., None]).flatten(1))
    return flat.view(batch, count, count)


def _runs(
    length: Float[Tensor, "batch frames lengths"], sizes: Tensor, budgets: list[int]
) -> Float[Tensor, "batch frames lengths"]:
    """How likely a run of so many frames begins at a frame: forwards and backwards over all cuts."""
    batch, count, most = length.shape
    device, rounds = length.device, max(budgets, default=0)
    starts = torch.arange(count + 1, device=device)[:, None] - torch.arange(1, most + 1, device=device)
    ends = torch.arange(count, device=device)[:, None] + torch.arange(1, most + 1, device=device)
    early, late = starts < 0, ends > count
    starts, ends = starts.clamp(min=0), ends.clamp(max=count)
    into = length[:, starts.clamp(max=count - 1), torch.arange(most, device=device)].masked_fill(early, NEVER)
    onward = length.masked_fill(late, NEVER)
    edge = torch.arange(count + 1, device=device)
    before = torch.where(edge == 0, 0.0, NEVER).expand(batch, -1)
    after = torch.where(edge == sizes[:, None], 0.0, NEVER)
    forward, backward = [before], [after]
    for _ in range(rounds):
        forward.append((forward[-1][:, starts] + into).logsumexp(2).clamp(min=NEVER))
        backward.append(
            torch.cat(
                [(backward[-1][:, ends] + onward).logsumexp(2).clamp(min=NEVER), after.new_full((batch, 1), NEVER)], 1
            )
        )
    found = []
    for number, budget in enumerate(budgets):
        if not budget:
            found.append(torch.zeros_like(length[number]))
            continue
        whole = forward[budget][number, sizes[number]]
        ahead = torch.stack([forward[k][number, :count] for k in range(budget)])
        behind = torch.stack([backward[budget - 1 - k][number] for k in range(budget)])
        found.append(((ahead[:, :, None] + behind[:, ends] - whole).logsumexp(0) + onward[number]).exp())
    return torch.stack(found)
