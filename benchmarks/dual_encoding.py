"""A training step of dual encoding against what was published: ``python benchmarks/dual_encoding.py``.

Forward, backward and Adam on 128 videos and captions, frames of 512 (CLIP) and 2048 dimensions (ResNet), one every
half second of clips of 10 to 30 s as in MSR-VTT (most are short), published size (GRU of 1024 in both directions, 512
filters of 2 to 5 frames, 2048 common dimensions). The plain way: the GRU over the whole padded batch, its outputs
masked, two-dimensional convolutions over the padded map, the loss over the whole matrix, Adam tensor by tensor. Ours
comes to the same numbers with padding fed as published, and is timed without: then it computes only what is there. Both
start from the same weights, without dropout; both read sentences by the same modules.

Prints for each size the CPU time of both, taking turns, the ratio, and how far losses and gradients are apart.
One thread unless told otherwise.
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
from torch import Tensor, nn

from _twins import Batch, Steps, compared, steps
from videomatch.models.dual_encoding import Config, Model
from videomatch.objectives.margins import triplet

BATCH, TOKENS, WORDS = 128, 11, 7815
#: how many times as fast as the plain way it has to be
BAR = 3.0
log = logging.getLogger("benchmark")


def drawn(rng: np.random.Generator, dim: int) -> Batch:
    """A batch; the lengths have MSR-VTT's range and mean (10 to 30 s, some 15 s)."""
    seconds = np.clip(10 + rng.gamma(1.0, 5.0, BATCH), 10, 30)
    lengths = np.round(2 * seconds).astype(int)
    mask = np.arange(lengths.max()) < lengths[:, None]
    frames = np.abs(rng.normal(size=(*mask.shape, dim)).astype(np.float32)) * 0.4 * mask[..., None]
    ids = rng.integers(4, WORDS, (BATCH, TOKENS))
    return {
        "frames": torch.from_numpy(frames),
        "frame_mask": torch.from_numpy(mask),
        "frame_mean": torch.from_numpy(frames.sum(1) / lengths[:, None].astype(np.float32)),
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.ones(BATCH, 11, dtype=torch.bool),
        "video": torch.arange(BATCH),
    }


class Plain(nn.Module):
    """The video side as published, with the weights of ours."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        config = model.config
        self.text = copy.deepcopy(model)  # only its text side is used
        del self.text.video
        gru = nn.GRU(config.frame_dim, config.hidden, batch_first=True, bidirectional=True)
        self.video = nn.ModuleDict({"gru": gru})  # named as ours
        gru.load_state_dict(model.video.gru.state_dict())  # pyright: ignore[reportOptionalMemberAccess]
        wide, filters = 2 * config.hidden, config.filters
        self.convs = nn.ModuleList(nn.Conv2d(1, filters, (k, wide), padding=(k - 1, 0)) for k in config.kernels)
        mine: Any = model.video.convolutions
        with torch.no_grad():
            for conv, layer in zip(self.convs, mine, strict=True):
                conv.weight.copy_(layer.weight.view_as(conv.weight))  # pyright: ignore
                conv.bias.copy_(layer.bias)  # pyright: ignore
        self.map = self.text.video_maps[0]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        states, _ = self.video["gru"](batch["frames"])
        mask = batch["frame_mask"].float()
        mean = torch.stack([states[i, : int(n)].mean(0) for i, n in enumerate(mask.sum(1))])
        states = (states * mask[..., None])[:, None]
        found = [F.relu(conv(states)).squeeze(3) for conv in self.convs]
        most = torch.cat([F.max_pool1d(x, x.size(2)).squeeze(2) for x in found], dim=1)
        videos = self.map(torch.cat([mean, most, batch["frame_mean"]], dim=1))
        return videos, self.text._texts(batch["input_ids"], batch["attention_mask"])


def plain(twin: Plain, batch: Batch) -> Tensor:
    """Hardest negatives of the whole matrix, summed."""
    videos, texts = twin(batch)
    scores = videos @ texts.T
    own = scores.diag()[:, None]
    eye = torch.eye(len(scores), dtype=torch.bool)
    by_video = (0.2 + scores - own).clamp(min=0).masked_fill(eye, 0)
    by_text = (0.2 + scores - own.T).clamp(min=0).masked_fill(eye, 0)
    return by_video.max(1)[0].sum() + by_text.max(0)[0].sum()


def gru_products(rows: float, inputs: int, hidden: int, to_inputs: bool = False) -> float:
    """Multiplications and additions of both directions of a GRU, forward and backward (``to_inputs``: to them, too)."""
    return 2 * 2 * rows * 3 * hidden * ((3 if to_inputs else 2) * inputs + 3 * hidden)


def ours(model: Model, batch: Batch) -> Tensor:
    """The loss by the model and the objective of the project."""
    return triplet(**model(**{name: value for name, value in batch.items() if name != "video"}), video=batch["video"])


def made(dim: int, batches: list[Batch], bf16: bool) -> Steps:
    """The two ways to make a step, from the same weights."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"text": "words", "fuse": "concatenate", "padded": True, "dropout": 0.0}
    model = Model(Config(**options, frame_dim=dim, vocab_size=WORDS)).train()
    twin = Plain(model).train()
    fast = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    slow = torch.optim.Adam(twin.parameters(), lr=1e-4, foreach=False)
    both = {"ours": (ours, model, fast), "plain": (plain, twin, slow)}
    if bf16:  # a step of the twin takes minutes
        del both["plain"]
    found = steps(both, batches, bf16)
    model.config.padded = False
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dims", nargs="*", type=int, default=[512, 2048])
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    for dim in options.dims:
        rng = np.random.default_rng(0)
        batches = [drawn(rng, dim) for _ in range(options.rounds)]
        real = [float(b["frame_mask"].float().mean()) for b in batches]
        log.info("%d dimensions, %.0f %% of the padded frames are real", dim, 100 * np.mean(real))
        rows = sum(float(b["frame_mask"].sum()) for b in batches) / len(batches)
        config = Config(text="words")
        uncounted = gru_products(rows, dim, config.hidden) + gru_products(
            BATCH * TOKENS, config.word_dim, config.word_hidden, True
        )
        what = f"dual encoding's step, D = {dim}"
        compared(what, partial(made, dim, batches), options.rounds, (BAR, BAR, BAR), uncounted=uncounted)


if __name__ == "__main__":
    main()
