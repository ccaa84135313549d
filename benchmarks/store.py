"""Random batches from a store against a raw memory map: ``python benchmarks/store.py [--full]``.

One process writes V videos x 16 frames x 1536 float16 values and reads random batches of 128 in turns: by ``Store``, by
fancy indexing of the memory map, and by a loop over its slices. It prints the median CPU time of a batch, the ratio to
the faster of the two maps, and what reading added to the process's resident memory, for a quarter of the store and for
all of it. The page cache is warm. Bars: half of the map's speed; memory that does not grow with the store.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from _claims import claim, copy_rate
from videomatch.data.store import Store, StoreWriter

FRAMES, WIDTH, BATCH = 16, 1536, 128
#: share of the faster map's speed
BAR = 0.5
log = logging.getLogger("benchmark")


def resident() -> float:
    """Resident memory of this process in MB, pages of mapped files included."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines["VmRSS"].split()[0]) / 1e3


def write(root: Path, videos: int) -> float:
    """CPU seconds of writing the store."""
    some = np.random.default_rng(0).normal(size=(64, FRAMES, WIDTH)).astype(np.float16)
    started = time.process_time()
    with StoreWriter(root, shape=(WIDTH,)) as writer:
        for number in range(videos):
            writer.add(f"video {number}", some[number % 64])
    return time.process_time() - started


def readers(root: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The ways to read a batch, from positions of videos to (128 x 16, 1536)."""
    store = Store(root)
    maps = [np.load(path, mmap_mode="r") for path in sorted(root.glob("values-*.npy"))]
    ends = np.cumsum([len(m) for m in maps])
    starts = np.arange(len(store)) * FRAMES
    shard = np.searchsorted(ends, starts, side="right")
    offset = starts - np.r_[0, ends][shard]

    def ours(at: np.ndarray) -> np.ndarray:
        return store.gather([f"video {n}" for n in at])[0]

    def fancy(at: np.ndarray) -> np.ndarray:
        out, done, at = np.empty((len(at) * FRAMES, WIDTH), np.float16), 0, np.sort(at)
        for number, values in enumerate(maps):
            rows = (offset[at[shard[at] == number]][:, None] + np.arange(FRAMES)).ravel()
            out[done : done + len(rows)] = values[rows]
            done += len(rows)
        return out

    def slices(at: np.ndarray) -> np.ndarray:
        out = np.empty((len(at) * FRAMES, WIDTH), np.float16)
        for number, n in enumerate(at):
            out[number * FRAMES : (number + 1) * FRAMES] = maps[shard[n]][offset[n] : offset[n] + FRAMES]
        return out

    return {"Store.gather": ours, "memory map, sorted fancy index": fancy, "memory map, slice by slice": slices}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--full", action="store_true", help="20,000 videos (1 GB on disk)")
    options = parser.parse_args()
    videos = 20_000 if options.full else options.videos
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        seconds = write(root, videos)
        size = videos * FRAMES * WIDTH * 2 / 1e6
        log.info("%d videos, %.0f MB, written in %.2f CPU s", videos, size, seconds)
        ways = readers(root)
        rng = np.random.default_rng(1)
        for within in (videos // 4, videos):  # before any map is touched
            before = resident()
            for _ in range(options.rounds):
                ways["Store.gather"](rng.choice(within, BATCH, replace=False))
            log.info("Store.gather of %d videos: resident memory %+.0f MB", within, resident() - before)
        times: dict[str, list[float]] = {name: [] for name in ways}
        grown = dict.fromkeys(ways, 0.0)
        for _ in range(options.rounds):
            at = rng.choice(videos, BATCH, replace=False)
            for name, way in ways.items():
                before, started = resident(), time.process_time()
                way(at)
                times[name].append(time.process_time() - started)
                grown[name] += resident() - before
        for name, values in times.items():
            log.info("%-32s %6.2f ms a batch, resident %+.0f MB", name, np.median(values) * 1e3, grown[name])
        milliseconds = {name: [1e3 * seconds for seconds in values] for name, values in times.items()}
        mine = milliseconds.pop("Store.gather")
        peer = min(milliseconds.items(), key=lambda item: np.median(item[1]))
        floor = ("a copy of its bytes", [1e3 * 2 * BATCH * FRAMES * WIDTH * 2 / copy_rate()])
        claim(f"random batches from a store of {size:.0f} MB", mine, "CPU ms a batch", peer=peer, floor=floor, bar=BAR)


if __name__ == "__main__":
    main()
