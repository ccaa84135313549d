"""The mean colour of a frame."""

from __future__ import annotations

import numpy as np

from videomatch.experts import BaseExpert, seconds
from videomatch.media.decode import FrameRequest


class Expert(BaseExpert):
    """Red, green and blue from 0 to 1, once every ``every`` seconds."""

    shape = (3,)
    dtype = "float32"

    def __init__(self, *, every: float = 0.5) -> None:
        self.request = FrameRequest(seconds(every), (8, 8))

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """Frames to colours."""
        return (values.mean((1, 2)) / 255).astype(np.float32)
