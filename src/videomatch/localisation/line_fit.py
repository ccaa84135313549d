"""A fit of the boxes of segments in a map to the lines of these.

From log odds of every cell that a segment's line passes through it, :func:`fit_lines` moves the diagonal of a box onto
the likely cells beside it (weighted least squares), and its ends to where the sum of the cells' log odds along it is
largest: the most likely segment if cells are independent. Boxes are in frames, half open.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from videomatch.metrics.segments import ENDS, STARTS

Boxes = Float[np.ndarray, "boxes 4"]
Scores = Float[np.ndarray, " boxes"]

#: points along a line at which it is fitted, on each side of it, and at which it may end
ALONG, BESIDE, POINTS = 24, 8, 96
#: max distance of the line from a box's diagonal, relative to its length: in the first step, in the second
DISTANCES = (0.2, 0.06)
#: cells on either side that count as the line's
ACROSS = 2
#: limits of the log odds of a point on the line
MIN_GAIN, MAX_GAIN = -2.0, 3.0
#: log odds outside the map, and the limit of their absolute value
OUTSIDE, LIMIT = -9.0, 30.0

#: points at which the map is sampled, along a box's diagonal and beside it, -1 to 1 on each axis (2, points)
_PLACES = np.stack(np.meshgrid(np.linspace(-0.96, 0.96, ALONG), np.linspace(-1, 1, 2 * BESIDE + 1), indexing="ij"))
_PLACES = _PLACES.reshape(2, -1).astype(np.float32)
#: moments 1, x, y, xx, xy of these points, weighted by nearness (points, 5)
_along, _beside = _PLACES
_MOMENTS = np.exp(-2 * _beside**2)[:, None] * np.stack(
    [np.ones_like(_along), _along, _beside, _along**2, _along * _beside], 1
)
#: possible ends of a line, the middles between as fractions of the sampled length, and offsets of cells across it
_EDGES = np.arange(POINTS + 1)
_MIDDLES = ((_EDGES[:-1] + 0.5) / POINTS).astype(np.float32)
_STEPS = np.arange(-ACROSS, ACROSS + 1, dtype=np.float32)
_TURN = np.array([-1, 1], np.float32)


def fit_lines(
    log_odds: Float[np.ndarray, "query_frames reference_frames"], boxes: Boxes, *, floor: float = 0.0
) -> tuple[Boxes, Scores]:
    """Boxes whose diagonals follow the likely cells, and the mean probability of these, 0 to 1; at log odds of
    ``floor`` a cell counts neither for nor against the line."""
    if not len(boxes):
        return boxes, np.zeros(0, boxes.dtype)
    bordered = np.full((log_odds.shape[0] + 2, log_odds.shape[1] + 2), OUTSIDE, np.float32)
    np.clip(log_odds, -LIMIT, LIMIT, out=bordered[1:-1, 1:-1])
    for distance in DISTANCES:
        boxes = _fit_diagonals(bordered, boxes, distance)
    return _fit_ends(bordered, boxes, floor)


def _fit_diagonals(bordered: np.ndarray, boxes: Boxes, distance: float) -> Boxes:
    """Boxes with their diagonals moved and turned onto the likely cells within ``distance`` times their length."""
    start = boxes[:, STARTS]
    side = np.maximum(boxes[:, ENDS] - start, 0.5)
    length = np.sqrt((side * side).sum(1))
    most = np.maximum(distance * length, 1.5)
    normal = side[:, ::-1] * _TURN / length[:, None]
    reach = np.array([side / 2, normal * most[:, None]]).transpose(1, 2, 0)  # (N, axes, along and beside)
    at = (start + side / 2)[:, :, None] + reach @ _PLACES
    weight = _sigmoid(_sample(bordered, at))
    sums = (weight * weight) @ _MOMENTS
    total = np.maximum(sums[:, 0], 1e-6)
    x, y, xx, xy = (sums[:, 1:] / total[:, None]).T
    slope = (xy - x * y) / (xx - x * x + 1.6e-2)
    offset = y - slope * x
    confidence = most * total / (total + 1e-2)
    first = start + normal * ((offset - slope) * confidence)[:, None]
    last = start + side + normal * ((offset + slope) * confidence)[:, None]
    query, reference = (last - first).T
    is_valid = (np.minimum(query, reference) > 0.5) & (reference > 0.2 * query) & (reference < 5 * query)
    return np.where(is_valid[:, None], np.array([first, last]).transpose(1, 2, 0).reshape(-1, 4), boxes)


def _fit_ends(bordered: np.ndarray, boxes: Boxes, floor: float) -> tuple[Boxes, Scores]:
    """Boxes shortened or extended along their diagonals to the most likely ends, and the mean probability between: of a
    point of the line, the sum over the cells beside it, which does not depend on the exact position of the line."""
    start, side = boxes[:, STARTS], boxes[:, ENDS] - boxes[:, STARTS]
    longer = side.max(1, keepdims=True)
    more = np.minimum(np.maximum(4 / longer, 0.5), 2.0)
    whole = 1 + 2 * more
    is_fast = side[:, 1] > side[:, 0]
    steps = np.array([is_fast, ~is_fast]).T[:, :, None] * _STEPS
    at = (start[:, :, None] + steps)[..., None] + (side[:, :, None] * (whole * _MIDDLES - more)[:, None])[:, :, None]
    likely = np.minimum(np.maximum(_sigmoid(_sample(bordered, at)).sum(1), 1e-4), 0.98)
    log_odds = np.log(likely / (1 - likely)) - floor
    gains = np.minimum(np.maximum(log_odds, MIN_GAIN), MAX_GAIN) * (longer * whole / POINTS)
    sums = np.zeros((len(boxes), POINTS + 1), gains.dtype)
    gains.cumsum(1, out=sums[:, 1:])
    lowest, rows = np.minimum.accumulate(sums, 1), np.arange(len(boxes))
    end = (sums - lowest).argmax(1)
    # of equally low places before the end, the last
    begin = np.maximum.accumulate(np.where(sums == lowest, _EDGES, 0), 1)[rows, end]
    inside = (_EDGES[:-1] >= begin[:, None]) & (_EDGES[:-1] < end[:, None])
    is_found = end > begin
    mean = (likely * inside).sum(1) / np.maximum(end - begin, 1)
    ends = np.array([begin, end]).T * (whole / POINTS) - more
    fitted = (start[:, :, None] + side[:, :, None] * ends[:, None]).reshape(-1, 4)
    return np.where(is_found[:, None], fitted, boxes).astype(boxes.dtype), np.where(is_found, mean, 0)


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


def _sample(bordered: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Log odds of the cells at points ``(N, query and reference, …)``, of a map with a border of one cell."""
    last = np.array(bordered.shape, points.dtype).reshape(2, *(1,) * (points.ndim - 2)) - 1
    cells = np.minimum(np.maximum(points + 1, 0), last).astype(np.intp)
    return bordered.ravel()[cells[:, 0] * bordered.shape[1] + cells[:, 1]]
