"""What a person sees of a corpus first: a page of counts and a sheet of thumbnails."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageOps

from videomatch.media.container import Unreadable
from videomatch.media.decode import FrameRequest, Sampler

#: thumbnails of a sheet, in a row, and the pixels (width, height) of one
THUMBNAILS, COLUMNS, CELL = 24, 6, (192, 144)


def write(folder: Path, title: str, counts: Mapping[str, Any], videos: pl.DataFrame) -> None:
    """Write ``card.md`` and, where there are media, ``contact_sheet.jpg``.

    Args:
        folder: where to.
        title: name of the data set.
        counts: what ``corpus.json`` holds.
        videos: the table of that name.
    """
    has_sheet = contact_sheet(folder / "contact_sheet.jpg", videos)
    lines = [f"# {title}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in counts.items() if not isinstance(value, Mapping)]
    for name, group in counts.items():
        if isinstance(group, Mapping) and group:
            lines += ["", f"## {name}", "", "| | |", "|---|---|"]
            lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in group.items()]
    if has_sheet:
        lines += ["", "![the middle of some of its videos](contact_sheet.jpg)"]
    (folder / "card.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def contact_sheet(path: Path, videos: pl.DataFrame) -> bool:
    """Write the middle picture of up to 24 videos, evenly chosen by id. Returns False where no video has a file."""
    rows = videos.filter(pl.col("path").is_not_null() & (pl.col("duration") > 0)).sort("video_id")
    if rows.is_empty():
        return False
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(THUMBNAILS, len(rows))).round().astype(int))
    pictures = [_middle(Path(row["path"]), row["duration"]) for row in rows[chosen].iter_rows(named=True)]
    columns = min(COLUMNS, len(pictures))
    sheet = Image.new("RGB", (columns * CELL[0], -(-len(pictures) // columns) * CELL[1]))
    for number, picture in enumerate(pictures):
        sheet.paste(ImageOps.pad(picture, CELL), (number % columns * CELL[0], number // columns * CELL[1]))
    sheet.save(path, quality=85)
    return True


def _middle(path: Path, duration: float) -> Image.Image:
    """The picture in the middle of a video; black if it cannot be read any more."""
    picture = np.zeros((1, 1, 3), np.uint8)
    try:
        for chunk in Sampler(path, [FrameRequest(Fraction(duration) / 2, CELL[1])]):
            picture = chunk.values[min(1, len(chunk.values) - 1)]
    except Unreadable:
        pass
    return Image.fromarray(np.ascontiguousarray(picture))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_cell(k)}: {_cell(v)}" for k, v in value.items())
    text = f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
