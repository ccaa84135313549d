"""Frames of two videos and the segments that they share: what key frames and a detector learn from together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from videomatch.common.vectors import stacked
from videomatch.examples import Batch, check_rows, tensors
from videomatch.examples._bases import CopyExamples, backwards, collated_segments
from videomatch.metrics.segments import SWAPPED


@dataclass(kw_only=True, eq=False)
class CopiedFrames(CopyExamples):
    """Judged pairs. In training, query and reference change places and both run backwards, half of the time each.

    Batch: ``query_frames`` ``(B, Q, D)``, ``reference_frames`` ``(B, R, D)`` float32, their masks, ``segments``
    ``(B, M, 4)`` in frames, half open, ``segments_mask`` ``(B, M)``.
    """

    expert: str | None = "copy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rows(self._store, 1, "vectors")

    def derived_config(self) -> dict[str, Any]:
        return {"frame_dim": self._store.shape[0]}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        samples = [self._sample(self._pairs[int(n) % len(self._pairs)], rng) for n in numbers]
        batch = collated_segments([segments for _, segments in samples])
        for side, name in enumerate(("query", "reference")):
            frames, mask = stacked([sides[side] for sides, _ in samples])
            batch |= tensors({f"{name}_frames": frames, f"{name}_mask": mask})
        return batch

    def _sample(self, pair: tuple[str, str], rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
        sides, segments = self._features(pair), self._segments(pair)
        if not self.is_training:
            return sides, segments
        if rng.random() < 0.5:
            sides, segments = sides[::-1], segments[:, SWAPPED]
        if rng.random() < 0.5:
            sides, segments = [side[::-1] for side in sides], backwards(segments, *map(len, sides))
        return sides, segments
