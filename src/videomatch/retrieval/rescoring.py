"""Rescoring: scores that also use a video's single frames, a bank of other queries, or all queries of the test, and
another system's scores of the best pairs.

A method is a function of this module; its keyword-only arguments are the options of ``rescore:`` in the parameters.
Conventions are those of :mod:`videomatch.retrieval.exact`. Ties are exact here, too: rows are rounded to fixed point,
26 bits below the longest row's length (a cosine changes by about 1e-8), so that the inner product of two of them is
exact in float64, and no score depends on the size of a block (but for the last bits of ``frame_softmax`` and
``rerank``). Frames are read chunk by chunk, again for every block of queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from videomatch.common.vectors import blocks, unit_rows
from videomatch.retrieval.exact import Request, SearchResult, Tile, rank

#: methods of which a query's result depends on the other queries of the test
TRANSDUCTIVE = ("dual_softmax",)
#: bits behind the size of the longest row
BITS = 26
#: queries of a block: more do not make the products faster
ROWS = 1024
#: references that :func:`rerank` has scored by default
TOP = 50
#: candidates of a block of queries that :func:`rerank` has scored at once
CANDIDATES = 4096
#: largest exponent of exp that stays clear of overflow in float64
LARGEST_EXPONENT = 600.0


@dataclass(frozen=True)
class Frames:
    """Frames of the videos of one side, at least one each, and vectors ``(N, F)`` of the texts of the other in their
    space: ``read`` gives the rows of the videos [first, last). The videos are the references if the numbers fit."""

    texts: np.ndarray
    lengths: np.ndarray
    read: Callable[[int, int], np.ndarray]


#: scores ``(rows, N)`` of a slice of the queries
Scores = Callable[[slice], np.ndarray]
#: positions (A,) of queries and (A, k) of references for each -> scores (A, k) of the pairs; (N,) are the same for all
PairScores = Callable[[np.ndarray, np.ndarray], np.ndarray]


def frame_max(
    queries: np.ndarray, references: np.ndarray, frames: Frames, request: Request, *, weight: float = 0.5
) -> SearchResult:
    """s + weight max_t cos(text, frame_t): what a reranker of ad-hoc video search adds (CLIPRerank)."""
    left, right = _fixed(queries), _fixed(references)
    best = _frame_scores(len(queries), len(references), frames, request.memory, None)
    return _ranked(lambda at: (left[at] @ right.T).numpy() + weight * best(at), len(left), len(right), request)


def frame_softmax(
    queries: np.ndarray, references: np.ndarray, frames: Frames, request: Request, *, temperature: float = 0.1
) -> SearchResult:
    """cos(text, frames weighted by softmax_t(cos(text, frame_t) / temperature)): query-scored pooling (Bain et al.,
    arXiv:2205.08508). Temperature 0 is the best frame, infinity the mean. Queries and references are only counted."""
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}, expected more than 0")
    pooled = _frame_scores(len(queries), len(references), frames, request.memory, temperature)
    return _ranked(pooled, len(queries), len(references), request)


def qb_norm(
    queries: np.ndarray, references: np.ndarray, bank: np.ndarray, request: Request, *, beta: float = 20.0
) -> SearchResult:
    """The dynamic inverted softmax (Bogolin et al., CVPR 2022, arXiv:2112.12777): less for references that many other
    queries find, for queries whose best reference is the best of one of those.

    The published score exp(beta s) / sum over the bank of exp(beta s_b) is written on the scale of s here, as
    s - log(mean over the bank of exp(beta s_b)) / beta. The order of a query's references is the same, and scores of
    queries that are not normalised lie on the same scale. The ``bank (B, D)`` holds queries of the training split.
    """
    left, right, others = _fixed(queries), _fixed(references), _fixed(bank)
    ceiling = _ceiling(others, right, beta)
    is_best, total = np.zeros(len(right), bool), np.zeros(len(right))
    for at in request.steps(len(others), len(right), ROWS):
        block = (others[at] @ right.T).numpy()
        is_best[block.argmax(axis=1)] = True
        _add_rows(total, np.exp(beta * (block - ceiling)))
    less = np.log(total / len(others)) / beta + ceiling

    def scores(at: slice) -> np.ndarray:
        block = request.mask((left[at] @ right.T).numpy(), at)
        block[is_best[block.argmax(axis=1)]] -= less
        return block

    return _ranked(scores, len(left), len(right), request)


def dual_softmax(queries: np.ndarray, references: np.ndarray, request: Request, *, beta: float = 100.0) -> SearchResult:
    """s softmax(beta s) over all queries of the test (Cheng et al. 2021, arXiv:2109.04290). It is **transductive**: a
    query's result depends on the others, and it assumes that each reference belongs to one query. Of negative scores
    the product turns the order around, as published. Published scores are cosines times 100, hence ``beta``."""
    left, right = _fixed(queries), _fixed(references)
    ceiling = _ceiling(left, right, beta)
    total = np.zeros(len(right))

    def block(at: slice) -> np.ndarray:
        return request.mask((left[at] @ right.T).numpy(), at)

    for at in request.steps(len(left), len(right), ROWS):
        _add_rows(total, np.exp(beta * (block(at) - ceiling)))

    def scores(at: slice) -> np.ndarray:
        plain = block(at)
        share = np.exp(beta * (plain - ceiling)) / total
        return np.multiply(plain, share, out=plain, where=share > 0)  # what is excluded stays -inf

    return _ranked(scores, len(left), len(right), request)


def rerank(
    queries: np.ndarray,
    references: np.ndarray,
    score_pairs: PairScores,
    request: Request,
    *,
    top: int | None = TOP,
    weight: float = 1.0,
) -> SearchResult:
    """Another system's scores of the ``top`` references of every query, or of all (null): of its score the share
    ``weight``, the rest of the own one. The other references come behind these in their order, with scores that are
    lower by 1 at least."""
    if (top is not None and top < 1) or not 0 <= weight <= 1:
        raise ValueError(f"top {top}, weight {weight}, expected at least 1 and a share")
    left, right = _fixed(queries), _fixed(references)
    everything = np.arange(len(right))

    def scores(at: slice) -> np.ndarray:
        rows = np.arange(at.start, at.stop)
        if top is None or top >= len(right):
            return mixed(score_pairs(rows, everything), (left[at] @ right.T).numpy(), weight)
        block = request.mask((left[at] @ right.T).numpy(), at)
        best = np.argsort(-block, axis=1, kind="stable")[:, :top]
        own = np.take_along_axis(block, best, axis=1)
        is_excluded = np.isneginf(own)
        found = np.where(is_excluded, -np.inf, mixed(score_pairs(rows, best), own, weight))
        floor = np.where(is_excluded, np.inf, found).min(axis=1, keepdims=True)
        block += floor - 1 - block.max(axis=1, keepdims=True)
        np.put_along_axis(block, best, found, axis=1)
        return block

    count = ROWS if top is None else max(1, CANDIDATES // top)
    return _ranked(scores, len(left), len(right), request, count)


def mixed(others: np.ndarray, own: np.ndarray, weight: float) -> np.ndarray:
    """The share ``weight`` of other scores and the rest of the own ones, of the same shape."""
    return others.astype(np.float64) if weight == 1 else weight * others + (1 - weight) * own


def _fixed(rows: np.ndarray) -> torch.Tensor:
    """Rows in float64, rounded so that inner products of two such rows are exact."""
    wide = np.asarray(rows, np.float64)
    longest = float(np.sqrt(np.einsum("nd,nd->n", wide, wide).max(initial=0.0)))
    if not np.isfinite(longest):
        raise ValueError("a row holds a value that is not finite")
    unit = 2.0 ** (BITS - np.ceil(np.log2(longest) - 0.1)) if longest else 1.0
    return torch.from_numpy(np.rint(wide * unit) / unit)


def _ceiling(left: torch.Tensor, right: torch.Tensor, beta: float) -> float:
    """A bound of all scores; a ValueError if exp(beta s) may overflow."""
    ceiling = float(left.norm(dim=1).max() * right.norm(dim=1).max()) if len(left) and len(right) else 0.0
    if beta <= 0 or 2 * beta * ceiling > LARGEST_EXPONENT:
        raise ValueError(
            f"beta {beta} with scores up to {ceiling:.3g}, expected above 0 and at most {LARGEST_EXPONENT / 2:g} by it"
        )
    return ceiling


def _add_rows(total: np.ndarray, block: np.ndarray) -> None:
    """Add rows one after the other: the sum does not depend on the size of the blocks."""
    for row in block:
        total += row


def _ranked(scores: Scores, queries: int, references: int, request: Request, rows: int = ROWS) -> SearchResult:
    steps = request.steps(queries, references, rows) if references else ()
    return rank((Tile(np.arange(at.start, at.stop), scores(at)) for at in steps), (queries, references), request)


def _frame_scores(queries: int, references: int, frames: Frames, memory: int, temperature: float | None) -> Scores:
    """The best frame's cosine with each text, or that of frames weighted by the softmax."""
    given = texts, videos = len(frames.texts), len(frames.lengths)
    if given not in ((queries, references), (references, queries)):
        raise ValueError(f"{texts} texts and frames of {videos} videos, for {queries} queries, {references} references")
    words = _fixed(unit_rows(frames.texts))
    chunk = max(1, memory // (32 * (ROWS + words.shape[1])))

    def scores(some: torch.Tensor, first: int, last: int) -> np.ndarray:
        """Of some texts with the videos [first, last), whose frames are read in chunks."""
        parts, lengths = [], frames.lengths[first:last]
        for at in blocks(lengths, chunk):
            rows = _fixed(unit_rows(frames.read(first + at.start, first + at.stop)))
            parts.append(np.concatenate([_pooled(part, rows, lengths[at], temperature) for part in some.split(ROWS)]))
        return np.concatenate(parts, axis=1)

    if given == (queries, references):
        return lambda at: scores(words[at], 0, videos)
    return lambda at: np.ascontiguousarray(scores(words, at.start, at.stop).T)


def _pooled(texts: torch.Tensor, frames: torch.Tensor, lengths: np.ndarray, temperature: float | None) -> np.ndarray:
    """One score of every text (n, D) with every video (n, videos), of cosines with its frames (sum of lengths, D)."""
    each = (texts @ frames.T).numpy()
    starts = np.cumsum(lengths) - lengths
    largest = np.maximum.reduceat(each, starts, axis=1)
    if temperature is None:
        return largest
    weight = np.exp((each - np.repeat(largest, lengths, axis=1)) / temperature)
    along = np.add.reduceat(weight * each, starts, axis=1)
    squares = np.empty_like(along)
    for number, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        mine, rows = weight[:, start : start + length], frames[start : start + length]
        squares[:, number] = np.einsum("nt,nt->n", mine @ (rows @ rows.T).numpy(), mine)
    size = np.sqrt(np.maximum(squares, 0.0))  # of the weighted sum; where that vanishes, the cosine is 0
    return np.divide(along, size, out=np.zeros_like(along), where=size > 1e-12)
