"""The pairs of videos that ``tune`` and ``align`` work on, and the similarity maps of their frames."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from videomatch.common import workers
from videomatch.common.progress import track
from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.data.pairs import judged_pairs
from videomatch.data.store import Store
from videomatch.localisation import frame_similarity, intervals
from videomatch.metrics.segments import TIMES
from videomatch.retrieval.score_normalisation import ScoreNormalisation
from videomatch.specs.similarity import SimilarityMap

log = logging.getLogger(__name__)

SIMILARITIES = ("cosine", "inner", "chamfer")
Result = TypeVar("Result")


@dataclass(frozen=True)
class CandidatePair:
    """Two videos, and their true segments (M, 4) in s, as far as they are needed."""

    query: str
    reference: str
    truth: np.ndarray


@dataclass
class SimilarityMaps:
    """Similarity maps of videos from stores of their frames. Pickled without the opened stores.

    Attributes:
        roots: stores with times, read as one.
        similarity, bias, every: of :class:`videomatch.specs.similarity.SimilarityMap`.
        normalisation: of scores, by frames of other videos.
        query_roots: stores of the queries if they are not those of the references.
    """

    roots: tuple[Path, ...]
    similarity: str = "cosine"
    bias: float = 0.0
    normalisation: ScoreNormalisation | None = None
    every: float | None = None
    query_roots: tuple[Path, ...] | None = None
    _last: tuple[str, np.ndarray, np.ndarray] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.similarity not in SIMILARITIES:
            raise ValueError(f"no similarity {self.similarity!r}; there are {', '.join(SIMILARITIES)}")
        if self.normalisation is not None and self.similarity == "chamfer":
            raise ValueError("similarity 'chamfer' with score normalisation, expected 'cosine' or 'inner'")
        if self.every is not None and (self.every <= 0 or self.similarity != "cosine"):
            raise ValueError(f"every {self.every}, similarity {self.similarity!r}: expected seconds, and cosines")

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.roots, self.similarity, self.bias, self.normalisation, self.every, self.query_roots)
        return SimilarityMaps, given

    @classmethod
    def of(cls, features: Iterable[Path], spec: SimilarityMap, corpus: Path | None = None) -> SimilarityMaps:
        """The maps of the features in result folders of ``extract``.

        Args:
            features: the folders.
            spec: which features, and how they are compared.
            corpus: result of ``prepare`` with the split of ``spec.noise``.

        Raises:
            ValueError: an expert without features, queries and references with rows of different shapes, or a split of
                the noise without frames.
        """
        roots = _roots(features, spec.expert)
        query_roots = None if spec.query_expert is None else _roots(features, spec.query_expert)
        maps = cls(roots, spec.similarity, spec.bias, every=spec.every, query_roots=query_roots)
        if maps.queries.shape != maps.references.shape:
            raise ValueError(f"{roots[0]} holds rows {maps.references.shape}, queries have {maps.queries.shape}")
        if spec.noise is None:
            return maps
        assert corpus is not None
        listed = split_ids(tables.read("splits", corpus), spec.noise.split, "reference")
        rows, _ = maps.references.gather([i for i in listed if i in set(maps.references.ids)])
        if not len(rows):
            raise ValueError(f"noise: no reference of split {spec.noise.split!r} has a frame in {roots[0]}")
        normalisation = ScoreNormalisation.fit(
            np.asarray(rows, np.float32),
            beta=spec.noise.beta,
            drop=spec.noise.drop,
            unit=spec.similarity == "cosine",
        )
        return cls(roots, spec.similarity, spec.bias, normalisation, spec.every, query_roots)

    @functools.cached_property
    def references(self) -> Store:
        """The features of references."""
        return Store.open(*self.roots)

    @functools.cached_property
    def queries(self) -> Store:
        """The features of queries."""
        return self.references if self.query_roots is None else Store.open(*self.query_roots)

    def map(self, query: str, reference: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The map ``(Q, R)`` of two videos, and the times ``(Q, 2)`` and ``(R, 2)`` of their frames, without gaps."""
        if self._last is None or self._last[0] != query:  # pairs are ordered by query
            rows, times = self.frames(query, self.queries)
            self._last = (query, rows if self.normalisation is None else self.normalisation.queries(rows), times)
        _, left, query_times = self._last
        right, reference_times = self.frames(reference, self.references)
        if self.normalisation is not None:
            values = left @ self.normalisation.references(right).T
        elif self.similarity == "cosine":
            values = frame_similarity.cosines(left, right)
        elif self.similarity == "chamfer":
            values = frame_similarity.clipped(frame_similarity.chamfer(left, right))
        else:
            values = left @ right.T
        return values + values.dtype.type(self.bias), query_times, reference_times

    def frames(self, video_id: str, store: Store) -> tuple[np.ndarray, np.ndarray]:
        """The frames ``(L, D)`` of a video of a store, and their times ``(L, 2)`` without gaps."""
        times = store.times(video_id)
        if times is None:
            raise ValueError(f"{store.roots[0]} has no times, expected features with times of their frames")
        rows, times = np.asarray(store[video_id], np.float32), intervals.filled(times)
        return (rows, times) if self.every is None else frame_similarity.resampled(rows, times, self.every)


