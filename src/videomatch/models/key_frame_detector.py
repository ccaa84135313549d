"""A scorer of key frames and a detector of copied segments that learn together: one checkpoint that keeps and detects.

The scorer says how likely each frame of a reference stands for each other (:mod:`videomatch.models.key_frames`), and
the detector (:mod:`videomatch.models.segment_detector`) finds the segments on the map of the query's frames and of what
stands for the reference's, in expectation over the choices of key frames. That is what a map of key frames looks like
once they are spread out again, so what the detector loses by a choice reaches the scorer as a gradient. Queries bring
all their frames, or key frames as well (``both``). Beside the detector's objectives the scorer has its own
(``key_frame_coverage``, ``key_frame_stability``), over all videos of the batch; those of a copy count as its edits.

It may begin with the weights of a scorer and of a detector that were trained alone: their names agree.

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
    """A detector and a scorer.

    Args:
        frame_dim: dimensions of a frame; the stage fills it.
        scorer: options of :class:`videomatch.models.key_frames.Config`.
        both: queries have key frames, too.
        options: of :class:`videomatch.models.segment_detector.Config`.

    Raises:
        ValueError: options that the two refuse.
    """

    model_type = "key_frame_detector"

    def __init__(
        self,
        *,
        frame_dim: int = 256,
        scorer: dict[str, Any] | None = None,
        both: bool = False,
        **options: Any,
    ) -> None:
        self.frame_dim, self.scorer, self.both = frame_dim, scorer or {}, both
        key_frames.Config(frame_dim=frame_dim, **self.scorer)  # refuses what is no option
        super().__init__(**options)


class Model(segment_detector.Model):
    """Both."""

    scores_frames: ClassVar[bool] = True

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
        ``frames``, ``mask``, ``stands_for`` and ``kept`` of the references, then the queries, ``(2 maps, frames …)``;
        ``edited_kept`` of the queries and ``shown``, which frame of the reference each of theirs shows.

        Args:
            query_frames, reference_frames: in the order of time, padded at the end. segments: in frames.
        """
        sides = (query_frames, query_mask), (reference_frames, reference_mask)
        stands_for = [self.scorer.stands_for(*side) for side in sides]
        units = [F.normalize(at_least_single(frames), dim=-1) for frames, _ in sides]
        with torch.autocast(query_frames.device.type, enabled=False):
            query, reference = (F.normalize(s @ unit, dim=-1) for s, unit in zip(stands_for, units, strict=True))
            similarity = (query if self.config.both else units[0]) @ reference.transpose(1, 2)
        found = super().forward(similarity, query_mask, reference_mask, segments, segments_mask)
        if segments is None or segments_mask is None:
            return found
        longest = max(query.shape[1], reference.shape[1])
        mask, frames, square = (
            torch.cat([_filled(a, longest), _filled(b, longest)])
            for a, b in (
                (reference_mask, query_mask),
                (units[1], units[0]),
                (_filled(stands_for[1], longest, 2), _filled(stands_for[0], longest, 2)),
            )
        )
        kept = square.diagonal(dim1=1, dim2=2)
        shown = _shown(query_mask, segments, segments_mask)
        maps = len(similarity)
        return found | {
            "stands_for": square,
            "kept": kept,
            "mask": mask,
            "frames": frames,
            "edited_kept": kept[maps:, : query.shape[1]].repeat(2, 1),
            "shown": torch.cat([shown, torch.full_like(shown, -1)]),
        }

    def keep(
        self, frames: Float[Tensor, "batch frames frame_dim"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames"]:
        """How much is in favour of keeping a frame."""
        return self.scorer(frames, mask)


def _filled(rows: Tensor, length: int, axis: int = 1) -> Tensor:
    """Rows ``(B, L, …)`` with zeros behind them, along an axis."""
    return F.pad(rows, (0, 0) * (rows.ndim - 1 - axis) + (0, length - rows.shape[axis]))


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
