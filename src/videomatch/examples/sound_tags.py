"""A piece of a video's spectrogram and the labels of the video: what a sound tagger learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from videomatch.examples import Batch, Source
from videomatch.examples._bases import FrameExamples, TaggedExamples


class SoundTags(TaggedExamples, FrameExamples):
    """A random stored window of log-mel (``experts/log_mel.py``) and which labels apply to the video. Videos without
    sound are left out.

    Batch: ``log_mel`` ``(B, frames, bands)`` float32, ``labels`` ``(B, N)`` float32 of 0 and 1. Labels: see
    :class:`TaggedExamples`.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str = "log_mel",
        split: str | Sequence[str] = "train",
        validation: str | None = "val",
        num_tags: int = 64,
        num_words: int = 0,
        words: Sequence[str] = (),
        categories: bool = True,
        per_video: int = 4,
    ) -> None:
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
        self._check_rows(2, "(frames, bands)")

    def derived_config(self) -> dict[str, Any]:
        frames, bands = self._store.shape
        return {**super().derived_config(), "num_frames": frames, "bands": bands}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        return {
            "log_mel": self._frames([self.videos[n] for n in numbers], rng).float(),
            "labels": self._marked(numbers),
        }
