"""A judged pair of videos and its grade: what a joint encoder is finetuned on."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import torch

from videomatch.data.pairs import fold_pairs, judged_pairs, paired_ids
from videomatch.examples import Batch
from videomatch.examples._bases import VideoExamples
from videomatch.metrics import correlation

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class VideoPair(VideoExamples):
    """A pair of videos, query first, and its grade. Pairs of which a side cannot be read are left out.

    A grade is its mean rank among all labels, scaled to 0 … 1; as published, those of ``split`` and ``validation``
    (with a fold: of ``split``) together, read or not. The mapping is monotone, hence Spearman does not see it, and MSE
    is against ranks.

    Batch: ``frames`` (B, 2, F, D) float32, ``frame_mask`` (B, 2, F), ``input_ids`` and ``attention_mask`` (B, 2, T),
    ``grade`` (B,) float32.

    Args:
        split: protocols whose judged pairs train, pooled; with a fold (no ``validation`` then) they are cut into folds.
        protocol: of the folds; see :mod:`videomatch.data.pairs`.
    """

    ROLES = ("query", "reference")
    metrics: ClassVar[Mapping[str, Callable[..., float]]] = {
        "Spearman": correlation.spearman,
        "MSE": correlation.mse,
    }

    split: str | Sequence[str] = "pairs_train"
    validation: str | None = "pairs_val"
    protocol: Literal["disjoint", "remainder"] = "disjoint"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._known: tuple[np.ndarray, np.ndarray] | None = None  # grades in ascending order, and their ranks

    def parts(self, fold: tuple[int, int] | None = None) -> tuple[Self, Self | None]:
        """With a fold (f, k) the pairs of ``split`` that fold f of k says."""
        if fold is None:
            return super().parts()
        found = fold_pairs(self.source.corpus, self.split, fold=fold[0], folds=fold[1], protocol=self.protocol)
        train = copy.copy(self)
        train._count_grades(judged_pairs(self.source.corpus, self.split))
        train._take(found[0], f"fold {fold[0]} of {fold[1]}, train")
        val = copy.copy(train)
        val._take(found[1], f"fold {fold[0]} of {fold[1]}, val")
        return train, val

    @classmethod
    def videos_of_parts(
        cls, corpus: Path, options: Mapping[str, Any], fold: tuple[int, int] | None = None
    ) -> tuple[list[str], list[str]]:
        if fold is None:
            return super().videos_of_parts(corpus, options)
        split, protocol = options.get("split", cls.split), options.get("protocol", cls.protocol)
        train, validation = fold_pairs(corpus, split, fold=fold[0], folds=fold[1], protocol=protocol)
        return paired_ids(train), paired_ids(validation)

    @classmethod
    def _videos_of(cls, corpus: Path, split: str | Sequence[str], options: Mapping[str, Any]) -> list[str]:
        return paired_ids(judged_pairs(corpus, split))

    def _select(self, split: str | Sequence[str]) -> None:
        if self._known is None:
            train = [self.split] if isinstance(self.split, str) else self.split
            pooled = [*train, *([] if self.validation is None else [self.validation])]
            self._count_grades(judged_pairs(self.source.corpus, pooled))
        self._take(judged_pairs(self.source.corpus, split), str(split))

    def _count_grades(self, pairs: pl.DataFrame) -> None:
        grades = pairs["grade"].to_numpy()
        known, first = np.unique(grades, return_index=True)
        self._known = known, correlation.rank_normalised(grades)[first]

    def _take(self, pairs: pl.DataFrame, which: str) -> None:
        """Hold the videos of these pairs, and each pair's two rows among them."""
        self._rows = self._table(paired_ids(pairs))
        row = self._rows.select("video_id", row=pl.int_range(pl.len(), dtype=pl.Int32))
        for side in ("query", "reference"):
            named = row.rename({"video_id": f"{side}_id", "row": side})
            pairs = pairs.join(named, on=f"{side}_id", how="left", maintain_order="left")
        there = pairs.drop_nulls(["query", "reference"])
        lost = len(pairs) - len(there)
        log.info("%s: %d pairs, %d left out (a side has neither frames nor text)", which, len(there), lost)
        if there.is_empty():
            raise ValueError(f"VideoPair: none of the {len(pairs)} pairs of {which} can be used")
        self._sides = there.select("query", "reference").to_numpy()
        assert self._known is not None
        self._grades = np.interp(there["grade"].to_numpy(), *self._known).astype(np.float32)

    def _count(self) -> int:
        return len(self._sides)

    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        batch = self._read(self._rows[self._sides[numbers].ravel()])
        pairs = {name: tensor.reshape(len(numbers), 2, *tensor.shape[1:]) for name, tensor in batch.items()}
        return {**pairs, "grade": torch.from_numpy(self._grades[numbers])}
