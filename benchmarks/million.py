"""The stage ``search`` with a million videos: ``python benchmarks/million.py [--rows N --queries N | --full]``.

Embeddings are drawn as in ``benchmarks/index.py`` and written in 16 bits. In one run, each step in a process of its
own: texts search all videos, exactly and with the rank of their own video; some videos search all others exactly; the
same ones look their neighbours up in inverted lists (``exact_up_to``). Printed of each: CPU time, and the largest
memory of the process, which reads the store and maps none of it; and how many of the exact ten nearest the lists find,
of all these queries and of the stage's own sample. ``--full``: a million videos and 10,000 queries.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl

from _claims import claim, product_rate
from index import World, peak
from videomatch.common.vectors import unit_rows
from videomatch.data import tables
from videomatch.data.store import StoreWriter
from videomatch.stages.search import SAMPLE, search

TOP, BLOCK = 10, 1 << 15
#: MB that a search may take
BAR = 2000
FULL = (1_000_000, 10_000)
#: step -> kind, protocol, references beyond which neighbours are looked up
STEPS: dict[str, tuple[str, str, int | None]] = {
    "texts, ranks": ("text_video", "captions", None),
    "videos, exactly": ("video_video", "videos", None),
    "videos, looked up": ("video_video", "videos", 1),
}


class Built(logging.Handler):
    """Notes the CPU time when the index is said to be built."""

    cpu = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Its only record is that one."""
        self.cpu = time.process_time()


def write(folder: Path, rows: int, queries: int, dim: int) -> None:
    """A corpus of videos and of texts near some of them, and the embeddings of both."""
    world, own = World(dim, max(10, rows // 50)), np.linspace(0, rows - 1, queries).astype(np.int64)
    rng, texts = np.random.default_rng(1), []
    with StoreWriter(folder / "e/all/videos", shape=(dim,)) as writer:
        for first in range(0, rows, BLOCK):
            block = world.draw(min(BLOCK, rows - first), first + 7)
            writer.add_rows([f"v{first + n}" for n in range(len(block))], block)
            some = block[own[(own >= first) & (own < first + BLOCK)] - first]
            noise = rng.normal(size=some.shape).astype(np.float32) * np.float32(0.5 / np.sqrt(dim))
            texts.append(unit_rows(some + noise + 2 * world.gap))
    with StoreWriter(folder / "e/all/texts", shape=(dim,)) as writer:
        writer.add_rows([f"t{n}" for n in range(queries)], np.concatenate(texts))
    videos, asks = pl.Series([f"v{n}" for n in range(rows)]), pl.Series([f"t{n}" for n in range(queries)])
    parts = [("captions", "query", asks), ("videos", "query", videos[own])]
    parts += [(split, "reference", videos) for split in ("captions", "videos")]
    splits = [pl.DataFrame({"split": split, "role": role, "id": ids}) for split, role, ids in parts]
    tables.write("splits", pl.concat(splits), folder)
    pairs = pl.DataFrame({"query_id": asks, "reference_id": videos[own], "grade": 1.0})
    tables.write("relevance", pairs, folder)


def measure(folder: Path, step: str) -> dict[str, Any]:
    """Search, in this process, which has done nothing else."""
    kind, split, most = STEPS[step]
    built, start = Built(), peak()
    logging.getLogger("videomatch.retrieval.index").addHandler(built)
    logging.getLogger("videomatch.retrieval.index").setLevel(logging.INFO)
    began = time.process_time()
    given = {"corpus": folder, "embeddings": folder / "e", "split": split, "kind": kind, "top": TOP}
    search(**given, output=folder / "found" / step, members={"all": None}, exact_up_to=most)
    cpu = time.process_time()
    return {"cpu": cpu - began, "index": max(0.0, built.cpu - began), "peak": peak(), "added": peak() - start}


def recall(folder: Path, queries: int) -> tuple[float, dict[str, Any]]:
    """The share of the exactly found neighbours that was looked up, and what the stage says of its sample."""
    exact, found = (tables.read("rankings", folder / "found" / step / "all") for step in list(STEPS)[1:])
    best = exact.filter(pl.col("better") < TOP)
    hits = best.join(found, on=["query_id", "reference_id"], how="semi")
    assert best["query_id"].n_unique() == queries
    about = json.loads((folder / "found/videos, looked up/all/search.json").read_text(encoding="utf-8"))
    return len(hits) / len(best), about["approximate"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--full", action="store_true", help="a million videos, 10,000 queries")
    options = parser.parse_args()
    rows, queries = FULL if options.full else (options.rows, options.queries)
    size = f"{queries} x {rows} x {options.dim}"
    with tempfile.TemporaryDirectory(prefix="million-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        write(folder, rows, queries, options.dim)
        os.chdir(folder)  # digests are remembered below the working folder
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            done = {step: pool.apply(measure, (folder, step)) for step in STEPS}
        share, about = recall(folder, queries)
        os.chdir("/")
    floor = ("its product", [2 * queries * rows * options.dim / product_rate()])
    exact, lists = list(done.values())[1:]
    for step, of_step in list(done.items())[:2]:
        claim(f"search of {size}, {step}", [of_step["cpu"]], "CPU s", floor=floor)
    peer = ("exactly", [exact["cpu"]])
    claim(f"search of {size}, neighbours looked up, with the lists made", [lists["cpu"]], "CPU s", peer=peer)
    print(f"  the lists {lists['index']:.1f} CPU s, the rest {lists['cpu'] - lists['index']:.1f}, in which a sample of "
          f"{min(SAMPLE, queries)} queries is searched for exactly")  # fmt: skip
    claim(f"search of {size}, recall@{TOP} of the lists", [share], "", peer=("exact", [1.0]), more=True)
    print(f"  by the stage's sample of {about['sample']}: {about['recall']}")
    for step, of_step in done.items():
        claim(f"search of {size}, {step}, peak", [of_step["peak"]], "MB", peer=("allowed", [BAR]), bar=1.0)
        print(f"  of it {of_step['added']:.0f} MB since the imports")


if __name__ == "__main__":
    main()
