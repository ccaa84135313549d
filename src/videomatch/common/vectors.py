"""Rows of vectors."""

from collections.abc import Iterator, Sequence

import numpy as np

#: numbers that are computed with at a time
NUMBERS = 1 << 22


def unit_rows(rows: np.ndarray, dtype: type = np.float64, out: np.ndarray | None = None) -> np.ndarray:
    """Rows ``(n, D)`` scaled to length 1, computed in ``dtype``, in the type of ``rows`` (float32 at least). A row of
    zeros stays zero: its cosines are 0. They are written into ``out``, which may be ``rows``, if it is of that type."""
    rows = np.asarray(rows)
    kind = np.result_type(rows, np.float32)
    unit = np.empty(rows.shape, kind) if out is None or out.dtype != kind else out
    step = max(1, NUMBERS // max(1, rows.shape[1]))
    for first in range(0, len(rows), step):
        wide = rows[first : first + step].astype(dtype)
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        unit[first : first + step] = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit


def blocks(lengths: np.ndarray, rows: int) -> Iterator[slice]:
    """Consecutive items, of ``lengths`` rows each, with at most ``rows`` rows together, or one longer item."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        stop = max(first + 1, int(np.searchsorted(ends, ends[first] - lengths[first] + rows, side="right")))
        yield slice(first, stop)
        first = stop


def padded(rows: np.ndarray, lengths: np.ndarray, width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Runs of rows ``(sum of lengths, …)`` side by side, with zeros up to the longest or to ``width``.

    Returns:
        rows ``(B, L, …)``, and ``(B, L)`` True where a row is a run's own.
    """
    mask = np.arange(lengths.max(initial=0) if width is None else width) < lengths[:, None]
    result = np.zeros((*mask.shape, *rows.shape[1:]), rows.dtype)
    result[mask] = rows
    return result, mask


def stacked(runs: Sequence[np.ndarray], width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """:func:`padded` of separate runs."""
    return padded(np.concatenate(runs), np.array([len(run) for run in runs]), width)
