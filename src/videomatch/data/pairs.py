"""Judged pairs of videos: those of a protocol, and which of them train and which validate in a fold.

A protocol is a split with ids in the roles query and reference; its pairs are the rows of ``relevance`` with both sides
among them. The partition follows from the tables alone, so that training and the scoring of left-out pairs share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from videomatch.data import folds as folds_
from videomatch.data import tables
from videomatch.data.corpus import split_ids

PROTOCOLS = ("disjoint", "remainder")


def judged_pairs(corpus: Path, split: str | Sequence[str]) -> pl.DataFrame:
    """The judged pairs of a protocol, or of several pooled.

    Returns:
        query_id, reference_id, grade: rows of ``relevance`` in their order, protocol after protocol, none twice (lines
        that judge a pair again are rows of their own); pairs of a video with itself are left out.

    Raises:
        ValueError: a split does not exist, or there is no pair.
    """
    names = [split] if isinstance(split, str) else list(split)
    splits = tables.read("splits", corpus)
    relevance = tables.read("relevance", corpus).with_row_index("row")
    relevance = relevance.filter(pl.col("query_id") != pl.col("reference_id"))
    found = []
    for name in names:
        sides = {f"{role}_id": split_ids(splits, name, role) for role in ("query", "reference")}
        found.append(relevance.filter([pl.col(column).is_in(ids) for column, ids in sides.items()]))
    pooled = pl.concat(found).unique("row", maintain_order=True).drop("row")
    if pooled.is_empty():
        raise ValueError(f"split {split!r} has no judged pair")
    return pooled


def fold_pairs(
    corpus: Path, split: str | Sequence[str], *, fold: int, folds: int, protocol: str = "disjoint"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs that train and those that validate in a fold (from 0) over a protocol, or several pooled, in the form
    and order of :func:`judged_pairs`. ``protocol`` is ``disjoint`` (with seed 0) or ``remainder``; see
    :mod:`videomatch.data.folds`."""
    pairs = judged_pairs(corpus, split)
    sides = pairs["query_id"].to_list(), pairs["reference_id"].to_list()
    if protocol == "remainder":
        cut = folds_.by_remainder(*sides, fold=fold, folds=folds)
    elif protocol == "disjoint":
        if not 0 <= fold < folds:
            raise ValueError(f"fold {fold} of {folds}, expected 0 to k - 1 with k of at least 2")
        cut = folds_.disjoint(*sides, folds_.assign(*sides, folds=folds, seed=0), fold=fold)
    else:
        raise ValueError(f"no protocol {protocol!r} of folds; there are {', '.join(PROTOCOLS)}")
    return pairs.filter(cut.train), pairs.filter(cut.val)
