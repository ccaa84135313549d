"""Frames of a video, or of parts of it, on an exact grid of times, and its sound, in one pass.

:class:`Sampler` streams: memory does not grow with the length of a video. Its frames are those of a full decode, bit
for bit, but only the packets that the grid needs are decoded. Within a group of pictures nothing after the last wanted
packet is decoded, and frames that no other frame refers to are skipped unless they are wanted. A group is kept whole
when the next one opens with wanted frames that are shown before its key frame (open groups refer back). Where a file
breaks this plan (a damaged stream, wrong flags), all of it is decoded.

``benchmarks/decode.py`` compares with ``ffmpeg -vf fps=2``. Frames are scaled by swscale while they are converted to
RGB, turned upright, and stretched to square pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from videomatch.media.container import (
    Timeline,
    Unreadable,
    decoded,
    flush,
    opened,
    packets,
    probe,
    reason,
    video_stream,
    warn,
)
from videomatch.media.sound import SoundReader, SoundRequest

#: frames of a chunk
CHUNK = 32
#: decoders whose packets are not always frames (hidden reference frames have packets of their own)
UNPLANNED = frozenset({"vp8", "libvpx"})


@dataclass(frozen=True)
class FrameRequest:
    """A frame every ``every`` seconds, squashed to ``size`` (height, width); or its short side scaled down to ``size``
    (a smaller one is unchanged); or, for None, of the size of the video."""

    every: Fraction
    size: tuple[int, int] | int | None = None

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of the delivered frames of a video of this size."""
        if isinstance(self.size, tuple):
            return self.size
        if self.size is None or min(width, height) <= self.size:
            return height, width
        return scaled(self.size, height, width)


@dataclass(frozen=True)
class Chunk:
    """Consecutive items of one request (a number), from grid point ``first`` of a span (a number) on: (n, height,
    width, 3) uint8 RGB, or (n, samples) float32 sound."""

    request: int
    span: int
    first: int
    values: np.ndarray


