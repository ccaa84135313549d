"""``probe(path)``: duration, rate and size of a video, from its packets and its first picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from videomatch.media.container import opened
from videomatch.media.timeline import scan


@dataclass(frozen=True)
class Facts:
    """What is known of a video without decoding it.

    Attributes:
        duration: seconds from the first picture to the end of the last.
        fps: pictures per second, on average.
        width, height: pixels as shown (turned upright, with square pixels).
        rotation: degrees counterclockwise by which the stored pictures are turned (a multiple of 90).
        has_audio: whether there is a sound stream.
        num_frames: pictures.
        warnings: what is wrong although it can be read ("truncated: …").
    """

    duration: float
    fps: float
    width: int
    height: int
    rotation: int
    has_audio: bool
    num_frames: int
    warnings: tuple[str, ...]


def probe(path: Path) -> Facts:
    """Facts of a video.

    Raises:
        Unreadable: not one picture of it can be decoded; the message says why.
    """
    with opened(path) as container:
        timeline = scan(container)
    return Facts(
        duration=timeline.duration,
        fps=float(timeline.num_frames / ((timeline.end - timeline.start) * timeline.time_base)),
        width=timeline.width,
        height=timeline.height,
        rotation=timeline.turns * 90,
        has_audio=timeline.has_audio,
        num_frames=timeline.num_frames,
        warnings=tuple(timeline.warnings),
    )
