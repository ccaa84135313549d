"""Base classes of kinds of examples: a frame of a video, the labels of a video, a whole video."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from videomatch.data import corpus as corpora
from videomatch.data.joined import joined_texts
from videomatch.data.tokenize import encode_parts
from videomatch.examples import Batch, Examples, Source, frame_index, pooled_ids, split_texts

Layout = Literal["frames_inside", "frames_first"]
#: kinds of texts in the order in which they stand in a sequence, whatever the order of the options (which are sorted on
#: their way to a job)
ORDER = ("title", "asr", "ocr", "caption", "query")
#: ids of [PAD], [CLS] and [SEP] where there is no text and so no tokenizer
_NO_TEXT = (0, 1, 2)
WORD = re.compile(r"\w[\w'-]*")
#: words of more than this share of the captioned videos say nothing about one of them
COMMON = 0.5


class FrameExamples(Examples):
    """Example ``n`` of a split is a frame of its video ``n``, sampled anew each time."""

    def _frames(self, ids: Sequence[str], rng: np.random.Generator, windows: np.ndarray | None = None) -> Tensor:
        """A random frame of each video, inside its window ``(B, 2)`` of seconds if one is given and holds a frame."""
        unique, which = np.unique(np.asarray(ids), return_inverse=True)
        values, lengths = self._store.gather(unique.tolist())
        starts = np.cumsum(lengths) - lengths
        draws = rng.random(len(ids))
        rows = starts[which] + (draws * lengths[which]).astype(np.int64)
        if windows is not None:
            times, _ = self._store.gather(unique.tolist(), "times")
            middles = times.mean(1)
            for n in np.flatnonzero(np.isfinite(windows).all(1)):
                first, last = starts[which[n]], starts[which[n]] + lengths[which[n]]
                own = middles[first:last]
                inside = np.flatnonzero((own >= windows[n, 0]) & (own < windows[n, 1]))
                if len(inside):
                    rows[n] = first + inside[int(draws[n] * len(inside))]
        return torch.from_numpy(values[rows])


class TaggedExamples(Examples):
    """Example ``n`` of a split is a part of its video ``n``, with the labels of the video.

    Labels are the most frequent tags of the first split and all its categories, named ``tag:…`` and ``category:…``; and
    where ``num_words`` is not 0 as many words of its captions, the most frequent of those that at most half of the
    captioned videos have: ``word:…`` (the concepts of the hybrid space of dual encoding, Dong et al. 2021,
    arXiv:2009.05381; here captions are split at everything but letters, so Chinese text between two marks is one
    word). ``words`` names those to take instead of the most frequent, for what can be heard or seen at all;
    ``categories: false`` leaves the categories out.
    """

    def __init__(
        self,
        source: Source,
        *,
        expert: str,
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
        super().__init__(source, expert=expert, split=split, validation=validation, per_video=per_video)

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
                "video_id", words=pl.col("text").map_elements(_words_of, pl.List(pl.String))
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

    def derived_config(self) -> dict[str, Any]:
        return {"id2label": dict(enumerate(self.labels))}

    def _marked(self, numbers: np.ndarray) -> Tensor:
        """``(B, N)`` float32, 1 for the labels of each example's video."""
        labels = torch.zeros(len(numbers), len(self.labels))
        for row, n in enumerate(numbers):
            labels[row, torch.from_numpy(self._labels[n])] = 1.0
        return labels


def _words_of(caption: str) -> list[str]:
    return WORD.findall(caption.lower())


