"""Exact search: the best references of every query, and how many references beat a given pair.

Conventions
    ``queries (Q, D)`` and ``references (N, D)`` are float arrays; a score is their inner product, higher is better
    (:func:`normalise` first for cosines). ``pairs (P, 2)`` hold positions (query, reference). ``better`` counts the
    references of a pair's query that score higher than the pair, ``equal`` the *other* references that score the same.

Exactness
    A score is the inner product in double precision, computed from its two rows alone (:func:`scores_of`). The matrix
    product in single precision (or bfloat16) only decides which scores cannot matter: its error is bounded
    (:func:`error_bound`), so a reference further than that from the score in question is on the side where the product
    says it is, and the few others are scored again. Hence results do not depend on the size of a block, on threads, on
    the device or on the type of the first pass; a pair never loses against itself by a rounding error, and equal rows
    tie. Where references tie, the one that stands first comes first.

Memory
    The Q x N matrix never exists: ``memory`` bytes bound the blocks (beside the inputs and a padded copy of the
    references in the type of the first pass).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

#: bytes that the blocks of a search may take by default
MEMORY = 1 << 28
#: columns of which only the largest is looked at first
BLOCK = 128
#: queries of a block: more do not make the product faster
ROWS = 256
#: relative error of rounding to a type of the first pass
ROUNDING = {"float32": 2.0**-24, "bfloat16": 2.0**-8}


@dataclass(frozen=True)
class Found:
    """What a search found; ``top*`` are (Q, k), the others (P,).

    Attributes:
        top: positions of the best references, best first; -1 where a query has fewer than k.
        top_scores, top_better, top_equal: of these; nan and 0 where there is none.
        scores, better, equal: of the given pairs, in their order.
    """

    top: np.ndarray
    top_scores: np.ndarray
    top_better: np.ndarray
    top_equal: np.ndarray
    scores: np.ndarray
    better: np.ndarray
    equal: np.ndarray


def normalise(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, in the type of ``rows`` (float32 at least). A row of zeros stays one: its cosines are 0."""
    wide = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit.astype(np.result_type(rows, np.float32))


