"""Kaldi's log-mel filter banks as AST reads them, for many windows at once.

25 ms symmetric Hann windows every 10 ms without padding, each without its mean and pre-emphasised by 0.97; power
spectrum of 512 points, triangles equally spaced and straight on Kaldi's mel scale (1127 ln(1 + f / 700)) from 20 Hz to
half the rate, natural logarithm, floor 2^-23. Source: ``ASTFeatureExtractor`` of transformers, whose numbers these are
at a fraction of its time (it goes window by window).
"""

from __future__ import annotations

import functools

import numpy as np
from transformers.audio_utils import mel_filter_bank

FRAME, HOP, FFT = 400, 160, 512  #: samples, at any rate, as there
EMPHASIS = 0.97
FLOOR = 1.192092955078125e-07
LOWEST = 20  #: Hz


def num_frames(samples: int) -> int:
    """Frames of a sound of so many samples."""
    return max(0, 1 + (samples - FRAME) // HOP)


@functools.cache
def filters(rate: int, bands: int) -> np.ndarray:
    """(FFT / 2 + 1, bands) float32.

    Raises:
        ValueError: there are so many bands that one falls between two bins of the spectrum.
    """
    if bands < 1:
        raise ValueError(f"log-mel: bands = {bands}, expected at least 1")
    made = mel_filter_bank(
        num_frequency_bins=FFT // 2 + 1,
        num_mel_filters=bands,
        min_frequency=LOWEST,
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
