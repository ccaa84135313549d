"""Some consecutive frames of a video and the labels of the video: what a clip tagger learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from videomatch.examples import Batch, Source
from videomatch.examples._bases import TaggedExamples


class ClipTags(TaggedExamples):
    """``num_frames`` consecutive stored frames from a random place of a video, and which labels apply to the video.

    At least half of a clip's frames are its own; what lies beyond the end of the video repeats the last frame, as the
    motion expert's last window does. Batch: ``clips`` ``(B, num_frames, height, width, 3)`` uint8, ``labels``
    ``(B, N)`` float32 of 0 and 1. Labels: see :class:`TaggedExamples`.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str = "frames",
        split: str | Sequence[str] = "train",
        validation: str | None = "val",
        num_frames: int = 4,
        num_tags: int = 64,
        num_words: int = 0,
        words: Sequence[str] = (),
        categories: bool = True,
        per_video: int = 4,
    ) -> None:
        if num_frames < 1:
            raise ValueError(f"clip_tags: num_frames = {num_frames}, expected at least 1")
        self.num_frames = num_frames
        super().__init__(
            source,
            expert=expert,
            split=split,
            validation=validation,
            num_tags=num_tags,
            num_words=num_words,
            words=words,
            categories=categories,
            per_video=per_video,
        )
        self._check_rows(3, "frames")

    def derived_config(self) -> dict[str, Any]:
        height, width, _ = self._store.shape
        if height != width:
            raise ValueError(f"frames of {self._store.roots[0]} are {height} x {width}, expected squares")
        return {**super().derived_config(), "image_size": height, "num_frames": self.num_frames}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        unique, which = np.unique(numbers, return_inverse=True)
        values, lengths = self._store.gather([self.videos[n] for n in unique])
        first, count = (np.cumsum(lengths) - lengths)[which], lengths[which]
        places = np.maximum(1, count - (self.num_frames + 1) // 2 + 1)  # where a clip may begin
        begin = (rng.random(len(numbers)) * places).astype(np.int64)
        at = np.minimum(begin[:, None] + np.arange(self.num_frames), count[:, None] - 1)
        return {"clips": torch.from_numpy(values[first[:, None] + at]), "labels": self._marked(numbers)}
