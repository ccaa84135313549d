"""Combine: one embedding from several systems' (the ensemble of the AIAC 2021 winners).

Every part's embedding is normalised, scaled by the root of its weight and concatenated: the cosine of two such rows is
the weighted mean of the parts' cosines. Optionally they are projected on their first ``dim`` singular directions (not
centred, as in the source's TruncatedSVD; exact here), which nearly keeps the cosines.

Blocks are multiplied in float32, and their products added up in float64: a cosine is then within 1e-6 of the exact one
(``benchmarks/combine.py``). Rows are read block by block, and twice: reading costs less than memory that was not
touched before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import eigh
from threadpoolctl import threadpool_limits

from videomatch.common import files
from videomatch.common.vectors import unit_rows
from videomatch.data.store import Store, StoreWriter

log = logging.getLogger(__name__)

#: rows that are read at once
ROWS = 2048
#: with fewer rows than dimensions: smallest squared singular value, as a share of the largest, of a direction
MIN_SHARE = 1e-10


def combine(
    *,
    embeddings: list[Path],
    output: Path,
    members: dict[str, list[list[Any]]],
    dim: int | None = None,
    threads: int = 1,
) -> None:
    """Write ``<member>/videos/`` (and ``<member>/texts/`` if all parts have texts), unit rows in float32; with ``dim``
    ``<member>/directions.npy``; and ``combine.json``.

    Args:
        embeddings: a folder per system, with a folder per member that holds a ``videos/`` store.
        members: name -> parts, each ``[number of a folder of embeddings, member in it, weight]``.
        dim: singular directions to keep, found on the videos; all if None or no smaller than the parts together.
    """
    about: dict[str, Any] = {}
    with threadpool_limits(threads):
        for name, parts in members.items():
            shares = shares_of([weight for _, _, weight in parts])
            folders = [embeddings[number] / member for number, member, _ in parts]
            about[name] = {"parts": parts, "dim": dim, **_combine(folders, output / name, shares, dim)}
    files.write_json(output / "combine.json", about)


def shares_of(weights: Sequence[float]) -> np.ndarray:
    """Weights ``(parts,)`` as shares of 1; a ValueError unless they are at least 0 and finite, and not all 0."""
    shares = np.asarray(weights, np.float64)
    if not (np.isfinite(shares) & (shares >= 0)).all() or not shares.sum():
        raise ValueError(f"weights {list(weights)}, expected numbers of at least 0, not all of them 0")
    return shares / shares.sum()


def concatenate(parts: Sequence[np.ndarray], shares: np.ndarray, dtype: str = "float64") -> np.ndarray:
    """Rows ``(N, sum of D)`` of unit length, of parts' rows ``(N, D)``. A part's row of zeros stays zero. Lengths are
    computed in float64 for every ``dtype`` of the result."""
    ends = np.cumsum([part.shape[1] for part in parts])
    rows = np.empty((len(parts[0]), ends[-1]), dtype)
    for part, share, end in zip(parts, shares, ends, strict=True):
        part = np.asarray(part, dtype)
        lengths = np.sqrt(np.einsum("nd,nd->n", part, part, dtype=np.float64))
        scale = np.divide(np.sqrt(share), lengths, out=np.zeros_like(lengths), where=lengths > 0)
        np.multiply(part, scale.astype(dtype)[:, None], out=rows[:, end - part.shape[1] : end])
    return rows


def components(chunks: Iterable[np.ndarray], shape: tuple[int, int], dim: int) -> tuple[np.ndarray, float]:
    """The first right singular vectors ``(D, up to dim)``, float64, of rows that come in chunks, ``shape`` in all, and
    their share of the squared norm.

    They are the eigenvectors of the Gram matrix of the columns, or of the rows where these are fewer. In float32 alone,
    singular values below some 3e-4 of the largest would drown. Signs are fixed by the largest entry.
    """
    count, width = shape
    if count < width:
        rows = np.concatenate([np.asarray(chunk, np.float64) for chunk in chunks])
        gram = rows @ rows.T
        values, vectors = eigh(gram, subset_by_index=[max(0, count - dim), count - 1])
        kept = values > MIN_SHARE * values[-1]
        values, vectors = values[kept], rows.T @ vectors[:, kept] / np.sqrt(values[kept])
    else:
        gram = np.zeros((width, width))
        for chunk in chunks:
            gram += chunk.T @ chunk  # numpy knows that this is symmetric and computes half of it
        values, vectors = eigh(gram, subset_by_index=[width - dim, width - 1])
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return vectors * signs, float(values.sum() / np.trace(gram))


def project(rows: np.ndarray, directions: np.ndarray, columns: int = 256) -> np.ndarray:
    """``rows @ directions``, float64, of ``(n, D)`` and ``(D, K)``: products in the precision of the rows, of few
    ``columns`` at a time, since a sum in float32 loses small terms that come after a large one."""
    right = directions.astype(rows.dtype)
    result = np.zeros((len(rows), directions.shape[1]))
    for left in range(0, rows.shape[1], columns):
        result += rows[:, left : left + columns] @ right[left : left + columns]
    return result


def combined(parts: Sequence[np.ndarray], shares: np.ndarray, directions: np.ndarray | None) -> np.ndarray:
    """Unit rows ``(N, K)`` float32 of parts' rows ``(N, D)``, projected if there are directions."""
    rows = concatenate(parts, shares, "float32")
    return unit_rows(rows if directions is None else project(rows, directions)).astype(np.float32)


