"""Experts: feature extractors for videos, one file each, named in ``params.yaml`` as ``extractor``.

A file holds a class ``Expert``, a :class:`BaseExpert` whose options are the keyword-only arguments of ``__init__``; an
option out of bounds is a ValueError. Most make a row of each item (a frame, a window of sound) by ``prepare`` and
``infer``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np

from videomatch.media.decode import FrameRequest
from videomatch.media.sound import SoundRequest


@dataclass(frozen=True)
class Windows:
    """Rows of ``length`` consecutive items: every item ``w * step`` begins a window."""

    length: int
    step: int
    fill: Literal["last", "zeros"] = "last"  # follows the last item of a video: that item again, or zeros


@dataclass(frozen=True)
class Text:
    """A text of a video: from when to when (s), in which language, and how sure its reader is, in [0, 1], if known."""

    text: str
    start: float | None
    end: float | None
    language: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Extracted:
    """The end of a video's extraction."""

    rows: np.ndarray  # the last prepared rows (n, …), after those that ``update`` returned
    times: np.ndarray  # start and end of all rows of the video, (rows, 2) seconds
    texts: Sequence[Text] = ()  # the text of every row; empty for an expert that reads none


class VideoExtractor(Protocol):
    """The extraction of one video by one expert, in one thread."""

    def update(self, items: np.ndarray, first: int) -> np.ndarray:
        """The prepared rows ``(m, …)`` that ``(n, …)`` further items complete; the first item is number ``first``."""
        ...

    def finalize(self, times: np.ndarray) -> Extracted:
        """The rest of the rows, and the times of all; ``times`` are those of the items, ``(items, 2)`` seconds."""
        ...


class BaseExpert:
    """What every expert has, with defaults. Rows are independent of each other, up to rounding."""

    shape: tuple[int, ...]  # of one stored row
    dtype: str = "float16"  # of the store
    request: FrameRequest | SoundRequest | None = None  # what the expert reads of the media
    windows: Windows | None = None  # how items are grouped to rows; None: each item is a row
    batch: int = 0  # prepared rows of one call of ``infer``; 0 if they are finished rows already
    about: Mapping[str, Any] = MappingProxyType({})  # what else made the features, kept with the store as JSON
    text_kind: str | None = None  # of the texts of its rows (ocr, asr), written to a table beside them

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """``(n, …)`` items of one video to what is batched across videos. Runs in the decoding threads."""
        return values

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """``(n, …)`` prepared rows, or ``(n, length, …)`` windows of them, to ``(n, *shape)`` finished ones."""
        return batch

    def start(self, video_id: str) -> VideoExtractor:
        """Begin a video. Called in many threads."""
        return ItemExtractor(self)

    def set_corpus(self, corpus: Path, shard: int) -> None:
        """Take what the corpus knows of the videos of a shard, before anything else is asked."""

    def released_features(
        self, name: str, ids: Collection[str], corpus: str | None, raw: Path | None
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]] | None:
        """Existing features ``(video id, values (L, dim), times (L, 2) in seconds)``; None for an expert that computes
        them. ``corpus`` is the reader of ``corpora/``, ``raw`` its folder of files."""
        return None

    @property
    def no_rows(self) -> np.ndarray:
        """No finished row."""
        return np.zeros((0, *self.shape), self.dtype)


class ItemExtractor:
    """One row per item, or per window of items. Windows that overlap share memory."""

    def __init__(self, expert: BaseExpert) -> None:
        self.expert = expert
        self.count = 0  # items
        self.begin = 0  # item with which the next window begins
        self.held: np.ndarray | None = None  # prepared items from there on

    def update(self, items: np.ndarray, first: int) -> np.ndarray:
        rows = self.expert.prepare(items)
        self.count += len(rows)
        windows = self.expert.windows
        if windows is None:
            return rows
        held = rows if self.held is None else np.concatenate([self.held, rows])
        held = held[max(0, self.begin - (self.count - len(held))) :]  # without the items between two windows
        complete = max(0, (len(held) - windows.length) // windows.step + 1)
        self.begin += complete * windows.step
        self.held = held[complete * windows.step :]
        return _cut(held, complete, windows)

    def finalize(self, times: np.ndarray) -> Extracted:
        """A window's time is that of its own items, without the filling."""
        windows, held = self.expert.windows, self.held
        count = min(self.count, len(times))
        if windows is None:
            return Extracted(self.expert.no_rows, times[:count])
        rows = np.zeros((0, windows.length), np.uint8)
        if held is not None and len(held):
            begun = -(-len(held) // windows.step)
            missing = (begun - 1) * windows.step + windows.length - len(held)
            last = held[-1:] if windows.fill == "last" else np.zeros_like(held[-1:])
            rows = _cut(np.concatenate([held, np.repeat(last, missing, axis=0)]), begun, windows)
        start = np.arange(0, count, windows.step)
        end = np.minimum(start + windows.length, count) - 1
        return Extracted(rows, np.stack([times[start, 0], times[end, 1]], axis=1))


def _cut(items: np.ndarray, count: int, windows: Windows) -> np.ndarray:
    """The first ``count`` windows of ``items``: ``(count, length, …)``, a view."""
    if not count:
        return items[:0, None].repeat(windows.length, 1)
    views = np.lib.stride_tricks.sliding_window_view(items, windows.length, axis=0)
    return np.moveaxis(views[: count * windows.step : windows.step], -1, 1)


def seconds(value: float) -> Fraction:
    """A number of seconds as it was written, more than 0: 0.1 is a tenth and not the nearest binary fraction."""
    exact = Fraction(str(value))
    if exact <= 0:
        raise ValueError(f"every = {value} seconds, expected more than 0")
    return exact
