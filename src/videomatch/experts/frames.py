"""The frames themselves: small RGB frames, as bytes.

Frames are squashed to a square: nothing at the borders is lost, where copies are cropped, bordered and captioned. The
price is that shapes depend on the aspect ratio of the video.
"""

from __future__ import annotations

from videomatch.experts import BaseExpert, seconds
from videomatch.media.decode import FrameRequest


class Expert(BaseExpert):
    """One frame of ``size`` times ``size`` pixels every ``every`` seconds."""

    def __init__(self, *, size: int = 64, every: float = 0.5) -> None:
        if size < 1:
            raise ValueError(f"frames: size = {size} pixels, expected at least 1")
        self.shape = (size, size, 3)
        self.dtype = "uint8"
        self.request = FrameRequest(seconds(every), (size, size))
