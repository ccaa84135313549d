"""``videos.csv`` / ``videos.jsonl`` at the top of a folder of videos: what a person says about the files.

Columns: ``path`` (or ``file``; below the folder), ``title``, ``tags``, ``category``, ``captions``, ``split``. Several
rows may speak of one file (a row a caption, as caption sets are published): captions, tags and splits add up.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from videomatch.corpora._subtitles import read_text

NAMES = ("videos.csv", "videos.jsonl")
COLUMNS = ("path", "file", "title", "tags", "category", "captions", "split")


@dataclass
class Entry:
    """What is said about one video."""

    title: str = ""
    category: str | None = None
    tags: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)


def read(raw: Path, known: Mapping[str, str], separator: str) -> tuple[dict[str, Entry], list[dict[str, str]]]:
    """The entries by video id, and a ``rejected`` row for each line that names no video of the folder.

    Args:
        raw: the folder.
        known: composed relative path -> video id of the videos found.
        separator: between several values in one cell.

    Raises:
        ValueError: both files exist, a column is unknown, or a line is not JSON.
    """
    present = [raw / name for name in NAMES if (raw / name).is_file()]
    if not present:
        return {}, []
    if len(present) > 1:
        raise ValueError(f"{raw}: has {' and '.join(NAMES)}; expected one of them")
    path = present[0]
    rows = _csv(path) if path.suffix == ".csv" else _jsonl(path)
    entries: dict[str, Entry] = {}
    rejected = []
    for line, row in rows:
        unknown = [column for column in row if column not in COLUMNS]
        if unknown:
            near = difflib.get_close_matches(str(unknown[0]).lower(), COLUMNS, 1, 0.5)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{path}, line {line}: unknown column {unknown[0]!r}{hint} (columns are {', '.join(COLUMNS)})"
            )
        name = str(row.get("path") or row.get("file") or "").strip()
        given = _relative(name, raw)
        video_id = known.get(given)
        if video_id is None:
            exists = bool(name) and given != "" and (raw / given).is_file()
            reason = "is not a video by its ending" if exists else "does not exist in the folder"
            said = f"line {line}: file {name!r} {reason}"
            rejected.append({"video_id": given or name or f"line {line}", "path": str(path), "reason": said})
            continue
        entry = entries.setdefault(video_id, Entry())
        entry.title = entry.title or _text(row.get("title"))
        entry.category = entry.category or _text(row.get("category")) or None
        for target, column in ((entry.tags, "tags"), (entry.captions, "captions"), (entry.splits, "split")):
            target += [value for value in _several(row.get(column), separator) if value not in target]
    return entries, rejected


def _csv(path: Path) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    header = [column.strip() for column in reader.fieldnames or []]
    if not {"path", "file"} & set(header):
        near = next((c for c in header if difflib.get_close_matches(c.lower(), ("path", "file"), 1, 0.5)), None)
        hint = f", did you mean {near!r}?" if near else ""
        raise ValueError(f"{path}: no column 'path' or 'file' among {header}{hint}")
    reader.fieldnames = header
    rows = []
    for row in reader:
        if None in row:
            raise ValueError(
                f"{path}, line {reader.line_num}: more cells than the {len(header)} columns of the first line"
            )
        rows.append((reader.line_num, row))
    return rows


def _jsonl(path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
        rows.append((number, row))
    return rows


def _relative(name: str, raw: Path) -> str:
    """``name`` as the id of a file below ``raw``; empty if it points outside."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute():
        try:
            pure = PurePosixPath(Path(name).relative_to(raw.absolute()).as_posix())
        except ValueError:
            return ""
    parts: list[str] = []
    for part in pure.parts:
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part != ".":
            parts.append(part)
    return unicodedata.normalize("NFC", "/".join(parts))


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _several(value: Any, separator: str) -> list[str]:
    values = value if isinstance(value, list) else _text(value).split(separator)
    return [text for item in values if (text := _text(item))]
