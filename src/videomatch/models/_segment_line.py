"""The line of a segment in its map: what cells it goes through, and boxes set right by it.

A network says of every cell how likely it lies on a copied segment's line (logarithm of the odds). A box is followed
along its diagonal: a straight line is fitted to the likely cells beside it (weighted least squares), and starts and
ends where the sum of the cells' log odds along it is largest, which is where the segment most likely lies if cells
speak independently. No weight is learned here.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

Boxes = Float[np.ndarray, "boxes 4"]
Shares = Float[np.ndarray, " boxes"]  # pyright: ignore[reportUndefinedVariable]

#: points along a line at which it is fitted, on each side of it, and at which it may end
ALONG, BESIDE, POINTS = 24, 8, 96
#: how far from a box's diagonal its line is looked for, as a share of its length, at first and then
FAR = (0.2, 0.06)
#: cells on either side that belong to a line's own
ACROSS = 2
#: how far log odds count for and against a line
MOST, LEAST = 3.0, -2.0
#: log odds of what is no cell of the map; and what none is beyond
OUTSIDE, SURE = -9.0, 30.0

#: where a line is looked for: along a box's diagonal and beside it, each -1 to 1 at the ends ``(2, points)``
_PLACES = np.stack(np.meshgrid(np.linspace(-0.96, 0.96, ALONG), np.linspace(-1, 1, 2 * BESIDE + 1), indexing="ij"))
_PLACES = _PLACES.reshape(2, -1).astype(np.float32)
#: what is added up over these places for the fit: 1, x, y, xx, xy, nearer ones counting more ``(points, 5)``
_along, _beside = _PLACES
_MOMENTS = np.exp(-2 * _beside**2)[:, None] * np.stack(
    [np.ones_like(_along), _along, _beside, _along**2, _along * _beside], 1
)
#: where it may end, and the middles between, as parts of the stretch that is looked at; and cells across it
_EDGES = np.arange(POINTS + 1)
_MIDDLES = ((_EDGES[:-1] + 0.5) / POINTS).astype(np.float32)
_STEPS = np.arange(-ACROSS, ACROSS + 1, dtype=np.float32)
_TURN = np.array([-1, 1], np.float32)


def on_line(
    segments: Float[Tensor, "maps segments 4"],
    there: Bool[Tensor, "maps segments"],
    shape: tuple[int, int],
) -> Bool[Tensor, "maps query_frames reference_frames"]:
    """Which cells lie on a segment's line: one of each row, or of each column where that is longer."""
    device = segments.device
    query = torch.arange(shape[0], device=device)[:, None] + 0.5
    reference = torch.arange(shape[1], device=device) + 0.5
    found = torch.zeros((len(segments), *shape), dtype=torch.bool, device=device)
    for number in range(segments.shape[1]):
        start, end, first, last = segments[:, number, :, None, None].unbind(1)
        speed = (last - first) / (end - start)
        apart = (reference - first - speed * (query - start)).abs()
        slow = (speed <= 1) & (query >= start) & (query < end)
        fast = (speed > 1) & (reference >= first) & (reference < last)
        found |= (apart <= 0.5 * speed.clamp(min=1)) & (slow | fast) & there[:, number, None, None]
    return found


def followed(
    line: Float[np.ndarray, "query_frames reference_frames"], boxes: Boxes, *, floor: float = 0.0
) -> tuple[Boxes, Shares]:
    """Boxes whose diagonals follow the likely cells, and how likely these are on the average, 0 to 1.

    Args:
        line: log odds of the cells. boxes: in frames. floor: log odds at which a cell counts neither way.
    """
    if not len(boxes):
        return boxes, np.zeros(0, boxes.dtype)
    bordered = np.full((line.shape[0] + 2, line.shape[1] + 2), OUTSIDE, np.float32)
    np.clip(line, -SURE, SURE, out=bordered[1:-1, 1:-1])
    for share in FAR:
        boxes = _fitted(bordered, boxes, share)
    return _ended(bordered, boxes, floor)


