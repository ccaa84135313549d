"""A scorer of key frames: how much each frame of a video deserves to be kept, read off frozen frame features.

What a frame is scored by: its own feature F_i, the change |F_i - F_{i-1}|, and how alike it is to the frames around it
(cosines with the ``neighbours`` frames on either side, and the largest of them). Convolutions over time make one score
of that. Scores alone choose badly, since which frames go well together is no matter of each; so they are preferences
within a choice that covers all frames (:mod:`localisation.keyframe_cover`), zero to begin with, and learn through the
mean over all such choices (:mod:`videomatch.models._soft_cover`), which number of key frames is always the budget.

# Deviation: SSAN (Jiang et al., "Learning Segment Similarity and Alignment in Large-Scale Content Based Video
Retrieval", ACM MM 2021, arXiv:2309.11091) trains a key-frame extractor together with its alignment, without labels, at
some 15 % of the frames. Neither its loss nor its network is public. This network and its objectives
(``key_frame_coverage``, ``key_frame_stability``) are ours.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from videomatch.common.precision import at_least_single
from videomatch.models import SystemModel
from videomatch.models._soft_cover import stand_ins


class Config(PretrainedConfig):
    """A scorer of frames.

    Args:
        frame_dim: dimensions of a frame; the stage fills it.
        width: of the convolutions.
        layers: residual convolutions.
        kernel: frames that a convolution sees, odd.
        neighbours: frames on either side with which a frame is compared.
        share: of frames that are kept.
        longest: frames for which a key frame stands at most.

    Raises:
        ValueError: an even kernel, no neighbours, or a share that is none.
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
        longest: int = 20,
        **others: Any,
    ) -> None:
        if kernel % 2 == 0 or kernel < 1 or neighbours < 1 or not 0 < share < 1 or longest < 1:
            raise ValueError(
                f"key_frames: kernel {kernel}, neighbours {neighbours}, share {share}, longest {longest}: expected an "
                "odd kernel, at least 1 neighbour, a share between 0 and 1 and at least 1 frame"
            )
        self.frame_dim, self.width, self.layers = frame_dim, width, layers
        self.kernel, self.neighbours, self.share, self.longest = kernel, neighbours, share, longest
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
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(
        self, frames: Float[Tensor, "batch frames frame_dim"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames"]:
        """How much is in favour of keeping a frame; 0 where none is."""
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

    def stands_for(
        self, frames: Float[Tensor, "batch frames frame_dim"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames frames"]:
        """How likely frame j is the key frame that stands for frame i; gradients reach the scores from it."""
        unit = F.normalize(at_least_single(frames), dim=-1)
        scores = at_least_single(self(frames, mask))
        return stand_ins(scores, unit, mask.bool(), share=self.config.share, longest=self.config.longest)

    def _around(self, unit: Float[Tensor, "batch frames frame_dim"]) -> Float[Tensor, "batch frames numbers"]:
        """Cosines with the frames before and behind, nearest first, and the largest; 0 where none is."""
        sides = []
        for step in range(1, self.config.neighbours + 1):
            cosine = (unit[:, step:] * unit[:, :-step]).sum(-1)
            step = min(step, unit.shape[1])
            sides += [F.pad(cosine, (step, 0)), F.pad(cosine, (0, step))]
        rows = torch.stack(sides, dim=-1)
        return torch.cat([rows, rows.amax(-1, keepdim=True)], dim=-1)


class Model(PreTrainedModel, SystemModel):
    """Scores of frames, and of the frames of an edited copy where the batch holds one."""

    scores_frames: ClassVar[bool] = True

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
        """``stands_for`` ``(batch, frames, frames)``, how likely frame j stands for frame i, and ``kept`` ``(batch,
        frames)``, how likely a frame is a key frame; with a copy also ``edited_kept``. 0 where no frame is. When it is
        not training, also ``scores`` and ``edited_scores``.

        Args:
            frames: in the order of time, padded at the end; only their directions count.
            mask: true where a frame is.
            edited, edited_mask: the same of the edited copy.
        """
        stands_for = self.scorer.stands_for(frames, mask)
        found = {"stands_for": stands_for, "kept": stands_for.diagonal(dim1=1, dim2=2)}
        if edited is not None and edited_mask is not None:
            found["edited_kept"] = self.scorer.stands_for(edited, edited_mask).diagonal(dim1=1, dim2=2)
        if not self.training:
            found["scores"] = self.keep(frames, mask)
            if edited is not None and edited_mask is not None:
                found["edited_scores"] = self.keep(edited, edited_mask)
        return found

    def keep(
        self, frames: Float[Tensor, "batch frames frame_dim"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames"]:
        """See :class:`Scorer`."""
        return self.scorer(frames, mask)
