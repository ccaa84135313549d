"""A sequence read at two levels: a GRU in both directions, and convolutions over what it says (dual encoding, 2 and 3).

Source: Dong et al., "Dual Encoding for Zero-Example Video Retrieval", CVPR 2019 (arXiv:1809.06181), section 3, and the
published system. Sequences ``(B, T, D)`` come padded at the end, with a mask that is true where something is.

Only what is there is computed. The GRU reads the sequences packed. Its outputs then lie one below the other with
zeros between them, so that a convolution over time is one sum of shifted matrix products over all of them. Of the
maximum over time only the winning window has a gradient.

# Deviation: the published video side feeds its padding, too. There the backward direction of a short clip starts inside
the padding, and windows that hold nothing but padding take part in the maximum, so that a vector depends on the longest
sequence of its batch. With ``padded`` that is what comes out here as well, at the cost of what is there: the
state after so many zeros is the same for all sequences, and an empty window says ``ReLU(bias)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


@dataclass(frozen=True)
class Packed:
    """Where the rows of a padded batch go when it is packed: time step by time step, the longest sequence first.

    Attributes:
        owner, time: (N,) sequence and time step of every row.
        lengths: (B,) of the sequences.
        order: (B,) sequences, the longest first.
        sizes: (T,) sequences that reach every time step, on the CPU.
        width: T of the batch as it came.
    """

    owner: Tensor
    time: Tensor
    lengths: Tensor
    order: Tensor
    sizes: Tensor
    width: int

    @classmethod
    def of(cls, mask: Bool[Tensor, "batch time"]) -> Packed:
        """Of a mask.

        Raises:
            ValueError: a sequence is empty, or a gap is in front of a row.
        """
        lengths = mask.sum(1)
        steps = torch.arange(mask.shape[1], device=mask.device)
        if not mask.any(1).all() or not torch.equal(mask, steps < lengths[:, None]):
            raise ValueError("a sequence is empty or has a gap; expected at least one row each, and padding at the end")
        order = lengths.argsort(descending=True, stable=True)
        reaches = steps[:, None] < lengths[order]
        time, place = reaches.nonzero(as_tuple=True)
        sizes = reaches.sum(1)
        return cls(order[place], time, lengths, order, sizes[sizes > 0].cpu(), mask.shape[1])

    def mean(self, rows: Float[Tensor, "n dim"]) -> Float[Tensor, "batch dim"]:
        """Of the rows of every sequence."""
        total = rows.new_zeros(len(self.lengths), rows.shape[1]).index_add(0, self.owner, rows)
        return total / self.lengths[:, None]


class BiGru(nn.GRU):
    """One layer in both directions."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden, batch_first=True, bidirectional=True)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "batch time inputs"], packed: Packed, padded: bool = False
    ) -> Float[Tensor, "n both"]:
        """Outputs of the rows that are there, in the order of ``packed``.

        Args:
            padded: the backward direction first reads the padding: zeros.
        """
        rows = x[packed.owner, packed.time]
        start = rows.new_zeros(2, len(x), self.hidden_size)
        if padded:
            start = torch.stack([start[0], self._after_zeros(packed.width - packed.lengths[packed.order], rows)])
        found, _ = super().forward(PackedSequence(rows, packed.sizes), start)
        return found.data

    def _after_zeros(self, counts: Int[Tensor, " batch"], like: Tensor) -> Float[Tensor, "batch hidden"]:
        """The state of the backward direction after so many rows of zeros."""
        longest = int(counts.max())
        none = like.new_zeros(1, self.hidden_size)
        if not longest:
            return none.expand(len(counts), -1)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights: Any = [getattr(self, f"{name}_l0_reverse") for name in names]
        zeros = like.new_zeros(1, longest, self.input_size)
        states, _ = torch.gru(zeros, none[None], weights, True, 1, 0.0, self.training, False, True)
        return torch.cat([none, states[0]])[counts]


class Convolutions(nn.ModuleList):
    """Filters over 2, 3, … neighbouring rows, ReLU, and the maximum over time: ``(B, kernels x filters)``.

    A window may begin before a sequence and end behind it (``k - 1`` zeros on either side).
    """

    def __init__(self, inputs: int, filters: int, kernels: Sequence[int]) -> None:
        super().__init__(nn.Linear(k * inputs, filters) for k in kernels)
        self.inputs, self.kernels = inputs, list(kernels)

    def forward(
        self, rows: Float[Tensor, "n inputs"], packed: Packed, padded: bool = False
    ) -> Float[Tensor, "batch outputs"]:
        """Of rows in the order of ``packed``.

        Args:
            padded: sequences shorter than the batch have windows that see only padding.
        """
        gap = max(self.kernels) - 1
        starts = gap + (packed.lengths + gap).cumsum(0) - packed.lengths - gap
        apart = rows.new_zeros(len(rows) + gap * (len(starts) + 1), self.inputs)
        apart = apart.index_copy(0, starts[packed.owner] + packed.time, rows)
        is_short = (packed.lengths < packed.width)[:, None]
        found = []
        layers: Any = list(self)
        for k, layer in zip(self.kernels, layers, strict=True):
            windows = len(apart) - k + 1
            said = layer.bias.expand(windows, -1)
            for step, weight in enumerate(layer.weight.split(self.inputs, dim=1)):
                said = torch.addmm(said, apart[step : step + windows], weight.T)
            most = _most(said, starts - (k - 1), packed.lengths + k - 1)
            if padded:
                most = torch.where(is_short, torch.maximum(most, layer.bias), most)
            found.append(F.relu(most))
        return torch.cat(found, dim=1)


def _most(
    values: Float[Tensor, "n dim"], first: Int[Tensor, " batch"], count: Int[Tensor, " batch"]
) -> Float[Tensor, "batch dim"]:
    """The maximum over runs of rows."""
    with torch.no_grad():
        step = torch.arange(int(count.max()), device=values.device)
        rows = (first[:, None] + step).clamp(max=len(values) - 1)
        each = values[rows].masked_fill((step >= count[:, None])[..., None], -torch.inf)
        best = first[:, None] + each.argmax(1)
    return values.gather(0, best)
