"""Where an axis starts, ends and has its ticks.

Ticks are at multiples of 1, 2 or 5 times a power of ten; an axis spans its values exactly, or a little around them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A straight scale from ``low`` to ``high`` (values) onto ``start`` to ``end`` (pixels)."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def axis(
    values: Iterable[float], start: float, end: float, *, whole: bool = False, count: int = 6, margin: float = 0.04
) -> Axis:
    """An axis around all finite ``values``.

    Args:
        values: what has to fit; without any, 0 to 1.
        start: pixel of the low end.
        end: pixel of the high end.
        whole: ticks at whole numbers only.
        count: about so many ticks.
        margin: room on both sides, as a share of the span.
    """
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= (0.5 if whole else 1e-9 * max(abs(low), abs(high))):  # one value: it stands in the middle
        room = 0.5 if whole or not low else abs(low) * 0.1
        low, high = low - room, high + room
    room = (high - low) * margin
    low, high = low - room, high + room
    step = tick_step(high - low, count)
    step = max(1.0, step) if whole else step
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ticks = tuple(n * step for n in numbers)
    return Axis(low, high, start, end, ticks, tuple(tick_label(t, step) for t in ticks))


def tick_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that gives at most about ``count`` steps in ``span``."""
    power = 10.0 ** math.floor(math.log10(span / count))
    return next(power * m for m in (1, 2, 5, 10) if power * m * count >= span * 0.999)


def tick_label(value: float, step: float) -> str:
    """A tick as printed, with no more digits than its step needs."""
    if value and not 1e-4 <= step < 1e5:
        return f"{value:.2g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:.{decimals}f}".replace("-", "−")


def short(value: float) -> str:
    """A value in a legend, three digits that matter."""
    return "–" if not math.isfinite(value) else f"{value:#.3g}".rstrip(".").replace("-", "−")
