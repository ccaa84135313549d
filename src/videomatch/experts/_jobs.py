"""Reading videos ahead of the networks: a thread a video decodes, prepares, and queues what the experts make of it."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from videomatch.data.store import Store
from videomatch.experts._expert import Extractor
from videomatch.experts._reading import Found, Reader, Reading
from videomatch.experts._windows import Grouping, windows_of
from videomatch.media.container import Unreadable
from videomatch.media.decode import CHUNK, FrameRequest, Sampler
from videomatch.media.sound import SoundRequest

#: pieces of a video (of 32 frames) that wait for the networks before its decoding pauses
PIECES = 4
#: seconds after which a paused decoder looks whether anybody still wants its frames
POLL = 0.2
#: seconds by which stored frames may lie off the rate that an expert asks for
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Piece:
    """Some prepared rows of one expert."""

    expert: str
    rows: np.ndarray


class Job:
    """One video on its way: a thread runs :meth:`run`, the main thread takes :meth:`pieces`."""

    def __init__(
        self, video_id: str, path: str | None, experts: dict[str, Extractor | Reader], sources: dict[str, Store]
    ) -> None:
        self.video_id, self.path, self.experts, self.sources = video_id, path, experts, sources
        self.failure: str | None = None
        self.warnings: list[str] = []
        self.times: dict[str, np.ndarray] = {}
        self.found: dict[str, Found] = {}
        self._readings: dict[str, Reading] = {}
        self._groups = {name: Grouping(w) for name, e in experts.items() if (w := windows_of(e)) is not None}
        self._queue: queue.Queue[Piece | None] = queue.Queue(PIECES)
        self.future: Future[None] | None = None

    def run(self, stop: threading.Event) -> None:
        """Read the video and queue its prepared rows."""
        torch.set_num_threads(1)
        try:
            for piece in self._read():
                if not self._put(piece, stop):
                    return
        except Unreadable as error:
            self.failure = str(error)
        finally:
            self._put(None, stop)

    def pieces(self) -> Iterator[Piece]:
        """What :meth:`run` queues, until it is done; errors of our own making are raised here."""
        while (piece := self._queue.get()) is not None:
            yield piece
        assert self.future is not None
        self.future.result()

    def _put(self, piece: Piece | None, stop: threading.Event) -> bool:
        while not stop.is_set():
            try:
                self._queue.put(piece, timeout=POLL)
                return True
            except queue.Full:
                continue
        return False

    def _read(self) -> Iterator[Piece]:
        readers = {name: expert for name, expert in self.experts.items() if isinstance(expert, Reader)}
        self._readings = {name: expert.start(self.video_id) for name, expert in readers.items()}
        for name, store in self.sources.items():
            if self.video_id not in store:
                raise Unreadable(f"there are no frames of it for expert {name!r}")
            times = store.times(self.video_id)
            frames = store[self.video_id]
            if name in self._groups and times is not None:
                self._check_rate(name, times)
            self.times[name] = np.zeros((len(frames), 2)) if times is None else times
            for start in range(0, len(frames), CHUNK):
                yield from self._rows(name, frames[start : start + CHUNK], start)
        wishes = {name: e.request for name, e in self.experts.items() if name not in self.sources}
        if media := {name: wish for name, wish in wishes.items() if wish is not None}:
            yield from self._decode(media)
        for name, group in self._groups.items():
            rows = group.finish()
            if len(rows):
                yield Piece(name, rows)
            self.times[name] = group.times(self.times[name])
        for name, reading in self._readings.items():
            self.found[name] = found = reading.finish(self.times.get(name, np.zeros((0, 2))))
            self.times[name] = found.times
            if len(found.rows):
                yield Piece(name, found.rows)

    def _rows(self, name: str, values: np.ndarray, first: int) -> Iterator[Piece]:
        """What an expert makes at once of some items, the first of them number ``first``; windows if it wants those."""
        expert = self.experts[name]
        if isinstance(expert, Reader):
            self._readings[name].see(values, first)
            return
        rows = expert.prepare(values)
        if name in self._groups:
            rows = self._groups[name].add(rows)
        if len(rows):
            yield Piece(name, rows)

    def _check_rate(self, name: str, times: np.ndarray) -> None:
        """Windows of stored frames last as long as they say only if the frames were stored at their rate."""
        every = float(self.experts[name].request.every)  # pyright: ignore[reportOptionalMemberAccess]
        gaps = np.diff(times[:, 0])
        if len(gaps) and abs(gaps - every).max() > TOLERANCE:
            found = gaps[abs(gaps - every).argmax()]
            raise ValueError(
                f"expert {name!r} reads a frame every {every:g} s, but the stored ones of video {self.video_id!r} lie "
                f"{found:g} s apart"
            )

    def _decode(self, media: dict[str, FrameRequest | SoundRequest]) -> Iterator[Piece]:
        """The rows of those experts that look at the file."""
        if self.path is None:
            raise Unreadable("the corpus names no file for it")
        if not Path(self.path).exists():
            # prepare has read it: a disk that went away is no reason to write its videos off
            raise FileNotFoundError(f"{self.path} was there when the corpus was prepared and is gone now")
        names = list(media)
        sampler = Sampler(Path(self.path), list(media.values()))
        for chunk in sampler:
            yield from self._rows(names[chunk.request], chunk.values, chunk.first)
        self.times |= {name: sampler.times(number) for number, name in enumerate(names)}
        self.warnings = sampler.warnings


def ahead(jobs: Iterator[Job], threads: int) -> Iterator[Job]:
    """Hand on the jobs in order while threads work on the next ones."""
    stop = threading.Event()
    started: deque[Job] = deque()
    with ThreadPoolExecutor(threads, "decode") as decoders:
        try:
            for job in jobs:
                job.future = decoders.submit(job.run, stop)
                started.append(job)
                if len(started) > 2 * threads:
                    yield started.popleft()
            while started:
                yield started.popleft()
        finally:
            stop.set()
