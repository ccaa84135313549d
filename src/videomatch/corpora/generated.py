"""The corpus that the project generates itself: small, embedded, with known truth for every task.

Its videos are real H.264/AAC files drawn by the stage ``render``; its annotations follow from their latent factors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.synthetic import card as synthetic
from videomatch.synthetic.annotations import annotate
from videomatch.synthetic.options import SyntheticOptions as Options


def read(*, renders: list[Path], seed: int = 0, shards: int = 1, **options: Any) -> dict[str, pl.DataFrame]:
    """The tables of :func:`annotate`, with the files of ``renders``: results of ``render`` with the same ``seed``,
    ``shards`` and ``options``, one per shard."""
    frames = annotate(seed=seed, shards=shards, options=Options(**options))
    paths = {p.stem: str(p) for folder in renders for p in sorted(Path(folder).glob("*.mp4"))}
    path = pl.col("video_id").replace_strict(paths, return_dtype=pl.String).alias("path")
    return {**frames, "videos": frames["videos"].with_columns(path)}


def card(*, seed: int, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """How its labels and copies are distributed, and what each modality alone can tell."""
    return synthetic.card(seed, Options(**options))
