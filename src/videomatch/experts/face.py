"""Faces: found, turned upright by their eyes, nose and mouth, and embedded; one row a face and frame.

Faces are found by MTCNN, whose weights come with a package (:mod:`videomatch.experts._mtcnn`), or by another detector
from a file. They are embedded by any image network of transformers, or, without one, by histograms of oriented
gradients of the aligned face (Déniz et al., "Face recognition using Histograms of Oriented Gradients", Pattern
Recognition Letters 32, 2011): it knows the same face in the same pose again, not more.

# Deviation: MMT finds faces with an SSD detector and embeds them with a ResNet-50 trained on VGGFace2 (Gabeur et al.,
ECCV 2020); neither can be had as a package. A checkpoint of a face network goes into ``backbone``.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import polars as pl

from videomatch.experts import _mtcnn
from videomatch.experts._expert import seconds
from videomatch.experts._reading import Found
from videomatch.experts.image import Expert as Image
from videomatch.media.decode import FrameRequest

#: eyes, nose and corners of the mouth of an upright face, in shares of the crop's side (the frame of ArcFace)
UPRIGHT = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]]) / 112
#: side of the crop without a backbone, and of a cell of gradients; px
SIDE, CELL = 64, 8
#: directions of gradients, of 180 degrees
DIRECTIONS = 8


class Expert:
    """Rows of the faces in the picture.

    Args:
        backbone: folder or hub id of an image network; None describes faces by their gradients.
        detector: None for the bundled MTCNN, a folder of MTCNN's three networks, or a YuNet model.
        every: seconds between the frames that are looked at.
        size: short side of the frames, px.
        smallest: side of the smallest face that is looked for, px.
        score: least certainty of the detector.
        most: faces of one frame, the largest.
        margin: how much more than the face a crop shows, as a share of its side, on each side.
        batch, pooling, precision: of the backbone, as for :class:`videomatch.experts.image.Expert`.
    """

    def __init__(
        self,
        *,
        backbone: str | None = None,
        detector: str | None = None,
        every: float = 1.0,
        size: int = 240,
        smallest: int = 24,
        score: float = 0.8,
        most: int = 8,
        margin: float = 0.0,
        batch: int = 32,
        pooling: str = "auto",
        precision: str = "auto",
    ) -> None:
        for name, value, least in (("size", size, 24), ("smallest", smallest, 12), ("most", most, 1)):
            if value < least:
                raise ValueError(f"face: {name} = {value}, expected at least {least}")
        if not 0 < score < 1 or not 0 <= margin < 0.5:
            raise ValueError(f"face: score = {score}, margin = {margin}, expected in (0, 1) and in [0, 0.5)")
        self.detect = _mtcnn.detector(detector, smallest=smallest, score=score)
        self.request = FrameRequest(seconds(every), size)
        self.most, self.margin = most, margin
        self.texts, self.reads = None, None
        self.image = None
        if backbone is not None:
            self.image = Image(backbone=backbone, batch=batch, pooling=pooling, precision=precision)
            self.side = max(self.image.prepare(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1:3])
        else:
            self.side = SIDE
        self.batch = 0 if self.image is None else self.image.batch
        self.dtype = "float16"
        self.shape = (
            (describe(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1],) if self.image is None else self.image.shape
        )
        self.about: dict[str, Any] = {"detector": type(self.detect).__name__}
        self.about |= {"faces": "gradients"} if self.image is None else self.image.about

    def give(self, texts: pl.DataFrame) -> None:
        """Nothing is wanted."""

    def start(self, video_id: str) -> Reading:
        """Begin a video."""
        return Reading(self)

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """Aligned faces ``(n, side, side, 3)`` uint8 to what :meth:`infer` reads, or to rows without a backbone."""
        return describe(values) if self.image is None else self.image.prepare(values)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """Prepared faces to ``(n, dim)`` rows."""
        return batch if self.image is None else self.image.infer(batch)


class Reading:
    """One video being looked at."""

    def __init__(self, expert: Expert) -> None:
        self.expert = expert
        self.rows: list[np.ndarray] = []
        self.items: list[int] = []

    def see(self, items: np.ndarray, first: int) -> None:
        """``(n, h, w, 3)`` uint8 frames, the first of them number ``first``."""
        expert = self.expert
        crops = []
        for number, (frame, faces) in enumerate(zip(items, expert.detect(items), strict=True), first):
            area = np.prod(faces[:, 2:4] - faces[:, :2], axis=1)
            for face in faces[np.sort(np.argsort(-area, kind="stable")[: expert.most])]:
                crops.append(aligned(frame, face[5:].reshape(5, 2), expert.side, expert.margin))
                self.items.append(number)
        if crops:
            self.rows.append(expert.prepare(np.stack(crops)))

    def finish(self, times: np.ndarray) -> Found:
        """A row a face, in the order of the frames, at the time of its frame."""
        rows = np.concatenate(self.rows) if self.rows else np.zeros((0, *self.expert.shape), np.float32)
        return Found(rows, times[self.items] if self.items else np.zeros((0, 2)))


def aligned(frame: np.ndarray, points: np.ndarray, side: int, margin: float) -> np.ndarray:
    """``(side, side, 3)`` uint8: the face turned, scaled and moved such that its five ``points`` (5, 2) come as near as
    can be to those of an upright one (least squares)."""
    target = (UPRIGHT * (1 - 2 * margin) + margin) * side
    # a turn with a scale is the product with one complex number
    z, w = points @ [1, 1j], target @ [1, 1j]
    turn = np.vdot(z - z.mean(), w - w.mean()) / max(np.vdot(z - z.mean(), z - z.mean()).real, 1e-9)
    move = w.mean() - turn * z.mean()
    matrix = np.array([[turn.real, -turn.imag, move.real], [turn.imag, turn.real, move.imag]])
    scale = abs(turn)
    if scale < 0.5:  # warping takes single pixels: what shrinks much is smoothed before
        frame = cv2.GaussianBlur(frame, (0, 0), 0.4 / scale)
    return cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def describe(faces: np.ndarray) -> np.ndarray:
    """``(n, 64, 64, 3)`` uint8 aligned faces to unit rows ``(n, 512)`` float32: in each of 8 x 8 cells how strong the
    edges of 8 directions are (square root of their share in all)."""
    grey = faces.astype(np.float32).mean(3)
    dy, dx = np.gradient(grey, axis=(1, 2))
    strength, place = np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi / np.pi * DIRECTIONS
    low = np.floor(place).astype(np.int64)
    upper = (place - low) * strength  # an edge between two directions counts for both
    edges = np.zeros((*grey.shape, DIRECTIONS), np.float32)
    for direction in range(DIRECTIONS):
        edges[..., direction] += np.where(low % DIRECTIONS == direction, strength - upper, 0)
        edges[..., direction] += np.where((low + 1) % DIRECTIONS == direction, upper, 0)
    cells = SIDE // CELL
    sums = edges.reshape(len(faces), cells, CELL, cells, CELL, DIRECTIONS).sum((2, 4)).reshape(len(faces), -1)
    return np.sqrt(sums / np.maximum(sums.sum(1, keepdims=True), 1e-6))
