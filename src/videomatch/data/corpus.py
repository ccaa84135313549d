"""A corpus folder: what ``prepare`` leaves and every later stage reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl

from videomatch.data.tables import SCHEMAS


def shard_of(video_id: str, shards: int) -> int:
    """The shard of a video: a stable function of its id, so that a growing corpus leaves the other shards untouched."""
    return int(hashlib.sha256(video_id.encode()).hexdigest()[:8], 16) % shards


def shard_file(shard: int) -> str:
    """Name of the file that holds the ``videos`` rows of one shard."""
    return f"videos-{shard:05d}.parquet"


def videos(folder: Path, shard: int | None = None) -> pl.DataFrame:
    """The ``videos`` table of a corpus folder, whole (ordered by id) or one shard of it."""
    if shard is not None:
        return pl.read_parquet(folder / shard_file(shard))
    frames = [pl.read_parquet(p) for p in sorted(folder.glob("videos-*.parquet"))]
    return pl.concat(frames).sort("video_id") if frames else pl.DataFrame(schema=SCHEMAS["videos"])


def write_videos(rows: pl.DataFrame, folder: Path, shards: int) -> None:
    """Write the checked ``videos`` table as one file per shard (empty for a shard without videos)."""
    for shard in range(shards):
        part = rows.filter(pl.col("shard") == shard).sort("video_id")
        part.write_parquet(folder / shard_file(shard), compression="zstd")


def split_ids(splits: pl.DataFrame, split: str, role: str) -> list[str]:
    """Ids listed under ``split``, which must exist, in the role ``query`` or ``reference``."""
    if split not in set(splits["split"]):
        raise ValueError(f"no split {split!r}; there are {sorted(set(splits['split']))}")
    return splits.filter((pl.col("split") == split) & (pl.col("role") == role))["id"].sort().to_list()
