"""Base classes of kinds of examples: captions, frames or labels of a video, a whole video, a judged pair of copies."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.joined import joined_texts
from videomatch.data.pairs import judged_pairs
from videomatch.data.tokenize import encode_parts
from videomatch.examples import Batch, Examples, frame_index, pooled_ids, split_texts
from videomatch.localisation import intervals
from videomatch.localisation.maps import boxes_by_pair
from videomatch.metrics.segments import QUERY_END, QUERY_START, REFERENCE_END, REFERENCE_START

Layout = Literal["frames_inside", "frames_first"]
#: kinds of texts in the order of a sequence (options are sorted on their way to a job)
ORDER = ("title", "asr", "ocr", "caption", "query")
#: ids of [PAD], [CLS] and [SEP] where there is no text and so no tokenizer
_NO_TEXT = (0, 1, 2)
WORD = re.compile(r"\w[\w'-]*")
#: words of more than this share of the captioned videos say nothing about one of them
COMMON = 0.5


def text_config(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Size of the vocabulary and special ids, as options of a text encoder's configuration."""
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return {"vocab_size": len(tokenizer), **{name: i for name, i in ids.items() if i is not None}}


@dataclass(kw_only=True, eq=False)
class CaptionExamples(Examples):
    """Videos with their captions; videos without a caption are left out.

    Args:
        max_length: tokens of a caption, start and end included; longer ones are cut.
    """

    max_length: int

    def __post_init__(self) -> None:
        if self.source.tokenizer is None:
            raise ValueError(f"{type(self).__name__}: captions need a tokenizer; the system names none")
        self._tokenizer = self.source.tokenizer

    def _select(self, split: str | Sequence[str]) -> None:
        texts = split_texts(self.source.corpus, split, ["caption"])
        captioned = texts["video_id"].unique(maintain_order=True).to_list()
        self.videos = self._found(self.usable(captioned), captioned, split)
        self._set_captions(texts.filter(pl.col("video_id").is_in(self.videos)))

    def _set_captions(self, texts: pl.DataFrame) -> None:
        """Captions of ``videos``, in their order."""
        self._captions = texts
        self._counts = texts.group_by("video_id", maintain_order=True).len()["len"].cast(pl.Int64).to_numpy()

    def _sampled_captions(self, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Positions of a random caption of each video."""
        first = np.cumsum(self._counts) - self._counts
        return first[numbers] + (rng.random(len(numbers)) * self._counts[numbers]).astype(np.int64)

    def _read_captions(self, rows: np.ndarray) -> Batch:
        return self.read_texts(self._captions["text"].gather(rows).to_list())

    def read_texts(self, texts: Sequence[str]) -> Batch:
        encoded = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}  # pyright: ignore[reportReturnType]


@dataclass(kw_only=True, eq=False)
class FrameExamples(Examples):
    """Example ``n`` of a split is a frame of its video ``n``, sampled anew each time."""

    expert: str = "frames"

    def _frames(self, ids: Sequence[str], rng: np.random.Generator, windows: np.ndarray | None = None) -> Tensor:
        """A random frame of each video, inside its window ``(B, 2)`` of seconds if one is given and holds a frame."""
        unique, which = np.unique(np.asarray(ids), return_inverse=True)
        values, lengths = self._store.gather(unique.tolist())
        starts = np.cumsum(lengths) - lengths
        draws = rng.random(len(ids))
        rows = starts[which] + (draws * lengths[which]).astype(np.int64)
        has_window = np.zeros(0, np.int64) if windows is None else np.flatnonzero(np.isfinite(windows).all(1))
        if windows is not None and len(has_window):
            middles = self._store.gather(unique.tolist(), "times")[0].mean(1)
            for n in has_window:
                first, last = starts[which[n]], starts[which[n]] + lengths[which[n]]
                own = middles[first:last]
                inside = np.flatnonzero((own >= windows[n, 0]) & (own < windows[n, 1]))
                if len(inside):
                    rows[n] = first + inside[int(draws[n] * len(inside))]
        return torch.from_numpy(values[rows])


@dataclass(kw_only=True, eq=False)
class TaggedExamples(Examples):
    """Example ``n`` of a split is a part of its video ``n``, with the labels of the video.

    Labels are the most frequent tags of the first split, all its categories, and words of its captions, named
    ``tag:…``, ``category:…`` and ``word:…``.

    Args:
        num_tags: tags at most.
        num_words: words at most: the most frequent of those that at most half of the captioned videos have (the
            concepts of the hybrid space of dual encoding, Dong et al. 2021, arXiv:2009.05381; here captions are split
            at everything but letters, so Chinese text between two marks is one word).
        words: the words to take instead.
        categories: whether categories are labels.
    """

    expert: str = "frames"
    num_tags: int = 64
    num_words: int = 0
    words: Sequence[str] = ()
    categories: bool = True
    labels: list[str] = field(init=False, default_factory=list)

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


@dataclass(kw_only=True, eq=False)
class VideoExamples(Examples):
    """Examples that are whole videos: their frame features and texts as one sequence for a joint encoder.

    Tensors: B examples, F frames of D features, T tokens. A row of tokens begins with ``[CLS] [SEP]`` in the layout
    ``frames_inside`` (the model puts the frames between the two) and with ``[CLS]`` in ``frames_first`` (the frames
    come before it); each kind of text follows, cut to its own budget, with a ``[SEP]`` of its own even where it is
    empty. A video's id and texts are held in memory; frames are read, and texts tokenised, batch by batch.

    Args:
        texts: kind of text -> tokens of it at most, without special ones; empty for no text.
        layout: ``frames_inside`` or ``frames_first``.
        max_frames: frames of a video at most, longer ones are subsampled evenly (:func:`frame_index`); 0 for none.
        pad: pad texts to all budgets together, not to the longest of the batch.

    Raises:
        ValueError: an option does not fit the others or the source.
    """

    #: roles of the videos whose texts the tokenizer is trained on
    ROLES: ClassVar[Sequence[str]] = ("reference",)

    expert: str | None = None
    texts: Mapping[str, int]
    layout: Layout = "frames_inside"
    max_frames: int = 32
    pad: bool = False

    def __post_init__(self) -> None:
        source, texts, max_frames = self.source, self.texts, self.max_frames
        odd = [kind for kind, budget in texts.items() if kind not in ORDER or budget < 1]
        if odd:
            known = ", ".join(ORDER)
            raise ValueError(f"texts {odd[0]!r}: {texts[odd[0]]}, expected {known}, each with at least 1 token")
        self.texts = {kind: texts[kind] for kind in ORDER if kind in texts}
        if self.layout not in ("frames_inside", "frames_first"):
            raise ValueError(f"layout {self.layout!r}, expected frames_inside or frames_first")
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
        self._start = [cls_id, sep_id] if self.layout == "frames_inside" else [cls_id]

    @classmethod
    def vocabulary(cls, corpus: Path, options: Mapping[str, Any]) -> list[str]:
        """Those of the kinds that are read, of the split to train on."""
        kinds = list(options.get("texts") or {})
        return split_texts(corpus, options.get("split", cls.split), kinds, cls.ROLES)["text"].to_list()

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


@dataclass(kw_only=True, eq=False)
class CopyExamples(Examples):
    """The judged pairs of a protocol whose videos have features, and the segments that they share.

    Positive pairs without labelled segments are left out.

    Args:
        split, validation: protocols.
        per_pair: how often an epoch of training visits a pair.
    """

    text_kinds = ()

    expert: str | None = None
    split: str | Sequence[str] = "copies_train"
    validation: str | None = "copies_val"
    per_pair: int = 1
    per_video: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        if self.per_pair < 1:
            raise ValueError(f"{type(self).__name__}: per_pair {self.per_pair}, expected at least 1")
        self._pairs: list[tuple[str, str]] = []
        self._truth: dict[tuple[str, str], np.ndarray] = {}

    def _select(self, split: str | Sequence[str]) -> None:
        keys = ["query_id", "reference_id"]
        segments = tables.read("segments", self.source.corpus)
        judged = judged_pairs(self.source.corpus, split).unique(keys).sort(keys)
        known = judged.join(segments.select(keys).unique(), on=keys, how="semi")
        judged = pl.concat([judged.filter(pl.col("grade") <= 0), known]).select(keys).unique().sort(keys)
        present = [self._store.rows(judged[c]) > 0 for c in keys]
        self._pairs = judged.filter(pl.Series(present[0] & present[1])).rows()
        if not self._pairs:
            raise ValueError(f"{type(self).__name__}: none of the {len(judged)} pairs of split {split!r} has features")
        boxes = boxes_by_pair(segments)
        self._truth = {pair: boxes.get(pair, np.zeros((0, 4))) for pair in self._pairs}

    def _count(self) -> int:
        return len(self._pairs) * (self.per_pair if self.is_training else 1)

    def _features(self, pair: tuple[str, str]) -> list[np.ndarray]:
        """Rows of the query and of the reference, float32."""
        return [np.asarray(self._store[video], np.float32) for video in pair]

    def _segments(self, pair: tuple[str, str]) -> np.ndarray:
        """True segments of a pair, in frames."""
        truth = intervals.to_frames(self._truth[pair], *(intervals.filled(self._store.times(v)) for v in pair))
        lengths = truth[:, QUERY_END] - truth[:, QUERY_START], truth[:, REFERENCE_END] - truth[:, REFERENCE_START]
        return truth[np.minimum(*lengths) > 0]


def collated_segments(shapes: Sequence[Sequence[int]], boxes: Sequence[np.ndarray]) -> Batch:
    """``query_mask`` and ``reference_mask`` of pairs with so many frames; ``segments`` and ``segments_mask``."""
    sizes = np.array(shapes)
    is_segment = np.arange(max(1, *map(len, boxes), 1)) < np.array([len(b) for b in boxes])[:, None]
    segments = np.zeros((*is_segment.shape, 4), np.float32)
    segments[..., 1::2] = 1  # the padding has a length, so that no division by 0 follows
    for n, some in enumerate(boxes):
        segments[n, : len(some)] = some
    masks = [np.arange(sizes[:, axis].max()) < sizes[:, axis, None] for axis in (0, 1)]
    arrays = {"query_mask": masks[0], "reference_mask": masks[1], "segments": segments, "segments_mask": is_segment}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
