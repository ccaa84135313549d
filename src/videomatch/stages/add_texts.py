"""Add to a corpus the texts that experts recognise in its videos: speech, and words on the screen."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import polars as pl

from videomatch.common import files
from videomatch.data import tables

log = logging.getLogger(__name__)


def add_texts(*, corpus: Path, features: list[Path], output: Path, kinds: list[str], experts: list[str]) -> None:
    """Write the tables of a corpus with further rows of ``texts``, and ``texts.json``: kind -> how many videos have
    texts of it, by who brings them. What the data set itself has of a kind wins, video by video; then the first of the
    ``experts`` that recognises something.
    """
    output.mkdir(parents=True, exist_ok=True)
    for path in sorted(corpus.glob("*.parquet")):
        shutil.copyfile(path, output / path.name)
    texts = tables.read("texts", corpus)
    brought = {"given": texts} | {e: tables.read("texts", *(folder / e for folder in features)) for e in experts}
    found, about = pl.DataFrame(schema=texts.schema), dict[str, dict[str, int]]()
    for who, rows in brought.items():
        if who != "given":
            rows = rows.filter(pl.col("kind").is_in(kinds)).join(found, on=["video_id", "kind"], how="anti")
        for kind in kinds:
            videos = rows.filter(pl.col("kind") == kind)["video_id"].n_unique()
            about.setdefault(kind, {})[who] = videos
        found = pl.concat([found, rows])
    tables.write("texts", found, output)
    files.write_json(output / "texts.json", about)
    log.info("texts, as videos with some: %s", about)
