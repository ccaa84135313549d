"""An ensemble of six, 1,536 dimensions to 256, against the published way: ``python benchmarks/combine.py [--full]``.

The published code concatenates the weighed unit embeddings in double precision and fits scikit-learn's
``TruncatedSVD(256, n_iter=50, random_state=66)``. Embeddings are made up: six noisy copies of one, of a decaying
spectrum (times do not depend on it, errors do), in general position or along the axes (harder for single precision).
Prints CPU time, the largest change of a cosine against the exact one (numpy's eigenvectors in double precision), and
the memory that each way adds at its peak. Ours reads and writes stores, and both are part of its time and memory; the
others have the embeddings in memory beforehand. ``--full``: 43,027 videos.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits

from _claims import claim, product_rate
from videomatch.common.vectors import unit_rows
from videomatch.data.store import Store, StoreWriter
from videomatch.stages.combine import combine

MEMBERS, WIDTH, DIM, PAIRS = 6, 256, 256, 200_000
log = logging.getLogger("benchmark")


def memory(key: str) -> float:
    """VmRSS or VmHWM (the peak) of this process in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines[key].split()[0]) / 1024


def measured(name: str, way: Callable[[], object]) -> tuple[Any, float]:
    """What a way gives, and its CPU seconds; these and the memory it adds at its peak are printed."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, started = memory("VmRSS"), time.process_time()
    result, spent = way(), time.process_time() - started
    log.info("  %-28s %7.2f CPU s, adds %6.0f MB", name, spent, memory("VmHWM") - before)
    return result, spent


def embeddings(videos: int, along_axes: bool) -> list[np.ndarray]:
    """Unit rows of every member, float32."""
    rng = np.random.default_rng(0)
    spectrum = (np.arange(1, WIDTH + 1) ** -0.7).astype(np.float32)
    shared = rng.normal(size=(videos, WIDTH)).astype(np.float32)
    found = []
    for _ in range(MEMBERS):
        rows = (shared + 0.7 * rng.normal(size=shared.shape).astype(np.float32)) * spectrum
        if not along_axes:
            rows = rows @ np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
        found.append(unit_rows(rows))
    return found


def weighed(members: list[np.ndarray]) -> np.ndarray:
    """The concatenation, double precision."""
    return np.concatenate([np.sqrt(1 / MEMBERS) * unit_rows(m.astype(np.float64)) for m in members], axis=1)


def exact(members: list[np.ndarray]) -> np.ndarray:
    """Projected by numpy's eigenvectors of the Gram matrix in double precision."""
    rows = weighed(members)
    return rows @ np.linalg.eigh(rows.T @ rows)[1][:, -DIM:]


def published(members: list[np.ndarray], iterations: int) -> np.ndarray:
    """Projected by scikit-learn's randomised SVD."""
    return TruncatedSVD(DIM, n_iter=iterations, random_state=66).fit_transform(weighed(members))


def ours(folder: Path) -> np.ndarray:
    """The stage, from stores to a store."""
    (folder / "out").mkdir()
    parts = [[n, "all", 1.0] for n in range(MEMBERS)]
    combine(
        embeddings=[folder / str(n) for n in range(MEMBERS)], output=folder / "out", members={"all": parts}, dim=DIM
    )
    return np.empty(0)


def cosines(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Of pairs of rows."""
    unit = unit_rows(rows.astype(np.float64))
    return np.einsum("nd,nd->n", unit[pairs[0]], unit[pairs[1]])


def compare(videos: int, along_axes: bool) -> None:
    """Run all ways on one set of embeddings."""
    members = embeddings(videos, along_axes)
    size = sum(m.nbytes for m in members) / 2**20
    log.info("%d videos, %s; the input has %.0f MB", videos, "along the axes" if along_axes else "rotated", size)
    pairs = np.random.default_rng(1).integers(0, videos, (2, PAIRS))
    ids = [f"{10**18 + 7 * n}" for n in range(videos)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, rows in enumerate(members):
            with StoreWriter(folder / str(number) / "all/videos", shape=(WIDTH,), dtype="float32") as writer:
                writer.add_rows(ids, rows)
        spent = {"ours": measured("ours, from store to store", lambda: ours(folder))[1]}
        found = {"ours": Store(folder / "out/all/videos").gather(ids)[0]}
    known, _ = measured("double precision", lambda: exact(members))
    for iterations in (5, 50):
        name = f"TruncatedSVD(n_iter={iterations})"
        found[name], spent[name] = measured(name, partial(published, members, iterations))
    # the products with itself, and with the axes that are kept
    products = 2 * videos * (MEMBERS * WIDTH) * (MEMBERS * WIDTH + DIM)
    what = f"{MEMBERS} embeddings of {videos} videos combined, {'along the axes' if along_axes else 'rotated'}"
    floor = ("its products", [products / product_rate()])
    claim(what, [spent["ours"]], "CPU s", peer=(name, [spent[name]]), floor=floor)
    wanted = cosines(np.asarray(known), pairs)
    for name, rows in found.items():
        error = np.abs(cosines(np.asarray(rows), pairs) - wanted).max()
        log.info("  %-28s largest change of a cosine %.1e", name, error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=8000)
    parser.add_argument("--full", action="store_true", help="43,027 videos, as in the competition")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with threadpool_limits(1):
        for along_axes in (False, True):
            compare(43_027 if options.full else options.videos, along_axes)


if __name__ == "__main__":
    main()
