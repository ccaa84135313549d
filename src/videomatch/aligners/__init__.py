"""Temporal alignment: from the similarity map of two videos to the segments that they share. One file per algorithm.

``similarity (Q, R)`` are cosines of the query's frames with the reference's, any float type; the map is not changed.
Segments are ``(N, 5)`` float64 with the columns of :data:`videomatch.metrics.segments.COLUMNS`, best first (``dtw``: in
order of time). Times are frames, half open. The score is the mean similarity along the matched frames.

``published=True`` gives the boxes of VCSL's code exactly (He et al., CVPR 2022; ``vcsl/vta.py``; its parameters are in
``configs/vcsl.yaml``, its grid is ``published``). Its ends are the *last* frames of a segment, so in seconds they are a
frame short on both axes (on VCSL's test labels that alone reduces a perfect F1 to 0.951).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float

from videomatch.common import named
from videomatch.common.checkpoint import load_checkpoint
from videomatch.localisation.intervals import to_seconds
from videomatch.localisation.map_paths import line_sums
from videomatch.metrics.segments import ENDS, SCORE, STARTS

Map = Float[np.ndarray, "query_frames reference_frames"]
Segments = Float[np.ndarray, "segments 5"]
#: values to try of each option
Grid = Mapping[str, Sequence[Any]]


class Aligner(Protocol):
    """A file of this room, or the ``Model`` of a segment detector. The keyword-only arguments of ``align`` are its
    options, each with a default; one of the ``GRIDS`` is ``ours``."""

    @property
    def GRIDS(self) -> Mapping[str, Grid]: ...

    @property
    def align(self) -> Callable[..., Segments]: ...


@functools.lru_cache(maxsize=4)
def load(name: str | None = None, run: Path | None = None) -> Aligner:
    """An algorithm of this room by name, or the trained detector of ``run``, on the GPU if there is one."""
    if run is None:
        module: Any = named.module("aligners", str(name))
        return module
    model, system = load_checkpoint(run, "cuda" if torch.cuda.is_available() else "cpu")
    if not model.detects_segments:
        raise ValueError(f"{run}: model {system['model']['name']!r} detects no segments, expected a segment_detector")
    return model


def defaults(aligner: Aligner) -> dict[str, Any]:
    """The options of an aligner and their defaults, with those of :func:`find_segments`."""
    arguments = inspect.signature(aligner.align).parameters.values()
    return {a.name: a.default for a in arguments if a.kind is a.KEYWORD_ONLY} | {"min_score": None}


def find_segments(
    aligner: Aligner,
    similarity: Map,
    query_times: Float[np.ndarray, "query_frames 2"],
    reference_times: Float[np.ndarray, "reference_frames 2"],
    options: Mapping[str, Any] | None = None,
    *,
    score: str = "mean",
    level: float = 0.0,
) -> Segments:
    """The segments of one map, in seconds, by times without gaps (:func:`videomatch.localisation.intervals.filled`).
    Segments without length are left out (as published, those of one frame). ``options`` are the aligner's, and
    ``min_score``. ``score``: ``mean``, the aligner's own; ``max``, the largest similarity in its box (VSC 2022's); or
    ``sum``, over the seconds of its line (:func:`videomatch.localisation.map_paths.line_sums`) of how much similarities
    exceed ``level``."""
    options = dict(options or {})
    min_score = options.pop("min_score", None)
    found = aligner.align(similarity, **options)
    if score == "max":
        starts = np.floor(found[:, STARTS]).astype(int).tolist()
        ends = (np.ceil(found[:, ENDS]).astype(int) + bool(options.get("published"))).tolist()
        for segment, (query, reference), (query_end, reference_end) in zip(found, starts, ends, strict=True):
            segment[SCORE] = similarity[query:query_end, reference:reference_end].max()
    elif score == "sum":
        found[:, SCORE] = line_sums(similarity - similarity.dtype.type(level), np.ptp(query_times, axis=1), found)
    if min_score is not None:
        found = found[found[:, SCORE] > min_score]
    found = to_seconds(found, query_times, reference_times)
    return found[(found[:, ENDS] > found[:, STARTS]).all(axis=1)]
