"""What one training example is: which are drawn in an epoch, and how some of them become tensors.

``examples: {kind: frame_caption, …}`` names the class ``FrameCaption`` of this file; its keyword-only arguments are the
options. Whatever has to be counted is counted over the first split that examples turn to (:meth:`Examples.on`), so the
train split. All randomness comes in by argument, so that any batch of any epoch can be
drawn again without those before it. Features are read from the store batch by batch; what is held in memory are ids and
the texts of one split.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Source:
    """What examples are made from: a corpus folder, the expert's features, and the tokenizer where there is one."""

    corpus: Path
    store: Store
    tokenizer: PreTrainedTokenizerBase | None = None


def kind(name: str) -> type[FrameCaption] | type[FrameTags]:
    """The class of a kind of examples.

    Raises:
        KeyError: there is no such kind; the message lists those that exist.
    """
    kinds = {"frame_caption": FrameCaption, "frame_tags": FrameTags}
    if name not in kinds:
        raise KeyError(f"no kind of examples named {name!r}; there are {', '.join(kinds)}")
    return kinds[name]


def split_texts(corpus: Path, split: str, kinds: Sequence[str] | None = None) -> pl.DataFrame:
    """Rows of ``texts`` (of some kinds, or all) that belong to the videos of a split, ordered by video and id."""
    ids = corpora.split_ids(tables.read("splits", corpus), split, "reference")
    texts = tables.read("texts", corpus).filter(pl.col("video_id").is_in(ids))
    if kinds is not None:
        texts = texts.filter(pl.col("kind").is_in(list(kinds)))
    return texts.sort("video_id", "text_id")


class Examples(ABC):
    """Examples about the videos of a split, numbered from 0: example ``n`` is about video ``n``, drawn anew each time.

    Building one reads nothing; :meth:`on` turns to a split. Without a split it still reads videos and texts for
    embedding.

    Attributes:
        source: where they come from.
        split: what the system trains on.
        per_video: how often an epoch visits each video.
        max_length: tokens of a text, start and end included; longer ones are cut.
        videos: ids of the videos of the split turned to that can serve as an example, in order.
    """

    def __init__(self, source: Source, *, split: str, per_video: int, max_length: int | None = None) -> None:
        self.source, self.split, self.per_video, self.max_length = source, split, per_video, max_length
        self.videos: list[str] = []

    @abstractmethod
    def _select(self, split: str) -> None:
        """Fill in what depends on the split."""

    @abstractmethod
    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        """Draw examples and put them side by side; every tensor has one row an example."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Options of the model's configuration that follow from the data (vocabulary, labels)."""

    def on(self, split: str) -> Self:
        """These examples over a split; what was counted over the first one (labels) stays as it is."""
        other = copy.copy(self)
        other._select(split)
        return other

    def epoch(self, rng: np.random.Generator) -> np.ndarray:
        """Numbers of one epoch: rounds in each of which every video comes once, so a batch holds few videos twice."""
        return np.concatenate([rng.permutation(len(self.videos)) for _ in range(self.per_video)])

    def __len__(self) -> int:
        return len(self.videos) * self.per_video

    def read_videos(self, ids: Sequence[str], max_frames: int | None = None) -> Batch:
        """Whole videos for ``embed_videos``: ``frames`` ``(B, L, …)`` padded with zeros, ``mask`` ``(B, L)``."""
        frames, mask = self.source.store.batch(ids, max_frames)
        return {"frames": torch.from_numpy(frames), "mask": torch.from_numpy(mask)}

    def read_texts(self, texts: Sequence[str]) -> Batch:
        """Texts for ``embed_texts``: ``input_ids`` and ``attention_mask`` ``(B, T)``, padded to the longest."""
        if self.source.tokenizer is None:
            raise ValueError(f"{type(self).__name__} reads texts only with a tokenizer; the system names none")
        encoded = self.source.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}  # pyright: ignore[reportReturnType]

    def _usable(self, ids: Sequence[str], split: str) -> list[str]:
        store = self.source.store
        usable = [i for i in ids if i in store and store.lengths[store.index([i])[0]]]
        if not usable:
            raise ValueError(f"{type(self).__name__}: none of the {len(ids)} videos of split {split!r} can be used")
        return usable

    def _frames(self, ids: Sequence[str], rng: np.random.Generator, windows: np.ndarray | None = None) -> Tensor:
        """A random frame of each video, inside its window ``(B, 2)`` of seconds if one is given and holds a frame."""
        unique, which = np.unique(np.asarray(ids), return_inverse=True)
        values, lengths = self.source.store.gather(unique.tolist())
        starts = np.cumsum(lengths) - lengths
        draws = rng.random(len(ids))
        rows = starts[which] + (draws * lengths[which]).astype(np.int64)
        if windows is not None:
            times, _ = self.source.store.gather(unique.tolist(), "times")
            middles = times.mean(1)
            for n in np.flatnonzero(np.isfinite(windows).all(1)):
                first, last = starts[which[n]], starts[which[n]] + lengths[which[n]]
                own = middles[first:last]
                inside = np.flatnonzero((own >= windows[n, 0]) & (own < windows[n, 1]))
                if len(inside):
                    rows[n] = first + inside[int(draws[n] * len(inside))]
        return torch.from_numpy(values[rows])