def directions_of(folder: Path) -> np.ndarray | None:
    """The directions that a member's embeddings were projected on, ``(D, K)``; None if they were not."""
    path = folder / "directions.npy"
    return np.load(path) if path.exists() else None


def _combine(folders: list[Path], output: Path, shares: np.ndarray, dim: int | None) -> dict[str, Any]:
    """Write the stores of one member; returns counts and what is missing."""
    directions: np.ndarray | None = None
    about: dict[str, Any] = {"counts": {}, "missing": {}}
    for side in ["videos", *(["texts"] if all((f / "texts" / "store.json").exists() for f in folders) else [])]:
        stores = [Store(folder / side) for folder in folders]
        embedded = [set(store.present(store.ids, single=True)) for store in stores]
        everywhere = set.intersection(*embedded)
        ids, missing = [i for i in stores[0].ids if i in everywhere], sorted(set.union(*embedded) - everywhere)
        about["counts"][side], about["missing"][side] = len(ids), missing
        if not ids:
            raise ValueError(f"{side}: no id is in all of {', '.join(map(str, folders))}")
        if missing:
            log.warning("%s: %d ids are not in all parts and are left out", side, len(missing))
        width = sum(int(np.prod(s.shape)) for s in stores)
        if side == "videos" and dim is not None and dim < width:
            # Deviation: the source fits one basis on the validation videos and another on the test videos, which are
            # what it then embeds; here one basis is fitted on all videos of the data set, and serves its texts too.
            rows = (concatenate(parts, shares, "float32") for _, parts in _read(stores, ids))
            directions, about["energy"] = components(rows, (len(ids), width), dim)
            output.mkdir(parents=True, exist_ok=True)
            np.save(output / "directions.npy", directions)
        if directions is not None and width != len(directions):
            raise ValueError(f"texts have {width} dimensions, videos {len(directions)}: no common directions")
        shape = (width if directions is None else directions.shape[1],)
        with StoreWriter(output / side, shape=shape, dtype="float32", made_by={"combine": len(stores)}) as writer:
            for some, parts in _read(stores, ids):
                writer.add_rows(some, combined(parts, shares, directions))
    return about


def _read(stores: list[Store], ids: list[str]) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Some ids at a time, and every part's rows ``(n, D)`` of them."""
    for start in range(0, len(ids), ROWS):
        some = ids[start : start + ROWS]
        yield some, [store.gather(some)[0].reshape(len(some), -1) for store in stores]
