"""What benchmarks share that compare a training step with a plain twin of it."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from _claims import claim, clock, product_rate
from videomatch.common import precision

#: relative difference of two losses that count as the same
SAME = 1e-4
Batch = dict[str, Tensor]
#: what computes the losses of a model on a batch, the model, and its optimiser
Way = tuple[Callable[[Any, Batch], Tensor], nn.Module, torch.optim.Optimizer]
#: what makes a step and tells its seconds, by ``ours`` and ``plain``
Steps = Mapping[str, Callable[[], float]]
log = logging.getLogger("benchmark")


def in_precision(name: str, bf16: bool, device: str = "cpu") -> Any:
    """The context in which a way computes: the project's, or torch's own."""
    if name == "ours":
        return precision.autocast(torch.device(device), bf16=bf16)
    return torch.autocast(device, torch.bfloat16, enabled=bf16)


def steps(ways: Mapping[str, Way], batches: Sequence[Batch], bf16: bool = False, device: str = "cpu") -> Steps:
    """Steps of ``ours`` (deterministic, as training is; both find memory kept) and ``plain``, if it is there, each of
    which takes the batches in turn. Tells by how much losses and gradients of the first batch differ at most,
    relatively; ends the program if in fp32 the losses are not the same."""
    if len(ways) > 1:
        _compare(ways, batches[0], bf16, device)

    def step(name: str) -> Callable[[], float]:
        (way, model, optimiser), turn = ways[name], itertools.cycle(batches)

        def once() -> float:
            batch, started = next(turn), clock(device)
            with precision.reproducible(torch.get_num_threads()) if name == "ours" else contextlib.nullcontext():
                optimiser.zero_grad(set_to_none=True)
                with in_precision(name, bf16, device):
                    losses = way(model, batch)
                losses.sum().backward()
                optimiser.step()
            return clock(device) - started

        return once

    return {name: step(name) for name in ways}


def _compare(ways: Mapping[str, Way], batch: Batch, bf16: bool, device: str) -> None:
    """Say how far losses and gradients are apart; an end where in fp32 the losses are not the same."""
    losses = []
    for name, (way, model, _) in ways.items():
        with in_precision(name, bf16, device):
            losses.append(way(model, batch))
        losses[-1].sum().backward()
    found, wanted = (loss.detach().double().reshape(-1) for loss in losses)
    apart = float((found / wanted - 1).abs().max())
    if not bf16 and apart > SAME:
        raise SystemExit(f"losses {found.tolist()} and {wanted.tolist()} are not the same")
    mine, theirs = ({n: p.grad for n, p in m.named_parameters() if p.grad is not None} for _, m, _ in ways.values())
    both = [(float((mine[n] - theirs[n]).norm()), float(theirs[n].norm())) for n in mine.keys() & theirs.keys()]
    worst = max((distance / length for distance, length in both if length > 1e-5), default=float("nan"))
    told = " + ".join(f"{x:.3f}" for x in found.tolist())
    log.info("losses %s apart by %.1e at most, gradients of a tensor by %.1e", told, apart, worst)


def compared(
    what: str,
    made: Callable[[bool], Steps],
    rounds: int,
    bars: tuple[float | None, float | None, float | None],
    device: str = "cpu",
    uncounted: float = 0.0,
) -> None:
    """Claim the seconds of steps ``made`` in fp32 and, where the hardware multiplies it, in bf16.

    Args:
        bars: how many times as fast as the plain twin in fp32; in bf16; in bf16, as the plain twin in fp32.
        uncounted: see :func:`in_turns`.
    """
    single: list[float] = []
    kinds = [False, True] if precision.multiplies_bf16(torch.device(device)) else [False]
    if len(kinds) == 1:
        log.info("no bf16 rows: this processor does not multiply bf16")
    for bf16 in kinds:
        ways = made(bf16)
        for step in ways.values():
            step()
        name = f"{what}, {'bf16' if bf16 else 'fp32'}"
        times = in_turns(name, [ways] * rounds, bars[bf16], bf16=bf16, device=device, uncounted=uncounted)
        if bf16:  # also where the twin takes too long in bf16 to be there
            peer = ("plain twin in fp32", single)
            claim(f"{name}, against fp32", times["ours"], _unit(device), peer=peer, bar=bars[2])
        single = times["plain"]


def in_turns(
    what: str,
    rounds: Iterable[Steps],
    bar: float | None,
    *,
    bf16: bool = False,
    device: str = "cpu",
    uncounted: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds of a step, by ``ours`` and ``plain`` in turns, which are claimed.

    Args:
        rounds: in each, what makes a step of either way.
        uncounted: multiplications and additions of our step that torch does not count (its GRU's). With those that it
            counts, at the rate of a large product, they are the floor.
    """
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    ways: Steps = {}
    for ways in rounds:
        for way, step in ways.items():
            times[way].append(step())
    with FlopCounterMode(display=False) as counter:
        ways["ours"]()
    floor = ("its products", [(counter.get_total_flops() + uncounted) / product_rate(bf16, device)])
    peer = ("plain twin", times["plain"]) if times["plain"] else None
    claim(what, times["ours"], _unit(device), peer=peer, floor=floor, bar=bar if peer else None)
    return times


def _unit(device: str) -> str:
    return "CPU s a step" if device == "cpu" else "s a step"
