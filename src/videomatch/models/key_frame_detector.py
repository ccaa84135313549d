"""A scorer of key frames and a detector of copied segments in one checkpoint, trained together.

The scorer (:mod:`videomatch.models.key_frames`) assigns a reference's frames softly to key frames. The detector
(:mod:`videomatch.models.segment_detector`) reads the map of the query's frames, an edited copy, and of the expected key
frame of each of the reference's frames, so its loss has a gradient in the scorer, which has its own objectives as well.

# Deviation: SSAN (arXiv:2309.11091) trains both together, too; how, is not public. This is ours.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.common.precision import at_least_single
from videomatch.models import key_frames, segment_detector


class Config(segment_detector.Config):
    """A detector and a scorer, whose options are ``scorer``; the stage fills ``frame_dim``."""

    model_type = "key_frame_detector"

    frame_dim: int = 256
    scorer: dict[str, Any] | None = None

    def __post_init__(self, **others: Any) -> None:
        self.scorer = self.scorer or {}
        key_frames.Config(frame_dim=self.frame_dim, **self.scorer)  # raises an error for a wrong option
        super().__post_init__(**others)


class Model(segment_detector.Model):
    """The detector, and the scorer as a submodule."""

    scores_frames: ClassVar[bool] = True
    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.scorer = key_frames.Scorer(key_frames.Config(frame_dim=config.frame_dim, **config.scorer))  # pyright: ignore[reportCallIssue]

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        query_frames: Float[Tensor, "maps query_frames dim"],
        query_mask: Bool[Tensor, "maps query_frames"],
        reference_frames: Float[Tensor, "maps reference_frames dim"],
        reference_mask: Bool[Tensor, "maps reference_frames"],
        segments: Float[Tensor, "maps segments 4"],
        segments_mask: Bool[Tensor, "maps segments"],
        **_: Tensor,
    ) -> dict[str, Tensor]:
        """The detector's outputs and the inputs of the scorer's objectives: ``frames``, ``mask``, ``assignment`` and
        ``keep_probability`` of the references, then of the queries, ``(2 maps, frames …)``; ``edited_keep_probability``
        of the queries and ``source_frame``, the reference frame of each of theirs."""
        frames, masks = (reference_frames, query_frames), (reference_mask, query_mask)
        units = [F.normalize(at_least_single(rows), dim=-1) for rows in frames]
        assignments = [self.scorer.assignment(rows, mask) for rows, mask in zip(frames, masks, strict=True)]
        with torch.autocast(query_frames.device.type, enabled=False):
            reference = F.normalize(assignments[0] @ units[0], dim=-1)
            similarity = units[1] @ reference.transpose(1, 2)
        outputs = super().forward(similarity, query_mask, reference_mask, segments, segments_mask)
        longest = max(mask.shape[1] for mask in masks)
        more = [longest - mask.shape[1] for mask in masks]
        assignment = torch.cat([F.pad(x, (0, n, 0, n)) for x, n in zip(assignments, more, strict=True)])
        keep_probability = assignment.diagonal(dim1=1, dim2=2)
        source_frame = source_frames(query_mask, segments, segments_mask)
        maps = len(similarity)
        return outputs | {
            "assignment": assignment,
            "keep_probability": keep_probability,
            "mask": torch.cat([F.pad(x, (0, n)) for x, n in zip(masks, more, strict=True)]),
            "frames": torch.cat([F.pad(x, (0, 0, 0, n)) for x, n in zip(units, more, strict=True)]),
            "edited_keep_probability": keep_probability[maps:, : query_mask.shape[1]].repeat(2, 1),
            "source_frame": torch.cat([source_frame, torch.full_like(source_frame, -1)]),
        }


def source_frames(
    mask: Bool[Tensor, "maps query_frames"],
    segments: Float[Tensor, "maps segments 4"],
    segments_mask: Bool[Tensor, "maps segments"],
) -> Int[Tensor, "maps query_frames"]:
    """The reference frame that the middle of each query frame is copied from; -1 for none."""
    middle = torch.arange(mask.shape[1], device=mask.device)[None, :, None] + 0.5
    start, end, first, last = segments[:, None].unbind(-1)
    inside = (middle >= start) & (middle < end) & segments_mask[:, None] & mask[..., None]
    at = first + (middle - start) * (last - first) / (end - start)
    frame = at.floor().clamp(min=0).long()
    return torch.where(inside, frame, -1).amax(-1)
