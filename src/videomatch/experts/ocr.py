"""The text in the frames: recognised by PP-OCR, one row per text, with the time for which it is on screen.

The engine is RapidOCR, whose package carries its detection and recognition models (English and Chinese). A text that is
recognised in several frames, each time equal or nearly so, is one row; the texts become texts of the kind ``ocr``.

# Deviation: MMT uses PixelLink and a recogniser trained on Synth90K, English only (Gabeur et al., ECCV 2020).
"""

from __future__ import annotations

import threading
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from rapidocr import RapidOCR
from rapidocr.utils.process_img import get_rotate_crop_image

from videomatch.data.text import clean
from videomatch.experts import Extracted, Text, seconds
from videomatch.experts._words import WORD, TextExpert
from videomatch.media.decode import FrameRequest

SAME_TEXT = 0.7  #: similarity of two recognised texts from which on they are the same
MISSED = 1  #: frames in which a text on screen may be missed
#: intersection over union, and correlation, of two boxes from which on they show the same text
SAME_PLACE, SAME_LOOK = 0.75, 0.95
#: aspect ratio below which a box cannot hold two letters (most such boxes are no text at all)
MIN_ASPECT = 1.3
STAMP = (16, 64)  #: height and width to which a box is scaled to be compared


class Expert(TextExpert):
    """Rows of the texts in the frames.

    Args:
        size: short side of the frames, px; larger finds smaller letters, at a cost that grows with its square.
        score: minimum score of the recogniser.
    """

    text_kind = "ocr"

    def __init__(
        self, *, every: float = 1.0, size: int = 224, score: float = 0.8, encoder: str | None = None, dim: int = 300
    ) -> None:
        if size < 32:
            raise ValueError(f"ocr: size = {size} pixels, expected at least 32")
        if not 0 <= score < 1:
            raise ValueError(f"ocr: score = {score}, expected from 0 up to 1")
        super().__init__(encoder, dim)
        self.request = FrameRequest(seconds(every), size)
        self.size, self.score = size, score
        self.about = {"engine": "PP-OCR", **self.about}
        self._thread = threading.local()

    def start(self, video_id: str) -> TextTracker:
        return TextTracker(self)

    def read(self, frame: np.ndarray, before: list[TextBox]) -> list[TextBox]:
        """The texts of a frame ``(h, w, 3)`` uint8 RGB, from top to bottom. A box that matches one of ``before`` is not
        recognised again: recognition costs twice what detection does."""
        detector, recogniser = self._models()
        image = np.ascontiguousarray(frame[..., ::-1])
        corners = detector(image).boxes
        boxes = []
        for four in () if corners is None else corners:
            crop = get_rotate_crop_image(image, np.asarray(four, np.float32))
            if not crop.size or max(crop.shape[:2]) < MIN_ASPECT * min(crop.shape[:2]):
                continue
            (x0, y0), (x1, y1) = np.min(four, axis=0), np.max(four, axis=0)
            place, stamp = (float(x0), float(y0), float(x1), float(y1)), stamp_of(crop)
            text, score = next(((b.text, b.score) for b in before if b.matches(place, stamp)), (None, 0.0))
            if text is None:
                result = recogniser(crop)
                text, score = (result.txts[0], float(result.scores[0])) if result.txts else ("", 0.0)
            boxes.append(TextBox(place, stamp, unicodedata.normalize("NFKC", text).strip(), score))
        return boxes

    def _models(self) -> tuple[Any, ...]:
        """Detector and recogniser, one copy per thread (RapidOCR keeps state between its steps)."""
        if hasattr(self._thread, "models"):
            return self._thread.models
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
        engines = (RapidOCR(params={**common, f"Global.use_{unused}": False}) for unused in ("rec", "det"))
        self._thread.models = tuple(engines)
        return self._thread.models


class TextTracker:
    """Follows the texts of one video from frame to frame: one row per text, in the order in which they appear."""

    def __init__(self, expert: Expert) -> None:
        self.expert = expert
        self.tracks: list[_Track] = []
        self.boxes: list[TextBox] = []  # of the last frame

    def update(self, items: np.ndarray, first: int) -> np.ndarray:
        for number, frame in enumerate(items, first):
            self.boxes = self.expert.read(frame, self.boxes)
            for box in self.boxes:
                if box.score < self.expert.score or not is_word(box.text):
                    continue
                recent = (track for track in self.tracks if number - track.last <= 1 + MISSED)
                track = next((t for t in recent if similarity(t.box.text, box.text) >= SAME_TEXT), None)
                if track is None:
                    self.tracks.append(_Track(box, number, number))
                else:
                    track.box, track.last = max(track.box, box, key=lambda b: b.score), number
        return self.expert.no_rows

    def finalize(self, times: np.ndarray) -> Extracted:
        found = []
        for track in self.tracks:
            start, end = float(times[track.first, 0]), float(times[track.last, 1])
            found += [Text(t, start, end, language, track.box.score) for t, language in clean(track.box.text, "ocr")]
        return self.expert.extracted(found)


@dataclass
class _Track:
    """A text that is on screen from frame ``first`` to frame ``last``; its box with the highest score."""

    box: TextBox
    first: int
    last: int


def is_word(text: str) -> bool:
    """Whether a recognised text has two different letters or, without letters, three different digits. (Shapes and
    patterns are recognised as single letters, or as 0, O, 8 …)"""
    letters = {c for c in text.casefold() if unicodedata.category(c)[0] == "L"}
    digits = {c for c in text if c.isdigit()}
    return len(letters) > 1 or (not letters and len(digits) > 2)


def similarity(a: str, b: str) -> float:
    """Dice coefficient in [0, 1] of the character pairs of two texts, without case, spaces and punctuation."""
    first, second = (Counter(pairwise(f"<{''.join(WORD.findall(text.casefold()))}>")) for text in (a, b))
    return 2 * (first & second).total() / max(first.total() + second.total(), 1)


@dataclass(frozen=True)
class TextBox:
    """A recognised text: ``place`` is x0, y0, x1, y1; ``stamp`` a small grey picture of mean 0 and deviation 1."""

    place: tuple[float, float, float, float]
    stamp: np.ndarray
    text: str
    score: float

    def matches(self, place: tuple[float, float, float, float], stamp: np.ndarray) -> bool:
        """Whether a box at this place that looks like this shows the same text."""
        (a, b, c, d), (e, f, g, h) = self.place, place
        shared = max(min(c, g) - max(a, e), 0) * max(min(d, h) - max(b, f), 0)
        union = (c - a) * (d - b) + (g - e) * (h - f) - shared
        return shared >= SAME_PLACE * union and float((self.stamp * stamp).mean()) >= SAME_LOOK


def stamp_of(crop: np.ndarray) -> np.ndarray:
    """The stamp of a box that shows ``(h, w, 3)`` uint8 BGR."""
    small = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), STAMP[::-1], interpolation=cv2.INTER_AREA)
    grey = small.astype(np.float32)
    return (grey - grey.mean()) / max(float(grey.std()), 1.0)
