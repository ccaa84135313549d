"""The overview of a corpus: a page of counts and a sheet of thumbnails."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageOps

from videomatch.media.thumbnail import thumbnail

#: thumbnails of a sheet, in a row, and the pixels (width, height) of one
THUMBNAILS, COLUMNS, CELL = 24, 6, (192, 144)


def write(folder: Path, title: str, counts: Mapping[str, Any], videos: pl.DataFrame) -> None:
    """Write ``card.md``, tables of the ``counts``, and, where there are media, ``contact_sheet.jpg``."""
    lines = _table(f"# {title}", {name: count for name, count in counts.items() if not isinstance(count, Mapping)})
    for name, group in counts.items():
        if isinstance(group, Mapping) and group:
            lines += ["", *_table(f"## {name}", group)]
    if contact_sheet(folder / "contact_sheet.jpg", videos):
        lines += ["", "![the middle of some of its videos](contact_sheet.jpg)"]
    (folder / "card.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def contact_sheet(path: Path, videos: pl.DataFrame) -> bool:
    """Write the middle frame of up to 24 videos, evenly chosen by id. Returns False where no video has a file."""
    rows = videos.filter(pl.col("path").is_not_null() & (pl.col("duration") > 0)).sort("video_id")
    if rows.is_empty():
        return False
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(THUMBNAILS, len(rows))).round().astype(int))
    columns = min(COLUMNS, len(chosen))
    sheet = Image.new("RGB", (columns * CELL[0], -(-len(chosen) // columns) * CELL[1]))
    for number, row in enumerate(rows[chosen].iter_rows(named=True)):
        frame = thumbnail(Path(row["path"]), row["duration"], row["start"], side=CELL[1])
        if frame is not None:
            picture = ImageOps.pad(Image.fromarray(np.ascontiguousarray(frame)), CELL)
            sheet.paste(picture, (number % columns * CELL[0], number // columns * CELL[1]))
    sheet.save(path, quality=85)
    return True


def _table(title: str, values: Mapping[str, Any]) -> list[str]:
    return [title, "", "| | |", "|---|---|", *(f"| {_cell(k)} | {_cell(v)} |" for k, v in values.items())]


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_cell(k)}: {_cell(v)}" for k, v in value.items())
    text = f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
