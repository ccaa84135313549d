"""Memory of training on 1 GB and on 20 GB of features: ``python benchmarks/train_memory.py [--steps N]``.

Each size is trained on in a process of its own: random batches of 128 videos x 16 frames x 1536 float16 from a store, a
small model that reads the frames, AdamW. The stores are sparse files in the store's own format: all zeros, no disk.
Measured are the largest resident memory and by how much it grew after the first 50 steps, when everything that a step
needs has been allocated. Of a store only the index of ids is held in memory, a few hundred bytes a video.
Bar: the same growth at both sizes.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from _claims import claim
from videomatch.common.vectors import padded
from videomatch.data.store import FORMAT, INDEX, SHARD_BYTES, Store, name_of, write_header
from videomatch.examples import Batch, Examples, Source
from videomatch.training.loop import Trainer, Training
from videomatch.training.objective import Objective

FRAMES, WIDTH, BATCH, SETTLED = 16, 1536, 128, 50
log = logging.getLogger("benchmark")


def peak() -> float:
    """Largest resident memory of this process so far, in MB, pages of mapped files included."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1e3


def sparse(root: Path, gigabytes: float) -> int:
    """Write a store of zeros that takes no disk; returns how many videos it holds."""
    root.mkdir(parents=True)
    item, row = FRAMES * WIDTH * 2, WIDTH * 2
    videos, per_shard = int(gigabytes * 1e9) // item, SHARD_BYTES // item
    numbers = np.arange(videos)
    rows = (np.bincount(numbers // per_shard) * FRAMES).tolist()
    for shard, count in enumerate(rows):
        with (root / name_of("values", shard)).open("wb") as file:
            write_header(file, (count, WIDTH), np.dtype("float16"))
            file.truncate(file.tell() + count * row)
    index = {
        "id": [f"video {n}" for n in numbers],
        "shard": numbers // per_shard,
        "offset": numbers % per_shard * FRAMES,
        "length": np.full(videos, FRAMES),
    }
    pl.DataFrame(index, schema=INDEX).write_parquet(root / "index.parquet")
    about = {"format": FORMAT, "items": videos, "shape": [WIDTH], "dtype": np.dtype("float16").str, "rows": rows}
    (root / "store.json").write_text(json.dumps({**about, "times": False, "made_by": {}}))
    return videos


class Whole(Examples):
    """All frames of random videos of a store."""

    def __init__(self, store: Store, steps: int) -> None:
        super().__init__(Source(Path(), store), split="train")
        self.store, self.steps = store, steps
        self.marks: list[float] = []

    def _select(self, split: Any) -> None:
        pass

    def derived_config(self) -> dict[str, Any]:
        """Nothing follows from the data."""
        return {}

    def epoch(self, rng: np.random.Generator) -> np.ndarray:
        """Random videos for so many steps, from the whole store."""
        return rng.integers(0, len(self.store.ids), self.steps * BATCH)

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        """Frames and their mask; notes the peak of memory."""
        self.marks.append(peak())
        frames, mask = padded(*self.store.gather(numbers))
        return {"frames": torch.from_numpy(frames).float(), "mask": torch.from_numpy(mask)}


class Small(nn.Module):
    """Two layers on frames, mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, 16))

    def forward(self, frames: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """(B, L, D) and (B, L) to ``guess`` (B, 16)."""
        return {"guess": (self.layers(frames) * mask[..., None]).mean(1)}


def ones(guess: Tensor) -> Tensor:
    """Squared distance to one."""
    return (guess - 1).square().mean()


def measure(root: Path, steps: int) -> dict[str, float]:
    """Train in this process; MB."""
    torch.set_num_threads(1)
    examples = Whole(Store(root), steps)
    settings = Training(epochs=1, batch=BATCH, precision="fp32", prefetch=2)
    Trainer(Small(), {"ones": Objective(ones)}, settings, seed=0).fit(examples)
    return {"settled": examples.marks[SETTLED], "peak": peak(), "batches": len(examples.marks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs=2, default=[1.0, 20.0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        sys.stdout.write(json.dumps(measure(options.measure, options.steps)) + "\n")
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    peaks, growths, counts = [], [], []
    for size in options.gigabytes:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "store"
            videos = sparse(root, size)
            command = [sys.executable, __file__, "--measure", str(root), "--steps", str(options.steps)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
        peaks.append(found["peak"])
        growths.append(found["peak"] - found["settled"])
        counts.append(videos)
        line = "%4.0f GB, %d videos, %d steps: peak %.0f MB of resident memory, %+.1f MB after the first %d steps"
        log.info(line, size, videos, found["batches"], found["peak"], growths[-1], SETTLED)
    difference = (peaks[1] - peaks[0]) * 1e6 / (counts[1] - counts[0])
    small, large = options.gigabytes
    claim(f"memory of training on {large:g} GB", [peaks[1]], "MB", peer=(f"on {small:g} GB", [peaks[0]]))
    log.info("growth differs by %+.1f MB; ratio of the peaks %.3f", growths[1] - growths[0], peaks[1] / peaks[0])
    log.info("the peaks differ by %.0f bytes for each video more", difference)


if __name__ == "__main__":
    main()
