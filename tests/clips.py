"""Clips whose pictures carry their own number, and files broken in the ways files break."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS, CELL = 10, 16
WIDTH, HEIGHT = BITS * CELL, 48


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(height, width, 3) uint8: the bits of ``number`` as white and black bars, over a moving texture."""
    rng = np.random.default_rng(number // 40)
    texture = rng.integers(60, 190, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    image = np.roll(texture.repeat(4, 0).repeat(4, 1)[:height, :width], 2 * number, axis=1).copy()
    bars = np.array([(number >> b) & 1 for b in range(BITS)], np.uint8) * 220 + 16
    image[: height // 2] = np.repeat(bars, width // BITS + 1)[:width][None, :, None]
    cell = width // BITS
    for b in range(BITS):
        image[: height // 2, b * cell : (b + 1) * cell] = bars[b]
    return image


def number_of(image: np.ndarray) -> int:
    """The number in a picture of any size."""
    height, width = image.shape[:2]
    row = image[: height // 3].mean((0, 2))
    cells = [row[int((b + 0.3) * width / BITS) : int((b + 0.7) * width / BITS) + 1].mean() for b in range(BITS)]
    return sum(1 << b for b, level in enumerate(cells) if level > 126)


def write(
    path: Path,
    pts: Sequence[int],
    *,
    time_base: Fraction = Fraction(1, 30),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    sar: Fraction | None = None,
    tone: float | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write picture n at ``pts[n] * time_base``; ``tone``: with a 440 Hz sound from that second on."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        # as in films.py: the same bytes in every process
        stream = container.add_stream(codec, rate=30, options={"preset": "superfast", **(options or {})})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = time_base
        if sar is not None:
            stream.codec_context.sample_aspect_ratio = sar
        if tone is not None:
            add_sound(container, tone, float(pts[-1] * time_base))
        for number, at in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = at, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def add_sound(container: av.container.OutputContainer, start: float, end: float, rate: int = 16000) -> None:
    stream = container.add_stream("aac", rate=rate, layout="mono")
    time = np.arange(int(end * rate)) / rate
    samples = (0.5 * np.sin(2 * np.pi * 440 * time) * (time >= start)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a rotation into the track header of an mp4: (a, b, c, d) of ISO 14496-12's matrix."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    assert data[at] == 0, "a version 0 header"
    for place, value in zip((0, 1, 3, 4), matrix, strict=True):
        offset = at + 4 + 36 + 4 * place
        data[offset : offset + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def regular(frames: int, rate: float = 1.0) -> np.ndarray:
    """Intervals ``(frames, 2)`` of frames at ``rate`` a second, from 0."""
    return np.stack([np.arange(frames) / rate, (np.arange(frames) + 1) / rate], axis=1)


def remux(path: Path, source: Path, *sources: Path, empty: Sequence[int] = (), default: int = 0) -> Path:
    """Write the video streams of some files into one. The packets ``empty`` of the first are left without contents;
    the stream ``default`` is the one to play."""
    with ExitStack() as stack:
        inputs = [stack.enter_context(av.open(str(file))) for file in (source, *sources)]
        out = stack.enter_context(av.open(str(path), "w"))
        streams = [out.add_stream_from_template(container.streams.video[0]) for container in inputs]
        for number, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
        for container, stream in zip(inputs, streams, strict=True):
            for number, packet in enumerate(container.demux(video=0)):
                if packet.size and container is inputs[0] and number in empty:
                    times = packet.pts, packet.dts, packet.time_base, packet.duration
                    packet = av.Packet(b"")
                    packet.pts, packet.dts, packet.time_base, packet.duration = times
                elif not packet.size:
                    continue
                packet.stream = stream
                out.mux(packet)
    return path


def join(path: Path, *parts: Path) -> Path:
    """Write files one after the other, as ``cat`` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path
