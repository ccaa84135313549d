"""The nearest rows of a store of embeddings: exactly where there are few, by inverted lists where there are many.

Conventions
    A store holds one row an id (a member's ``videos/``); a score is the inner product of query and row in double
    precision, the row made a unit vector first unless ``cosine`` is off. Higher is better, and of rows that tie the one
    that stands first comes first.

Up to :data:`EXACT` rows the store's own files are memory-mapped and multiplied with the query: exact, nothing is built.
Beyond that an inverted file (Sivic and Zisserman 2003, "Video Google"; Douze et al. 2024, arXiv:2401.08281) holds every
row in bytes, one a dimension (faiss's ``IVF…,SQ8``): the rows of the ``nprobe`` lists nearest to a query are compared
roughly, and the best of them scored again from the store. ``nprobe`` is chosen when the lists are built: the smallest
with which the best 10 are found as often as :data:`RECALL` asks, for rows that the lists were not trained on (each
without itself); and another one for texts, which lie elsewhere than videos and need more lists, from the queries beside
the store (``texts/``). Where there are none, texts get :data:`WITHOUT` times as many lists as rows, which is a guess.

The lists are kept in a cache folder and mapped into memory. What they were built from stands beside them: lists of a
store that changed, and damaged ones, are built anew.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from videomatch.common import digests
from videomatch.data.store import Store, name_of

log = logging.getLogger(__name__)

FORMAT = 1
#: rows up to which every one is compared: some 10 ms a query on one core in 256 dimensions
EXACT = 50_000
#: share of the true best 10 that are found, on rows and queries held out
RECALL = 0.98
#: lists that texts get where none were embedded to tune on, as a multiple of those of rows
WITHOUT = 8
#: rows, and queries beside the store, that are held out to choose ``nprobe``
HELD_OUT = 256
#: rows a list that the lists are trained on, and bytes of them at most
SAMPLE, SAMPLE_BYTES = 48, 1 << 28
#: rounds of the k-means
ROUNDS = 8
#: rows that are read at once
ROWS = 1 << 15
#: rough candidates that are scored again: so many a result, and at least so many
AGAIN, LEAST = 4, 64


class Index:
    """The rows of one store, ready to be searched from several threads.

    Attributes:
        store: the embeddings.
        about: ``kind`` (``exact`` or ``lists``) and, of lists, how they were built and what they reach.
    """

    def __init__(self, root: Path, cache: Path, *, cosine: bool = True, exact: int = EXACT) -> None:
        """Open the index of a store, building what is missing.

        Args:
            root: folder of the store.
            cache: folder for the lists of this store alone.
            cosine: compare with unit rows, whatever the length of those in the store.
            exact: rows up to which every one is compared.

        Raises:
            ValueError: an id has not exactly one row, or rows are no vectors.
        """
        self.store, self.cosine = Store.open(root), cosine
        if len(self.store.shape) != 1 or (self.store.lengths != 1).any():
            raise ValueError(f"{root}: rows of shape {self.store.shape}, expected one vector an id")
        self._values = _mapped(root) if len(self.store) <= exact else []
        lengths = [np.linalg.norm(file.astype(np.float32), axis=1) for file in self._values]
        self._lengths = np.concatenate(lengths) if cosine and lengths else np.ones(1)
        self._lists: Any = None
        self.about: dict[str, Any] = {"kind": "exact", "rows": len(self.store), "dim": self.store.shape[0]}
        if len(self.store) > exact:
            digest = digests.digest([digests.tree_digest(root), cosine])
            found = load(cache, digest, len(self.store), self.store.shape[0])
            if found is None:
                build(root, self.store, cache, digest, cosine)
                found = load(cache, digest, len(self.store), self.store.shape[0])
            if found is None:
                raise OSError(f"{cache}: the index that was just written cannot be read back")
            self._lists, self.about = found

    @property
    def ids(self) -> list[str]:
        """Ids by position."""
        return self.store.ids

    def search(
        self, query: np.ndarray, top: int, exclude: int | None = None, kind: str = "rows"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions ``(k,)`` and scores ``(k,)`` float64 of the best ``top`` rows of one query ``(D,)``, best first.

        Args:
            query: a vector, finite.
            top: how many at most.
            exclude: position of a row that is not to be found (the query itself).
            kind: what the query is: ``rows``, like those of the store, or ``texts``.

        Raises:
            ValueError: the query does not fit the store.
        """
        query = np.asarray(query)
        if query.shape != self.store.shape or not np.isfinite(query).all():
            raise ValueError(f"a query of shape {query.shape}, expected {self.store.shape} finite numbers")
        if top < 1:
            return np.zeros(0, np.int64), np.zeros(0)
        wanted = max(AGAIN * (top + 1), LEAST)
        rough = query.astype(np.float32)
        if self._lists is None:
            found = _best(self._values, self._lengths, rough, wanted)
        else:
            found = _probe(self._lists, rough, wanted, self.about["nprobe"][kind])
        found = found[found != (-1 if exclude is None else exclude)]
        found = np.sort(found[found >= 0])
        rows = _rows(self.store, found, self.cosine, np.float64)
        scores = np.einsum("nd,d->n", rows, query.astype(np.float64))  # sums each row by itself: equal rows tie
        order = np.lexsort((found, -scores))[:top]
        return found[order], scores[order]


