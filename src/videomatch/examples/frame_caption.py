"""A frame of a video and a caption of it: what an image and text encoder learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from videomatch.examples import Batch, Source, split_texts, text_config
from videomatch.examples._bases import FrameExamples


class FrameCaption(FrameExamples):
    """A random frame of a video and a random one of its captions; a caption with times draws a frame between them.

    Batch: ``frames`` ``(B, height, width, 3)`` uint8, ``input_ids`` and ``attention_mask`` ``(B, T)``, and ``video``
    ``(B,)``, equal for examples of one video.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str = "frames",
        split: str | Sequence[str] = "train",
        validation: str | None = "val",
        max_length: int = 24,
        per_video: int = 16,
    ) -> None:
        if source.tokenizer is None:
            raise ValueError("examples of kind frame_caption need a tokenizer")
        self._tokenizer = source.tokenizer
        super().__init__(
            source, expert=expert, split=split, validation=validation, per_video=per_video, max_length=max_length
        )

    def _select(self, split: str | Sequence[str]) -> None:
        texts = split_texts(self.source.corpus, split, ["caption"])
        captioned = texts["video_id"].unique(maintain_order=True).to_list()
        self.videos = self._found(self.usable(captioned), captioned, split)
        texts = texts.filter(pl.col("video_id").is_in(self.videos))
        self._captions = texts["text"]
        self._windows = texts.select("start", "end").fill_null(float("nan")).to_numpy()
        self._counts = texts.group_by("video_id", maintain_order=True).len()["len"].cast(pl.Int64).to_numpy()
        self._first = np.cumsum(self._counts) - self._counts
        self._timed = bool(np.isfinite(self._windows).any())

    def derived_config(self) -> dict[str, Any]:
        return text_config(self._tokenizer)

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        rows = self._first[numbers] + (rng.random(len(numbers)) * self._counts[numbers]).astype(np.int64)
        windows = self._windows[rows] if self._timed else None
        return {
            "frames": self._frames([self.videos[n] for n in numbers], rng, windows),
            "video": torch.from_numpy(numbers.astype(np.int64)),
            **self.read_texts(self._captions.gather(rows).to_list()),
        }
