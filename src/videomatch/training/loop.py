"""The training loop, one for every system.

A step is ``outputs = model(**batch)``; every objective is a function of tensors whose arguments are filled by name from
outputs and batch; the objectives are weighed and summed, and the optimiser steps. What a system needs beyond that
belongs into its model, its objectives or its examples; the loop's own parts are in :mod:`training`.

Nothing random has a state: examples, dropout and order of step s of epoch e are drawn from (seed, e, s). So the state
that survives a kill is small (weights, optimiser, position, log), and a resumed run ends with the very weights of an
uninterrupted one.

Several processes (:mod:`common.distributed`) share each batch: all draw it whole, each computes its rows, then
gradients are added up. So N processes do what one does with the same batch, up to rounding and dropout's draws;
BatchNorm sees the statistics of its process's rows.
# Deviation: drawing a batch N times costs more than drawing N shares of it, but the examples stay those of one process.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from videomatch.common import distributed
from videomatch.examples import Batch, Examples
from videomatch.training import batches as batches_
from videomatch.training.machine import hardware, reproducible
from videomatch.training.objective import Objective, by_name, objectives_of, over_processes
from videomatch.training.validation import Pass
from videomatch.training.watch import Watch, write
from videomatch.training.weights import Average, load_weights, optimiser, rate_factors

__all__ = ["Objective", "Run", "Training", "hardware", "load_weights", "objectives_of", "reproducible", "settings_of"]
log = logging.getLogger(__name__)

#: at most so many seconds of work are lost to a kill (plus a step, or a validation)
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
        eps: added to AdamW's denominator.
        lr_scale: regular expression -> factor of the learning rate of parameters in whose names it is found. The first
            match wins; a mapping's are tried in alphabetical order, a list of pairs' as they stand.
        layer_decay: factor of the learning rate for each layer below the top (``.layer.N.`` or ``.layers.N.`` in
            names); embeddings lie below the lowest layer, everything after the layers has the factor 1.
        warmup: share of all steps in which the learning rate rises linearly.
        schedule: what follows the warm-up: ``cosine`` or ``linear`` to zero, or ``constant``.
        decay: factor of the learning rate after each epoch.
        plateau: factor of the learning rate after a validation without improvement of ``monitor``; each rate is kept
            for three validations at least. 1 for none.
        clip_norm: longest gradient; null for any.
        precision: ``fp32``, ``bf16`` (autocast), or ``auto``: bf16 where the hardware multiplies it.
        accumulate: in how many pieces a batch is computed, to save memory. Gradients equal the undivided batch's for
            objectives that are means over examples; a contrastive objective only sees the negatives of its piece, and
            BatchNorm only the statistics of its piece.
        ema: share that a running average of the weights keeps at each step, like 0.999; validation and result use the
            average. Null for none.
        validate_every: epochs between validations, 0.5 for two an epoch; 0 for never. The end of training is always
            validated otherwise.
        monitor: what of a validation is watched, like ``val/Spearman`` or ``val/cosine_mse``. More is better of
            Spearman, Pearson, mAP and R@k, less of everything else.
        keep: the result's weights: of the ``last`` step, or of the ``best`` validation by ``monitor`` (its first, among
            equals).
        early_stop: validations in a row without improvement of ``monitor`` after which training ends; null for never.
        prefetch: batches drawn ahead by a thread; changes nothing but the time.
        processes: how many on this machine share each batch (one GPU each where there are GPUs). Under torchrun or
            accelerate, theirs count instead.
        threads: processors that the workflow gives a run. Small models gain little by a second one: two runs side by
            side are done sooner than one after the other.
    """

    epochs: int = 10
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    eps: float = 1e-8
    lr_scale: Mapping[str, float] | Sequence[tuple[str, float]] = field(default_factory=dict)
    layer_decay: float = 1.0
    warmup: float = 0.06
    schedule: str = "cosine"
    decay: float = 1.0
    plateau: float = 1.0
    clip_norm: float | None = 1.0
    precision: str = "auto"
    accumulate: int = 1
    ema: float | None = None
    validate_every: float = 1
    monitor: str | None = None
    keep: str = "last"
    early_stop: int | None = None
    prefetch: int = 0
    processes: int = 1
    threads: int = 2

    def __post_init__(self) -> None:
        for name, known in [
            ("schedule", "cosine linear constant"),
            ("precision", "auto fp32 bf16"),
            ("keep", "last best"),
        ]:
            if getattr(self, name) not in known.split():
                raise ValueError(f"training.{name} {getattr(self, name)!r}, expected one of {known.split()}")
        for name in ("epochs", "batch", "accumulate", "processes", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} {getattr(self, name)}, expected at least 1")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"training.ema {self.ema}, expected a share between 0 and 1")
        if min(self.prefetch, self.validate_every) < 0 or (self.early_stop is not None and self.early_stop < 1):
            raise ValueError("training: prefetch and validate_every are at least 0, early_stop at least 1")
        for name in ("decay", "plateau"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"training.{name} {getattr(self, name)}, expected a factor above 0, at most 1")
        if self.watches and not (self.monitor and self.validate_every):
            raise ValueError("training: keep: best, early_stop and plateau need a monitor and a validate_every above 0")

    @property
    def watches(self) -> bool:
        """Whether anything hangs on validations."""
        return self.keep == "best" or self.early_stop is not None or self.plateau < 1

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0, of so many."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        done = (step - rising) / max(1, steps - rising)
        share = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[self.schedule]
        return self.lr * share * self.decay ** (step * self.epochs // steps)

    def validates(self, done: int, epoch: int) -> bool:
        """Whether a validation follows when so many steps are done, of so many an epoch."""
        if not self.validate_every:
            return False
        distance = self.validate_every * epoch
        number = round(done / distance)
        return done == self.epochs * epoch or (number > 0 and round(number * distance) == done)


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
        names = [name for name, _ in model.named_parameters()]
        factors = rate_factors(names, settings.lr_scale, settings.layer_decay)
        self.optimiser = optimiser(
            self.model, lr=settings.lr, weight_decay=settings.weight_decay, eps=settings.eps, factors=factors
        )
        self.average = None if settings.ema is None else Average(self.model, settings.ema)
        self.epoch, self.step = 0, 0  # the next step to do
        self.sums: dict[str, float] = {}  # losses of this epoch's steps, added up
        self.rows: list[dict[str, float]] = []  # the log, one row an epoch
        self.watch = Watch(settings.monitor, settings.keep == "best", settings.early_stop, scratch, settings.plateau)
        self._state = None if scratch is None else Path(scratch) / STATE
        self._saved, self._used = time.monotonic(), 0.0  # when, and the last step's learning rate

    def fit(self, examples: Examples, validation: Examples | None = None) -> list[dict[str, float]]:
        """Train to the end, from the saved state if there is one. Returns the log: one row an epoch.

        The model is left with the result's weights, in evaluation mode.
        """
        if validation is None and self.settings.watches:
            raise ValueError(
                "training: keep: best, early_stop and plateau need examples to validate on; there are none"
            )
        self._restore()
        epochs, size = self.settings.epochs, self.settings.batch
        while self.epoch < epochs and not self.watch.stops:
            started, epoch = time.monotonic(), self.epoch
            work = batches_.batches(examples, size, np.random.default_rng([self.seed, epoch]))
            keys = [(work[step], (self.seed, epoch, step)) for step in range(self.step, len(work))]
            with contextlib.closing(batches_.drawn(examples, keys, self.settings.prefetch)) as drawn:
                for batch in drawn:
                    self._update(batch, self._rate(epoch * len(work) + self.step, epochs * len(work)))
                    self.step += 1
                    self._after_step(len(work), validation)
                    if self.epoch != epoch:
                        break
            log.info("epoch %d of %d, %.1f s: %s", self.epoch, epochs, time.monotonic() - started, self.rows[-1])
        self._take_result()
        return self.rows

    def _rate(self, step: int, steps: int) -> float:
        return self.settings.rate(step, steps) * self.watch.factor

    def _update(self, batch: Batch, rate: float) -> None:
        self.model.train()
        self._used = rate
        batches_.seed_torch((self.seed, self.epoch, self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        for piece, share in batches_.pieces(batch, self.settings.accumulate):
            losses = self.losses(batches_.own(piece))
            together = over_processes(losses)
            weighed = [self.objectives[n].weight * together[n][1] * loss for n, (loss, _) in losses.items()]
            (torch.stack(weighed).sum() * share).backward()
            for name, (loss, _) in together.items():
                self.sums[name] = self.sums.get(name, 0.0) + loss * share
        if not all(math.isfinite(x) for x in self.sums.values()):
            raise FloatingPointError(f"epoch {self.epoch + 1}, step {self.step + 1}: a loss is not finite: {self.sums}")
        distributed.sum_gradients(list(self.model.parameters()))
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        distributed.average_norms(self.model)
        if self.average is not None:
            self.average.update(self.model)

    def tensors(self, batch: Batch, model: nn.Module | None = None) -> dict[str, Tensor]:
        """A batch on the device, and what the model (or another) makes of it."""
        model = model or self.model
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        with self._autocast():
            return {**batch, **model(**by_name(model.forward, batch))}

    def losses(self, batch: Batch) -> dict[str, tuple[Tensor, int]]:
        """Every objective on a batch, unweighted, and how many rows it is a mean of."""
        tensors = self.tensors(batch)
        with self._autocast():
            return {name: objective(tensors) for name, objective in self.objectives.items()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @torch.no_grad()
    def validate(self, examples: Examples) -> dict[str, float]:
        """Mean losses and the examples' metrics over one fixed pass over all of ``examples``."""
        model = self.measured.eval()
        found = Pass(self.objectives, examples.metrics)
        order = examples.epoch(np.random.default_rng(self.seed))
        work = [(n, (self.seed, i)) for i, n in enumerate(batches_.evenly(order, self.settings.batch))]
        with contextlib.closing(batches_.drawn(examples, work, self.settings.prefetch)) as drawn:
            for (numbers, key), batch in zip(work, drawn, strict=True):
                batches_.seed_torch(key)
                tensors = self.tensors(batches_.own(batch), model)
                with self._autocast():
                    found.add(tensors, numbers[batches_.own_rows(len(numbers))])
        return found.result()

    @property
    def measured(self) -> nn.Module:
        """The model that validation looks at and the result is taken from: the average where there is one."""
        return self.model if self.average is None else self.average.model

    def _after_step(self, steps: int, validation: Examples | None) -> None:
        """Validate, end the epoch and save, where it is time for it."""
        due = validation is not None and self.settings.validates(self.epoch * steps + self.step, steps)
        if validation is not None and due:
            row = {f"val/{name}": value for name, value in self.validate(validation).items()}
            self.watch.note(row, self.measured)
        ends = self.step == steps or self.watch.stops
        if ends:
            rate = self._used
            losses = {f"train/{name}": value / self.step for name, value in self.sums.items()}
            self.rows.append({"epoch": self.epoch + 1, "lr": rate} | losses | self.watch.seen | self.watch.column())
            self.epoch, self.step, self.sums, self.watch.seen = self.epoch + 1, 0, {}, {}
        if ends or due or time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save()

    def _take_result(self) -> None:
        distributed.barrier()  # process 0 may still be writing
        if self.settings.keep == "best":
            self.model.load_state_dict(self.watch.weights(self.device))
        elif self.average is not None:
            self.model.load_state_dict(self.average.model.state_dict())
        self.model.eval()

    def _save(self) -> None:
        if self._state is None:
            return
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average and self.average.state(),
            "watch": self.watch.state(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "rows": self.rows,
        }
        write(self._state, state)
        self._saved = time.monotonic()

    def _restore(self) -> None:
        if self._state is None or not self._state.exists():
            return
        state = torch.load(self._state, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.load_state(state["average"])
        self.watch.load_state(state["watch"])
        self.epoch, self.step, self.sums, self.rows = (state[name] for name in ("epoch", "step", "sums", "rows"))
        log.info("going on at epoch %d, step %d", self.epoch + 1, self.step + 1)


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
