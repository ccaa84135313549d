"""Exact search: the best references of every query, and how many references beat a given pair.

``queries (Q, D)`` and ``references (N, D)`` are float arrays, or read their rows when they are asked for
(:class:`Rows`); a score is their inner product, higher is better (:func:`videomatch.common.vectors.unit_rows` first for
cosines). ``pairs (P, 2)`` hold positions (query, reference). ``better`` counts the references of a pair's query that
score higher than the pair, ``equal`` the *other* references that score the same.

A score is the inner product in float64, computed from its two rows alone (:func:`scores_of`). Hence equal rows tie, and
results do not depend on block sizes, threads or the device. Of references that tie, the first comes first. The matrix
product in float32 only excludes what cannot matter: its error is bounded (:func:`error_bound`), and scores within the
bound are computed again.

Neither the Q x N matrix nor all vectors are ever in memory: a part of the queries meets one part of the references
after the other, and both are read again for the next part of the queries. What is kept is the best so far of every
query, and two counts of every pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

#: queries (n, D) and how many references each -> positions (n, any number) of references to score; -1: none
Candidates = Callable[[np.ndarray, int], np.ndarray]
#: bytes of blocks by default
MEMORY = 1 << 28
#: queries and references of a block: more do not make the product faster
ROWS, COLUMNS = 256, 1 << 14
#: so many times as many as are searched for may be near the best of a block before it is looked at more closely
CROWD = 8


class Rows(Protocol):
    """Rows ``(N, D)``: an array, or what reads those that are asked for, by a slice or their positions."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all of them."""
        ...

    def __getitem__(self, at: Any, /) -> np.ndarray:
        """Some rows."""
        ...


