"""Throughput of ``extract`` against the larger of its costs alone: decoding, and the bare network at its best batch.

    python benchmarks/extract.py [folder of videos]

Without a folder it makes its own clips. One thread decodes and one computes, in ``extract`` and alone: with a core for
each, ``extract`` is at best as fast as the slower of the two. Rounds in turns, medians. Beside the wall clock, the CPU
time of ``extract`` is compared with that of its two bare parts side by side in two threads: what it adds of its own.
(On a machine that others use too, trust the CPU time: ``extract`` wants two cores, each part alone only one.) The
networks are drawn at random: only their shape matters here.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, EfficientNetConfig, EfficientNetModel

import _clips
from _claims import claim
from videomatch.common.precision import keep_memory
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.experts.image import Expert
from videomatch.media.decode import Sampler
from videomatch.stages.extract import extract

BAR = 0.8
BATCHES = (8, 16, 32, 64)
#: forwards are timed on this many frames, and the time is scaled to all of them
FRAMES = 128


def vit(folder: Path) -> Path:
    """A vision transformer of the small size: 384 wide, 12 layers, patches of 32 pixels at 224."""
    return clip_b32(folder, width=384)


def clip_b32(folder: Path, width: int = 768) -> Path:
    """The image side of CLIP B/32: 12 layers, patches of 32 pixels at 224."""
    config = CLIPVisionConfig(
        hidden_size=width, intermediate_size=4 * width, num_attention_heads=width // 64, projection_dim=width * 2 // 3
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def efficientnet(folder: Path) -> Path:
    """EfficientNet-B0 at 224; scales of one, or it would compute with denormals."""
    model = EfficientNetModel(
        EfficientNetConfig(width_coefficient=1.0, depth_coefficient=1.0, image_size=224, hidden_dim=1280)
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in" if module.groups > 1 else "fan_out")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    model.save_pretrained(folder)
    return folder


NETWORKS = {build.__name__: build for build in (vit, efficientnet, clip_b32)}


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of wall clock and of CPU, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def decode(files: list[Path], expert: Expert) -> np.ndarray:
    """All prepared frames."""
    return np.concatenate([expert.prepare(c.values) for f in files for c in Sampler(f, [expert.request])])


def forward(frames: np.ndarray, expert: Expert, batch: int) -> None:
    for start in range(0, len(frames), batch):
        expert.infer(frames[start : start + batch])


def side_by_side(files: list[Path], frames: np.ndarray, expert: Expert, batch: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        parts = [pool.submit(decode, files, expert), pool.submit(forward, frames, expert, batch)]
    for part in parts:
        part.result()


def best_batch(frames: np.ndarray, expert: Expert) -> int:
    forward(frames[:16], expert, 8)
    return min(BATCHES, key=lambda b: min(timed(lambda: forward(frames, expert, b))[1] for _ in range(2)))


def corpus_of(files: list[Path], folder: Path) -> Path:
    ids = [hashlib.sha256(str(f).encode()).hexdigest()[:12] for f in files]
    rows = [
        dict.fromkeys(tables.SCHEMAS["videos"]) | {"video_id": i, "path": str(f), "shard": 0, "tags": []}
        for i, f in zip(ids, files, strict=True)
    ]
    folder.mkdir()
    corpora.write_videos(pl.DataFrame(rows, schema=tables.SCHEMAS["videos"]), folder, 1)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="videos; without it, clips are made")
    parser.add_argument("--seconds", type=float, default=20, help="length of a clip that is made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=["vit", "efficientnet"], choices=list(NETWORKS))
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    titles = [
        "network",
        "frames",
        "batch",
        "decode s",
        "forward s",
        "extract s",
        "wall ratio",
        "both CPU s",
        "CPU s",
        "CPU ratio",
    ]
    sys.stdout.write(" ".join(f"{t:>12}" for t in titles) + "\n")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if options.folder:
            files = [p for p in sorted(options.folder.rglob("*")) if p.is_file()]
        else:
            files = [_clips.make(root / f"{n}.mp4", kind, options.seconds) for n, kind in enumerate(_clips.KINDS)]
        corpus = corpus_of(files, root / "corpus")
        for build in (NETWORKS[name] for name in options.networks):
            backbone = str(build(root / build.__name__))
            expert = Expert(backbone=backbone)
            sample = decode(files, expert)[:FRAMES]
            batch = best_batch(sample, expert)
            settings = {"x": {"extractor": "image", "backbone": "b", "batch": batch}}
            rounds = []
            for number in range(-1, options.rounds):  # the first one warms up: memory is touched for the first time
                output = root / f"{build.__name__}-out{number}"
                decode_wall, _, frames = timed(lambda: decode(files, expert))  # noqa: B023
                forward_wall, _, _ = timed(lambda: forward(frames, expert, batch))  # noqa: B023
                _, both_cpu, _ = timed(partial(side_by_side, files, frames, expert, batch))
                load_wall, load_cpu, _ = timed(lambda: Expert(backbone=backbone))  # noqa: B023
                wall, cpu, _ = timed(
                    partial(extract, corpus=corpus, shard=0, experts=settings, output=output, backbones={"b": backbone})
                )
                # loading the network is no part of the two costs
                wall, cpu = wall - load_wall, cpu - load_cpu
                slower = max(decode_wall, forward_wall)
                if number >= 0:
                    rounds.append((decode_wall, forward_wall, wall, slower / wall, both_cpu, cpu, both_cpu / cpu))
            row = [statistics.median(column) for column in zip(*rounds, strict=True)]
            walls, slower = [r[2] for r in rounds], [max(r[:2]) for r in rounds]
            what = f"extract by {build.__name__}, {len(frames)} frames"
            claim(what, walls, "s", floor=("the slower of decoding and network alone", slower), bar=BAR)
            claim(what, [r[5] for r in rounds], "CPU s", floor=("both parts alone", [r[4] for r in rounds]))
            cells = [f"{build.__name__:>12}", f"{len(frames):>12}", f"{batch:>12}", *(f"{v:>12.2f}" for v in row)]
            sys.stdout.write(" ".join(cells) + "\n")


if __name__ == "__main__":
    main()
