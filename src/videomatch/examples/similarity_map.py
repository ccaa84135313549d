"""A similarity map and its segments: what a segment detector learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from videomatch.examples import Batch, tensors
from videomatch.examples._bases import CopyExamples, backwards, collated_segments
from videomatch.localisation import frame_similarity, synthetic_maps
from videomatch.metrics.segments import SWAPPED

Sample = tuple[np.ndarray, np.ndarray]

#: a segment cut off by a crop is one as long as so many frames are left
LEFT = 1.5
#: longer side of synthetic maps, at least, frames; and how much shorter the shorter side may be
SMALLEST, UNEQUAL = 28, 3.0
#: longer side to which the maps of judged pairs are cropped in training, at least, as a share of the longest
CROPPED = 0.6


@dataclass(kw_only=True, eq=False)
class SimilarityMap(CopyExamples):
    """A map of two videos, and the segments in it.

    An epoch visits every judged pair of the protocol ``per_pair`` times (if an ``expert`` is named), and ``synthetic``
    synthetic maps (:mod:`localisation.synthetic_maps`), never the same. In training all are :func:`augmented`. A
    validation holds the judged pairs of its protocol, or the same ``synthetic`` maps each time.

    Batch: ``similarity`` ``(B, Q, R)`` float32, ``query_mask`` ``(B, Q)``, ``reference_mask`` ``(B, R)``, ``segments``
    ``(B, M, 4)`` in frames, half open, ``segments_mask`` ``(B, M)``.

    Args:
        expert: whose features make the maps; null for synthetic maps only.
        longest: frames of a map in training, on either side; longer ones are cropped.
        condensed: share of the maps in training of which one side has key frames only, spread out again.
    """

    synthetic: int = 2000
    longest: int = 128
    condensed: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.synthetic < (self.expert is None):
            given = f"expert {self.expert}, synthetic {self.synthetic}"
            raise ValueError(f"SimilarityMap: {given}: expected maps of one kind or the other")

    def _select(self, split: str | Sequence[str]) -> None:
        if self.expert is not None:
            super()._select(split)

    def _count(self) -> int:
        judged = super()._count()
        return judged + (self.synthetic if self.is_training or not judged else 0)

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        """Maps of a batch are cropped, or made, to about the same size, which leaves less padding."""
        is_judged = numbers < super()._count()
        samples = {
            n: self._judged(self._pairs[int(numbers[n]) % len(self._pairs)], rng)
            for n in np.flatnonzero(is_judged).tolist()
        }
        least = max(SMALLEST, int(CROPPED * self.longest)) if samples else SMALLEST
        side = int(np.exp(rng.uniform(np.log(min(least, self.longest)), np.log(self.longest))))
        if self.is_training:
            samples = {n: augmented(*sample, rng, longest=side, levels=False) for n, sample in samples.items()}
        for n in np.flatnonzero(~is_judged).tolist():
            if self.is_training:
                shortest = max(8, int(side / UNEQUAL))
                made = synthetic_maps.drawn(rng, shortest=shortest, longest=side, condensed=self.condensed)
                samples[n] = augmented(*made, rng, longest=side)
            else:  # the same each time
                own = np.random.default_rng([int(numbers[n]), 1])
                samples[n] = synthetic_maps.drawn(own, longest=self.longest, condensed=self.condensed)
        return collated([samples[n] for n in range(len(numbers))])

    def _judged(self, pair: tuple[str, str], rng: np.random.Generator) -> Sample:
        sides = self._features(pair)
        if self.is_training and rng.random() < self.condensed:
            sides[1] = synthetic_maps.condensed_rows(rng, sides[1])
        return frame_similarity.cosines(*sides), self._segments(pair)


def collated(samples: Sequence[Sample]) -> Batch:
    """Maps and segments as a batch of tensors."""
    sizes = np.array([values.shape for values, _ in samples])
    query_mask, reference_mask = (np.arange(lengths.max()) < lengths[:, None] for lengths in sizes.T)
    similarity = np.zeros((len(samples), *sizes.max(0)), np.float32)
    for n, (values, _) in enumerate(samples):
        similarity[n, : values.shape[0], : values.shape[1]] = values
    batch = tensors({"similarity": similarity, "query_mask": query_mask, "reference_mask": reference_mask})
    return {**batch, **collated_segments([boxes for _, boxes in samples])}


def augmented(
    values: np.ndarray, boxes: np.ndarray, rng: np.random.Generator, *, longest: int, levels: bool = True
) -> Sample:
    """A map ``(Q, R)`` that could as well have been, with at most ``longest`` frames of either side, and its segments
    ``(M, 4)`` in frames. ``levels``: by another descriptor, too, whose similarities are higher or lower; how similar
    copies are by one descriptor tells them from videos that look alike."""
    if rng.random() < 0.5:  # swap query and reference
        values, boxes = values.T, boxes[:, SWAPPED]
    if rng.random() < 0.5:
        values, boxes = values[::-1, ::-1], backwards(boxes, *values.shape)
    if rng.random() < 0.15 and min(values.shape) >= 24:  # fewer frames a second, of both
        values, boxes = values[::2, ::2], boxes / 2
    if rng.random() < 0.4 or max(values.shape) > longest:
        sizes = [min(int(np.ceil(n * rng.uniform(0.4, 1))), longest) for n in values.shape]
        first = [int(rng.integers(0, n - size + 1)) for n, size in zip(values.shape, sizes, strict=True)]
        values, boxes = cropped(values, boxes, first[0], first[0] + sizes[0], first[1], first[1] + sizes[1])
    if rng.random() < 0.15:
        values = cv2.GaussianBlur(np.ascontiguousarray(values), (0, 0), rng.uniform(0.4, 1.0))
    if levels and rng.random() < 0.5:
        values = values * rng.uniform(0.6, 1.2) + rng.uniform(-0.15, 0.2)
    if levels and rng.random() < 0.15:  # the first place of VSC 2022: the square root
        values = np.sqrt(np.maximum(values, 0))
    if rng.random() < 0.3:
        values = values + rng.uniform(0.01, 0.1) * rng.normal(size=values.shape)
    if rng.random() < 0.15:  # damaged frames: black ones, titles
        axis = int(rng.integers(2))
        values = values.copy()
        lost = rng.random(values.shape[axis]) < rng.uniform(0, 0.2)
        values[(lost, slice(None)) if axis == 0 else (slice(None), lost)] = rng.uniform(-0.1, 0.4)
    return np.ascontiguousarray(values, np.float32), boxes


def cropped(values: np.ndarray, boxes: np.ndarray, top: int, bottom: int, left: int, right: int) -> Sample:
    """A part of a map and what is left of its segments there, each along its diagonal."""
    kept = []
    for start, end, first, last in boxes.tolist():
        speed = (last - first) / (end - start)
        low = max(start, top, start + (left - first) / speed)
        high = min(end, bottom, start + (right - first) / speed)
        if min(high - low, (high - low) * speed) >= min(LEFT, 0.8 * min(end - start, last - first)):
            origin = first - start * speed - left
            kept.append((low - top, high - top, origin + low * speed, origin + high * speed))
    return values[top:bottom, left:right], np.array(kept, np.float64).reshape(-1, 4)
