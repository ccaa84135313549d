"""Rescoring: what a score becomes when a video's single frames, other queries, or all queries of the test have a say.

Methods
    ``frame_max``      s + weight max_t cos(text, frame_t): what a reranker of ad-hoc video search adds (CLIPRerank).
    ``frame_softmax``  cos(text, frames weighed by softmax_t(cos(text, frame_t) / temperature)): pooling that asks the
                       query (Bain et al. 2022, arXiv:2205.08508); temperature 0 is the best frame, infinity the mean.
    ``qb_norm``        the dynamic inverted softmax over a bank of other queries (Bogolin et al., CVPR 2022,
                       arXiv:2112.12777).
    ``dual_softmax``   s softmax(beta s) over all queries of the test (Cheng et al. 2021, arXiv:2109.04290). It is
                       **transductive**: a query's result depends on the others, and it takes for granted that each
                       reference belongs to one query.

Conventions
    As :mod:`retrieval.similarity`: ``queries (Q, D)``, ``references (N, D)``, scores are inner products, higher is
    better, the result is its :class:`~retrieval.similarity.Found`. Frames belong to the videos of either side.

Exactness
    Rows are rounded to fixed point, 26 bits below the longest row's length, so that the inner product of two of them is
    exact in double precision, in whatever order it is added up: equal rows tie, and no score depends on the size of a
    block (but for the last bits of ``frame_softmax``). What rounding does to a cosine is of the order of 1e-8.

Memory
    Neither Q x N nor Q x N x T exist: ``memory`` bytes bound the blocks, beside the inputs and their copies in double
    precision. Frames are read chunk by chunk, again for every block of queries unless all of them fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from videomatch.retrieval.similarity import MEMORY, Found, normalise
from videomatch.retrieval.similarity import _empty_top as empty_top  # pyright: ignore[reportPrivateUsage]
from videomatch.retrieval.similarity import _fill_top as fill_top  # pyright: ignore[reportPrivateUsage]

#: methods of which a query's result depends on the other queries of the test
TRANSDUCTIVE = ("dual_softmax",)
#: bits behind the size of the longest row
BITS = 26
#: queries of a block: more do not make the products faster
ROWS = 1024
#: exp of a larger number than this is dangerously near the end of double precision
LARGEST = 600.0


@dataclass(frozen=True)
class Asked:
    """What a search is asked for, as of :func:`videomatch.retrieval.similarity.search`.

    Attributes:
        pairs: ``(P, 2)`` positions (query, reference).
        top: how many references to return for every query.
        exclude: ``(Q,)`` the reference that a query must not meet, or -1.
        memory: bytes for the blocks.
    """

    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    top: int = 0
    exclude: np.ndarray | None = None
    memory: int = MEMORY


@dataclass(frozen=True)
class Frames:
    """The frames of some videos, read when they are needed.

    Attributes:
        lengths: ``(videos,)`` at least 1 each.
        read: (first, last) -> rows ``(sum of lengths[first:last], D)``.
    """

    lengths: np.ndarray
    read: Callable[[int, int], np.ndarray]


#: a block of scores (last - first, N) of queries
Scores = Callable[[int, int], np.ndarray]


def frame_max(
    queries: np.ndarray, references: np.ndarray, texts: np.ndarray, frames: Frames, asked: Asked, *, weight: float = 0.5
) -> Found:
    """The score, and the best frame's cosine with the text times ``weight``.

    Args:
        queries, references: ``(Q, D)`` and ``(N, D)``.
        texts: ``(Q or N, F)`` vectors of the texts' side in the frames' space.
        frames: of the videos of the other side: of the references if there are as many as these, and the texts as
            many as the queries; otherwise of the queries.
        asked: pairs, top and the rest.
        weight: of the best frame.
    """
    left, right = _fixed(queries), _fixed(references)
    best = _frame_scores(len(queries), len(references), texts, frames, asked.memory, None)
    return _found(lambda a, b: (left[a:b] @ right.T).numpy() + weight * best(a, b), len(left), len(right), asked)


def frame_softmax(
    queries: np.ndarray,
    references: np.ndarray,
    texts: np.ndarray,
    frames: Frames,
    asked: Asked,
    *,
    temperature: float = 0.1,
) -> Found:
    """The cosine of the text with the video's frames, weighed by what the text finds in each; other embeddings than the
    texts' and frames' do not matter.

    Args:
        queries, references: only counted.
        texts, frames, asked: as of :func:`frame_max`.
        temperature: of the softmax over a video's frames.
    """
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}, expected more than 0")
    pooled = _frame_scores(len(queries), len(references), texts, frames, asked.memory, temperature)
    return _found(pooled, len(queries), len(references), asked)


def qb_norm(
    queries: np.ndarray, references: np.ndarray, bank: np.ndarray, asked: Asked, *, beta: float = 20.0
) -> Found:
    """Less for references that many other queries find, for queries whose best reference is the best of one of those.

    The published score exp(beta s) / sum over the bank of exp(beta s_b) is written on the scale of s here, as
    s - log(mean over the bank of exp(beta s_b)) / beta. The order of a query's references is the same, and scores of
    queries that are not normalised lie on the same scale.

    Args:
        queries, references: ``(Q, D)`` and ``(N, D)``.
        bank: ``(B, D)`` other queries: of the training split.
        asked: pairs, top and the rest.
        beta: inverse temperature.

    Raises:
        ValueError: the bank is empty, or beta too large for the scores.
    """
    if not len(bank):
        raise ValueError("the bank holds no query")
    left, right, others = _fixed(queries), _fixed(references), _fixed(bank)
    ceiling = _ceiling(others, right, beta)
    is_best, total = np.zeros(len(right), bool), np.zeros(len(right))
    for first, last in _steps(len(others), len(right), asked.memory):
        block = (others[first:last] @ right.T).numpy()
        is_best[block.argmax(axis=1)] = True
        _add_rows(total, np.exp(beta * (block - ceiling)))
    less = np.log(total / len(others)) / beta + ceiling

    def scores(first: int, last: int) -> np.ndarray:
        block = _without((left[first:last] @ right.T).numpy(), asked, first)
        block[is_best[block.argmax(axis=1)]] -= less
        return block

    return _found(scores, len(left), len(right), asked)


def dual_softmax(queries: np.ndarray, references: np.ndarray, asked: Asked, *, beta: float = 100.0) -> Found:
    """s times the softmax of beta s over all queries. Transductive; of negative scores the product turns the order
    around, as published.

    Args:
        queries, references: ``(Q, D)`` and ``(N, D)``.
        asked: pairs, top and the rest.
        beta: inverse temperature: published scores are cosines times 100.

    Raises:
        ValueError: beta is too large for the scores.
    """
    left, right = _fixed(queries), _fixed(references)
    ceiling = _ceiling(left, right, beta)
    total = np.zeros(len(right))

    def block(first: int, last: int) -> np.ndarray:
        return _without((left[first:last] @ right.T).numpy(), asked, first)

    for first, last in _steps(len(left), len(right), asked.memory):
        _add_rows(total, np.exp(beta * (block(first, last) - ceiling)))

    def scores(first: int, last: int) -> np.ndarray:
        plain = block(first, last)
        share = np.exp(beta * (plain - ceiling)) / total
        return np.multiply(plain, share, out=plain, where=share > 0)  # what is excluded stays -inf

    return _found(scores, len(left), len(right), asked)


# --------------------------------------------------------------------------------------------------------- pieces


def _fixed(rows: np.ndarray) -> torch.Tensor:
    """Rows in double precision, rounded so that inner products of two such rows are exact."""
    wide = np.asarray(rows, np.float64)
    longest = float(np.sqrt(np.einsum("nd,nd->n", wide, wide).max(initial=0.0)))
    if not np.isfinite(longest):
        raise ValueError("a row holds a value that is not finite")
    unit = 2.0 ** (BITS - np.ceil(np.log2(longest) - 0.1)) if longest else 1.0
    return torch.from_numpy(np.rint(wide * unit) / unit)


def _ceiling(left: torch.Tensor, right: torch.Tensor, beta: float) -> float:
    """What no score exceeds."""
    ceiling = float(left.norm(dim=1).max() * right.norm(dim=1).max()) if len(left) and len(right) else 0.0
    if beta <= 0 or 2 * beta * ceiling > LARGEST:
        raise ValueError(
            f"beta {beta} with scores up to {ceiling:.3g}, expected above 0 and at most {LARGEST / 2:g} by it"
        )
    return ceiling


def _add_rows(total: np.ndarray, block: np.ndarray) -> None:
    """Add rows one after the other: the sum does not depend on how they come in blocks."""
    for row in block:
        total += row


def _without(block: np.ndarray, asked: Asked, first: int) -> np.ndarray:
    """-inf where a query must not look."""
    if asked.exclude is not None:
        away = asked.exclude[first : first + len(block)]
        rows = np.flatnonzero(away >= 0)
        block[rows, away[rows]] = -np.inf
    return block


def _steps(queries: int, references: int, memory: int) -> Iterator[tuple[int, int]]:
    step = int(np.clip(memory // (32 * max(1, references)), 1, ROWS))
    for first in range(0, queries, step):
        yield first, min(queries, first + step)


def _found(scores: Scores, queries: int, references: int, asked: Asked) -> Found:
    """What :func:`videomatch.retrieval.similarity.search` finds, of scores that come in blocks."""
    pairs = np.asarray(asked.pairs, np.int64).reshape(-1, 2)
    if len(pairs) and (pairs.min() < 0 or (pairs >= [queries, references]).any()):
        raise ValueError(f"a pair lies outside the {queries} queries and {references} references")
    order = np.argsort(pairs[:, 0], kind="stable")
    own = np.zeros(len(pairs))
    better, equal = np.zeros(len(pairs), np.int64), np.zeros(len(pairs), np.int64)
    tops = empty_top(queries, asked.top)
    for first, last in _steps(queries, references, asked.memory) if references else ():
        block = _without(scores(first, last), asked, first)
        if asked.top:
            kept = min(asked.top, references)
            floor = np.partition(block, references - kept, axis=1)[:, references - kept]
            rows, columns = np.nonzero((block >= floor[:, None]) & (block > -np.inf))
            fill_top(tops, rows + first, columns, block[rows, columns], asked.top)
        for at in order[slice(*np.searchsorted(pairs[order, 0], [first, last]))].tolist():
            row = block[pairs[at, 0] - first]
            own[at] = row[pairs[at, 1]]
            better[at], equal[at] = np.count_nonzero(row > own[at]), np.count_nonzero(row == own[at]) - 1
    if not np.isfinite(own).all():
        raise ValueError("a pair is excluded from its own query's references")
    return Found(*tops, own, better, equal)


def _frame_scores(
    queries: int, references: int, texts: np.ndarray, frames: Frames, memory: int, temperature: float | None
) -> Scores:
    """Blocks of what texts and frames say: the best frame's cosine, or that of frames weighed by the softmax."""
    videos = len(frames.lengths)
    if (len(texts), videos) not in ((queries, references), (references, queries)):
        raise ValueError(
            f"{len(texts)} texts and frames of {videos} videos, for {queries} queries, {references} references"
        )
    if videos and frames.lengths.min() < 1:
        raise ValueError(f"video {int(frames.lengths.argmin())} has no frame, expected at least one each")
    said = _fixed(normalise(texts))
    chunk = max(1, memory // (32 * (ROWS + texts.shape[1])))
    ends = np.cumsum(frames.lengths)
    held: dict[tuple[int, int], torch.Tensor] = {}

    def read(first: int, last: int) -> torch.Tensor:
        if (first, last) in held:
            return held[first, last]
        rows = _fixed(normalise(frames.read(first, last)))
        if ends[-1] * texts.shape[1] * 8 <= memory:
            held[first, last] = rows
        return rows

    def runs(first: int, last: int) -> Iterator[tuple[int, int]]:
        while first < last:
            stop = int(np.searchsorted(ends, ends[first] - frames.lengths[first] + chunk, side="right"))
            stop = min(last, max(stop, first + 1))
            yield first, stop
            first = stop

    def of_queries(first: int, last: int) -> np.ndarray:
        parts = [_pooled(said[first:last], read(a, b), frames.lengths[a:b], temperature) for a, b in runs(0, videos)]
        return np.concatenate(parts, axis=1)

    def of_references(first: int, last: int) -> np.ndarray:
        parts = []
        for a, b in runs(first, last):
            rows, lengths = read(a, b), frames.lengths[a:b]
            pooled = [_pooled(said[n : n + ROWS], rows, lengths, temperature).T for n in range(0, len(said), ROWS)]
            parts.append(np.concatenate(pooled, axis=1))
        return np.concatenate(parts)

    return of_queries if (len(texts), videos) == (queries, references) else of_references


def _pooled(texts: torch.Tensor, frames: torch.Tensor, lengths: np.ndarray, temperature: float | None) -> np.ndarray:
    """One score of every text (n, D) with every video (n, videos), of cosines with its frames (sum of lengths, D)."""
    each = (texts @ frames.T).numpy()
    starts = np.cumsum(lengths) - lengths
    most = np.maximum.reduceat(each, starts, axis=1)
    if temperature is None:
        return most
    weight = np.exp((each - np.repeat(most, lengths, axis=1)) / temperature)
    along = np.add.reduceat(weight * each, starts, axis=1)
    squares = np.empty_like(along)
    for number, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        mine, rows = weight[:, start : start + length], frames[start : start + length]
        squares[:, number] = np.einsum("nt,nt->n", mine @ (rows @ rows.T).numpy(), mine)
    size = np.sqrt(np.maximum(squares, 0.0))  # of the weighed sum, which may be nothing: its cosine is 0
    return np.divide(along, size, out=np.zeros_like(along), where=size > 1e-12)
