"""The log-mel spectrogram itself, one window per row, on which a small audio network is trained.

Its numbers are those of ``ASTFeatureExtractor`` of transformers before the mean is subtracted, in a fraction of its
time (all windows at once): Kaldi's filter banks of 25 ms symmetric Hann windows every 10 ms without padding, each
without its mean and pre-emphasised by 0.97; power spectrum of 512 points, triangles equally spaced and straight on
Kaldi's mel scale from 20 Hz to half the rate, natural logarithm, floor 2^-23. A video without sound has no rows.
"""

from __future__ import annotations

import functools

import numpy as np
from transformers.audio_utils import mel_filter_bank

from videomatch.experts import BaseExpert, seconds
from videomatch.media.sound import SoundRequest

RATE = 16000  #: samples per second
FRAME, HOP, FFT = 400, 160, 512  #: samples, at any rate, as in transformers
EMPHASIS = 0.97
FLOOR = 1.192092955078125e-07
MIN_FREQUENCY = 20  #: Hz


class Expert(BaseExpert):
    """The spectrogram of every window of ``every`` seconds, ``(frames, bands)`` float16."""

    def __init__(self, *, bands: int = 64, every: float = 1.0, batch: int = 64) -> None:
        self.request = SoundRequest(seconds(every), RATE)
        frames = num_frames(self.request.samples)
        if not frames:
            raise ValueError(f"log_mel: every = {every} seconds, expected at least {FRAME / RATE}")
        if batch < 1:
            raise ValueError(f"log_mel: batch = {batch}, expected at least 1")
        filters(RATE, bands)
        self.bands = bands
        self.shape = (frames, bands)
        self.batch = batch

    def infer(self, batch: np.ndarray) -> np.ndarray:
        return log_mel(batch, RATE, self.bands)


def num_frames(samples: int) -> int:
    """Frames of the spectrogram of a sound of ``samples`` samples."""
    return max(0, 1 + (samples - FRAME) // HOP)


@functools.cache
def filters(rate: int, bands: int) -> np.ndarray:
    """The filter bank (FFT / 2 + 1, bands) float32."""
    if bands < 1:
        raise ValueError(f"log-mel: bands = {bands}, expected at least 1")
    made = mel_filter_bank(
        num_frequency_bins=FFT // 2 + 1,
        num_mel_filters=bands,
        min_frequency=MIN_FREQUENCY,
        max_frequency=rate // 2,
        sampling_rate=rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return made.astype(np.float32)


def log_mel(sound: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """``(n, samples)`` in [-1, 1] to ``(n, frames, bands)`` float32, not normalised."""
    parts = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float32, copy=False), FRAME, axis=1)[:, ::HOP]
    parts = parts - parts.mean(2, keepdims=True)
    emphasised = parts * (1 - EMPHASIS)
    emphasised[..., 1:] = parts[..., 1:] - EMPHASIS * parts[..., :-1]
    spectrum = np.fft.rfft(emphasised * np.hanning(FRAME).astype(np.float32), FFT, axis=2)
    power = spectrum.real.astype(np.float32) ** 2 + spectrum.imag.astype(np.float32) ** 2
    return np.log(np.maximum(power @ filters(rate, bands), FLOOR))