class VideoExamples(Examples):
    """Examples that are whole videos: their frame features and texts as one sequence for a joint encoder.

    Tensors: B examples, F frames of D features, T tokens. A row of tokens begins with ``[CLS] [SEP]`` in the layout
    ``frames_inside`` (the model puts the frames between the two) and with ``[CLS]`` in ``frames_first`` (the frames
    come before it); each kind of text follows, cut to its own budget, with a ``[SEP]`` of its own even where it is
    empty. A video's id and texts are held in memory; frames are read, and texts tokenised, batch by batch.

    Args:
        source: with a store unless ``max_frames`` is 0, with a tokenizer unless ``texts`` is empty.
        texts: kind of text -> tokens of it at most, without special ones; empty for no text.
        layout: ``frames_inside`` or ``frames_first``.
        max_frames: frames of a video at most, longer ones are subsampled evenly
            (:func:`frame_index`); 0 for none.
        pad: pad texts to all budgets together, not to the longest of the batch.

    Raises:
        ValueError: an option does not fit the others or the source.
    """

    #: the split, and the roles of its videos, that the tokenizer is trained on where the options name none
    SPLIT = "train"
    ROLES: tuple[str, ...] = ("reference",)

    def __init__(
        self,
        source: Source,
        *,
        split: str | Sequence[str],
        validation: str | None,
        expert: str | None,
        texts: Mapping[str, int],
        layout: Layout,
        max_frames: int,
        pad: bool,
    ) -> None:
        super().__init__(source, expert=expert, split=split, validation=validation)
        self.layout, self.max_frames, self.pad = layout, max_frames, pad
        odd = [kind for kind, budget in texts.items() if kind not in ORDER or budget < 1]
        if odd:
            known = ", ".join(ORDER)
            raise ValueError(f"texts {odd[0]!r}: {texts[odd[0]]}, expected {known}, each with at least 1 token")
        self.texts = {kind: texts[kind] for kind in ORDER if kind in texts}
        if layout not in ("frames_inside", "frames_first"):
            raise ValueError(f"layout {layout!r}, expected frames_inside or frames_first")
        if max_frames < 0 or not (max_frames or texts):
            raise ValueError(f"max_frames {max_frames} with texts {dict(texts)}: nothing of a video would be read")
        if max_frames:
            self._check_rows(1, "vectors")
        special: tuple[Any, ...] = _NO_TEXT
        if texts:
            tokenizer = source.tokenizer
            if tokenizer is None or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
                raise ValueError("texts need a tokenizer with [CLS] and [SEP], like `tokenizer: {style: bert}`")
            special = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
        pad_id, cls_id, sep_id = special
        self._ids = {"pad_token_id": pad_id, "cls_token_id": cls_id, "sep_token_id": sep_id}
        self._start = [cls_id, sep_id] if layout == "frames_inside" else [cls_id]

    @classmethod
    def vocabulary(cls, corpus: Path, options: Mapping[str, Any]) -> list[str]:
        """Texts that a tokenizer is trained on: those of the kinds that are read, of the split to train on."""
        kinds = list(options.get("texts") or {})
        return split_texts(corpus, options.get("split", cls.SPLIT), kinds, cls.ROLES)["text"].to_list()

    def derived_config(self) -> dict[str, Any]:
        return {
            "vocab_size": len(self.source.tokenizer) if self.texts and self.source.tokenizer else len(_NO_TEXT),
            **self._ids,
            "frame_dim": self._dim,
            "max_frames": self.max_frames,
            "max_tokens": len(self._start) + sum(self.texts.values()) + len(self.texts),
            "layout": self.layout,
        }

    def usable(self, ids: Iterable[str]) -> list[str]:
        """Those of ``ids`` that have a frame (if frames are read) or a text that is not empty, in the order given."""
        wanted = pl.DataFrame({"video_id": list(ids)}, schema={"video_id": pl.String})
        return wanted.join(self._whole, on="video_id", how="semi", maintain_order="left")["video_id"].to_list()

    def read_videos(self, ids: Sequence[str]) -> Batch:
        """Videos for ``embed_videos``: frames (B, F, D) and frame_mask (B, F), input_ids and attention_mask (B, T).

        Raises:
            KeyError: a video is not usable.
        """
        known, wanted = self._whole["video_id"], pl.Series(list(ids), dtype=pl.String)
        rows = known.search_sorted(wanted).to_numpy()
        found = known.gather(np.minimum(rows, len(known) - 1)) == wanted
        if not found.all():
            raise KeyError(f"video {wanted.filter(~found)[0]!r} has neither frames nor text")
        return self._read(self._whole[rows])

    @functools.cached_property
    def _whole(self) -> pl.DataFrame:
        """All usable videos of the corpus, ordered by id."""
        return self._table(corpora.videos(self.source.corpus)["video_id"])

    @property
    def _dim(self) -> int:
        return self._store.shape[0] if self.max_frames else 1

    def _table(self, ids: Sequence[str] | pl.Series) -> pl.DataFrame:
        """video_id and a column of each kind of text, "" where there is none: those of ``ids`` to use, in order."""
        table = pl.DataFrame({"video_id": ids}, schema={"video_id": pl.String})
        usable = pl.Series(np.zeros(len(table), bool))
        if self.max_frames:
            usable |= pl.Series(self._store.rows(table["video_id"]) > 0)
        if self.texts:
            joined = joined_texts(self.source.corpus, list(self.texts), table["video_id"])
            table = table.join(joined, on="video_id", how="left", maintain_order="left").fill_null("")
            usable |= table.select(pl.any_horizontal(pl.col(*self.texts).str.strip_chars() != "")).to_series()
        return table.filter(usable).rechunk()

    def _read(self, rows: pl.DataFrame) -> Batch:
        """Rows of :meth:`_table` as tensors."""
        frames, frame_mask = self._frames(rows["video_id"].to_list())
        if self.texts and self.source.tokenizer is not None:
            parts = [rows[kind].to_list() for kind in self.texts]
            budgets = list(self.texts.values())
            tokens = encode_parts(self.source.tokenizer, parts, budgets, start=self._start, pad=self.pad)
        else:
            ids = torch.tensor(self._start).repeat(len(rows), 1)
            tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return {"frames": frames, "frame_mask": frame_mask, **tokens}

    def _frames(self, ids: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames (B, F, D) float32, zeros where a video has none, and which are real (B, F)."""
        if not self.max_frames:
            return torch.zeros(len(ids), 0, self._dim), torch.zeros(len(ids), 0, dtype=torch.bool)
        lengths = self._store.rows(ids)
        there = np.flatnonzero(lengths)
        some = [ids[n] for n in there]
        if lengths.max(initial=0) <= self.max_frames:
            values, mask = self._store.batch(some)
        else:
            values, mask = self._subsampled(some)
        frames, frame_mask = torch.from_numpy(values).float(), torch.from_numpy(mask)
        if len(there) == len(ids):
            return frames, frame_mask
        at = torch.from_numpy(there)
        return (
            frames.new_zeros(len(ids), *frames.shape[1:]).index_copy_(0, at, frames),
            frame_mask.new_zeros(len(ids), mask.shape[1]).index_copy_(0, at, frame_mask),
        )

    def _subsampled(self, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
        values, lengths = self._store.gather(ids)
        starts = np.cumsum(lengths) - lengths
        kept = [first + frame_index(int(n), self.max_frames) for first, n in zip(starts, lengths, strict=True)]
        mask = np.arange(self.max_frames) < np.minimum(lengths, self.max_frames)[:, None]
        frames = np.zeros((*mask.shape, values.shape[1]), values.dtype)
        frames[mask] = values[np.concatenate(kept)]
        return frames, mask
