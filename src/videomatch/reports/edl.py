"""Edit decision lists (CMX 3600), which editing programs import: which part of which file is where on a timeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from videomatch.data.walk import printable


@dataclass(frozen=True)
class Event:
    """A part of a file, ``start`` to ``end``, on the timeline from ``at`` to ``until`` (s); ``rate`` is that of the
    file's frames, and ``notes`` become comments."""

    name: str
    start: float
    end: float
    at: float
    until: float
    rate: Fraction
    notes: Sequence[str] = ()


def edl(title: str, events: Sequence[Event], rate: Fraction, slack: float = 0.0) -> str:
    """The list of some events, which must not overlap on a timeline of ``rate`` frames a second. A file is counted from
    its first frame. Its part is as long as that of the timeline, unless both differ by more than ``slack`` s and a
    frame: then the event has its speed as an ``M2`` line. Reels are all ``AX``: names are too long and are comments."""
    lines = [f"TITLE: {printable(title)[:70]}", "FCM: NON-DROP FRAME", ""]
    until = 0.0
    for number, event in enumerate(sorted(events, key=lambda event: event.at), 1):
        if event.at < until - 1e-6:
            raise ValueError(f"event {number} ({event.name}) overlaps the one before on the timeline")
        until = event.until
        at, end_at = (_frames(second, rate) for second in (event.at, event.until))
        start, end = (_frames(second, event.rate) for second in (event.start, event.end))
        length = event.until - event.at
        same = _frames(event.start + length, event.rate)
        has_speed = abs(end - same) > max(1, slack * event.rate)
        source = [_code(frame, event.rate) for frame in (start, end if has_speed else same)]
        times = " ".join([*source, _code(at, rate), _code(end_at, rate)])
        lines.append(f"{number:03d}  AX       V     C        {times}")
        if has_speed:
            speed = float(event.rate) * (event.end - event.start) / max(length, 1e-3)
            lines.append(f"M2   AX       {speed:05.1f}                {source[0]}")
        lines += [f"* FROM CLIP NAME: {printable(event.name)}", *(f"* {printable(note)}" for note in event.notes), ""]
    return "\n".join(lines)


def _frames(second: float, rate: Fraction) -> int:
    """The frame at a second."""
    return max(0, round(second * _counted(rate)))


def _counted(rate: Fraction) -> Fraction:
    """Frames a second that a time code counts: those of the file, or the nearest whole number for odd rates, whose time
    codes would drift away from the clock."""
    whole = max(1, round(rate))
    return rate if abs(rate * 1001 / 1000 - whole) < Fraction(1, 200) else Fraction(whole)


def _code(frame: int, rate: Fraction) -> str:
    """``hh:mm:ss:ff`` of a frame, without drops."""
    whole = max(1, round(rate))
    seconds, rest = divmod(frame, whole)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{rest:02d}"
