"""Frames of a video and those of an edited copy of it, with the time map: what a scorer of key frames learns from.

A copy is made out of the features themselves, anew each time: a stretch of the window, faster or slower, some frames
dropped or blacked out, all moved by one constant and each by noise, at times mixed with another video (blend, picture
in picture). Speeds are those of the copies of the Video Similarity Challenge 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from videomatch.common.vectors import stacked, unit_rows
from videomatch.data.corpus import pooled_ids
from videomatch.examples import Batch, Examples, check_rows, tensors

#: share of copies that keep their speed, and the speeds of the others
SAME_SPEED, SPEEDS = 0.43, (0.60, 1.50)
#: shortest copy, frames
SHORTEST = 8
#: share of the frames of a copy that are left out, and that turn black; share of copies mixed with another video
DROPPED, BLACK, MIXED = 0.1, 0.1, 0.2
#: length of the noise on a unit vector, at most; drawn for each copy, half for all its frames alike
NOISE = 0.6


@dataclass(kw_only=True, eq=False)
class EditedFrames(Examples):
    """A window of ``num_frames`` frames of a video and an edited copy of a part of it.

    Batch (all padded at the end to ``num_frames``): ``frames`` ``(B, L, D)`` float32 unit vectors and ``mask``
    ``(B, L)``; ``edited`` and ``edited_mask`` of the copy; ``source_frame`` ``(B, L)`` which frame of the window a
    frame of the copy shows, -1 for black.

    Args:
        split, validation: both roles of the splits count; what has no features (a text) is passed over.
        copies: how they come about; there is one way.
    """

    expert: str = "clip"
    copies: Literal["made"] = "made"
    num_frames: int = 64

    def __post_init__(self) -> None:
        if self.num_frames < SHORTEST:
            raise ValueError(f"edited_frames: num_frames {self.num_frames}, expected at least {SHORTEST}")
        check_rows(self._store, 1, "vectors")

    @classmethod
    def _videos_of(cls, corpus: Path, split: str | Sequence[str], options: Mapping[str, Any]) -> list[str]:
        return pooled_ids(corpus, split, ("reference", "query"))

    def _select(self, split: str | Sequence[str]) -> None:
        ids = self._videos_of(self.source.corpus, split, {})
        long = self._store.rows(ids) >= SHORTEST
        self.videos = self._found([i for i, fits in zip(ids, long, strict=True) if fits], ids, split)

    def derived_config(self) -> dict[str, Any]:
        return {"frame_dim": self._store.shape[0]}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        rows = [((window := self._window(n, rng)), *self._copied(window, rng)) for n in numbers.tolist()]
        parts = [stacked(part, self.num_frames) for part in zip(*rows, strict=True)]
        (frames, mask), (edited, edited_mask), (source, _) = parts
        arrays = {"frames": frames, "mask": mask, "edited": edited, "edited_mask": edited_mask}
        return tensors({**arrays, "source_frame": np.where(edited_mask, source, -1)})

    def _window(self, number: int, rng: np.random.Generator) -> np.ndarray:
        rows = self._store[self.videos[number]]
        begin = int(rng.integers(max(0, len(rows) - self.num_frames) + 1))
        return unit_rows(rows[begin : begin + self.num_frames].astype(np.float32))

    def _copied(self, window: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A copy, and which frame of the window every frame of it shows."""
        other = self._window(int(rng.integers(len(self.videos))), rng)
        at = self._times(len(window), rng)
        copied = window[at]
        if rng.random() < MIXED:
            share = rng.uniform(0.3, 0.8)
            copied = share * copied + (1 - share) * other[np.arange(len(at)) % len(other)]
        dim = window.shape[1]
        strength = rng.uniform(0, NOISE, 2) / np.sqrt(2 * dim)
        copied = copied + strength[0] * rng.normal(size=(1, dim)) + strength[1] * rng.normal(size=copied.shape)
        copied = unit_rows(copied.astype(np.float32))
        black = rng.random(len(at)) < BLACK
        copied[black] = 1 / np.sqrt(dim)  # one vector for all that is black
        return copied, np.where(black, -1, at)

    def _times(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Which frame of the window every frame of the copy shows."""
        speed = 1.0 if rng.random() < SAME_SPEED else float(rng.uniform(*SPEEDS))
        longest = min(self.num_frames, int((count - 1) / speed) + 1)
        length = int(rng.integers(min(SHORTEST, longest), longest + 1))
        start = rng.uniform(0, max(0.0, count - 1 - (length - 1) * speed))
        at = np.minimum(np.floor(start + speed * np.arange(length)), count - 1).astype(np.int64)
        kept = at[rng.random(length) >= DROPPED]
        return kept if len(kept) else at[:1]
