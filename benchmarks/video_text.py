"""A pretraining step of the text and video encoder against what was published: ``python benchmarks/video_text.py``.

Forward, backward and AdamW on MIL-NCE, matching of all pairs of the batch, masked words twice and false texts, with
texts of 5 to 50 tokens (speech: 22 on average), 4 clips and a vocabulary of 21,128. The plain way: sequences padded to
50 tokens and 5 places of the video, eager attention with an additive mask, all layers for all places, the vocabulary at
all places of a text in both branches, AdamW tensor by tensor. Both start from the same weights and see the same masks,
without dropout, and must have the same losses.

Prints for each size the median CPU time of a step over rounds in which both take turns, the median of the rounds'
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
from videomatch.models.video_text import Config, Model
from videomatch.objectives.contrast import mil_nce, vtm
from videomatch.objectives.tags_and_masks import fused_mlm, itm, mlm
from videomatch.training.loop import optimiser

TOKENS, CLIPS, DIM, WORDS, SEP = 50, 4, 512, 21_128, 102
#: examples of a step, layers, width
SIZES = {"2 layers of 128": (32, 2, 128), "4 layers of 256": (16, 4, 256), "12 layers of 768": (8, 12, 768)}
#: how many times as fast as the plain way
BAR = 3.0
log = logging.getLogger("benchmark")


def drawn(rng: np.random.Generator, count: int) -> Batch:
    """One batch, padded to full length; ours is given the same and finds the padding itself."""

    def texts() -> tuple[np.ndarray, np.ndarray]:
        lengths = np.clip(np.round(5 + rng.gamma(2.0, 8.5, count)), 5, TOKENS).astype(int)
        mask = np.arange(TOKENS) < lengths[:, None]
        ids = np.where(mask, rng.integers(200, WORDS, mask.shape), 0)
        ids[:, 0], ids[np.arange(count), lengths - 1] = 101, SEP
        return ids, mask

    (ids, mask), (false, false_mask) = texts(), texts()
    hit = mask & (ids > SEP) & (rng.random(ids.shape) < 0.15)
    arrays = {
        "frames": rng.normal(size=(count, CLIPS, 1, DIM)).astype(np.float32),
        "input_ids": ids,
        "attention_mask": mask.astype(np.int64),
        "video": np.arange(count),
        "masked_ids": np.where(hit, 103, ids),
        "token_labels": np.where(hit, ids, -100),
        "false_ids": false,
        "false_mask": false_mask.astype(np.int64),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def ours(model: Model, batch: Batch) -> Tensor:
    """The losses by the model and the objectives of the project."""
    o = model(**batch)
    words = mlm(o["token_logits"], o["token_targets"]), fused_mlm(o["fused_logits"], o["fused_targets"])
    pairs = mil_nce(o["text_embeds"], o["clip_embeds"]), vtm(o["pair_scores"], o["own_column"])
    return torch.stack([*pairs, *words, itm(o["match_logits"])])


def plain(model: Model, batch: Batch) -> Tensor:
    """The same losses with the same modules, all of it padded."""
    towers: Any = model.towers
    heads: Any = model
    bert, count = towers.encoder, len(batch["video"])
    mask, false_mask, labels = batch["attention_mask"], batch["false_mask"], batch["token_labels"].flatten()

    def encoded(rows: Tensor, there: Tensor) -> Tensor:
        bias = ((1.0 - there.float()) * -10000.0)[:, None, None, :]
        for layer in bert.encoder.layer:
            rows = layer(rows, bias)
        return rows

    def text(ids: Tensor) -> Tensor:
        return encoded(bert.embeddings(input_ids=ids), mask)

    clips = towers.frames(batch["frames"].mean(2))
    end = bert.embeddings.word_embeddings(torch.full((count, 1), SEP))
    seen = torch.cat([clips, end], 1)
    seen = bert.embeddings(inputs_embeds=seen, token_type_ids=torch.ones(seen.shape[:2], dtype=torch.long))

    def joint(ids: Tensor, there: Tensor, videos: Tensor) -> Tensor:
        rows = torch.cat([bert.embeddings(input_ids=ids), videos], 1)
        return encoded(rows, torch.cat([there, torch.ones(videos.shape[:2], dtype=torch.long)], 1))[:, :TOKENS]

    def guessed(states: Tensor) -> Tensor:
        return F.cross_entropy(heads.token_head(states.flatten(0, 1)), labels)

    texts = F.normalize(towers.text_pooler(text(batch["input_ids"])[:, 0]), dim=-1)
    contrast = mil_nce(texts, F.normalize(towers.clip_head(clips), dim=-1))
    words = guessed(text(batch["masked_ids"])), guessed(joint(batch["masked_ids"], mask, seen))
    one, other = (n.flatten() for n in torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij"))
    pooled = heads.pair_pooler(joint(batch["input_ids"][one], mask[one], seen[other])[:, 0])
    pairs = vtm(heads.pair_head(pooled).view(count, count), torch.arange(count))
    false = heads.pair_pooler(joint(batch["false_ids"], false_mask, seen)[:, 0])
    told = torch.cat([heads.match_head(pooled[one == other]), heads.match_head(false)], 1)
    return torch.stack([contrast, pairs, *words, itm(told)])


def made(size: tuple[int, int, int], batches: list[Batch], bf16: bool) -> Steps:
    """The two ways to make a step, each with a model of its own."""
    count, layers, width = size
    torch.manual_seed(0)
    sizes = {"layers": layers, "width": width, "heads_count": max(2, width // 64), "ffn": 4 * width, "dropout": 0.0}
    config = Config(**sizes, group=count, frame_dim=DIM, max_clips=CLIPS, max_tokens=TOKENS, sep_token_id=SEP)  # pyright: ignore[reportArgumentType]
    first = Model(config).train()
    second = copy.deepcopy(first)
    second.towers.encoder.set_attn_implementation("eager")  # pyright: ignore[reportCallIssue]
    fast = optimiser(first, lr=5e-5, weight_decay=0.01)
    slow = torch.optim.AdamW(second.parameters(), lr=5e-5, weight_decay=0.01, foreach=False, fused=False)
    return steps({"ours": (ours, first, fast), "plain": (plain, second, slow)}, batches, bf16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    for name in options.sizes:
        rng, count = np.random.default_rng(0), SIZES[name][0]
        batches = [drawn(rng, count) for _ in range(3)]
        tokens = np.mean([float(b["attention_mask"].sum(1).float().mean()) for b in batches])
        log.info("%s, %d examples with %.1f of %d tokens", name, count, tokens, TOKENS)
        compared(
            f"step of text and video, {name}", partial(made, SIZES[name], batches), options.rounds, (BAR, BAR, BAR)
        )


if __name__ == "__main__":
    main()
