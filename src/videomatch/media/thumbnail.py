"""Small frames of a video for pages that people look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from videomatch.media.container import Unreadable
from videomatch.media.decode import FrameRequest, Sampler


def thumbnail(path: Path, duration: float | None, start: float | None = None, side: int = 120) -> np.ndarray | None:
    """The frame at half of a video, or of its part from ``start`` on, (height, width, 3) uint8, short side at most
    ``side``; None if the file cannot be read any more."""
    half = Fraction(max(duration or 0.0, 0.2) / 2).limit_denominator(1000)
    try:
        return _grid(path, half, side, [1], start, duration)[0]
    except Unreadable:
        return None


def strip(path: str | None, duration: float, count: int) -> list[str | None]:
    """The frames in the middle of ``count`` equal parts of a video as :func:`data_url`; None where there is none."""
    if path is None:
        return [None] * count
    half = Fraction(max(duration, 0.02) / (2 * max(1, count))).limit_denominator(100_000)
    points = range(1, 2 * count, 2)  # every other point is the middle of a part
    try:
        return [data_url(still, 70) for still in _grid(Path(path), half, 72, points)]
    except (Unreadable, OSError):
        return [None] * count


def _grid(
    path: Path,
    every: Fraction,
    side: int,
    points: Iterable[int],
    start: float | None = None,
    duration: float | None = None,
) -> list[np.ndarray]:
    """The frames at some points of a grid; the last one for points beyond the end."""
    spans = None if start is None or duration is None else [(start, start + duration)]
    frames = np.concatenate([chunk.values for chunk in Sampler(path, [FrameRequest(every, side)], spans=spans)])
    return [frames[min(point, len(frames) - 1)] for point in points]


def jpeg(picture: np.ndarray, quality: int = 80) -> bytes:
    """A picture as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


def data_url(picture: np.ndarray, quality: int = 80) -> str:
    """A picture as a ``data:`` address, so that a page is one file that works without network."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture, quality)).decode()
