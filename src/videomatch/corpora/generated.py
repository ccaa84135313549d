"""The corpus that the project generates itself: small, embedded, with known truth for every task.

Its videos are real H.264/AAC files drawn by the stage ``render``; its annotations follow from the stories behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.synthetic import card as world_card
from videomatch.synthetic.annotate import annotate
from videomatch.synthetic.options import WorldOptions


def read(
    *, renders: list[Path], seed: int = 0, shards: int = 1, options: Mapping[str, Any] | None = None
) -> dict[str, pl.DataFrame]:
    """Tables ``videos``, ``texts``, ``splits``, ``relevance`` and ``segments``.

    Args:
        renders: result folders of ``render`` (with the same ``seed``, ``shards`` and ``options``), one a shard.
        options: as in :class:`videomatch.synthetic.options.WorldOptions`.

    Raises:
        ValueError: an unknown option, or videos that lie in none of the folders.
    """
    frames = annotate(seed=seed, shards=shards, options=WorldOptions.of(options or {}))
    paths = {p.stem: str(p) for folder in renders for p in sorted(Path(folder).glob("*.mp4"))}
    missing = [v for v in frames["videos"]["video_id"] if v not in paths]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(frames['videos'])} videos are in none of {[str(r) for r in renders]}, first "
            f"{missing[0]}.mp4; were they rendered with the same seed, shards and options?"
        )
    path = pl.col("video_id").replace_strict(paths, return_dtype=pl.String).alias("path")
    return {**frames, "videos": frames["videos"].with_columns(path)}


def card(
    *, output: Path, tables: Mapping[str, pl.DataFrame], seed: int = 0, options: Mapping[str, Any] | None = None
) -> None:
    """Write ``card.md`` and ``contact_sheet.jpg``: what the corpus holds, and what each modality alone can tell."""
    world_card.card(output=output, tables=tables, seed=seed, options=WorldOptions.of(options or {}))
