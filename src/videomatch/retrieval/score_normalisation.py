"""Score normalisation: how much more similar a pair is than the query is to videos that are not searched.

Some frames (black, titles, sky) are similar to everything. The score of a query frame is lowered by ``beta`` times its
largest similarity to a frame of an independent *noise* set: ``<q, r> - beta max_n <q, n>``, which may be below 0. One
more dimension holds it, so that an inner product of the new rows is the normalised score and any index can search it
(Pizzi et al., The 2023 Video Similarity Dataset and Challenge; worth 0.10 to 0.18 of its descriptor track's uAP). To
keep the size, the dimension of least variance over the noise set is dropped. The challenge forbids a noise set that
holds videos which are searched.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from videomatch.common.vectors import unit_rows

#: rows whose products with the noise set are in memory at once
ROWS = 1024


class ScoreNormalisation:
    """Fitted on a noise set; apply :meth:`queries` to one side of a search and :meth:`references` to the other. The
    challenge's participants used ``beta`` from 1 to 1.5. ``unit``: rows get length 1 after the dimension is dropped."""

    def __init__(
        self, noise: Float[np.ndarray, "N D"], *, beta: float = 1.0, drop: bool = True, unit: bool = True
    ) -> None:
        if not len(noise) or not np.isfinite(noise).all():
            raise ValueError(f"noise of shape {noise.shape}, expected at least one row of finite numbers")
        self.beta, self.unit = beta, unit
        self.dropped = int(noise.var(axis=0).argmin()) if drop else None
        self.noise = self.prepared(noise)

    def queries(self, rows: Float[np.ndarray, "L D"]) -> Float[np.ndarray, "L E"]:
        """Rows with their bias ``-beta max <q, n>`` as last column."""
        rows = self.prepared(rows)
        bias = np.empty((len(rows), 1), rows.dtype)
        for start in range(0, len(rows), ROWS):
            bias[start : start + ROWS, 0] = (rows[start : start + ROWS] @ self.noise.T).max(axis=1)
        return np.concatenate([rows, -self.beta * bias], axis=1, dtype=rows.dtype)

    def references(self, rows: Float[np.ndarray, "L D"]) -> Float[np.ndarray, "L E"]:
        """Rows with 1 as last column."""
        rows = self.prepared(rows)
        return np.concatenate([rows, np.ones_like(rows[:, :1])], axis=1)

    def prepared(self, rows: np.ndarray) -> np.ndarray:
        """Rows without the dropped dimension, of length 1 if ``unit``."""
        kept = rows if self.dropped is None else np.delete(rows, self.dropped, axis=1)
        return unit_rows(kept) if self.unit else kept