def scaled(short: int, height: int, width: int) -> tuple[int, int]:
    """(height, width) with the short side ``short``; rounded down, as transformers' image processors do."""
    return (short, short * width // height) if height <= width else (short * height // width, short)


class _Irregular(Exception):
    """The planned packets did not give the planned frames."""


class Sampler:
    """Iterate over the chunks of several requests of one video; chunks of a request come in order.

    Args:
        spans: start and end of parts (s after the first frame), in order and apart, each read as if it were a file of
            its own (:meth:`Timeline.parts`), in one pass for all; None for the whole as one span.
        decode_all: decode every packet instead of the planned ones (slow; the same result).
    """

    def __init__(
        self,
        path: Path,
        requests: Sequence[FrameRequest | SoundRequest],
        *,
        spans: Sequence[tuple[float, float]] | None = None,
        decode_all: bool = False,
    ) -> None:
        self.path = path
        self.requests = list(requests)
        self.spans = spans
        self.parts = np.zeros((0, 2), np.int64)  # ticks of the spans; known once the iteration has begun
        self.warnings: list[str] = []  # what was wrong with the file; complete after the iteration
        self.num_decoded = 0  # frames
        self.num_corrupt = 0  # those of them that the decoder marked as damaged
        self.timeline: Timeline | None = None  # known once the iteration has begun
        self._decode_all = decode_all

    def times(self, request: int, span: int = 0) -> np.ndarray:
        """(points, 2) start and end of every grid point of a request, seconds after the first frame of the span."""
        assert self.timeline is not None
        exact = self.requests[request].every
        every, (first, end) = float(exact), self.parts[span].tolist()
        start = np.arange(len(self.timeline.grid(exact, first, end))) * every
        return np.stack([start, np.minimum(start + every, float((end - first) * self.timeline.time_base))], axis=1)

    def __iter__(self) -> Iterator[Chunk]:
        """Decode. :class:`Unreadable` if frames are wanted and none can be decoded; other damage is a warning, and the
        frame before is delivered instead of one that cannot be decoded."""
        self.timeline = timeline = probe(self.path)
        self.warnings = timeline.warnings
        self.parts = timeline.parts(self.spans)
        parts = None if self.spans is None else self.parts
        grids = [_grid(n, r, timeline, self.parts) for n, r in enumerate(self.requests) if isinstance(r, FrameRequest)]
        readers = {
            n: SoundReader(r, timeline, parts) for n, r in enumerate(self.requests) if isinstance(r, SoundRequest)
        }
        decoder = _Decoder(self, timeline, grids, None if self._decode_all else _plan(timeline, grids))
        yield from self._read(decoder, readers)
        if not decoder.as_planned:
            yield from self._read(_Decoder(self, timeline, grids, None), {})
        if grids and not self.num_decoded:
            raise Unreadable("no picture of it can be decoded")
        if self.num_corrupt:
            warn(self.warnings, f"{self.num_corrupt} of {self.num_decoded} decoded pictures are damaged")

    def _read(self, decoder: "_Decoder", readers: dict[int, SoundReader]) -> Iterator[Chunk]:
        """Run over the file once; frames only as long as they are as planned."""
        with opened(self.path) as container:
            stream = video_stream(container, decoder.timeline.stream)
            sounds = [s for s in container.streams.audio if s.codec_context is not None][:1] if readers else []
            streams = [stream, *sounds] if decoder.grids else sounds
            # demuxing no stream would be demuxing all of them
            for packet in packets(container, streams, self.warnings) if streams else ():
                if packet.stream_index != stream.index:
                    # one decoding for all: a decoder that gets a packet twice gives wrong sound
                    sound = decoded(sounds[0], packet, self.warnings, "sound")
                    for number, reader in readers.items():
                        for chunk in reader.add(sound, self.warnings):
                            yield Chunk(number, *chunk)
                elif decoder.as_planned:
                    yield from decoder.planned(decoder.feed(stream, packet))
                elif not sounds:
                    break
            for number, reader in readers.items():
                for chunk in reader.finish():
                    yield Chunk(number, *chunk)
            if decoder.as_planned:
                yield from decoder.planned(decoder.finish())


@dataclass
class _Grid:
    """The state of one frame request."""

    number: int
    request: FrameRequest
    limits: np.ndarray  # the last tick of each grid point, of all spans
    ends: list[int]  # of each span: the grid points up to its end
    expected: np.ndarray = field(default_factory=lambda: np.zeros(0))  # time stamp of the frame there, by the plan
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)
    next: int = 0  # grid point
    span: int = 0  # of that point
    held: list[np.ndarray] = field(default_factory=list)  # frames of the next chunk

    def add(self, picture: np.ndarray) -> Iterator[Chunk]:
        """The frame of the next grid point; the chunk that it completes, which may be the rest of its span."""
        self.held.append(picture)
        self.next += 1
        at_end = self.next == self.ends[self.span]
        if at_end or len(self.held) == CHUNK:
            first = self.next - len(self.held) - (self.ends[self.span - 1] if self.span else 0)
            values, self.held = np.stack(self.held), []
            yield Chunk(self.number, self.span, first, values)
            self.span += at_end


def _grid(number: int, request: FrameRequest, timeline: Timeline, parts: np.ndarray) -> _Grid:
    grids = [timeline.grid(request.every, *part) for part in parts.tolist()]
    return _Grid(number, request, np.concatenate(grids), np.cumsum([len(grid) for grid in grids]).tolist())


#: what is done with a packet by the plan: left out, decoded where other frames refer to it, its frame is wanted
LEAVE, REFER, WANT = range(3)


def _plan(timeline: Timeline, grids: list[_Grid]) -> np.ndarray | None:
    """What to do with each packet, in decoding order, to have the frames of the grids; None where everything must be
    decoded (packets without time stamps, or hidden ones)."""
    count = len(timeline.pts)
    if not grids or not count or not timeline.is_timed or timeline.codec in UNPLANNED:
        return None
    shown = np.sort(timeline.pts[~timeline.discard & (timeline.pts >= timeline.start)])
    for grid in grids:
        grid.expected = shown[np.searchsorted(shown, grid.limits, side="right") - 1]
    wanted = np.isin(timeline.pts, np.concatenate([grid.expected for grid in grids]))
    starts = np.flatnonzero(np.diff(np.cumsum(timeline.key), prepend=-1))
    group = np.searchsorted(starts, np.arange(count), side="right") - 1
    last = np.full(len(starts), -1)
    np.maximum.at(last, group[wanted], np.flatnonzero(wanted))
    # frames shown before the key frame of their group may refer to the group before
    leading = wanted & (timeline.pts < timeline.pts[starts][group])
    ends = np.append(starts[1:], count) - 1
    before = np.unique(group[leading]) - 1
    before = before[before >= 0]
    last[before] = ends[before]
    return np.where(wanted, WANT, np.where(np.arange(count) <= last[group], REFER, LEAVE))


