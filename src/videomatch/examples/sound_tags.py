"""A piece of a video's spectrogram and the labels of the video: what a sound tagger learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from videomatch.examples import Batch, check_rows
from videomatch.examples._bases import TaggedExamples


@dataclass(kw_only=True, eq=False)
class SoundTags(TaggedExamples):
    """A random stored window of log-mel (``experts/log_mel.py``) and which labels apply to the video. Videos without
    sound are left out.

    Batch: ``log_mel`` ``(B, frames, bands)`` float32, ``labels`` ``(B, N)`` float32 of 0 and 1.
    """

    expert: str | None = "log_mel"
    per_video: int = 4

    def __post_init__(self) -> None:
        check_rows(self._store, 2, "(frames, bands)")

    def derived_config(self) -> dict[str, Any]:
        frames, bands = self._store.shape
        return {**super().derived_config(), "num_frames": frames, "bands": bands}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        windows = self._random_rows([self.videos[n] for n in numbers], rng)
        return {"log_mel": windows.float(), "labels": self._marked(numbers)}
