"""A descriptor without training: the brightness of a frame on a coarse grid, less its mean, at length 1.

The cosine of two frames is the correlation of their thumbnails, which compression, size, colour and brightness hardly
change. It finds videos that were copied as a whole (also trimmed, or with a logo); crops, mirroring and rotation need a
trained descriptor. Frames of one colour are zeros, similar to no frame. Bars beside the picture count nothing: they
would make all films with the same bars similar.
"""

from __future__ import annotations

import cv2
import numpy as np

from videomatch.experts import BaseExpert, seconds
from videomatch.media.decode import FrameRequest

LUMA = (0.299, 0.587, 0.114)  #: parts of red, green and blue in brightness (ITU-R BT.601)
FLAT = 2.0  #: deviation of brightness, of 255, below which a frame is of one colour
#: a line at the border is part of a bar if so large a share of it (the rest: a logo) differs so little in brightness
BAR_SHARE, BAR_FLAT = 0.8, 3.0


class Expert(BaseExpert):
    """One descriptor of ``size`` times ``size`` numbers every ``every`` seconds."""

    def __init__(self, *, size: int = 16, every: float = 0.25) -> None:
        if not 2 <= size <= 128:
            raise ValueError(f"grey: size = {size} pixels, expected 2 to 128")
        self.size = size
        self.shape = (size * size,)
        # twice the grid, so that its cells are means of pixels with any scaler
        self.request = FrameRequest(seconds(every), (2 * size, 2 * size))

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """``(n, height, width, 3)`` uint8 of any size to ``(n, size * size)`` float32 of length 1 or 0."""
        grey = values.astype(np.float32) @ np.array(LUMA, np.float32)
        rows = _resized(_without_bars(_resized(grey, 2 * self.size)), self.size).reshape(-1, *self.shape)
        rows -= rows.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > FLAT * self.size)


def _resized(frames: np.ndarray, size: int) -> np.ndarray:
    resized = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.array(resized, np.float32).reshape(-1, size, size)


def _without_bars(frames: np.ndarray) -> np.ndarray:
    """Frames ``(n, size, size)`` with the mean brightness of the rest in place of their bars."""
    size = frames.shape[1]
    turned = frames.transpose(0, 2, 1)
    bars = np.stack([_bars(lines) for lines in (frames, frames[:, ::-1], turned, turned[:, ::-1])], axis=1)
    filled = frames.copy()
    for number in np.flatnonzero(bars.any(axis=1)).tolist():
        top, bottom, left, right = bars[number].tolist()
        rest = frames[number, top : size - bottom, left : size - right]
        if rest.size:
            filled[number] = rest.mean()
            filled[number, top : size - bottom, left : size - right] = rest
    return filled


def _bars(frames: np.ndarray) -> np.ndarray:
    """(n,) how many lines of each frame, from the first on, are of the first one's colour, and one more, which may show
    some of both."""
    colour = np.median(frames[:, :1], axis=2, keepdims=True)
    is_bar = (np.abs(frames - colour) <= BAR_FLAT).mean(axis=2) >= BAR_SHARE
    count = is_bar.argmin(axis=1)  # 0 if all lines are
    return np.where(count > 0, count + 1, 0)
