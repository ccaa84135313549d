"""Examples that come with the labels of their video: its tags, its category, words of its captions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from videomatch.data import corpus as corpora
from videomatch.examples import Examples, Source, pooled_ids, split_texts

WORD = re.compile(r"\w[\w'-]*")
#: words of more than this share of the captioned videos say nothing about one of them
COMMON = 0.5


class TaggedExamples(Examples):
    """Examples about the videos of a split: example ``n`` is something of video ``n``, with the labels of the video.

    Labels are the most frequent tags of the first split and all its categories, named ``tag:…`` and ``category:…``; and
    where ``num_words`` is not 0 as many words of its captions, the most frequent of those that at most half of the
    captioned videos have: ``word:…`` (the concepts of the hybrid space of dual encoding, Dong et al. 2021,
    arXiv:2009.05381; here captions are cut at everything that is no letter, so a Chinese word is what lies between
    marks). ``words`` names those to take instead of the most frequent, for what can be heard or seen at all;
    ``categories: false`` leaves the categories out.
    """

    def __init__(
        self,
        source: Source,
        *,
        split: str | Sequence[str],
        validation: str | None,
        num_tags: int,
        per_video: int,
        num_words: int = 0,
        words: Sequence[str] = (),
        categories: bool = True,
    ) -> None:
        self.num_tags, self.num_words = num_tags, num_words
        self.words, self.categories = list(words), categories
        self.labels: list[str] = []
        super().__init__(source, split=split, validation=validation, per_video=per_video)

    def _select(self, split: str | Sequence[str]) -> None:
        named = self._named(split)
        if not self.labels:
            self.labels = self._chosen(named, split)
            if not self.labels:
                raise ValueError(f"{type(self).__name__}: no video of split {split!r} has a tag or a category")
        listed = named["video_id"].to_list()
        self.videos = self._found(self.usable(listed), listed, split)
        number = {label: n for n, label in enumerate(self.labels)}
        of_video = dict(named.iter_rows())
        self._labels = [np.array([number[x] for x in of_video[v] if x in number], np.int64) for v in self.videos]

    def _named(self, split: str | Sequence[str]) -> pl.DataFrame:
        """video_id and labels (a list without repetition) of the videos of a split."""
        ids = pooled_ids(self.source.corpus, split)
        videos = corpora.videos(self.source.corpus).filter(pl.col("video_id").is_in(ids))
        columns = [
            pl.col("tags").list.eval("tag:" + pl.element()),
            pl.concat_list("category:" + pl.col("category")).list.drop_nulls(),
        ]
        if self.num_words or self.words:
            captions = split_texts(self.source.corpus, split, ["caption"]).select(
                "video_id", words=pl.col("text").map_elements(words_of, pl.List(pl.String))
            )
            captions = captions.explode("words").drop_nulls().group_by("video_id").agg(pl.col("words").unique())
            videos = videos.join(captions, on="video_id", how="left", maintain_order="left")
            columns.append(pl.col("words").fill_null([]).list.eval("word:" + pl.element()))
        return videos.select("video_id", pl.concat_list(columns).list.unique().alias("labels"))

    def _chosen(self, named: pl.DataFrame, split: str | Sequence[str]) -> list[str]:
        """The labels, those of one kind together, from the most frequent on (categories by name)."""
        counts = (
            named.explode("labels")
            .drop_nulls()
            .group_by("labels")
            .len()
            .sort(["len", "labels"], descending=[True, False])
        )
        tags = counts.filter(pl.col("labels").str.starts_with("tag:"))["labels"].head(self.num_tags)
        categories = counts.filter(pl.col("labels").str.starts_with("category:"))["labels"].sort()
        if not self.categories:
            categories = categories.clear()
        words = counts.filter(pl.col("labels").str.starts_with("word:"))
        if self.words:
            absent = sorted(set(self.words) - {w.removeprefix("word:") for w in words["labels"]})
            if absent:
                raise ValueError(f"{type(self).__name__}: no caption of split {split!r} has the word {absent[0]!r}")
            return [*tags, *categories, *(f"word:{w}" for w in self.words)]
        if self.num_words and len(words):
            captioned = split_texts(self.source.corpus, split, ["caption"])["video_id"].n_unique()
            words = words.filter(pl.col("len") <= COMMON * captioned)
        return [*tags, *categories, *words["labels"].head(self.num_words)]

    def facts(self) -> dict[str, Any]:
        return {"id2label": dict(enumerate(self.labels))}

    def _marked(self, numbers: np.ndarray) -> Tensor:
        """``(B, N)`` float32, 1 for the labels of each example's video."""
        labels = torch.zeros(len(numbers), len(self.labels))
        for row, n in enumerate(numbers):
            labels[row, torch.from_numpy(self._labels[n])] = 1.0
        return labels


def words_of(caption: str) -> list[str]:
    """The words of a caption in small letters."""
    return WORD.findall(caption.lower())
