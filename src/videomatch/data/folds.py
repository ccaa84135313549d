"""Which labelled pairs train and which validate.

Two protocols, as functions of the pairs' ids:

- :func:`by_remainder`, the AIAC 2021 winners': a pair validates if both ids leave remainder f when divided by k (they
  use f = 0, k = 5), every other pair trains. It leaks: nearly half of the validation videos also stand in training.
- :func:`assign` and :func:`disjoint`: videos (not pairs) are dealt to k folds; a pair validates in fold f if both its
  videos are in f and trains if neither is. No video stands on both sides; the price is the pairs in between.

Videos that are linked by pairs form components. Small ones go to a fold whole, at no loss. A component too large for
that is cut into k parts of equal weight along few pairs: clusters grown by label propagation under a size limit are
contracted until few are left, these are dealt out next to their neighbours, and on the way back single vertices move
where most of their pairs are (the multilevel scheme of Meyerhenke, Sanders and Schulz, 2014, "Partitioning complex
networks via size-constrained clustering").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

#: a component is cut if it holds more than this share of the pairs that a fold should get
_LARGE = 0.25
#: how much heavier than its share a part of a cut component may be
_SLACK = 0.03
_TRIES = 4
#: an id whose remainder is known: digits, or letters and then digits
_NUMBERED = re.compile(r"[A-Za-z]*([0-9]+)")
_ROUNDS = 12


@dataclass(frozen=True)
class Fold:
    """Masks over the pairs: (pairs,) bool each; a pair in neither is dropped."""

    train: np.ndarray
    val: np.ndarray


def by_remainder(query_ids: Sequence[str], reference_ids: Sequence[str], *, fold: int = 0, folds: int = 5) -> Fold:
    """The winners' split: both ids divisible by 5 (in general: remainder ``fold`` by ``folds``), and the rest.

    Args:
        query_ids: decimal ids, up to 19 digits, also after letters (``w0000012`` counts as 12); computed with Python's
            integers.
        reference_ids: of the same length.

    Raises:
        ValueError: an id is no decimal number (a float least of all), the lengths differ or there is no such fold.
    """
    _check(query_ids, reference_ids, fold, folds)
    left, right = (
        np.array([_number(i) % folds == fold for i in ids], dtype=bool) for ids in (query_ids, reference_ids)
    )
    return Fold(train=~(left & right), val=left & right)


def assign(query_ids: Sequence[str], reference_ids: Sequence[str], *, folds: int = 5, seed: int = 0) -> dict[str, int]:
    """A fold for every video: balanced in pairs, few pairs between folds, the same for the same pairs in any order.

    Args:
        query_ids: one side of the pairs.
        reference_ids: the other side.
        folds: k, at least 2.
        seed: of the tie breaking; different seeds give different partitions.
    """
    _check(query_ids, reference_ids, 0, folds)
    names, codes = np.unique(np.array([*query_ids, *reference_ids], dtype=object).astype(str), return_inverse=True)
    graph = _graph(codes[: len(query_ids)], codes[len(query_ids) :], len(names))
    count, component = connected_components(graph, directed=False)
    degree = np.asarray(graph.sum(axis=1)).ravel() + 0.01  # a video without a pair to another still weighs something
    weight = np.bincount(component, weights=degree, minlength=count)
    rng = np.random.default_rng([seed, 0xF01D5])
    share = degree.sum() / folds
    result = np.zeros(len(names), dtype=np.int64)
    load = np.zeros(folds)
    order = rng.permutation(count)
    members = np.split(np.argsort(component, kind="stable"), np.cumsum(np.bincount(component, minlength=count))[:-1])
    for index in order[np.argsort(-weight[order], kind="stable")]:
        nodes = members[index]
        if weight[index] > _LARGE * share and len(nodes) > folds:
            parts = _cut(csr_array(graph[nodes][:, nodes]), degree[nodes], folds, rng)
            sizes = np.bincount(parts, weights=degree[nodes], minlength=folds)
            # the heaviest part goes to the lightest fold
            place = np.empty(folds, dtype=np.int64)
            place[np.argsort(-sizes, kind="stable")] = np.argsort(load, kind="stable")
            result[nodes] = place[parts]
            np.add.at(load, place, sizes)
        else:
            lightest = int(np.argmin(load))
            result[nodes] = lightest
            load[lightest] += weight[index]
    return dict(zip(names.tolist(), result.tolist(), strict=True))


def disjoint(query_ids: Sequence[str], reference_ids: Sequence[str], assigned: dict[str, int], *, fold: int) -> Fold:
    """Validation: pairs inside ``fold``; training: pairs outside; pairs between are dropped.

    Args:
        assigned: video id -> fold, of :func:`assign`.

    Raises:
        KeyError: a video has no fold.
    """
    left, right = (np.array([assigned[i] == fold for i in ids], dtype=bool) for ids in (query_ids, reference_ids))
    return Fold(train=~left & ~right, val=left & right)


def report(query_ids: Sequence[str], reference_ids: Sequence[str], *, folds: int = 5, seed: int = 0) -> pl.DataFrame:
    """What both protocols keep, a row for each protocol and fold.

    Returns:
        protocol ("remainder" or "disjoint"), fold, and numbers of train pairs, val pairs, dropped pairs, val videos, of
        these the shared ones that also stand in a training pair, and clean val pairs (neither video in training).
    """
    assigned = assign(query_ids, reference_ids, folds=folds, seed=seed)
    queries, references = np.array(query_ids, dtype=object), np.array(reference_ids, dtype=object)
    rows = []
    for fold in range(folds):
        for protocol, split in (
            ("remainder", by_remainder(query_ids, reference_ids, fold=fold, folds=folds)),
            ("disjoint", disjoint(query_ids, reference_ids, assigned, fold=fold)),
        ):
            trained = {*queries[split.train], *references[split.train]}
            val = {*queries[split.val], *references[split.val]}
            pairs = zip(queries[split.val], references[split.val], strict=True)
            rows.append(
                {
                    "protocol": protocol,
                    "fold": fold,
                    "train_pairs": int(split.train.sum()),
                    "val_pairs": int(split.val.sum()),
                    "dropped_pairs": int((~split.train & ~split.val).sum()),
                    "val_videos": len(val),
                    "shared_videos": len(val & trained),
                    "clean_val_pairs": sum(a not in trained and b not in trained for a, b in pairs),
                }
            )
    return pl.DataFrame(rows).sort("protocol", "fold", descending=[True, False])


def _check(query_ids: Sequence[str], reference_ids: Sequence[str], fold: int, folds: int) -> None:
    if len(query_ids) != len(reference_ids):
        raise ValueError(f"{len(query_ids)} query ids and {len(reference_ids)} reference ids, expected pairs")
    if folds < 2 or not 0 <= fold < folds:
        raise ValueError(f"fold {fold} of {folds}, expected 0 to k - 1 with k of at least 2")


def _number(video_id: str) -> int:
    found = _NUMBERED.fullmatch(video_id) if isinstance(video_id, str) else None
    if not found:
        raise ValueError(f"id {video_id!r}, expected a string of digits (a float has lost the last ones)")
    return int(found[1])


def _graph(left: np.ndarray, right: np.ndarray, size: int) -> csr_array:
    """Symmetric adjacency whose values count the pairs; pairs of a video with itself are left out."""
    real = left != right
    rows, columns = np.concatenate([left[real], right[real]]), np.concatenate([right[real], left[real]])
    graph = csr_array(coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size)))
    graph.sum_duplicates()
    return graph


def _cut(graph: csr_array, weight: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Part of every vertex, (n,) in 0 … parts - 1: the best of a few tries, by weight of the edges between parts."""
    best, lost = np.zeros(len(weight), dtype=np.int64), np.inf
    edges = graph.tocoo()
    for _ in range(_TRIES):
        labels = _multilevel(graph, weight, parts, rng)
        between = float(edges.data[labels[edges.row] != labels[edges.col]].sum())
        if between < lost:
            best, lost = labels, between
    return best