def _fitted(line: np.ndarray, boxes: Boxes, share: float) -> Boxes:
    """Boxes with their diagonals moved and turned onto the likely cells beside them, at most ``share`` of their
    length away."""
    start = boxes[:, 0::2]
    side = np.maximum(boxes[:, 1::2] - start, 0.5)
    length = np.sqrt((side * side).sum(1))
    most = np.maximum(share * length, 1.5)
    normal = side[:, ::-1] * _TURN / length[:, None]
    reach = np.array([side / 2, normal * most[:, None]]).transpose(1, 2, 0)  # (N, axes, along and beside)
    at = (start + side / 2)[:, :, None] + reach @ _PLACES
    weight = _sigmoid(_at(line, at))
    sums = (weight * weight) @ _MOMENTS
    total = np.maximum(sums[:, 0], 1e-6)
    x, y, xx, xy = (sums[:, 1:] / total[:, None]).T
    turn = (xy - x * y) / (xx - x * x + 1.6e-2)
    shift = y - turn * x
    sure = most * total / (total + 1e-2)
    first = start + normal * ((shift - turn) * sure)[:, None]
    last = start + side + normal * ((shift + turn) * sure)[:, None]
    query, reference = (last - first).T
    sane = (np.minimum(query, reference) > 0.5) & (reference > 0.2 * query) & (reference < 5 * query)
    return np.where(sane[:, None], np.array([first, last]).transpose(1, 2, 0).reshape(-1, 4), boxes)


def _ended(line: np.ndarray, boxes: Boxes, floor: float) -> tuple[Boxes, Shares]:
    """Boxes cut or drawn out along their diagonals to where these are likeliest, and the mean probability there.

    How likely a point of the line is copied is the sum over the cells beside it: exactly where the line runs does not
    matter for that.
    """
    start, side = boxes[:, 0::2], boxes[:, 1::2] - boxes[:, 0::2]
    longer = side.max(1, keepdims=True)
    more = np.minimum(np.maximum(4 / longer, 0.5), 2.0)
    whole = 1 + 2 * more
    fast = side[:, 1] > side[:, 0]
    steps = np.array([fast, ~fast]).T[:, :, None] * _STEPS
    at = (start[:, :, None] + steps)[..., None] + (side[:, :, None] * (whole * _MIDDLES - more)[:, None])[:, :, None]
    likely = np.minimum(np.maximum(_sigmoid(_at(line, at)).sum(1), 1e-4), 0.98)
    gains = np.minimum(np.maximum(np.log(likely / (1 - likely)) - floor, LEAST), MOST) * (longer * whole / POINTS)
    sums = np.zeros((len(boxes), POINTS + 1), gains.dtype)
    gains.cumsum(1, out=sums[:, 1:])
    lowest, rows = np.minimum.accumulate(sums, 1), np.arange(len(boxes))
    end = (sums - lowest).argmax(1)
    # of equally low places before the end, the last
    begin = np.maximum.accumulate(np.where(sums == lowest, _EDGES, 0), 1)[rows, end]
    inside = (_EDGES[:-1] >= begin[:, None]) & (_EDGES[:-1] < end[:, None])
    some = end > begin
    mean = (likely * inside).sum(1) / np.maximum(end - begin, 1)
    ends = np.array([begin, end]).T * (whole / POINTS) - more
    moved = start[:, :, None] + side[:, :, None] * ends[:, None]
    return np.where(some[:, None], moved.reshape(-1, 4), boxes).astype(boxes.dtype), np.where(some, mean, 0)


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def _at(bordered: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Log odds of the cells in which points ``(N, query and reference, …)`` lie, of a map with a border one cell wide,
    which is all that is outside."""
    last = np.array(bordered.shape, points.dtype).reshape(2, *(1,) * (points.ndim - 2)) - 1
    cells = np.minimum(np.maximum(points + 1, 0), last).astype(np.intp)
    return bordered.ravel()[cells[:, 0] * bordered.shape[1] + cells[:, 1]]
