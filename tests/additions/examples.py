"""A video's frames and the number of its category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from videomatch.data import corpus
from videomatch.examples import Batch, Examples


@dataclass(kw_only=True, eq=False)
class ToyExamples(Examples):
    """Batch: ``frames`` (B, L, D), ``mask`` (B, L), ``category`` (B,)."""

    expert: str

    def _select(self, split: str | Sequence[str]) -> None:
        videos = corpus.videos(self.source.corpus)
        self.categories = dict(zip(videos["video_id"], videos["category"], strict=True))
        self.videos = self.usable(corpus.pooled_ids(self.source.corpus, split))

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        ids = [self.videos[n] for n in numbers]
        names = sorted(set(self.categories.values()))
        category = torch.tensor([names.index(self.categories[i]) for i in ids])
        return {**self.read_videos(ids), "category": category}

    def derived_config(self) -> dict[str, Any]:
        return {"dim": self._store.shape[0]}
