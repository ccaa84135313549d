"""The training loop, one for every system.

A step is ``outputs = model(**batch)``; every objective is a function of tensors whose arguments are filled by name from
outputs and batch; the objectives are weighed and summed, and the optimiser steps. What a system needs beyond that
belongs into its model, its objectives or its examples.

Nothing random has a state: examples, dropout and order of step s of epoch e are drawn from (seed, e, s). So the state
that survives a kill is small (weights, optimiser, position, log), and a resumed run ends with the very weights of an
uninterrupted one.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from videomatch.data.examples import Batch, Examples

log = logging.getLogger(__name__)

#: at most so many seconds of work are lost to a kill (plus a step)
SAVE_SECONDS = 30.0
STATE = "state.pt"


@dataclass(frozen=True)
class Training:
    """How a system is trained: ``training:`` of the parameters.

    Args:
        epochs: passes over the examples.
        batch: examples a step; an incomplete last batch of an epoch is dropped unless it is the only one.
        lr: largest learning rate of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
        weight_decay: on matrices and filters; not on biases, scales of norms and other vectors.
        warmup: share of all steps in which the learning rate rises linearly.
        schedule: what follows the warm-up: ``cosine`` or ``linear`` to zero, or ``constant``.
        clip_norm: longest gradient; null for any.
        precision: ``fp32``, ``bf16`` (autocast), or ``auto``: bf16 where the hardware multiplies it.
        accumulate: in how many pieces a batch is computed, to save memory. Gradients equal the undivided batch's for
            objectives that are means over examples; a contrastive objective only sees the negatives of its piece, and
            BatchNorm only the statistics of its piece.
        validate_every: epochs between validations; 0 for never.
    """

    epochs: int = 10
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.06
    schedule: str = "cosine"
    clip_norm: float | None = 1.0
    precision: str = "auto"
    accumulate: int = 1
    validate_every: int = 1

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "linear", "constant"):
            raise ValueError(f"training.schedule {self.schedule!r}, expected cosine, linear or constant")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"training.precision {self.precision!r}, expected auto, fp32 or bf16")
        if min(self.epochs, self.batch, self.accumulate) < 1:
            raise ValueError("training: epochs, batch and accumulate are at least 1")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0, of so many."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        done = (step - rising) / max(1, steps - rising)
        return (
            self.lr * {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[self.schedule]
        )


@dataclass(frozen=True)
class Objective:
    """A function of :mod:`videomatch.objectives` with its weight and options."""

    function: Callable[..., Tensor]
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return self.function(**by_name(self.function, tensors), **self.options)


def by_name(function: Callable[..., Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of ``tensors`` that a function asks for by the names of its ordinary arguments.

    Raises:
        KeyError: an argument without a default is not among them; the message lists what there is.
    """
    found = {}
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is not argument.POSITIONAL_OR_KEYWORD:
            continue
        if name in tensors:
            found[name] = tensors[name]
        elif argument.default is argument.empty:
            who = getattr(function, "__qualname__", function)
            raise KeyError(f"{who} asks for {name!r}; there are {', '.join(sorted(tensors))}")
    return found


def hardware(precision: str) -> tuple[torch.device, torch.dtype]:
    """The device, and the type that matrices are multiplied in."""
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        device = torch.device("cuda")
    else:
        able = torch.cpu.get_capabilities()
        fast = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
        device = torch.device("cpu")
    return device, torch.bfloat16 if precision == "bf16" or (precision == "auto" and fast) else torch.float32


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Inside, torch uses so many threads and only deterministic algorithms."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def seeded(*key: int) -> np.random.Generator:
    """A generator of its own for every key; torch's global one (dropout) is set from the same key."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
    return np.random.default_rng(key)


def batches(examples: Examples, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The numbers of an epoch's examples, batch by batch, without an incomplete last one."""
    order = examples.epoch(rng)
    return [order[i : i + size] for i in range(0, max(1, len(order) - size + 1), size)]


