"""A corpus of a few files of the user, on which the stages run as on a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.stages.extract import extract


def video_rows(paths: Mapping[str, str | None]) -> pl.DataFrame:
    """A table ``videos`` of ids and paths alone."""
    schema = tables.SCHEMAS["videos"]
    rows = [{**dict.fromkeys(schema), "video_id": i, "path": p, "tags": [], "shard": 0} for i, p in paths.items()]
    return pl.DataFrame(rows, schema=schema)


def write_videos(videos: pl.DataFrame, corpus: Path) -> None:
    """Write a table ``videos`` into a corpus folder, which is made if it is missing."""
    corpus.mkdir(parents=True, exist_ok=True)
    corpora.write_videos(tables.check("videos", videos), corpus, 1)


def extract_features(corpus: Path, output: Path, **settings: Any) -> pl.DataFrame:
    """Run :func:`videomatch.stages.extract.extract` on a corpus folder; the table ``rejected``."""
    output.mkdir(parents=True, exist_ok=True)
    extract(corpus=corpus, output=output, **settings)
    return tables.read("rejected", output)
