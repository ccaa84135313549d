"""Where each id stands, for many ids in little memory.

A dict costs some 230 bytes an id in Python objects, which is what grows when a corpus of a million videos is opened.
Here the ids stay one Arrow column (16 bytes, and the text of longer ones), looked up by bisection in sorted order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl


class Ids:
    """Distinct ids and their positions.

    Args:
        column: the ids in the order that positions refer to.

    Raises:
        ValueError: an id stands twice; the message is that id.
    """

    def __init__(self, column: pl.Series) -> None:
        self.column = column.rechunk()
        order = None if self.column.is_sorted() else self.column.arg_sort()
        self._sorted = self.column if order is None else self.column.gather(order)
        self._order = None if order is None else order.to_numpy().astype(np.int64)
        twice = self._sorted.head(-1).filter(self._sorted.head(-1) == self._sorted.tail(-1))
        if len(twice):
            raise ValueError(twice[0])

    def __len__(self) -> int:
        return len(self.column)

    def locate(self, ids: Sequence[str] | pl.Series) -> np.ndarray:
        """The position of each of ``ids``, (n,) int64; -1 for one that is not there."""
        wanted = ids if isinstance(ids, pl.Series) else pl.Series(ids, dtype=pl.String)
        if not len(self) or not len(wanted):
            return np.full(len(wanted), -1)
        rows = np.minimum(self._sorted.search_sorted(wanted).to_numpy().astype(np.int64), len(self) - 1)
        found = (self._sorted.gather(rows) == wanted).to_numpy()
        return np.where(found, rows if self._order is None else self._order[rows], -1)
