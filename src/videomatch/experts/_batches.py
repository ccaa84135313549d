"""Batches across videos, in an order that no thread's timing can change.

Rows of one expert arrive video after video; every ``batch`` of them go to the network whatever video they are from, and
come back into the videos they belong to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np

from videomatch.experts._expert import Expert


@dataclass
class _Video:
    """A video of which rows are on their way."""

    video_id: str
    times: np.ndarray | None = None
    expected: int = 0
    is_closed: bool = False
    rows: list[np.ndarray] = field(default_factory=list)
    num_rows: int = 0


class Batches:
    """The rows of one expert on their way from videos through batches to ``write``.

    Args:
        expert: whose rows.
        executor: where batches are computed.
        in_flight: batches that may be computed or wait for it at a time.
        write: called with each finished video in order: id, ``(L, *shape)`` rows, ``(L, 2)`` times.
    """

    def __init__(
        self,
        expert: Expert,
        executor: Executor,
        in_flight: int,
        write: Callable[[str, np.ndarray, np.ndarray], None],
    ) -> None:
        self.expert, self.executor, self.in_flight, self.write = expert, executor, in_flight, write
        self.videos: deque[_Video] = deque()
        self.waiting: list[np.ndarray] = []
        self.num_waiting = 0
        self.computed: deque[Future[np.ndarray]] = deque()
        self.returned: deque[np.ndarray] = deque()

    def begin(self, video_id: str) -> None:
        """The rows that follow belong to this video."""
        self.videos.append(_Video(video_id))

    def add(self, prepared: np.ndarray) -> None:
        """Some rows of the video that was begun last."""
        self.videos[-1].expected += len(prepared)
        if not self.expert.batch:
            self.returned.append(prepared)
            return
        self.waiting.append(prepared)
        self.num_waiting += len(prepared)
        while self.num_waiting >= self.expert.batch:
            self._send(self.expert.batch)

    def end(self, times: np.ndarray | None) -> None:
        """The video is complete; ``times`` None: it is to be forgotten."""
        self.videos[-1].times = times
        self.videos[-1].is_closed = True
        self._hand_out()

    def finish(self) -> None:
        """Compute the last, smaller batch and wait for everything."""
        if self.num_waiting:
            self._send(self.num_waiting)
        while self.computed:
            self.returned.append(self.computed.popleft().result())
        self._hand_out()

    def _send(self, count: int) -> None:
        rows = np.concatenate(self.waiting) if len(self.waiting) > 1 else self.waiting[0]
        self.waiting = [rows[count:]] if len(rows) > count else []
        self.num_waiting -= count
        while len(self.computed) >= self.in_flight:
            self.returned.append(self.computed.popleft().result())
        self.computed.append(self.executor.submit(self.expert.infer, rows[:count]))

    def _hand_out(self) -> None:
        """Give what came back to the videos, and write those that are complete."""
        while self.videos:
            video = self.videos[0]
            while self.returned and video.num_rows < video.expected:
                rows = self.returned.popleft()
                count = min(len(rows), video.expected - video.num_rows)
                video.rows.append(rows[:count])
                video.num_rows += count
                if count < len(rows):
                    self.returned.appendleft(rows[count:])
            if not video.is_closed or video.num_rows < video.expected:
                return
            self.videos.popleft()
            if video.times is not None:
                empty = np.zeros((0, *self.expert.shape), self.expert.dtype)
                rows = np.concatenate(video.rows) if video.rows else empty
                self.write(video.video_id, rows, video.times[: len(rows)])
