"""What a file holds and when: one pass over its packets, and the first picture.

Decoding is planned on this (:mod:`videomatch.media.plan`) and ``probe`` reports it. Times come from the packets, not
from the header: headers of cut-off, re-muxed or edited files lie about duration and frame rate.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videomatch.media.container import Unreadable, reason, video_stream

NONE = np.iinfo(np.int64).min  #: stands for a packet without a time stamp

#: a file is called truncated when its header promises this many seconds (and this share) more than its packets hold
MISSING_SECONDS, MISSING_SHARE = 0.5, 0.05

#: seconds; a file whose time stamps span more is damaged, and would fill the disk with one picture repeated
LONGEST = 48 * 3600


@dataclass
class Timeline:
    """The packets of a video stream and the geometry of its pictures.

    Attributes:
        time_base: seconds of one tick; ``pts``, ``start`` and ``end`` count ticks.
        pts: (packets,) time stamp of each packet in decoding order, ``NONE`` where it has none.
        key: (packets,) whether a decoder can start at the packet.
        discard: (packets,) whether an edit list hides the picture of the packet.
        start: time stamp of the first picture that decodes.
        end: when the last picture leaves the screen.
        width, height: of the picture as shown: stretched to square pixels, turned upright.
        stored: (width, height) stretched to square pixels, but not yet turned.
        turns: quarter turns counterclockwise that set it upright.
        is_ordered: the n-th picture that decodes is shown at the n-th time stamp, whatever its own says. AVI has no
            time stamps; where pictures are stored in another order than shown, FFmpeg's guesses are a picture off.
        warnings: what is wrong with the file although it can be read.
    """

    time_base: Fraction
    pts: np.ndarray
    key: np.ndarray
    discard: np.ndarray
    start: int
    end: int
    stored: tuple[int, int]
    turns: int
    codec: str
    has_audio: bool
    is_ordered: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        return self.stored[self.turns % 2]

    @property
    def height(self) -> int:
        return self.stored[1 - self.turns % 2]

    @property
    def duration(self) -> float:
        """Seconds from the first picture to the end of the last."""
        return float((self.end - self.start) * self.time_base)

    @property
    def num_frames(self) -> int:
        return int((~self.discard).sum())

    @property
    def is_timed(self) -> bool:
        """Whether every packet has a time stamp of its own, so that a picture can be told by it."""
        return not self.is_ordered and bool((self.pts != NONE).all()) and len(np.unique(self.pts)) == len(self.pts)


def scan(container: InputContainer) -> Timeline:
    """Read every packet of the video stream, and decode up to the first picture.

    Raises:
        Unreadable: no video stream, or not one picture of it can be decoded.
    """
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
            first = next(iter(frames(stream, packet, warnings)), None)
    if first is None:
        raise Unreadable(warnings[-1] if warnings else "no picture of it can be decoded")
    times = np.frombuffer(pts, np.int64) if pts else np.zeros(0, np.int64)
    lengths = np.frombuffer(duration, np.int64) if duration else np.zeros(0, np.int64)
    is_ordered = container.format.name == "avi" and bool(stream.codec_context.has_b_frames) and NONE not in times
    start, end = _span(times, lengths, np.frombuffer(discard, bool), None if is_ordered else first.pts, stream)
    if (end - start) * stream.time_base > LONGEST:
        hours = float((end - start) * stream.time_base / 3600)
        raise Unreadable(f"its time stamps span {hours:.0f} hours, expected at most {LONGEST // 3600}")
    _check_length(container, stream, start, end, warnings)
    turns = _turns(first, warnings)
    return Timeline(
        time_base=stream.time_base,
        pts=times,
        key=np.frombuffer(key, bool),
        discard=np.frombuffer(discard, bool),
        start=start,
        end=end,
        stored=_stored(first, stream),
        turns=turns,
        codec=stream.codec_context.name,
        has_audio=any(s.codec_context is not None for s in container.streams.audio),
        is_ordered=is_ordered,
        warnings=warnings,
    )


def packets(container: InputContainer, streams: Sequence[Stream], warnings: list[str]) -> Iterator[Packet]:
    """The packets of some streams, the empty ones that flush the decoders last; a broken end is a warning."""
    try:
        yield from container.demux(*streams)
        return
    except av.error.FFmpegError as error:
        warn(warnings, f"reading stopped early: {reason(error)}")
    for stream in streams:
        flush = Packet(0)
        flush.stream = stream
        yield flush


def frames(stream: VideoStream, packet: Packet, warnings: list[str]) -> list[VideoFrame]:
    """Decode one packet (an empty one flushes); what cannot be decoded is a warning."""
    try:
        return stream.codec_context.decode(packet if packet.size else None)
    except av.error.EOFError:
        return []
    except (av.error.FFmpegError, ValueError) as error:
        warn(warnings, f"a packet could not be decoded: {reason(error)}")
        return []


def restart(stream: VideoStream, warnings: list[str]) -> list[VideoFrame]:
    """Make the decoder ready for any key picture. Returns the pictures that it still held."""
    held = frames(stream, Packet(0), warnings)
    stream.codec_context.flush_buffers()
    return held


def warn(warnings: list[str], text: str) -> None:
    """Record a warning once."""
    if text not in warnings:
        warnings.append(text)


def _span(
    times: np.ndarray, lengths: np.ndarray, discard: np.ndarray, first: int | None, stream: VideoStream
) -> tuple[int, int]:
    """First time stamp and end, in ticks. A picture lasts as long as its packet says, else as the median gap."""
    seen = (times != NONE) & ~discard
    assert stream.time_base is not None
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    usual = max(1, round(1 / (rate * stream.time_base)))
    if not seen.any():
        start = first or 0
        return start, start + usual * max(1, len(times))
    order = np.sort(times[seen])
    start = int(order[0]) if first is None else first
    if len(order) > 1:
        usual = max(1, int(np.median(np.diff(order))))
    last = int(order[-1])
    length = int(lengths[seen][times[seen] == last][0]) or usual
    return start, max(last + length, start + 1)


def _check_length(container: InputContainer, stream: VideoStream, start: int, end: int, warnings: list[str]) -> None:
    assert stream.time_base is not None
    found = float((end - start) * stream.time_base)
    promised = 0.0
    if stream.duration is not None:
        promised = float(stream.duration * stream.time_base)
    elif container.duration is not None and not container.streams.audio:
        promised = container.duration / av.time_base
    if promised - found > max(MISSING_SECONDS, MISSING_SHARE * promised):
        warn(warnings, f"truncated: {found:.1f} of {promised:.1f} seconds are there")


def _turns(frame: VideoFrame, warnings: list[str]) -> int:
    """Quarter turns counterclockwise that the file asks for."""
    if frame.rotation % 90:
        warn(warnings, f"a rotation by {frame.rotation} degrees is ignored")
        return 0
    return frame.rotation // 90 % 4


def _stored(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height with square pixels. Aspect ratios beyond 1:10 are taken for damage."""
    sar = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 10) <= sar <= 10:
        sar = Fraction(1)
    return max(1, round(frame.width * sar)), frame.height
