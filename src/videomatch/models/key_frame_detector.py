"""A scorer of key frames and a detector of copied segments that learn together: one checkpoint that keeps and detects.

Every frame of both videos gets a probability of being kept (:mod:`videomatch.models.key_frames`), and the detector
(:mod:`videomatch.models.segment_detector`) finds the segments on a map in which that shows: what it loses by a frame
that is not kept reaches the scorer as a gradient. Either the map of the frames is multiplied with the roots of both
frames' probabilities (``weights``), or it is the map of what stands for each frame, in expectation over which are kept
(``stand_ins``): the mean of the frames that may, each with the probability that it is kept and no more alike one is.
That is what a map of key frames looks like once they are spread out again. Beside the detector's objectives the scorer
has its own (``key_frame_coverage``, ``key_frame_budget``, ``key_frame_stability``), over all videos of the batch; those
of a copy count as its edits.

It may begin with the weights of a scorer and of a detector that were trained alone: their names agree.

# Deviation: SSAN (arXiv:2309.11091) trains both together, too; how, is not public. This is ours.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.models import key_frames, segment_detector
from videomatch.precision import at_least_single

#: options of ``detect`` that are tried where it is tuned like an aligner
GRIDS = segment_detector.GRIDS
#: the ways in which a frame's probability reaches the map
THROUGH = ("stand_ins", "weights")


class Config(segment_detector.Config):
    """A detector and a scorer.

    Args:
        frame_dim: dimensions of a frame; the stage fills it.
        scorer: options of :class:`videomatch.models.key_frames.Config`.
        through: ``stand_ins`` or ``weights``.
        options: of :class:`videomatch.models.segment_detector.Config`.

    Raises:
        ValueError: another way through, or options that the two refuse.
    """

    model_type = "key_frame_detector"

    def __init__(
        self,
        *,
        frame_dim: int = 256,
        scorer: dict[str, Any] | None = None,
        through: str = "stand_ins",
        **options: Any,
    ) -> None:
        if through not in THROUGH:
            raise ValueError(f"key_frame_detector: through {through!r}, expected {' or '.join(THROUGH)}")
        self.frame_dim, self.scorer, self.through = frame_dim, scorer or {}, through
        key_frames.Config(frame_dim=frame_dim, **self.scorer)  # refuses what is no option
        super().__init__(**options)


class Model(segment_detector.Model):
    """Both."""

    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.scorer = key_frames.Scorer(key_frames.Config(frame_dim=config.frame_dim, **config.scorer))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        query_frames: Float[Tensor, "maps query_frames dim"],
        query_mask: Bool[Tensor, "maps query_frames"],
        reference_frames: Float[Tensor, "maps reference_frames dim"],
        reference_mask: Bool[Tensor, "maps reference_frames"],
        segments: Float[Tensor, "maps segments 4"] | None = None,
        segments_mask: Bool[Tensor, "maps segments"] | None = None,
        **_: Tensor,
    ) -> dict[str, Tensor]:
        """What the detector says of the map, and with segments also what the scorer's objectives read:
        ``frames``, ``mask`` and ``keep_logits`` of the references, then the queries, ``(2 maps, frames …)``;
        ``edited_keep_logits`` of the queries and ``shown``, which frame of the reference each of theirs shows.

        Args:
            query_frames, reference_frames: in the order of time, padded at the end. segments: in frames.
        """
        sides = (query_frames, query_mask), (reference_frames, reference_mask)
        query, reference = (self.scorer(*side) for side in sides)
        units = [F.normalize(at_least_single(frames), dim=-1) for frames, _ in sides]
        shown_by, weights = units, (None, None)
        if self.config.through == "weights":
            weights = query.sigmoid(), reference.sigmoid()
        else:
            logits = query, reference
            shown_by = [
                F.normalize(key_frames.stand_ins(logit, unit, mask) @ unit, dim=-1)
                for logit, unit, (_, mask) in zip(logits, units, sides, strict=True)
            ]
        with torch.autocast(query_frames.device.type, enabled=False):
            similarity = shown_by[0] @ shown_by[1].transpose(1, 2)
        found = super().forward(similarity, query_mask, reference_mask, segments, segments_mask, *weights)
        if segments is None or segments_mask is None:
            return found
        longest = max(query.shape[1], reference.shape[1])
        stacked = [
            torch.cat([_filled(a, longest), _filled(b, longest)])
            for a, b in ((reference, query), (reference_mask, query_mask), (units[1], units[0]))
        ]
        keep_logits, mask, frames = stacked
        shown = _shown(query_mask, segments, segments_mask)
        return found | {
            "keep_logits": keep_logits,
            "mask": mask,
            "frames": frames,
            "edited_keep_logits": torch.cat([query, query]),
            "shown": torch.cat([shown, torch.full_like(shown, -1)]),
        }

    def keep(
        self, frames: Float[Tensor, "batch frames frame_dim"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames"]:
        """Logarithm of the odds that a frame is kept."""
        return self.scorer(frames, mask)


def _filled(rows: Tensor, length: int) -> Tensor:
    """Rows ``(B, L, …)`` with zeros behind them."""
    return F.pad(rows, (0, 0) * (rows.ndim - 2) + (0, length - rows.shape[1]))


def _shown(
    mask: Bool[Tensor, "maps query_frames"],
    segments: Float[Tensor, "maps segments 4"],
    there: Bool[Tensor, "maps segments"],
) -> Int[Tensor, "maps query_frames"]:
    """Which reference frame a query frame's middle shows; -1 for none."""
    middle = torch.arange(mask.shape[1], device=mask.device)[None, :, None] + 0.5
    start, end, first, last = segments[:, None].unbind(-1)
    inside = (middle >= start) & (middle < end) & there[:, None] & mask[..., None]
    at = first + (middle - start) * (last - first) / (end - start)
    frame = at.floor().clamp(min=0).long()
    return torch.where(inside, frame, -1).amax(-1) if segments.shape[1] else torch.full_like(mask, -1, dtype=torch.long)


def processor(config: Config) -> None:
    """It reads features, no images."""
