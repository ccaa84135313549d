"""An expert whose rows are not one an item: any number of faces or words, each with its own time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl

from videomatch.experts._expert import Expert


@dataclass(frozen=True)
class Found:
    """What was found in a video.

    Attributes:
        rows: ``(n, …)`` as :meth:`Reader.infer` reads them, or finished where ``batch`` is 0.
        times: ``(n, 2)`` start and end, seconds.
        texts: the words of every row; empty for an expert that reads none.
    """

    rows: np.ndarray
    times: np.ndarray
    texts: Sequence[str] = field(default=())


class Reading(Protocol):
    """One video on its way through a :class:`Reader`, in one thread."""

    def see(self, items: np.ndarray, first: int) -> None:
        """``(n, …)`` further items of the request; ``first`` is the number of the first of them."""
        ...

    def finish(self, times: np.ndarray) -> Found:
        """The rows, once all ``(items, 2)`` times of the items are known."""
        ...


@runtime_checkable
class Reader(Expert, Protocol):
    """An expert that reads videos as a whole and makes a row of whatever it finds there. Its ``request`` may be None:
    it looks at no media.

    Attributes:
        texts: kind of the texts that its words are (``ocr``, ``asr``), which are written to ``texts.parquet`` in the
            folder of the store; or None.
        reads: kind of the corpus's texts that :meth:`give` wants; or None.
    """

    texts: str | None
    reads: str | None

    def give(self, texts: pl.DataFrame) -> None:
        """The corpus's ``texts`` of the kind :attr:`reads`, before any video is read."""
        ...

    def start(self, video_id: str) -> Reading:
        """Begin a video. Called in many threads."""
        ...