class _Decoder:
    """Decodes the packets of one run over the file and gives each grid point the frame on screen."""

    def __init__(self, sampler: Sampler, timeline: Timeline, grids: list[_Grid], plan: np.ndarray | None) -> None:
        self.sampler, self.timeline, self.grids, self.plan = sampler, timeline, grids, plan
        self.num_packets = 0
        self.num_frames = 0
        self.before: VideoFrame | None = None  # the frame on screen
        self.at = 0  # its time stamp
        self.jumped = False  # packets before this one were left out
        self.as_planned = True

    def planned(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The chunks up to the first that is not as planned."""
        try:
            yield from chunks
        except _Irregular:
            self.as_planned = False

    def feed(self, stream: VideoStream, packet: Packet) -> Iterator[Chunk]:
        """Decode a packet if it is planned."""
        warnings = self.sampler.warnings
        number = self.num_packets
        if packet.size:
            self.num_packets += 1
            if packet.pts is not None and number < len(self.timeline.shift):
                packet.pts += int(self.timeline.shift[number])
        if packet.size and self.plan is not None:
            if number >= len(self.plan) or packet.pts != self.timeline.pts[number]:
                raise _Irregular
            if self.plan[number] == LEAVE:
                self.jumped = True
                return
            if self.jumped:
                # flushed as after a seek: H.264 counts frames across groups and would drop good ones
                self.jumped = False
                held = decoded(stream, flush(stream), warnings)
                stream.codec_context.flush_buffers()
                for frame in held:
                    yield from self._show(frame)
            stream.codec_context.skip_frame = "NONREF" if self.plan[number] == REFER else "DEFAULT"
        for frame in decoded(stream, packet, warnings):
            yield from self._show(frame)

    def finish(self) -> Iterator[Chunk]:
        """The rest: the last frame stays on screen."""
        if self.before is not None:
            yield from self._serve(np.iinfo(np.int64).max)

    def _show(self, frame: VideoFrame) -> Iterator[Chunk]:
        """A decoded frame comes on screen."""
        self.sampler.num_decoded += 1
        if frame.is_corrupt:
            if self.plan is not None:
                raise _Irregular
            self.sampler.num_corrupt += 1
        at = frame.pts
        if self.timeline.is_ordered:
            order = self.timeline.pts
            at = int(order[self.num_frames]) if self.num_frames < len(order) else None
            self.num_frames += 1
        if at is None:
            at = self.timeline.start if self.before is None else self.at + max(1, self.before.duration)
        if self.before is not None:
            if at <= self.at:
                if self.plan is not None:
                    raise _Irregular
                warn(self.sampler.warnings, "time stamps go backwards")
                return
            yield from self._serve(at)
        self.before, self.at = frame, at

    def _serve(self, until: int) -> Iterator[Chunk]:
        """Give the frame on screen to every grid point before the tick ``until``."""
        converted: dict[tuple[int, int], np.ndarray] = {}
        for grid in self.grids:
            while grid.next < len(grid.limits) and grid.limits[grid.next] < until:
                if self.plan is not None and grid.expected[grid.next] != self.at:
                    raise _Irregular
                shape = grid.request.shape(self.timeline.width, self.timeline.height)
                if shape not in converted:
                    converted[shape] = self._convert(grid, shape)
                yield from grid.add(converted[shape])

    def _convert(self, grid: _Grid, shape: tuple[int, int]) -> np.ndarray:
        """(height, width, 3) uint8 RGB, upright."""
        assert self.before is not None
        turns = self.timeline.turns
        height, width = shape[::-1] if turns % 2 else shape
        try:
            picture = grid.reformatter.reformat(
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
        upright = np.rot90(picture, turns)
        return upright[:, ::-1] if self.timeline.mirrored else upright
