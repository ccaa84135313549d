"""A scorer of key frames: a score of each frame of a video, from frozen frame features.

The input of a frame is its feature F_i, the change |F_i - F_{i-1}|, its cosines with the ``neighbours`` frames on
either side, and the largest of these. The scores, initially zero, are the preferences in the selection ``coverage`` of
:mod:`videomatch.localisation.key_frame_selection`, and trained through the expectation over all such selections with
the budgeted number of key frames (:func:`soft_assignment`).

# Deviation: SSAN (Jiang et al., "Learning Segment Similarity and Alignment in Large-Scale Content Based Video
Retrieval", ACM MM 2021, arXiv:2309.11091) trains a key-frame extractor together with its alignment, without labels, at
some 15 % of the frames. Neither its loss nor its network is public. This network and its objectives
(``key_frame_coverage``, ``key_frame_stability``) are ours.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from videomatch.common.precision import at_least_single, running_sum
from videomatch.localisation.key_frame_selection import TEMPERATURE, max_run
from videomatch.models import SystemModel

#: log probability of an impossible event
IMPOSSIBLE = -1e6


class Config(PretrainedConfig):
    """A scorer of frames.

    Attributes:
        frame_dim: dimensions of a frame; the stage fills it.
        width, layers, kernel: channels, number and frames (odd) of the residual convolutions.
        neighbours: frames on either side with which a frame is compared.
        share: of frames that are key frames.
        longest: max frames that a key frame covers.
    """

    model_type = "key_frames"

    frame_dim: int = 256
    width: int = 64
    layers: int = 2
    kernel: int = 5
    neighbours: int = 4
    share: float = 0.15
    longest: int = 20

    def __post_init__(self, **others: Any) -> None:
        if self.kernel % 2 == 0 or min(self.kernel, self.neighbours, self.longest) < 1 or not 0 < self.share < 1:
            raise ValueError(
                f"key_frames: kernel {self.kernel}, neighbours {self.neighbours}, share {self.share}, longest "
                f"{self.longest}: expected an odd kernel, at least 1 neighbour, a share between 0 and 1 and at least 1 "
                "frame"
            )
        super().__post_init__(**others)


class Scorer(nn.Module):
    """Scores of frames, 0 in the padding; :meth:`assignment` with gradients."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.content = nn.Linear(config.frame_dim, width)
        self.change = nn.Linear(config.frame_dim, width)
        self.around = nn.Linear(2 * config.neighbours + 1, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.layers + 1))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, config.kernel, padding=config.kernel // 2) for _ in range(config.layers)
        )
        self.score = nn.Linear(width, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(
        self, frames: Float[Tensor, "batch frames frame_dim"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames"]:
        is_frame = mask[..., None].to(frames.dtype)
        unit = F.normalize(at_least_single(frames), dim=-1) * is_frame
        before = torch.cat([unit[:, :1], unit[:, :-1]], dim=1)
        hidden = self.content(unit * self.config.frame_dim**0.5)
        hidden = hidden + self.change((unit - before).abs() * self.config.frame_dim**0.5)
        hidden = hidden + self.around(self._around(unit))
        for norm, convolution in zip(self.norms, self.convolutions, strict=False):
            row = F.gelu(norm(hidden)) * is_frame  # as the convolution's own padding
            hidden = hidden + convolution(row.transpose(1, 2)).transpose(1, 2)
        return self.score(self.norms[-1](hidden))[..., 0] * mask

    def assignment(
        self, frames: Float[Tensor, "batch frames frame_dim"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames frames"]:
        unit = F.normalize(at_least_single(frames), dim=-1)
        scores = at_least_single(self(frames, mask))
        return soft_assignment(scores, unit, mask.bool(), share=self.config.share, longest=self.config.longest)

    def _around(self, unit: Float[Tensor, "batch frames frame_dim"]) -> Float[Tensor, "batch frames numbers"]:
        """Cosines with the frames before and after, nearest first, and the largest; 0 beyond the ends."""
        sides = []
        for step in range(1, self.config.neighbours + 1):
            cosine = (unit[:, step:] * unit[:, :-step]).sum(-1)
            step = min(step, unit.shape[1])
            sides += [F.pad(cosine, (step, 0)), F.pad(cosine, (0, step))]
        rows = torch.stack(sides, dim=-1)
        return torch.cat([rows, rows.amax(-1, keepdim=True)], dim=-1)


class Model(PreTrainedModel, SystemModel):
    """Assignments of frames, and of the frames of an edited copy if the batch has one."""

    scores_frames: ClassVar[bool] = True
    config_class = Config
    main_input_name = "frames"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.scorer = Scorer(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Layers keep PyTorch's own initialisation."""

    def forward(
        self,
        frames: Float[Tensor, "batch frames frame_dim"],
        mask: Bool[Tensor, "batch frames"],
        edited: Float[Tensor, "batch copied frame_dim"] | None = None,
        edited_mask: Bool[Tensor, "batch copied"] | None = None,
        **_: Tensor,
    ) -> dict[str, Tensor]:
        """``assignment`` as of :func:`soft_assignment`; ``keep_probability`` that a frame is a key frame, and
        ``edited_keep_probability`` of those of a copy; only directions of frames count."""
        outputs = {"assignment": self.scorer.assignment(frames, mask)}
        outputs["keep_probability"] = outputs["assignment"].diagonal(dim1=1, dim2=2)
        if edited is not None and edited_mask is not None:
            outputs["edited_keep_probability"] = self.scorer.assignment(edited, edited_mask).diagonal(dim1=1, dim2=2)
        return outputs


def soft_assignment(
    scores: Float[Tensor, "batch frames"],
    unit: Float[Tensor, "batch frames dim"],
    mask: Bool[Tensor, "batch frames"],
    *,
    share: float,
    longest: int,
) -> Float[Tensor, "batch frames frames"]:
    """Probability that frame j is the key frame that covers frame i; 0 in the padding, else rows sum to 1.

    The distribution is over all cuts of a video into a fixed number of runs with one key frame each, with probability
    proportional to ``exp(-cost)``; the selection ``coverage`` is the most likely one. (Sums over segmentations as in a
    semi-Markov conditional random field: Sarawagi and Cohen, NIPS 2004.) Only differences of scores count.
    """
    batch, count = mask.shape
    sizes = mask.sum(1)
    budgets = [max(1, math.ceil(share * n - 1e-9)) if n else 0 for n in sizes.tolist()]
    runs = [max_run(k, n) for k, n in zip(budgets, sizes.tolist(), strict=True) if n]
    longest = min(count, longest, max(runs, default=1))
    at = torch.arange(count, device=mask.device)[:, None] + torch.arange(longest, device=mask.device)
    inside = at[None] < sizes[:, None, None]  # (batch, starts, frames of the run)
    at = at.clamp(max=count - 1)
    with torch.autocast(unit.device.type, enabled=False):
        cost = (1 - unit @ unit.transpose(1, 2)) / TEMPERATURE
    # log weight of the run of l frames (third axis) from a frame with a key frame of them (fourth)
    run = scores[:, at][:, :, None] - running_sum(cost[:, at[:, :, None], at[:, None, :]], 2)
    possible = inside[:, :, :, None] & torch.ones(longest, longest, dtype=torch.bool, device=mask.device).tril()
    run = run.masked_fill(~possible, IMPOSSIBLE)
    length = run.logsumexp(3)
    probability = _run_probabilities(length, sizes, budgets)[..., None] * (run - length[..., None]).exp()
    covered = running_sum(probability.flip(2), 2).flip(2)  # the l-th frame of a run belongs to all runs of l or more
    place = at[:, :, None] * count + at[:, None, :]
    flat = scores.new_zeros(batch, count * count)
    flat = flat.index_add(1, place.flatten(), (covered * possible.any(2)[:, :, None] * inside[..., None]).flatten(1))
    return flat.view(batch, count, count)


def _run_probabilities(
    length: Float[Tensor, "batch frames lengths"], sizes: Tensor, budgets: list[int]
) -> Float[Tensor, "batch frames lengths"]:
    """Probability that a run of each length begins at each frame: forward-backward over all cuts."""
    batch, count, longest = length.shape
    device, rounds = length.device, max(budgets, default=0)
    starts = torch.arange(count + 1, device=device)[:, None] - torch.arange(1, longest + 1, device=device)
    ends = torch.arange(count, device=device)[:, None] + torch.arange(1, longest + 1, device=device)
    early, late = starts < 0, ends > count
    starts, ends = starts.clamp(min=0), ends.clamp(max=count)
    into = length[:, starts.clamp(max=count - 1), torch.arange(longest, device=device)].masked_fill(early, IMPOSSIBLE)
    onward = length.masked_fill(late, IMPOSSIBLE)
    edge = torch.arange(count + 1, device=device)
    before = torch.where(edge == 0, 0.0, IMPOSSIBLE).expand(batch, -1)
    after = torch.where(edge == sizes[:, None], 0.0, IMPOSSIBLE)
    beyond = after.new_full((batch, 1), IMPOSSIBLE)
    forward, backward = [before], [after]
    for _ in range(rounds):
        forward.append((forward[-1][:, starts] + into).logsumexp(2).clamp(min=IMPOSSIBLE))
        back = (backward[-1][:, ends] + onward).logsumexp(2).clamp(min=IMPOSSIBLE)
        backward.append(torch.cat([back, beyond], 1))
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
