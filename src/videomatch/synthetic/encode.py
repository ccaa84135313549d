"""Writing mp4 files (H.264, AAC) whose bytes depend on nothing but the pictures, the sound and the settings.

x264 runs with one thread and without macroblock-tree rate control, the only part of it that was measured to vary from
run to run; the price is larger files.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from videomatch.synthetic.story import Shot


def write(path: Path, frames: Iterator[np.ndarray], shot: Shot, sound: np.ndarray | None) -> None:
    """Write ``frames`` ((height, width, 3) uint8 RGB, as shown) and mono ``sound`` (float32) to ``path``.

    A turned shot stores its pictures turned and a display matrix that players turn them back by: for the stored picture
    ``p``, ``np.rot90(p, frame.rotation // 90)`` is the one given here.
    """
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=shot.fps)
        turned = shot.rotation % 180 == 90
        stream.width, stream.height = (shot.height, shot.width) if turned else (shot.width, shot.height)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / shot.fps
        stream.codec_context.gop_size = shot.gop
        stream.codec_context.max_b_frames = shot.b_frames
        stream.options = {
            "preset": "superfast",
            "crf": str(shot.crf),
            "x264-params": f"threads=1:no-mbtree=1:bframes={shot.b_frames}:keyint={shot.gop}",
        }
        if shot.rotation:
            stream.set_display_rotation(shot.rotation)
        audio = None
        if sound is not None and shot.audio_rate is not None:
            audio = container.add_stream("aac", rate=shot.audio_rate, layout="mono")
            audio.bit_rate = 48000
            audio.options = {"aac_coder": "fast"}
        for number, picture in enumerate(frames):
            stored = np.ascontiguousarray(np.rot90(picture, -(shot.rotation // 90))) if shot.rotation else picture
            frame = av.VideoFrame.from_ndarray(stored, "rgb24")
            frame.pts = number
            frame.time_base = 1 / shot.fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None and sound is not None:
            block = 8192
            for start in range(0, len(sound), block):
                part = av.AudioFrame.from_ndarray(sound[None, start : start + block], "fltp", "mono")
                part.sample_rate = audio.rate
                part.pts = start
                part.time_base = Fraction(1, audio.rate)
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