# -------------------------------------------------------------------------------------------------------------- exact


def _mapped(root: Path) -> list[np.ndarray]:
    """The files of the values, mapped; row n of all of them together belongs to id n."""
    shards = json.loads((root / "store.json").read_text(encoding="utf-8"))["rows"]
    return [np.load(root / name_of("values", n), mmap_mode="r") for n, rows in enumerate(shards) if rows]


def _best(files: list[np.ndarray], lengths: np.ndarray, query: np.ndarray, wanted: int) -> np.ndarray:
    """Positions of the ``wanted`` best rows, and all that tie with the last of them within rounding."""
    scores = np.concatenate([file @ query for file in files] or [np.zeros(0, np.float32)])
    scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    if len(scores) <= wanted:
        return np.arange(len(scores))
    last = np.partition(scores, len(scores) - wanted)[-wanted]
    return np.flatnonzero(scores >= last - 1e-5 * max(1.0, float(abs(last))))[: max(ROWS, wanted)]


def _rows(store: Store, at: np.ndarray, cosine: bool, dtype: type = np.float32) -> np.ndarray:
    """Rows at some positions, of unit length where cosines are asked for. (:mod:`retrieval.similarity` does the same,
    and loads torch for other things, which takes longer than an answer may.)"""
    rows = store.gather(at)[0].astype(dtype, copy=False)
    if cosine:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return rows


def _blocks(store: Store, cosine: bool) -> Iterator[tuple[int, np.ndarray]]:
    """(position of the first, rows float32) of all rows, some at a time."""
    for first in range(0, len(store), ROWS):
        yield first, _rows(store, np.arange(first, min(first + ROWS, len(store))), cosine)


