"""Corners of a frame and what surrounds each: a small patch of grey pixels, turned and scaled with the corner.

Corners are ORB's (Rublee et al., ICCV 2011), patches those of Brown, Szeliski and Winder (CVPR 2005): 8 times 8
samples, less their mean, at length 1. So what is left of a picture that was cropped, rotated, shrunk, covered or put
into another one is found corner by corner, and where corners lie says how the pictures are related.

A row is a patch and then the corner's place: x, y and log2 of its size in short sides of the frame, and its angle.
Places are scaled by ``PLACE`` to weigh nothing in a cosine. The rows of a frame have its time, until the next frame
that looks different: a still picture is described once.
"""

from __future__ import annotations

import cv2
import numpy as np

from videomatch.experts import BaseExpert, Extracted, seconds
from videomatch.localisation.point_matches import PATCH, PLACE
from videomatch.media.decode import FrameRequest

#: samples of a patch's side, and pixels between two at the first level of the pyramid
SIDE, STEP = 8, 5.0
#: levels of the pyramid and their ratio; a corner's least contrast, of 255; pixels of its patch in ORB
LEVELS, RATIO, CONTRAST, ORB_PATCH = 8, 1.2, 8, 31
#: pixels of a side, and mean change of brightness, of 255, of the thumbnails of frames that look different
THUMBNAIL, CHANGE = 16, 2.0


class Expert(BaseExpert):
    """At most ``count`` corners of a frame every ``every`` seconds, its short side scaled down to ``size`` pixels."""

    def __init__(self, *, count: int = 150, every: float = 1.0, size: int = 240) -> None:
        if not 1 <= count <= 5000:
            raise ValueError(f"points: count = {count} corners of a frame, expected 1 to 5000")
        if not 64 <= size <= 2000:
            raise ValueError(f"points: size = {size} pixels, expected 64 to 2000")
        self.count = count
        self.shape = (PATCH + len(PLACE),)
        self.request = FrameRequest(seconds(every), size)

    def start(self, video_id: str) -> _Extractor:
        return _Extractor(self.count)


class _Extractor:
    """The rows of one video; ``first`` are the numbers of the frames that were described, ``counts`` their rows."""

    def __init__(self, count: int) -> None:
        self.detector = cv2.ORB.create(
            count, RATIO, LEVELS, edgeThreshold=ORB_PATCH // 2, patchSize=ORB_PATCH, fastThreshold=CONTRAST
        )
        self.last: np.ndarray | None = None
        self.first: list[int] = []
        self.counts: list[int] = []

    def update(self, items: np.ndarray, first: int) -> np.ndarray:
        found = [_none(0)]
        for number, frame in enumerate(items, first):
            grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
            small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
            if self.last is not None and np.abs(small - self.last).mean() < CHANGE:
                continue
            self.last = small
            found.append(described(grey, self.detector))
            self.first.append(number)
            self.counts.append(len(found[-1]))
        return np.concatenate(found)

    def finalize(self, times: np.ndarray) -> Extracted:
        """A video without corners has one row, of zeros, which is similar to none."""
        if not len(times):
            return Extracted(_none(0), np.zeros((0, 2)))
        starts = times[self.first, 0]
        spans = np.stack([starts, np.r_[starts[1:], times[-1, 1]]], axis=1)
        rows = np.repeat(spans, self.counts, axis=0)
        return Extracted(_none(0), rows) if len(rows) else Extracted(_none(1), spans[:1])


def _none(rows: int) -> np.ndarray:
    return np.zeros((rows, PATCH + len(PLACE)), np.float32)


def described(grey: np.ndarray, detector: cv2.ORB) -> np.ndarray:
    """The rows of a frame ``(height, width)`` uint8, float32."""
    corners = detector.detect(grey, None)
    rows = _none(len(corners))
    if not corners:
        return rows
    places = np.array([(*c.pt, c.size / ORB_PATCH, np.radians(c.angle)) for c in corners], np.float32)
    levels = np.array([c.octave for c in corners])
    down, across = np.meshgrid(np.arange(SIDE) - (SIDE - 1) / 2, np.arange(SIDE) - (SIDE - 1) / 2, indexing="ij")
    for level in np.unique(levels):
        at, step = levels == level, STEP * RATIO**level
        smooth = cv2.GaussianBlur(grey, (0, 0), step / 2).astype(np.float32)
        x, y, _, angle = places[at, :, None, None].transpose(1, 0, 2, 3)
        cos, sin = step * np.cos(angle), step * np.sin(angle)
        maps = [x + cos * across - sin * down, y + sin * across + cos * down]
        maps = [m.reshape(-1, PATCH).astype(np.float32) for m in maps]
        rows[at, :PATCH] = cv2.remap(smooth, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    patches = rows[:, :PATCH]
    patches -= patches.mean(axis=1, keepdims=True)
    patches /= np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-3)
    short = min(grey.shape)
    places[:, :2] /= short
    places[:, 2] = np.log2(places[:, 2] / short)
    rows[:, PATCH:] = places * PLACE
    return rows
