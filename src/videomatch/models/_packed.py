"""A BERT-like encoder's own layers, run on the positions that are needed and on no others.

Conventions
    Positions of all examples lie below one another in one matrix, *rows* ``(N, hidden)``, example by example:
    linear layers, norms and feed-forward layers see nothing else. Only attention needs to know whose row is whose: on
    the CPU it looks at one example after the other where layers are wide, else at a padded tensor. Masks of several
    kinds (tokens, frames) say where rows are; the order of an example's rows does not matter to attention, and whoever
    builds them adds the positions' embeddings before.

Results and gradients are those of the plain computation on padded sequences with padding masked out; the last layer
may be asked for some rows only. Every step is deterministic: moving rows around copies, it never adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

#: hidden size from which on attention without padding is worth a call an example on the CPU (measured with 32 examples
#: of 20 rows: a training step costs .82 of the time padded at 96, .85 at 128, the same at 256)
WIDE = 192


class _Take(torch.autograd.Function):
    """Rows by number, none twice: the gradient is a copy, where ``index_select`` would have to add."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(rows)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (index,), grad = ctx.saved_tensors, grads[0]
        return grad.new_zeros((ctx.count, *grad.shape[1:])).index_copy_(0, index, grad), None


class _Put(torch.autograd.Function):
    """Rows to numbered places among zeros, none twice."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(index)
        return rows.new_zeros((count, *rows.shape[1:])).index_copy_(0, index, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (index,) = ctx.saved_tensors
        return grads[0].index_select(0, index), None, None


def take(rows: Float[Tensor, "n ..."], index: Int[Tensor, " k"]) -> Float[Tensor, "k ..."]:
    """Rows by number; no number may come twice."""
    return _Take.apply(rows, index)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Packing:
    """Whose rows are whose, and where they stand in a padded tensor ``(examples, width, …)``.

    Attributes:
        slot: (N,) place of every row in the padded tensor, its first two dimensions as one.
        lengths: rows of every example.
        taken: (examples, width) the places that hold a row, at the front of each example.
    """

    slot: Int[Tensor, " n"]
    lengths: list[int]
    taken: Bool[Tensor, "examples width"]

    @classmethod
    def of(cls, *masks: Bool[Tensor, "examples _"]) -> Packing:
        """A row where a mask of its kind is true; an example's rows in the order of the masks."""
        joint = torch.cat(masks, dim=1)
        lengths = joint.sum(dim=1)
        width = max(lengths.tolist(), default=0)
        starts = torch.arange(len(joint), device=joint.device)[:, None] * width
        slot = (joint.cumsum(dim=1) - 1 + starts)[joint]
        return cls(slot, lengths.tolist(), torch.arange(width, device=joint.device) < lengths[:, None])

    def pad(self, rows: Float[Tensor, "n ..."]) -> Float[Tensor, "examples width ..."]:
        """Rows as a padded tensor, zeros elsewhere."""
        padded: Tensor = _Put.apply(rows, self.slot, self.taken.numel())  # pyright: ignore[reportAssignmentType]
        return padded.unflatten(0, self.taken.shape)

    def unpad(self, padded: Float[Tensor, "examples width ..."]) -> Float[Tensor, "n ..."]:
        """The rows of a padded tensor."""
        return take(padded.flatten(0, 1), self.slot)


def numbered(*masks: Bool[Tensor, "examples _"]) -> tuple[Int[Tensor, "examples _"], ...]:
    """The number of the row that stands where a mask is true. Elsewhere the number means nothing."""
    joint = torch.cat(masks, dim=1)
    numbers = joint.flatten().cumsum(0).view(joint.shape) - 1
    return numbers.split([mask.shape[1] for mask in masks], dim=1)


