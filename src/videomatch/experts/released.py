"""Features that are copied instead of computed: those of the data set itself, or others that were released.

The data set's own come from its reader (:class:`videomatch.corpora.FeatureReader`). Features in other
files, for any data set, name their ``format`` and ``folder``: see :mod:`videomatch.data.released`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from videomatch.common import named
from videomatch.corpora import FeatureReader
from videomatch.data import released
from videomatch.experts import BaseExpert

FORMATS: dict[str, Callable[..., released.Features]] = {
    function.__name__: function for function in (released.mmt_h5, released.npy, released.bigfile)
}


class Expert(BaseExpert):
    """Released features of ``dim`` numbers per row. ``format`` is None for those that the data set's reader finds;
    ``folder`` and the options after it are the format's."""

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
        self.shape, self.dtype, self.format = (dim,), dtype, format
        path = None if folder is None else Path(folder).expanduser()
        given = {"folder": path, "name": name, "every": every, "clock": clock, "frames": frames}
        self.options: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
        if format is None:
            if self.options:
                options, formats = ", ".join(self.options), ", ".join(FORMATS)
                raise ValueError(f"released features with {options}, but without `format`: {formats}")
            return
        if format not in FORMATS:
            raise ValueError(f"no format {format!r} of released features; there are {', '.join(FORMATS)}")
        try:
            inspect.signature(FORMATS[format]).bind(ids=(), dim=dim, **self.options)
        except TypeError as error:
            raise ValueError(f"released features of format {format!r}: {error}") from error

    def released_features(
        self, name: str, ids: Collection[str], corpus: str | None, raw: Path | None
    ) -> released.Features:
        if self.format is not None:
            return FORMATS[self.format](ids=ids, dim=self.shape[0], **self.options)
        if corpus is None or raw is None:
            raise ValueError(f"{name!r} reads released features, but the data set has no `raw:` folder to find them in")
        reader = named.module("corpora", corpus)
        if not isinstance(reader, FeatureReader):
            raise ValueError(f"{name!r} reads released features, but corpora/{corpus}.py has none")
        return reader.frame_features(raw, frozenset(ids))
