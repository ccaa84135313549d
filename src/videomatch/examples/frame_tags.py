"""A frame of a video and the labels of the video: what an image tagger learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from videomatch.examples import Batch, Source
from videomatch.examples._bases import FrameExamples, TaggedExamples


class FrameTags(TaggedExamples, FrameExamples):
    """A random frame of a video and which of the labels apply to the video.

    Labels are the most frequent tags of the first split and all its categories, named ``tag:…`` and
    ``category:…``. Batch: ``frames`` ``(B, height, width, 3)`` uint8, ``labels`` ``(B, N)`` float32 of 0 and 1.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str = "frames",
        split: str | Sequence[str] = "train",
        validation: str | None = "val",
        num_tags: int = 64,
        per_video: int = 16,
    ) -> None:
        super().__init__(
            source, expert=expert, split=split, validation=validation, num_tags=num_tags, per_video=per_video
        )

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        return {
            "frames": self._frames([self.videos[n] for n in numbers], rng),
            "labels": self._marked(numbers),
        }
