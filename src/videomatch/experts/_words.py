"""Texts as rows: one row per text that is written in the frames or spoken.

Without an encoder a row is the mean of its words, and a word is the sum of random vectors of its character n-grams and
of itself, as in fastText (Bojanowski et al., TACL 2017), but the vectors are drawn from a hash of the n-gram instead of
learned: rows depend on how words are written and not on what they mean.

# Deviation: MMT's experts give one word2vec row per word (Gabeur et al., ECCV 2020); here a sentence or a subtitle is
one row with one time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from videomatch.experts import BaseExpert, Extracted, Text
from videomatch.experts._backbone import config_of

MIN_NGRAM, MAX_NGRAM = 3, 6  #: characters, as fastText's
SPREAD = 8  #: numbers that one n-gram adds to a row
MAX_TOKENS = 64  #: of a text that an encoder reads
#: a word; or one character of a script without spaces between words
WORD = re.compile(r"[぀-ヿ㐀-鿿豈-﫿]|[^\W_぀-ヿ㐀-鿿豈-﫿]+")


class TextExpert(BaseExpert):
    """An expert of texts with times. Their rows of ``dim`` numbers are hashed, or by a text encoder of transformers
    (BERT, CLIP's text tower, …), whose size replaces ``dim``."""

    def __init__(self, encoder: str | None, dim: int) -> None:
        if dim < 16:
            raise ValueError(f"words: dim = {dim}, expected at least 16 numbers a row")
        self.encoder: Any = None
        self.shape = (dim,)
        self.about = {"words": "hashed n-grams" if encoder is None else "encoded"}
        if encoder is not None:
            config = config_of(encoder)
            self.encoder = AutoModel.from_pretrained(encoder).eval().requires_grad_(False)
            if hasattr(self.encoder, "vision_model"):
                self.encoder.vision_model = None  # half of a CLIP's memory
            self.tokenizer = AutoTokenizer.from_pretrained(encoder)
            text = getattr(config, "text_config", config)
            self.max_tokens = min(MAX_TOKENS, getattr(text, "max_position_embeddings", MAX_TOKENS) - 2)
            self.shape = self._encode("words").shape

    def words(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows ``(len(texts), dim)`` float32; equal texts have equal rows."""
        # one by one: padding would let a row depend, in its last bits, on the texts beside it
        rows = [hashed(text, *self.shape) if self.encoder is None else self._encode(text) for text in texts]
        return np.stack(rows) if rows else self.no_rows

    def extracted(self, texts: Sequence[Text]) -> Extracted:
        """The rows of the texts of one video; without a known start the time of a row is -1 s."""
        spans = [(-1, -1) if t.start is None else (t.start, t.start if t.end is None else t.end) for t in texts]
        return Extracted(self.words([t.text for t in texts]), np.array(spans, np.float64).reshape(-1, 2), texts)

    def _encode(self, text: str) -> np.ndarray:
        tokens = self.tokenizer([text], truncation=True, max_length=self.max_tokens, return_tensors="pt")
        inputs = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        with torch.inference_mode():
            if hasattr(self.encoder, "get_text_features"):
                rows = self.encoder.get_text_features(**inputs).pooler_output
            else:
                mask = inputs["attention_mask"][..., None]
                rows = (self.encoder(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()[0]


def hashed(text: str, dim: int) -> np.ndarray:
    """The unit row ``(dim,)`` float32 of a text without an encoder; zeros for a text without a letter or digit."""
    words = WORD.findall(text.casefold())
    alone = [w if len(w) == 1 and not w.isascii() else "" for w in words]  # in a script without spaces
    words += [a + b for a, b in pairwise(alone) if a and b]
    rows = [_word(word, dim) for word in words]
    total = np.sum(rows, axis=0) if rows else np.zeros(dim, np.float32)
    norm = float(np.linalg.norm(total))
    return (total / norm if norm else total).astype(np.float32)


@lru_cache(maxsize=65536)
def _word(word: str, dim: int) -> np.ndarray:
    framed = f"<{word}>"
    ngrams = {framed[k : k + n] for n in range(MIN_NGRAM, MAX_NGRAM + 1) for k in range(len(framed) - n + 1)}
    row = np.zeros(dim, np.float32)
    for ngram in [framed, *sorted(ngrams - {framed})]:
        digest = hashlib.blake2b(ngram.encode(), digest_size=4 * SPREAD).digest()
        numbers = np.frombuffer(digest, "<u4")
        np.add.at(row, numbers // 2 % dim, np.where(numbers % 2, 1.0, -1.0).astype(np.float32))
    row /= max(float(np.linalg.norm(row)), 1e-9)
    row.setflags(write=False)
    return row
