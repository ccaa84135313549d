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
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videomatch.models.dual_encoding import Config, Model
from videomatch.objectives.margins import triplet

BATCH, WORDS = 128, 7815
#: how many times as fast as the plain way it has to be, and how far losses may be apart, relatively
BAR, APART = 2.0, 1e-4
log = logging.getLogger("benchmark")


def drawn(rng: np.random.Generator, dim: int) -> dict[str, Tensor]:
    """A batch; the lengths have MSR-VTT's range and mean (10 to 30 s, some 15 s)."""
    seconds = np.clip(10 + rng.gamma(1.0, 5.0, BATCH), 10, 30)
    lengths = np.round(2 * seconds).astype(int)
    mask = np.arange(lengths.max()) < lengths[:, None]
    frames = np.abs(rng.normal(size=(*mask.shape, dim)).astype(np.float32)) * 0.4 * mask[..., None]
    ids = rng.integers(4, WORDS, (BATCH, 11))
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
        self.gru = nn.GRU(config.frame_dim, config.hidden, batch_first=True, bidirectional=True)
        self.gru.load_state_dict(model.video.gru.state_dict())  # pyright: ignore[reportOptionalMemberAccess]
        wide, filters = 2 * config.hidden, config.filters
        self.convs = nn.ModuleList(nn.Conv2d(1, filters, (k, wide), padding=(k - 1, 0)) for k in config.kernels)
        mine: Any = model.video.convolutions
        with torch.no_grad():
            for conv, layer in zip(self.convs, mine, strict=True):
                conv.weight.copy_(layer.weight.view_as(conv.weight))  # pyright: ignore
                conv.bias.copy_(layer.bias)  # pyright: ignore
        self.map = self.text.video_maps[0]

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        states, _ = self.gru(batch["frames"])
        mask = batch["frame_mask"].float()
        mean = torch.stack([states[i, : int(n)].mean(0) for i, n in enumerate(mask.sum(1))])
        states = (states * mask[..., None])[:, None]
        found = [F.relu(conv(states)).squeeze(3) for conv in self.convs]
        most = torch.cat([F.max_pool1d(x, x.size(2)).squeeze(2) for x in found], dim=1)
        videos = self.map(torch.cat([mean, most, batch["frame_mean"]], dim=1))
        return videos, self.text._texts(batch["input_ids"], batch["attention_mask"])


def plain_loss(videos: Tensor, texts: Tensor) -> Tensor:
    """Hardest negatives of the whole matrix, summed."""
    scores = videos @ texts.T
    own = scores.diag()[:, None]
    eye = torch.eye(len(scores), dtype=torch.bool)
    by_video = (0.2 + scores - own).clamp(min=0).masked_fill(eye, 0)
    by_text = (0.2 + scores - own.T).clamp(min=0).masked_fill(eye, 0)
    return by_video.max(1)[0].sum() + by_text.max(0)[0].sum()


def ways(dim: int, batches: list[dict[str, Tensor]]) -> tuple[dict[str, Callable[[], float]], float, float]:
    """The two ways to make a step, and how far apart the first losses and gradients are."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"text": "words", "fuse": "concatenate", "padded": True, "dropout": 0.0}
    model = Model(Config(**options, frame_dim=dim, vocab_size=WORDS)).train()
    plain = Plain(model).train()

    def ours_once(batch: dict[str, Tensor]) -> Tensor:
        outputs = model(**{name: value for name, value in batch.items() if name != "video"})
        return triplet(**outputs, video=batch["video"])

    def plain_once(batch: dict[str, Tensor]) -> Tensor:
        return plain_loss(*plain(batch))

    losses = []
    for once in (ours_once, plain_once):
        loss = once(batches[0])
        loss.backward()
        losses.append(float(loss.detach()))
    assert model.video.gru is not None and model.video.gru.weight_hh_l0.grad is not None
    assert plain.gru.weight_hh_l0.grad is not None
    mine, theirs = model.video.gru.weight_hh_l0.grad, plain.gru.weight_hh_l0.grad
    gradients = float((mine - theirs).norm() / theirs.norm())  # pyright: ignore
    model.config.padded = False
    fast = torch.optim.Adam([p for p in model.parameters() if p.grad is not None], lr=1e-4, fused=True)
    slow = torch.optim.Adam([p for p in plain.parameters() if p.grad is not None], lr=1e-4, foreach=False)

    def step(once: Callable[[dict[str, Tensor]], Tensor], optimiser: torch.optim.Optimizer) -> Callable[[], float]:
        turn = iter(range(1 << 30))

        def run() -> float:
            batch = batches[next(turn) % len(batches)]
            started = time.process_time()
            optimiser.zero_grad(set_to_none=True)
            once(batch).backward()
            optimiser.step()
            return time.process_time() - started

        return run

    steps = {"ours": step(ours_once, fast), "plain": step(plain_once, slow)}
    return steps, abs(losses[0] / losses[1] - 1), gradients


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
        steps, losses, gradients = ways(dim, batches)
        log.info("%d dimensions, %.0f %% of the padded frames are real", dim, 100 * np.mean(real))
        log.info("  losses apart by %.1e, gradients of the GRU by %.1e", losses, gradients)
        if losses > APART:
            raise SystemExit(f"losses are apart by {losses:.1e}, more than {APART:g}")
        times: dict[str, list[float]] = {way: [] for way in steps}
        for _ in range(options.rounds):
            for way, step in steps.items():
                times[way].append(step())
        middle = {way: float(np.median(values)) for way, values in times.items()}
        for way, value in middle.items():
            log.info("  %-6s %6.2f CPU s a step, %5.1f videos/s", way, value, BATCH / value)
        ratio = middle["plain"] / middle["ours"]
        log.info("  ratio %.2f, bar %.1f: %s", ratio, BAR, "met" if ratio >= BAR else "MISSED")


if __name__ == "__main__":
    main()
