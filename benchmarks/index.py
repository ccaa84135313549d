"""The index over many embeddings: ``python benchmarks/index.py [--rows 1000000]``.

Simulated embeddings, clustered as learned ones are: stories of very different sizes (Zipf) around directions of a space
of fewer dimensions, videos around their story in few directions of their own, and noise in all. Queries are of two
kinds: unseen videos of the same stories, and "texts", which share the videos' structure but lie aside of them all (the
modality gap of CLIP-like models). Prints the build time and memory, and recall@10 of exact, median and 95 % of the time
a query on one core, lists mapped from the disk.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import numpy as np

from _claims import claim
from videomatch.common.vectors import unit_rows
from videomatch.data.store import StoreWriter
from videomatch.retrieval.index import EXACT, Index

log = logging.getLogger("benchmark")
#: dimensions that stories differ in, and in which videos differ from their story
WORLD, OWN = 64, 24
GAP = 0.6


class World:
    """Where stories lie."""

    def __init__(self, dim: int, stories: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        basis = np.linalg.qr(rng.normal(size=(dim, dim)))[0].astype(np.float32)
        self.centres = unit_rows(rng.normal(size=(stories, WORLD)).astype(np.float32)) @ basis[:WORLD]
        turns = rng.normal(size=(64, OWN, dim)).astype(np.float32)
        self.turns = turns / np.linalg.norm(turns, axis=2, keepdims=True)
        self.sizes = 1 / np.arange(1, stories + 1) ** 0.8
        self.gap = basis[-1] * GAP
        self.dim = dim

    def draw(self, count: int, seed: int, text: bool = False) -> np.ndarray:
        """Unit rows ``(count, dim)``."""
        rng = np.random.default_rng(seed)
        story = rng.choice(len(self.sizes), count, p=self.sizes / self.sizes.sum())
        rows = self.centres[story].copy()
        kind = story % len(self.turns)
        amounts = rng.normal(size=(count, OWN)).astype(np.float32) * np.float32(0.6 / np.sqrt(OWN))
        for number in range(len(self.turns)):
            mine = np.flatnonzero(kind == number)
            rows[mine] += amounts[mine] @ self.turns[number]
        rows += rng.normal(size=(count, self.dim)).astype(np.float32) * np.float32(0.4 / np.sqrt(self.dim))
        return unit_rows(rows + (self.gap if text else -self.gap))


def peak() -> float:
    """Largest resident memory of this process in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1e3


def written(folder: Path, world: World, rows: int) -> Path:
    """Stores ``videos`` and ``texts`` (few, which the index may tune on; other queries are searched here)."""
    for name, count, text in (("videos", rows, False), ("texts", 1000, True)):
        with StoreWriter(folder / name, shape=(world.dim,), dtype="float32") as writer:
            for first in range(0, count, 100_000):
                block = world.draw(min(100_000, count - first), first + 7 + text, text)
                writer.add_rows([f"{name}{first + n}" for n in range(len(block))], block)
    return folder / "videos"


def answered(
    index: Index, queries: np.ndarray, true: np.ndarray, kind: str = "rows"
) -> tuple[float, np.ndarray, float]:
    """recall@10, milliseconds of every query, and of CPU on average."""
    hits, times, cpu = 0, [], time.process_time()
    for query, best in zip(queries, true, strict=True):
        started = time.perf_counter()
        found, _ = index.search(query, 10, kind=kind)
        times.append(1000 * (time.perf_counter() - started))
        hits += len(set(found.tolist()) & set(best.tolist()))
    return hits / true.size, np.array(times), 1000 * (time.process_time() - cpu) / len(queries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=500, help="of each kind")
    parser.add_argument("--exact", action="store_true", help="time the exact search of EXACT rows, too")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    faiss.omp_set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="index-", dir=os.environ.get("TMPDIR")))
    os.chdir(folder)  # digests are remembered below the working folder
    try:
        world = World(options.dim, max(10, options.rows // 50))
        root = written(folder, world, options.rows)
        asks = {kind: world.draw(options.queries, 10**6 + 1, kind == "texts") for kind in ("videos", "texts")}
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        before, started = peak(), time.monotonic()
        index = Index(root, folder / "cache", exact=0)
        log.info("built in %.0f s, at most %.0f MB more", time.monotonic() - started, peak() - before)
        size = sum(p.stat().st_size for p in (folder / "cache").iterdir()) / 1e6
        log.info("%d lists, probed: %s, %.0f MB on the disk (rows: %.0f MB); recall when built %s",
                 index.about["nlist"], index.about["nprobe"], size, options.rows * options.dim * 4 / 1e6,
                 index.about["recall"])  # fmt: skip
        started = time.monotonic()
        index = Index(root, folder / "cache", exact=0)
        log.info("opened again in %.2f s", time.monotonic() - started)
        for kind, queries in asks.items():
            true = index.nearest(queries, 10, np.full(len(queries), -1))
            recall, times, cpu = answered(index, queries, true, "texts" if kind == "texts" else "rows")
            what = f"index of {options.rows} embeddings, {kind}"
            claim(f"{what}, recall@10", [recall], "", peer=("exact", [1.0]), more=True)
            claim(f"{what}, a query", times, "ms")
            log.info("%-7s recall@10 %.4f, %.2f ms a query (median), %.2f ms (95 %%), %.2f ms of CPU", kind, recall,
                     np.median(times), np.percentile(times, 95), cpu)  # fmt: skip
        if options.exact:
            few = written(folder / "few", world, EXACT)
            index = Index(few, folder / "none")
            _, times, cpu = answered(index, asks["videos"], np.zeros((options.queries, 10), int))
            log.info("exact, %d rows: %.2f ms a query (median), %.2f ms (95 %%), %.2f ms of CPU", EXACT,
                     np.median(times),
                     np.percentile(times, 95), cpu)  # fmt: skip
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
