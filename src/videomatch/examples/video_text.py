"""A video, frames and texts, with parts hidden and its tags: what a joint encoder is pretrained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import PreTrainedTokenizerFast

from videomatch.data.corpus import pooled_ids
from videomatch.examples import Batch
from videomatch.examples._bases import TaggedExamples, VideoExamples

#: label of a token that is not to be guessed (what PyTorch's cross entropy leaves out)
IGNORED = -100
#: of the tokens to guess, this share becomes the mask token, and this share a random one; the rest stays
MASKED, RANDOM = 0.8, 0.1
#: with content words, a share of a token from which one more is drawn
ROUNDED_UP = 0.3


def mask_tokens(
    input_ids: np.ndarray,
    tokenizer: PreTrainedTokenizerFast,
    *,
    rate: float,
    rng: np.random.Generator,
    content: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """BERT's masked language modelling (Devlin et al. 2019, arXiv:1810.04805) as transformers' collator does it: of
    the ``input_ids`` (B, T) that are not special (nor unknown, as for the AIAC 2021 winners), each is drawn with
    probability ``rate``. Of those drawn, 80 % become the mask token, 10 % any token of the vocabulary (special ones
    included), 10 % stay. Returns ids with the masks, and labels (B, T): the original id where drawn, else -100.

    With ``content`` (B, T), which tokens are of content words, the masked significant semantic modelling of SNP-S3
    (Dong et al., IEEE T-CSVT 2023, published code): ``rate`` of each text's tokens is drawn, content words first; one
    of those is replaced by another content word of the batch.

    # Deviation: where a text has too few content words, the published code masks other positions than it drew and takes
    the mask token for the truth. It replaces a word by one of the same lemmas, if it knows some.
    """
    is_word = ~np.isin(input_ids, tokenizer.all_special_ids)
    if content is None:
        drawn = (rng.random(input_ids.shape) < rate) & is_word
    else:
        content = content & is_word
        wanted = rate * is_word.sum(1)
        wanted = np.floor(wanted) + (wanted % 1 >= ROUNDED_UP)
        first = np.argsort(rng.random(input_ids.shape) + ~content + ~is_word, axis=1)
        drawn = np.zeros_like(is_word)
        np.put_along_axis(drawn, first, np.arange(first.shape[1]) < wanted[:, None], axis=1)
    labels = np.where(drawn, input_ids, IGNORED)
    count = int(drawn.sum())
    fate, other = rng.random(count), rng.integers(0, len(tokenizer), count)
    if content is not None and content.any():
        other = np.where(content[drawn], rng.choice(input_ids[content], count), other)
    masked = input_ids.copy()
    mask_id: Any = tokenizer.mask_token_id
    masked[drawn] = np.where(fate < MASKED, mask_id, np.where(fate < MASKED + RANDOM, other, input_ids[drawn]))
    return masked, labels


def mask_frames(frame_mask: np.ndarray, *, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Which of the frames (B, F) the model sees as zeros, each with probability ``rate``: the AIAC 2021 winners' README
    says 0.15, their code draws with 0.9 x 0.15 = 0.135 (and 0.225 in the member with more masks)."""
    return (rng.random(frame_mask.shape) < rate) & frame_mask


@dataclass(kw_only=True, eq=False)
class VideoText(TaggedExamples, VideoExamples):
    """A whole video; which of its tokens and frames are hidden is drawn anew each time.

    Batch, beside ``frames`` (B, F, D) float32, ``frame_mask`` (B, F), ``input_ids`` and ``attention_mask`` (B, T), and
    without those whose rate or number is 0: ``token_labels`` (B, T), -100 where a token is not to be guessed;
    ``masked_frames`` (B, F) bool, hidden by the model; ``labels`` (B, N) float32 of the tags, zeros where none of a
    video's tags is a label, as for the AIAC 2021 winners; ``is_tagged`` (B,) bool, False where the tags are not known.

    Args:
        num_tags: labels; their names are the tags themselves.
        untagged: splits whose videos count as having no tag and no category, as test sets of challenges come.
        mask_tokens, mask_frames: rates; see :func:`mask_tokens` and :func:`mask_frames`.
    """

    TAG = ""

    expert: str | None = None
    num_tags: int = 0
    categories: bool = False
    untagged: Sequence[str] = ()
    mask_tokens: float = 0.15
    mask_frames: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.mask_tokens <= 1 and 0 <= self.mask_frames <= 1):
            rates = f"mask_tokens {self.mask_tokens}, mask_frames {self.mask_frames}"
            raise ValueError(f"{rates}: expected rates from 0 to 1")
        self.mask_tokens = self.mask_tokens if self.texts else 0.0
        self.mask_frames = self.mask_frames if self.max_frames else 0.0
        if self.mask_tokens and getattr(self.source.tokenizer, "mask_token_id", None) is None:
            raise ValueError("mask_tokens needs a tokenizer with [MASK], like `tokenizer: {style: bert}`")

    def _select(self, split: str | Sequence[str]) -> None:
        ids = pooled_ids(self.source.corpus, split)
        self._rows = self._table(ids)
        found = self._found(self._rows["video_id"].to_list(), ids, split)
        if self.num_tags:
            self._select_labels(ids, found, split)

    def _named(self, split: str | Sequence[str]) -> pl.DataFrame:
        hidden = pooled_ids(self.source.corpus, self.untagged)
        return super()._named(split).filter(~pl.col("video_id").is_in(hidden))

    def _count(self) -> int:
        return len(self._rows)

    def derived_config(self) -> dict[str, Any]:
        return {**VideoExamples.derived_config(self), **(super().derived_config() if self.num_tags else {})}

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        batch = self._read(self._rows[numbers])
        tokenizer = self.source.tokenizer
        if self.mask_tokens and tokenizer is not None:
            ids, labels = mask_tokens(batch["input_ids"].numpy(), tokenizer, rate=self.mask_tokens, rng=rng)
            batch |= {"input_ids": torch.from_numpy(ids), "token_labels": torch.from_numpy(labels)}
        if self.mask_frames:
            hidden = mask_frames(batch["frame_mask"].numpy(), rate=self.mask_frames, rng=rng)
            batch["masked_frames"] = torch.from_numpy(hidden)
        if self.num_tags:
            batch |= {"labels": self._marked(numbers), "is_tagged": torch.from_numpy(self._is_labelled[numbers])}
        return batch
