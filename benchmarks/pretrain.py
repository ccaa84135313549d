"""A pretraining step of the joint encoder against what was published: ``python benchmarks/pretrain.py``.

Forward, backward and AdamW on tags, masked tokens and masked frames together, 32 examples of lengths like the real
ones (5 to 32 frames, 16 on average; titles of 19 tokens on average), vocabulary 21,128, 10,000 tags, frames of 1536
dimensions. The plain way: sequences padded to 68, eager attention with an additive mask, the token head on all
positions of the text, the frame objective as (32 x 32) x (32 x 32) scores of which padding is pushed away by 1e8,
AdamW tensor by tensor. Both start from the same weights and see the same masks, without dropout, and must have the
same losses.

Prints for each size the median CPU time of a step (on a card: the clock's) over rounds in which both take turns, the
median of the rounds' ratios and their spread, and how far losses and gradients are apart. One thread unless told
otherwise.
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
from videomatch.models.fusion_bert import Config, Model
from videomatch.objectives.tags_and_masks import bce_tags, mfm_nce, mlm
from videomatch.training.loop import optimiser

BATCH, FRAMES, TOKENS, DIM, WORDS, TAGS = 32, 32, 36, 1536, 21_128, 10_000
SIZES = {
    "2 layers of 64": {"layers": 2, "width": 64, "heads_count": 2, "ffn": 128},
    "4 layers of 256": {"layers": 4, "width": 256, "heads_count": 4, "ffn": 1024},
    "12 layers of 768": {"layers": 12, "width": 768, "heads_count": 12, "ffn": 3072},
    "24 layers of 1024": {"layers": 24, "width": 1024, "heads_count": 16, "ffn": 4096},  # published, on a card
}
#: how many times as fast as the plain way a size has to be: in fp32, in bf16, and in bf16 as the plain way in fp32
BARS = {"4 layers of 256": (3.0, 3.0, 5.0), "12 layers of 768": (2.0, 3.0, 5.0)}
#: weights of the losses (the published system's, divided by three tasks)
TAG, MLM, MFM = 1250 / 3, 1 / 1.25 / 3, 1 / 3 / 3
log = logging.getLogger("benchmark")


def lengths(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and tokens of every example: 12 % have 32 frames, the others 5 to 31 with 10 the most frequent."""
    frames = np.clip(np.round(5 + rng.gamma(2.0, 4.6, batch)), 5, 31).astype(int)
    frames[rng.random(batch) < 0.12] = FRAMES
    titles = np.clip(np.round(rng.normal(18.7, 7.0, batch)), 1, TOKENS - 3).astype(int)
    return frames, titles + 3  # [CLS] [SEP] title [SEP]


def drawn(rng: np.random.Generator, batch: int = BATCH) -> Batch:
    """One masked batch, padded to full length; ours is given the same and finds the padding itself."""
    frames, tokens = lengths(rng, batch)
    seen, text = np.arange(FRAMES) < frames[:, None], np.arange(TOKENS) < tokens[:, None]
    ids = np.where(text, rng.integers(200, WORDS, (batch, TOKENS)), 0)
    ids[:, 0], ids[:, 1] = 101, 102
    ids[np.arange(batch), tokens - 1] = 102
    hit = text & (ids > 102) & (rng.random(ids.shape) < 0.15)
    features = rng.normal(size=(batch, FRAMES, DIM)).astype(np.float32) * 0.4 * seen[..., None]
    return {
        "frames": torch.from_numpy(features.astype(np.float32)),
        "frame_mask": torch.from_numpy(seen),
        "input_ids": torch.from_numpy(np.where(hit, 103, ids)),
        "attention_mask": torch.from_numpy(text),
        "token_labels": torch.from_numpy(np.where(hit, ids, -100)),
        "masked_frames": torch.from_numpy(seen & (rng.random(seen.shape) < 0.135)),
        "labels": torch.from_numpy((rng.random((batch, TAGS)) < 4.6 / TAGS).astype(np.float32)),
    }


