"""A descriptor without training: the brightness of a frame on a coarse grid, less its mean, at length 1.

The cosine of two frames is the correlation of their thumbnails, which compression, size, colour and brightness hardly
change. It finds videos that were copied as a whole (also trimmed, or with a logo); crops, mirroring and rotation need a
trained descriptor. Frames of one colour are zeros, similar to no frame.
"""

from __future__ import annotations

import cv2
import numpy as np

from videomatch.experts import BaseExpert, seconds
from videomatch.media.decode import FrameRequest

LUMA = (0.299, 0.587, 0.114)  #: parts of red, green and blue in brightness (ITU-R BT.601)
FLAT = 2.0  #: deviation of brightness, of 255, below which a frame is of one colour


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
        rows = np.zeros((len(grey), *self.shape), np.float32)
        for row, frame in zip(rows, grey, strict=True):
            row[:] = cv2.resize(frame, (self.size, self.size), interpolation=cv2.INTER_AREA).reshape(-1)
        rows -= rows.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > FLAT * self.size)
