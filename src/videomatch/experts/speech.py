"""What is said: one row an utterance, with the time at which it is said.

Either the data set's own transcripts (its texts of the kind ``asr``: nothing is decoded), or what a Whisper of
transformers hears (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022), long-form, with
its own time stamps; those are kept as texts of the kind ``asr``.

# Deviation: MMT takes speech from a commercial service, without times (Gabeur et al., ECCV 2020).
"""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, pipeline

from videomatch.experts import _network
from videomatch.experts._reading import Found
from videomatch.experts._words import Words
from videomatch.media.sound import SoundRequest

#: samples a second, and seconds of sound handed on at a time
RATE, PIECE = 16000, Fraction(1)
#: sound whose loudest sample is below this (-60 dB) is silence, in which Whisper hears sentences all the same
SILENCE = 1e-3


class Expert:
    """Rows of the utterances of a video.

    Args:
        backbone: folder or hub id of a Whisper; None takes the texts of the data set.
        language: language that is spoken (``"en"``, ``"zh"`` …); None lets Whisper tell.
        encoder: folder or hub id of a text encoder; None hashes n-grams (:mod:`videomatch.experts._words`).
        dim: numbers of a hashed row.
        max_tokens: tokens of a stretch of 30 s, at most; None leaves it to the checkpoint.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the machine multiplies it natively.
    """

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
        self.words = Words(encoder, dim)
        self.shape = (self.words.dim,)
        self.dtype = "float16"
        self.batch = 0
        self.texts = "asr"
        self.reads = "asr" if backbone is None else None
        self.request = None if backbone is None else SoundRequest(PIECE, RATE)
        self.about: dict[str, Any] = {"heard": "transcripts" if backbone is None else "whisper", **self.words.about}
        self.given: dict[str, list[tuple[float | None, float | None, str]]] = {}
        self._recogniser: Any = None
        self._alone = threading.Lock()
        if backbone is not None:
            self._load(backbone, language, max_tokens, precision)

    def _load(self, backbone: str, language: str | None, max_tokens: int | None, precision: str) -> None:
        config = _network.config_of(backbone)
        if config.model_type != "whisper":
            raise ValueError(f"speech: {backbone!r} is a {config.model_type!r}, expected a Whisper")
        device, dtype = _network.device_and_dtype(precision)
        processor = AutoProcessor.from_pretrained(backbone)
        self._recogniser = pipeline(
            "automatic-speech-recognition",
            model=AutoModelForSpeechSeq2Seq.from_pretrained(backbone, dtype=dtype).eval(),
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device=device,
            dtype=dtype,
        )
        given = {"language": language, "max_new_tokens": max_tokens}
        self._generate = {name: value for name, value in given.items() if value is not None}
        self.about |= {"device": device.type, "precision": str(dtype).removeprefix("torch."), "language": language}

    def give(self, texts: pl.DataFrame) -> None:
        """The data set's transcripts."""
        ordered = texts.filter(pl.col("video_id").is_not_null()).sort("video_id", "start", "text_id", nulls_last=True)
        for video_id, start, end, text in ordered.select("video_id", "start", "end", "text").iter_rows():
            self.given.setdefault(video_id, []).append((start, end, text))

    def start(self, video_id: str) -> Reading:
        """Begin a video."""
        return Reading(self, video_id)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """Nothing is left to do."""
        return batch

    def hear(self, sound: np.ndarray) -> list[tuple[float | None, float | None, str]]:
        """Start, end (seconds) and words of the utterances in ``(samples,)`` float32 sound."""
        if not len(sound) or float(np.abs(sound).max()) < SILENCE:
            return []
        with self._alone, torch.inference_mode():
            said = self._recogniser(
                {"raw": sound, "sampling_rate": RATE}, return_timestamps=True, generate_kwargs=self._generate
            )
        return [(*part["timestamp"], part["text"].strip()) for part in said["chunks"] if part["text"].strip()]


class Reading:
    """One video being heard."""

    def __init__(self, expert: Expert, video_id: str) -> None:
        self.expert, self.video_id = expert, video_id
        self.sound: list[np.ndarray] = []

    def see(self, items: np.ndarray, first: int) -> None:
        """``(n, samples)`` further sound."""
        self.sound.append(items.reshape(-1))

    def finish(self, times: np.ndarray) -> Found:
        """A row an utterance; one of which nobody knows when it was said stands at -1 s."""
        expert = self.expert
        said = expert.given.get(self.video_id, [])
        end = float(times[-1, 1]) if len(times) else None
        if expert.request is not None:
            said = expert.hear(np.concatenate(self.sound)) if self.sound else []
        texts = [text for *_, text in said]
        return Found(
            expert.words(texts), np.array([_span(*s[:2], end) for s in said], np.float64).reshape(-1, 2), texts
        )


def _span(start: float | None, end: float | None, last: float | None) -> tuple[float, float]:
    """A span of time of which Whisper did not hear the end, or a transcript does not tell it."""
    if start is None:
        return (-1.0, -1.0)
    stop = end if end is not None else last if last is not None else start
    return (start, max(start, stop))
