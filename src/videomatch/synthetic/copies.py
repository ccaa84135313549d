"""Same-source copies: which segments of which library videos are in which query video, to the exact frame.

The statistics are own counts of published labels: of the training set of the Video Similarity Challenge 2022 (2,707
segments), where a query takes from 1, 2 or 3 references (82, 10, 8 %), 43 % of the segments keep their speed and the
others spread over [0.60, 1.50]; lengths and segments of a pair are those, or VCSL's (39,185 segments of its test set).

# Deviation: where the videos are shorter than those of the data set, copies are, in proportion.
# Deviation: speeds are the challenge's in both settings; a twentieth of VCSL's are slower than 0.33.
"""

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np

from videomatch.synthetic import openings
from videomatch.synthetic.edits import EDITS, Edit, apply
from videomatch.synthetic.latent import COPY, FAMILY_SIZE, Latent, host_latent, library_latent, seed_of, split_of
from videomatch.synthetic.options import SyntheticOptions

Time = TypeVar("Time", float, np.ndarray)

SHORTEST = 1.0  #: segment of the shortest videos, s
#: splits of the queries 0..9, then again: most are judged
QUERY_SPLITS = [{"r": "train", "v": "val", "t": "test"}[letter] for letter in "trtvtrtvtr"]


@dataclass(frozen=True)
class Statistics:
    """Of the copies of a data set: percentiles of their length in the query (s), shares of the pairs with 1, 2 and 3
    segments, share of the queries of which a twentieth is their own, and the median length (s) of videos that hold
    copies of these lengths."""

    lengths: dict[float, float]
    segments: tuple[float, float, float]
    copied: float
    video: float


STATISTICS = {
    "vcsl": Statistics(
        {0: 2, 1: 3, 5: 4, 25: 10, 50: 19, 75: 57, 95: 144, 99: 432, 100: 432}, (0.735, 0.18, 0.085), 0.2, 60
    ),
    "vsc2022": Statistics({0: 2.2, 5: 4.7, 25: 6.8, 50: 9.8, 75: 14.7, 95: 28, 100: 85}, (0.94, 0.06, 0.0), 0.0, 25),
}


@dataclass(frozen=True)
class CopiedSegment:
    """Library video ``source`` from ``reference_start`` to ``reference_end`` shown in the query (s, half open)."""

    source: int
    query_start: float
    query_end: float
    reference_start: float
    reference_end: float
    edits: tuple[Edit, ...]
    with_sound: bool

    @property
    def speed(self) -> float:
        """Reference seconds per query second."""
        return (self.reference_end - self.reference_start) / (self.query_end - self.query_start)

    def reference_time(self, time: Time) -> Time:
        """Where in the reference the query's ``time`` comes from, s."""
        return self.reference_start + (time - self.query_start) * self.speed


@dataclass(frozen=True)
class Copy:
    """A query video: its host, the copied segments in order of time, and the whole length (s)."""

    host: Latent
    split: str
    segments: tuple[CopiedSegment, ...]
    duration: float

    def segment_at(self, time: float) -> CopiedSegment | None:
        """The segment at ``time``."""
        return next((s for s in self.segments if s.query_start <= time < s.query_end), None)

    def host_time(self, time: float) -> float:
        """The host's own time at ``time``: it does not run during inserted segments."""
        return time - sum(min(time, s.query_end) - s.query_start for s in self.segments if s.query_start < time)


def copy_of(seed: int, index: int, options: SyntheticOptions) -> Copy:
    """Query video ``index``; its sources are library videos of its own split (the pattern of the families)."""
    split = QUERY_SPLITS[index % len(QUERY_SPLITS)]
    own = seed_of(seed, split, options)
    rng, host = np.random.default_rng([own, COPY, index]), host_latent(own, index, options)
    if rng.random() < options.clean:
        return Copy(host, split, (), host.duration)
    statistics, drawn = STATISTICS[options.lengths], list[CopiedSegment]()
    for _ in range(rng.choice([1, 2, 3], p=[0.82, 0.10, 0.08])):
        lengths = [_length(rng, options) for _ in range(rng.choice([1, 2, 3], p=statistics.segments))]
        source = _source(rng, split, seed, options, {s.source for s in drawn}, max(lengths))
        if source is None:
            break
        latent = library_latent(seed, source, options)
        drawn += [_segment(rng, source, latent, length) for length in lengths]
    duration = host.duration
    if len(drawn) > 2:  # several copies are in a longer host, within the limit of lengths
        duration = min(duration * 1.5, options.max_duration)
    if rng.random() < statistics.copied:
        duration = sum(s.query_end for s in drawn) / 20
    return _placed(rng, replace(host, duration=host.format.whole_frames(duration)), split, drawn)


