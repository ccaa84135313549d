"""Two edited views of a frame: what a copy descriptor learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from videomatch.examples import Batch, Source, pooled_ids, views
from videomatch.examples._frames import FrameExamples


class EditedViews(FrameExamples):
    """A random frame of a video, seen ``num_views`` times after edits that are drawn anew each time.

    Batch: ``views`` ``(B, V, height, width, 3)`` uint8, ``video`` ``(B,)``: the number of the video.

    Args:
        expert: whose stores hold the frames, uint8.
        split: splits whose videos train. validation: split to validate on. roles: which videos of a split.
        per_video: frames of a video an epoch. num_views: of a frame.
        edits: of a view, at most; the first view has at most one.

    Raises:
        ValueError: fewer than two views.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str = "frames",
        split: str | Sequence[str] = "train",
        validation: str | None = "val",
        roles: Sequence[str] = ("reference",),
        per_video: int = 4,
        num_views: int = 2,
        edits: int = 3,
    ) -> None:
        super().__init__(source, split=split, validation=validation, per_video=per_video)
        if num_views < 2 or edits < 1:
            raise ValueError(f"EditedViews: {num_views} views with {edits} edits, expected at least 2 and 1")
        self.expert, self.roles, self.num_views, self.edits = expert, tuple(roles), num_views, edits

    @classmethod
    def vocabulary(cls, corpus: Any, options: Any) -> list[str]:
        """Nothing here is text."""
        return []

    def _select(self, split: str | Sequence[str]) -> None:
        listed = pooled_ids(self.source.corpus, split, self.roles)
        self.videos = self._found(self.usable(listed), listed, split)

    def facts(self) -> dict[str, Any]:
        """None: the network's size is the system's own business."""
        return {}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        frames = self._frames([self.videos[n] for n in numbers], rng).numpy()
        if frames.dtype != np.uint8 or frames.ndim != 4:
            raise ValueError(f"EditedViews: rows of {frames.shape[1:]} {frames.dtype}, expected frames of bytes")
        others = np.roll(frames, 1, axis=0)  # a batch's frames are of different videos, as a rule
        rows = [
            [views.view(frame, other, rng, most=self.edits if n else 1) for n in range(self.num_views)]
            for frame, other in zip(frames, others, strict=True)
        ]
        return {"views": torch.from_numpy(np.array(rows)), "video": torch.from_numpy(np.asarray(numbers, np.int64))}
