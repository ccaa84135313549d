"""Pictures of a video on an exact grid, and its sound, in one pass.

:class:`Sampler` streams: memory stays the same however long the video is. Pictures are those a full decode would give,
bit for bit; only packets that the grid needs are decoded (:mod:`videomatch.media.plan`), and where a file breaks that
plan (a damaged stream, wrong flags) the rest is decoded in full. Pictures are scaled by swscale while they are
converted to RGB, turned upright, and stretched to square pixels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from videomatch.media.chunk import Chunk
from videomatch.media.container import Unreadable, opened, reason, video_stream
from videomatch.media.plan import Plan, grid, on_screen, plan
from videomatch.media.sound import Listener, SoundRequest
from videomatch.media.timeline import Timeline, frames, packets, restart, scan, warn

#: pictures handed on at a time
CHUNK = 32


@dataclass(frozen=True)
class FrameRequest:
    """Pictures that a consumer wants.

    Attributes:
        every: seconds between grid points.
        size: (height, width) to squash each picture to; or the short side that it is scaled down to, keeping its
            shape (a smaller one stays as it is); or None for the size of the video.
    """

    every: Fraction
    size: tuple[int, int] | int | None = None

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of what is delivered for a video of this size."""
        if isinstance(self.size, tuple):
            return self.size
        if self.size is None or min(width, height) <= self.size:
            return height, width
        # rounded down, as transformers' image processors do
        short = self.size
        return (short, short * width // height) if height <= width else (short * height // width, short)


@dataclass
class _Queue:
    """What one frame request still waits for."""

    number: int
    request: FrameRequest
    limits: np.ndarray
    expected: np.ndarray | None
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)
    next: int = 0
    held: list[np.ndarray] = field(default_factory=list)

    def take(self, least: int) -> Iterator[Chunk]:
        if self.held and len(self.held) >= least:
            values = np.stack(self.held)
            yield Chunk(self.number, self.next - len(values), values)
            self.held = []


class _Irregular(Exception):
    """The planned packets did not give the planned pictures."""


class Sampler:
    """Iterate over the chunks of several requests of one video; chunks of a request come in order.

    Args:
        path: the file.
        requests: what to deliver; pictures and sound.
        decode_all: decode every packet instead of the planned ones (slow; the same result).

    Attributes:
        timeline: packets and geometry of the video, once iteration has begun.
        warnings: what was wrong with the file; complete after the iteration.
        num_corrupt: decoded pictures that the decoder marked as damaged.
        num_decoded: pictures that were decoded.
    """

    def __init__(
        self, path: Path, requests: Sequence[FrameRequest | SoundRequest], *, decode_all: bool = False
    ) -> None:
        self.path = path
        self.requests = list(requests)
        self.warnings: list[str] = []
        self.num_corrupt = 0
        self.num_decoded = 0
        self.timeline: Timeline | None = None
        self._decode_all = decode_all

    def times(self, request: int) -> np.ndarray:
        """(points, 2) start and end of every grid point of a request, seconds after the first picture."""
        assert self.timeline is not None, "times are known once the iteration has begun"
        wish = self.requests[request]
        points = len(grid(self.timeline, wish.every))
        every = float(wish.every)
        start = np.arange(points) * every
        return np.stack([start, np.minimum(start + every, self.timeline.duration)], axis=1)

    def __iter__(self) -> Iterator[Chunk]:
        """Decode.

        Raises:
            Unreadable: pictures are wanted and not one can be decoded. Nothing else: damage further on is a warning,
                and what could not be decoded shows the picture before it.
        """
        with opened(self.path) as container:
            self.timeline = timeline = scan(container)
        self.warnings = timeline.warnings
        queues = [self._queue(n, r, timeline) for n, r in enumerate(self.requests) if isinstance(r, FrameRequest)]
        listeners = [Listener(n, r, timeline) for n, r in enumerate(self.requests) if isinstance(r, SoundRequest)]
        wanted = [q.expected for q in queues if q.expected is not None]
        planned = None
        if not self._decode_all and wanted and len(wanted) == len(queues):
            planned = plan(timeline, np.unique(np.concatenate(wanted)))
        with opened(self.path) as container:
            regular = yield from self._pass(container, timeline, planned, queues, listeners)
        if not regular:
            for queue in queues:
                queue.expected = None
            with opened(self.path) as container:
                yield from self._pass(container, timeline, None, queues, [])
        if queues and not self.num_decoded:
            raise Unreadable("no picture of it can be decoded")
        if self.num_corrupt:
            warn(self.warnings, f"{self.num_corrupt} of {self.num_decoded} decoded pictures are damaged")

    def _queue(self, number: int, request: FrameRequest, timeline: Timeline) -> _Queue:
        limits = grid(timeline, request.every)
        expected = None if self._decode_all or not timeline.is_timed else on_screen(timeline, limits)
        return _Queue(number, request, limits, expected)

    def _pass(
        self,
        container: InputContainer,
        timeline: Timeline,
        planned: Plan | None,
        queues: list[_Queue],
        listeners: list[Listener],
    ) -> Generator[Chunk, None, bool]:
        """One run over the file. Returns (as a generator does) whether all went as planned."""
        stream = video_stream(container)
        streams: list[VideoStream | AudioStream] = [stream] if queues else []
        sounds = [s for s in container.streams.audio if s.codec_context is not None][:1] if listeners else []
        streams += sounds
        if not streams:
            return True  # demuxing no stream would be demuxing all of them
        for listener in listeners:
            listener.open(sounds[0] if sounds else None)
        picker = _Picker(self, timeline, queues, planned)
        regular = True
        for packet in packets(container, streams, self.warnings):
            if packet.stream_index != stream.index:
                for listener in listeners:
                    yield from listener.hear(packet, self.warnings)
            elif regular:
                try:
                    yield from picker.feed(stream, packet)
                except _Irregular:
                    regular = False
                    if not sounds:
                        break
        for listener in listeners:
            yield from listener.finish()
        if regular:
            try:
                yield from picker.finish()
            except _Irregular:
                regular = False
        return regular


