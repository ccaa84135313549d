"""Speech: one row per utterance, with its time.

The utterances of a video are its given transcript (texts of the kind ``asr``) or, with a ``backbone``, for a video
without one those that Whisper recognises: they become texts of that kind, cleaned like given ones.

# Deviation: MMT takes speech from a commercial service, without times (Gabeur et al., ECCV 2020).
"""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import numpy as np

from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.text import clean_table
from videomatch.experts import Extracted, Text
from videomatch.experts._whisper import RATE, Whisper
from videomatch.experts._words import TextExpert
from videomatch.media.sound import SoundRequest

WINDOW = Fraction(1)  #: seconds of sound that come at a time
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
            self.request = SoundRequest(WINDOW, RATE)
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
