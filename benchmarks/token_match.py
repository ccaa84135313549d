"""A finetuning step of words against frames against what was published: ``python benchmarks/token_match.py``.

Forward, backward and AdamW of NegNCE, visual attention and partial orders, with a BERT of four layers of 256, 64 texts
of up to 32 tokens and videos of up to 18 frames of 256 dimensions. The plain way, of the published code: texts padded
to 32 tokens, products of all words and all frames masked one after the other, the importance of all words and frames,
and masked texts and videos, of all 64 x 64 pairs, of which the partial orders read the diagonal. Both start from the
same weights and must have the same losses.

Prints the median CPU time of a step over rounds in which both take turns, the median of the rounds' ratios and their
spread, and how far losses and gradients are apart. One thread unless told otherwise.
"""

from __future__ import annotations

import argparse
import copy
import logging
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from _twins import in_turns, steps
from videomatch.models.token_match import MASKED, SECOND, Config, Model
from videomatch.objectives.hard_negatives import neg_nce, partial_order
from videomatch.training.loop import optimiser

BATCH, TOKENS, FRAMES, WIDTH, WORDS = 64, 32, 18, 256, 8000
BERT = {
    "model_type": "bert", "vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4,
    "intermediate_size": 4 * WIDTH, "max_position_embeddings": TOKENS, "pad_token_id": 0,
}  # fmt: skip
#: how many times as fast as the plain way a step has to be
BAR = 3.0
log = logging.getLogger("benchmark")


def drawn(rng: np.random.Generator) -> dict[str, Tensor]:
    """A batch, padded to full length; ours finds the padding itself."""
    tokens = np.clip(np.round(rng.normal(17.0, 5.0, BATCH)), 5, TOKENS)
    text, seen = np.arange(TOKENS) < tokens[:, None], np.arange(FRAMES) < rng.integers(9, FRAMES + 1, BATCH)[:, None]
    text[0], seen[0] = True, True
    return {
        "input_ids": torch.from_numpy(rng.integers(5, WORDS, text.shape) * text),
        "attention_mask": torch.from_numpy(text.astype(np.int64)),
        "frames": torch.from_numpy(rng.normal(size=(*seen.shape, WIDTH)).astype(np.float32) * seen[..., None]),
        "frame_mask": torch.from_numpy(seen),
    }


def ours(model: Model, batch: dict[str, Tensor]) -> Tensor:
    outputs = model(**batch)
    orders = partial_order(outputs["whole_scores"], outputs["part_scores"])
    return torch.stack([neg_nce(outputs["similarity"], scale=20.0), orders])


def pair_scores(text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """The interaction of a vector of each pair (text, video, dim) with its frames (text, video, frames, dim)."""
    products = torch.einsum("abd,abvd->abv", text, frames)
    largest = products.masked_fill(mask == 0, -torch.inf).amax(2)
    return (largest + (products * mask).sum(2) / mask.sum(1)) / 2


def without_important(tokens: Tensor, weights: Tensor) -> Tensor:
    ordered, order = weights.detach().sort(-1, descending=True)
    kept = torch.zeros_like(weights).scatter(-1, order, (ordered.cumsum(-1) >= MASKED).float())
    falling = weights / ordered[..., :1]
    return tokens * (kept - (falling - falling.detach()))[..., None]


def plain(model: Model, batch: dict[str, Tensor]) -> Tensor:
    parts: Any = model
    text, seen = batch["attention_mask"].float(), batch["frame_mask"].float()
    states = parts.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    words = F.normalize(parts.text_map(states), dim=-1)
    frames = F.normalize(parts.frame_map(batch["frames"]), dim=-1)
    sentence, levels = words[:, :1], []
    alike = (frames @ frames.transpose(1, 2) * seen[:, None] * seen[..., None]) * (1 - torch.eye(FRAMES))
    gain, twin = alike.max(2)
    for tokens, there in ((sentence, text[:, :1]), (words, text)):
        products = torch.einsum("atd,bvd->abtv", tokens, frames)
        masked = products.masked_fill(there[:, None, :, None] * seen[:, None] == 0, -torch.inf)
        by_word, best = masked.max(3)
        by_frame = masked.amax(2)
        second = twin[None, :, None].expand_as(products).gather(3, best[..., None])
        by_word = by_word + SECOND * (
            gain[None, :, None].expand_as(products).gather(3, best[..., None]) * products.gather(3, second)
        ).squeeze(3)
        by_word, by_frame = (x.masked_fill(x.isinf(), 0.0) for x in (by_word, by_frame))
        alpha, beta = there / there.sum(1, keepdim=True), seen / seen.sum(1, keepdim=True)
        levels.append((torch.einsum("abt,at->ab", by_word, alpha) + torch.einsum("abv,bv->ab", by_frame, beta)) / 2)
    similarity = torch.stack(levels).mean(0)
    # importance and masks of all pairs
    count = len(words)
    every_text, every_video = (
        words[:, None].expand(-1, count, -1, -1),
        (frames * seen[..., None])[None].expand(count, -1, -1, -1),
    )
    text_mask, video_mask = text[:, None].expand(-1, count, -1), seen[None].expand(count, -1, -1)
    flat = (x.flatten(0, 1) for x in (every_text * text_mask[..., None], every_video, text_mask, video_mask))
    all_words, all_frames, all_text, all_seen = flat
    sentences = sentence.expand(-1, count, -1)
    of_words = parts.word_importance(all_frames, all_words, all_text.bool()).view(count, count, -1)
    of_frames = parts.frame_importance(sentences.reshape(-1, 1, WIDTH), all_frames, all_seen.bool())
    of_frames = of_frames.view(count, count, -1)
    whole = F.normalize(torch.einsum("abt,abtd->abd", of_words, every_text), dim=-1)
    part = torch.einsum("abt,abtd->abd", of_words, without_important(every_text, of_words))
    masked = without_important(every_video, of_frames)
    wholes = [pair_scores(sentences, every_video, seen), pair_scores(whole, every_video, seen)]
    others = [pair_scores(t, v, seen) for t, v in ((sentences, masked), (whole, masked), (part, every_video))]
    wholes, others = ([x.diagonal() for x in lot] for lot in ([*wholes, wholes[1]], others))
    return torch.stack([neg_nce(similarity, scale=20.0), partial_order(torch.stack(wholes, 1), torch.stack(others, 1))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    batches = [drawn(rng) for _ in range(3)]
    sizes = {"dim": WIDTH, "frame_dim": WIDTH, "vocab_size": WORDS, "text_length": TOKENS, "max_frames": FRAMES}
    first = Model(Config(**sizes, text_encoder=BERT, dropout=0.0, visual_attention=True, importance=True)).train()
    second = copy.deepcopy(first)
    second.text_model.set_attn_implementation("eager")  # pyright: ignore[reportCallIssue]
    fast = optimiser(first, lr=1e-5, weight_decay=0.01)
    slow = torch.optim.AdamW(second.parameters(), lr=1e-5, weight_decay=0.01, foreach=False, fused=False)
    ways = steps({"ours": (ours, first, fast), "plain": (plain, second, slow)}, batches)
    in_turns("step of words against frames", [ways] * options.rounds, BAR)


if __name__ == "__main__":
    main()
