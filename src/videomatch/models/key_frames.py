"""A scorer of key frames: how much each frame of a video deserves to be kept, read off frozen frame features.

What a frame is scored by: its own feature F_i, the change |F_i - F_{i-1}|, and how alike it is to the frames around it
(cosines with the ``neighbours`` frames on either side, and the largest of them). Convolutions over time make one score
of that; its sigmoid is p_i.

# Deviation: SSAN (Jiang et al., "Learning Segment Similarity and Alignment in Large-Scale Content Based Video
Retrieval", ACM MM 2021, arXiv:2309.11091) trains a key-frame extractor together with its alignment, without labels, at
some 15 % of the frames. Neither its loss nor its network is public. This network and its objectives
(``key_frame_coverage``, ``key_frame_budget``, ``key_frame_stability``, ``key_frame_alignment``) are ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from videomatch.precision import at_least_single


class Config(PretrainedConfig):
    """A scorer of frames.

    Args:
        frame_dim: dimensions of a frame; the stage fills it.
        width: of the convolutions.
        layers: residual convolutions.
        kernel: frames that a convolution sees, odd.
        neighbours: frames on either side with which a frame is compared.
        share: of frames that it starts out to keep; no more than a start.

    Raises:
        ValueError: an even kernel, or no neighbours.
    """

    model_type = "key_frames"

    def __init__(
        self,
        *,
        frame_dim: int = 256,
        width: int = 64,
        layers: int = 2,
        kernel: int = 5,
        neighbours: int = 4,
        share: float = 0.15,
        **others: Any,
    ) -> None:
        if kernel % 2 == 0 or kernel < 1 or neighbours < 1 or not 0 < share < 1:
            raise ValueError(
                f"key_frames: kernel {kernel}, neighbours {neighbours}, share {share}: expected an odd kernel, at "
                "least 1 neighbour and a share between 0 and 1"
            )
        self.frame_dim, self.width, self.layers = frame_dim, width, layers
        self.kernel, self.neighbours, self.share = kernel, neighbours, share
        super().__init__(**others)


class Scorer(nn.Module):
    """The network itself."""

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
        bias: Any = self.score.bias
        with torch.no_grad():
            bias.fill_(math.log(config.share / (1 - config.share)))

    def forward(
        self, frames: Float[Tensor, "batch frames frame_dim"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames"]:
        """Logarithm of the odds that a frame is kept; gradients reach it from whatever weighs frames by its sigmoid
        (a similarity map times the root of both frames', for one)."""
        there = mask[..., None].to(frames.dtype)
        unit = F.normalize(at_least_single(frames), dim=-1) * there
        before = torch.cat([unit[:, :1], unit[:, :-1]], dim=1)
        hidden = self.content(unit * self.config.frame_dim**0.5)
        hidden = hidden + self.change((unit - before).abs() * self.config.frame_dim**0.5)
        hidden = hidden + self.around(self._around(unit))
        for norm, convolution in zip(self.norms, self.convolutions, strict=False):
            row = F.gelu(norm(hidden)) * there  # the padding is as empty as what lies beyond the tensor's end
            hidden = hidden + convolution(row.transpose(1, 2)).transpose(1, 2)
        return self.score(self.norms[-1](hidden))[..., 0] * mask

    def _around(self, unit: Float[Tensor, "batch frames frame_dim"]) -> Float[Tensor, "batch frames numbers"]:
        """Cosines with the frames before and behind, nearest first, and the largest; 0 where none is."""
        sides = []
        for step in range(1, self.config.neighbours + 1):
            cosine = (unit[:, step:] * unit[:, :-step]).sum(-1)
            step = min(step, unit.shape[1])
            sides += [F.pad(cosine, (step, 0)), F.pad(cosine, (0, step))]
        rows = torch.stack(sides, dim=-1)
        return torch.cat([rows, rows.amax(-1, keepdim=True)], dim=-1)


class Model(PreTrainedModel):
    """Scores of frames, and of the frames of an edited copy where the batch holds one."""

    config_class = Config
    main_input_name = "frames"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.scorer = Scorer(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Layers begin as they were drawn."""

    def forward(
        self,
        frames: Float[Tensor, "batch frames frame_dim"],
        mask: Bool[Tensor, "batch frames"],
        edited: Float[Tensor, "batch copied frame_dim"] | None = None,
        edited_mask: Bool[Tensor, "batch copied"] | None = None,
        **_: Tensor,
    ) -> dict[str, Tensor]:
        """``keep_logits`` ``(batch, frames)``; with a copy also ``edited_keep_logits``. 0 where no frame is.

        Args:
            frames: in the order of time, padded at the end; only their directions count.
            mask: true where a frame is.
            edited, edited_mask: the same of the edited copy.
        """
        found = {"keep_logits": self.keep(frames, mask)}
        if edited is not None and edited_mask is not None:
            found["edited_keep_logits"] = self.keep(edited, edited_mask)
        return found

    def keep(
        self, frames: Float[Tensor, "batch frames frame_dim"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames"]:
        """See :class:`Scorer`."""
        return self.scorer(frames, mask)


def stand_ins(
    keep_logits: Float[Tensor, "batch frames"],
    frames: Float[Tensor, "batch frames dim"],
    mask: Bool[Tensor, "batch frames"],
    *,
    far: float = 0.00625,
) -> Float[Tensor, "batch frames frames"]:
    """How likely frame j stands for frame i: it is kept, and none that is nearer to i is; see the objective
    ``key_frame_coverage``, which is one minus the mean cosine with what stands for a frame.

    Args:
        keep_logits: log odds that a frame is kept. frames: unit vectors. mask: true where a frame is.
        far: cosine by which another frame, one step further away, must be more alike.
    """
    place = torch.arange(frames.shape[1], device=frames.device)
    nearness = (frames @ frames.transpose(1, 2)).detach() - far * (place[:, None] - place).abs()
    order = nearness.masked_fill(~mask[:, None], -torch.inf).argsort(-1, descending=True)
    kept, left = (
        x.masked_fill(~mask, low)[:, None].expand(order.shape).gather(2, order)
        for x, low in ((F.logsigmoid(keep_logits), -torch.inf), (F.logsigmoid(-keep_logits), 0.0))
    )
    chance = (kept + left.cumsum(-1) - left).exp()
    return torch.zeros_like(chance).scatter(2, order, chance)


def processor(config: Config) -> None:
    """It reads features, no images."""