def nearest(
    store: Store, queries: np.ndarray, top: int, own: np.ndarray | None = None, cosine: bool = True
) -> np.ndarray:
    """Positions ``(Q, top)`` of the best rows of many queries ``(Q, D)``, compared with every row; ``own`` ``(Q,)`` are
    positions that the queries must not find."""
    scores = np.full((len(queries), top), -np.inf, np.float32)
    places = np.full((len(queries), top), -1)
    for first, block in _blocks(store, cosine):
        product = queries @ block.T
        if own is not None:
            here = np.flatnonzero((own >= first) & (own < first + len(block)))
            product[here, own[here] - first] = -np.inf
        few = min(top, product.shape[1])
        at = np.argpartition(-product, few - 1, axis=1)[:, :few]
        scores = np.concatenate([scores, np.take_along_axis(product, at, 1)], axis=1)
        places = np.concatenate([places, at + first], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        scores, places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
    return places


# -------------------------------------------------------------------------------------------------------------- lists


def _probe(lists: Any, query: np.ndarray, wanted: int, nprobe: int) -> np.ndarray:
    """Positions of the roughly best rows of the ``nprobe`` nearest lists; -1 where there are fewer."""
    parameters = faiss.SearchParametersIVF(nprobe=nprobe)  # pyright: ignore[reportCallIssue]
    return lists.search(query[None], wanted, params=parameters)[1][0]


def build(root: Path, store: Store, cache: Path, digest: str, cosine: bool = True) -> dict[str, Any]:
    """Train, fill and write the lists of a store; returns what ``about.json`` says.

    Training holds :data:`SAMPLE_BYTES` of rows at most; what grows with the store are the lists themselves, a byte a
    dimension and eight a row.
    """
    started = time.monotonic()
    count, dim = len(store), store.shape[0]
    rng = np.random.default_rng(0)
    nlist = int(min(2 ** round(np.log2(2 * np.sqrt(count))), max(1, count // 39)))
    sample = min(count, SAMPLE * nlist, SAMPLE_BYTES // (4 * dim))
    drawn = rng.permutation(count)
    training, held = np.sort(drawn[:sample]), np.sort(drawn[sample : sample + HELD_OUT])
    held = held if len(held) else training[:HELD_OUT]
    quantizer = faiss.IndexFlatIP(dim)
    lists = faiss.IndexIVFScalarQuantizer(
        quantizer, dim, nlist, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    lists.cp.niter, lists.cp.spherical, lists.cp.seed, lists.cp.min_points_per_centroid = ROUNDS, True, 0, 1
    lists.cp.max_points_per_centroid = SAMPLE
    lists.train(_rows(store, training, cosine))  # pyright: ignore[reportCallIssue]
    trained = time.monotonic()
    for _, block in _blocks(store, cosine):
        lists.add(block)  # pyright: ignore[reportCallIssue]
    filled = time.monotonic()
    nprobe, recalls = _tune(lists, store, held, _queries_beside(root, rng), cosine)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = cache / f".{os.getpid()}.new"
    faiss.write_index(lists, str(temporary))
    sha256 = digests.file_digest(temporary)
    name = f"{sha256[:16]}.faiss"
    temporary.replace(cache / name)
    about = {
        "format": FORMAT,
        "kind": "lists",
        "store": digest,
        "file": name,
        "sha256": sha256,
        "rows": count,
        "dim": dim,
        "nlist": nlist,
        "nprobe": nprobe,
        "recall": recalls,
        "seconds": {
            "train": round(trained - started, 2),
            "fill": round(filled - trained, 2),
            "tune": round(time.monotonic() - filled, 2),
        },
    }
    temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    temporary.replace(cache / "about.json")
    for left in cache.glob("*.faiss"):
        if left.name != name:
            left.unlink(missing_ok=True)
    log.info("index of %d rows: %d lists, probed %s, recall %s", count, nlist, nprobe, recalls)
    return about


def load(cache: Path, digest: str, rows: int, dim: int) -> tuple[Any, dict[str, Any]] | None:
    """The lists of a cache folder, mapped, and what they were built from; None if there are none of this store (its
    ``digest``), or damaged ones."""
    try:
        about = json.loads((cache / "about.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT or about["store"] != digest:
            return None
        path = cache / Path(about["file"]).name
        # faiss believes what a file says of its own sizes: only the very bytes that were written are opened
        if digests.file_digest(path) != about["sha256"]:
            log.warning("%s is not the file that was written: building it again", path)
            return None
        lists = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        about["nprobe"] = {kind: int(about["nprobe"][kind]) for kind in ("rows", "texts")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return None
    return (lists, about) if (lists.ntotal, lists.d) == (rows, dim) else None


def _queries_beside(root: Path, rng: np.random.Generator) -> np.ndarray | None:
    """Some queries that were embedded with the rows, if there are any."""
    if not (root.parent / "texts" / "store.json").exists() or root.name == "texts":
        return None
    texts = Store.open(root.parent / "texts")
    some = np.sort(rng.permutation(len(texts))[:HELD_OUT])
    return texts.gather(some)[0].astype(np.float32) if len(some) else None


def _tune(
    lists: Any, store: Store, held: np.ndarray, texts: np.ndarray | None, cosine: bool, top: int = 10
) -> tuple[dict[str, int], dict[str, float]]:
    """The smallest ``nprobe`` that reaches :data:`RECALL` for each kind of query, and what each reaches with it."""
    top = min(top, max(1, len(store) - 1))
    rows = _rows(store, held, cosine)
    kinds = {"rows": (rows, held, nearest(store, rows, top, held, cosine))}
    if texts is not None:
        kinds["texts"] = (texts, np.full(len(texts), -1), nearest(store, texts, top, None, cosine))

    def recall(kind: str, nprobe: int) -> float:
        queries, own, true = kinds[kind]
        parameters = faiss.SearchParametersIVF(nprobe=nprobe)  # pyright: ignore[reportCallIssue]
        near = lists.search(queries, max(AGAIN * (top + 1), LEAST), params=parameters)[1]
        at, back = np.unique(near, return_inverse=True)
        rows = _rows(store, np.maximum(at, 0), cosine)
        scores = np.einsum("qwd,qd->qw", rows[back.reshape(near.shape)], queries)
        scores[(near < 0) | (near == own[:, None])] = -np.inf
        best = np.take_along_axis(near, np.argsort(-scores, axis=1)[:, :top], 1)
        found = sum(len(set(a) & set(b)) for a, b in zip(best.tolist(), true.tolist(), strict=True))
        return found / (top * len(queries))

    needed: dict[str, int] = {}
    for kind in kinds:  # recall grows with the number of lists: double, then halve the step
        low, high = 0, 1
        while high < lists.nlist and recall(kind, high) < RECALL:
            low, high = high, min(2 * high, lists.nlist)
        while high - low > max(1, low // 8):
            middle = (low + high) // 2
            low, high = (low, middle) if recall(kind, middle) >= RECALL else (middle, high)
        needed[kind] = high
    reached = {kind: round(recall(kind, nprobe), 4) for kind, nprobe in needed.items()}
    return {"texts": min(lists.nlist, WITHOUT * needed["rows"])} | needed, reached
