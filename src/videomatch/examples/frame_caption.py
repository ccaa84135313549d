"""A frame of a video and a caption of it: what an image and text encoder learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videomatch.examples import Batch
from videomatch.examples._bases import CaptionExamples


@dataclass(kw_only=True, eq=False)
class FrameCaption(CaptionExamples):
    """A random frame of a video and a random one of its captions; a caption with times draws a frame between them.

    Batch: ``frames`` ``(B, height, width, 3)`` uint8, ``input_ids`` and ``attention_mask`` ``(B, T)``, and ``video``
    ``(B,)``, equal for examples of one video.
    """

    expert: str | None = "frames"
    per_video: int = 16
    max_length: int = 24

    @classmethod
    def vocabulary(cls, corpus: Path, options: Mapping[str, Any]) -> list[str]:
        return super(CaptionExamples, cls).vocabulary(corpus, options)

    def derived_config(self) -> dict[str, Any]:
        return self._text_config()

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        rows = self._sampled_captions(numbers, rng)
        windows = self._captions[rows].select("start", "end").fill_null(float("nan")).to_numpy()
        return {
            "frames": self._random_rows([self.videos[n] for n in numbers], rng, windows),
            "video": torch.from_numpy(numbers.astype(np.int64)),
            **self._read_captions(rows),
        }
