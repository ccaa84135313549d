"""Films whose every second is another one: what tests of copies cut, edit and look for."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

WIDTH, HEIGHT, RATE = 96, 64, 8
Edit = Callable[[np.ndarray, float], np.ndarray]


def picture(seed: int, second: float) -> np.ndarray:
    """(height, width, 3) uint8: soft blotches that turn into others from second to second."""
    before, share = int(second), second - int(second)
    grids = [np.random.default_rng([seed, before + n]).integers(0, 256, (5, 6, 3)).astype(np.float32) for n in (0, 1)]
    mixed = grids[0] * (1 - share) + grids[1] * share
    return cv2.resize(mixed, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def darker(image: np.ndarray, _: float) -> np.ndarray:
    """Half as bright, as grey as a newspaper."""
    return np.repeat((image @ [[0.299], [0.587], [0.114]] * 0.5 + 20), 3, 2).astype(np.uint8)


def mirrored(image: np.ndarray, _: float) -> np.ndarray:
    """Left is right."""
    return np.ascontiguousarray(image[:, ::-1])


def write(path: Path, *parts: tuple[int, float, float], edit: Edit | None = None) -> Path:
    """Write a film of parts (seed, from, to: seconds of that film), one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        # a slower preset has x264's mbtree, with which the bytes differ from process to process
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "superfast"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        number = 0
        for seed, start, end in parts:
            for second in np.arange(round(start * RATE), round(end * RATE)) / RATE:
                image = picture(seed, float(second))
                image = image if edit is None else edit(image, float(second))
                if not number:
                    stream.height, stream.width = image.shape[:2]
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode(None))
    return path
