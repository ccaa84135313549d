"""Features that a data set brings itself, or that others released: nothing is decoded, nothing computed.

A reader of ``corpora`` that has such features says so by a function ``frame_features(raw, ids)``, which yields
``(video id, values (L, dim), times (L, 2) in seconds)`` for those of ``ids`` that it has, each once, in any order and a
video at a time. The features of AIAC lie in its TFRecords. Features that come in files of their own, for any data set,
name their ``format`` and ``folder``: see :mod:`videomatch.data.released`.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

from videomatch.data import released

#: what a format's own function calls its options
FORMATS = ("mmt_h5", "npy", "bigfile")


class Expert:
    """Released features of one size.

    Args:
        dim: numbers a row.
        dtype: of the store.
        format: ``mmt_h5``, ``npy`` or ``bigfile``; None for features that the data set's reader finds.
        folder: of the files.
        name: of the expert in the files (``mmt_h5``).
        every: seconds that a row stands for, where the files do not say; None where nobody knows.
        clock: use the times that the files hold (``mmt_h5``).
        frames: rows are frames of videos (``bigfile``); None to see by the files.

    Raises:
        ValueError: an unknown format, no folder, or an option that the format does not have.
    """

    def __init__(
        self,
        *,
        dim: int,
        dtype: str = "float16",
        format: str | None = None,
        folder: str | None = None,
        name: str | None = None,
        every: float | None = None,
        clock: bool | None = None,
        frames: bool | None = None,
    ) -> None:
        self.shape = (dim,)
        self.dtype = dtype
        self.about: dict[str, Any] = {}
        self.format = format
        self.folder = None if folder is None else Path(folder).expanduser()
        given = {"name": name, "every": every, "clock": clock, "frames": frames}
        self.options = {option: value for option, value in given.items() if value is not None}
        if format is None:
            odd = [*self.options, *(["folder"] if folder is not None else [])]
            if odd:
                raise ValueError(f"released features with {', '.join(odd)}, but without `format`: {', '.join(FORMATS)}")
            return
        if format not in FORMATS:
            raise ValueError(f"no format {format!r} of released features; there are {', '.join(FORMATS)}")
        known = inspect.signature(getattr(released, format)).parameters
        odd = [option for option in self.options if option not in known]
        if odd or self.folder is None or ("name" in known and name is None):
            needed = ["folder", *(["name"] if "name" in known else [])]
            said = f"has no option {odd[0]!r}" if odd else f"needs {' and '.join(needed)}"
            raise ValueError(f"released features of format {format!r}: it {said}")

    def features(self, ids: Collection[str]) -> released.Features:
        """What the files hold of some videos, a video at a time; only where there is a ``format``."""
        assert self.format is not None
        return getattr(released, self.format)(self.folder, ids, dim=self.shape[0], **self.options)