def optimiser(model: nn.Module, settings: Training) -> torch.optim.AdamW:
    """AdamW in two groups: matrices and filters decay, vectors do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


class Run:
    """A model on its way: holds what a step changes, saves it and finds it again.

    Args:
        model: trained in place.
        objectives: name -> objective.
        settings: how.
        seed: of everything random.
        scratch: folder for the state that survives a kill; None to keep none.
    """

    def __init__(
        self,
        model: nn.Module,
        objectives: Mapping[str, Objective],
        settings: Training,
        *,
        seed: int,
        scratch: Path | None = None,
    ) -> None:
        self.settings, self.objectives, self.seed = settings, dict(objectives), seed
        self.device, self.dtype = hardware(settings.precision)
        self.model = model.to(self.device)
        self.optimiser = optimiser(self.model, settings)
        self.epoch, self.step = 0, 0  # the next step to do
        self.sums: dict[str, float] = {}  # losses of this epoch's steps, added up
        self.rows: list[dict[str, float]] = []  # the log, one row an epoch
        self._state = None if scratch is None else Path(scratch) / STATE
        self._saved = time.monotonic()

    def fit(self, examples: Examples, validation: Examples | None = None) -> list[dict[str, float]]:
        """Train to the end, from the saved state if there is one. Returns the log: one row an epoch."""
        self._restore()
        epochs, size = self.settings.epochs, self.settings.batch
        while self.epoch < epochs:
            started = time.monotonic()
            work = batches(examples, size, np.random.default_rng([self.seed, self.epoch]))
            while self.step < len(work):
                rate = self.settings.rate(self.epoch * len(work) + self.step, epochs * len(work))
                self._update(examples.batch(work[self.step], seeded(self.seed, self.epoch, self.step)), rate)
                self.step += 1
                if time.monotonic() - self._saved >= SAVE_SECONDS:
                    self._save()
            self._end_epoch(len(work), validation)
            log.info("epoch %d of %d, %.1f s: %s", self.epoch, epochs, time.monotonic() - started, self.rows[-1])
        self.model.eval()
        return self.rows

    def _update(self, batch: Batch, rate: float) -> None:
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        for piece, share in pieces(batch, self.settings.accumulate):
            losses = self.losses(piece)
            total = torch.stack([self.objectives[name].weight * loss for name, loss in losses.items()]).sum()
            (total * share).backward()
            for name, loss in losses.items():
                self.sums[name] = self.sums.get(name, 0.0) + float(loss.detach()) * share
        if not all(math.isfinite(x) for x in self.sums.values()):
            raise FloatingPointError(f"epoch {self.epoch + 1}, step {self.step + 1}: a loss is not finite: {self.sums}")
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The model on one batch, and every objective on what comes out, unweighted."""
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            outputs = self.model(**by_name(self.model.forward, batch))
            tensors = {**batch, **outputs}
            return {name: objective(tensors) for name, objective in self.objectives.items()}

    @torch.no_grad()
    def validate(self, examples: Examples) -> dict[str, float]:
        """Mean losses over one fixed pass over ``examples``."""
        self.model.eval()
        work = batches(examples, self.settings.batch, np.random.default_rng(self.seed))
        sums: dict[str, float] = {}
        for step, numbers in enumerate(work):
            for name, loss in self.losses(examples.batch(numbers, seeded(self.seed, step))).items():
                sums[name] = sums.get(name, 0.0) + float(loss)
        return {name: value / len(work) for name, value in sums.items()}

    def _end_epoch(self, steps: int, validation: Examples | None) -> None:
        self.epoch, self.step = self.epoch + 1, 0
        row: dict[str, float] = {"epoch": self.epoch}
        row |= {f"train/{name}": value / steps for name, value in self.sums.items()}
        every, last = self.settings.validate_every, self.epoch == self.settings.epochs
        if validation is not None and every and (last or self.epoch % every == 0):
            row |= {f"val/{name}": value for name, value in self.validate(validation).items()}
        self.rows.append(row)
        self.sums = {}
        self._save()

    def _save(self) -> None:
        """Write the state under a temporary name, then rename: a kill leaves the old state or the new one."""
        if self._state is None:
            return
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "rows": self.rows,
        }
        part = self._state.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._state)
        self._saved = time.monotonic()

    def _restore(self) -> None:
        if self._state is None or not self._state.exists():
            return
        state = torch.load(self._state, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.step, self.sums, self.rows = (state[name] for name in ("epoch", "step", "sums", "rows"))
        log.info("going on at epoch %d, step %d", self.epoch + 1, self.step + 1)


def pieces(batch: Batch, count: int) -> Iterator[tuple[Batch, float]]:
    """The batch in ``count`` (at most: one example each) runs of rows, each with its share of the examples."""
    size = len(next(iter(batch.values())))
    edges = [round(n * size / min(count, size)) for n in range(min(count, size) + 1)]
    for first, last in itertools.pairwise(edges):
        yield {name: value[first:last] for name, value in batch.items()}, (last - first) / size


def settings_of(options: Mapping[str, Any]) -> Training:
    """``training:`` of a system as :class:`Training`.

    Raises:
        KeyError: an option does not exist; the message lists those that do.
    """
    known = [f.name for f in fields(Training)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise KeyError(f"no training option {unknown[0]!r}; there are {', '.join(known)}")
    return Training(**options)


def objectives_of(module: Any, chosen: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Objective]:
    """``objectives:`` of a system: name -> {weight, options}; weight 1 unless given."""
    found = {}
    for name, entry in chosen.items():
        options = dict(entry or {})
        weight = float(options.pop("weight", 1.0))
        found[name] = Objective(getattr(module, name), weight, options)
    return found


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Sequence[str]:
    """Copy those weights that the model has under the same name and in the same shape; returns the names copied.

    Raises:
        ValueError: not one of them fits.
    """
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        first = next(iter(weights), None)
        raise ValueError(f"none of the {len(weights)} weights ({first}, …) fits {type(model).__name__}")
    model.load_state_dict(fitting, strict=False)
    return list(fitting)
