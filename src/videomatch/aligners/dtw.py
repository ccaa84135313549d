"""Dynamic time warping: one cheapest path from corner to corner of the map, cut where nothing matches.

As in VCSL (Sakoe and Chiba's recursion over ``1 - similarity``, as in tslearn): ``C[i, j] = 1 - s + min(C[i-1, j-1],
C[i-1, j], C[i, j-1])``, followed back from the last corner, the first of equal ones. The path is cut where it runs
along one axis for more than ``gap`` cells; parts with more than ``min_length`` cells and frames on both axes, and a
mean similarity over ``min_similarity``, are segments. One monotone path cannot find segments in another order.
# Deviation: by default a part is trimmed to cells of at least ``min_similarity``, and cut where more than ``gap`` cells
in a row are below it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from videomatch.aligners import Map, Segments
from videomatch.localisation.map_paths import along, checked, diagonals, skewed

GRIDS: dict[str, dict[str, list[Any]]] = {
    "published": {"gap": [9, 10], "min_similarity": [0.2, 0.3], "published": [True]},
    "ours": {"gap": [3, 6], "min_similarity": [0.3, 0.4, 0.5, 0.6, 0.7, 0.8], "min_length": [5, 10, 15]},
}


def align(
    similarity: Map, *, gap: int = 6, min_similarity: float = 0.4, min_length: int = 5, published: bool = False
) -> Segments:
    """Segments ``(N, 5)`` in frames, with options as above; ``published``: parts are not trimmed."""
    values = checked(similarity)
    return along(
        values,
        [cheapest_path(1 - values)] if values.size else [],
        straight=gap,
        gap=gap,
        min_similarity=min_similarity,
        mean_similarity=min_similarity,
        min_length=min_length,
        published=published,
    )


def cheapest_path(cost: np.ndarray) -> np.ndarray:
    """Cells ``(L, 2)`` of the cheapest monotone path through ``cost (Q, R)``, corner to corner."""
    rows, columns = cost.shape
    memory, matrix = skewed((rows, columns), np.float64)
    matrix[:] = cost
    matrix[0], matrix[:, 0] = np.cumsum(cost[0]), np.cumsum(cost[:, 0])
    for number, first, stop in diagonals(cost.shape):
        before = memory[number - 1]
        cheapest = np.minimum(before[first - 1 : stop - 1], memory[number - 2, first - 1 : stop - 1])
        memory[number, first:stop] += np.minimum(cheapest, before[first:stop])
    total = matrix.ravel()
    view = memoryview(total.data)
    at = rows * columns - 1
    path = [at]
    while at:
        row, column = divmod(at, columns)
        if not row:
            at -= 1
        elif not column:
            at -= columns
        else:
            diagonal, up, left = view[at - columns - 1], view[at - columns], view[at - 1]
            if diagonal <= up and diagonal <= left:
                at -= columns + 1
            else:
                at -= columns if up <= left else 1
        path.append(at)
    return np.stack(np.divmod(np.array(path[::-1]), columns), axis=1)
