"""Corners of a frame and what surrounds each: a small patch of grey pixels, turned and scaled with the corner.

Corners are ORB's (Rublee et al., ICCV 2011), patches those of Brown, Szeliski and Winder (CVPR 2005): 8 times 8
samples, less their mean, at length 1. So what is left of a picture that was cropped, rotated, shrunk, covered or put
into another one is found corner by corner, and where corners lie says how the pictures are related.

A row is a patch and then the corner's place: x, y and log2 of its size in short sides of the frame, and its angle.
Places are scaled by ``PLACE`` to weigh nothing in a cosine. The rows of a frame have its time, until the next frame
that looks different: a still picture is described once.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from videomatch.experts import BaseExpert, Extracted, seconds
from videomatch.localisation.point_matches import PATCH, PLACE
from videomatch.media.decode import FrameRequest

#: samples of a patch's side, pixels between two at the first level of the pyramid, and samples per such distance in the
#: smoothed picture that they are taken from
SIDE, STEP, FINE = 8, 5.0, 2
#: levels of an octave of the pyramid; a corner's least contrast, of 255; pixels of its patch in ORB
LEVELS, CONTRAST, ORB_PATCH = 3, 5, 31
#: times as many corners that are found, and short sides of a cell, in which the best of them are kept
CHOICE, SPREAD = 3, 0.25
#: ratio of the variation of a patch in two directions from which on it is an edge
EDGE = 10.0
#: pixels of a side of the thumbnails of frames, and of a block of them; the mean change of a block's brightness, of
#: 255, by which frames look different: what moves may be a small picture in another one
THUMBNAIL, BLOCK, CHANGE = 16, 4, 4.0


class Expert(BaseExpert):
    """At most so many corners (``counts``) of a frame, of half and of a quarter of its size, and so on, every ``every``
    seconds. Its short side is scaled to ``size`` pixels, also up, so that octaves of all videos are of equal size."""

    def __init__(self, *, counts: Sequence[int] = (60, 60, 60), every: float = 1.0, size: int = 240) -> None:
        if not 1 <= len(counts) <= 6 or not all(1 <= count <= 5000 for count in counts):
            raise ValueError(f"points: counts = {list(counts)}, expected 1 to 6 numbers of corners from 1 to 5000")
        if not 64 <= size <= 2000:
            raise ValueError(f"points: size = {size} pixels, expected 64 to 2000")
        self.counts, self.size = counts, size
        self.shape = (PATCH + len(PLACE),)
        self.request = FrameRequest(seconds(every), size)

    def start(self, video_id: str) -> _Extractor:
        return _Extractor(self.counts, self.size)


class _Extractor:
    """The rows of one video; ``first`` are the numbers of the frames that were described, ``counts`` their rows."""

    def __init__(self, counts: Sequence[int], size: int) -> None:
        self.size = size
        ratio, border = 2 ** (1 / LEVELS), ORB_PATCH // 2
        given = {"edgeThreshold": border, "patchSize": ORB_PATCH, "fastThreshold": CONTRAST}
        self.detectors = [(cv2.ORB.create(CHOICE * count, ratio, LEVELS, **given), count) for count in counts]
        self.last: np.ndarray | None = None
        self.first: list[int] = []
        self.counts: list[int] = []

    def update(self, items: np.ndarray, first: int) -> np.ndarray:
        found = [_none(0)]
        for number, frame in enumerate(items, first):
            grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
            small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
            if self.last is not None:
                change = cv2.resize(np.abs(small - self.last), (THUMBNAIL // BLOCK,) * 2, interpolation=cv2.INTER_AREA)
                if change.max() < CHANGE:
                    continue
            self.last = small
            scale = max(1.0, self.size / min(grey.shape))
            found.append(described(cv2.resize(grey, None, fx=scale, fy=scale), self.detectors))
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


def described(grey: np.ndarray, detectors: Sequence[tuple[cv2.ORB, int]]) -> np.ndarray:
    """The rows of a frame ``(height, width)`` uint8, float32; a detector and a number of corners per octave."""
    rows, octave = [_none(0)], grey
    for number, (detector, count) in enumerate(detectors):
        if number:
            octave = cv2.resize(octave, (octave.shape[1] // 2, octave.shape[0] // 2), interpolation=cv2.INTER_AREA)
        if min(octave.shape) <= ORB_PATCH:
            break
        rows.append(_octave(octave, detector, count))
        rows[-1][:, PATCH + 2] -= PLACE[2] * np.log2(min(octave.shape))
    return np.concatenate(rows)


def _spread(corners: Sequence[cv2.KeyPoint], side: float, count: int) -> list[cv2.KeyPoint]:
    """The best corner of each cell of so many pixels, then the second best ones and so on: words and other pictures
    in one part of the picture must not take all corners."""
    cells = np.array([c.pt for c in corners]).reshape(-1, 2) // side
    response = np.array([-c.response for c in corners])
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    order = np.lexsort((response, cell.ravel()))
    ranks = np.arange(len(order)) - np.searchsorted(cell.ravel()[order], cell.ravel()[order])
    return [corners[n] for n in order[np.lexsort((response[order], ranks))][:count]]


def _octave(grey: np.ndarray, detector: cv2.ORB, count: int) -> np.ndarray:
    """The rows of a picture, with sizes in pixels."""
    corners = _spread(detector.detect(grey, None), SPREAD * min(grey.shape), count)
    rows = _none(len(corners))
    if not corners:
        return rows
    places = np.array([(*c.pt, c.size / ORB_PATCH, np.radians(c.angle)) for c in corners], np.float32)
    levels = np.array([c.octave for c in corners])
    grid = FINE * (np.arange(SIDE) - (SIDE - 1) / 2)
    down, across = np.meshgrid(grid, grid, indexing="ij")
    for level in np.unique(levels):
        at = levels == level
        scale = FINE / (STEP * places[at][0, 2])
        small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float32)
        smooth = cv2.GaussianBlur(small, (0, 0), FINE / 2)
        x, y, _, angle = places[at, :, None, None].transpose(1, 0, 2, 3)
        cos, sin = np.cos(angle), np.sin(angle)
        maps = [
            (x + 0.5) * scale - 0.5 + cos * across - sin * down,
            (y + 0.5) * scale - 0.5 + sin * across + cos * down,
        ]
        places_x, places_y = (m.reshape(-1, PATCH).astype(np.float32) for m in maps)
        rows[at, :PATCH] = cv2.remap(smooth, places_x, places_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    patches = rows[:, :PATCH]
    patches -= patches.mean(axis=1, keepdims=True)
    patches /= np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-3)
    places[:, :2] /= min(grey.shape)
    places[:, 2] = np.log2(places[:, 2])
    rows[:, PATCH:] = places * PLACE
    return rows[_are_corners(patches)]


def _are_corners(patches: np.ndarray) -> np.ndarray:
    """Which patches ``(n, PATCH)`` vary in both directions; edges are all alike (Lowe, IJCV 2004, section 4.1)."""
    square = patches.reshape(-1, SIDE, SIDE)
    down, across = (np.asarray(np.gradient(square, axis=axis)) for axis in (1, 2))
    a, b, c = ((x * y).sum(axis=(1, 2)) for x, y in ((down, down), (down, across), (across, across)))
    return (a * c - b * b) * (EDGE + 1) ** 2 > EDGE * (a + c) ** 2
