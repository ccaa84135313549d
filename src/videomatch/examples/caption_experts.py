"""A caption and what several experts saw of its video: what a text and video encoder of many experts learns from.

Source: MMT (Gabeur et al., ECCV 2020), preprocessing as in its published code: of every expert at most so many rows are
kept, each with its second; all of its rows, kept or not, go into an aggregate.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from videomatch.common.vectors import padded
from videomatch.data.store import Store
from videomatch.examples import Batch, check_rows, tensors
from videomatch.examples._bases import CaptionExamples
from videomatch.metrics import ranking

#: position of a row of unknown time; that of the first second is one higher (0 is the aggregates')
UNKNOWN = 1


def scores(texts: Tensor, videos: Tensor, weights: Tensor | None, available: Tensor | None) -> np.ndarray:
    """Similarities (captions, videos): inner products of (N, D) vectors; given a caption's weights (N, experts) divided
    by the sum of those of experts that the video has (N, experts)."""
    found = texts.double() @ videos.double().T
    if weights is not None and available is not None:
        found = found / (weights.double() @ available.double().T).clamp(min=1e-5)
    return found.numpy()


def search_metric(name: str) -> Callable[..., float]:
    """A function of a whole validation pass: R@1, R@5 (percent) or MdR of caption i searching for video i."""

    def metric(
        text_vectors: Tensor, video_vectors: Tensor, text_weights: Tensor | None = None, available: Tensor | None = None
    ) -> float:
        own = np.arange(len(text_vectors))
        found = scores(text_vectors, video_vectors, text_weights, available)
        return ranking.metrics(own, *ranking.places(found, own, own))[name]

    return metric


@dataclass(kw_only=True, eq=False)
class CaptionExperts(CaptionExamples):
    """A video, as its experts saw it, and a caption of it. Videos without a caption or without any row are left out.

    B examples, E experts in alphabetical order, T rows of the longest, D the sum of the experts' dimensions. Batch:
    ``features`` (B, T, D) float32, row t of all experts side by side, zeros where an expert has fewer rows;
    ``feature_mask`` (B, T, E) bool; ``positions`` (B, T, E) int64, 1 for an unknown time, 2 + n for the second n;
    ``maxima`` and ``means`` (B, D) over all rows of an expert, zeros where there are none; ``input_ids`` and
    ``attention_mask`` (B, W); ``video`` (B,), equal for examples of one video.

    An expert is missing if it has no rows, or (as data sets mark it) if its first value is not a number.

    Args:
        max_tokens: rows of an expert at most. In training, of more a random subset in order of time; elsewhere the one
            that the published code draws with seed 0.
        clockless: experts whose rows get the unknown time, as do times that are negative or not a number; those that
            are not read (an ablation's) do not matter.
        shuffle_times: exchange the positions of an expert's rows at random (an ablation).
        captions: ``one`` of a video's captions at random, or all ``joined`` to a paragraph, in order of time.
        full_stop: end a caption that ends with none of ``. ? !`` with a full stop, as published.
    """

    metrics: ClassVar[Mapping[str, Callable[..., float]]] = {
        name: search_metric(name) for name in ("R@1", "R@5", "MdR")
    }
    validates_once = True

    experts: Sequence[str]
    max_tokens: int = 30
    clockless: Sequence[str] = ()
    shuffle_times: bool = False
    captions: Literal["one", "joined"] = "one"
    full_stop: bool = False
    max_length: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens {self.max_tokens}, expected at least 1")
        self.experts = sorted(self.experts)
        stores = self.source.stores
        if not self.experts or not set(self.experts) <= set(stores):
            raise ValueError(f"experts {self.experts}, there are features of {sorted(stores)}")
        self.stores = {name: stores[name] for name in self.experts}
        for store in self.stores.values():
            check_rows(store, 1, "vectors")

    def _set_captions(self, texts: pl.DataFrame) -> None:
        if self.captions == "joined":
            in_time = texts.sort("video_id", "start", "text_id", nulls_last=True)
            texts = in_time.group_by("video_id", maintain_order=True).agg(pl.col("text").str.join(" "))
        super()._set_captions(texts)

    def derived_config(self) -> dict[str, Any]:
        return {
            "experts": {name: store.shape[0] for name, store in self.stores.items()},
            "text_length": self.max_length,
            **self._text_config(),
        }

    def usable(self, ids: Iterable[str]) -> list[str]:
        """Those of ``ids`` of which any expert has a row, in the order given."""
        wanted = list(ids)
        rows = sum(store.rows(wanted) for store in self.stores.values())
        return [i for i, some in zip(wanted, np.asarray(rows) > 0, strict=True) if some]

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        rows = self._sampled_captions(numbers, rng)
        return {
            **self._read([self.videos[n] for n in numbers], rng, sampled=self.is_training),
            **self._read_captions(rows),
            "video": torch.from_numpy(numbers.astype(np.int64)),
        }

    def read_videos(self, ids: Sequence[str]) -> Batch:
        """What a batch has of these videos, the same each time."""
        return self._read(ids, np.random.default_rng(0), sampled=False)

    def read_texts(self, texts: Sequence[str]) -> Batch:
        if self.full_stop:
            texts = [text if text.strip().endswith((".", "?", "!")) else f"{text.strip()}." for text in texts]
        return super().read_texts(texts)

    def _read(self, ids: Sequence[str], rng: np.random.Generator, *, sampled: bool) -> Batch:
        seen = [self._rows(name, store, ids, rng, sampled) for name, store in self.stores.items()]
        counts, rows, at, maxima, means = zip(*seen, strict=True)
        longest = int(np.max(counts, initial=0))
        features, masks = zip(*(padded(r, n, longest) for r, n in zip(rows, counts, strict=True)), strict=True)
        positions = [padded(a, n, longest)[0] for a, n in zip(at, counts, strict=True)]
        mask = np.stack(masks, axis=2)
        return tensors(
            {
                "features": np.concatenate(features, axis=2),
                "feature_mask": mask,
                "positions": np.where(mask, np.stack(positions, axis=2), UNKNOWN),
                "maxima": np.concatenate(maxima, axis=1),
                "means": np.concatenate(means, axis=1),
            }
        )

    def _rows(
        self, name: str, store: Store, ids: Sequence[str], rng: np.random.Generator, sampled: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of one expert: how many rows are kept of each video, those rows and their positions, maxima and means."""
        maxima = np.zeros((len(ids), store.shape[0]), np.float32)
        means = np.zeros_like(maxima)
        counts = store.rows(ids)
        there = np.flatnonzero(counts)
        some = [ids[n] for n in there.tolist()]
        values, lengths = store.gather(some)
        values = values.astype(np.float32, copy=False)
        starts = np.cumsum(lengths) - lengths
        at = np.full(len(values), UNKNOWN) if name in self.clockless else self._positions(name, store, some)
        if len(there):
            maxima[there] = np.maximum.reduceat(values, starts, axis=0)
            means[there] = np.add.reduceat(values, starts, axis=0) / lengths[:, None]
        missing = np.isnan(values[starts, 0])
        counts[there] = np.where(missing, 0, np.minimum(lengths, self.max_tokens))
        maxima[there[missing]] = means[there[missing]] = 0.0
        starts, lengths = starts[~missing], lengths[~missing]
        if sampled:  # the smallest lots of every video, in order of time
            owner = np.repeat(np.arange(len(lengths)), lengths)
            place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            drawn = np.lexsort((rng.random(len(owner)), owner))[place < self.max_tokens]
            rows = np.sort(starts[owner[drawn]] + place[drawn])
        else:
            fixed = (evaluation_rows(int(n), self.max_tokens) if n > self.max_tokens else np.arange(n) for n in lengths)
            kept = [first + places for first, places in zip(starts, fixed, strict=True)]
            rows = np.concatenate([np.zeros(0, np.int64), *kept])
        at = at[rows]
        if self.shuffle_times:
            owner = np.repeat(np.arange(len(ids)), counts)
            at = at[np.lexsort((rng.random(len(at)), owner))]
        return counts, values[rows], at, maxima, means

    def _positions(self, name: str, store: Store, ids: Sequence[str]) -> np.ndarray:
        """Of all rows: two more than the second that holds the middle of a row."""
        try:
            times, _ = store.gather(ids, "times")
        except ValueError as error:
            raise ValueError(f"expert {name!r}: {error}; without times it has to be among `clockless`") from None
        middles = times.mean(axis=1)
        known = middles >= 0  # not so of what is not a number
        places = np.floor(np.where(known, middles, 0.0) + UNKNOWN + 1)
        return np.where(known, places, UNKNOWN).astype(np.int64)


@functools.lru_cache(maxsize=4096)
def evaluation_rows(length: int, count: int) -> np.ndarray:
    """The rows that the published code keeps of so many when it evaluates: of numpy's old generator."""
    return np.sort(np.random.RandomState(0).choice(length, count, replace=False))
