"""Base classes of kinds of examples: captions or labels of a video, a whole video, a judged pair of copies."""

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

from videomatch.common.vectors import padded, stacked
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.corpus import joined_texts, pooled_ids, split_texts
from videomatch.data.pairs import judged_pairs, paired_ids
from videomatch.data.tokenize import encode_parts
from videomatch.examples import Batch, Examples, check_rows, frame_index, tensors
from videomatch.localisation import intervals
from videomatch.localisation.maps import boxes_by_pair
from videomatch.metrics.segments import QUERY_END, QUERY_START, REFERENCE_END, REFERENCE_START

#: kinds of texts in the order of a sequence (options are sorted on their way to a job)
ORDER = ("title", "asr", "ocr", "caption", "query")
#: ids where there is no text and so no tokenizer
_NO_TEXT = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}
WORD = re.compile(r"\w[\w'-]*")


@dataclass(kw_only=True, eq=False)
class CaptionExamples(Examples):
    """Videos with their captions, or other ``texts``, cut to ``max_length`` tokens (start and end included); videos
    without one are left out. With a ``filter``, a system that scores pairs, the best share ``keep`` of a split's texts
    is taken."""

    texts: Sequence[str] = ("caption",)
    max_length: int
    filter: str | None = None
    keep: float = 1.0

    def __post_init__(self) -> None:
        if self.source.tokenizer is None:
            raise ValueError(f"{type(self).__name__}: captions need a tokenizer; the system names none")
        self._tokenizer = self.source.tokenizer

    @classmethod
    def vocabulary(cls, corpus: Path, options: Mapping[str, Any]) -> list[str]:
        splits, kinds = options.get("split", cls.split), options.get("texts", cls.texts)
        return split_texts(corpus, splits, kinds)["text"].to_list()

    def _texts(self, split: str | Sequence[str]) -> pl.DataFrame:
        """The texts of a split that the filter leaves, ordered by video and id."""
        texts = split_texts(self.source.corpus, split, self.texts)
        if self.source.scores is None:
            return texts
        scores = tables.read("scores", self.source.scores).select("text_id", "score")
        scored = texts.join(scores, on="text_id", maintain_order="left")
        lost = [kind for kind in texts["kind"].unique().sort() if scored.filter(kind=kind).is_empty()]
        if lost:
            raise ValueError(
                f"{type(self).__name__}: filter {self.filter!r} has no score of a text of kind {lost[0]!r}"
            )
        best = scored.sort("score", "text_id", descending=[True, False]).head(round(self.keep * len(scored)))
        return best.sort("video_id", "text_id").drop("score")

    def _select(self, split: str | Sequence[str]) -> None:
        texts = self._texts(split)
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

    def _text_config(self) -> dict[str, Any]:
        """Size of the vocabulary and special ids, as options of a text encoder's configuration."""
        ids = {f"{name}_token_id": getattr(self._tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
        return {"vocab_size": len(self._tokenizer), **{name: i for name, i in ids.items() if i is not None}}


@dataclass(kw_only=True, eq=False)
class TaggedExamples(Examples):
    """Example ``n`` of a split is a part of its video ``n``, with the labels of the video.

    Labels are the ``num_tags`` most frequent tags of the first split (equally frequent ones by name), its
    ``categories``, and ``words`` of its captions (Chinese text between two marks is one word), named ``tag:…``,
    ``category:…`` and ``word:…``. ``facts`` are factors of the table of that name, each of whose values is a label
    ``fact:factor=value``: what a corpus knows, as ImageNet knows objects and Kinetics actions.
    """

    #: what the labels of tags begin with
    TAG: ClassVar[str] = "tag:"

    expert: str | None = "frames"
    num_tags: int = 64
    words: Sequence[str] = ()
    facts: Sequence[str] = ()
    categories: bool = True
    labels: list[str] = field(init=False, default_factory=list)

    def _select(self, split: str | Sequence[str]) -> None:
        ids = pooled_ids(self.source.corpus, split)
        listed = corpora.videos(self.source.corpus).filter(pl.col("video_id").is_in(ids))["video_id"].to_list()
        self.videos = self._found(self.usable(listed), listed, split)
        self._select_labels(listed, self.videos, split)

    def _select_labels(self, counted: Sequence[str], ids: Sequence[str], split: str | Sequence[str]) -> None:
        """Choose the labels by the videos that are ``counted``, unless they are known, and find those of ``ids``."""
        named = self._named(split).filter(pl.col("video_id").is_in(counted))
        if not self.labels:
            self.labels = self._chosen(named, split)
            if not self.labels:
                raise ValueError(f"{type(self).__name__}: no video of split {split!r} has a tag or a category")
        numbers = pl.element().replace_strict(self.labels, range(len(self.labels)), default=None, return_dtype=pl.Int32)
        lists = named.group_by("video_id").agg("label")
        own = pl.DataFrame({"video_id": ids}).join(lists, on="video_id", how="left", maintain_order="left")["label"]
        self._is_labelled = own.is_not_null().to_numpy()
        self._labels = own.fill_null([]).list.eval(numbers.drop_nulls())

    def _named(self, split: str | Sequence[str]) -> pl.DataFrame:
        """video_id, kind and label: each label of every video once; null for a video without tags, as far as known."""
        videos = corpora.videos(self.source.corpus)
        tags = videos.select("video_id", label="tags").drop_nulls().explode("label", empty_as_null=True)
        found = {"tag": tags.with_columns(label=self.TAG + pl.col("label"))}
        if self.categories:
            found["category"] = videos.select("video_id", label="category:" + pl.col("category"))
        if self.words:
            words = pl.col("text").map_elements(lambda text: WORD.findall(text.lower()), pl.List(pl.String))
            captions = split_texts(self.source.corpus, split, ["caption"]).select("video_id", label=words)
            found["word"] = captions.explode("label").with_columns(label="word:" + pl.col("label"))
        if self.facts:
            known = tables.read("facts", self.source.corpus).filter(pl.col("factor").is_in(list(self.facts)))
            found["fact"] = known.select(video_id="id", label="fact:" + pl.col("factor") + "=" + pl.col("value"))
        has_label = pl.col("label").is_not_null() | (pl.col("kind") == "tag")
        return pl.concat([r.with_columns(kind=pl.lit(kind)).filter(has_label).unique() for kind, r in found.items()])

    def _chosen(self, named: pl.DataFrame, split: str | Sequence[str]) -> list[str]:
        """The labels, those of one kind together, from the most frequent on (categories by name)."""
        counts = named.drop_nulls().group_by("kind", "label").len().sort("len", "label", descending=[True, False])
        tags, categories, words, facts = (counts.filter(kind=kind) for kind in ("tag", "category", "word", "fact"))
        if absent := sorted(set(self.words).difference(words["label"].str.strip_prefix("word:"))):
            raise ValueError(f"{type(self).__name__}: no caption of split {split!r} has the word {absent[0]!r}")
        chosen = [f"word:{word}" for word in self.words]
        return [*tags["label"].head(self.num_tags), *categories["label"].sort(), *chosen, *facts["label"].sort()]

    def derived_config(self) -> dict[str, Any]:
        return {"id2label": dict(enumerate(self.labels))}

    def _marked(self, numbers: np.ndarray) -> Tensor:
        """``(B, N)`` float32, 1 for the labels of each example's video."""
        own = self._labels.gather(numbers)
        rows = np.repeat(np.arange(len(numbers)), own.list.len().to_numpy())
        labels = np.zeros((len(numbers), len(self.labels)), np.float32)
        labels[rows, own.explode().drop_nulls()] = 1.0
        return torch.from_numpy(labels)


@dataclass(kw_only=True, eq=False)
class VideoExamples(Examples):
    """Whole videos: their frame features and texts as one sequence for a joint encoder.

    A row of tokens begins with ``[CLS] [SEP]`` in the layout ``frames_inside`` (the model puts the frames between the
    two) and with ``[CLS]`` in ``frames_first`` (the frames come before it); each kind of text follows, cut to its own
    budget, with a ``[SEP]`` of its own even where it is empty. Texts are tokenised batch by batch.

    Args:
        texts: kind of text -> tokens of it at most, without special ones; empty for no text.
        max_frames: frames of a video at most, longer ones are subsampled evenly (:func:`frame_index`); 0 for none.
    """

    #: roles of the videos whose texts the tokenizer is trained on
    ROLES: ClassVar[Sequence[str]] = ("reference",)

    expert: str | None = None
    texts: Mapping[str, int]
    layout: Literal["frames_inside", "frames_first"] = "frames_inside"
    max_frames: int = 32

    def __post_init__(self) -> None:
        tokenizer, texts, max_frames = self.source.tokenizer, self.texts, self.max_frames
        odd = [kind for kind, budget in texts.items() if kind not in ORDER or budget < 1]
        if odd:
            known = ", ".join(ORDER)
            raise ValueError(f"texts {odd[0]!r}: {texts[odd[0]]}, expected {known}, each with at least 1 token")
        self.texts = {kind: texts[kind] for kind in ORDER if kind in texts}
        if max_frames < 0 or not (max_frames or texts):
            raise ValueError(f"max_frames {max_frames} with texts {dict(texts)}: nothing of a video would be read")
        if max_frames:
            check_rows(self._store, 1, "vectors")
        self._ids = _NO_TEXT
        if texts or tokenizer is not None:
            if tokenizer is None or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
                raise ValueError("texts need a tokenizer with [CLS] and [SEP], like `tokenizer: {style: bert}`")
            self._ids = {name: getattr(tokenizer, name) for name in _NO_TEXT}
        self._start = [self._ids["cls_token_id"], self._ids["sep_token_id"]]
        if self.layout == "frames_first":
            self._start.pop()

    @classmethod
    def vocabulary(cls, corpus: Path, options: Mapping[str, Any]) -> list[str]:
        kinds = list(options.get("texts") or {})
        return split_texts(corpus, options.get("split", cls.split), kinds, cls.ROLES)["text"].to_list()

    def derived_config(self) -> dict[str, Any]:
        return {
            "vocab_size": len(self.source.tokenizer or _NO_TEXT),
            **self._ids,
            "frame_dim": self._store.shape[0] if self.max_frames else 1,
            "max_frames": self.max_frames,
            "max_tokens": len(self._start) + sum(self.texts.values()) + len(self.texts),
            "layout": self.layout,
        }

    def usable(self, ids: Iterable[str]) -> list[str]:
        """Those of ``ids`` that have a frame (if frames are read) or a text that is not empty, in the order given."""
        return self._usable_rows(ids)["video_id"].to_list()

    def read_videos(self, ids: Sequence[str]) -> Batch:
        rows = self._usable_rows(ids)
        if len(rows) < len(ids):
            lost = next(i for i in ids if i not in set(rows["video_id"]))
            raise KeyError(f"video {lost!r} has neither frames nor text")
        return self._read(rows)

    def _usable_rows(self, ids: Iterable[str]) -> pl.DataFrame:
        """Rows of :meth:`_table` in the order of the ids; those that cannot be used are left out."""
        wanted = pl.DataFrame({"video_id": list(ids)}, schema={"video_id": pl.String})
        return wanted.join(self._whole, on="video_id", maintain_order="left")

    @functools.cached_property
    def _whole(self) -> pl.DataFrame:
        """All usable videos of the corpus."""
        return self._table(corpora.videos(self.source.corpus)["video_id"])

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
            parts, budgets = [rows[kind].to_list() for kind in self.texts], list(self.texts.values())
            tokens = encode_parts(self.source.tokenizer, parts, budgets, start=self._start)
        else:
            ids = torch.tensor(self._start).repeat(len(rows), 1)
            tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return {"frames": frames, "frame_mask": frame_mask, **tokens}

    def _frames(self, ids: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames (B, F, D) float32, zeros where a video has none, and which are real (B, F)."""
        if not self.max_frames:
            return torch.zeros(len(ids), 0, 1), torch.zeros(len(ids), 0, dtype=torch.bool)
        lengths = self._store.rows(ids)
        values, _ = self._store.gather([i for i, length in zip(ids, lengths, strict=True) if length])
        if lengths.max(initial=0) > self.max_frames:
            starts = np.cumsum(lengths) - lengths
            kept = [start + frame_index(int(n), self.max_frames) for start, n in zip(starts, lengths, strict=True)]
            values, lengths = values[np.concatenate(kept)], np.minimum(lengths, self.max_frames)
        frames, mask = padded(values, lengths)
        return torch.from_numpy(frames).float(), torch.from_numpy(mask)


@dataclass(kw_only=True, eq=False)
class CopyExamples(Examples):
    """The judged pairs of a protocol whose videos have features, and the segments that they share; positive pairs
    without labelled segments are left out. An epoch of training visits a pair ``per_pair`` times."""

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
        boxes = boxes_by_pair(tables.read("segments", self.source.corpus))
        rows = judged_pairs(self.source.corpus, split).iter_rows()
        judged = sorted({(q, r) for q, r, grade in rows if grade <= 0 or (q, r) in boxes})
        self._pairs = [pair for pair in judged if self._store.rows(pair).all()]
        if not self._pairs:
            raise ValueError(f"{type(self).__name__}: none of the {len(judged)} pairs of split {split!r} has features")
        self._truth = {pair: boxes.get(pair, np.zeros((0, 4))) for pair in self._pairs}

    @classmethod
    def _videos_of(cls, corpus: Path, split: str | Sequence[str], options: Mapping[str, Any]) -> list[str]:
        return paired_ids(judged_pairs(corpus, split)) if options.get("expert", cls.expert) else []

    def _count(self) -> int:
        return len(self._pairs) * (self.per_pair if self.is_training else 1)

    def _features(self, pair: tuple[str, str]) -> list[np.ndarray]:
        return [np.asarray(self._store[video], np.float32) for video in pair]

    def _segments(self, pair: tuple[str, str]) -> np.ndarray:
        """True segments of a pair, in frames."""
        truth = intervals.to_frames(self._truth[pair], *(intervals.filled(self._store.times(v)) for v in pair))
        lengths = truth[:, QUERY_END] - truth[:, QUERY_START], truth[:, REFERENCE_END] - truth[:, REFERENCE_START]
        return truth[np.minimum(*lengths) > 0]


def collated_segments(boxes: Sequence[np.ndarray]) -> Batch:
    """``segments`` and ``segments_mask`` of pairs."""
    segments, is_segment = stacked([some.astype(np.float32) for some in boxes], max(1, *map(len, boxes)))
    segments[~is_segment, 1::2] = 1  # the padding has a length, so that no division by 0 follows
    return tensors({"segments": segments, "segments_mask": is_segment})


def backwards(boxes: np.ndarray, query_length: int, reference_length: int) -> np.ndarray:
    """Segments ``(M, 4)`` in frames after both videos were turned round."""
    ends = np.array([query_length, query_length, reference_length, reference_length])
    return ends - boxes[:, [QUERY_END, QUERY_START, REFERENCE_END, REFERENCE_START]]