def joined(
    kinds: Sequence[Float[Tensor, "_ hidden"]], masks: Sequence[Bool[Tensor, "examples _"]]
) -> Float[Tensor, "n hidden"]:
    """Rows of several kinds, each in the order of its mask, as rows example by example."""
    place = torch.cat([number[mask] for number, mask in zip(numbered(*masks), masks, strict=True)])
    return _Put.apply(torch.cat(list(kinds)), place, len(place))  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Some:
    """Some of the rows: their numbers ``(K,)``, and where they stand in a padded tensor of theirs."""

    index: Int[Tensor, " k"]
    packing: Packing

    @classmethod
    def of(cls, kept: Sequence[Bool[Tensor, "examples _"]], masks: Sequence[Bool[Tensor, "examples _"]]) -> Some:
        """Of the rows at ``masks`` those that are also at ``kept``."""
        both = [keep & mask for keep, mask in zip(kept, masks, strict=True)]
        return cls(torch.cat(both, dim=1)[torch.cat(list(masks), dim=1)].nonzero()[:, 0], Packing.of(*both))


def encode(
    layers: Sequence[Any],
    rows: Float[Tensor, "n hidden"],
    packing: Packing,
    *,
    keys: Some | None = None,
    wanted: Some | None = None,
) -> Float[Tensor, "m hidden"]:
    """Rows after all layers of a BERT-like encoder.

    Args:
        layers: modules laid out like transformers' ``BertLayer``.
        rows: embeddings.
        packing: of all rows.
        keys: the rows that others attend to; all of them by default.
        wanted: the rows to return; all of them by default. What the last layer need not compute it does not.
    """
    for number, layer in enumerate(layers, start=1):
        rows = _layer(layer, rows, packing, keys, wanted if number == len(layers) else None)
    return rows


def _layer(layer: Any, rows: Tensor, packing: Packing, keys: Some | None, queries: Some | None) -> Tensor:
    own = layer.attention.self
    if keys is None and queries is None:
        query, key, value = linear(rows, own.query, own.key, own.value).chunk(3, dim=1)
        asked, seen, residual = packing, packing, rows
    else:
        residual, asked = (rows, packing) if queries is None else (take(rows, queries.index), queries.packing)
        source, seen = (rows, packing) if keys is None else (take(rows, keys.index), keys.packing)
        query = own.query(residual)
        key, value = linear(source, own.key, own.value).chunk(2, dim=1)
    attend = one_by_one if rows.device.type == "cpu" and rows.shape[1] >= WIDE else padded
    heads = (own.num_attention_heads, own.attention_head_size)
    query, key, value = (x.unflatten(1, heads) for x in (query, key, value))
    context = attend(query, key, value, asked, seen, own.dropout.p if own.training else 0.0)
    rows = layer.attention.output(context.flatten(1), residual)
    return layer.output(layer.intermediate(rows), rows)


def linear(rows: Tensor, *parts: nn.Linear) -> Tensor:
    """Several linear layers on the same rows as one product, outputs side by side."""
    return F.linear(rows, torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))


Heads = Float[Tensor, "n heads head"]


def one_by_one(query: Heads, key: Heads, value: Heads, asked: Packing, seen: Packing, dropout: float) -> Heads:
    """Attention within each example, one example after the other: nothing is padded."""
    lengths = (asked.lengths, seen.lengths, seen.lengths)
    parts = (x.transpose(0, 1)[None].split(n, dim=2) for x, n in zip((query, key, value), lengths, strict=True))
    each = [F.scaled_dot_product_attention(q, k, v, None, dropout) for q, k, v in zip(*parts, strict=True)]
    return torch.cat([context[0].transpose(0, 1) for context in each])  # as they lie in memory


def padded(query: Heads, key: Heads, value: Heads, asked: Packing, seen: Packing, dropout: float) -> Heads:
    """Attention within each example, all examples at once."""
    q, k, v = (pack.pad(x).transpose(1, 2) for pack, x in ((asked, query), (seen, key), (seen, value)))
    context = F.scaled_dot_product_attention(q, k, v, seen.taken[:, None, None, :], dropout)
    return asked.unpad(context.transpose(1, 2))
