"""Readers of data sets, one per file: ``datasets: {videos: {corpus: msrvtt, …}}`` is read by ``corpora/msrvtt.py``.

What a reader's module must have is :class:`Reader`, what it may have :class:`FeatureReader` and :class:`CardWriter`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl


class Reader(Protocol):
    """A module that reads a data set.

    Attributes:
        read: ``read(*, raw, **options)``. ``raw`` is the folder of the data set's files; the other keyword-only
            arguments are ``datasets.<name>.options`` of the parameters. (``generated``, which makes its own data, takes
            the rendered folders instead of ``raw``.) It returns tables of :mod:`videomatch.data.tables` by name:
            ``videos`` (``path`` null where there is no file; what probing fills may be absent), ``texts``, ``splits``,
            ``relevance``, ``rejected``, and where the data set has them ``segments``, ``edits``, ``sources``,
            ``strata``. A ValueError names the file and what was expected.
    """

    read: Callable[..., dict[str, pl.DataFrame]]


@runtime_checkable
class FeatureReader(Protocol):
    """A module whose data set comes with features of frames (``extractor: released``)."""

    def frame_features(
        self, raw: Path, ids: Collection[str] | None = None
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """The features of videos, one video in memory at a time.

        Args:
            raw: the folder of the data set's files.
            ids: only these videos (a set, where there are many), None for all.

        Yields:
            video id, rows (L, D) as stored, start and end of each row (L, 2) in seconds; every id once.
        """
        ...


@runtime_checkable
class CardWriter(Protocol):
    """A module that writes its own ``card.md`` and ``contact_sheet.jpg``, instead of those of every data set."""

    def card(self, *, output: Path, tables: dict[str, pl.DataFrame], seed: int, options: dict[str, Any]) -> None:
        """Write both into ``output``; ``tables``, ``seed`` and ``options`` are those of ``prepare``."""
        ...
