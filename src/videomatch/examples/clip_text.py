"""A text and the frames of its time: what a text and video encoder is pretrained on, on speech, and finetuned on.

Source: the pretraining of CNVid (Gan et al., CVPR 2023, published code), which SNP-S3 (T-CSVT 2023) shares.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch

from videomatch.data.content_words import content_tokens
from videomatch.data.language import WORD
from videomatch.data.tokenize import plain_ids, token_batch
from videomatch.examples import Batch, check_rows, tensors
from videomatch.examples._bases import CaptionExamples
from videomatch.examples.caption_video import recall_sum
from videomatch.examples.video_text import mask_tokens


def windows(
    starts: np.ndarray, ends: np.ndarray, words: np.ndarray, video: np.ndarray, *, min_words: int, min_seconds: float
) -> np.ndarray:
    """Runs ``(W, 2)``, first and last, of the lines of speech of each video, of none twice, ordered.

    Each line grows until it has ``min_words`` words and ``min_seconds`` seconds, or is all of its video's lines: at
    every step by the neighbour with which it is shorter, of equals the earlier one. Lines ``(N,)`` are in order of
    video and time; ``ends`` may overlap the next ``starts``.
    """
    total = np.concatenate([[0], np.cumsum(words)])
    number = np.arange(len(starts))
    low, high = np.searchsorted(video, video, "left"), np.searchsorted(video, video, "right") - 1
    first, last = number.copy(), number.copy()
    while True:
        short = (total[last + 1] - total[first] < min_words) | (ends[last] - starts[first] < min_seconds)
        grows = np.flatnonzero(short & ((first > low) | (last < high)))
        if not len(grows):
            return np.unique(np.stack([first, last], 1), axis=0)
        f, n = first[grows], last[grows]
        left, right = f > low[grows], n < high[grows]
        earlier = np.where(left, ends[n] - starts[np.maximum(f - 1, 0)], np.inf)
        later = np.where(right, ends[np.minimum(n + 1, len(ends) - 1)] - starts[f], np.inf)
        takes_earlier = earlier <= later
        first[grows] -= takes_earlier
        last[grows] += ~takes_earlier


@dataclass(kw_only=True, eq=False)
class ClipText(CaptionExamples):
    """A window of a video's speech, or a text of another kind, and the frames from its start to its end, or all where
    it has no times. An epoch visits at most ``per_video`` windows of a video, other ones in the next.

    Batch: ``frames`` (B, clips, clip_frames, D) float32, or (…, height, width, 3) uint8 of pictures: the time in so
    many equal clips, evenly spaced frames of each (the same again where it has fewer); ``input_ids`` and
    ``attention_mask`` (B, T); ``video`` (B,), equal for examples of one video. With ``mask_tokens``, ``masked_ids`` and
    ``token_labels`` (B, T) of :func:`videomatch.examples.video_text.mask_tokens`. With ``false_texts``, ``false_ids``
    and ``false_mask`` (B, T'): a text of another video. With ``content_words``, their positions (B, K), see
    :func:`chosen_words`.

    Args:
        texts: kinds of texts; lines of speech (``asr``) with times grow to windows of ``min_words`` and
            ``min_seconds`` (:func:`windows`).
        max_length: tokens at most, [CLS] and [SEP] included; in training those at a random place of a longer text.
        mask_tokens: rate of masked language modelling; 0 for none.
        mask_content: content words are masked first (SNP-S3).
    """

    metrics: ClassVar[Mapping[str, Callable[..., float]]] = {"R@sum": recall_sum}
    validates_once = True

    expert: str
    texts: Sequence[str] = ("asr", "title")
    per_video: int = 5
    min_words: int = 5
    min_seconds: float = 5.0
    clips: int = 4
    clip_frames: int = 1
    max_length: int = 50
    mask_tokens: float = 0.15
    mask_content: bool = False
    false_texts: bool = True
    content_words: int = 0
    #: ids of tokens that are content words, by the texts of the first split
    content: np.ndarray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("per_video", "clips", "clip_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"clip_text: {name} {getattr(self, name)}, expected at least 1")
        if self.content_words < 0 or (self.mask_content and not self.mask_tokens):
            given = f"content_words {self.content_words}, mask_content {self.mask_content}"
            raise ValueError(f"clip_text: {given}, expected a number, and mask_content only with mask_tokens")
        if self.max_length < 3 or not 0 <= self.mask_tokens <= 1:
            given = f"max_length {self.max_length}, mask_tokens {self.mask_tokens}"
            raise ValueError(f"clip_text: {given}, expected at least 3 tokens and a rate from 0 to 1")
        if len(self._store.shape) not in (1, 3):
            check_rows(self._store, 1, "vectors, or pictures (height, width, 3)")
        ids = [getattr(self._tokenizer, f"{name}_token_id") for name in ("cls", "sep", "mask")]
        if None in ids:
            raise ValueError(
                "clip_text needs a tokenizer with [CLS], [SEP] and [MASK], like `tokenizer: {style: bert}`"
            )

    def _select(self, split: str | Sequence[str]) -> None:
        texts = self._texts(split)
        listed = texts["video_id"].unique(maintain_order=True).to_list()
        self.videos = self._found(self.usable(listed), listed, split)
        if self.content is None and (self.mask_content or self.content_words):
            self.content = content_tokens(texts, self._tokenizer)
        number = pl.col("video_id").replace_strict(self.videos, range(len(self.videos)), default=None)
        timed = pl.col("start").is_finite() & pl.col("end").is_finite()
        rows = texts.with_columns(
            video=number,
            words=pl.col("text").str.count_matches(WORD.pattern),
            grows=(timed & (pl.col("kind") == "asr")).fill_null(False),
            **{
                side: pl.when(timed).then(pl.col(side)).otherwise(float("nan")).fill_nan(None)
                for side in ("start", "end")
            },
        ).filter(pl.col("video").is_not_null())
        rows = rows.sort("grows", "video", "start", "end", "text_id", descending=[True, *[False] * 4])
        lines = rows.filter("grows")
        columns = (lines[name].to_numpy() for name in ("start", "end", "words", "video"))
        grown = windows(*columns, min_words=self.min_words, min_seconds=self.min_seconds)
        others = np.arange(len(lines), len(rows))
        runs = np.concatenate([grown, np.stack([others, others], 1)])
        videos = rows["video"].to_numpy()[runs[:, 0]]
        order = np.argsort(videos, kind="stable")
        self._runs, self._of = runs[order], videos[order]
        self._counts = np.bincount(self._of, minlength=len(self.videos))
        self._lines = rows["text"]
        self._times = rows.select("start", "end").to_numpy()

    def _count(self) -> int:
        return int(np.minimum(self._counts, self.per_video).sum())

    def __len__(self) -> int:
        return self._count()

    def epoch(self, rng: np.random.Generator) -> np.ndarray:
        """At most ``per_video`` windows of each video, in rounds with one of each."""
        order = np.lexsort((rng.random(len(self._of)), self._of))
        place = np.arange(len(order)) - np.repeat(np.cumsum(self._counts) - self._counts, self._counts)
        rounds = [rng.permutation(order[place == n]) for n in range(min(self.per_video, int(self._counts.max())))]
        return np.concatenate(rounds)

    def derived_config(self) -> dict[str, Any]:
        ids = {f"{name}_token_id": getattr(self._tokenizer, f"{name}_token_id") for name in ("pad", "sep")}
        sizes = {"max_tokens": self.max_length, "max_clips": self.clips}
        if len(self._store.shape) == 1:
            sizes["frame_dim"] = self._store.shape[0]
        return {"vocab_size": len(self._tokenizer), **ids, **sizes}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        videos, runs = self._of[numbers], self._runs[numbers]
        times = np.stack([self._times[runs[:, 0], 0], self._times[runs[:, 1], 1]], axis=1)
        batch = {
            "frames": self._frames([self.videos[n] for n in videos], times),
            "video": torch.from_numpy(videos.astype(np.int64)),
            **self._encoded(numbers, rng),
        }
        ids, tokenizer = batch["input_ids"].numpy(), self._tokenizer
        content = None if self.content is None else np.isin(ids, self.content)
        if self.content_words and content is not None:
            chosen = chosen_words(~np.isin(ids, tokenizer.all_special_ids), content, self.content_words, rng)
            batch["content_words"] = torch.from_numpy(chosen)
        if self.mask_tokens:
            options = {"rate": self.mask_tokens, "content": content if self.mask_content else None}
            masked, labels = mask_tokens(ids, tokenizer, **options, rng=rng)
            batch |= tensors({"masked_ids": masked, "token_labels": labels})
        if self.false_texts:
            if len(self.videos) < 2:
                raise ValueError("clip_text: false_texts needs texts of two videos or more")
            step = 1 + (rng.random(len(numbers)) * (len(self.videos) - 1)).astype(np.int64)
            others = (videos + step) % len(self.videos)
            picked = (np.cumsum(self._counts) - self._counts)[others]
            picked = picked + (rng.random(len(numbers)) * self._counts[others]).astype(np.int64)
            false = self._encoded(picked, rng)
            batch |= {"false_ids": false["input_ids"], "false_mask": false["attention_mask"]}
        return batch

    def read_videos(self, ids: Sequence[str]) -> Batch:
        return {"frames": self._frames(ids, np.full((len(ids), 2), np.nan))}

    def frame_times(self, video: str) -> np.ndarray | None:
        with contextlib.suppress(ValueError):  # released features may have no times
            times = self._store.times(video)
            rows = clip_rows(len(times), self.clips, self.clip_frames)
            return np.stack([times[rows[:, 0], 0], times[rows[:, -1], 1]], axis=1)

    def _encoded(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        """``input_ids`` and ``attention_mask`` of windows: in training at a random place, else from the start."""
        texts = [" ".join(self._lines[first : last + 1]) for first, last in self._runs[numbers].tolist()]
        room, tokenizer, rows = self.max_length - 2, self._tokenizer, []
        draws = rng.random(len(texts)) * self.is_training
        for ids, draw in zip(plain_ids(tokenizer, texts), draws, strict=True):
            first = int(draw * (max(0, len(ids) - room) + 1))
            rows.append([tokenizer.cls_token_id, *ids[first : first + room], tokenizer.sep_token_id])
        return token_batch(tokenizer, rows)

    def _frames(self, ids: Sequence[str], times: np.ndarray) -> torch.Tensor:
        """``(B, clips, clip_frames, D)`` of the frames whose middle is in these times, or of the nearest one."""
        values, starts, lengths = self._gathered(ids)
        is_timed = ~np.isnan(times[:, 0])
        middles = self._gathered(ids, "times")[0].mean(1) if is_timed.any() else np.zeros(0)
        rows = []
        for start, length, (begin, end), timed in zip(starts, lengths, times, is_timed, strict=True):
            low, high = 0, int(length)
            if timed:
                own = middles[start : start + length]
                low, high = np.searchsorted(own, (begin, end)).tolist()
                if low == high:
                    low = int(np.abs(own - (begin + end) / 2).argmin())
                    high = low + 1
            rows.append(start + low + clip_rows(high - low, self.clips, self.clip_frames))
        frames = values[np.stack(rows)]
        return torch.from_numpy(frames if frames.dtype == np.uint8 else frames.astype(np.float32, copy=False))


def clip_rows(length: int, clips: int, frames: int) -> np.ndarray:
    """Positions ``(clips, frames)`` of frames of ``length``: of equal clips, the middles of equal parts of each."""
    return ((np.arange(clips * frames) + 0.5) * length / (clips * frames)).astype(np.int64).reshape(clips, frames)


def chosen_words(words: np.ndarray, content: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions ``(B, count)`` of random content words of texts ``(B, T)``: the same again if there are fewer, other
    words if there are none, and the first tokens of a text without words (SNP-S3, published code)."""
    number = content.sum(1)
    content = np.where((number > 0)[:, None], content, words)
    number = np.where(number > 0, number, words.sum(1))
    order = np.argsort(rng.random(words.shape) + ~content, axis=1)
    places = np.arange(count) % np.maximum(number, 1)[:, None]
    first = np.arange(count) % words.shape[1]
    return np.where((number > 0)[:, None], np.take_along_axis(order, places, axis=1), first)
