"""Dynamic programming: paths of largest summed similarity, taken one after the other.

Chou, Chen and Lee, Pattern-based near-duplicate video retrieval and localization on web-scale videos, IEEE TMM 2015
(mPDP), as in VCSL. On ``s = similarity + 1``: ``D[i, j] = max(D[i-1, j-1] + s, D[i-1, j] + s/2, D[i, j-1] + s/2)``, the
first of equal ones; a path that was below ``min_similarity`` for more than ``gap`` cells begins anew. From the largest
D the path is followed back, its bounding box taken out, and so on, up to 100 times. A path is cut where it runs along
one axis for more than ``max_straight`` cells; parts with more than ``min_length`` cells and frames on both axes, and a
mean similarity over ``mean_similarity``, are segments.

VCSL's published threshold 0.2, and TransVCL's 0.9 (with ``gap`` 3), are compared with ``similarity + 1``: they are
cosines of -0.8 and -0.1, which few pairs of frames are below, so paths hardly ever end.
# Deviation: by default the threshold is higher, and a segment is trimmed to its matches and cut where more than ``gap``
cells in a row are below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from videomatch.aligners import Map, Segments
from videomatch.localisation.map_paths import along, checked, diagonals, skewed

GRIDS: dict[str, dict[str, list[Any]]] = {
    "published": {
        "gap": [9, 10],
        "min_similarity": [-0.8, -0.7],
        "mean_similarity": [0.1, 0.2, 0.3],
        "max_straight": [10, 20, 30, 40, 50],
        "published": [True],
    },
    "ours": {"min_similarity": [0.4, 0.5, 0.6, 0.7, 0.8], "mean_similarity": [0.4, 0.6], "min_length": [5, 10, 15]},
}
#: max number of paths
PATHS = 100
#: the previous cell of a path: none, or one of three neighbours
NONE, DIAGONAL, UP, LEFT = 255, 0, 1, 2


def align(
    similarity: Map,
    *,
    gap: int = 3,
    min_similarity: float = 0.5,
    mean_similarity: float = 0.4,
    min_length: int = 5,
    max_straight: int = 10,
    published: bool = False,
) -> Segments:
    """Segments ``(N, 5)`` in frames, with options as above; ``published``: paths are not trimmed."""
    values = checked(similarity)
    return along(
        values,
        paths(*table(values, gap=gap, min_similarity=min_similarity)[:2]) if values.size else [],
        straight=max_straight,
        gap=gap,
        min_similarity=min_similarity,
        mean_similarity=mean_similarity,
        min_length=min_length,
        published=published,
    )


def table(values: np.ndarray, *, gap: int, min_similarity: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """D, the moves of its paths, and how many cells in a row did not match; each ``(Q, R)``."""
    total, sums = skewed(values.shape, np.float64)
    step, moves = skewed(values.shape, np.uint8)
    count, missed = skewed(values.shape, np.int32)
    low, is_low = skewed(values.shape, np.int32)
    sums[:], moves[:], is_low[:] = values + 1, NONE, values < min_similarity
    for number, first, stop in diagonals(values.shape):
        row, back = slice(first, stop), slice(first - 1, stop - 1)
        here = total[number, row]
        half = here / 2
        best, up, left = total[number - 2, back] + here, total[number - 1, back] + half, total[number - 1, row] + half
        by_up = up > best
        np.maximum(best, up, out=best)
        by_left = left > best
        np.maximum(best, left, out=best)
        move = by_up.view(np.uint8)  # DIAGONAL or UP
        missing = count[number - 2, back].copy()
        np.copyto(missing, count[number - 1, back], where=by_up)
        np.copyto(missing, count[number - 1, row], where=by_left)
        missing += 1
        missing *= low[number, row]
        count[number, row] = missing
        on = missing <= gap
        np.copyto(move, LEFT, where=by_left)
        np.copyto(here, best, where=on)
        np.copyto(step[number, row], move, where=on)
    return np.ascontiguousarray(sums), np.ascontiguousarray(moves), np.ascontiguousarray(missed)


def paths(sums: np.ndarray, moves: np.ndarray) -> Iterator[np.ndarray]:
    """Paths ``(L, 2)`` by descending sum, each outside the bounding boxes of the others. ``sums`` is overwritten."""
    columns = sums.shape[1]
    back = {DIAGONAL: columns + 1, UP: columns, LEFT: 1}
    came = moves.tobytes()
    taken = np.zeros(sums.size, np.uint8)
    is_taken, grid = memoryview(taken.data), taken.reshape(sums.shape)
    for _ in range(PATHS):
        at = int(sums.argmax())
        if is_taken[at]:
            return
        path = [at]
        while came[at] != NONE:
            at -= back[came[at]]
            if is_taken[at]:
                break
            path.append(at)
        cells = np.stack(np.divmod(np.array(path[::-1]), columns), axis=1)
        (q_low, r_low), (q_high, r_high) = cells[0].tolist(), cells[-1].tolist()
        box = np.s_[q_low : q_high + 1, r_low : r_high + 1]
        sums[box] = -np.inf
        grid[box] = 1
        yield cells
