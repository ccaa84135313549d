"""Readers of data sets, one per file: ``datasets: {videos: {corpus: msrvtt, …}}`` is read by ``corpora/msrvtt.py``.

A reader's module has a function ``read(*, raw, **options)``. ``raw`` is the folder of the data set's files; the other
keyword-only arguments are ``datasets.<name>.options`` of the parameters. (``generated``, which makes its own data,
takes the rendered folders instead of ``raw``.) It returns tables of :mod:`videomatch.data.tables` by name, which
``prepare`` checks: ``videos`` (``path`` null where there is no file; what probing fills may be absent), and those of
``texts``, ``splits``, ``relevance``, ``rejected``, ``segments``, ``edits``, ``sources``, ``strata`` that the data set
has. A ValueError names the file and what was expected.

A module may also be a :class:`FeatureReader`, and have a function ``card(*, seed, options)``, which gives groups of
numbers for its ``card.md``.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class FeatureReader(Protocol):
    """A module whose data set comes with features of frames (``extractor: released``)."""

    def frame_features(
        self, raw: Path, ids: Collection[str] | None = None
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """The features of videos (of ``ids``, or all), one video in memory at a time: video id, rows (L, D) as stored,
        start and end of each row (L, 2) in seconds; every id once."""
        ...
