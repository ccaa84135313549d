"""Temporal network: the longest path through the frames' nearest neighbours that moves forward in both videos.

Tan, Ngo, Hong and Chua, Scalable detection of partial near-duplicate videos by visual-temporal consistency, ACM MM
2009, as in VCSL. Nodes are the ``top_k`` reference frames of every query frame. An edge leads from (q, r) to (q', r')
if 1 <= q' - q < ``max_step``, 0 < r' - r < ``max_step``, the similarity of (q', r') is at least ``min_similarity``, and
no frame strictly between r and r' was linked from query frame q before; its weight is that similarity. Up to
``max_paths`` + 1 times the heaviest path is taken and its edges weigh nothing from then on. Its bounding box is kept if
the sum of its similarities over the mean of its side lengths exceeds ``min_similarity``, both sides exceed
``min_length``, and its IoU with kept boxes is below ``max_iou``.

As published the last neighbour of the last query frame is taken for the sink of the network and left out of every
path, and a path may begin at a frame of any similarity. Ties of whole paths go to the earlier query frame (the
published code's topological order). TransVCL's parameters are VCSL's but for ``top_k`` 10, ``min_similarity`` 0.2.
# Deviation: by default both frames of an edge have ``min_similarity``.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from videomatch.aligners import Map, Segments
from videomatch.localisation.map_paths import Found, checked, iou, segments

GRIDS: dict[str, dict[str, list[Any]]] = {
    "published": {"max_step": [5, 10, 15], "top_k": [5, 10, 15], "min_similarity": [0.2, 0.3], "published": [True]},
    "ours": {"top_k": [5], "min_similarity": [0.3, 0.4, 0.5, 0.6, 0.7, 0.8], "min_length": [5, 10, 15]},
}


def align(
    similarity: Map,
    *,
    max_step: int = 10,
    top_k: int = 3,
    min_similarity: float = 0.5,
    min_length: int = 5,
    max_iou: float = 0.3,
    max_paths: int = 10,
    published: bool = False,
) -> Segments:
    """Segments ``(N, 5)`` in frames, with options as above; ``published``: the last node is left out."""
    values = checked(similarity)
    if not values.size:
        return segments([], published=published)
    network = _Network(values, top_k, max_step, min_similarity, -np.inf if published else min_similarity)
    found: list[Found] = []
    changed = 0
    for _ in range(max_paths + 1):
        network.weigh(changed)
        path = network.heaviest()
        if not path:
            break
        changed = network.empty(path)
        if published and path[-1] == network.count - 1:
            path.pop()
        total = sum(network.similarity[n] for n in path)
        q_low, q_high = path[0] // network.top, path[-1] // network.top
        r_low, r_high = network.reference[path[0]], network.reference[path[-1]]
        length = (q_high - q_low + r_high - r_low) / 2
        if total <= 0 or min(q_high - q_low, r_high - r_low) <= min_length or total / length <= min_similarity:
            continue
        box = q_low, q_high + 1, r_low, r_high + 1
        if not found or iou(np.array([box]), np.array(found)[:, :4]).max() < max_iou:
            found.append((*box, total / len(path)))
    return segments(found, published=published)


class _Network:
    """Nodes ``0 … count - 1`` in the order of query frame (``top`` each), then similarity; sources and weights of the
    edges into each; weight (``total``) of the heaviest path to each, and the node ``before`` it on that path (itself if
    it is the first)."""

    def __init__(self, values: np.ndarray, top_k: int, max_step: int, min_similarity: float, min_source: float) -> None:
        self.top = min(top_k, values.shape[1])
        nearest = top_columns(values, self.top)
        similarity = np.take_along_axis(values, nearest, axis=1)
        self.similarity: list[float] = similarity.ravel().tolist()
        self.reference: list[int] = nearest.ravel().tolist()
        self.count = len(self.reference)
        self.sources: list[list[int]] = [[] for _ in range(self.count)]
        self.weights: list[list[float]] = [[] for _ in range(self.count)]
        source, target = edges(nearest, similarity, max_step, min_similarity, min_source)
        for s, t in zip(source.tolist(), target.tolist(), strict=True):
            self.sources[t].append(s)
            self.weights[t].append(self.similarity[t])
        self.total, self.before = [0.0] * self.count, list(range(self.count))

    def weigh(self, first: int) -> None:
        """Update ``total`` and ``before`` after edges into ``first`` and later nodes changed."""
        for node in range(first, self.count):
            sources = self.sources[node]
            if not sources:
                continue
            best, by = -1.0, node
            for source, weight in zip(sources, self.weights[node], strict=True):
                reached = self.total[source] + weight
                if reached > best:
                    best, by = reached, source
            if best < 0:  # a path that begins here is better than one with a negative weight
                best, by = 0.0, node
            self.total[node], self.before[node] = best, by

    def heaviest(self) -> list[int]:
        """Nodes of the heaviest path, of equal ones the first to end; empty if all weights are 0."""
        end = int(np.argmax(self.total))
        if self.total[end] <= 0:
            return []
        path = [end]
        while self.before[path[-1]] != path[-1]:
            path.append(self.before[path[-1]])
        return path[::-1]

    def empty(self, path: list[int]) -> int:
        """Set the weights of the path's edges to 0; returns the first node whose edges changed."""
        for source, target in itertools.pairwise(path):
            self.weights[target][self.sources[target].index(source)] = 0.0
        return path[1]


def top_columns(values: np.ndarray, top: int) -> np.ndarray:
    """Columns of the ``top`` largest values of every row, largest first; of equal ones, the first column."""
    # a stable sort of whole rows instead makes the aligner two to three times as slow
    some = np.sort(np.argpartition(-values, top - 1, axis=1)[:, :top], axis=1)
    # a partition picks any of the values that tie with the last: rows with such ties are sorted whole
    last = np.take_along_axis(values, some, axis=1).min(axis=1, keepdims=True)
    tied = np.flatnonzero((values >= last).sum(axis=1) > top)
    some[tied] = np.sort(np.argsort(-values[tied], axis=1, kind="stable")[:, :top], axis=1)
    order = np.argsort(-np.take_along_axis(values, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def edges(
    nearest: np.ndarray, similarity: np.ndarray, max_step: int, min_similarity: float, min_source: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sources and targets of all edges, ordered by source; similarities of either are at least those given.

    "No linked frame strictly between" needs only the nearest linked frame beyond each source (``beyond``), so every
    step in query time is an array operation over all query frames.
    """
    rows, top = nearest.shape
    beyond = np.full((rows, top), np.iinfo(np.int64).max)
    found = []
    for step in range(1, min(max_step, rows)):
        here, there = nearest[:-step, None, :], nearest[step:, :, None]  # (rows - step, targets, sources)
        ahead = there - here
        linked = (ahead > 0) & (ahead < max_step) & (similarity[step:, :, None] >= min_similarity)
        linked &= similarity[:-step, None, :] >= min_source
        linked &= there <= beyond[:-step, None, :]
        q, target, source = np.nonzero(linked)
        found.append(np.stack([q * top + source, (q + step) * top + target], axis=1))
        # a frame linked from any node of q counts for all nodes of q
        reached = np.where(linked.any(axis=2), nearest[step:], -1)[:, :, None]
        later = np.where(reached > here, reached, np.iinfo(np.int64).max).min(axis=1)
        beyond[:-step] = np.minimum(beyond[:-step], later)
    pairs = np.concatenate([*found, np.zeros((0, 2), np.int64)])
    source, target = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].T
    return source, target