def _multilevel(graph: csr_array, weight: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    capacity = weight.sum() / parts * (1 + _SLACK)
    size = len(weight)
    if size > 40 * parts:
        limit = max(weight.sum() / (20 * parts), float(weight.max()))
        clusters = _propagate(graph, weight, np.arange(size), limit, 5, rng)
        clusters = np.unique(clusters, return_inverse=True)[1]
        count = int(clusters.max()) + 1
        if count < 0.9 * size:
            member = csr_array((np.ones(size), (np.arange(size), clusters)), shape=(size, count))
            coarse = csr_array(member.T @ graph @ member)
            coarse.setdiag(0)
            coarse.eliminate_zeros()
            labels = _multilevel(coarse, np.bincount(clusters, weights=weight), parts, rng)[clusters]
            return _propagate(graph, weight, labels, capacity, _ROUNDS, rng)
    return _propagate(graph, weight, _deal(graph, weight, parts, rng), capacity, _ROUNDS, rng)


def _deal(graph: csr_array, weight: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Heaviest first, to the part with most neighbours, discounted by how full it is (linear deterministic greedy)."""
    labels = np.full(len(weight), -1)
    load, room = np.zeros(parts), weight.sum() / parts
    order = rng.permutation(len(weight))
    for vertex in order[np.argsort(-weight[order], kind="stable")]:
        near = graph.indices[graph.indptr[vertex] : graph.indptr[vertex + 1]]
        pull = graph.data[graph.indptr[vertex] : graph.indptr[vertex + 1]]
        placed = labels[near] >= 0
        pulled = np.bincount(labels[near][placed], weights=pull[placed], minlength=parts)
        score = (pulled + 1e-6) * (1 - load / room)
        free = load + weight[vertex] <= room * (1 + _SLACK)
        choice = int(np.argmax(np.where(free, score, -np.inf))) if free.any() else int(np.argmin(load))
        labels[vertex] = choice
        load[choice] += weight[vertex]
    return labels


def _propagate(
    graph: csr_array, weight: np.ndarray, start: np.ndarray, capacity: float, rounds: int, rng: np.random.Generator
) -> np.ndarray:
    """Move vertices to the label most of their edges lead to, as long as no label grows beyond ``capacity``."""
    labels: list[int] = start.tolist()
    load: list[float] = np.bincount(start, weights=weight, minlength=int(start.max()) + 1).tolist()
    pointers, near = list(map(int, graph.indptr)), list(map(int, graph.indices))
    pull: list[float] = graph.data.tolist()
    heavy: list[float] = weight.tolist()
    for _ in range(rounds):
        moved = 0
        for vertex in rng.permutation(len(labels)).tolist():
            pulled: dict[int, float] = {}
            for edge in range(pointers[vertex], pointers[vertex + 1]):
                label = labels[near[edge]]
                pulled[label] = pulled.get(label, 0.0) + pull[edge]
            here = best = labels[vertex]
            most = pulled.get(here, 0.0)
            for label, total in pulled.items():
                if total > most and load[label] + heavy[vertex] <= capacity:
                    best, most = label, total
            if best != here:
                labels[vertex] = best
                load[here] -= heavy[vertex]
                load[best] += heavy[vertex]
                moved += 1
        if not moved:
            break
    return np.array(labels, dtype=np.int64)