@dataclass(frozen=True)
class Request:
    """What to search for: ``pairs`` to rank, ``top`` references of every query, but not the one at ``exclude`` ``(Q,)``
    (itself, or -1). Parts of the vectors, and blocks of scores with their copies, have ``memory`` bytes each."""

    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    top: int = 0
    exclude: np.ndarray | None = None
    memory: int = MEMORY

    def check(self, queries: int, references: int) -> None:
        """Raise a ValueError if a position does not fit, or a pair is excluded."""
        pairs, exclude = self.pairs, self.exclude
        if len(pairs) and (pairs.min() < 0 or (pairs >= [queries, references]).any()):
            raise ValueError(f"a pair lies outside the {queries} queries and {references} references")
        if exclude is None:
            return
        if exclude.shape != (queries,) or (exclude >= references).any():
            raise ValueError(f"exclude {exclude.shape}, expected one position below {references} for every query")
        if (exclude[pairs[:, 0]] == pairs[:, 1]).any():
            raise ValueError("a pair is excluded from its own query's references")

    def mask(self, block: np.ndarray, queries: np.ndarray | slice, column: int = 0) -> np.ndarray:
        """Set excluded scores of a block of queries, with the references from ``column`` on, to -inf, in place."""
        if self.exclude is not None:
            exclude = self.exclude[queries] - column
            rows = np.flatnonzero((exclude >= 0) & (exclude < block.shape[1]))
            block[rows, exclude[rows]] = -np.inf
        return block

    def steps(self, queries: int, references: int, rows: int) -> Iterator[slice]:
        """Blocks of at most ``rows`` queries, of scores in float64 of all references, with as many copies as ranking
        makes."""
        step = int(np.clip(self.memory // (32 * max(1, references)), 1, rows))
        for first in range(0, queries, step):
            yield slice(first, min(queries, first + step))


@dataclass(frozen=True)
class SearchResult:
    """The best references of every query (``top*``, (Q, k)), best first, and the given pairs (P,). Where a query has
    fewer than k references, ``top`` is -1, ``top_scores`` nan, ``top_better`` and ``top_equal`` 0."""

    top: np.ndarray
    top_scores: np.ndarray
    top_better: np.ndarray
    top_equal: np.ndarray
    scores: np.ndarray
    better: np.ndarray
    equal: np.ndarray


@dataclass(frozen=True)
class Tile:
    """``scores`` (q, n) of ascending ``queries`` with the references from ``column`` on. They are changed in place.
    They may be off by ``bound`` (q,); ``exact`` gives those of pairs (rows and columns of the tile)."""

    queries: np.ndarray
    scores: np.ndarray
    column: int = 0
    bound: np.ndarray | None = None
    exact: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def of_pairs(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Exact scores."""
        return self.scores[rows, columns] if self.exact is None else self.exact(rows, columns)


def scores_of(queries: Rows, references: Rows, pairs: np.ndarray, memory: int = MEMORY) -> np.ndarray:
    """Inner products of listed pairs, ``(P,)`` float64; each is a function of its two rows alone."""
    scores = np.empty(len(pairs))
    step = max(1, memory // (32 * max(1, queries.shape[1])))
    for start in range(0, len(pairs), step):
        at = slice(start, start + step)
        left, right = queries[pairs[at, 0]].astype(np.float64), references[pairs[at, 1]].astype(np.float64)
        scores[at] = np.einsum("pd,pd->p", left, right)  # sums each row by itself, unlike a matrix product
    return scores


def error_bound(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """How far a score of a float32 matrix product may be from the exact one, ``(Q,)``: with u = 2^-24, rounding both
    rows (2u), D additions in any order, rounding the result and a threshold that it is compared with (Higham, Accuracy
    and Stability of Numerical Algorithms, section 3.1), and a hundredth more for the second-order terms."""
    longest = _lengths(references).max(initial=0.0)
    return _lengths(queries) * longest * 1.01 * (queries.shape[1] + 5) * 2.0**-24 + 1e-37


def search(
    queries: Rows,
    references: Rows,
    request: Request,
    device: str | None = None,
    candidates: Candidates | None = None,
) -> SearchResult:
    """The best references of every query, and ranks of the pairs; on a GPU, if there is one and no ``device`` given.
    With ``candidates`` a query without pairs is compared with these alone, so that its best are the best of them."""
    if len(queries.shape) != 2 or len(references.shape) != 2 or queries.shape[1] != references.shape[1]:
        raise ValueError(f"queries {queries.shape} and references {references.shape}, expected (Q, D) and (N, D)")
    request.check(queries.shape[0], references.shape[0])
    every = np.arange(queries.shape[0])
    compared = every if candidates is None else np.unique(request.pairs[:, 0])
    own = scores_of(queries, references, request.pairs, request.memory)
    ranking = _Ranking((queries.shape[0], references.shape[0]), request, own)
    for tile in _tiles(queries, references, request, compared, device):
        ranking.add(tile)
    if candidates is not None and request.top:
        rest = np.setdiff1d(every, compared, assume_unique=True)
        for first in range(0, len(rest), ROWS):
            at = rest[first : first + ROWS]
            some, exclude = queries[at], -1 if request.exclude is None else request.exclude[at, None]
            found = candidates(some, request.top)
            rows, place = np.nonzero((found >= 0) & (found != exclude))
            columns = found[rows, place]
            scores = scores_of(some, references, np.stack([rows, columns], axis=1), request.memory)
            ranking.merge(at[rows], columns, scores)
    return ranking.result()


def _tiles(
    queries: Rows, references: Rows, request: Request, compared: np.ndarray, device: str | None
) -> Iterator[Tile]:
    """The scores of the queries that are ``compared`` (positions) with all references."""
    dim, device = queries.shape[1], device or ("cuda" if torch.cuda.is_available() else "cpu")
    part = int(np.clip(request.memory // (32 * max(1, dim)), 1, COLUMNS))
    step = int(np.clip(request.memory // (64 * part), 1, ROWS))
    buffer = torch.empty(0, device=device)  # new memory for every block would take a third longer
    for begin in range(0, len(compared), part):
        at = compared[begin : begin + part]
        left, near = _part(queries, at, "queries", device)
        for column in range(0, references.shape[0], part):
            right, far = _part(references, slice(column, column + part), "references", device)
            bound = error_bound(left, right)
            for first in range(0, len(at), step):
                some = slice(first, first + step)
                shape = (len(near[some]), len(far))
                if len(buffer) < shape[0] * shape[1]:
                    buffer = torch.empty(shape[0] * shape[1], device=device)
                block = torch.mm(near[some], far.T, out=buffer[: shape[0] * shape[1]].view(shape)).cpu().numpy()

                def exact(
                    rows: np.ndarray, columns: np.ndarray, left: np.ndarray = left[some], right: np.ndarray = right
                ) -> np.ndarray:
                    return scores_of(left, right, np.stack([rows, columns], axis=1), request.memory)

                yield Tile(at[some], block, column, bound[some], exact)


def _part(rows: Rows, at: Any, name: str, device: str) -> tuple[np.ndarray, torch.Tensor]:
    """Some rows, and the same in float32."""
    some = rows[at]
    odd = np.flatnonzero(~np.isfinite(_lengths(some)))
    if len(odd):
        where = at.start + odd[0] if isinstance(at, slice) else at[odd[0]]
        raise ValueError(f"row {where} of the {name} holds a value that is not finite")
    return some, torch.from_numpy(np.ascontiguousarray(some, np.float32)).to(device)


def rank(tiles: Iterable[Tile], shape: tuple[int, int], request: Request) -> SearchResult:
    """The best references of every query, and ranks of the pairs, of ``shape`` ``(Q, N)``, from exact scores of all
    references with some queries after others."""
    request.check(*shape)
    ranking = _Ranking(shape, request)
    for tile in tiles:
        ranking.add(tile)
    return ranking.result()


class _Ranking:
    """What is known after some tiles; ``own`` are the scores of the pairs, else they are those of the tiles."""

    def __init__(self, shape: tuple[int, int], request: Request, own: np.ndarray | None = None) -> None:
        self.request, self._is_known = request, own is not None
        pairs = request.pairs
        self._order = np.argsort(pairs[:, 0], kind="stable")
        self._queries = pairs[self._order, 0]
        self._scores = np.zeros(len(pairs)) if own is None else own
        self._better, self._equal = np.zeros(len(pairs), np.int64), np.zeros(len(pairs), np.int64)
        self._top, self._best = np.full((shape[0], request.top), -1), np.full((shape[0], request.top), np.nan)
        self._tied = np.zeros(shape[0], np.int64)  # references beyond the best that tie with the last of them

    def add(self, tile: Tile) -> None:
        """Take the references of a tile into account."""
        block, pairs = self.request.mask(tile.scores, tile.queries, tile.column), self.request.pairs
        bound = np.zeros(len(block)) if tile.bound is None else tile.bound
        if self.request.top and block.size:
            rows, columns = self._near(block, bound, tile.queries)
            self.merge(tile.queries[rows], columns + tile.column, tile.of_pairs(rows, columns))
        here = self._order[slice(*np.searchsorted(self._queries, [tile.queries[0], tile.queries[-1] + 1]))]
        local = np.searchsorted(tile.queries, pairs[here, 0])
        if not self._is_known:
            self._scores[here] = tile.of_pairs(local, pairs[here, 1])
        for at, query, column in zip(
            here.tolist(), local.tolist(), (pairs[here, 1] - tile.column).tolist(), strict=True
        ):
            row, own, margin = block[query], self._scores[at], bound[query]
            above = row > (own + margin).astype(row.dtype)
            near = np.flatnonzero((row >= (own - margin).astype(row.dtype)) ^ above)
            near = near[near != column]
            others = tile.of_pairs(np.full(len(near), query), near)
            self._better[at] += np.count_nonzero(above) + np.count_nonzero(others > own)
            self._equal[at] += np.count_nonzero(others == own)

    def _near(self, block: np.ndarray, bound: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of a block that may be among the best: at least t - bound, with t the exact score of the
        last of the best so far; and t - 2 bound, with t the ``top``-th largest score of the block."""
        top = self.request.top
        floor = np.nan_to_num(self._best[queries, -1], nan=-np.inf) - bound
        hits = block >= floor.astype(block.dtype)[:, None]
        if np.count_nonzero(hits) > CROWD * top * len(block):  # as at the beginning
            last = torch.from_numpy(block).topk(min(top, block.shape[1]), dim=1).values[:, -1].numpy()
            hits = block >= np.maximum(floor, last - 2 * bound).astype(block.dtype)[:, None]
        at = np.flatnonzero(hits)
        at = at[block.ravel()[at] > -np.inf]
        rows, columns = np.divmod(at, block.shape[1])  # faster than `nonzero`
        return rows, columns

    def merge(self, queries: np.ndarray, columns: np.ndarray, scores: np.ndarray) -> None:
        """Take further references of some queries, (n,) each, among the best."""
        top, touched = self.request.top, np.unique(queries)
        rows, place = np.nonzero(self._top[touched] >= 0)
        rows = np.concatenate([rows, np.searchsorted(touched, queries)])
        before = self._best[touched, -1]
        columns = np.concatenate([self._top[touched][self._top[touched] >= 0], columns])
        scores = np.concatenate([self._best[touched][~np.isnan(self._best[touched])], scores])
        order = np.lexsort((columns, -scores, rows))
        rows, columns, scores = rows[order], columns[order], scores[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < top
        self._top[touched[rows[kept]], place[kept]] = columns[kept]
        self._best[touched[rows[kept]], place[kept]] = scores[kept]
        last = self._best[touched, -1]
        more = np.bincount(rows[~kept & (scores == last[rows])], minlength=len(touched))
        self._tied[touched] = np.where(last == before, self._tied[touched], 0) + more

    def result(self) -> SearchResult:
        """All that was asked for."""
        best, place = self._best, np.arange(self.request.top)
        is_new = np.ones(best.shape, bool)
        is_new[:, 1:] = best[:, 1:] != best[:, :-1]
        better = np.maximum.accumulate(np.where(is_new, place, 0), axis=1)
        ends = np.ones(best.shape, bool)
        ends[:, :-1] = is_new[:, 1:]
        last = np.minimum.accumulate(np.where(ends, place, self.request.top)[:, ::-1], axis=1)[:, ::-1]
        equal = last - better + np.where(best == best[:, -1:], self._tied[:, None], 0)
        is_found = self._top >= 0
        counts = np.where(is_found, better, 0), np.where(is_found, equal, 0)
        return SearchResult(self._top, best, *counts, self._scores, self._better, self._equal)


def _lengths(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
