"""The sound of a video, or of parts of it, in windows on the same grid as its frames: mono float32 in [-1, 1].

Window k holds ``every`` seconds from ``k * every`` on, counted from the first frame, as long as there are frames.
Missing sound is silence, and so is what follows the end of a part.
"""

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
    """Collects the windows of one request packet by packet: (part, number of the first window, (n, samples)). ``parts``
    are those of :meth:`Timeline.parts`, in order and apart; None for the whole."""

    def __init__(self, request: SoundRequest, timeline: Timeline, parts: np.ndarray | None = None) -> None:
        self.request = request
        self.start = timeline.start * timeline.time_base
        # where the clock of the pictures jumps, that of the sound does, too
        shifts = np.unique(np.append(timeline.shift, 0)).tolist()
        self.shifts = [round(shift * timeline.time_base * request.rate) for shift in shifts]
        self.windows = _windows(request, timeline, parts)
        self.total = int(self.windows[-1, 3])  # samples up to the end of the last window
        self.resampler = AudioResampler(format="flt", layout="mono", rate=request.rate)
        self.next = 0  # window
        self.position = 0  # samples placed so far
        self.first = 0  # sample that is held first
        self.held: list[np.ndarray] = []
        self.num_held = 0

    def add(self, frames: Sequence[AudioFrame], warnings: list[str]) -> Iterator[tuple[int, int, np.ndarray]]:
        """Place the decoded sound of one packet."""
        if self.next == len(self.windows):
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

    def finish(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """The rest; the last window is filled up with silence."""
        begun = np.searchsorted(self.windows[:, 2], self.first + self.num_held)  # windows
        rest = int(self.windows[begun - 1, 3]) - self.first - self.num_held if begun else 0
        if rest > 0:
            self._place(np.zeros(rest, np.float32))
        yield from self._take(1)

    def _align(self, time: Fraction) -> Iterator[tuple[int, int, np.ndarray]]:
        """The next samples belong at ``time``, or where a shift of the clock brings that closest to what was placed:
        insert silence if that is ahead of it."""
        read = round(time * self.request.rate)
        target = min((read + shift for shift in self.shifts), key=lambda samples: abs(samples - self.position))
        slack = SLACK * self.request.rate
        if target - self.position > slack:
            # at most what is left: a wrong time stamp may be hours ahead
            missing = min(target - self.position, self.total - self.first - self.num_held)
            chunk = CHUNK * self.request.samples
            for size in [chunk] * (missing // chunk) + [missing % chunk] if missing > 0 else ():
                self._place(np.zeros(size, np.float32))
                yield from self._take(chunk)
        elif self.position - target > slack or (target < 0 and self.position == 0):
            self.position = target  # from before the first frame, or repeated: not placed

    def _place(self, samples: np.ndarray) -> None:
        done = self.first + self.num_held
        late = max(0, done - self.position)
        self.position += len(samples)
        samples = samples[late:]
        if len(samples):
            self.held.append(samples)
            self.num_held += len(samples)

    def _take(self, at_least: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """The windows that are complete, if so many samples are held."""
        if self.num_held < at_least:
            return
        samples, before = np.concatenate(self.held), self.first
        complete = int(np.searchsorted(self.windows[:, 3], before + len(samples), side="right"))
        rows, self.next = self.windows[self.next : complete], complete
        after = int(self.windows[complete, 2]) if complete < len(self.windows) else self.total
        self.first = min(before + len(samples), after)  # what lies between two parts is dropped
        self.held = [samples[self.first - before :]]
        self.num_held = len(self.held[0])
        for part in np.unique(rows[:, 0]).tolist():
            of_part = rows[rows[:, 0] == part]
            values = np.zeros((len(of_part), self.request.samples), np.float32)
            for row, (begin, end) in zip(values, (of_part[:, 2:] - before).tolist(), strict=True):
                row[: end - begin] = samples[begin:end]
            yield part, int(of_part[0, 1]), values


def _windows(request: SoundRequest, timeline: Timeline, parts: np.ndarray | None) -> np.ndarray:
    """(windows, 4) integers: part, number in it, first sample and end, counted from the first frame."""
    found = []
    for number, (first, end) in enumerate((timeline.parts() if parts is None else parts).tolist()):
        begin, limit = (round((t - timeline.start) * timeline.time_base * request.rate) for t in (first, end))
        numbers = np.arange(len(timeline.grid(request.every, first, end)))
        begins = begin + numbers * request.samples
        ends = begins + request.samples
        ends = ends if parts is None else np.maximum(np.minimum(ends, limit), begins)
        found.append(np.stack([np.full_like(numbers, number), numbers, begins, ends], axis=1))
    return np.concatenate(found)