def _roots(features: Iterable[Path], expert: str) -> tuple[Path, ...]:
    roots = tuple(folder / expert for folder in features if (folder / expert).is_dir())
    if not roots:
        raise ValueError(f"expert {expert!r} is in none of {[str(f) for f in features]}")
    return roots


def pairs_of_split(corpus: Path, split: str | list[str], maps: SimilarityMaps) -> list[CandidatePair]:
    """The judged pairs of a protocol, ordered by query, with their true segments; without pairs that lack features.

    Raises:
        ValueError: no such pair.
    """
    judged = judged_pairs(corpus, split).unique(["query_id", "reference_id"]).sort("query_id", "reference_id")
    has_features = pl.col("query_id").is_in(maps.queries.ids) & pl.col("reference_id").is_in(maps.references.ids)
    found = judged.filter(has_features)
    if len(found) < len(judged):
        log.warning("%d of %d pairs of split %s have no features", len(judged) - len(found), len(judged), split)
    if found.is_empty():
        raise ValueError(f"split {split!r}: none of its {len(judged)} pairs has features in {maps.roots[0]}")
    truth = boxes_by_pair(tables.read("segments", corpus))
    none = np.zeros((0, 4))
    return [CandidatePair(q, r, truth.get((q, r), none)) for q, r in found.select("query_id", "reference_id").rows()]


def boxes_by_pair(segments: pl.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """The times ``(M, 4)`` of a table ``segments``, in its order, of each (query_id, reference_id)."""
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for query, reference, *times in segments.select("query_id", "reference_id", *TIMES).iter_rows():
        rows.setdefault((query, reference), []).append(tuple(times))
    return {pair: np.array(boxes, np.float64) for pair, boxes in rows.items()}


def for_each_pair(
    function: Callable[[CandidatePair], Result],
    pairs: Sequence[CandidatePair],
    *,
    threads: int,
    label: str,
    batch: int = 64,
) -> list[Result]:
    """The results of a function of a pair, in the order of the pairs, computed by several processes.

    Args:
        function: can be pickled, for example a ``functools.partial`` with a :class:`SimilarityMaps`.
        pairs: ordered by query.
        threads: processes.
        label: of the progress bar.
        batch: max number of pairs between two steps of the progress bar.
    """
    size = max(1, min(batch, -(-len(pairs) // threads)))
    parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    work = functools.partial(_for_each, function)
    if threads < 2 or len(parts) < 2:
        done = [work(part) for part in track(parts, label=label)]
    else:
        with workers.pool(min(threads, len(parts))) as pool:
            done = list(track(pool.map(work, parts), total=len(parts), label=label))
    return [result for part in done for result in part]


def _for_each(function: Callable[[CandidatePair], Result], pairs: Sequence[CandidatePair]) -> list[Result]:
    return [function(pair) for pair in pairs]
