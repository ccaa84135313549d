"""Rows that are made of several consecutive items: how the pictures or sounds of a video are dealt to windows.

Window w begins with item ``w * step`` and holds ``length`` items; there is a window as long as there is an item to
begin it with. What a window lacks at the end of a video is filled up. An expert that wants windows says so by an
attribute ``windows``; one without it makes a row of every item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Windows:
    """What one row is made of.

    Attributes:
        length: items of a window.
        step: items from the begin of a window to that of the next; fewer than ``length`` for windows that overlap.
        fill: what follows the last item of a video: that item again, or zeros.

    Raises:
        ValueError: a window is empty or stands still.
    """

    length: int
    step: int
    fill: Literal["last", "zeros"] = "last"

    def __post_init__(self) -> None:
        if self.length < 1 or self.step < 1:
            raise ValueError(f"windows of {self.length} items every {self.step} items, expected at least 1 of both")


class Grouping:
    """The items of one video on their way into windows. Windows that overlap share memory; nothing is copied twice.

    Attributes:
        count: items that came.
    """

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.count = 0
        self._held: np.ndarray | None = None  # items from the begin of the next window on
        self._skip = 0  # items to come that lie between two windows

    def add(self, items: np.ndarray) -> np.ndarray:
        """``(n, …)`` items that follow those before, to the windows ``(m, length, …)`` that are complete with them."""
        length, step = self.windows.length, self.windows.step
        self.count += len(items)
        held = items if self._held is None or not len(self._held) else np.concatenate([self._held, items])
        dropped = min(self._skip, len(held))
        held = held[dropped:]
        complete = max(0, (len(held) - length) // step + 1)
        self._skip += max(0, complete * step - len(held)) - dropped
        self._held = held[complete * step :]
        return self._cut(held, complete)

    def finish(self) -> np.ndarray:
        """The windows ``(m, length, …)`` that go on after the last item."""
        held = self._held
        if held is None or not len(held):
            return np.zeros((0, self.windows.length), np.uint8) if held is None else self._cut(held, 0)
        begun = -(-len(held) // self.windows.step)
        missing = (begun - 1) * self.windows.step + self.windows.length - len(held)
        last = held[-1:] if self.windows.fill == "last" else np.zeros_like(held[-1:])
        return self._cut(np.concatenate([held, np.repeat(last, missing, axis=0)]), begun)

    def times(self, items: np.ndarray) -> np.ndarray:
        """``(n, 2)`` start and end of the items of a video to those of the windows: from the start of the first of its
        own items to the end of the last (what it was filled up with has no time)."""
        first = np.arange(0, min(self.count, len(items)), self.windows.step)
        last = np.minimum(first + self.windows.length, min(self.count, len(items))) - 1
        return np.stack([items[first, 0], items[last, 1]], axis=1)

    def _cut(self, items: np.ndarray, count: int) -> np.ndarray:
        """The first ``count`` windows of ``items``, a view."""
        length, step = self.windows.length, self.windows.step
        if not count:
            return items[:0, None].repeat(length, 1)
        views = np.lib.stride_tricks.sliding_window_view(items, length, axis=0)[: count * step : step]
        return np.moveaxis(views, -1, 1)


def windows_of(expert: Any) -> Windows | None:
    """The windows that an expert asks for; None if each item is a row."""
    return getattr(expert, "windows", None)
