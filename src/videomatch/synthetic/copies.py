"""Same-source copies: which segments of which library videos stand in which query video, to the exact moment.

The statistics are those of the training set of the Video Similarity Challenge 2022 (2,707 segments, own count): a query
takes from 1, 2 or 3 references (82, 10, 8 %), a pair has one segment (94 %) or two, a segment is 0.40 of its reference
at the median (5 to 95 %: 0.11 to 0.96), 43 % of the segments keep their speed and the others spread over [0.60, 1.50]
(reference seconds per query second).

# Deviation: lengths in seconds follow the clips, which are often made shorter than the challenge's (35 s on average).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np

from videomatch.synthetic import draw
from videomatch.synthetic.edits import EDITS, Edit, apply
from videomatch.synthetic.options import WorldOptions
from videomatch.synthetic.story import (
    COPY,
    FAMILY_SIZE,
    SIDES,
    Story,
    host_story,
    library_story,
    side_of,
    with_duration,
)

Time = TypeVar("Time", float, np.ndarray)

#: shortest segment, s, of films as long as those of VSC 2022, and of shorter ones
SHORTEST, SHORTEST_OF_SHORT = 2.2, 1.0
#: median length of a film from which segments are as long as those, s
LONG = 25.0


@dataclass(frozen=True)
class Segment:
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
    """A query video: a host story, the copied segments in order of time, and the whole length (s)."""

    host: Story
    side: str
    segments: tuple[Segment, ...]
    duration: float

    def segment_at(self, time: float) -> Segment | None:
        """The segment that is on screen at ``time``."""
        return next((s for s in self.segments if s.query_start <= time < s.query_end), None)

    def host_time(self, time: float) -> float:
        """How much of the host has been told by ``time``: inserted segments stop its clock."""
        return time - sum(min(time, s.query_end) - s.query_start for s in self.segments if s.query_start < time)


def copy_side(index: int) -> str:
    """Side of query video ``index``: the pattern of the families, so that 60, 15 and 25 % fall to each side."""
    return SIDES[index % len(SIDES)]


def copy_of(seed: int, index: int, options: WorldOptions) -> Copy:
    """Query video ``index``; its sources are library videos of its own side only."""
    rng = np.random.default_rng([seed, COPY, index])
    host, side = host_story(seed, index, options), copy_side(index)
    if rng.random() < options.clean:
        return Copy(host, side, (), host.duration)
    drawn: list[Segment] = []
    for _ in range(rng.choice([1, 2, 3], p=[0.82, 0.10, 0.08])):
        source = _source(rng, side, options, {s.source for s in drawn})
        if source is None:
            break
        story = library_story(seed, source, options)
        for _ in range(1 if rng.random() < 0.94 else 2):
            drawn.append(_segment(rng, source, story, options))
    if len(drawn) > 2:  # several copies stand in a longer host, as far as clips may be long
        host = with_duration(host, min(host.duration * 1.5, options.max_duration))
    return _placed(rng, host, side, drawn)


def _source(rng: np.random.Generator, side: str, options: WorldOptions, taken: set[int]) -> int | None:
    """A library video of this side that is not taken; None if there is no other."""
    families = math.ceil(options.num_library / FAMILY_SIZE)
    for _ in range(200):
        family = int(rng.integers(families))
        index = family * FAMILY_SIZE + int(rng.integers(FAMILY_SIZE))
        if side_of(family) == side and index < options.num_library and index not in taken:
            return index
    return None


def _segment(rng: np.random.Generator, source: int, story: Story, options: WorldOptions) -> Segment:
    """A stretch of the source at some speed; its place in the query is still open (it starts at 0)."""
    share = min(0.40 * math.exp(0.53 * rng.normal()), 1.0)
    shortest = SHORTEST if options.median_duration >= LONG else SHORTEST_OF_SHORT
    length = min(max(story.duration * share, shortest), story.duration)
    start = rng.uniform(0, story.duration - length)
    speed = 1.0
    if rng.random() > 0.43:
        speed = float(rng.choice([rng.uniform(0.60, 0.97), rng.uniform(1.03, 1.50)]))
    edits = tuple(Edit(name, int(rng.integers(2**31))) for name in _edit_names(rng))
    return Segment(source, 0.0, length / speed, start, start + length, edits, bool(rng.random() < 0.7))


def _edit_names(rng: np.random.Generator) -> list[str]:
    """None (8 %), one, two or three different edits, in an order that lets each be seen."""
    count = int(rng.choice([0, 1, 2, 3], p=[0.08, 0.47, 0.30, 0.15]))
    names = list(EDITS)
    return [names[k] for k in sorted(rng.choice(len(names), count, replace=False), reverse=True)]


def _placed(rng: np.random.Generator, host: Story, side: str, drawn: list[Segment]) -> Copy:
    """Cut the host at random moments and insert the segments there; all times are whole frames of the query."""
    fps = host.shot.fps
    cuts = np.sort(rng.uniform(0, host.duration, len(drawn)))
    placed: list[Segment] = []
    inserted = 0.0
    for cut, segment in zip(cuts, drawn, strict=True):
        start = float(round(float(cut + inserted) * float(fps)) / fps)
        frames = max(math.floor(segment.query_end * float(fps)), 1)  # rounded down: the source has no more
        end = float((round(start * float(fps)) + frames) / fps)
        reference_end = segment.reference_start + (end - start) * segment.speed
        placed.append(replace(segment, query_start=start, query_end=end, reference_end=reference_end))
        inserted += end - start
    total = float(round((host.duration + inserted) * float(fps)) / fps)
    return Copy(host, side, tuple(placed), total)


def frame(copy: Copy, stories: dict[int, Story], time: float, width: int, height: int) -> np.ndarray:
    """The query's picture at ``time`` as (height, width, 3) uint8 RGB; ``stories`` holds the sources by index."""
    segment = copy.segment_at(time)

    def host() -> np.ndarray:
        return draw.frame(copy.host, min(copy.host_time(time), copy.host.duration), width, height)

    if segment is None:
        return host()
    copied = source_frame(stories[segment.source], segment.reference_time(time))
    if copied.shape[:2] != (height, width):
        copied = cv2.resize(copied, (width, height), interpolation=cv2.INTER_AREA)
    return apply(segment.edits, copied, host)


def source_frame(story: Story, time: float) -> np.ndarray:
    """The frame that the source's own file shows at ``time``: times between two frames show the earlier one."""
    fps = story.shot.fps
    number = min(math.floor(time * float(fps) + 1e-6), round(story.duration * float(fps)) - 1)
    return draw.frame(
        story, float(number // story.shot.hold * story.shot.hold / fps), story.shot.width, story.shot.height
    )
