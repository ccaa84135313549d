"""Speech: one row per utterance, with its time.

Either the data set's own transcripts (its texts of the kind ``asr``: nothing is decoded), or those of a Whisper of
transformers (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022), long-form, with its
time stamps, which are written as texts of the kind ``asr``.

# Deviation: MMT takes speech from a commercial service, without times (Gabeur et al., ECCV 2020).
"""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import pipeline

from videomatch.experts import Extracted
from videomatch.experts._backbone import config_of, device_and_dtype
from videomatch.experts._words import TextExpert
from videomatch.media.sound import SoundRequest

RATE, WINDOW = 16000, Fraction(1)  #: samples per second, and seconds of a window
#: sound whose loudest sample is below this (-60 dB) is silence, in which Whisper recognises sentences all the same
SILENCE = 1e-3

#: start and end, seconds where known, and text
Utterance = tuple[float | None, float | None, str]


class Expert(TextExpert):
    """Rows of the utterances of a video.

    Args:
        backbone: folder or hub id of a Whisper; None takes the texts of the data set.
        language: ``"en"``, ``"zh"`` …; None lets Whisper detect it.
        max_tokens: maximum number of tokens of 30 s; None leaves it to the checkpoint.
    """

    text_kind = "asr"

    def __init__(
        self,
        *,
        backbone: str | None = None,
        language: str | None = None,
        encoder: str | None = None,
        dim: int = 300,
        max_tokens: int | None = None,
        precision: str = "auto",
    ) -> None:
        super().__init__(encoder, dim)
        self.about = {"heard": "transcripts" if backbone is None else "whisper", **self.about}
        self.transcripts: dict[str, list[Utterance]] = {}
        if backbone is None:
            self.source_text_kind = "asr"
            return
        self.request = SoundRequest(WINDOW, RATE)
        config = config_of(backbone)
        if config.model_type != "whisper":
            raise ValueError(f"speech: {backbone!r} is a {config.model_type!r}, expected a Whisper")
        device, dtype, made_with = device_and_dtype(precision)
        self._recogniser: Any = pipeline("automatic-speech-recognition", backbone, device=device, dtype=dtype)
        self._lock = threading.Lock()
        options = {"language": language, "max_new_tokens": max_tokens}
        self._generate = {name: value for name, value in options.items() if value is not None}
        self.about |= {**made_with, "language": language}

    def set_texts(self, texts: pl.DataFrame) -> None:
        ordered = texts.filter(pl.col("video_id").is_not_null()).sort("video_id", "start", "text_id", nulls_last=True)
        for video_id, start, end, text in ordered.select("video_id", "start", "end", "text").iter_rows():
            self.transcripts.setdefault(video_id, []).append((start, end, text))

    def start(self, video_id: str) -> Transcriber:
        return Transcriber(self, video_id)

    def transcribe(self, sound: np.ndarray) -> list[Utterance]:
        """The utterances in ``(samples,)`` float32 sound."""
        if not len(sound) or float(np.abs(sound).max()) < SILENCE:
            return []
        with self._lock, torch.inference_mode():
            found = self._recogniser(
                {"raw": sound, "sampling_rate": RATE}, return_timestamps=True, generate_kwargs=self._generate
            )
        return [(*part["timestamp"], part["text"].strip()) for part in found["chunks"] if part["text"].strip()]


class Transcriber:
    """Collects the sound of one video: one row per utterance; without a known start its time is -1 s."""

    def __init__(self, expert: Expert, video_id: str) -> None:
        self.expert, self.video_id = expert, video_id
        self.sound: list[np.ndarray] = []

    def update(self, items: np.ndarray, first: int) -> np.ndarray:
        self.sound.append(items.reshape(-1))
        return self.expert.no_rows

    def finalize(self, times: np.ndarray) -> Extracted:
        expert = self.expert
        if expert.request is None:
            found = expert.transcripts.get(self.video_id, [])
        else:
            found = expert.transcribe(np.concatenate(self.sound)) if self.sound else []
        last = float(times[-1, 1]) if len(times) else 0.0
        spans = [
            (-1.0, -1.0) if start is None else (start, max(start, last if end is None else end))
            for start, end, _ in found
        ]
        return expert.extracted([text for *_, text in found], spans)
