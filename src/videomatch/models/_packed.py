"""A BERT-like encoder's own layers, run on the positions that are needed and on no others.

Conventions
    Positions of all examples of a batch lie below one another in one matrix, *rows* ``(N, hidden)``: linear layers,
    norms and feed-forward layers see nothing else. Only attention, which needs to know whose row is whose, sees a
    padded tensor. The order of an example's rows does not matter to attention, so rows come kind by kind (all tokens
    of the batch, then all frames), and whoever builds them adds the positions' embeddings before.

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
    """Where rows stand in a padded tensor ``(examples, width, …)``.

    Attributes:
        slot: (N,) place of every row in the padded tensor, its first two dimensions as one.
        examples, width: of the padded tensor; width is the largest number of rows of an example.
        taken: (examples, width) the places that hold a row, at the front of each example.
    """

    slot: Int[Tensor, " n"]
    examples: int
    width: int
    taken: Bool[Tensor, "examples width"]

    @classmethod
    def of(cls, *masks: Bool[Tensor, "examples _"]) -> Packing:
        """Rows of several kinds, kind by kind: where a kind's mask is true there is a row, in the order of the mask."""
        joint = torch.cat(masks, dim=1)
        examples, counts = len(joint), joint.sum(dim=1)
        width = int(counts.max()) if examples else 0
        place = joint.cumsum(dim=1) - 1 + torch.arange(examples, device=joint.device)[:, None] * width
        places = place.split([mask.shape[1] for mask in masks], dim=1)
        slot = torch.cat([part[mask] for part, mask in zip(places, masks, strict=True)])
        return cls(slot, examples, width, torch.arange(width, device=joint.device) < counts[:, None])

    def pad(self, rows: Float[Tensor, "n ..."]) -> Float[Tensor, "examples width ..."]:
        """Rows as a padded tensor, zeros elsewhere."""
        padded: Tensor = _Put.apply(rows, self.slot, self.examples * self.width)  # pyright: ignore[reportAssignmentType]
        return padded.unflatten(0, (self.examples, self.width))

    def unpad(self, padded: Float[Tensor, "examples width ..."]) -> Float[Tensor, "n ..."]:
        """The rows of a padded tensor."""
        return take(padded.flatten(0, 1), self.slot)


def numbered(*masks: Bool[Tensor, "examples _"]) -> list[Int[Tensor, "examples _"]]:
    """The number of the row that stands where a mask is true, kind by kind as :meth:`Packing.of` has them.

    Elsewhere the number means nothing.
    """
    numbers, before = [], 0
    for mask in masks:
        numbers.append(mask.flatten().cumsum(0).view(mask.shape) - 1 + before)
        before = before + mask.sum()
    return numbers


@dataclass(frozen=True)
class Some:
    """Some of the rows: their numbers ``(K,)``, and where they stand in a padded tensor of theirs."""

    index: Int[Tensor, " k"]
    packing: Packing

    @classmethod
    def of(cls, kept: Sequence[Bool[Tensor, "examples _"]], masks: Sequence[Bool[Tensor, "examples _"]]) -> Some:
        """Of the rows at ``masks`` those that are also at ``kept``."""
        return cls(
            torch.cat([keep[mask] for keep, mask in zip(kept, masks, strict=True)]).nonzero()[:, 0],
            Packing.of(*(keep & mask for keep, mask in zip(kept, masks, strict=True))),
        )


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
        query, key, value = _heads(own, packing.pad(_linear(rows, own.query, own.key, own.value)), 3)
        asked, seen, residual = packing, packing, rows
    else:
        residual, asked = (rows, packing) if queries is None else (take(rows, queries.index), queries.packing)
        source, seen = (rows, packing) if keys is None else (take(rows, keys.index), keys.packing)
        (query,) = _heads(own, asked.pad(own.query(residual)), 1)
        key, value = _heads(own, seen.pad(_linear(source, own.key, own.value)), 2)
    dropout = own.dropout.p if own.training else 0.0
    context = F.scaled_dot_product_attention(query, key, value, seen.taken[:, None, None, :], dropout)
    context = asked.unpad(context.transpose(1, 2).flatten(2))
    rows = layer.attention.output(context, residual)
    return layer.output(layer.intermediate(rows), rows)


def _linear(rows: Tensor, *parts: nn.Linear) -> Tensor:
    """Several linear layers on the same rows as one product, outputs side by side."""
    return F.linear(rows, torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))


def _heads(own: Any, padded: Tensor, parts: int) -> tuple[Tensor, ...]:
    """``(examples, width, parts x hidden)`` as ``parts`` tensors ``(examples, heads, width, head)``."""
    split = padded.unflatten(2, (parts, own.num_attention_heads, own.attention_head_size))
    return tuple(part.transpose(1, 2) for part in split.unbind(2))
