"""A frame of a video and the labels of the video: what an image tagger learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from videomatch.data import corpus as corpora
from videomatch.data.examples import Batch, Source, pooled_ids
from videomatch.data.examples._frames import FrameExamples


class FrameTags(FrameExamples):
    """A random frame of a video and which of the labels apply to the video.

    Labels are the most frequent tags of the first split and all its categories, named ``tag:…`` and
    ``category:…``. Batch: ``frames`` ``(B, height, width, 3)`` uint8, ``labels`` ``(B, N)`` float32 of 0 and 1.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str = "frames",
        split: str | Sequence[str] = "train",
        validation: str | None = "val",
        num_tags: int = 64,
        per_video: int = 16,
    ) -> None:
        self.expert = expert
        self.num_tags = num_tags
        self.labels: list[str] = []
        super().__init__(source, split=split, validation=validation, per_video=per_video)

    def _select(self, split: str | Sequence[str]) -> None:
        ids = pooled_ids(self.source.corpus, split)
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
        listed = named["video_id"].to_list()
        self.videos = self._found(self.usable(listed), listed, split)
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
