"""Train a system: a model on examples of a corpus, to a checkpoint that ``from_pretrained`` loads.

The result is a ``save_pretrained`` folder: ``config.json``, ``model.safetensors``, the tokenizer's files,
``preprocessor_config.json`` where the model reads images, beside ``system.yaml`` (the resolved system) and ``log.csv``
(losses by epoch, deterministic; times are in the job's log).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import polars as pl
import torch
import yaml
from safetensors.torch import load_file

from videomatch import named, objectives
from videomatch.data import examples as examples_
from videomatch.data import tokenize
from videomatch.data.store import Store
from videomatch.training import Run, load_weights, objectives_of, reproducible, settings_of

log = logging.getLogger(__name__)


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
) -> None:
    """Train one member of a system.

    Args:
        corpus: folder of ``prepare``.
        features: folders of ``extract``; the store of ``system["examples"]["expert"]`` is read in each.
        output: empty folder for the checkpoint.
        scratch: folder that survives a kill; the run goes on from the state it finds there.
        threads: of torch.
        system: the resolved system; see ``params.yaml``.
        seed: of the weights, the order and the examples.
        member: name of this run, for the log.
        init: checkpoint whose weights (where names and shapes agree) and tokenizer it starts from.
    """
    room = named.module("models", system["model"]["name"])
    model_options = {name: value for name, value in system["model"].items() if name != "name"}
    kind = examples_.kind(system["examples"]["kind"])
    example_options = {name: value for name, value in system["examples"].items() if name != "kind"}
    tokenizer = _tokenizer(corpus, system, init)
    store = Store.open(*[folder / system["examples"]["expert"] for folder in features])
    drawn = kind(examples_.Source(corpus, store, tokenizer), **example_options)
    drawn = drawn.on(drawn.split)
    with reproducible(threads):
        torch.manual_seed(seed)
        model = room.Model(room.Config(**drawn.facts(), **model_options))
        for folder in init or []:
            taken = load_weights(model, load_file(folder / "model.safetensors"))
            log.info("%d of %d weights from %s", len(taken), len(model.state_dict()), folder)
        run = Run(
            model,
            objectives_of(objectives, system["objectives"]),
            settings_of(system.get("training", {})),
            seed=seed,
            scratch=scratch,
        )
        size = sum(p.numel() for p in model.parameters())
        log.info(
            "%s: %d weights, %d examples an epoch on %s in %s", member, size, len(drawn), run.device.type, run.dtype
        )
        rows = run.fit(drawn, drawn.on("val"))
    model.to("cpu").save_pretrained(output)
    room.processor(model.config).save_pretrained(output)
    if tokenizer is not None:
        tokenizer.save_pretrained(output)
    (output / "system.yaml").write_text(yaml.safe_dump(system, sort_keys=False, allow_unicode=True), encoding="utf-8")
    pl.from_dicts(rows, infer_schema_length=None).write_csv(output / "log.csv")


def _tokenizer(corpus: Path, system: dict[str, Any], init: list[Path] | None) -> Any:
    """The tokenizer that the initial weights were trained with, else the one the system asks for, if any."""
    for folder in init or []:
        if (folder / "tokenizer.json").exists():
            return tokenize.tokenizer(str(folder))
    if "tokenizer" not in system:
        return None
    texts = examples_.split_texts(corpus, system["examples"].get("split", "train"))["text"].to_list()
    return tokenize.tokenizer(**system["tokenizer"], texts=texts)
