"""Five videos listed in a csv file: file name, title, label."""

from __future__ import annotations

from pathlib import Path

import polars as pl


def read(*, raw: Path, listing: str = "videos.csv") -> dict[str, pl.DataFrame]:
    """The tables of the folder ``raw``. All videos are in each split; those with one label are alike."""
    rows = pl.read_csv(raw / listing)
    ids = rows["name"].to_list()
    labels = dict(zip(ids, rows["label"], strict=True))
    videos = rows.select(video_id="name", path=f"{raw}/" + pl.col("name"), category="label")
    splits = [
        {"split": split, "role": role, "id": i}
        for split in ("train", "pairs_test", "copies_test")
        for role in ("query", "reference")
        for i in ids
    ]
    pairs = [(a, b, float(labels[a] == labels[b])) for a in ids for b in ids if a < b]
    copied = [(a, b) for a, b, grade in pairs if grade]
    times = {"query_start": 0.0, "query_end": 2.0, "reference_start": 0.0, "reference_end": 2.0}
    return {
        "videos": videos,
        "splits": pl.DataFrame(splits),
        "relevance": pl.DataFrame(pairs, schema=["query_id", "reference_id", "grade"], orient="row"),
        "segments": pl.DataFrame([{"query_id": a, "reference_id": b, **times, "score": None} for a, b in copied]),
    }
