"""Parts of a video as files of their own, by copying packets: nothing is encoded again, so nothing is lost.

A part opens with the key frame without which its first frame cannot be decoded. In MP4 an edit list hides what comes
before that frame: players that follow it (browsers, FFmpeg, QuickTime) begin at the exact frame. Codecs that MP4 does
not hold are written to Matroska, which has no edit lists; there a part begins early, at the key frame. In both, frames
that are stored before the last one, but shown after it, come at the end: a part ends late by the frames that the
encoder reorders, and never early.
"""

import io
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from videomatch.media.container import Timeline, Unreadable, opened, packets, probe, reason, video_stream

#: files that are written in one pass
OPEN = 64


@dataclass(frozen=True)
class Cut:
    """A part that was written, and the seconds by which it begins early and ends late."""

    path: Path
    early: float
    late: float


@dataclass(frozen=True)
class _Span:
    """Packets (numbers) of a part, its first tick and its end, and when its sound begins (s of the file's clock)."""

    opening: int
    last: int
    first: int
    sound: tuple[Fraction, Fraction]


def cut(path: Path, parts: Sequence[tuple[float, float]], stems: Sequence[Path]) -> list[Cut]:
    """Write parts of a video with its sound: start and end in s after its first frame, each moved to the nearest frame;
    ``stems`` are paths without an ending. :class:`Unreadable` where a file cannot be cut so."""
    timeline = probe(path)
    if not timeline.is_timed or timeline.shift.any():
        raise Unreadable("not cut: its frames have no times of their own, or its clock jumps; convert it to MP4 first")
    with opened(path) as container:
        sounds = [s for s in container.streams.audio if s.codec_context is not None]
        names = {s.codec_context.name for s in (video_stream(container, timeline.stream), *sounds)}
        names = {av.Codec(name, "r").canonical_name for name in names}
    with av.open(io.BytesIO(), "w", format="mp4") as mp4:
        kind, suffix = ("mp4", ".mp4") if names <= mp4.supported_codecs else ("matroska", ".mkv")
    found: list[Cut] = []
    ticks = timeline.parts(parts).tolist()
    spans = [_span(timeline, *both, exact=kind == "mp4") for both in ticks]
    for start in range(0, len(spans), OPEN):
        at = slice(start, start + OPEN)
        _write(path, timeline, spans[at], [Path(f"{stem}{suffix}") for stem in stems[at]], kind)
    for span, (first, end), stem in zip(spans, ticks, stems, strict=True):
        opening, shown = int(timeline.pts[span.opening]), int(timeline.pts[span.opening : span.last + 1].max())
        early = 0.0 if kind == "mp4" else float((first - opening) * timeline.time_base)
        late = float((shown - end) * timeline.time_base) + 1 / timeline.fps if shown >= end else 0.0
        found.append(Cut(Path(f"{stem}{suffix}"), early, late))
    return found


def _span(timeline: Timeline, first: int, end: int, *, exact: bool) -> _Span:
    opening = int(np.flatnonzero(timeline.key & (timeline.pts <= first))[-1])
    last = int(np.flatnonzero(timeline.pts < end)[-1])
    start = first if exact else int(timeline.pts[opening])
    return _Span(opening, last, first, (start * timeline.time_base, end * timeline.time_base))


def _decoding_times(timeline: Timeline) -> list[int]:
    """When each packet is decoded, in ticks: as late as its frame allows. Files store no such times, or not of all."""
    shown = np.sort(timeline.pts)
    delay = int((np.arange(len(shown)) - np.searchsorted(shown, timeline.pts)).max())
    before = shown[0] - np.arange(delay, 0, -1)
    return np.concatenate([before, shown])[: len(shown)].tolist()


def _write(path: Path, timeline: Timeline, spans: Sequence[_Span], files: Sequence[Path], kind: str) -> None:
    """Write some parts in one pass over the file."""
    with ExitStack() as stack:
        source = stack.enter_context(opened(path))
        video = video_stream(source, timeline.stream)
        streams = [video, *(s for s in source.streams.audio if s.codec_context is not None)]
        outputs: list[dict[int, Any]] = []
        for file in files:
            output = stack.enter_context(av.open(str(file), "w", format=kind))
            outputs.append({s.index: output.add_stream_from_template(s) for s in streams})
        number, decoding = -1, _decoding_times(timeline)
        for packet in packets(source, streams, []):
            if not packet.size or packet.pts is None or packet.time_base is None:
                continue
            index, base, shown = packet.stream_index, packet.time_base, packet.pts
            number += index == video.index
            decoded = decoding[number] if index == video.index else shown
            ends = (shown + (packet.duration or 0)) * base
            for span, targets in zip(spans, outputs, strict=True):
                if index == video.index:
                    inside = span.opening <= number <= span.last
                else:
                    inside = ends > span.sound[0] and shown * base < span.sound[1]
                if inside:
                    shift = round(span.first * timeline.time_base / base)
                    packet.time_base, packet.pts, packet.dts = base, shown - shift, decoded - shift
                    packet.stream = targets[index]
                    try:
                        targets[index].container.mux(packet)
                    except av.error.FFmpegError as error:
                        raise Unreadable(f"not cut: {reason(error)}; convert it to MP4 first") from error
