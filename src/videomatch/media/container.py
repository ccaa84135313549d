"""Media files: opening them, reading their packets, and probing (duration, frame rate, size).

Everything that can be wrong with the contents of a file is raised as :class:`Unreadable`. Files are opened through
FFmpeg's ``file:`` protocol only, so that neither a path nor a play list inside a file can reach the network. Times come
from the packets and not from the header: headers of truncated, re-muxed or edited files are wrong about duration and
frame rate.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

#: time stamp of a packet that has none
NONE = np.iinfo(np.int64).min
#: time stamps that are further from 0 count as none, so that sums of some are integers of 64 bits
LIMIT = 2**60
#: a file is truncated if its header promises this many seconds, and this share, more than its packets hold
MISSING_SECONDS, MISSING_SHARE = 0.5, 0.05
#: seconds; time stamps that span more are damaged, and would fill the disk with one repeated frame
MAX_SECONDS = 48 * 3600
#: seconds between two frames beyond which the clock was set anew: in formats whose clock may start again (the limit of
#: the ffmpeg program), and in the others, where a picture may stay on screen for long
JUMP, LONG_JUMP = 10, 3600
#: seconds that a clock that may start again goes back if it does
BACK = Fraction(1, 10)
#: a video stream with less than this share of the packets of another one is a series of stills beside it
STILLS = 0.1
#: largest entries, as a share of the others, that a display matrix of a quarter turn has where it should have none
SKEW = 0.02

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
    turns: int  # quarter turns counterclockwise that make the frame upright,
    mirrored: bool  # and whether left and right are swapped after that
    stream: int  # its index in the file
    codec: str
    has_audio: bool
    #: (packets,) ticks that ``pts`` has more than the file, whose clock jumps
    shift: np.ndarray
    #: the n-th decoded frame is shown at ``pts[n]`` and not at its own time stamp: AVI has no time stamps, and FFmpeg's
    #: guesses are wrong where frames are stored in another order than shown
    is_ordered: bool
    truncated: str | None  # how much of the file is there, if its header promises more
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

    def parts(self, spans: Sequence[tuple[float, float]] | None = None) -> np.ndarray:
        """(spans, 2) first tick and end of parts of the video, which are given in seconds after the first frame; of the
        whole for None. Each edge moves to where the nearest frame begins, since tables round times; a part has at least
        one frame."""
        if spans is None:
            return np.array([[self.start, self.end]], np.int64)
        frames = np.unique(self.pts[~self.discard & (self.pts >= self.start)])
        edges = np.append(frames if len(frames) else self.start, self.end)
        wanted = self.start + np.asarray(spans, np.float64) / float(self.time_base)
        middles = (edges[:-1] + edges[1:]) / 2
        first, end = np.searchsorted(middles, wanted, side="right").T
        first = np.minimum(first, len(edges) - 2)
        return np.stack([edges[first], edges[np.maximum(end, first + 1)]], axis=1)

    def grid(self, every: Fraction, first: int | None = None, end: int | None = None) -> np.ndarray:
        """(points,) the last tick of each grid point of a part (:meth:`parts`), or of the whole. Point k is at
        ``first + k * every`` in exact fractions, as long as a frame of the part is on screen: the last one with a time
        stamp <= that point. (``ffmpeg -vf fps=2`` rounds to the nearest point instead: every frame is 0.25 s late.)"""
        first, end = self.start if first is None else first, self.end if end is None else end
        step = every / self.time_base
        points = max(1, -(-(end - first) // step))
        ticks = [first + k * step.numerator // step.denominator for k in range(points)]
        return np.array(ticks, np.int64)


def probe(path: Path) -> Timeline:
    """The timeline of a video: all packets are read, and frames are decoded up to the first."""
    with opened(path) as container:
        if len(_candidates(container)) < 2:
            return _scan(container, video_stream(container))
        number = _film(container)
    with opened(path) as container:
        return _scan(container, video_stream(container, number))


def frame_rate(path: Path) -> Fraction | None:
    """Frames per second by the header of a video, if it has that."""
    with opened(path) as container:
        stream = video_stream(container)
        return stream.average_rate or stream.guessed_rate


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


def video_stream(container: InputContainer, number: int | None = None) -> VideoStream:
    """The video stream of an index, or else the first that is not the cover picture of a music file."""
    streams = [stream for stream in _candidates(container) if number in (None, stream.index)]
    if not streams:
        kinds = sorted({s.type for s in container.streams})
        raise Unreadable(f"no video stream (it holds: {', '.join(kinds) or 'nothing'})")
    stream = streams[0]
    if stream.codec_context is None:
        raise Unreadable("no decoder for its video stream")
    # one thread per video: many videos at a time are faster than many threads on one
    stream.codec_context.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


def _candidates(container: InputContainer) -> list[VideoStream]:
    """The video streams; those that can be decoded if there are any."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return [s for s in streams if s.codec_context is not None] or streams


