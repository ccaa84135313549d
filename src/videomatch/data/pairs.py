"""Judged pairs of videos: those of a protocol, and which of them train and which validate in a fold.

A protocol is a split with ids in the roles query and reference; its pairs are the rows of ``relevance`` with both sides
among them. The partition follows from the tables alone. There are two:

- ``remainder``, the AIAC 2021 winners': a pair validates if both ids leave remainder f when divided by k (they use
  f = 0, k = 5), every other pair trains. It leaks: nearly half of the validation videos are also in training.
- ``disjoint``: videos (not pairs) are assigned to k folds; a pair validates in fold f if both its videos are in f and
  trains if neither is. No video is on both sides; pairs between two folds are dropped.

Videos that are linked by pairs form components. A component goes to a fold whole, at no loss. One that is too large for
that is divided into communities (Louvain, Blondel et al. 2008, arXiv:0803.0476), which are placed where most of their
links are, in two passes ("restreaming", Nishimura and Ugander, KDD 2013). Of the 67,899 labelled pairs of AIAC 2021, of
which 63 % hang together in one component, 62,272 validate in one of five folds: 12,275 to 12,646 in each.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from videomatch.data import tables
from videomatch.data.corpus import split_ids

#: a component is divided if it holds more than this share of the pairs that a fold should get; a community may hold it
_LARGE = 0.25
_RESOLUTIONS = (1, 4, 16, 64)
#: how much heavier than its share a fold may become for the sake of links
_SLACK = 0.015
#: weight of a video without a pair to another
_ALONE = 0.01
#: an id whose remainder is known: digits, or letters and then digits
_NUMBERED = re.compile(r"[A-Za-z]*([0-9]+)")


def judged_pairs(corpus: Path, split: str | Sequence[str]) -> pl.DataFrame:
    """The judged pairs of a protocol, or of several pooled: rows of ``relevance`` in their order, protocol after
    protocol, none twice (lines that judge a pair again are rows of their own), at least one; pairs of a video with
    itself are left out."""
    names = [split] if isinstance(split, str) else list(split)
    splits = tables.read("splits", corpus)
    relevance = tables.read("relevance", corpus).with_row_index("row")
    relevance = relevance.filter(pl.col("query_id") != pl.col("reference_id"))
    found = []
    for name in names:
        sides = {f"{role}_id": split_ids(splits, name, role) for role in ("query", "reference")}
        found.append(relevance.filter([pl.col(column).is_in(ids) for column, ids in sides.items()]))
    pooled = pl.concat(found).unique("row", maintain_order=True).drop("row")
    if pooled.is_empty():
        raise ValueError(f"split {split!r} has no judged pair")
    return pooled


def paired_ids(pairs: pl.DataFrame) -> list[str]:
    """The videos of pairs, each once, in order."""
    return pl.concat([pairs["query_id"], pairs["reference_id"]]).unique().sort().to_list()


def fold_pairs(
    corpus: Path, split: str | Sequence[str], *, fold: int, folds: int, protocol: str = "disjoint"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs that train and those that validate in a fold (from 0) over a protocol, or several pooled, in the form
    and order of :func:`judged_pairs`. ``protocol`` is ``disjoint`` or ``remainder``."""
    if folds < 2 or not 0 <= fold < folds:
        raise ValueError(f"fold {fold} of {folds}, expected 0 to k - 1 with k of at least 2")
    pairs = judged_pairs(corpus, split)
    sides = pairs["query_id"].to_list(), pairs["reference_id"].to_list()
    if protocol == "remainder":
        fold_of = {video_id: _number(video_id) % folds for ids in sides for video_id in ids}
    else:
        fold_of = assign(*sides, folds=folds)
    left, right = (np.array([fold_of[i] == fold for i in ids]) for ids in sides)
    train = ~(left & right) if protocol == "remainder" else ~left & ~right
    return pairs.filter(train), pairs.filter(left & right)


