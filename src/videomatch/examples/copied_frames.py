"""Frames of two videos and the segments that they share: what key frames and a detector learn from together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from videomatch.examples import Batch, Source
from videomatch.examples.similarity_map import SimilarityMap, masked
from videomatch.metrics.segments import SWAPPED


class CopiedFrames(SimilarityMap):
    """The judged pairs of a protocol, with the frames themselves instead of their similarities.

    In training, query and reference change places and both run backwards, half of the time each.

    Batch: ``query_frames`` ``(B, Q, D)``, ``reference_frames`` ``(B, R, D)`` float32, ``query_mask``,
    ``reference_mask``, ``segments`` ``(B, M, 4)`` in frames, half open, ``segments_mask`` ``(B, M)``.

    Args:
        source: with a store of vectors with times.
        expert: whose features.
        split, validation, per_pair: as for :class:`SimilarityMap`.

    Raises:
        ValueError: rows that are no vectors.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str = "copy",
        split: str | Sequence[str] = "copies_train",
        validation: str | None = "copies_val",
        per_pair: int = 1,
    ) -> None:
        super().__init__(source, expert=expert, split=split, validation=validation, synthetic=0, per_pair=per_pair)
        if len(self._store.shape) != 1:
            raise ValueError(f"rows of {self._store.roots[0]} have shape {self._store.shape}, expected vectors")

    def derived_config(self) -> dict[str, Any]:
        """Dimensions of a frame."""
        return {"frame_dim": self._store.shape[0]}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        samples = [self._frames(*self._pairs[int(n) % len(self._pairs)], rng) for n in numbers]
        batch = masked([(len(query), len(reference)) for query, reference, _ in samples], [s[2] for s in samples])
        for side, name in enumerate(("query", "reference")):
            there = batch[f"{name}_mask"]
            rows = np.zeros((*there.shape, self._store.shape[0]), np.float32)
            for n, sample in enumerate(samples):
                rows[n, : len(sample[side])] = sample[side]
            batch[f"{name}_frames"] = torch.from_numpy(rows)
        return batch

    def _frames(
        self, query: str, reference: str, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = [np.asarray(self._store[video], np.float32) for video in (query, reference)]
        truth = self._in_frames(query, reference)
        if not self._trains:
            return rows[0], rows[1], truth
        if rng.random() < 0.5:
            rows, truth = rows[::-1], truth[:, SWAPPED]
        if rng.random() < 0.5:
            ends = np.repeat([len(side) for side in rows], 2)
            rows, truth = [side[::-1] for side in rows], ends - truth[:, [1, 0, 3, 2]]
        return rows[0], rows[1], truth