def _film(container: InputContainer) -> int:
    """The index of the best video stream: moving pictures before stills, then what the file calls its default, then the
    largest. Reads all packets."""
    streams = _candidates(container)
    counts = dict.fromkeys((s.index for s in streams), 0)
    for packet in packets(container, streams, []):
        counts[packet.stream_index] += packet.size > 0
    moving = STILLS * max(counts.values())

    def rank(stream: VideoStream) -> tuple[bool, bool, int]:
        area = stream.width * stream.height if stream.codec_context is not None else 0
        return counts[stream.index] > moving, bool(stream.disposition & Disposition.default), area

    return max(streams, key=rank).index


def packets(container: InputContainer, streams: Sequence[Stream], warnings: list[str]) -> Iterator[Packet]:
    """The packets of some streams, then :func:`flush` of each. An early end is a warning."""
    try:
        # only some empty packets are those by which PyAV ends a stream: others repeat a frame
        yield from (packet for packet in container.demux(*streams) if packet.size or packet.pts is not None)
    except av.error.FFmpegError as error:
        warn(warnings, f"reading stopped early: {reason(error)}")
    for stream in streams:
        yield flush(stream)


def flush(stream: Stream) -> Packet:
    """The packet that ends a stream: :func:`decoded` gives the frames that the decoder still holds."""
    packet = Packet(0)
    packet.stream = stream
    return packet


def decoded(
    stream: VideoStream | AudioStream, packet: Packet, warnings: list[str], what: str = "a packet"
) -> list[Any]:
    """Decode one packet. An empty one gives no frame: the one before is repeated. What cannot be decoded is a
    warning."""
    if not packet.size and packet.pts is not None:
        return []
    try:
        return stream.codec_context.decode(packet if packet.size else None)
    except av.error.EOFError:
        if packet.size:
            warn(warnings, f"{what} came after the end of its stream and was not decoded")
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


def _scan(container: InputContainer, stream: VideoStream) -> Timeline:
    if stream.time_base is None:
        raise Unreadable("its video stream has no time base")
    rows, flags = array("q"), bytearray()  # three numbers of each packet
    warnings: list[str] = []
    first: VideoFrame | None = None
    delay = 0  # packets that the decoder took before it gave the first frame
    for packet in packets(container, [stream], warnings):
        if packet.size or packet.pts is not None:
            rows.extend(NONE if time is None or abs(time) > LIMIT else time for time in (packet.pts, packet.dts))
            rows.append(packet.duration or 0)
            flags.extend((packet.is_keyframe, packet.is_discard, packet.size > 0))
        if first is None:
            first = next(iter(decoded(stream, packet, warnings)), None)
            delay = len(rows) // 3 - 1
    if first is None:
        raise Unreadable(warnings[-1] if warnings else "no picture of it can be decoded")
    read, dts, lengths = np.frombuffer(rows, np.int64).reshape(-1, 3).T
    key, hidden, filled = np.frombuffer(flags, bool).reshape(-1, 3).T
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    jump = max(1, round(JUMP / stream.time_base))
    gap = min(max(1, round(1 / (rate * stream.time_base))), jump)
    restarts = bool(container.format.flags & Flags.ts_discont.value)
    longest = jump if restarts else round(LONG_JUMP / stream.time_base)
    lasting = np.where(lengths > 0, lengths, gap).clip(max=jump)
    shift = _restarts(read, dts, lasting, key, round(BACK / stream.time_base)) if restarts else np.zeros_like(read)
    shift = shift + _gaps(read + shift, read != NONE, lasting, longest)
    times = np.where(read == NONE, NONE, read + shift)
    jumps = times[(shift != 0) & (read != NONE)]
    at = first.pts  # of the first frame
    if at is not None:
        at += int(shift[read == at][:1].sum())
    lengths = lengths.clip(max=jump if len(jumps) else longest)
    # empty packets repeat the frame before
    repeated = np.max((times + lasting)[~filled & (read != NONE)], initial=NONE)
    times, shift, dts, lengths, key, hidden = (a[filled] for a in (times, shift, dts, lengths, key, hidden))
    reordered = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    is_ordered = reordered and NONE not in times
    if reordered and len(np.unique(np.diff(dts))) > 1:
        warn(warnings, "times of pictures are guessed: AVI stores none, and frames were dropped from it")
    if is_ordered:
        times = _shown(times, dts, delay)
    start, end = _span(times, lengths, hidden, None if is_ordered else at, gap)
    end = max(end, int(repeated))
    seconds = (end - start) * stream.time_base
    if seconds > MAX_SECONDS:
        raise Unreadable(
            f"its time stamps span {float(seconds / 3600):.0f} hours, expected at most {MAX_SECONDS // 3600}"
        )
    if len(jumps):
        after = float((int(jumps.min()) - start) * stream.time_base)
        warn(warnings, f"its clock jumps, first after {after:.1f} s: its parts are read one after the other")
    promised = 0.0  # by the header
    if len(jumps):
        pass  # what the header says is wrong, too
    elif stream.duration is not None:
        promised = float(stream.duration * stream.time_base)
    elif container.duration is not None and len(container.streams) == 1:
        promised = container.duration / av.time_base
    truncated = None
    if promised - float(seconds) > max(MISSING_SECONDS, MISSING_SHARE * promised):
        warn(warnings, truncated := f"truncated: {float(seconds):.1f} of {promised:.1f} seconds are there")
    turns, mirrored = _orientation(first, warnings)
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 10) <= aspect <= 10:
        aspect = Fraction(1)  # damaged
    return Timeline(
        time_base=stream.time_base,
        pts=times,
        key=key,
        discard=hidden,
        start=start,
        end=end,
        stored=(max(1, round(first.width * aspect)), first.height),
        turns=turns,
        mirrored=mirrored,
        stream=stream.index,
        codec=stream.codec_context.name,
        has_audio=any(s.codec_context is not None for s in container.streams.audio),
        shift=shift,
        is_ordered=is_ordered,
        truncated=truncated,
        warnings=warnings,
    )


