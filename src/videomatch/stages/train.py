"""Train a system: a model on examples of a corpus, to a checkpoint that ``from_pretrained`` loads.

The result is a ``save_pretrained`` folder: ``config.json``, ``model.safetensors``, the tokenizer's files,
``preprocessor_config.json`` where the model reads images, beside ``system.yaml`` (the resolved system) and ``log.csv``
(learning rate, losses and validations by epoch, deterministic; times are in the job's log).

Several processes (``training: {processes: N}``, or
``torchrun --standalone --nproc-per-node N -m -- videomatch train …``) train one model; process 0 writes the result.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml
from safetensors.torch import load_file

from videomatch import examples as examples_
from videomatch.common import distributed, named
from videomatch.common.checkpoint import load_weights
from videomatch.common.precision import reproducible
from videomatch.data import tokenize
from videomatch.training.loop import STATE, Trainer, Training
from videomatch.training.objective import configured

log = logging.getLogger(__name__)

#: examples over which a model fits statistics before it trains
SAMPLE = 512


def train(
    *,
    corpus: Path,
    features: list[Path],
    output: Path,
    scratch: Path,
    threads: int,
    system: dict[str, Any],
    seed: int,
    member: str = "seed0",
    init: list[Path] | None = None,
    fresh: list[str] | None = None,
    fold: list[int] | None = None,
    backbones: list[Path] | None = None,
    scores: list[Path] | None = None,
) -> None:
    """Train one member of a system.

    Args:
        scratch: folder that survives a kill; the run resumes from the state in it.
        init: checkpoints whose weights and tokenizer it starts from.
        fresh: names of weights that do not come from there (:func:`videomatch.common.checkpoint.load_weights`).
        fold: ``[f, k]``: leave out fold f of k and validate on it; None for the split's own validation.
        backbones: results of training that the model or the tokenizer of ``system`` refers to.
        scores: the result of ``score_pairs`` that its examples are filtered by.
    """
    given = dict(locals())
    settings = Training(**system.get("training", {}))
    if settings.processes > 1 and distributed.size() == 1 and not distributed.launched():
        distributed.start(functools.partial(train, **given), settings.processes)
        return
    with distributed.group():
        model_options = {name: value for name, value in system["model"].items() if name != "name"}
        module = named.module("models", system["model"]["name"])
        tokenizer = _tokenizer(corpus, system, init or [])
        examples = examples_.of_system(system, corpus, features, tokenizer, *(scores or []))
        train_examples, validation = examples.parts(fold=(fold[0], fold[1]) if fold else None)
        with reproducible(max(1, threads // distributed.local_size())):
            torch.manual_seed(seed)
            model = module.Model(module.Config(**train_examples.derived_config(), **model_options))
            if not (scratch / STATE).exists():
                _initialise(model, init or [], fresh or [], train_examples)
            trainer = Trainer(model, configured(system["objectives"]), settings, seed=seed, scratch=scratch)
            size = sum(p.numel() for p in model.parameters())
            where = f"{distributed.size()} x {trainer.device.type}, {'bf16' if trainer.use_bf16 else 'fp32'}"
            log.info("%s: %d weights, %d examples per epoch on %s", member, size, len(train_examples), where)
            rows = trainer.fit(train_examples, validation)
        if distributed.rank():
            return
    model.to("cpu").save_pretrained(output)
    for processor in (model.processor(), tokenizer):
        if processor is not None:
            processor.save_pretrained(output)
    (output / "system.yaml").write_text(yaml.safe_dump(system, sort_keys=False, allow_unicode=True), encoding="utf-8")
    pl.from_dicts(rows, infer_schema_length=None).write_csv(output / "log.csv", null_value="NaN")


def _initialise(model: Any, init: list[Path], fresh: list[str], train_examples: examples_.Examples) -> None:
    """Fill a fresh model with the weights that it starts from."""
    model.initialise()
    rng = np.random.default_rng(0)
    model.fit_statistics(lambda: train_examples.batch(train_examples.epoch(rng)[:SAMPLE], rng))
    if init:
        load_weights(model, *(load_file(folder / "model.safetensors") for folder in init), fresh=fresh)
        log.info("weights from %s", ", ".join(map(str, init)))


def _tokenizer(corpus: Path, system: dict[str, Any], init: list[Path]) -> Any:
    """The tokenizer that the initial weights were trained with, else that of the system, if it has one."""
    for folder in init:
        if (folder / "tokenizer.json").exists():
            return tokenize.tokenizer(str(folder))
    if "tokenizer" not in system:
        return None
    texts = examples_.kind(system["examples"]["kind"]).vocabulary(corpus, system["examples"])
    return tokenize.tokenizer(**system["tokenizer"], texts=texts)
