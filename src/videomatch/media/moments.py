"""The picture of a moment of a video for a page, found by a seek: a film of hours costs no more than a clip."""

from __future__ import annotations

from pathlib import Path

import av.error
import numpy as np
from av.format import Flags
from av.sidedata.sidedata import Type

from videomatch.media.container import Unreadable, opened, video_stream
from videomatch.media.decode import scaled
from videomatch.media.thumbnail import thumbnail


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
