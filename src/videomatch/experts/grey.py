"""The picture itself as a descriptor: a few grey pixels of every frame, nothing to train and nothing to download.

What a frame is described by: its brightness on a coarse grid, less the mean, at length 1. The cosine of two frames is
then the correlation of their thumbnails, which compression, size, colour and brightness hardly change. It finds
footage that was copied as a whole (also trimmed, or with a logo); crops, mirroring and rotation need a trained
descriptor. Frames without a picture (black, white, one colour) are zeros, alike to nothing.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from videomatch.experts._expert import seconds
from videomatch.media.decode import FrameRequest

#: parts of red, green and blue in brightness (ITU-R BT.601)
LUMA = (0.299, 0.587, 0.114)
#: deviation of brightness, of 255, below which a frame shows nothing
FLAT = 2.0


class Expert:
    """One descriptor of ``size`` times ``size`` numbers every ``every`` seconds.

    Args:
        size: pixels of the grid's side.
        every: seconds between frames.
    """

    def __init__(self, *, size: int = 16, every: float = 0.25) -> None:
        if not 2 <= size <= 128:
            raise ValueError(f"grey: size = {size} pixels, expected 2 to 128")
        self.size = size
        self.shape = (size * size,)
        self.dtype = "float16"
        # twice the grid, so that its cells are means of pixels whatever the scaler does
        self.request = FrameRequest(seconds(every), (2 * size, 2 * size))
        self.batch = 0
        self.about: dict[str, Any] = {}

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """``(n, height, width, 3)`` uint8 of any size to ``(n, size * size)`` float32 of length 1 or 0."""
        grey = values.astype(np.float32) @ np.array(LUMA, np.float32)
        small = [cv2.resize(frame, (self.size, self.size), interpolation=cv2.INTER_AREA) for frame in grey]
        rows = np.stack(small).reshape(len(grey), -1) if len(grey) else np.zeros((0, *self.shape), np.float32)
        rows -= rows.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > FLAT * self.size)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """Nothing is left to do."""
        return batch
