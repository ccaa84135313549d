"""The pairs that are aligned, and the similarity maps of their frames: what ``tune`` and ``align`` read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.data.pairs import judged_pairs
from videomatch.data.store import Store
from videomatch.localisation import frame_similarity, intervals
from videomatch.retrieval.score_normalisation import ScoreNormalisation

log = logging.getLogger(__name__)

#: how frames are held against each other
SIMILARITIES = ("cosine", "inner", "chamfer")


@dataclass(frozen=True)
class Pair:
    """Two videos and their true segments (M, 4), s; none if the second is no source of the first."""

    query: str
    reference: str
    truth: np.ndarray


@dataclass
class Frames:
    """Features of frames, from which it makes maps; pickled as its arguments.

    Attributes:
        roots: stores with times, which are one. similarity: ``cosine``; ``inner`` (rows as they are: after score
        normalisation); or ``chamfer`` (rows of regions,
            clipped as VCSL does).
        bias: what is added to every similarity. normalisation: of scores, by frames of other videos.
        every: s between frames, to which key frames are spread out; null leaves frames where they are.
        query_roots: stores that queries come from instead: all their frames, against the key frames of references.
    """

    roots: tuple[Path, ...]
    similarity: str = "cosine"
    bias: float = 0.0
    normalisation: ScoreNormalisation | None = None
    every: float | None = None
    query_roots: tuple[Path, ...] | None = None
    _queries: Store | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)
    _last: tuple[str, np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.similarity not in SIMILARITIES:
            raise ValueError(f"no similarity {self.similarity!r}; there are {', '.join(SIMILARITIES)}")
        if self.normalisation is not None and self.similarity == "chamfer":
            raise ValueError("scores are normalised of rows that are vectors, not of similarity 'chamfer'")
        if self.every is not None and (self.every <= 0 or self.similarity != "cosine"):
            raise ValueError(f"every {self.every}, similarity {self.similarity!r}: expected seconds, and cosines")

    def __reduce__(self) -> tuple[Any, ...]:
        return Frames, (self.roots, self.similarity, self.bias, self.normalisation, self.every, self.query_roots)

    @property
    def store(self) -> Store:
        """The features, opened where they are first needed."""
        self._store = self._store or Store.open(*self.roots)
        return self._store

    @property
    def queries(self) -> Store:
        """The features of queries."""
        self._queries = self._queries or (self.store if self.query_roots is None else Store.open(*self.query_roots))
        return self._queries

    def map(self, query: str, reference: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The map ``(Q, R)`` of two videos, and the times ``(Q, 2)`` and ``(R, 2)`` of their frames, without gaps."""
        if self._last is None or self._last[0] != query:  # pairs of a query stand together
            rows, times = self.frames(query, self.queries)
            self._last = (query, rows if self.normalisation is None else self.normalisation.queries(rows), times)
        _, left, query_times = self._last
        right, reference_times = self.frames(reference)
        if self.normalisation is not None:
            values = left @ self.normalisation.references(right).T
        elif self.similarity == "cosine":
            values = frame_similarity.cosines(left, right)
        elif self.similarity == "chamfer":
            values = frame_similarity.clipped(frame_similarity.chamfer(left, right))
        else:
            values = left @ right.T
        return values + values.dtype.type(self.bias), query_times, reference_times

    def frames(self, video_id: str, store: Store | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The frames ``(L, D)`` of a video, and their times ``(L, 2)`` without gaps; a reference's if not said."""
        store = store or self.store
        times = store.times(video_id)
        if times is None:
            raise ValueError(f"{store.roots[0]} has no times: nobody can say where a segment begins")
        rows, times = np.asarray(store[video_id], np.float32), intervals.filled(times)
        return (rows, times) if self.every is None else frame_similarity.resampled(rows, times, self.every)


def frames_of(
    features: Iterable[Path],
    expert: str,
    similarity: str,
    bias: float,
    noise: Mapping[str, Any] | None = None,
    corpus: Path | None = None,
    every: float | None = None,
    query_expert: str | None = None,
) -> Frames:
    """The features of one expert in result folders of ``extract``.

    Args:
        features: the folders.
        expert: its name.
        similarity, bias: as of :class:`Frames`.
        noise: ``{split, beta, drop}``: scores are normalised by the references of a split, which are not searched.
        corpus: folder of ``prepare``, which knows that split.
        every: s between frames, to which key frames are spread out.
        query_expert: whose features queries bring, where these are others.

    Raises:
        ValueError: none of the folders holds it, queries and references have rows of other shapes, or the split of
            the noise has no frame.
    """
    roots = _roots(features, expert)
    asked = None if query_expert is None else _roots(features, query_expert)
    frames = Frames(roots, similarity, bias, every=every, query_roots=asked)
    if frames.queries.shape != frames.store.shape:
        raise ValueError(f"{roots[0]} holds rows {frames.store.shape}, queries bring {frames.queries.shape}")
    if noise is None:
        return frames
    assert corpus is not None
    options = {k: v for k, v in noise.items() if k != "split"} | {"unit": similarity == "cosine"}
    listed = split_ids(tables.read("splits", corpus), noise["split"], "reference")
    rows, _ = frames.store.gather([i for i in listed if i in set(frames.store.ids)])
    if not len(rows):
        raise ValueError(f"noise: no reference of split {noise['split']!r} has a frame in {roots[0]}")
    return replace(frames, normalisation=ScoreNormalisation.fit(np.asarray(rows, np.float32), **options))


def _roots(features: Iterable[Path], expert: str) -> tuple[Path, ...]:
    roots = tuple(folder / expert for folder in features if (folder / expert).is_dir())
    if not roots:
        raise ValueError(f"expert {expert!r} is in none of {[str(f) for f in features]}")
    return roots


def pairs_of(corpus: Path, split: str | list[str], frames: Frames) -> list[Pair]:
    """The judged pairs of a protocol of which both videos have features, with their true segments, by query.

    Raises:
        ValueError: there is none.
    """
    judged = judged_pairs(corpus, split).unique(["query_id", "reference_id"]).sort("query_id", "reference_id")
    there = judged.filter(pl.col("query_id").is_in(frames.queries.ids) & pl.col("reference_id").is_in(frames.store.ids))
    if len(there) < len(judged):
        log.warning("%d of %d pairs of split %s have no features", len(judged) - len(there), len(judged), split)
    if there.is_empty():
        raise ValueError(f"split {split!r}: none of its {len(judged)} pairs has features in {frames.roots[0]}")
    times = ("query_start", "query_end", "reference_start", "reference_end")
    truth: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for row in tables.read("segments", corpus).select("query_id", "reference_id", *times).iter_rows():
        truth.setdefault(row[:2], []).append(row[2:])
    pairs = there.select("query_id", "reference_id").rows()
    return [Pair(q, r, np.array(truth.get((q, r), []), np.float64).reshape(-1, 4)) for q, r in pairs]