def ours(model: Model, batch: Batch) -> Tensor:
    """The weighted losses by the model and the objectives of the project."""
    o = model(**{name: value for name, value in batch.items() if name != "labels"})
    tags = bce_tags(o["logits"], batch["labels"])
    tokens = mlm(o["token_logits"], o["token_targets"])
    frames = mfm_nce(o["frame_outputs"], o["frame_candidates"], o["frame_targets"])
    return torch.stack([TAG * tags, MLM * tokens, MFM * frames])


def plain(model: Model, batch: Batch) -> Tensor:
    """The same losses with the same modules, all of it padded."""
    encoder: Any = model.encoder
    embeddings: Any = model.frames
    seen, text, hidden = batch["frame_mask"], batch["attention_mask"], batch["masked_frames"]
    words = encoder.embeddings(input_ids=batch["input_ids"])
    shown = batch["frames"] * (~hidden)[..., None]
    frames = embeddings(shown, torch.arange(FRAMES, device=seen.device).expand(seen.shape))
    joint = torch.cat([words[:, :1], frames, words[:, 1:]], dim=1)
    valid = torch.cat([text[:, :1], seen, text[:, 1:]], dim=1)
    bias = ((1.0 - valid.float()) * -10000.0)[:, None, None, :]
    for layer in encoder.encoder.layer:
        joint = layer(joint, bias)
    state, frames, words = joint[:, 0], joint[:, 1 : FRAMES + 1], joint[:, FRAMES + 1 :]
    heads: Any = model
    tags = F.binary_cross_entropy_with_logits(heads.tag_head(F.relu(state)), batch["labels"])
    scores = heads.token_head(words).view(-1, WORDS)
    tokens = F.cross_entropy(scores, batch["token_labels"][:, 1:].flatten())
    frames = _dense_nce(heads.frame_head(frames), batch["frames"], seen, hidden)
    return torch.stack([TAG * tags, MLM * tokens, MFM * frames])


def _dense_nce(outputs: Tensor, features: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
    scores = outputs.flatten(0, 1) @ features.flatten(0, 1).T.to(outputs.dtype)
    there = seen.flatten().float()
    scores = scores + (1.0 - there[:, None] * there[None, :]) * -1e8
    each = -F.log_softmax(scores, dim=-1).diagonal()
    return each[hidden.flatten()].mean()


def made(size: dict[str, int], batches: list[Batch], bf16: bool, device: str) -> Steps:
    """The two ways to make a step, each with a model of its own."""
    torch.manual_seed(0)
    config = Config(**size, dropout=0.0, num_tags=TAGS, heads=["tags", "tokens", "frames"])  # pyright: ignore[reportArgumentType]
    first = Model(config).train().to(device)
    second = copy.deepcopy(first)
    second.encoder.set_attn_implementation("eager")  # pyright: ignore[reportCallIssue]
    fast = optimiser(first, lr=5e-5, weight_decay=0.01, eps=1e-6)
    slow = torch.optim.AdamW(second.parameters(), lr=5e-5, weight_decay=0.01, eps=1e-6, foreach=False, fused=False)
    batches = [{name: value.to(device) for name, value in batch.items()} for batch in batches]
    return steps({"ours": (ours, first, fast), "plain": (plain, second, slow)}, batches, bf16, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", nargs="*", default=list(BARS), choices=list(SIZES))
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    batches = [drawn(rng, options.batch) for _ in range(4)]
    shares = [float(torch.cat([b["frame_mask"], b["attention_mask"]], 1).float().mean()) for b in batches]
    log.info("%.1f of %d positions are no padding", np.mean(shares) * (FRAMES + TOKENS), FRAMES + TOKENS)
    for name in options.sizes:
        what = f"pretraining step, {name}" + (f", batch {options.batch}" if options.batch != BATCH else "")
        bars = BARS.get(name, (None, None, None))
        ways = partial(made, SIZES[name], batches, device=options.device)
        compared(what, ways, options.rounds, bars, options.device)


if __name__ == "__main__":
    main()
