"""A caption and the frames of its video: what a dual encoder of sentences and videos learns from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from videomatch.common.vectors import padded
from videomatch.data.content_words import content_tokens
from videomatch.examples import Batch, check_rows, tensors
from videomatch.examples._bases import CaptionExamples
from videomatch.metrics import ranking
from videomatch.retrieval import exact


def recall_sum(video_embeds: Tensor, text_embeds: Tensor, video: Tensor) -> float:
    """R@1 + R@5 + R@10 of both directions, percent: dual encoding's measure of validation, of the embeddings (N, D) of
    captions and (N, D) or (N, levels, D) of their videos; a score is the mean over the levels."""
    videos, texts = video_embeds.double().reshape(len(video_embeds), -1).numpy(), text_embeds.double().numpy()
    _, first, owner = np.unique(video.numpy(), return_index=True, return_inverse=True)
    texts = np.tile(texts, videos.shape[1] // texts.shape[1])
    videos = videos[first]
    pairs = np.stack([np.arange(len(texts)), owner], axis=1)
    total = 0.0
    for queries, references, judged in ((texts, videos, pairs), (videos, texts, pairs[:, ::-1])):
        found = exact.search(queries, references, exact.Request(judged), device="cpu")
        total += ranking.metrics(judged[:, 0], found.better, found.equal, ks=(1, 5, 10))["R@sum"]
    return total


@dataclass(kw_only=True, eq=False)
class CaptionVideo(CaptionExamples):
    """A caption and the first frames of its video.

    Batch: ``frames`` (B, F, D) float32, zeros behind the last; ``frame_mask`` (B, F); ``frame_mean`` (B, D) of all
    frames, also those that were cut off; ``input_ids`` and ``attention_mask`` (B, T); ``video`` (B,), equal for
    examples of one video. (In the published dual encoding frames are half a second apart, so 64 are 32 seconds.)

    Args:
        captions: an epoch visits ``all`` captions of the split, or ``one`` of each video, drawn anew.
        content_words: how many content tokens the model is told (:mod:`videomatch.data.content_words`).
    """

    metrics: ClassVar[Mapping[str, Callable[..., float]]] = {"R@sum": recall_sum}

    expert: str
    max_frames: int = 64
    max_length: int = 77
    captions: Literal["all", "one"] = "all"
    content_words: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_frames < 1:
            raise ValueError(f"max_frames {self.max_frames}, expected at least 1")
        check_rows(self._store, 1, "vectors")

    def _count(self) -> int:
        return len(self._captions) if self.captions == "all" else len(self.videos)

    def derived_config(self) -> dict[str, Any]:
        found = {"frame_dim": self._store.shape[0], "vocab_size": len(self._tokenizer)}
        found |= {"max_frames": self.max_frames, "text_length": self.max_length}
        if self.content_words:
            found["content_tokens"] = content_tokens(self._captions, self._tokenizer, self.content_words).tolist()
        return found

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        rows = numbers if self.captions == "all" else self._sampled_captions(numbers, rng)
        videos = np.repeat(np.arange(len(self.videos)), self._counts)[rows]
        return {
            **self.read_videos([self.videos[n] for n in videos]),
            **self._read_captions(rows),
            "video": torch.from_numpy(videos),
        }

    def frame_times(self, video: str) -> np.ndarray | None:
        with contextlib.suppress(ValueError):  # released features may have none
            return self._store.times(video)[: self.max_frames]

    def read_videos(self, ids: Sequence[str]) -> Batch:
        unique, which = np.unique(np.asarray(ids), return_inverse=True)  # a video with several captions is read once
        values, lengths = self._store.gather(unique.tolist())
        values = values.astype(np.float32, copy=False)
        starts = np.cumsum(lengths) - lengths
        means = (np.add.reduceat(values, starts, axis=0) / lengths[:, None]).astype(np.float32)
        is_kept = np.arange(len(values)) - np.repeat(starts, lengths) < self.max_frames
        frames, mask = padded(values[is_kept], np.minimum(lengths, self.max_frames))
        return tensors({"frames": frames[which], "frame_mask": mask[which], "frame_mean": means[which]})
