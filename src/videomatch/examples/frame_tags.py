"""A frame of a video and the labels of the video: what an image tagger learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from videomatch.examples import Batch
from videomatch.examples._bases import TaggedExamples


@dataclass(kw_only=True, eq=False)
class FrameTags(TaggedExamples):
    """A random frame of a video and which of the labels apply to the video.

    Batch: ``frames`` ``(B, height, width, 3)`` uint8, ``labels`` ``(B, N)`` float32 of 0 and 1.
    """

    per_video: int = 16

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        frames = self._random_rows([self.videos[n] for n in numbers], rng)
        return {"frames": frames, "labels": self._marked(numbers)}
