"""Files of comma-separated values that others wrote: their rows, and numbers in them, or what is wrong and where."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row stands, for messages, and its cells.

    Args:
        path: the file.
        columns: those that must be there.

    Raises:
        ValueError: one is not; the message lists those that are.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [c for c in columns if c not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"{path}: no column {missing[0]!r} among {reader.fieldnames}")
        for row in reader:
            yield f"{path}, line {reader.line_num}", row


def number(row: dict[str, str], column: str, where: str) -> float:
    """A cell as a finite number.

    Raises:
        ValueError: it is none.
    """
    value = row.get(column)
    try:
        found = float(value or "")
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{where}: {column} is {value!r}, expected a finite number")
    return found
