"""The log-mel spectrogram itself, a piece of it a row: what a small audio network is trained on.

Its numbers are those that ``ASTFeatureExtractor`` of transformers feeds to an Audio Spectrogram Transformer, before it
subtracts a mean (:mod:`videomatch.experts._fbank`). A video without sound has no rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from videomatch.experts import _fbank
from videomatch.experts._expert import seconds
from videomatch.media.sound import SoundRequest

RATE = 16000  #: samples a second


class Expert:
    """The spectrogram of every window of ``every`` seconds, ``(frames, bands)`` float16.

    Args:
        bands: mel bands.
        every: seconds of a window.
        batch: windows at a time.

    Raises:
        ValueError: a window is too short, or the bands too many.
    """

    def __init__(self, *, bands: int = 64, every: float = 1.0, batch: int = 64) -> None:
        self.request = SoundRequest(seconds(every), RATE)
        frames = _fbank.num_frames(self.request.samples)
        if not frames:
            raise ValueError(f"log_mel: every = {every} seconds, expected at least {_fbank.FRAME / RATE}")
        if batch < 1:
            raise ValueError(f"log_mel: batch = {batch}, expected at least 1")
        _fbank.filters(RATE, bands)
        self.bands = bands
        self.shape = (frames, bands)
        self.dtype = "float16"
        self.batch = batch
        self.about: dict[str, Any] = {}

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """Windows are batched as they come: ``(n, samples)`` float32."""
        return values

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """``(n, samples)`` sound to ``(n, frames, bands)`` float32."""
        return _fbank.log_mel(batch, RATE, self.bands)
