"""The pictures themselves: small RGB frames, as bytes.

Frames are squashed to a square: nothing at the borders is lost (copies are cropped, bordered and captioned there, and
cutting the centre would hide it), no padding has to be told from picture, and all frames have one size. The price is
that shapes depend on the aspect ratio of the video.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from videomatch.experts._expert import seconds
from videomatch.media.decode import FrameRequest


class Expert:
    """One frame every ``every`` seconds.

    Args:
        size: height and width in pixels.
        every: seconds between frames.
    """

    def __init__(self, *, size: int = 64, every: float = 0.5) -> None:
        if size < 1:
            raise ValueError(f"frames: size = {size} pixels, expected at least 1")
        self.shape = (size, size, 3)
        self.dtype = "uint8"
        self.request = FrameRequest(seconds(every), (size, size))
        self.batch = 0
        self.about: dict[str, Any] = {}

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """Frames are kept as they come: ``(n, size, size, 3)`` uint8."""
        return values

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """Nothing is left to do."""
        return batch