def _length(rng: np.random.Generator, options: SyntheticOptions) -> float:
    """Length of a copy in the query, s."""
    statistics = STATISTICS[options.lengths]
    seconds = np.log(list(statistics.lengths.values()))
    drawn = math.exp(np.interp(rng.uniform(0, 100), list(statistics.lengths), seconds))
    return max(drawn * min(options.median_duration / statistics.video, 1.0), SHORTEST)


def _source(
    rng: np.random.Generator, split: str, seed: int, options: SyntheticOptions, taken: set[int], length: float
) -> int | None:
    """A library video of this split that is not taken, if possible as long (s); None if there is no other."""
    families = math.ceil(options.num_library / FAMILY_SIZE)
    found = None
    for _ in range(200):
        family = int(rng.integers(families))
        index = family * FAMILY_SIZE + int(rng.integers(FAMILY_SIZE))
        if split_of(family) == split and index < options.num_library and index not in taken:
            duration = library_latent(seed, index, options).duration
            if duration >= length:
                return index
            found = max(found or (0.0, index), (duration, index))
    return found and found[1]


def _segment(rng: np.random.Generator, source: int, latent: Latent, length: float) -> CopiedSegment:
    """A part of the source at some speed; its place in the query is still open (it starts at 0)."""
    speed = 1.0
    if rng.random() > 0.43:
        speed = float(rng.choice([rng.uniform(0.60, 0.97), rng.uniform(1.03, 1.50)]))
    length = min(length * speed, latent.duration)
    start = rng.uniform(0, latent.duration - length)
    count = int(rng.choice([0, 1, 2, 3], p=[0.08, 0.47, 0.30, 0.15]))
    chosen = sorted(rng.choice(len(EDITS), count, replace=False), reverse=True)  # an order that lets each be seen
    edits = tuple(Edit(list(EDITS)[k], int(rng.integers(2**31))) for k in chosen)
    return CopiedSegment(source, 0.0, length / speed, start, start + length, edits, bool(rng.random() < 0.7))


def _placed(rng: np.random.Generator, host: Latent, split: str, drawn: list[CopiedSegment]) -> Copy:
    """Cut the host at random moments and insert the segments there; all times are whole frames of the query."""
    fps = host.format.fps
    cuts = np.sort(rng.uniform(0, host.duration, len(drawn)))
    placed: list[CopiedSegment] = []
    inserted = 0.0
    for cut, segment in zip(cuts, drawn, strict=True):
        start = float(round(float(cut + inserted) * float(fps)) / fps)
        frames = max(math.floor(segment.query_end * float(fps)), 1)  # rounded down: the source has no more
        end = float((round(start * float(fps)) + frames) / fps)
        reference_end = segment.reference_start + (end - start) * segment.speed
        placed.append(replace(segment, query_start=start, query_end=end, reference_end=reference_end))
        inserted += end - start
    total = float(round((host.duration + inserted) * float(fps)) / fps)
    return Copy(host, split, tuple(placed), total)


def query_frame(copy: Copy, sources: dict[int, Latent], time: float, width: int, height: int) -> np.ndarray:
    """The query's picture at ``time`` as (height, width, 3) uint8 RGB; ``sources`` are by index."""
    segment = copy.segment_at(time)

    def host() -> np.ndarray:
        return openings.frame(copy.host, min(copy.host_time(time), copy.host.duration), width, height)

    if segment is None:
        return host()
    copied = source_frame(sources[segment.source], segment.reference_time(time))
    if copied.shape[:2] != (height, width):
        copied = cv2.resize(copied, (width, height), interpolation=cv2.INTER_AREA)
    return apply(segment.edits, copied, host)


def source_frame(latent: Latent, time: float) -> np.ndarray:
    """The frame that the source's own file shows at ``time``: times between two frames show the earlier one."""
    fps = latent.format.fps
    number = min(math.floor(time * float(fps) + 1e-6), round(latent.duration * float(fps)) - 1)
    return openings.frame(latent, latent.format.drawing_time(number), latent.format.width, latent.format.height)
