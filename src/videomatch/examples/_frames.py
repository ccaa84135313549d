"""Examples that are single frames of videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from videomatch.examples import Examples


class FrameExamples(Examples):
    """Examples about the videos of a split: example ``n`` is a frame of video ``n``, another one each time."""

    def _frames(self, ids: Sequence[str], rng: np.random.Generator, windows: np.ndarray | None = None) -> Tensor:
        """A random frame of each video, inside its window ``(B, 2)`` of seconds if one is given and holds a frame."""
        unique, which = np.unique(np.asarray(ids), return_inverse=True)
        values, lengths = self._store.gather(unique.tolist())
        starts = np.cumsum(lengths) - lengths
        draws = rng.random(len(ids))
        rows = starts[which] + (draws * lengths[which]).astype(np.int64)
        if windows is not None:
            times, _ = self._store.gather(unique.tolist(), "times")
            middles = times.mean(1)
            for n in np.flatnonzero(np.isfinite(windows).all(1)):
                first, last = starts[which[n]], starts[which[n]] + lengths[which[n]]
                own = middles[first:last]
                inside = np.flatnonzero((own >= windows[n, 0]) & (own < windows[n, 1]))
                if len(inside):
                    rows[n] = first + inside[int(draws[n] * len(inside))]
        return torch.from_numpy(values[rows])
