"""Text embeddings without training labels: TF-IDF over words and characters, reduced by latent semantic analysis.

Source: Deerwester et al. 1990, "Indexing by latent semantic analysis". Terms are words and pairs of words, where each
character of a script written without spaces (Chinese, Japanese, Korean, Thai) is a word, and runs of two to four
characters within a word, which bridge inflections and spelling. Deterministic given the seed.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion

from videomatch.common.vectors import unit_rows
from videomatch.data.corpus import train_ids

#: scripts written without spaces between words: Thai, kana, Chinese characters (with extensions), Hangul
DENSE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
WORD = re.compile(rf"[{DENSE}]|[^\W{DENSE}]+")


def words(text: str) -> list[str]:
    """Words of a text in lower case; every character of a script without spaces is one."""
    return WORD.findall(text.lower())


class Lsa:
    """Latent semantic analysis, fitted on texts that hold at least two different terms; ``dim`` dimensions at most."""

    def __init__(self, texts: Sequence[str], *, dim: int = 256, seed: int = 0) -> None:
        split: dict[str, Any] = {"tokenizer": words, "token_pattern": None, "lowercase": False}
        terms: dict[str, Any] = {"analyzer": _character_terms}
        of_words = TfidfVectorizer(**split, ngram_range=(1, 2), sublinear_tf=True)
        of_characters = TfidfVectorizer(**terms, sublinear_tf=True)
        self._terms = FeatureUnion([("words", of_words), ("characters", of_characters)])
        try:
            counted: Any = self._terms.fit_transform(texts)
        except ValueError as error:
            raise ValueError(f"no words in the {len(texts)} texts to fit on") from error
        self.dim = min(dim, counted.shape[0] - 1, counted.shape[1] - 1)
        if self.dim < 1:
            raise ValueError(f"{len(texts)} texts with {counted.shape[1]} terms are too few to fit on")
        self._svd = TruncatedSVD(self.dim, random_state=seed).fit(counted)

    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """Unit vectors, float32; zero for a text none of whose terms is known."""
        reduced = self._svd.transform(self._terms.transform(texts))
        return unit_rows(reduced).astype(np.float32)


def fitted_on_train(corpus: Path, texts: Mapping[str, str], dim: int, seed: int) -> Lsa:
    """Latent semantic analysis fitted on those of the texts (video_id -> text) that are of :func:`train_ids`."""
    return Lsa([texts[i] for i in train_ids(corpus) if i in texts], dim=dim, seed=seed)


def _character_terms(text: str) -> list[str]:
    terms = []
    for word in re.findall(r"\w+", text.lower()):
        padded = f" {word} "
        terms += [padded[i : i + n] for n in (2, 3, 4) for i in range(len(padded) - n + 1)]
    return terms
