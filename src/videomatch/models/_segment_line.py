"""The line of a segment in its map: what cells it goes through, and boxes set right by it.

A network says of every cell how likely it lies on a copied segment's line (logarithm of the odds). A box is followed
along its diagonal: a straight line is fitted to the likely cells beside it (weighted least squares), and starts and
ends where the sum of the cells' log odds along it is largest, which is where the segment most likely lies if cells
speak independently. No weight is learned here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

#: points along a line at which it is fitted, on each side of it, and at which it may end
ALONG, BESIDE, POINTS = 24, 8, 96
#: how far from a box's diagonal its line is looked for, as a share of its length, at first and then
FAR = (0.2, 0.06)
#: cells on either side that belong to a line's own
ACROSS = 2
#: how far log odds count for and against a line
MOST, LEAST = 3.0, -2.0
#: log odds of what is no cell of the map
OUTSIDE = -9.0


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
    line: Float[Tensor, "query_frames reference_frames"], boxes: Float[Tensor, "boxes 4"], *, floor: float = 0.0
) -> tuple[Float[Tensor, "boxes 4"], Float[Tensor, " boxes"]]:  # pyright: ignore[reportUndefinedVariable]
    """Boxes whose diagonals follow the likely cells, and how likely these are on the average, 0 to 1.

    Args:
        line: log odds of the cells. boxes: in frames. floor: log odds at which a cell counts neither way.
    """
    if not len(boxes):
        return boxes, boxes.new_zeros(0)
    line = F.pad(line, (1, 1, 1, 1), value=OUTSIDE)
    for share in FAR:
        boxes = _fitted(line, boxes, share)
    return _ended(line, boxes, floor)


def _fitted(line: Tensor, boxes: Tensor, share: float) -> Tensor:
    """Boxes with their diagonals moved and turned onto the likely cells beside them, at most ``share`` of their
    length away."""
    start, side = boxes[:, 0::2], (boxes[:, 1::2] - boxes[:, 0::2]).clamp(min=0.5)
    length = side.norm(dim=1)
    along = torch.linspace(0.02, 0.98, ALONG, device=line.device)
    normal = torch.stack([-side[:, 1], side[:, 0]], 1) / length[:, None]
    most = (share * length).clamp(min=1.5)
    beside = torch.linspace(-1, 1, 2 * BESIDE + 1, device=line.device)
    off = beside * most[:, None]  # (N, J)
    query, reference = (
        (start[:, n, None] + along * side[:, n, None])[:, :, None] + (off * normal[:, n, None])[:, None]
        for n in range(2)
    )
    weight = _at(line, query, reference).sigmoid().square() * torch.exp(-2 * beside.square())
    total = weight.sum((1, 2)).clamp(min=1e-6)
    centred = (along - 0.5)[None, :, None]
    x, y = (weight * centred).sum((1, 2)) / total, (weight * off[:, None]).sum((1, 2)) / total
    xx = (weight * (centred - x[:, None, None]).square()).sum((1, 2)) / total + 4e-3
    xy = (weight * (centred - x[:, None, None]) * (off[:, None] - y[:, None, None])).sum((1, 2)) / total
    turn = xy / xx
    shift = y - turn * x
    sure = (total / (total + 1e-2))[:, None]
    first = start + normal * (shift - turn / 2)[:, None] * sure
    last = start + side + normal * (shift + turn / 2)[:, None] * sure
    moved = torch.stack([first[:, 0], last[:, 0], first[:, 1], last[:, 1]], 1)
    slope = (last - first)[:, 1] / (last - first)[:, 0]
    sane = ((last - first).amin(1) > 0.5) & (slope > 0.2) & (slope < 5)
    return torch.where(sane[:, None], moved, boxes)


def _ended(line: Tensor, boxes: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Boxes cut or drawn out along their diagonals to where these are likeliest, and the mean probability there.

    How likely a point of the line is copied is the sum over the cells beside it: exactly where the line runs does not
    matter for that.
    """
    start, side = boxes[:, 0::2], boxes[:, 1::2] - boxes[:, 0::2]
    more = (4 / side.amax(1)).clamp(0.5, 2.0)
    edges = -more[:, None] + (1 + 2 * more[:, None]) * torch.linspace(0, 1, POINTS + 1, device=line.device)
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    query, reference = (start[:, n, None] + middle * side[:, n, None] for n in range(2))
    fast = (side[:, 1] > side[:, 0]).to(side.dtype)[:, None]
    steps = torch.arange(-ACROSS, ACROSS + 1, device=line.device)[:, None, None]
    beside = _at(line, query + steps * fast, reference + steps * (1 - fast))
    values = beside.sigmoid().sum(0).clamp(1e-4, 0.98).logit()
    longer = side.amax(1)[:, None] * (edges[:, 1:] - edges[:, :-1])  # frames of a step
    gains = (values - floor).clamp(LEAST, MOST) * longer
    sums = torch.cat([gains.new_zeros(len(gains), 1), gains.cumsum(1)], 1)
    lowest, which = sums.cummin(1)
    end = (sums - lowest).argmax(1, keepdim=True)
    begin = which.gather(1, end)
    ends = [edges.gather(1, x) for x in (begin, end)]
    some = (end > begin)[:, 0]
    place = torch.arange(POINTS, device=line.device)
    inside = (place >= begin) & (place < end)
    mean = (values.sigmoid() * inside).sum(1) / inside.sum(1).clamp(min=1)
    low, high = (start + x * side for x in ends)
    moved = torch.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], 1)
    return torch.where(some[:, None], moved, boxes), torch.where(some, mean, 0.0)


def _at(
    bordered: Float[Tensor, "rows columns"],
    query: Float[Tensor, ...],
    reference: Float[Tensor, ...],
) -> Float[Tensor, ...]:
    """Log odds of the cells in which points lie, of a map with a border one cell wide, which is all that is outside."""
    rows, columns = bordered.shape
    row = (query + 1).clamp_(0, rows - 1).long()
    return bordered.flatten()[row.mul_(columns).add_((reference + 1).clamp_(0, columns - 1).long())]