def _orientation(frame: VideoFrame, warnings: list[str]) -> tuple[int, bool]:
    """Quarter turns counterclockwise, and whether left and right are swapped after that, of the matrix by which players
    show a frame."""
    side_data: Any = frame.side_data
    if Type.DISPLAYMATRIX not in side_data:
        return 0, False
    matrix = np.frombuffer(bytes(side_data[Type.DISPLAYMATRIX]), np.int32).reshape(3, 3)[:2, :2].astype(float)
    mirrored = bool(np.linalg.det(matrix) < 0)
    (a, b), (c, d) = matrix * [-1, 1] if mirrored else matrix
    along, across = a + d, c - b
    turns = round(np.arctan2(across, along) / (np.pi / 2))
    odd = matrix[[0, 1], [1, 0]] if turns % 2 == 0 else matrix[[0, 1], [0, 1]]
    if abs(odd).max() > SKEW * max(abs(along), abs(across)):
        warn(warnings, f"its display matrix {matrix.tolist()} is ignored: expected quarter turns and mirror images")
        return 0, False
    return turns % 4, mirrored


def _restarts(times: np.ndarray, dts: np.ndarray, lengths: np.ndarray, key: np.ndarray, back: int) -> np.ndarray:
    """(packets,) ticks to add so that every packet whose clock was set back follows the packets before."""
    shift = np.zeros_like(times)
    known = np.flatnonzero(dts != NONE)
    places = np.flatnonzero(np.diff(dts[known]) < -back)
    shown = -LIMIT  # until when, of the packets so far
    starts = [0, *known[places + 1].tolist(), len(times)]
    for part, (start, end) in enumerate(pairwise(starts)):
        if part:
            before = known[places[part - 1]]
            by = sum(int(column[before]) for column in (shift, dts, lengths)) - int(dts[start])
            if key[start] and times[start] != NONE:  # its frames may be less out of order than those before
                by = max(by, shown - int(times[start]))
            shift[start:end] = min(max(by, -LIMIT), LIMIT)
        ends = (times + shift + lengths)[start:end][times[start:end] != NONE]
        shown = max(shown, int(ends.max(initial=NONE)))
    return shift


def _gaps(times: np.ndarray, known: np.ndarray, lengths: np.ndarray, longest: int) -> np.ndarray:
    """(packets,) ticks to add so that no frame is shown ``longest`` longer than it lasts."""
    shift = np.zeros_like(times)
    order = np.flatnonzero(known)
    order = order[np.argsort(times[order], kind="stable")]
    excess = np.diff(times[order]) - lengths[order][:-1]
    shift[order[1:]] = -np.cumsum(np.where(excess > longest, excess, 0))
    return shift


def _shown(times: np.ndarray, dts: np.ndarray, delay: int) -> np.ndarray:
    """When the n-th frame is shown, where packets have only the times at which they are decoded: encoders give a packet
    the time of the frame that is shown ``delay`` frames before."""
    if NONE in dts or not 0 < delay < len(dts):
        return np.sort(times)
    rest = dts[-1] + (dts[-1] - dts[-2]) * np.arange(1, delay + 1)
    shown = np.sort(np.concatenate([dts[delay:], rest]))
    return shown - shown[0] + times.min()


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
