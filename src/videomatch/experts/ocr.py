"""The words on the picture: read by PP-OCR, one row a text, with the time from which to which it stands.

The engine is RapidOCR, whose package carries its detection and recognition models (English and Chinese): nothing is
downloaded. A text that stands for several frames, read alike each time or nearly so, is one row; the words themselves
are kept as texts of the kind ``ocr``.

# Deviation: MMT reads with PixelLink and a recogniser trained on Synth90K, English only (Gabeur et al., ECCV 2020).
"""

from __future__ import annotations

import threading
import unicodedata
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import polars as pl
from rapidocr import RapidOCR
from rapidocr.utils.process_img import get_rotate_crop_image

from videomatch.experts._expert import seconds
from videomatch.experts._reading import Found
from videomatch.experts._words import Words, similar
from videomatch.media.decode import FrameRequest

#: share of two readings' character pairs from which on they are the same text
SAME = 0.7
#: frames in which a text that stands may be missed
MISSED = 1
#: overlap (of the union) and correlation of two boxes from which on they show the same text
OVERLAP, ALIKE = 0.75, 0.95
#: length over height below which a box cannot hold two letters (most such boxes are no text at all)
SHORTEST = 1.3
#: height and width to which a box is scaled to be compared
STAMP = (16, 64)


class Expert:
    """Rows of the texts that stand on the picture.

    Args:
        every: seconds between the frames that are read.
        size: short side of the frames, px; larger finds smaller letters, at a cost that grows with its square.
        score: least certainty of the recogniser.
        encoder: folder or hub id of a text encoder; None hashes n-grams (:mod:`videomatch.experts._words`).
        dim: numbers of a hashed row.
    """

    def __init__(
        self,
        *,
        every: float = 1.0,
        size: int = 224,
        score: float = 0.8,
        encoder: str | None = None,
        dim: int = 300,
    ) -> None:
        if size < 32:
            raise ValueError(f"ocr: size = {size} pixels, expected at least 32")
        if not 0 <= score < 1:
            raise ValueError(f"ocr: score = {score}, expected from 0 up to 1")
        self.words = Words(encoder, dim)
        self.request = FrameRequest(seconds(every), size)
        self.shape = (self.words.dim,)
        self.dtype = "float16"
        self.batch = 0
        self.texts, self.reads = "ocr", None
        self.score = score
        self.about: dict[str, Any] = {"engine": "PP-OCR", **self.words.about}
        self._engine = _Engine(size)

    def give(self, texts: pl.DataFrame) -> None:
        """Nothing is wanted."""

    def start(self, video_id: str) -> Reading:
        """Begin a video."""
        return Reading(self)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """Nothing is left to do."""
        return batch


@dataclass
class _Standing:
    """A text that stands on the screen from frame ``first`` to frame ``last``."""

    text: str
    score: float
    first: int
    last: int


class Reading:
    """One video being read."""

    def __init__(self, expert: Expert) -> None:
        self.expert = expert
        self.standing: list[_Standing] = []
        self._read: list[_Box] = []

    def see(self, items: np.ndarray, first: int) -> None:
        """``(n, h, w, 3)`` uint8 frames, the first of them number ``first``."""
        for number, frame in enumerate(items, first):
            boxes = self.expert._engine.read(frame, self._read)
            self._read = boxes
            for box in boxes:
                if box.score >= self.expert.score and is_word(box.text):
                    self._add(box.text, box.score, number)

    def _add(self, text: str, score: float, number: int) -> None:
        for old in self.standing:
            if number - old.last <= 1 + MISSED and similar(old.text, text) >= SAME:
                if score > old.score:
                    old.text, old.score = text, score
                old.last = number
                return
        self.standing.append(_Standing(text, score, number, number))

    def finish(self, times: np.ndarray) -> Found:
        """A row a text, in the order in which they appear."""
        texts = [old.text for old in self.standing]
        spans = [(times[old.first, 0], times[old.last, 1]) for old in self.standing]
        return Found(self.expert.words(texts), np.array(spans, np.float64).reshape(-1, 2), texts)


def is_word(text: str) -> bool:
    """Whether a reading is likely to be words: shapes and patterns are read as single letters, or as 0, O, 8, 1 …

    At least two different letters or, without letters, three different digits.
    """
    letters = {c for c in text.casefold() if unicodedata.category(c)[0] == "L"}
    digits = {c for c in text if c.isdigit()}
    return len(letters) > 1 or (not letters and len(digits) > 2)


@dataclass(frozen=True)
class _Box:
    """A reading: where (x0, y0, x1, y1), how it looks, what it says and how certain that is."""

    place: tuple[float, float, float, float]
    stamp: np.ndarray
    text: str
    score: float

    def is_as(self, place: tuple[float, float, float, float], stamp: np.ndarray) -> bool:
        """Whether a box at this place that looks like this shows the same."""
        (a, b, c, d), (e, f, g, h) = self.place, place
        shared = max(min(c, g) - max(a, e), 0) * max(min(d, h) - max(b, f), 0)
        union = (c - a) * (d - b) + (g - e) * (h - f) - shared
        return shared >= OVERLAP * union and float((self.stamp * stamp).mean()) >= ALIKE


class _Engine:
    """RapidOCR with its own models, one copy a thread (it keeps state between its steps)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._own = threading.local()

    def read(self, frame: np.ndarray, before: list[_Box]) -> list[_Box]:
        """What stands on a frame ``(h, w, 3)`` uint8 RGB, from top to bottom. A box that looks as one of ``before`` is
        not read again: recognition costs twice what detection does, and texts stand still."""
        detector, recogniser = self._models()
        image = np.ascontiguousarray(frame[..., ::-1])
        corners = detector(image).boxes
        boxes = []
        for four in () if corners is None else corners:
            crop = get_rotate_crop_image(image, np.asarray(four, np.float32))
            if not crop.size or max(crop.shape[:2]) < SHORTEST * min(crop.shape[:2]):
                continue
            (x0, y0), (x1, y1) = np.min(four, axis=0), np.max(four, axis=0)
            place, stamp = (float(x0), float(y0), float(x1), float(y1)), _stamp(crop)
            box = next((_Box(place, stamp, old.text, old.score) for old in before if old.is_as(place, stamp)), None)
            if box is None:
                result = recogniser(crop)
                text = unicodedata.normalize("NFKC", result.txts[0]).strip() if result.txts else ""
                box = _Box(place, stamp, text, float(result.scores[0]) if result.txts else 0.0)
            boxes.append(box)
        return boxes

    def _models(self) -> tuple[Any, Any]:
        if not hasattr(self._own, "models"):
            cv2.setNumThreads(1)
            common = {
                "Global.log_level": "critical",
                "Global.use_cls": False,
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Det.limit_type": "min",
                "Det.limit_side_len": self.size,
                "Rec.rec_img_shape": [3, 48, 64],  # short words are not padded to the width of a line
            }
            self._own.models = (
                RapidOCR(params={**common, "Global.use_rec": False}),
                RapidOCR(params={**common, "Global.use_det": False}),
            )
        return self._own.models


def _stamp(crop: np.ndarray) -> np.ndarray:
    """What a box looks like: a small grey picture of mean 0 and deviation 1."""
    small = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), STAMP[::-1], interpolation=cv2.INTER_AREA)
    grey = small.astype(np.float32)
    return (grey - grey.mean()) / max(float(grey.std()), 1.0)
