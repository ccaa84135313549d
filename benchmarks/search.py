"""Exact search with ranks against plain torch and faiss: ``python benchmarks/search.py [--full]``.

Clustered unit vectors; every query has one relevant reference near it. All ways give the best 10; ours and ``torch with
ranks`` also how many references beat and tie with the relevant one. Prints the median CPU time over rounds in which all
ways take turns, ratios to ours, and the memory that ours adds at its peak. Of the others, torch holds whole rows too,
in blocks that this file chooses.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch

from _claims import claim, product_rate
from videomatch.common.vectors import unit_rows
from videomatch.retrieval.exact import Request, search

TOP, BLOCK = 10, 256
FAISS = "faiss IndexFlatIP, top 10"
#: how many times as fast as faiss
BAR = 1.0
log = logging.getLogger("benchmark")


def peak() -> float:
    """Largest resident memory of this process in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1e3


def vectors(queries: int, references: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, references, and the relevant reference of every query."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(1, references // 100), width)).astype(np.float32)
    spread = rng.normal(size=(references, width)).astype(np.float32)
    rows = unit_rows(centres[rng.integers(0, len(centres), references)] + spread)
    own = rng.integers(0, references, queries)
    return unit_rows(rows[own] + 0.2 * rng.normal(size=(queries, width)).astype(np.float32)), rows, own


def ways(queries: np.ndarray, references: np.ndarray, own: np.ndarray) -> dict[str, Callable[[], object]]:
    """Every way to search; faiss's index is built beforehand."""
    pairs = np.stack([np.arange(len(queries)), own], axis=1)
    left, right, relevant = torch.from_numpy(queries), torch.from_numpy(references), torch.from_numpy(own)
    index = faiss.IndexFlatIP(references.shape[1])
    index.add(references)  # pyright: ignore[reportCallIssue]

    def plain(ranks: bool) -> None:
        for at in range(0, len(left), BLOCK):
            scores = left[at : at + BLOCK] @ right.T
            scores.topk(TOP)
            if ranks:
                mine = scores.gather(1, relevant[at : at + BLOCK, None])
                (scores > mine).sum(dim=1)
                (scores == mine).sum(dim=1)

    return {
        "ours, top 10 and ranks": lambda: search(queries, references, Request(pairs, TOP)),
        "ours, top 10": lambda: search(queries, references, Request(top=TOP)),
        "torch, top 10 and ranks": lambda: plain(True),
        "torch, top 10": lambda: plain(False),
        FAISS: lambda: index.search(queries, TOP),  # pyright: ignore[reportCallIssue]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--references", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="100,000 queries, one round")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    queries, references, own = vectors(100_000 if options.full else options.queries, options.references, options.dim)
    all_ways = ways(queries, references, own)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = peak()
    found = search(queries, references, Request(np.stack([np.arange(len(own)), own], axis=1), TOP))
    added = peak() - before
    log.info("%d x %d x %d: ours adds at most %.0f MB", len(queries), len(references), options.dim, added)
    log.info("R@1 %.1f, R@10 %.1f", 100 * (found.better < 1).mean(), 100 * (found.better < 10).mean())
    times: dict[str, list[float]] = {name: [] for name in all_ways}
    for _ in range(1 if options.full else options.rounds):
        for name, way in all_ways.items():
            started = time.process_time()
            way()
            times[name].append(time.process_time() - started)
    floor = ("its product", [2 * queries.size * len(references) / product_rate()])
    for mine, *peers in (("ours, top 10 and ranks", "torch, top 10 and ranks", FAISS), ("ours, top 10", FAISS)):
        for peer in peers:
            what = f"exact search of {len(queries)} x {len(references)} x {options.dim}, {mine.partition(', ')[2]}"
            bar = BAR if peer == FAISS else None
            claim(what, times[mine], "CPU s", peer=(peer, times[peer]), floor=floor, bar=bar)


if __name__ == "__main__":
    main()
