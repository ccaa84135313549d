"""Frames of two videos and the segments that they share: what key frames and a detector learn from together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from videomatch.examples import Batch
from videomatch.examples._bases import CopyExamples, collated_segments
from videomatch.metrics.segments import SWAPPED


@dataclass(kw_only=True, eq=False)
class CopiedFrames(CopyExamples):
    """The judged pairs of a protocol, with the frames themselves instead of their similarities.

    In training, query and reference change places and both run backwards, half of the time each.

    Batch: ``query_frames`` ``(B, Q, D)``, ``reference_frames`` ``(B, R, D)`` float32, ``query_mask``,
    ``reference_mask``, ``segments`` ``(B, M, 4)`` in frames, half open, ``segments_mask`` ``(B, M)``.
    """

    expert: str | None = "copy"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_rows(1, "vectors")

    def derived_config(self) -> dict[str, Any]:
        return {"frame_dim": self._store.shape[0]}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        samples = [self._sample(self._pairs[int(n) % len(self._pairs)], rng) for n in numbers]
        batch = collated_segments([[len(side) for side in sides] for sides, _ in samples], [s[1] for s in samples])
        for side, name in enumerate(("query", "reference")):
            mask = batch[f"{name}_mask"]
            rows = np.zeros((*mask.shape, self._store.shape[0]), np.float32)
            for n, (sides, _) in enumerate(samples):
                rows[n, : len(sides[side])] = sides[side]
            batch[f"{name}_frames"] = torch.from_numpy(rows)
        return batch

    def _sample(self, pair: tuple[str, str], rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
        sides, segments = self._features(pair), self._segments(pair)
        if not self.is_training:
            return sides, segments
        if rng.random() < 0.5:
            sides, segments = sides[::-1], segments[:, SWAPPED]
        if rng.random() < 0.5:
            ends = np.repeat([len(side) for side in sides], 2)
            sides, segments = [side[::-1] for side in sides], ends - segments[:, [1, 0, 3, 2]]
        return sides, segments
