"""Which pictures are wanted, and which packets need decoding for them.

**Grid.** Point k lies at ``t0 + k * every`` with ``t0`` the time stamp of the first picture, in exact fractions; the
picture on screen there is the last one with a time stamp <= that point. Points go on as long as a picture is on screen.
(``ffmpeg -vf fps=2`` rounds to the nearest instead: every picture comes 0.25 s late.)

**Plan.** Within a group of pictures nothing after the last wanted packet is decoded, and pictures that no other
picture refers to are skipped unless they are wanted. A group is kept whole when the next one opens with wanted pictures
that are shown before its key picture (open groups: those refer back).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from videomatch.media.timeline import Timeline

#: decoders whose packets are not always pictures (hidden reference pictures have packets of their own)
UNPLANNED = frozenset({"vp8", "libvpx"})


def grid(timeline: Timeline, every: Fraction) -> np.ndarray:
    """(points,) the last tick that belongs to each grid point: pictures up to it are on screen or past."""
    step = every / timeline.time_base
    if step <= 0:
        raise ValueError(f"every = {every} seconds, expected more than 0")
    # k * step < end - start
    points = -(-(timeline.end - timeline.start) // step)
    k = np.arange(max(1, int(points)), dtype=np.int64)
    if len(k) * step.numerator < 2**62:
        return timeline.start + k * step.numerator // step.denominator
    exact = [timeline.start + int(n) * step.numerator // step.denominator for n in k]
    return np.array(exact, np.int64)


def on_screen(timeline: Timeline, limits: np.ndarray) -> np.ndarray:
    """(points,) time stamp of the picture on screen at each grid point."""
    shown = np.sort(timeline.pts[~timeline.discard & (timeline.pts >= timeline.start)])
    return shown[np.searchsorted(shown, limits, side="right") - 1]


@dataclass(frozen=True)
class Plan:
    """What to do with each packet, in decoding order.

    Attributes:
        feed: (packets,) whether the decoder gets it.
        wanted: (packets,) whether its picture is wanted; of the others, those nobody refers to may be skipped.
        jump: (packets,) whether packets before it were left out, so that the decoder has to begin anew as after a seek
            (H.264 counts pictures across groups: after a gap it would drop good ones).
    """

    feed: np.ndarray
    wanted: np.ndarray
    jump: np.ndarray


def plan(timeline: Timeline, wanted_pts: np.ndarray) -> Plan | None:
    """The plan that yields the pictures with the time stamps ``wanted_pts``; None where only decoding everything is
    safe (packets without time stamps, or hidden ones)."""
    count = len(timeline.pts)
    if not timeline.is_timed or timeline.codec in UNPLANNED or not count:
        return None
    wanted = np.isin(timeline.pts, wanted_pts)
    group = np.cumsum(timeline.key)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    of = np.searchsorted(starts, np.arange(count), side="right") - 1
    last = np.full(len(starts), -1)
    np.maximum.at(last, of[wanted], np.flatnonzero(wanted))
    # pictures shown before the key picture of their group may refer to the group before
    leading = wanted & (timeline.pts < timeline.pts[starts][of])
    ends = np.append(starts[1:], count) - 1
    back = np.unique(of[leading]) - 1
    back = back[back >= 0]
    last[back] = ends[back]
    feed = np.arange(count) <= last[of]
    jump = feed & ~np.concatenate([[True], feed[:-1]])
    return Plan(feed=feed, wanted=wanted, jump=jump)
