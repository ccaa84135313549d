"""Some consecutive frames of a video and the labels of the video: what a clip tagger learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from videomatch.examples import Batch, check_rows
from videomatch.examples._bases import TaggedExamples


@dataclass(kw_only=True, eq=False)
class ClipTags(TaggedExamples):
    """``num_frames`` consecutive stored frames from a random place of a video, and which labels apply to the video.

    At least half of a clip's frames are its own; beyond the end of the video the last is repeated. Batch:
    ``clips`` ``(B, num_frames, height, width, 3)`` uint8, ``labels`` ``(B, N)`` float32 of 0 and 1.
    """

    num_frames: int = 4
    per_video: int = 4

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"clip_tags: num_frames = {self.num_frames}, expected at least 1")
        check_rows(self._store, 3, "frames")

    def derived_config(self) -> dict[str, Any]:
        height, width, _ = self._store.shape
        if height != width:
            raise ValueError(f"frames of {self._store.roots[0]} are {height} x {width}, expected squares")
        return {**super().derived_config(), "image_size": height, "num_frames": self.num_frames}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        values, first, count = self._gathered([self.videos[n] for n in numbers])
        places = np.maximum(1, count - (self.num_frames + 1) // 2 + 1)  # where a clip may begin
        begin = (rng.random(len(numbers)) * places).astype(np.int64)
        at = np.minimum(begin[:, None] + np.arange(self.num_frames), count[:, None] - 1)
        return {"clips": torch.from_numpy(values[first[:, None] + at]), "labels": self._marked(numbers)}
