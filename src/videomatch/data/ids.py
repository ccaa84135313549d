"""Where each id stands, for many ids in little memory.

A dict of Python objects costs some 230 bytes an id, which is what grows when a corpus of a million videos is opened.
Here the ids stay one Arrow column (16 bytes, and the text of longer ones), and are found by 64 bits of hash in a sorted
array (16 bytes more). An id that is not there is taken for one that is with a chance of N / 2^64.
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
        hashes = _hashes(self.column)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        same = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        if len(same):
            raise ValueError(self.column[int(self._order[same[0]])])

    def __len__(self) -> int:
        return len(self.column)

    def locate(self, ids: Sequence[str] | pl.Series) -> np.ndarray:
        """The position of each of ``ids``, (n,) int64; -1 for one that is not there."""
        if not len(self):
            return np.full(len(ids), -1)
        wanted = _hashes(ids)
        rows = np.minimum(np.searchsorted(self._hashes, wanted), len(self) - 1)
        return np.where(self._hashes[rows] == wanted, self._order[rows], -1)


def _hashes(ids: Sequence[str] | pl.Series) -> np.ndarray:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
