"""A text with some of its tokens hidden: what a text encoder is pretrained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from videomatch.examples import Batch
from videomatch.examples._bases import CaptionExamples
from videomatch.examples.video_text import mask_tokens


@dataclass(kw_only=True, eq=False)
class MaskedText(CaptionExamples):
    """Each text of the kinds ``texts`` is an example.

    Batch: ``input_ids``, ``attention_mask`` and ``token_labels`` ``(B, T)``, -100 where a token is not to be guessed
    (:func:`videomatch.examples.video_text.mask_tokens`).
    """

    texts: Sequence[str] = ("title", "asr", "caption")
    max_length: int = 64
    mask_tokens: float = 0.15

    def _select(self, split: str | Sequence[str]) -> None:
        self._captions = self._texts(split)
        if self._captions.is_empty():
            raise ValueError(f"masked_text: split {split!r} has no {' or '.join(self.texts)}")

    def _count(self) -> int:
        return len(self._captions)

    def derived_config(self) -> dict[str, Any]:
        names = ("vocab_size", "pad_token_id")
        return {"text_length": self.max_length, **{name: self._text_config()[name] for name in names}}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        batch = self._read_captions(numbers)
        ids, labels = mask_tokens(batch["input_ids"].numpy(), self._tokenizer, rate=self.mask_tokens, rng=rng)
        return {**batch, "input_ids": torch.from_numpy(ids), "token_labels": torch.from_numpy(labels)}
