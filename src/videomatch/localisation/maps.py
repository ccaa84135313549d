"""The pairs of videos that ``tune`` and ``align`` work on, and the similarity maps of their frames."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from jaxtyping import Float

from videomatch.common.progress import track_calls
from videomatch.data import tables
from videomatch.data.corpus import pooled_ids
from videomatch.data.pairs import judged_pairs
from videomatch.data.store import Store, expert_store
from videomatch.localisation import frame_similarity, intervals
from videomatch.metrics.segments import TIMES
from videomatch.retrieval.frame_index import FrameIndex
from videomatch.retrieval.score_normalisation import ScoreNormalisation
from videomatch.specs.similarity import SimilarityMap

log = logging.getLogger(__name__)

#: folder of the index in a result of ``shortlist``
LIBRARY = "library"
#: frames of noise in a result of ``tune``
NOISE = "noise.npy"
#: max number of pairs that a process gets at once
CHUNK = 64
Result = TypeVar("Result")
#: frames ``(L, D)`` of a video, and their times ``(L, 2)``, s
Frames = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class CandidatePair:
    """Two videos, and their true segments (M, 4) in s, as far as they are needed."""

    query: str
    reference: str
    truth: np.ndarray


@dataclass
class SimilarityMaps:
    """Similarity maps of videos from stores of their frames, with times, or of ``references`` as their codes in an
    index have them; ``normalisation`` is fitted to ``spec.noise``. Both are opened anew where it is unpickled."""

    spec: SimilarityMap
    references: Store | FrameIndex
    queries: Store
    normalisation: ScoreNormalisation | None = None
    #: of both sides the last video, since pairs are ordered by query: its frames as kept and as compared
    _last: dict[bool, tuple[str, Frames, Frames]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(
        cls,
        features: Iterable[Path],
        spec: SimilarityMap,
        corpus: Path | None = None,
        shortlist: Path | None = None,
    ) -> SimilarityMaps:
        """The maps of the features in result folders of ``extract``; ``corpus`` has the split of ``spec.noise``. The
        frames of references are those in the index of a ``shortlist``, if it has one."""
        if spec.every is not None and (spec.every <= 0 or spec.similarity != "cosine"):
            raise ValueError(f"every {spec.every}, similarity {spec.similarity!r}: expected seconds, and cosines")
        if spec.noise is not None and spec.similarity == "chamfer":
            raise ValueError("similarity 'chamfer' with score normalisation, expected 'cosine' or 'inner'")
        features = list(features)
        references = expert_store(features, spec.expert)
        queries = references if spec.query_expert is None else expert_store(features, spec.query_expert)
        root = references.roots[0]
        if queries.shape != references.shape:
            raise ValueError(f"{root} holds rows {references.shape}, queries have {queries.shape}")
        library = None
        if shortlist is not None and (shortlist / LIBRARY).is_dir():
            library = FrameIndex(shortlist / LIBRARY)
            if spec.similarity != "cosine":
                raise ValueError(f"similarity {spec.similarity!r} of the codes in an index, expected 'cosine'")
        kept = references if library is None else library
        if spec.noise is None:
            return cls(spec, kept, queries)
        assert corpus is not None
        rows = noise(features, spec, corpus)
        return cls(spec, kept, queries, normalisation(rows if library is None else library.project(rows), spec))

    def map(self, query: str, reference: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The map ``(Q, R)`` of two videos, and the times ``(Q, 2)`` and ``(R, 2)`` of their frames, without gaps."""
        (_, (left, query_times)), (_, (right, reference_times)) = self.frames(query), self.frames(reference, True)
        if self.spec.similarity == "chamfer":
            values = frame_similarity.clipped(frame_similarity.chamfer(left, right))
        elif self.spec.similarity == "cosine" and self.normalisation is None:
            values = frame_similarity.cosines(left, right)
        else:
            values = left @ right.T
        return values + values.dtype.type(self.spec.bias), query_times, reference_times

    def kept(self, pair: CandidatePair) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The frames and times of the query, then of the reference, neither spread out nor normalised."""
        (query, _), (reference, _) = self.frames(pair.query), self.frames(pair.reference, True)
        return *query, *reference

    def frames(self, video_id: str, is_reference: bool = False) -> tuple[Frames, Frames]:
        """The frames of a query or a reference and their times without gaps, as they are kept and as compared."""
        if self._last.get(is_reference, ("",))[0] != video_id:
            library = self.references if isinstance(self.references, FrameIndex) else None
            store = self.references if is_reference else self.queries
            if isinstance(store, FrameIndex):
                rows, times = store.features(video_id)
            else:
                rows, times = np.asarray(store[video_id], np.float32), store.times(video_id)
                rows = rows if library is None else library.project(rows)
            times = intervals.filled(times)
            kept = rows, times
            if self.spec.every is not None:
                rows, times = frame_similarity.resampled(rows, times, self.spec.every)
            if self.normalisation is not None:
                rows = (self.normalisation.references if is_reference else self.normalisation.queries)(rows)
            self._last[is_reference] = video_id, kept, (rows, times)
        return self._last[is_reference][1:]

    def stored(self, references: Collection[str]) -> tuple[int, float]:
        """Bytes that are kept of some references, with the index if they are in one (of all that it holds), and their
        hours."""
        kept, size = self.references, 0
        if isinstance(kept, FrameIndex):
            references = kept.ids
            size = sum(path.stat().st_size for path in kept.folder.rglob("*") if path.is_file())
            times = [kept.features(i)[1] for i in references]
        else:
            times = [kept.times(i) for i in references]
            size = sum(map(len, times)) * kept.dtype.itemsize * math.prod(kept.shape)
        return size, sum(float(of_video[-1, 1]) for of_video in times if len(of_video)) / 3600


def noise(features: Iterable[Path], spec: SimilarityMap, corpus: Path) -> Float[np.ndarray, "frames D"]:
    """The frames of the videos of ``spec.noise``, float32, as the features have them."""
    assert spec.noise is not None
    store = expert_store(features, spec.expert)
    rows, _ = store.gather([i for i in pooled_ids(corpus, spec.noise.split) if i in store])
    if not len(rows):
        raise ValueError(f"noise: no reference of split {spec.noise.split!r} has a frame in {store.roots[0]}")
    return np.asarray(rows, np.float32)


def normalisation(rows: Float[np.ndarray, "frames D"], spec: SimilarityMap) -> ScoreNormalisation:
    """As ``spec.noise`` has it, fitted to frames of noise."""
    assert spec.noise is not None
    return ScoreNormalisation(rows, beta=spec.noise.beta, drop=spec.noise.drop, unit=spec.similarity == "cosine")


def pairs_of_split(corpus: Path, split: str | list[str], maps: SimilarityMaps) -> list[CandidatePair]:
    """The judged pairs of a protocol, ordered by query, with their true segments; without pairs that lack features."""
    judged = judged_pairs(corpus, split).unique(["query_id", "reference_id"]).sort("query_id", "reference_id")
    stores = {"query_id": maps.queries, "reference_id": maps.references}
    found = judged.filter([pl.col(column).is_in(list(store.ids)) for column, store in stores.items()])
    if len(found) < len(judged):
        log.warning("%d of %d pairs of split %s have no features", len(judged) - len(found), len(judged), split)
    if found.is_empty():
        root = maps.queries.roots[0]
        raise ValueError(f"split {split!r}: none of its {len(judged)} pairs has features in {root}")
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
    function: Callable[[CandidatePair], Result], pairs: Sequence[CandidatePair], *, processes: int, label: str
) -> list[Result]:
    """The results of a function of a pair, in the order of the pairs, which are ordered by query. Several processes
    compute them, so the function can be pickled (a ``functools.partial`` with a :class:`SimilarityMaps`)."""
    chunk = min(CHUNK, -(-len(pairs) // processes))
    return list(track_calls(function, pairs, processes=processes, chunk=chunk, label=label))