class FrameCaption(Examples):
    """A random frame of a video and a random one of its captions; a caption with times draws a frame between them.

    Batch: ``frames`` ``(B, height, width, 3)`` uint8, ``input_ids`` and ``attention_mask`` ``(B, T)``, and ``video``
    ``(B,)``, equal for examples of one video.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str = "frames",
        split: str = "train",
        max_length: int = 24,
        per_video: int = 16,
    ) -> None:
        if source.tokenizer is None:
            raise ValueError("examples of kind frame_caption need a tokenizer")
        self.expert = expert
        self._tokenizer = source.tokenizer
        super().__init__(source, split=split, per_video=per_video, max_length=max_length)

    def _select(self, split: str) -> None:
        texts = split_texts(self.source.corpus, split, ["caption"])
        self.videos = self._usable(texts["video_id"].unique(maintain_order=True).to_list(), split)
        texts = texts.filter(pl.col("video_id").is_in(self.videos))
        self._captions = texts["text"]
        self._windows = texts.select("start", "end").fill_null(float("nan")).to_numpy()
        self._counts = texts.group_by("video_id", maintain_order=True).len()["len"].cast(pl.Int64).to_numpy()
        self._first = np.cumsum(self._counts) - self._counts
        self._timed = bool(np.isfinite(self._windows).any())

    def facts(self) -> dict[str, Any]:
        tokenizer = self._tokenizer
        ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        return {"vocab_size": len(tokenizer), **{name: i for name, i in ids.items() if i is not None}}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        rows = self._first[numbers] + (rng.random(len(numbers)) * self._counts[numbers]).astype(np.int64)
        windows = self._windows[rows] if self._timed else None
        return {
            "frames": self._frames([self.videos[n] for n in numbers], rng, windows),
            "video": torch.from_numpy(numbers.astype(np.int64)),
            **self.read_texts(self._captions.gather(rows).to_list()),
        }


class FrameTags(Examples):
    """A random frame of a video and which of the labels apply to the video.

    Labels are the most frequent tags of the first split and all its categories, named ``tag:…`` and
    ``category:…``. Batch: ``frames`` ``(B, height, width, 3)`` uint8, ``labels`` ``(B, N)`` float32 of 0 and 1.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str = "frames",
        split: str = "train",
        num_tags: int = 64,
        per_video: int = 16,
    ) -> None:
        self.expert = expert
        self.num_tags = num_tags
        self.labels: list[str] = []
        super().__init__(source, split=split, per_video=per_video)

    def _select(self, split: str) -> None:
        ids = corpora.split_ids(tables.read("splits", self.source.corpus), split, "reference")
        videos = corpora.videos(self.source.corpus).filter(pl.col("video_id").is_in(ids))
        named = videos.select(
            "video_id",
            pl.concat_list(
                pl.col("tags").list.eval("tag:" + pl.element()),
                pl.concat_list("category:" + pl.col("category")).list.drop_nulls(),
            )
            .list.unique()
            .alias("labels"),
        )
        if not self.labels:
            counts = (
                named.explode("labels")
                .drop_nulls()
                .group_by("labels")
                .len()
                .sort(["len", "labels"], descending=[True, False])
            )
            tags = counts.filter(pl.col("labels").str.starts_with("tag:"))["labels"].head(self.num_tags)
            categories = counts.filter(pl.col("labels").str.starts_with("category:"))["labels"].sort()
            self.labels = [*tags, *categories]
            if not self.labels:
                raise ValueError(f"FrameTags: no video of split {split!r} has a tag or a category")
        self.videos = self._usable(named["video_id"].to_list(), split)
        number = {label: n for n, label in enumerate(self.labels)}
        of_video = dict(named.iter_rows())
        self._labels = [np.array([number[x] for x in of_video[v] if x in number], np.int64) for v in self.videos]

    def facts(self) -> dict[str, Any]:
        return {"id2label": dict(enumerate(self.labels))}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        labels = torch.zeros(len(numbers), len(self.labels))
        for row, n in enumerate(numbers):
            labels[row, torch.from_numpy(self._labels[n])] = 1.0
        return {"frames": self._frames([self.videos[n] for n in numbers], rng), "labels": labels}
