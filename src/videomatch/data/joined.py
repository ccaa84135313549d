"""The texts of a video, one string per kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from videomatch.data import tables


def joined_texts(corpus: Path, kinds: Sequence[str], ids: Iterable[str] | None = None) -> pl.DataFrame:
    """Texts of videos, those of one kind (ASR segments) joined by a space in order of time.

    Returns:
        video_id and a column for each kind, ordered by video_id: a row for every video with any such text, null where
        it has none of a kind.
    """
    texts = tables.read("texts", corpus).filter(pl.col("kind").is_in(list(kinds)) & pl.col("video_id").is_not_null())
    if ids is not None:
        texts = texts.filter(pl.col("video_id").is_in(list(ids)))
    texts = texts.sort("video_id", "start", "text_id", nulls_last=True)
    of_kind = {kind: pl.col("text").filter(pl.col("kind") == kind) for kind in kinds}
    joined = texts.group_by("video_id", maintain_order=True).agg(
        pl.when(text.len() > 0).then(text.str.join(" ")).alias(kind) for kind, text in of_kind.items()
    )
    return joined.select("video_id", *kinds)


def whole_texts(corpus: Path, kinds: Sequence[str], ids: Iterable[str] | None = None) -> dict[str, str]:
    """Texts of videos, those of all kinds joined by a space in the order of the kinds: video_id -> text, of the videos
    that have one."""
    whole = joined_texts(corpus, kinds, ids).select("video_id", pl.concat_str(kinds, separator=" ", ignore_nulls=True))
    return {video: text for video, text in whole.iter_rows() if text.strip()}
