"""A descriptor without training: the brightness of a frame on a coarse grid, less its mean, at length 1.

The cosine of two frames is the correlation of their thumbnails, which compression, size, colour and brightness hardly
change. It finds videos that were copied as a whole (also trimmed, or with a logo); crops, mirroring and rotation need a
trained descriptor. Frames of one colour are zeros, similar to no frame.

Bars of one colour on two opposite sides are cut off, again as long as there are any, so that a picture is described as
it was before it got bars. One on one side alone, as that of a title, is filled with the mean of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from videomatch.experts import BaseExpert, seconds
from videomatch.media.decode import FrameRequest

LUMA = (0.299, 0.587, 0.114)  #: parts of red, green and blue in brightness (ITU-R BT.601)
FLAT = 2.0  #: deviation of brightness, of 255, below which a frame is of one colour
#: a line at the border is part of a bar if so large a share of it (the rest: a logo) differs so little in brightness
BAR_SHARE, BAR_FLAT = 0.8, 4.0
#: pixels of a cell's side in the frames in which bars are sought; share of a side that is left of them at least
CELL, LEAST = 6, 0.2
#: bars inside of bars
MAX_BARS = 4


class Expert(BaseExpert):
    """One descriptor of ``size`` times ``size`` numbers every ``every`` seconds."""

    def __init__(self, *, size: int = 16, every: float = 0.25) -> None:
        if not 2 <= size <= 128:
            raise ValueError(f"grey: size = {size} pixels, expected 2 to 128")
        self.size = size
        self.shape = (size * size,)
        self.request = FrameRequest(seconds(every), (CELL * size, CELL * size))

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """``(n, height, width, 3)`` uint8 of any size to ``(n, size * size)`` float32 of length 1 or 0."""
        grey = values.astype(np.float32) @ np.array(LUMA, np.float32)
        rows = _resized([_without_bars(frame) for frame in _resized(grey, CELL * self.size)], self.size)
        rows = rows.reshape(-1, *self.shape)
        rows -= rows.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > FLAT * self.size)


def _resized(frames: Iterable[np.ndarray], size: int) -> np.ndarray:
    resized = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.array(resized, np.float32).reshape(-1, size, size)


def _without_bars(frame: np.ndarray) -> np.ndarray:
    """A square frame without pairs of bars, and with the mean of the rest in place of single ones."""
    least = LEAST * len(frame)
    top, bottom, left, right = _bars(frame)
    for _ in range(MAX_BARS):
        down, across = min(top, bottom), min(left, right)
        if not down and not across:
            break
        rest = frame[down : len(frame) - down, across : frame.shape[1] - across]
        if min(rest.shape) < least:
            break
        frame = rest
        top, bottom, left, right = _bars(frame)
    rest = frame[top : len(frame) - bottom, left : frame.shape[1] - right]
    if rest.shape == frame.shape or min(rest.shape) < least:
        return frame
    filled = np.full_like(frame, rest.mean())
    filled[top : len(frame) - bottom, left : frame.shape[1] - right] = rest
    return filled


def _bars(frame: np.ndarray) -> list[int]:
    """How many lines at the top, bottom, left and right are of the outermost one's colour, and one more, which may show
    some of both; none where all lines are."""
    found = []
    for lines in (frame, frame[::-1], frame.T, frame.T[::-1]):
        near = np.abs(lines - np.median(lines[0])) <= BAR_FLAT
        is_other = np.count_nonzero(near, axis=1) < BAR_SHARE * lines.shape[1]
        count = int(is_other.argmax())  # 0 if none is
        found.append(count + 1 if count else 0)
    return found
