"""What decoding hands on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Chunk:
    """Some consecutive items of one request.

    Attributes:
        request: which request.
        first: grid number of the first item.
        values: (n, height, width, 3) uint8 RGB, or (n, samples) float32 sound.
    """

    request: int
    first: int
    values: np.ndarray