class _Picker:
    """Decodes the packets of one pass and hands each grid point the picture on screen."""

    def __init__(self, sampler: Sampler, timeline: Timeline, queues: list[_Queue], planned: Plan | None) -> None:
        self.sampler, self.timeline, self.queues, self.planned = sampler, timeline, queues, planned
        self.packet = 0
        self.before: VideoFrame | None = None
        self.at = 0  # time stamp of ``before``
        self.skipping = False
        self.order = np.sort(timeline.pts) if timeline.is_ordered else timeline.pts
        self.seen = 0

    def feed(self, stream: VideoStream, packet: av.Packet) -> Iterator[Chunk]:
        if packet.size and self.planned is not None:
            number = self.packet
            self.packet += 1
            if number >= len(self.planned.feed) or packet.pts != self.timeline.pts[number]:
                raise _Irregular
            if not self.planned.feed[number]:
                return
            if self.planned.jump[number]:
                for frame in restart(stream, self.sampler.warnings):
                    yield from self.see(frame)
            skip = not self.planned.wanted[number]
            if skip != self.skipping:
                stream.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
                self.skipping = skip
        for frame in frames(stream, packet, self.sampler.warnings):
            yield from self.see(frame)

    def see(self, frame: VideoFrame) -> Iterator[Chunk]:
        self.sampler.num_decoded += 1
        if frame.is_corrupt:
            if self.planned is not None:
                raise _Irregular
            self.sampler.num_corrupt += 1
        at = frame.pts
        if self.timeline.is_ordered:
            at = int(self.order[self.seen]) if self.seen < len(self.order) else None
            self.seen += 1
        if at is None:
            at = self.timeline.start if self.before is None else self.at + max(1, self.before.duration)
        if self.before is not None:
            if at <= self.at:
                if self.planned is not None:
                    raise _Irregular
                warn(self.sampler.warnings, "time stamps go backwards")
                return
            yield from self.serve(at)
        self.before, self.at = frame, at

    def serve(self, until: int) -> Iterator[Chunk]:
        """Hand ``before`` to every grid point up to (not including) the tick ``until``."""
        done: dict[tuple[int, int], np.ndarray] = {}
        for queue in self.queues:
            while queue.next < len(queue.limits) and queue.limits[queue.next] < until:
                if self.planned is not None and queue.expected is not None and queue.expected[queue.next] != self.at:
                    raise _Irregular
                shape = queue.request.shape(self.timeline.width, self.timeline.height)
                if shape not in done:
                    done[shape] = self.convert(queue, shape)
                queue.held.append(done[shape])
                queue.next += 1
                yield from queue.take(CHUNK)

    def finish(self) -> Iterator[Chunk]:
        if self.before is not None:
            yield from self.serve(np.iinfo(np.int64).max)
        for queue in self.queues:
            yield from queue.take(1)

    def convert(self, queue: _Queue, shape: tuple[int, int]) -> np.ndarray:
        """(height, width, 3) uint8 RGB, upright."""
        assert self.before is not None
        turns = self.timeline.turns
        height, width = shape[::-1] if turns % 2 else shape
        try:
            picture = queue.reformatter.reformat(
                self.before,
                width=width,
                height=height,
                format="rgb24",
                interpolation=Interpolation.BICUBIC,
                src_color_range=self.before.color_range,
                threads=1,
            ).to_ndarray()
        except (av.error.FFmpegError, ValueError) as error:
            raise Unreadable(f"pictures of format {self.before.format.name}: {reason(error)}") from error
        return np.rot90(picture, turns)
