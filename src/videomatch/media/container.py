"""Media files: opening them, reading their packets, and probing (duration, frame rate, size).

Everything that can be wrong with the contents of a file is raised as :class:`Unreadable`. Files are opened through
FFmpeg's ``file:`` protocol only, so that neither a path nor a play list inside a file can reach the network. Times come
from the packets and not from the header: headers of truncated, re-muxed or edited files are wrong about duration and
frame rate.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

#: time stamp of a packet that has none
NONE = np.iinfo(np.int64).min
#: a file is truncated if its header promises this many seconds, and this share, more than its packets hold
MISSING_SECONDS, MISSING_SHARE = 0.5, 0.05
#: seconds; time stamps that span more are damaged, and would fill the disk with one repeated frame
MAX_SECONDS = 48 * 3600

# FFmpeg writes messages to standard error from its threads; what matters is recorded as a warning of the video
av.logging.set_level(av.logging.PANIC)


class Unreadable(Exception):
    """No frame of a file can be read; the message is the reason and does not hold the path."""


@dataclass
class Timeline:
    """The packets of a video stream, in decoding order, and the geometry of its frames."""

    time_base: Fraction  # seconds of one tick
    pts: np.ndarray  # (packets,) ticks, NONE where a packet has no time stamp
    key: np.ndarray  # (packets,) whether a decoder can start there
    discard: np.ndarray  # (packets,) whether an edit list hides the frame
    start: int  # time stamp of the first frame that decodes
    end: int  # when the last frame leaves the screen, ticks
    stored: tuple[int, int]  # (width, height) with square pixels, before the rotation
    turns: int  # quarter turns counterclockwise that make the frame upright
    codec: str
    has_audio: bool
    #: the n-th decoded frame is shown at the n-th time stamp and not at its own: AVI has no time stamps, and FFmpeg's
    #: guesses are one frame off where frames are stored in another order than shown
    is_ordered: bool
    warnings: list[str]  # what is wrong with the file although it can be read

    @property
    def width(self) -> int:
        """Of a frame as shown: upright, square pixels."""
        return self.stored[self.turns % 2]

    @property
    def height(self) -> int:
        """Of a frame as shown."""
        return self.stored[1 - self.turns % 2]

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return float((self.end - self.start) * self.time_base)

    @property
    def num_frames(self) -> int:
        """Frames that are shown."""
        return int((~self.discard).sum())

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        return float(self.num_frames / ((self.end - self.start) * self.time_base))

    @property
    def is_timed(self) -> bool:
        """Whether every packet has a time stamp of its own, which then identifies its frame."""
        return not self.is_ordered and NONE not in self.pts and len(np.unique(self.pts)) == len(self.pts)

    def grid(self, every: Fraction) -> np.ndarray:
        """(points,) the last tick of each grid point. Point k is at ``start + k * every`` in exact fractions, as long
        as a frame is on screen: the last one with a time stamp <= that point. (``ffmpeg -vf fps=2`` rounds to the
        nearest point instead, so that every frame is 0.25 s late.)"""
        step = every / self.time_base
        points = max(1, -(-(self.end - self.start) // step))
        ticks = [self.start + k * step.numerator // step.denominator for k in range(points)]
        return np.array(ticks, np.int64)


def probe(path: Path) -> Timeline:
    """The timeline of a video: all packets are read, and frames are decoded up to the first."""
    with opened(path) as container:
        return _scan(container)


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file."""
    if not path.exists():
        raise Unreadable("the file does not exist")
    if not path.is_file():
        raise Unreadable("not a file")
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty")
    try:
        container = av.open(f"file:{path}", metadata_errors="ignore", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise Unreadable(f"not a media file that FFmpeg can open: {reason(error)}") from error
    try:
        yield container
    finally:
        container.close()


def video_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is not the cover picture of a music file."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise Unreadable("no decoder for its video stream")
            # one thread per video: many videos at a time are faster than many threads on one
            stream.codec_context.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            return stream
    kinds = sorted({s.type for s in container.streams})
    raise Unreadable(f"no video stream (it holds: {', '.join(kinds) or 'nothing'})")


def packets(container: InputContainer, streams: Sequence[Stream], warnings: list[str]) -> Iterator[Packet]:
    """The packets of some streams, then an empty one per stream (to flush decoders). An early end is a warning."""
    try:
        yield from container.demux(*streams)
        return
    except av.error.FFmpegError as error:
        warn(warnings, f"reading stopped early: {reason(error)}")
    for stream in streams:
        flush = Packet(0)
        flush.stream = stream
        yield flush


def decoded(
    stream: VideoStream | AudioStream, packet: Packet, warnings: list[str], what: str = "a packet"
) -> list[Any]:
    """Decode one packet (an empty one flushes the decoder); what cannot be decoded is a warning."""
    try:
        return stream.codec_context.decode(packet if packet.size else None)
    except av.error.EOFError:
        return []
    except (av.error.FFmpegError, ValueError) as error:
        warn(warnings, f"{what} could not be decoded: {reason(error)}")
        return []


def reason(error: BaseException) -> str:
    """The message of an FFmpeg error without the path (paths of one machine do not belong into tables)."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def warn(warnings: list[str], text: str) -> None:
    """Record a warning once."""
    if text not in warnings:
        warnings.append(text)


def _scan(container: InputContainer) -> Timeline:
    stream = video_stream(container)
    if stream.time_base is None:
        raise Unreadable("its video stream has no time base")
    pts, duration = array("q"), array("q")
    key, discard = bytearray(), bytearray()
    warnings: list[str] = []
    first: VideoFrame | None = None
    for packet in packets(container, [stream], warnings):
        if packet.size:
            pts.append(NONE if packet.pts is None else packet.pts)
            duration.append(packet.duration or 0)
            key.append(packet.is_keyframe)
            discard.append(packet.is_discard)
        if first is None:
            first = next(iter(decoded(stream, packet, warnings)), None)
    if first is None:
        raise Unreadable(warnings[-1] if warnings else "no picture of it can be decoded")
    times, lengths = np.frombuffer(pts, np.int64), np.frombuffer(duration, np.int64)
    hidden = np.frombuffer(discard, bool)
    is_ordered = container.format.name == "avi" and bool(stream.codec_context.has_b_frames) and NONE not in times
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    gap = max(1, round(1 / (rate * stream.time_base)))
    start, end = _span(times, lengths, hidden, None if is_ordered else first.pts, gap)
    seconds = (end - start) * stream.time_base
    if seconds > MAX_SECONDS:
        raise Unreadable(
            f"its time stamps span {float(seconds / 3600):.0f} hours, expected at most {MAX_SECONDS // 3600}"
        )
    promised = 0.0  # by the header
    if stream.duration is not None:
        promised = float(stream.duration * stream.time_base)
    elif container.duration is not None and not container.streams.audio:
        promised = container.duration / av.time_base
    if promised - float(seconds) > max(MISSING_SECONDS, MISSING_SHARE * promised):
        warn(warnings, f"truncated: {float(seconds):.1f} of {promised:.1f} seconds are there")
    if first.rotation % 90:
        warn(warnings, f"a rotation by {first.rotation} degrees is ignored")
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 10) <= aspect <= 10:
        aspect = Fraction(1)  # damaged
    return Timeline(
        time_base=stream.time_base,
        pts=times,
        key=np.frombuffer(key, bool),
        discard=hidden,
        start=start,
        end=end,
        stored=(max(1, round(first.width * aspect)), first.height),
        turns=0 if first.rotation % 90 else first.rotation // 90 % 4,
        codec=stream.codec_context.name,
        has_audio=any(s.codec_context is not None for s in container.streams.audio),
        is_ordered=is_ordered,
        warnings=warnings,
    )


def _span(times: np.ndarray, lengths: np.ndarray, discard: np.ndarray, first: int | None, gap: int) -> tuple[int, int]:
    """First time stamp and end, in ticks. A frame lasts as long as its packet says, else as the median gap (or
    ``gap`` where there is one frame)."""
    shown = (times != NONE) & ~discard
    if not shown.any():
        start = first or 0
        return start, start + gap * max(1, len(times))
    order = np.sort(times[shown])
    start = int(order[0]) if first is None else first
    if len(order) > 1:
        gap = max(1, int(np.median(np.diff(order))))
    last = int(order[-1])
    length = int(lengths[shown][times[shown] == last][0]) or gap
    return start, max(last + length, start + 1)
