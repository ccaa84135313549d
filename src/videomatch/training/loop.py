"""The training loop, one for all systems.

A step is ``outputs = model(**batch)``; the arguments of every objective are filled by name from outputs and batch; the
objectives are weighted and summed, and the optimiser steps. With the batch come two scalars: ``progress``, the share of
all steps that are done, and ``uniform``, a random number of the step, the same in all processes (both 0 in validation).

Nothing random keeps a state: examples, dropout and order of step s of epoch e follow from (seed, e, s). So a resumed
run ends with the same bits as an uninterrupted one.

Several processes (:mod:`common.distributed`) share each batch: all sample it whole, each computes its rows, then
gradients are summed: what one process does, but for rounding, dropout's random numbers and BatchNorm's statistics.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from videomatch.common import distributed
from videomatch.common.precision import autocast, default_device, multiplies_bf16
from videomatch.examples import Batch, Examples
from videomatch.metrics import HIGHER
from videomatch.specs.systems import needs_validation
from videomatch.training import data
from videomatch.training.objective import Objective, Validation, by_name, over_processes

log = logging.getLogger(__name__)

#: the files that survive a kill: the state, and the weights of the best validation so far
STATE, BEST = "state.pt", "best.pt"
#: validations for which a learning rate is kept at least
COOLDOWN = 3
#: attributes of a trainer that are saved with the states of its parts
PROGRESS = ("epoch", "step", "sums", "metrics", "rows")
#: tells the seed of a step's random number from those of its examples and of dropout
UNIFORM = 1
#: the scalars of a validation
START = {"progress": 0.0, "uniform": 0.0}


@dataclass(frozen=True)
class Training:
    """How a system is trained: ``training:`` of the parameters.

    Args:
        batch: examples per step; an incomplete last batch of an epoch is dropped unless it is the only one.
        lr: largest learning rate of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
        lr_scale: see :func:`rate_factors`.
        warmup: share of all steps in which the learning rate rises linearly; then ``schedule`` (to zero) follows.
        decay, plateau: factors of the learning rate after each epoch, and after a validation without improvement of
            ``monitor``; each rate is kept for three validations at least.
        precision: ``fp32``, ``bf16`` (autocast), or ``auto``: bf16 where the hardware multiplies it.
        accumulate: micro-batches in which a batch is computed, to save memory. A contrastive objective only has the
            negatives of its micro-batch, and BatchNorm its statistics.
        ema: decay of a running average of the weights, which is validated and is the result; null for none.
        validate_every: epochs between validations, also 0.5; 0 for never. The last step is validated, too.
        monitor: metric of a validation, like ``val/Spearman``.
        keep: the weights of the ``last`` step, or of the ``best`` validation by ``monitor`` (of equals the first).
        early_stop: validations in a row without improvement of ``monitor`` after which training ends; null for never.
        prefetch: batches sampled ahead by a thread.
        processes: how many on this machine share each batch, with a GPU each if there are any; ignored under torchrun.
        threads: processors that the workflow gives a run.
    """

    epochs: int = 10
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    eps: float = 1e-8
    lr_scale: Mapping[str, float] | Sequence[tuple[str, float]] = field(default_factory=dict)
    warmup: float = 0.06
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    decay: float = 1.0
    plateau: float = 1.0
    clip_norm: float | None = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    accumulate: int = 1
    ema: float | None = None
    validate_every: float = 1
    monitor: str | None = None
    keep: Literal["last", "best"] = "last"
    early_stop: int | None = None
    prefetch: int = 0
    processes: int = 1
    threads: int = 2

    def __post_init__(self) -> None:
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
        if needs_validation(vars(self)) and not (self.monitor and self.validate_every):
            raise ValueError("training: keep: best, early_stop and plateau need a monitor and a validate_every above 0")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0, of ``steps``."""
        warmup = max(1, round(self.warmup * steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        share = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[self.schedule]
        return self.lr * share * self.decay ** (step * self.epochs // steps)

    def validates(self, done: int, epoch: int) -> bool:
        """Whether a validation follows ``done`` steps, with ``epoch`` steps per epoch."""
        if not self.validate_every:
            return False
        distance = self.validate_every * epoch
        number = round(done / distance)
        return done == self.epochs * epoch or (number > 0 and round(number * distance) == done)


@dataclass
class EarlyStopping:
    """Stops training, reduces the learning rate and keeps the best weights (in ``folder``, or in memory without one) by
    one metric; options are those of ``training:``."""

    monitor: str | None
    patience: int | None
    plateau: float
    keep_best: bool
    folder: Path | None
    best: float | None = None
    bad: int = 0  # validations since the best one
    since: int = 0  # validations since lr_factor changed
    lr_factor: float = 1.0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def update(self, metrics: dict[str, float], model: nn.Module) -> None:
        """Take a validation's metrics and the model that was validated."""
        if self.monitor is None:
            return
        if self.monitor not in metrics:
            raise ValueError(f"training.monitor {self.monitor!r} is not measured; there are {', '.join(metrics)}")
        self.bad += 1
        self.since += 1
        value, sign = metrics[self.monitor], 1 if HIGHER.search(self.monitor) else -1
        if not math.isnan(value) and (self.best is None or sign * value > sign * self.best):
            self.best, self.bad = value, 0
            if self.keep_best and self.folder is None:
                self.weights = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
            elif self.keep_best and self.folder is not None:
                save(self.folder / BEST, model.state_dict())
        elif self.since >= COOLDOWN:
            self.lr_factor, self.since = self.lr_factor * self.plateau, 0

    @property
    def should_stop(self) -> bool:
        """Whether as many validations as ``patience`` allows did not improve."""
        return self.patience is not None and self.bad >= self.patience

    def column(self) -> dict[str, float]:
        """The best value for the log: ``best/Spearman`` of monitor ``val/Spearman``."""
        return {} if self.best is None else {f"best/{(self.monitor or '').removeprefix('val/')}": self.best}

    def best_weights(self, device: torch.device) -> dict[str, Tensor]:
        """Those of the best validation; a ``ValueError`` if the monitor never was a number."""
        if self.best is None:
            raise ValueError(f"training.keep: best, but {self.monitor!r} was never a number")
        if self.folder is None:
            return self.weights
        return torch.load(self.folder / BEST, map_location=device, weights_only=True)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights."""
        return {"best": self.best, "bad": self.bad, "lr_factor": self.lr_factor, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def save(path: Path, value: Any) -> None:
    """Save whole or not at all: after a kill the file is the old one or the new one. Only process 0 writes."""
    if distributed.rank():
        return
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


class Trainer:
    """Trains a model in place, saves the state and resumes from it.

    Args:
        scratch: folder for the state that survives a kill; None to save no state.
        save_seconds: at most so many seconds of work are lost to a kill (plus a step, or a validation).
    """

    def __init__(
        self,
        model: nn.Module,
        objectives: Mapping[str, Objective],
        settings: Training,
        *,
        seed: int,
        scratch: Path | None = None,
        save_seconds: float = 30.0,
    ) -> None:
        self.settings, self.objectives, self.seed = settings, dict(objectives), seed
        self.device = default_device()
        self.use_bf16 = settings.precision == "bf16" or (settings.precision == "auto" and multiplies_bf16(self.device))
        self.model = model.to(self.device)
        if self.use_bf16:  # in this order in memory convolutions of bf16 take three quarters of the time on a CPU
            for module in model.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.data = module.weight.contiguous(memory_format=torch.channels_last)
        factors = rate_factors([n for n, _ in model.named_parameters()], settings.lr_scale)
        self.optimiser = optimiser(
            self.model, lr=settings.lr, weight_decay=settings.weight_decay, eps=settings.eps, factors=factors
        )
        self.average = None if settings.ema is None else moving_average(self.model, settings.ema)
        watched = (settings.monitor, settings.early_stop, settings.plateau)
        self.early_stopping = EarlyStopping(*watched, keep_best=settings.keep == "best", folder=scratch)
        self.epoch, self.step = 0, 0  # of the next step
        self.scalars = START  # of this step
        self.sums: dict[str, float] = {}  # of the losses of this epoch's steps
        self.metrics: dict[str, float] = {}  # of this epoch's last validation
        self.rows: list[dict[str, float]] = []  # the log, a row per epoch
        self.state, self.save_seconds = None if scratch is None else Path(scratch) / STATE, save_seconds
        self._parts: dict[str, Any] = {name: getattr(self, name) for name in ("model", "optimiser", "early_stopping")}
        if self.average is not None:
            self._parts["average"] = self.average

    def fit(self, examples: Examples, validation: Examples | None = None) -> list[dict[str, float]]:
        """Train to the end, from the saved state if there is one; returns the log, a row per epoch."""
        if validation is None and needs_validation(vars(self.settings)):
            needing = "keep: best, early_stop and plateau"
            raise ValueError(f"training: {needing} need examples to validate on; there are none")
        self._load_state()
        epochs, saved = self.settings.epochs, time.monotonic()
        while self.epoch < epochs and not self.early_stopping.should_stop:
            started, epoch, rate = time.monotonic(), self.epoch, 0.0
            numbers = data.epoch_batches(examples, self.settings.batch, np.random.default_rng([self.seed, epoch]))
            steps = len(numbers)
            work = [(numbers[step], (self.seed, epoch, step)) for step in range(self.step, steps)]
            with contextlib.closing(data.sampled(examples, work, self.settings.prefetch)) as batches:
                for batch in batches:
                    rate = self.settings.rate(epoch * steps + self.step, epochs * steps)
                    rate *= self.early_stopping.lr_factor
                    uniform = np.random.default_rng([self.seed, epoch, self.step, UNIFORM]).random()
                    self.scalars = {"progress": (epoch + self.step / steps) / epochs, "uniform": uniform}
                    self.train_step(batch, rate)
                    self.step += 1
                    validates = validation is not None and self.settings.validates(epoch * steps + self.step, steps)
                    if validation is not None and validates:
                        self.metrics = {f"val/{name}": value for name, value in self.validate(validation).items()}
                        self.early_stopping.update(self.metrics, self.validated_model)
                    ends = self.step == steps or self.early_stopping.should_stop
                    if ends:
                        losses = {f"train/{name}": value / self.step for name, value in self.sums.items()}
                        row = {"epoch": epoch + 1, "lr": rate} | losses | self.metrics | self.early_stopping.column()
                        self.rows.append(row)
                        self.epoch, self.step, self.sums, self.metrics = epoch + 1, 0, {}, {}
                    if ends or validates or time.monotonic() - saved >= self.save_seconds:
                        self._save_state()
                        saved = time.monotonic()
                    if ends:
                        break
            log.info("epoch %d of %d, %.1f s: %s", self.epoch, epochs, time.monotonic() - started, self.rows[-1])
        distributed.barrier()  # process 0 may still be writing
        if self.settings.keep == "best":
            self.model.load_state_dict(self.early_stopping.best_weights(self.device))
        elif self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
        self.model.eval()
        return self.rows

    def train_step(self, batch: Batch, rate: float) -> None:
        self.model.train()
        data.seed_torch((self.seed, self.epoch, self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        for micro_batch, weight in data.micro_batches(batch, self.settings.accumulate):
            losses = self.losses(data.local_shard(micro_batch))
            means = over_processes(losses)
            weighted = [self.objectives[n].weight * means[n][1] * loss for n, (loss, _) in losses.items()]
            (torch.stack(weighted).sum() * weight).backward()
            for name, (loss, _) in means.items():
                self.sums[name] = self.sums.get(name, 0.0) + loss * weight
        if not all(math.isfinite(x) for x in self.sums.values()):
            raise FloatingPointError(f"epoch {self.epoch + 1}, step {self.step + 1}: a loss is not finite: {self.sums}")
        distributed.sum_gradients(self.model)
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        distributed.average_batch_norms(self.model)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def losses(self, batch: Batch) -> dict[str, tuple[Tensor, int]]:
        """Every objective on a batch, unweighted, and the number of rows that it is a mean of."""
        tensors = self._tensors(self.model, batch, self.scalars)
        with self._autocast():
            return {name: objective(tensors) for name, objective in self.objectives.items()}

    @torch.no_grad()
    def validate(self, examples: Examples) -> dict[str, float]:
        """Mean losses and the examples' metrics over one fixed pass over all of ``examples``."""
        model = self.validated_model.eval()
        found = Validation(self.objectives, examples.metrics)
        order = examples.epoch(np.random.default_rng(self.seed))
        work = [(n, (self.seed, i)) for i, n in enumerate(data.even_batches(order, self.settings.batch))]
        with contextlib.closing(data.sampled(examples, work, self.settings.prefetch)) as batches:
            for (numbers, key), batch in zip(work, batches, strict=True):
                data.seed_torch(key)
                tensors = self._tensors(model, data.local_shard(batch), START)
                with self._autocast():
                    found.update(tensors, numbers[data.local_rows(len(numbers))])
        return found.compute()

    @property
    def validated_model(self) -> nn.Module:
        """The model that is validated and whose weights are the result: the average where there is one."""
        return self.model if self.average is None else self.average.module

    def _tensors(self, model: nn.Module, batch: Batch, scalars: Mapping[str, float]) -> dict[str, Tensor]:
        """A batch and scalars on the device, and the model's outputs on them."""
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        batch |= {name: torch.tensor(value, device=self.device) for name, value in scalars.items()}
        with self._autocast():
            return {**batch, **model(**by_name(model.forward, batch))}

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        return autocast(self.device, bf16=self.use_bf16)

    def _save_state(self) -> None:
        if self.state is not None:
            parts = {name: part.state_dict() for name, part in self._parts.items()}
            save(self.state, parts | {name: getattr(self, name) for name in PROGRESS})

    def _load_state(self) -> None:
        if self.state is None or not self.state.exists():
            return
        state = torch.load(self.state, map_location=self.device, weights_only=True)
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        for name in PROGRESS:
            setattr(self, name, state[name])
        log.info("resumed at epoch %d, step %d", self.epoch + 1, self.step + 1)


def rate_factors(names: Sequence[str], scale: Mapping[str, float] | Sequence[tuple[str, float]]) -> dict[str, float]:
    """Name of every parameter -> factor of its learning rate: that of the first regular expression of ``scale`` that is
    found in it, a mapping's in alphabetical order, else 1."""
    patterns = sorted(scale.items()) if isinstance(scale, Mapping) else list(scale)
    for pattern, _ in patterns:
        if not any(re.search(pattern, name) for name in names):
            log.warning("training.lr_scale: %r is in no parameter's name; there are %s, …", pattern, names[:5])
    return {name: next((f for pattern, f in patterns if re.search(pattern, name)), 1.0) for name in names}


def optimiser(
    model: nn.Module, *, lr: float, weight_decay: float, eps: float = 1e-8, factors: Mapping[str, float] | None = None
) -> torch.optim.AdamW:
    """AdamW whose groups differ in ``weight_decay`` (matrices and filters decay, vectors do not) and ``factor``."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            key = (weight_decay if p.ndim > 1 else 0.0, factors[name] if factors else 1.0)
            groups.setdefault(key, []).append(p)
    chosen = [{"params": ps, "weight_decay": decay, "factor": factor} for (decay, factor), ps in groups.items()]
    return torch.optim.AdamW(chosen, lr=lr, eps=eps, fused=True)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights and statistics, in evaluation mode.

    Each step keeps ``decay`` of the average, but at most ``(1 + n) / (10 + n)`` at step n, as TensorFlow's
    ``ExponentialMovingAverage`` does with ``num_updates``, so that the initial weights soon count little.
    """

    def average(averages: Sequence[Tensor], new: Sequence[Tensor], step: Tensor) -> None:
        if averages[0].is_floating_point():
            get_ema_multi_avg_fn(min(decay, (1 + int(step)) / (10 + int(step))))(averages, new, step)  # pyright: ignore[reportArgumentType]
        else:  # counters
            for mine, theirs in zip(averages, new, strict=True):
                mine.copy_(theirs)

    found = AveragedModel(model, multi_avg_fn=average, use_buffers=True)  # pyright: ignore[reportArgumentType]
    found.n_averaged.fill_(1)  # the initial weights are the first: 0 would replace them
    return found.eval().requires_grad_(False)
