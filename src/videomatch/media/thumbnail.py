"""Small frames of a video for pages that people look at.

That of a moment is found by a seek: a film of hours costs no more than a clip.
"""

import base64
import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av.error
import numpy as np
from av.format import Flags
from av.sidedata.sidedata import Type
from PIL import Image

from videomatch.media.container import Unreadable, opened, video_stream
from videomatch.media.decode import FrameRequest, Sampler, scaled


def thumbnail(path: Path, duration: float | None, start: float | None = None, side: int = 120) -> np.ndarray | None:
    """The frame at half of a video, or of its part from ``start`` on, (height, width, 3) uint8, short side at most
    ``side``; None if the file cannot be read any more."""
    half = Fraction(max(duration or 0.0, 0.2) / 2).limit_denominator(1000)
    try:
        return _grid(path, half, side, [1], start, duration)[0]
    except Unreadable:
        return None


def still(path: Path, start: float, end: float, side: int = 180) -> np.ndarray | None:
    """The frame in the middle of a part of a video (s after its first frame), (height, width, 3) uint8, short side at
    most ``side``; None if the file cannot be read any more. Where a seek may miss, all packets are read."""
    try:
        found = _sought(path, (start + end) / 2, side)
    except (Unreadable, OSError, av.error.FFmpegError):
        found = None
    return thumbnail(path, end - start, start, side) if found is None else found


def _sought(path: Path, second: float, side: int) -> np.ndarray | None:
    """The frame on screen at a second, but for those that no other frame refers to; None where the file has several
    videos, a clock that may start again, or frames that are shown turned."""
    with opened(path) as container:
        stream = video_stream(container)
        if len(container.streams.video) > 1 or container.format.flags & Flags.ts_discont.value:
            return None
        if stream.time_base is None or stream.start_time is None:
            return None
        wanted = stream.start_time + round(second / stream.time_base)
        container.seek(wanted, stream=stream)
        stream.codec_context.skip_frame = "NONREF"
        shown, late = None, wanted + round(1 / stream.time_base)
        for frame in container.decode(stream):
            if frame.pts is None or frame.is_corrupt or (shown is None and frame.pts > late):
                return None
            if shown is not None and frame.pts > wanted:
                break
            shown = frame
        if shown is None or Type.DISPLAYMATRIX in shown.side_data:
            return None
        aspect = stream.sample_aspect_ratio or 1
        height, width = shown.height, max(1, round(shown.width * aspect))
        if min(height, width) > side:
            height, width = scaled(side, height, width)
        return shown.to_ndarray(format="rgb24", width=width, height=height)


def strip(path: str | None, duration: float, count: int) -> list[str | None]:
    """The frames in the middle of ``count`` equal parts of a video as :func:`data_url`; None where there is none."""
    if path is None:
        return [None] * count
    half = Fraction(max(duration, 0.02) / (2 * max(1, count))).limit_denominator(100_000)
    points = range(1, 2 * count, 2)  # every other point is the middle of a part
    try:
        return [data_url(still, 70) for still in _grid(Path(path), half, 72, points)]
    except (Unreadable, OSError):
        return [None] * count


def _grid(
    path: Path,
    every: Fraction,
    side: int,
    points: Iterable[int],
    start: float | None = None,
    duration: float | None = None,
) -> list[np.ndarray]:
    """The frames at some points of a grid; the last one for points beyond the end."""
    spans = None if start is None or duration is None else [(start, start + duration)]
    frames = np.concatenate([chunk.values for chunk in Sampler(path, [FrameRequest(every, side)], spans=spans)])
    return [frames[min(point, len(frames) - 1)] for point in points]


def jpeg(picture: np.ndarray, quality: int = 80) -> bytes:
    """A picture as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


def data_url(picture: np.ndarray, quality: int = 80) -> str:
    """A picture as a ``data:`` address, so that a page is one file that works without network."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture, quality)).decode()
