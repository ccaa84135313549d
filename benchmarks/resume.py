"""Training by the package's own loop, killed and resumed: ``python benchmarks/resume.py``.

The step of ``benchmarks/pretrain.py`` by :class:`videomatch.training.loop.Trainer`, on a card if there is one, on all
if there are several: batches of random examples come from memory, ahead of the step. Measured is what the loop adds to
the bare step on one card (batches, their way to the card, finite losses, gradients clipped), between states. Then a run
is killed after its first state and started again: its weights have to be those of the uninterrupted run, bit by bit.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from _claims import claim, clock
from pretrain import MFM, MLM, SIZES, TAG, TAGS, drawn, ours
from videomatch.common import distributed, precision
from videomatch.examples import Batch, Examples
from videomatch.models.fusion_bert import Config, Model
from videomatch.objectives.tags_and_masks import bce_tags, mfm_nce, mlm
from videomatch.training.loop import STATE, Trainer, Training, optimiser
from videomatch.training.objective import Objective

EPOCHS, POOL, TIMES, WEIGHTS = 3, 4, "seconds.json", "weights.pt"
OBJECTIVES = {"tags": Objective(bce_tags, TAG), "tokens": Objective(mlm, MLM), "frames": Objective(mfm_nce, MFM)}
#: of AdamW, as published
RATES = {"lr": 5e-5, "weight_decay": 0.01, "eps": 1e-6}
log = logging.getLogger("benchmark")


class Random(Examples):
    """Batches of random examples that are in memory."""

    def __init__(self, batch: int, steps: int) -> None:
        rng = np.random.default_rng(0)
        self.pool, self.size, self.steps = [drawn(rng, batch) for _ in range(POOL)], batch, steps

    def _select(self, split: Any) -> None:
        pass

    def derived_config(self) -> dict[str, Any]:
        """Nothing follows from the data."""
        return {}

    def epoch(self, rng: np.random.Generator) -> np.ndarray:
        """As many examples as there are steps."""
        return np.arange(self.steps * self.size)

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        """One of the batches, all of it."""
        return self.pool[int(numbers[0]) // self.size % POOL]


class Timed(Trainer):
    """Notes when each step is done."""

    marks: ClassVar[list[float]] = []

    def train_step(self, batch: Batch, rate: float) -> None:
        """As the trainer's."""
        super().train_step(batch, rate)
        self.marks.append(clock(self.device.type))


def model(size: str) -> Model:
    """Of the size, with random weights."""
    torch.manual_seed(0)
    return Model(Config(**SIZES[size], num_tags=TAGS, heads=["tags", "tokens", "frames"]))  # pyright: ignore[reportArgumentType]


def train(folder: Path, size: str, batch: int, steps: int, processes: int) -> None:
    """Train in this process, from the state in the folder if there is one; leave weights, and when the last epoch's
    steps were done."""
    settings = Training(epochs=EPOCHS, batch=batch, prefetch=2, processes=processes, **RATES)
    with distributed.group(), precision.reproducible(1):
        trainer = Timed(model(size), OBJECTIVES, settings, seed=0, scratch=folder, save_seconds=1e9)
        trainer.fit(Random(batch, steps))
        if not distributed.rank():
            torch.save(trainer.model.state_dict(), folder / WEIGHTS)
            (folder / TIMES).write_text(json.dumps(trainer.marks[-steps:]))


def bare(size: str, batch: int, steps: int) -> float:
    """Seconds of a step without the loop, of the median."""
    device, examples, seconds = precision.default_device(), Random(batch, steps), []
    made = model(size).train().to(device)
    adam = optimiser(made, **RATES)
    for number in range(steps):
        given = {name: value.to(device) for name, value in examples.pool[number % POOL].items()}
        started = clock(device.type)
        with precision.reproducible(1):
            adam.zero_grad(set_to_none=True)
            with precision.autocast(device, bf16=precision.multiplies_bf16(device)):
                losses = ours(made, given)
            losses.sum().backward()
            adam.step()
        seconds.append(clock(device.type) - started)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="4 layers of 256", choices=list(SIZES))
    parser.add_argument("--batch", type=int, default=32, help="of one card")
    parser.add_argument("--steps", type=int, default=12, help="in each of the epochs")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    processes = max(1, torch.cuda.device_count())
    sizes = options.size, options.batch, options.steps
    if options.train is not None:
        start = distributed.start if processes > 1 else lambda function, _, *given: function(*given)
        start(train, processes, options.train, options.size, processes * options.batch, options.steps, processes)
        return
    with tempfile.TemporaryDirectory() as temporary:
        whole, cut = Path(temporary) / "whole", Path(temporary) / "cut"
        for folder in (whole, cut):
            folder.mkdir()

        def command(folder: Path) -> list[str]:
            named = ["--size", options.size, "--batch", str(options.batch), "--steps", str(options.steps)]
            return [sys.executable, __file__, "--train", str(folder), *named]

        subprocess.run(command(whole), check=True)
        log.info("trained")
        killed = subprocess.Popen(command(cut), start_new_session=True)
        while not (cut / STATE).exists():
            if killed.poll() is not None:
                raise SystemExit(f"ended with {killed.returncode} before its first state")
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        log.info("killed, %s", "with its weights" if (cut / WEIGHTS).exists() else "resumed")
        subprocess.run(command(cut), check=True)
        weights = [torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True) for folder in (whole, cut)]
        same = [bool(torch.equal(value, weights[1][name])) for name, value in weights[0].items()]
        marks = json.loads((whole / TIMES).read_text())
        del weights
    what = f"training loop, {options.size}, batch {options.batch}"
    claim(
        f"{what}: weights after kill and resume",
        [np.mean(same)],
        "of all",
        peer=("uninterrupted", [1.0]),
        bar=1,
        more=True,
    )
    rate = processes * options.batch / bare(*sizes)
    found = processes * options.batch / float(np.median(np.diff(marks)))
    unit = (
        f"examples a {'s' if torch.cuda.is_available() else 'CPU s'} on {processes} x {precision.default_device().type}"
    )
    claim(what, [found], unit, peer=("the step alone", [rate]), more=True)


if __name__ == "__main__":
    main()
