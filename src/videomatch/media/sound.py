"""The sound of a video in windows on the same grid as its pictures: mono float32 in [-1, 1].

Point k covers the samples from ``k * every`` on, counted from the first picture, ``every`` seconds long; what is
missing (sound that begins late, ends early, or has gaps) is silence. Windows go on as long as there are pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av.error
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from videomatch.media.chunk import Chunk
from videomatch.media.container import reason
from videomatch.media.plan import grid
from videomatch.media.timeline import Timeline, warn

#: windows handed on at a time
CHUNK = 256
#: seconds that time stamps may be off before silence is put in or sound is dropped
SLACK = 0.1


@dataclass(frozen=True)
class SoundRequest:
    """Sound that a consumer wants: windows of ``every`` seconds at ``rate`` samples a second."""

    every: Fraction
    rate: int = 16000

    def __post_init__(self) -> None:
        if (self.every * self.rate).denominator != 1 or self.every <= 0:
            raise ValueError(f"windows of {self.every} s at {self.rate} Hz, expected a whole number of samples")

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return int(self.every * self.rate)


class Listener:
    """Collects the sound of one request while the packets pass."""

    def __init__(self, number: int, request: SoundRequest, timeline: Timeline) -> None:
        self.number, self.request = number, request
        self.start = timeline.start * timeline.time_base
        self.left = len(grid(timeline, request.every)) * request.samples  # samples still to deliver
        self.stream: AudioStream | None = None
        self.next = 0  # window
        self.position = 0  # samples placed so far
        self.held: list[np.ndarray] = []
        self.num_held = 0

    def open(self, stream: AudioStream | None) -> None:
        """Listen to this stream; None where there is no sound."""
        self.stream = stream
        self.resampler = AudioResampler(format="flt", layout="mono", rate=self.request.rate)

    def hear(self, packet: Packet, warnings: list[str]) -> Iterator[Chunk]:
        """Decode one packet of sound."""
        if self.stream is None or self.left <= 0:
            return
        try:
            for frame in self.stream.codec_context.decode(packet if packet.size else None):
                if frame.pts is not None and frame.time_base is not None:
                    self._align(frame.pts * frame.time_base - self.start)
                for part in self.resampler.resample(frame):
                    self._place(part.to_ndarray().reshape(-1))
        except av.error.EOFError:
            pass
        except (av.error.FFmpegError, ValueError) as error:
            warn(warnings, f"sound could not be decoded: {reason(error)}")
        yield from self._take(CHUNK * self.request.samples)

    def finish(self) -> Iterator[Chunk]:
        """The rest; the last window is filled up with silence."""
        rest = -self.num_held % self.request.samples
        if rest and self.left > 0:
            self._place(np.zeros(rest, np.float32))
        yield from self._take(self.request.samples)

    def _align(self, time: Fraction) -> None:
        """The next samples belong at ``time``: put silence before them if that is ahead of what was placed."""
        target = round(time * self.request.rate)
        if target - self.position > SLACK * self.request.rate:
            # in parts: a wrong time stamp may be hours ahead, and what lies beyond the last picture is not wanted
            missing = min(target - self.position, self.left - self.num_held)
            if missing > 0:
                self._place(np.zeros(missing, np.float32))
        elif self.position - target > SLACK * self.request.rate or (target < 0 and self.position == 0):
            self.position = target  # sound from before the first picture, or told twice: not placed

    def _place(self, samples: np.ndarray) -> None:
        done = self._done()
        late = max(0, done - self.position)
        self.position += len(samples)
        samples = samples[late:]
        if len(samples):
            self.held.append(samples)
            self.num_held += len(samples)

    def _done(self) -> int:
        """Samples delivered or held."""
        return self.next * self.request.samples + self.num_held

    def _take(self, least: int) -> Iterator[Chunk]:
        if self.num_held < least or self.num_held < self.request.samples:
            return
        samples = np.concatenate(self.held)
        count = min(len(samples), self.left) // self.request.samples
        used = count * self.request.samples
        values = samples[:used].astype(np.float32, copy=False).reshape(count, self.request.samples)
        self.held, self.num_held = [samples[used:]], len(samples) - used
        if count:
            yield Chunk(self.number, self.next, values)
        self.next += count
        self.left -= used
