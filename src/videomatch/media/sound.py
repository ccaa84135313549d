"""The sound of a video in windows on the same grid as its frames: mono float32 in [-1, 1].

Window k holds ``every`` seconds from ``k * every`` on, counted from the first frame, as long as there are frames.
Missing sound is silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from videomatch.media.container import Timeline, reason, warn

#: windows of a chunk
CHUNK = 256
#: seconds that time stamps may be off before silence is inserted or sound is dropped
SLACK = 0.1


@dataclass(frozen=True)
class SoundRequest:
    """Windows of ``every`` seconds at ``rate`` samples per second."""

    every: Fraction
    rate: int = 16000

    def __post_init__(self) -> None:
        if (self.every * self.rate).denominator != 1 or self.every <= 0:
            raise ValueError(f"windows of {self.every} s at {self.rate} Hz, expected a whole number of samples")

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return int(self.every * self.rate)


class SoundReader:
    """Collects the windows of one request packet by packet: ``(number of the first, (n, samples))``."""

    def __init__(self, request: SoundRequest, timeline: Timeline) -> None:
        self.request = request
        self.start = timeline.start * timeline.time_base
        # where the clock of the pictures jumps, that of the sound does, too
        shifts = np.unique(np.append(timeline.shift, 0)).tolist()
        self.shifts = [round(shift * timeline.time_base * request.rate) for shift in shifts]
        self.left = len(timeline.grid(request.every)) * request.samples  # samples still to deliver
        self.resampler = AudioResampler(format="flt", layout="mono", rate=request.rate)
        self.next = 0  # window
        self.position = 0  # samples placed so far
        self.held: list[np.ndarray] = []
        self.num_held = 0

    def add(self, frames: Sequence[AudioFrame], warnings: list[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Place the decoded sound of one packet."""
        if self.left <= 0:
            return
        try:
            for frame in frames:
                if frame.pts is not None and frame.time_base is not None:
                    yield from self._align(frame.pts * frame.time_base - self.start)
                for part in self.resampler.resample(frame):
                    self._place(part.to_ndarray().reshape(-1))
        except (av.error.FFmpegError, ValueError) as error:
            warn(warnings, f"sound could not be decoded: {reason(error)}")
        yield from self._take(CHUNK * self.request.samples)

    def finish(self) -> Iterator[tuple[int, np.ndarray]]:
        """The rest; the last window is filled up with silence."""
        rest = -self.num_held % self.request.samples
        if rest and self.left > 0:
            self._place(np.zeros(rest, np.float32))
        yield from self._take(self.request.samples)

    def _align(self, time: Fraction) -> Iterator[tuple[int, np.ndarray]]:
        """The next samples belong at ``time``, or where a shift of the clock brings that closest to what was placed:
        insert silence if that is ahead of it."""
        read = round(time * self.request.rate)
        target = min((read + shift for shift in self.shifts), key=lambda samples: abs(samples - self.position))
        slack = SLACK * self.request.rate
        if target - self.position > slack:
            # at most what is left: a wrong time stamp may be hours ahead
            missing = min(target - self.position, self.left - self.num_held)
            chunk = CHUNK * self.request.samples
            for size in [chunk] * (missing // chunk) + [missing % chunk] if missing > 0 else ():
                self._place(np.zeros(size, np.float32))
                yield from self._take(chunk)
        elif self.position - target > slack or (target < 0 and self.position == 0):
            self.position = target  # from before the first frame, or repeated: not placed

    def _place(self, samples: np.ndarray) -> None:
        done = self.next * self.request.samples + self.num_held
        late = max(0, done - self.position)
        self.position += len(samples)
        samples = samples[late:]
        if len(samples):
            self.held.append(samples)
            self.num_held += len(samples)

    def _take(self, at_least: int) -> Iterator[tuple[int, np.ndarray]]:
        if self.num_held < at_least:
            return
        samples = np.concatenate(self.held)
        count = min(len(samples), self.left) // self.request.samples
        used = count * self.request.samples
        values = samples[:used].astype(np.float32, copy=False).reshape(count, self.request.samples)
        self.held, self.num_held = [samples[used:]], len(samples) - used
        if count:
            yield self.next, values
        self.next += count
        self.left -= used