def scores_of(queries: np.ndarray, references: np.ndarray, pairs: np.ndarray, memory: int = MEMORY) -> np.ndarray:
    """Inner products of listed pairs, ``(P,)`` float64; each is a function of its two rows alone."""
    scores = np.empty(len(pairs))
    step = max(1, memory // (32 * max(1, queries.shape[1])))
    for start in range(0, len(pairs), step):
        at = slice(start, start + step)
        left, right = queries[pairs[at, 0]].astype(np.float64), references[pairs[at, 1]].astype(np.float64)
        scores[at] = np.einsum("pd,pd->p", left, right)  # sums each row by itself, unlike a matrix product
    return scores


def error_bound(queries: np.ndarray, references: np.ndarray, first_pass: str = "float32") -> np.ndarray:
    """How far a score of the first pass may be from the exact one, for every query ``(Q,)``.

    Rounding both rows to the type of the first pass, D additions in single precision in any order, and rounding the
    result: ``|q| |r| (2u + u^2 + D e + u)`` with u the rounding of the type and e that of single precision (Higham,
    Accuracy and Stability of Numerical Algorithms, section 3.1), and a hundredth more for the second-order terms.
    """
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    longest = max(
        (float(np.linalg.norm(b.astype(np.float64), axis=1).max()) for _, b in _blocks(references)), default=0
    )
    unit = ROUNDING[first_pass]
    factor = 1.01 * (3 * unit + unit**2 + (queries.shape[1] + 1) * ROUNDING["float32"])
    return lengths * longest * factor + 1e-37


def search(
    queries: np.ndarray,
    references: np.ndarray,
    *,
    top: int = 0,
    pairs: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
    memory: int = MEMORY,
    first_pass: str = "float32",
    device: str | None = None,
) -> Found:
    """The best ``top`` references of every query, and better and equal of ``pairs``, from one pass over the scores.

    Args:
        queries, references: ``(Q, D)`` and ``(N, D)``, finite.
        top: how many references to return for every query.
        pairs: ``(P, 2)`` positions (query, reference).
        exclude: ``(Q,)`` the reference that a query must not meet (itself), or -1.
        memory: bytes for the blocks.
        first_pass: ``float32``, or ``bfloat16`` where the processor multiplies it much faster; same result.
        device: of the first pass; a GPU if there is one.

    Raises:
        ValueError: the shapes do not fit, a value is not finite, or a pair is excluded.
    """
    pairs = np.zeros((0, 2), np.int64) if pairs is None else np.asarray(pairs, np.int64).reshape(-1, 2)
    exclude = np.full(len(queries), -1) if exclude is None else np.asarray(exclude, np.int64)
    _check(queries, references, pairs, exclude)
    order = np.argsort(pairs[:, 0], kind="stable")
    scores = scores_of(queries, references, pairs, memory)
    better, equal = np.zeros(len(pairs), np.int64), np.zeros(len(pairs), np.int64)
    tops = _empty_top(len(queries), top)
    bound = error_bound(queries, references, first_pass)
    for start, approximate in _products(queries, references, exclude, top, memory, first_pass, device):
        stop = start + len(approximate)
        if top:
            rows, columns = _candidates(approximate, top, bound[start:stop])
            exact = scores_of(queries, references, np.stack([rows + start, columns], axis=1), memory)
            _fill_top(tops, rows + start, columns, exact, top)
        mine = order[slice(*np.searchsorted(pairs[order, 0], [start, stop]))]
        for at in np.array_split(mine, max(1, len(mine) // max(1, len(approximate)))):
            better[at], equal[at] = _count(
                approximate, queries, references, pairs[at], scores[at], bound[pairs[at, 0]], start, memory
            )
    return Found(*tops, scores, better, equal)


def _check(queries: np.ndarray, references: np.ndarray, pairs: np.ndarray, exclude: np.ndarray) -> None:
    if queries.ndim != 2 or references.ndim != 2 or queries.shape[1] != references.shape[1]:
        raise ValueError(f"queries {queries.shape} and references {references.shape}, expected (Q, D) and (N, D)")
    for name, rows in (("queries", queries), ("references", references)):
        for start, block in _blocks(rows):
            odd = np.flatnonzero(~np.isfinite(block).all(axis=1))
            if len(odd):
                raise ValueError(f"row {start + odd[0]} of the {name} holds a value that is not finite")
    if len(pairs) and (pairs.min() < 0 or (pairs >= [len(queries), len(references)]).any()):
        raise ValueError(f"a pair lies outside the {len(queries)} queries and {len(references)} references")
    if exclude.shape != (len(queries),) or (exclude >= len(references)).any():
        raise ValueError(f"exclude {exclude.shape}, expected one position below {len(references)} for every query")
    if (exclude[pairs[:, 0]] == pairs[:, 1]).any():
        raise ValueError("a pair is excluded from its own query's references")


def _blocks(rows: np.ndarray, step: int = 8192) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows), step):
        yield start, rows[start : start + step]


def _products(
    queries: np.ndarray,
    references: np.ndarray,
    exclude: np.ndarray,
    top: int,
    memory: int,
    first_pass: str,
    device: str | None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Blocks of approximate scores ``(rows, N padded to whole blocks of columns)``, -inf where nothing may be found."""
    if not len(references):
        return
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = getattr(torch, first_pass)
    total = -(-len(references) // BLOCK) * BLOCK
    right = torch.zeros((total, references.shape[1]), dtype=kind, device=device)
    for start, block in _blocks(references):
        right[start : start + len(block)] = torch.from_numpy(np.ascontiguousarray(block, np.float32)).to(device)
    step = int(np.clip(memory // (total * 16), 1, ROWS))
    out = torch.empty((step, total), dtype=kind, device=device)
    for start in range(0, len(queries), step):
        left = torch.from_numpy(np.ascontiguousarray(queries[start : start + step], np.float32)).to(device, kind)
        product = torch.mm(left, right.T, out=out[: len(left)])
        product = product if kind == torch.float32 else product.float()
        product[:, len(references) :] = -torch.inf
        away = exclude[start : start + step]
        rows = np.flatnonzero(away >= 0)
        product[torch.from_numpy(rows).to(device), torch.from_numpy(away[rows]).to(device)] = -torch.inf
        yield start, product


def _candidates(approximate: torch.Tensor, top: int, bound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every reference that may be among the best ``top`` or tie with the last of them: rows and columns.

    ``top`` blocks of columns have a maximum of at least t, the ``top``-th largest of the blocks' maxima, so that many
    references score at least t - bound, and whatever scores as much has an approximate score of at least t - 2 bound.
    """
    rows, total = approximate.shape
    width = BLOCK if total // BLOCK >= 2 * top else 1
    blocks = approximate.view(rows, total // width, width)
    largest = blocks.amax(dim=2) if width > 1 else approximate
    floor = largest.topk(min(top, largest.shape[1]), dim=1).values[:, -1].double().cpu().numpy() - 2 * bound
    cut = torch.from_numpy(_down(floor)).to(approximate.device)
    row, block = (largest >= cut[:, None]).nonzero(as_tuple=True)
    found, within = ((blocks[row, block] >= cut[row][:, None]) & (blocks[row, block] > -torch.inf)).nonzero(
        as_tuple=True
    )
    return row[found].cpu().numpy(), (block[found] * width + within).cpu().numpy()


def _count(
    approximate: torch.Tensor,
    queries: np.ndarray,
    references: np.ndarray,
    pairs: np.ndarray,
    scores: np.ndarray,
    bound: np.ndarray,
    start: int,
    memory: int,
) -> tuple[np.ndarray, np.ndarray]:
    """better and equal of pairs whose queries lie in this block."""
    better = np.zeros(len(pairs), np.int64)
    near: list[np.ndarray] = []
    low, high = _down(scores - bound), -_down(-(scores + bound))
    for at, query in enumerate((pairs[:, 0] - start).tolist()):
        row = approximate[query].cpu().numpy()  # numpy counts booleans many times faster than torch
        above = row > high[at]
        better[at] = np.count_nonzero(above)
        near.append(np.flatnonzero((row >= low[at]) ^ above))
    column = np.concatenate([*near, np.zeros(0, np.int64)])
    pair = np.repeat(np.arange(len(pairs)), [len(n) for n in near])
    other = column != pairs[pair, 1]
    pair, column = pair[other], column[other]
    exact = scores_of(queries, references, np.stack([pairs[pair, 0], column], axis=1), memory)
    better += np.bincount(pair[exact > scores[pair]], minlength=len(pairs))
    return better, np.bincount(pair[exact == scores[pair]], minlength=len(pairs))


def _down(values: np.ndarray) -> np.ndarray:
    """``values`` in single precision, rounded down."""
    single = values.astype(np.float32)
    return np.where(single > values, np.nextafter(single, np.float32(-np.inf)), single)


def _empty_top(queries: int, top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    shape = (queries, top)
    return np.full(shape, -1), np.full(shape, np.nan), np.zeros(shape, np.int64), np.zeros(shape, np.int64)


def _fill_top(tops: tuple[np.ndarray, ...], rows: np.ndarray, columns: np.ndarray, exact: np.ndarray, top: int) -> None:
    """Order the candidates of every query by score, then position, and keep the best ``top`` of them."""
    if not len(rows):
        return
    order = np.lexsort((columns, -exact, rows))
    rows, columns, exact = rows[order], columns[order], exact[order]
    new_row = np.r_[True, rows[1:] != rows[:-1]]
    new_score = new_row | np.r_[True, exact[1:] != exact[:-1]]
    at = np.arange(len(rows))
    first = np.flatnonzero(new_row)[np.cumsum(new_row) - 1]  # where the candidates of this query begin
    starts = np.flatnonzero(new_score)
    group = np.cumsum(new_score) - 1  # the tie that a candidate belongs to
    ties = np.diff(np.r_[starts, len(rows)])
    keep = at - first < top
    to = rows[keep], (at - first)[keep]
    found = columns, exact, starts[group] - first, ties[group] - 1
    for table, values in zip(tops, found, strict=True):
        table[to] = values[keep]
