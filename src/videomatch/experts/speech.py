"""Speech: one row per utterance, with its time.

The utterances of a video are its given transcript (texts of the kind ``asr``) or, with a ``backbone``, for a video
without one those that Whisper recognises: they become texts of that kind, cleaned like given ones.

Whisper (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022) is a network of CTranslate2
(faster-whisper) or of transformers. Over music and silence it writes sentences all the same. So Silero's voice-activity
detection, which faster-whisper brings with it, finds the speech in a sound, and Whisper gets only windows with some.

# Deviation: MMT takes speech from a commercial service, without times (Gabeur et al., ECCV 2020).
# Deviation: decoding is not repeated at higher temperatures: what the model is least sure of would be drawn at random.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import pipeline

from videomatch.common import named
from videomatch.common.files import parse_json, text_of
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.language import tag
from videomatch.data.text import clean_table
from videomatch.experts import Extracted, Text
from videomatch.experts._backbone import device_and_dtype, find_file
from videomatch.experts._words import TextExpert
from videomatch.media.sound import SoundRequest

PIECE = Fraction(1)  #: seconds of sound that come at a time
RATE, WINDOW = 16000, 30  #: samples per second that Whisper takes, and seconds at a time
CONVERTED = "lang_ids"  #: a key in the configuration of a Whisper for CTranslate2, which names no type
FIELDS = [field.name for field in fields(Text)]  #: columns of the table ``texts``


class Expert(TextExpert):
    """Rows of the utterances of a video.

    Args:
        backbone: folder or hub id of a Whisper; None takes given transcripts alone.
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
        self.transcripts: dict[str, list[Text]] = {}
        self.about = {"heard": "transcripts" if backbone is None else "whisper", **self.about}
        if backbone is not None:
            self.request = SoundRequest(PIECE, RATE)
            self.whisper = Whisper(backbone, language=language, max_tokens=max_tokens, precision=precision)
            self.about |= self.whisper.about

    def set_corpus(self, corpus: Path, shard: int) -> None:
        for row in corpora.transcripts(corpus, shard).iter_rows(named=True):
            self.transcripts.setdefault(row["video_id"], []).append(Text(**{name: row[name] for name in FIELDS}))

    def start(self, video_id: str) -> Transcriber:
        return Transcriber(self, self.transcripts.get(video_id))


class Transcriber:
    """Collects the sound of a video that has no transcript, and has it recognised at its end."""

    def __init__(self, expert: Expert, transcript: list[Text] | None) -> None:
        self.expert, self.transcript = expert, transcript
        self.sound: list[np.ndarray] = []

    def update(self, items: np.ndarray, first: int) -> np.ndarray:
        if self.transcript is None:
            self.sound.append(items.reshape(-1))
        return self.expert.no_rows

    def finalize(self, times: np.ndarray) -> Extracted:
        if self.transcript is not None or not self.sound:
            return self.expert.extracted(self.transcript or [])
        heard = self.expert.whisper.transcribe(np.concatenate(self.sound))
        rows = [(str(n), "", "asr", t.language, t.start, t.end, t.text, t.confidence) for n, t in enumerate(heard)]
        cleaned = clean_table(tables.frame("texts", rows)).select(FIELDS)
        return self.expert.extracted([Text(**row) for row in cleaned.iter_rows(named=True)])


class Whisper:
    """A folder or hub id of a Whisper. ``about`` is what it was made with."""

    def __init__(self, backbone: str, *, language: str | None, max_tokens: int | None, precision: str) -> None:
        file = find_file(backbone, "config.json")
        config = {} if file is None else parse_json(text_of(file), str(file))
        kind = config.get("model_type", "whisper" if CONVERTED in config else None)
        if kind != "whisper":
            what = "holds no config.json" if file is None else f"is a {kind!r}"
            raise ValueError(f"speech: {backbone!r} {what}, expected a Whisper of transformers or CTranslate2")
        named.require("faster_whisper", "speech")
        converted = "model_type" not in config
        # CTranslate2 has no bfloat16 on CPUs
        device, dtype, made_with = device_and_dtype("float32" if converted and precision == "auto" else precision)
        self.about = {**made_with, "language": language}
        self._lock = threading.Lock()
        options = {"language": language, "max_new_tokens": max_tokens}
        options = {name: value for name, value in options.items() if value is not None}
        self._read = (_by_ctranslate2 if converted else _by_transformers)(backbone, device, dtype, options)

    def transcribe(self, sound: np.ndarray) -> list[Text]:
        """The utterances in ``(samples,)`` float32 sound, in order of time."""
        return [text for begin, end in _windows(sound) for text in self._heard(sound[begin:end], begin / RATE)]

    def _heard(self, sound: np.ndarray, begin: float) -> list[Text]:
        """The utterances in a window of sound, which begins at ``begin`` seconds."""
        with self._lock, torch.inference_mode():
            heard = list(self._read(sound))
        found, last = [], len(sound) / RATE
        for text in heard:
            start, end = text.start or 0.0, last if text.end is None else min(text.end, last)  # the last may be unknown
            if text.text.strip() and start < end:
                found.append(replace(text, start=round(begin + start, 2), end=round(begin + end, 2)))
        return found


def _windows(sound: np.ndarray) -> list[tuple[int, int]]:
    """First and last sample of stretches with speech: as many in one window as Whisper takes at a time."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    found: list[tuple[int, int]] = []
    for part in get_speech_timestamps(sound, VadOptions(max_speech_duration_s=WINDOW), RATE):
        begin, end = part["start"], part["end"]
        if found and end - found[-1][0] <= WINDOW * RATE:
            begin, _ = found.pop()
        found.append((begin, end))
    return found


def _by_ctranslate2(backbone: str, device: torch.device, dtype: torch.dtype, options: dict[str, Any]) -> Reader:
    from faster_whisper import WhisperModel

    model = WhisperModel(backbone, device=device.type, compute_type=str(dtype).removeprefix("torch."))

    def read(speech: np.ndarray) -> Iterator[Text]:
        found, about = model.transcribe(speech, temperature=0.0, condition_on_previous_text=False, **options)
        for part in found:
            yield Text(part.text, part.start, part.end, about.language, min(1.0, math.exp(part.avg_logprob)))

    return read


def _by_transformers(backbone: str, device: torch.device, dtype: torch.dtype, options: dict[str, Any]) -> Reader:
    recogniser: Any = pipeline("automatic-speech-recognition", backbone, device=device, dtype=dtype)

    def read(speech: np.ndarray) -> Iterator[Text]:
        sound = {"raw": speech, "sampling_rate": RATE}
        found = recogniser(sound, return_timestamps=True, return_language=True, generate_kwargs=options)
        for part in found["chunks"]:
            yield Text(part["text"], *part["timestamp"], language=tag(part.get("language") or ""))

    return read


#: speech ``(samples,)`` -> what is said in it
Reader = Callable[[np.ndarray], Iterator[Text]]
