"""A training step of the multi-modal transformer against what was published: ``python benchmarks/mmt.py``.

Forward, max-margin loss, backward and Adam at the published size: 32 captions and videos, seven experts of MSR-VTT's
dimensions, at most 30 rows each, 4 layers of 512 for the videos, BERT-base for the captions; 133 M weights. The plain
way is the published code's: 218 tokens for every video whether there is a row or not, captions padded to 30 tokens,
additive masks, all layers for all tokens, Adam tensor by tensor. Both start from the same weights, without dropout, and
must have the same loss and gradients.

Three batches: ``as in MSR-VTT``, ``all experts`` (the same lengths, nothing missing) and ``all rows`` (30 rows of every
expert: only captions have padding). The first assumes clips of 10 to 30 s, 15 s on average: a row a second of motion,
scene and sound (87 % of the clips have any), five a second of appearance, speech of 2 words a second in 70 % of the
clips, 1 to 30 faces in 60 % and words of OCR in 40 %. Captions have 9.3 words on average, of 1.15 tokens each.

Prints for each batch the median CPU time of a step over rounds in which both take turns, the median of the rounds'
ratios and their spread, and how far losses and gradients are apart. One thread unless told otherwise.
"""

from __future__ import annotations

import argparse
import copy
import logging
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from _twins import Batch, Steps, compared, steps
from videomatch.models.mmt import Config, Model
from videomatch.objectives.margins import max_margin
from videomatch.training.loop import optimiser

BATCH, ROWS, TOKENS, WORDS = 32, 30, 30, 28_996
EXPERTS = {"face": 512, "ocr": 300, "rgb": 2048, "s3d": 1024, "scene": 2208, "speech": 300, "vggish": 128}
SHARES = {"face": 0.6, "ocr": 0.4, "speech": 0.7, "vggish": 0.87}
KINDS = ("as in MSR-VTT", "all experts", "all rows")
#: how many times as fast as the plain way, as in MSR-VTT
BAR = 3.0
log = logging.getLogger("benchmark")


