"""Ranks and metrics of the whole MSR-VTT test against the plain matrix: ``python benchmarks/evaluate.py``.

59,800 captions and 2,990 videos (20 captions each), unit vectors of 512 dimensions; both directions: R@k, MdR,
MnR and mAP. The plain way holds the matrix and sorts its rows (stable, best first). Prints CPU time, the memory that
each adds at its peak, and how far the metrics are apart. Each way runs in a process of its own; one thread unless told
otherwise.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from _claims import claim, product_rate
from videomatch.common.vectors import unit_rows
from videomatch.metrics import ranking
from videomatch.retrieval.exact import Request, search

NAMES = ("R@1", "R@5", "R@10", "MdR", "MnR", "mAP")
log = logging.getLogger("benchmark")


def vectors(videos: int, each: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Captions, videos, and the video of every caption."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(videos, width)).astype(np.float32)
    owner = np.repeat(np.arange(videos), each)
    captions = rows[owner] + 7.0 * rng.normal(size=(len(owner), width)).astype(np.float32)
    return unit_rows(captions), unit_rows(rows), owner


def ours(captions: np.ndarray, videos: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """Both directions by the project's search and metrics."""
    found = {}
    pairs = np.stack([np.arange(len(owner)), owner], axis=1)
    for name, sides, judged in (("t2v", (captions, videos), pairs), ("v2t", (videos, captions), pairs[:, ::-1])):
        result = search(*sides, Request(judged))
        values = ranking.metrics(judged[:, 0], result.better, result.equal)
        found |= {f"{name}/{metric}": values[metric] for metric in NAMES}
    return found


def plain(captions: np.ndarray, videos: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """Both directions of a matrix that is held and sorted."""
    matrix = captions @ videos.T
    found = {}
    for name, scores in (("t2v", matrix), ("v2t", matrix.T)):
        best, precision = [], []
        for number, row in enumerate(scores):
            order = np.argsort(-row, kind="stable")
            own = np.flatnonzero((order == owner[number]) if name == "t2v" else (owner[order] == number)) + 1
            best.append(own[0])
            precision.append((np.arange(1, len(own) + 1) / own).mean())
        ranks = np.array(best)
        found |= {f"{name}/R@{k}": 100.0 * float((ranks <= k).mean()) for k in (1, 5, 10)}
        found |= {f"{name}/MdR": float(np.median(ranks)), f"{name}/MnR": float(ranks.mean())}
        found[f"{name}/mAP"] = float(np.mean(precision))
    return found


def peak() -> float:
    """Largest resident memory of this process in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=2990)
    parser.add_argument("--captions", type=int, default=20, help="of each video")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", choices=["ours", "plain"], help="only this one, as JSON")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    if options.way:
        captions, videos, owner = vectors(options.videos, options.captions, options.dim)
        way = {"ours": ours, "plain": plain}[options.way]
        way(captions[:40], videos[:40], np.arange(40))  # the first product is slower
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        before, started = peak(), time.process_time()
        metrics = way(captions, videos, owner)
        sys.stdout.write(json.dumps([metrics, time.process_time() - started, peak() - before]))
        return
    done = {}
    for way in ("ours", "plain"):
        called = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        done[way] = json.loads(subprocess.run(called, capture_output=True, text=True, check=True).stdout)
        log.info("%-6s %6.2f CPU s, %5.0f MB more at its peak", way, *done[way][1:])
    mine, theirs = done["ours"][0], done["plain"][0]
    products = 2 * options.videos**2 * options.captions * options.dim
    floor = ("its product", [products / product_rate()])
    what = f"ranks and metrics of {options.videos * options.captions} captions and {options.videos} videos"
    claim(what, [done["ours"][1]], "CPU s", peer=("matrix that is sorted", [done["plain"][1]]), floor=floor)
    claim(f"{what}, memory", [done["ours"][2]], "MB more", peer=("matrix that is sorted", [done["plain"][2]]))
    for name, value in mine.items():
        log.info("  %-10s %8.4f (plain %8.4f)", name, value, theirs[name])
    apart = max(abs(mine[name] - theirs[name]) / max(1.0, abs(theirs[name])) for name in mine)
    log.info("  metrics apart by %.1e at most", apart)


if __name__ == "__main__":
    main()