def assign(query_ids: Sequence[str], reference_ids: Sequence[str], *, folds: int = 5) -> dict[str, int]:
    """A fold for every video: balanced in pairs, few pairs between folds, the same for the same pairs in any order."""
    names, codes = np.unique(np.array([*query_ids, *reference_ids], dtype=object).astype(str), return_inverse=True)
    sides = codes.reshape(2, -1)
    sides = sides[:, sides[0] != sides[1]]  # pairs of a video with itself are left out
    places = np.concatenate([sides, sides[::-1]], axis=1)
    graph = csr_array(coo_array((np.ones(places.shape[1]), tuple(places)), shape=(len(names),) * 2))
    graph.sum_duplicates()  # its values count the pairs
    degree = np.asarray(graph.sum(axis=1)).ravel() + _ALONE
    share = degree.sum() / folds
    group = connected_components(graph, directed=False)[1]
    for large in np.flatnonzero(np.bincount(group, weights=degree) > _LARGE * share):
        nodes = np.flatnonzero(group == large)
        parts = _communities(csr_array(graph[nodes][:, nodes]), degree[nodes], _LARGE * share)
        group[nodes] = np.where(parts > 0, group.max() + parts, large)
    fold_of_group = _place(graph, group, degree, folds, np.random.default_rng([0, 0xF01D5]))
    return dict(zip(names.tolist(), fold_of_group[group].tolist(), strict=True))


def _number(video_id: str) -> int:
    """The number of an id, also after letters (``w0000012`` counts as 12)."""
    found = _NUMBERED.fullmatch(video_id)
    if not found:
        raise ValueError(f"id {video_id!r}, expected a string of digits (a float has lost the last ones)")
    return int(found[1])


def _communities(graph: csr_array, weight: np.ndarray, limit: float) -> np.ndarray:
    """Community of every vertex, (n,) from 0. The resolution rises until no community is heavier than ``limit``."""
    import networkx  # takes a second to import

    whole = networkx.from_scipy_sparse_array(graph)
    parts = np.zeros(len(weight), dtype=np.int64)
    for resolution in _RESOLUTIONS:
        found = networkx.community.louvain_communities(whole, resolution=resolution, seed=0)
        for number, members in enumerate(sorted(found, key=min)):
            parts[list(members)] = number
        if np.bincount(parts, weights=weight).max() <= limit:
            break
    return parts


def _place(graph: csr_array, group: np.ndarray, degree: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of every group: heaviest first, to the fold with most of its links that has room, else to the lightest.
    A fold weighs all pairs of its videos in the first pass, and the pairs that it keeps in the second."""
    weight = np.bincount(group, weights=degree) / 2
    member = csr_array((np.ones(len(group)), (np.arange(len(group)), group)), shape=(len(group), len(weight)))
    links = csr_array(member.T @ graph @ member)
    inside = links.diagonal() / 2 + _ALONE * np.bincount(group)
    links.setdiag(0)
    links.eliminate_zeros()
    order = rng.permutation(len(weight))
    order = order[np.argsort(-weight[order], kind="stable")]
    result = np.full(len(weight), -1)
    load, full = np.zeros(folds), weight.sum() / folds
    for is_first in (True, False):
        for number in order:
            some = slice(links.indptr[number], links.indptr[number + 1])
            near, count = result[links.indices[some]], links.data[some]
            linked = np.bincount(near[near >= 0], weights=count[near >= 0], minlength=folds)
            gain = np.full(folds, weight[number]) if is_first else inside[number] + linked
            if not is_first:
                load[result[number]] -= gain[result[number]]
            room = load + gain <= full * (1 + _SLACK)
            fold = int(np.where(room, linked, -1).argmax() if linked.any() and room.any() else load.argmin())
            result[number] = fold
            load[fold] += gain[fold]
        rows, columns = links.nonzero()
        kept = np.where(result[rows] == result[columns], links.data, 0) / 2
        load = np.bincount(result, weights=inside, minlength=folds)
        load += np.bincount(result[rows], weights=kept, minlength=folds)
        full = load.sum() / folds
    return result
