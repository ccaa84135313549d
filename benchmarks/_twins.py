"""What benchmarks share that compare a training step with a plain twin of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from _claims import claim, product_rate

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


def in_turns(
    what: str,
    rounds: Iterable[Mapping[str, Callable[[], float]]],
    bar: float | None,
    *,
    bf16: bool = False,
    counts: bool = True,
) -> dict[str, list[float]]:
    """CPU seconds of a step, by ``ours`` and ``plain`` in turns, which are claimed.

    Args:
        rounds: in each, what makes a step of either way and tells its seconds.
        counts: whether torch counts the products of our step, which at the rate of a large one are its floor.
    """
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    ways: Mapping[str, Callable[[], float]] = {}
    for ways in rounds:
        for way, step in ways.items():
            times[way].append(step())
    floor = None
    if counts:
        with FlopCounterMode(display=False) as counter:
            ways["ours"]()
        floor = ("its products", [counter.get_total_flops() / product_rate(bf16)])
    claim(what, times["ours"], "CPU s a step", peer=("plain twin", times["plain"]), floor=floor, bar=bar)
    return times