def lengths(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Rows of every expert (BATCH, E)."""
    if kind == "all rows":
        return np.full((BATCH, len(EXPERTS)), ROWS)
    seconds = np.clip(10 + rng.gamma(1.2, 4.2, BATCH), 10, 30)
    found = dict.fromkeys(("s3d", "scene", "vggish"), seconds)
    found |= {"rgb": seconds * 5, "speech": seconds * 2}
    found |= {name: rng.integers(1, ROWS + 1, BATCH) for name in ("face", "ocr")}
    rows = np.stack([np.clip(found[name], 1, ROWS).astype(int) for name in EXPERTS], 1)
    there = np.stack([rng.random(BATCH) < SHARES.get(name, 1.0) for name in EXPERTS], 1)
    return rows if kind == "all experts" else rows * there


def drawn(rng: np.random.Generator, kind: str) -> Batch:
    """One batch, padded to full length; ours is given the same and finds the padding itself."""
    mask = np.arange(ROWS)[None, :, None] < lengths(rng, kind)[:, None]
    wide = np.repeat(mask, list(EXPERTS.values()), axis=2)
    features = np.where(wide, rng.standard_normal(wide.shape, np.float32), 0.0).astype(np.float32)
    words = np.clip(np.round(rng.gamma(9.0, 9.3 / 9.0, BATCH) * 1.15), 2, TOKENS - 3).astype(int) + 3  # [CLS] … . [SEP]
    text = np.arange(TOKENS) < words[:, None]
    ids = np.where(text, rng.integers(200, WORDS, (BATCH, TOKENS)), 0)
    seconds = np.arange(ROWS)[None, :, None].repeat(len(EXPERTS), 2).repeat(BATCH, 0)
    found = {
        "features": features,
        "feature_mask": mask,
        "positions": np.where(mask, seconds + 2, 1),
        "maxima": features.max(1),
        "means": features.mean(1),
        "input_ids": ids,
        "attention_mask": text.astype(np.int64),
    }
    return {name: torch.from_numpy(array) for name, array in found.items()}


def ours(model: Model, batch: Batch) -> Tensor:
    """The loss by the model and the objective of the project."""
    return max_margin(model(**batch)["similarity"])


def plain(model: Any, batch: Batch) -> Tensor:
    """The same loss with the same modules, all of it padded."""
    mask, zero = batch["feature_mask"], torch.zeros(BATCH, 1, model.config.width)
    rows, valid, places, edge = [zero + model.start], [torch.ones(BATCH, 1)], [torch.zeros(BATCH, 1)], 0
    for number, (name, dim) in enumerate(EXPERTS.items()):
        expert, at = model.video_experts[name], mask[..., number]
        joint = torch.cat([batch["maxima"][:, None], batch["features"]], 1)[..., edge : edge + dim]
        rows.append(expert(joint) + expert.mark)
        valid += [at.any(1, keepdim=True).float(), at.float()]
        places += [torch.zeros(BATCH, 1), batch["positions"][..., number]]
        edge += dim
    hidden = model.norm(torch.cat(rows, 1) + model.times(torch.cat(places, 1).long().clamp(max=31)))
    bias = (1 - torch.cat(valid, 1))[:, None, None] * -10000.0
    for layer in model.layer:
        hidden = layer(hidden, bias)
    ends = 1 + torch.arange(len(EXPERTS)) * (ROWS + 1)
    videos = F.normalize(hidden[:, ends], dim=-1)
    bias = (1 - batch["attention_mask"].float())[:, None, None] * -10000.0
    words = model.text_model.embeddings(input_ids=batch["input_ids"])
    for layer in model.text_model.encoder.layer:
        words = layer(words, bias)
    units, scores = [], []
    for name in EXPERTS:
        expert = model.text_experts[name]
        x = expert.projection(words[:, 0])
        units.append(F.normalize(x * torch.sigmoid(expert.norm(expert.gate(x))), dim=-1))
        scores.append(expert.weight(words[:, 0]))
    weights = torch.cat(scores, 1).softmax(1)
    sims = torch.zeros(BATCH, BATCH)
    for number in range(len(EXPERTS)):
        sims = sims + (units[number] @ videos[:, number].T) * weights[:, number, None]
    own = sims.diagonal()
    others = ~torch.eye(BATCH, dtype=torch.bool)
    losses = F.relu(0.05 + sims - own[:, None])[others], F.relu(0.05 + sims.T - own[:, None])[others]
    return torch.cat(losses).mean()


def made(batches: list[Batch], bf16: bool) -> Steps:
    """The two ways to make a step, each with a model of its own."""
    torch.manual_seed(0)
    first = Model(Config(experts=EXPERTS, dropout=0.0, text_length=512)).train()
    second = copy.deepcopy(first)
    for layer in [*second.layer, *second.text_model.encoder.layer]:  # pyright: ignore[reportGeneralTypeIssues]
        layer.attention.self.config._attn_implementation = "eager"  # pyright: ignore[reportAttributeAccessIssue]
    fast = optimiser(first, lr=5e-5, weight_decay=0.0)
    slow = torch.optim.Adam(second.parameters(), lr=5e-5, foreach=False, fused=False)
    return steps({"ours": (ours, first, fast), "plain": (plain, second, slow)}, batches, bf16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    for kind in options.kinds:
        batches = [drawn(rng, kind) for _ in range(options.rounds)]
        masks = ("feature_mask", "attention_mask")
        told = (np.mean([float(batch[name].sum()) for batch in batches]) / BATCH for name in masks)
        log.info("%s: %.0f of 210 rows, %.1f of 30 tokens", kind, *told)
        bar = BAR if kind == KINDS[0] else None
        compared(f"MMT's step, {kind}", partial(made, batches), options.rounds, (bar, bar, bar))


if __name__ == "__main__":
    main()
