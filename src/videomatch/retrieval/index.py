"""The nearest rows of a store of embeddings: exactly where there are few, by inverted lists where there are many.

A score is the inner product of query and row in float64, the row made a unit vector first unless ``cosine`` is off.
Higher is better, and of rows that tie the first comes first.

Up to :data:`EXACT` rows the query is compared with every row in float32, and the best are scored again in float64.
Beyond that an inverted file (:mod:`videomatch.retrieval.ann`) holds every row, and the best of the ``nprobe`` nearest
lists are scored again from the store. ``nprobe`` is chosen when the index is built: the smallest that finds
:data:`RECALL` of the true best 10, for rows that the index was not trained on (each without itself), and another one
for texts, from those beside the store (``texts/``): they are further from all videos and need more lists.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from videomatch.common import digests
from videomatch.common.vectors import unit_rows
from videomatch.data.store import Store
from videomatch.retrieval import ann

log = logging.getLogger(__name__)

#: rows up to which the search is exact: some 10 ms per query on one core in 256 dimensions
EXACT = 50_000
#: share of the true best 10 that are found, on rows and queries held out
RECALL = 0.98
#: lists for texts where none were embedded to tune on, as a multiple of those for rows: a guess
WITHOUT_TEXTS = 8
#: rows, and texts beside the store, that are held out to choose ``nprobe``
HELD_OUT = 256
#: rows that are read at once
ROWS = 1 << 15
#: candidates of an inverted file that are scored again: so many per result, and at least so many
CANDIDATES, MIN_CANDIDATES = 4, 64


class Index:
    """The rows of one store, or of some ``ids`` of it, to be searched from several threads. ``about`` holds its
    ``kind`` (``exact`` or ``lists``) and, of lists, how they were built and the recall that they reach."""

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        cosine: bool = True,
        exact: int = EXACT,
        held_out: int = HELD_OUT,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Open the index of a store with one vector per id; in ``cache``, a folder for this store alone, it is built
        where it is missing or damaged, or belongs to other rows. Positions are those in ``ids``, by default all."""
        self.store, self.cosine = Store(root), cosine
        self._at = np.arange(len(self.store)) if ids is None else self.store.index(ids)
        if len(self.store.shape) != 1 or (self.store.lengths[self._at] != 1).any():
            raise ValueError(f"{root}: rows of shape {self.store.shape}, expected one vector per id")
        self._index: Any = None
        self.about: dict[str, Any] = {"kind": "exact"}
        if len(self._at) <= exact:
            self._rows = self._read(np.arange(len(self._at)))
            return
        digest = digests.digest([digests.tree_digest(root), cosine, *([] if ids is None else [list(ids)])])
        if (cache / "about.json").exists():
            try:
                about = ann.checked(cache)
                if about["store"] == digest:
                    self._index, self.about = faiss.read_index(str(cache / "index.faiss"), ann.MAPPED), about
                    return
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                log.warning("the index is built again: %s", error)
        self._build(root, cache, digest, held_out)

    def search(
        self, query: np.ndarray, top: int, exclude: int = -1, kind: str = "rows"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions ``(k,)`` and scores ``(k,)`` float64 of the best ``top`` rows of one query ``(D,)``, best first,
        but not of ``exclude`` (itself). ``kind``: the query is like the ``rows`` of the store, or like ``texts``."""
        query = np.asarray(query)
        if query.shape != self.store.shape or not np.isfinite(query).all():
            raise ValueError(f"a query of shape {query.shape}, expected {self.store.shape} finite numbers")
        if top < 1 or not len(self._at):
            return np.zeros(0, np.int64), np.zeros(0)
        if self.about["kind"] == "lists":
            found = self.candidates(query[None], top, kind)[0]
        else:  # all rows that may be among the best after rounding
            rough = self._rows @ query.astype(np.float32)
            last = -min(top + 1, len(rough))
            found = np.flatnonzero(rough >= np.partition(rough, last)[last] - 2e-5 * max(1.0, np.abs(rough).max()))
        return self._scored(query, found, top, exclude)

    def nearest(self, queries: np.ndarray, top: int, exclude: np.ndarray) -> np.ndarray:
        """Positions ``(Q, top)`` of the best rows, among all but ``exclude`` ``(Q,)``, of many queries ``(Q, D)``."""
        heap = faiss.ResultHeap(len(queries), top + 1, keep_max=True)
        for first, rows in self._blocks():
            scores, found = faiss.knn(queries, rows, min(top + 1, len(rows)), metric=faiss.METRIC_INNER_PRODUCT)
            heap.add_result(scores, found + first)
        heap.finalize()
        last = np.argsort(exclude[:, None] == heap.I, axis=1, kind="stable")[:, :top]
        return np.take_along_axis(heap.I, last, axis=1)

    def candidates(self, queries: np.ndarray, top: int, kind: str = "rows") -> np.ndarray:
        """Positions ``(Q, n)`` of rows, the best ``top`` of many queries ``(Q, D)`` most likely among them, -1: none;
        of inverted lists alone."""
        return self._candidates(queries, top, self.about["nprobe"][kind])

    def _candidates(self, queries: np.ndarray, top: int, nprobe: int) -> np.ndarray:
        """Positions ``(Q, n)`` of rows in the ``nprobe`` nearest lists; -1 where there are fewer."""
        parameters = faiss.SearchParametersIVF(nprobe=nprobe)  # pyright: ignore[reportCallIssue]
        wanted = max(CANDIDATES * (top + 1), MIN_CANDIDATES)
        return self._index.search(queries.astype(np.float32), wanted, params=parameters)[1]

    def _scored(self, query: np.ndarray, found: np.ndarray, top: int, exclude: int) -> tuple[np.ndarray, np.ndarray]:
        found = np.sort(found[(found >= 0) & (found != exclude)])
        rows = self._read(found, np.float64)
        scores = np.einsum("nd,d->n", rows, query.astype(np.float64))  # sums each row by itself: equal rows tie
        order = np.lexsort((found, -scores))[:top]
        return found[order], scores[order]

    def _read(self, at: np.ndarray, dtype: type = np.float32) -> np.ndarray:
        rows = self.store.gather(self._at[at])[0].astype(dtype, copy=False)
        return unit_rows(rows, dtype) if self.cosine else rows

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(position of the first, rows float32) of all rows, some at a time."""
        for first in range(0, len(self._at), ROWS):
            yield first, self._read(np.arange(first, min(first + ROWS, len(self._at))))

    def _build(self, root: Path, cache: Path, digest: str, held_out: int) -> None:
        """Train, fill, tune and write the inverted file."""
        count = len(self._at)
        rng = np.random.default_rng(0)
        nlist = int(min(ann.lists_for(count), max(1, count // 39)))
        sample = min(count, ann.sample_size(nlist, self.store.shape[0]))
        order = rng.permutation(count)
        training, held = np.sort(order[:sample]), np.sort(order[sample : sample + held_out])
        held = held if len(held) else training[:held_out]
        self._index = ann.train(self._read(training), nlist)
        for _, rows in self._blocks():
            self._index.add(rows)
        kinds = {"rows": (self._read(held), held)}
        if (root.parent / "texts" / "store.json").exists() and root.name != "texts":
            store = Store(root.parent / "texts")
            some = np.sort(rng.permutation(len(store))[:held_out])
            if len(some):
                kinds["texts"] = store.gather(some)[0].astype(np.float32), np.full(len(some), -1)
        nprobe, recall = {}, {}
        for kind, (queries, own) in kinds.items():
            nprobe[kind], recall[kind] = self._tuned(queries, own)
        about = {
            "kind": "lists",
            "store": digest,
            "nlist": nlist,
            "nprobe": {"texts": min(nlist, WITHOUT_TEXTS * nprobe["rows"])} | nprobe,
            "recall": recall,
        }
        with ann.written(cache, about) as new:
            ann.write_index(self._index, new / "index.faiss")
        # mapped, the index takes no memory of its own
        self._index, self.about = faiss.read_index(str(cache / "index.faiss"), ann.MAPPED), about
        log.info("index of %d rows: %d lists, probed %s, recall %s", count, nlist, about["nprobe"], recall)

    def _tuned(self, queries: np.ndarray, own: np.ndarray, top: int = 10) -> tuple[int, float]:
        """The smallest ``nprobe`` that reaches :data:`RECALL`, and the recall that it reaches."""
        top = min(top, max(1, len(self._at) - 1))
        true = self.nearest(queries, top, own).tolist()

        def recall(nprobe: int) -> float:
            hits = 0
            candidates = self._candidates(queries, top, nprobe)
            for query, found, best, exclude in zip(queries, candidates, true, own.tolist(), strict=True):
                hits += len(set(self._scored(query, found, top, exclude)[0].tolist()) & set(best))
            return hits / (top * len(queries))

        low, high = 0, 1
        while high < self._index.nlist and recall(high) < RECALL:  # recall grows with nprobe: double, then halve
            low, high = high, min(2 * high, self._index.nlist)
        while high - low > max(1, low // 8):
            middle = (low + high) // 2
            low, high = (low, middle) if recall(middle) >= RECALL else (middle, high)
        return high, round(recall(high), 4)
