"""What benchmarks share that compare a training step with a plain twin of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

#: relative difference of two losses that count as the same
SAME = 1e-4


def compared(
    ways: Sequence[tuple[Callable[[Any, dict[str, Tensor]], Tensor], nn.Module]], batch: dict[str, Tensor]
) -> tuple[Tensor, float, float]:
    """The losses of the first of two ways (each with its own copy of a model), and by how much losses and gradients of
    the two differ at most, relatively; ends the program if the losses are not the same."""
    losses = []
    for way, model in ways:
        losses.append(way(model, batch))
        losses[-1].sum().backward()
    found, wanted = (loss.detach().double() for loss in losses)
    apart = float((found / wanted - 1).abs().max())
    if apart > SAME:
        raise SystemExit(f"losses {found.tolist()} and {wanted.tolist()} are not the same")
    pairs = zip(*(model.parameters() for _, model in ways), strict=True)
    both = [(p.grad, q.grad) for p, q in pairs if p.grad is not None and q.grad is not None]
    lengths = [(float((p - q).norm()), float(q.norm())) for p, q in both]
    return found, apart, max(distance / length for distance, length in lengths if length > 1e-5)
