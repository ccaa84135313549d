"""Combine: one embedding from several systems' (the ensemble of the AIAC 2021 winners).

Every member's embedding is normalised, weighed by the root of its weight and concatenated: the cosine of two such rows
is the weighted mean of the members' cosines. Optionally they are projected on their first ``dim`` singular directions
(not centred, as in the source's TruncatedSVD; exact here), which keeps the cosines nearly.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.linalg import eigh
from threadpoolctl import threadpool_limits

from videomatch.data.store import Store, StoreWriter
from videomatch.similarity import normalise

log = logging.getLogger(__name__)

#: rows that are in memory at once
ROWS = 8192


def combine(
    *,
    embeddings: list[Path],
    output: Path,
    weights: list[float] | None = None,
    dim: int | None = None,
    threads: int = 1,
) -> None:
    """Write ``videos/`` (and ``texts/`` if all members have texts): unit rows, float32; and ``combine.json``.

    Args:
        embeddings: one folder a member, with a ``videos/`` store.
        weights: one a member, at least 0; equal by default. Only their ratios count.
        dim: singular directions to keep, found on the videos; all if None or no smaller than the members together.
        threads: of the matrix products.

    Raises:
        ValueError: the weights do not fit the members, or the members share no video.
    """
    shares = _shares(weights, len(embeddings))
    parts = ["videos", *(["texts"] if all((e / "texts" / "store.json").exists() for e in embeddings) else [])]
    directions: np.ndarray | None = None
    about: dict = {"weights": shares.tolist(), "dim": dim, "counts": {}, "missing": {}}
    with threadpool_limits(threads):
        for part in parts:
            stores = [Store.open(e / part) for e in embeddings]
            ids, missing = _shared(stores)
            about["counts"][part], about["missing"][part] = len(ids), missing
            if not ids:
                raise ValueError(f"{part}: no id is in all of {', '.join(map(str, embeddings))}")
            if missing:
                log.warning("%s: %d ids are not in all members and are left out", part, len(missing))
            width = sum(int(np.prod(s.shape)) for s in stores)
            if part == "videos" and dim is not None and dim < width:
                directions, about["energy"] = components(_chunks(stores, ids, shares), dim)
            if directions is not None and width != len(directions):
                raise ValueError(f"texts have {width} dimensions, videos {len(directions)}: no common directions")
            shape = (width if directions is None else directions.shape[1],)
            with StoreWriter(output / part, shape=shape, dtype="float32", made_by={"combine": len(stores)}) as writer:
                at = iter(ids)
                for rows in _chunks(stores, ids, shares):
                    for row in normalise(rows if directions is None else rows @ directions):
                        writer.add(next(at), row[None])
    (output / "combine.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def concatenate(members: list[np.ndarray], shares: np.ndarray) -> np.ndarray:
    """Rows ``(N, sum of D)`` of unit length, float64, of members' rows ``(N, D)``; the shares sum to 1."""
    parts = [np.sqrt(w) * normalise(np.asarray(m, np.float64)) for m, w in zip(members, shares, strict=True)]
    return np.concatenate(parts, axis=1)


def components(chunks: Iterator[np.ndarray], dim: int) -> tuple[np.ndarray, float]:
    """The first right singular vectors ``(D, dim)`` of rows that come in chunks, and their share of the squared norm.

    They are the eigenvectors of the Gram matrix. It is summed in double precision: in single precision, singular values
    below some 3e-4 of the largest would drown. Signs are fixed by the largest entry, so that results repeat.
    """
    gram = sum(chunk.T @ chunk for chunk in chunks)
    assert isinstance(gram, np.ndarray)
    size = len(gram)
    values, vectors = eigh(gram, subset_by_index=[size - dim, size - 1])
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(dim)])
    return vectors * signs, float(values.sum() / np.trace(gram))


def _shares(weights: list[float] | None, members: int) -> np.ndarray:
    shares = np.ones(members) if weights is None else np.asarray(weights, float)
    if len(shares) != members or not (np.isfinite(shares) & (shares >= 0)).all() or not shares.sum():
        raise ValueError(f"weights {weights}, expected {members} numbers of at least 0, not all of them 0")
    return shares / shares.sum()


def _shared(stores: list[Store]) -> tuple[list[str], list[str]]:
    """Ids that every member has an embedding of, in the order of the first, and those that only some have."""
    for store in stores:
        if (store.lengths > 1).any():
            odd = int(np.flatnonzero(store.lengths > 1)[0])
            raise ValueError(
                f"{store.roots[0]}: {store.ids[odd]!r} has {store.lengths[odd]} rows, expected one embedding"
            )
    there = [{i for i, length in zip(s.ids, s.lengths, strict=True) if length} for s in stores]
    everywhere = set.intersection(*there)
    return [i for i in stores[0].ids if i in everywhere], sorted(set.union(*there) - everywhere)


def _chunks(stores: list[Store], ids: list[str], shares: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(ids), ROWS):
        some = ids[start : start + ROWS]
        yield concatenate([s.gather(some)[0].reshape(len(some), -1) for s in stores], shares)
