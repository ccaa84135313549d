"""Sound as log-mel statistics: mean and standard deviation over time of each mel band, one row per window.

25 ms Hann windows every 10 ms, power spectrum, triangular filters equally spaced on O'Shaughnessy's mel scale
(2595 log10(1 + f / 700), as in HTK), natural logarithm. A video without sound has no rows.
"""

from __future__ import annotations

import warnings

import numpy as np
from transformers.audio_utils import mel_filter_bank

from videomatch.experts import BaseExpert, seconds
from videomatch.media.sound import SoundRequest

RATE = 16000  #: samples per second
WINDOW, HOP, FFT = 400, 160, 512  #: samples
LOW, HIGH = 60.0, 7800.0  #: Hz
FLOOR = 1e-8  #: smallest power: -80 dB of full scale, so that digital silence is a number


class Expert(BaseExpert):
    """Log-mel statistics of every window of ``every`` seconds.

    ``bands``: mel bands; a row has twice as many numbers, means first, then standard deviations.
    """

    def __init__(self, *, bands: int = 64, every: float = 0.5, batch: int = 64) -> None:
        self.request = SoundRequest(seconds(every), RATE)
        if self.request.samples < WINDOW:
            raise ValueError(f"audio: every = {every} seconds, expected at least {WINDOW / RATE}")
        self.filters = mel_filters(bands)
        self.shape = (2 * bands,)
        self.batch = batch

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """``(n, samples)`` sound to ``(n, 2 bands)`` float32."""
        parts = np.lib.stride_tricks.sliding_window_view(batch, WINDOW, axis=1)[:, ::HOP]
        spectrum = np.fft.rfft(parts * np.hanning(WINDOW).astype(np.float32), FFT, axis=2)
        # divided by the energy of the window: a full-scale sine has a power near 1/4 for any WINDOW and FFT
        power = np.abs(spectrum).astype(np.float32) ** 2 / (np.hanning(WINDOW).sum() ** 2)
        mel = np.log(np.maximum(power @ self.filters, FLOOR))
        return np.concatenate([mel.mean(1), mel.std(1)], axis=1).astype(np.float32)


def mel_filters(bands: int) -> np.ndarray:
    """(FFT / 2 + 1, bands) float32 triangles of height 1, equally spaced in mel between ``LOW`` and ``HIGH``."""
    if bands < 1:
        raise ValueError(f"audio: bands = {bands}, expected at least 1")
    with warnings.catch_warnings():  # of empty bands, which are an error here
        warnings.simplefilter("ignore")
        made = mel_filter_bank(FFT // 2 + 1, bands, LOW, HIGH, RATE, norm=None, mel_scale="htk")
    empty = int((made.sum(0) == 0).sum())
    if empty:
        raise ValueError(f"audio: bands = {bands} leaves {empty} bands without a bin of the spectrum; use fewer")
    return made.astype(np.float32)
