"""Clips for the speed comparisons: a moving test pattern with grain, encoded the usual ways."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

#: name -> (width, height, pictures per second, x264 options)
KINDS = {
    "720p30 GOP 250, 3 B": (1280, 720, 30, {"g": "250", "bf": "3", "crf": "23"}),
    "720p30 GOP 12, 2 B": (1280, 720, 30, {"g": "12", "bf": "2", "crf": "23"}),
    "360p25 GOP 250, 3 B": (640, 360, 25, {"g": "250", "bf": "3", "crf": "23"}),
    "360p30 GOP 12, 0 B": (640, 360, 30, {"g": "12", "bf": "0", "crf": "23"}),
}


def regular(frames: int, rate: float) -> np.ndarray:
    """Start and end of every frame, s, ``(frames, 2)``, at ``rate`` a second from 0."""
    edges = np.arange(frames + 1) / rate
    return np.stack([edges[:-1], edges[1:]], axis=1)


def make(path: Path, kind: str, seconds: float) -> Path:
    """Write one clip of a kind, unless it is there."""
    if path.exists():
        return path
    width, height, rate, options = KINDS[kind]
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), dtype=np.uint8)
    ground = coarse.repeat(40, 0).repeat(40, 1)
    grain = rng.integers(-6, 7, (4, height, width, 1), dtype=np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", **options})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(int(seconds * rate)):
            shift = number % 40, (2 * number) % 40
            picture = ground[shift[0] : shift[0] + height, shift[1] : shift[1] + width].astype(np.int16)
            x = int((width - 200) * (0.5 + 0.5 * np.sin(number / 25)))
            picture[height // 3 : height // 3 + 120, x : x + 200] = (230, 40, 60)
            picture = np.clip(picture + grain[number % 4], 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
