"""The list of duplicates: a CSV file to be looked through, and the deletion of what was marked in it.

The column ``delete`` is empty when the list is written. Whoever looked at it marks rows there (``yes`` or ``x``), and
``videomatch duplicates --delete LIST`` deletes these files: if each still has the content of the list, and leads, row
by row of the column ``of``, to a file that has its content, too, and that is not marked. Else nothing is deleted.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from videomatch.app.exports import csv_cell, csv_text
from videomatch.common import digests
from videomatch.data.encodings import read_text
from videomatch.folders.duplicates import Duplicate

#: bytes of the longest list
MAX_LIST = 1 << 30
MARK = "delete"
MARKS = {"yes", "x"}
COLUMNS = ("group", MARK, *(field.name for field in fields(Duplicate) if field.name != "group"))


def text(groups: Iterable[Sequence[Duplicate]]) -> str:
    """The list as CSV."""
    return csv_text(COLUMNS, ({MARK: "", **asdict(row)} for group in groups for row in group))


def delete(path: Path) -> list[Path]:
    """Delete the files that are marked in a list; returns them. A ValueError names the first row that forbids it, and
    nothing is deleted then."""
    rows = _read(path)
    marked = [row for row in rows.values() if row[MARK]]
    contents: dict[str, str | None] = {}
    for row in marked:
        seen = set[str]()
        while row[MARK]:
            _check(path, row, contents)
            if row["path"] in seen or row["of"] not in rows:
                raise ValueError(f"{_where(path, row)}: every file of its group that holds it is marked, too: keep one")
            seen.add(row["path"])
            row = rows[row["of"]]
        _check(path, row, contents)
        kept = Path(row["path"])
        if any(kept.samefile(other) for other in seen):
            raise ValueError(f"{_where(path, row)}: is the same file as one that is marked")
    for row in marked:
        Path(row["path"]).unlink()
    return [Path(row["path"]) for row in marked]


def _read(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a list by the path of their file, with the number of their line."""
    text = read_text(path, MAX_LIST)
    separator = max(",;\t", key=text.partition("\n")[0].count)  # some spreadsheets save with another
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    needed = (MARK, "path", "of", "sha256")
    if absent := [name for name in needed if name not in (reader.fieldnames or ())]:
        raise ValueError(f"{path}: no column {absent[0]!r}: expected a list of `videomatch duplicates --csv`")
    found: dict[str, dict[str, str]] = {}
    for row in reader:
        values = {name: csv_cell(row.get(name) or "") for name in needed}
        values |= {"line": str(reader.line_num), MARK: values[MARK].strip().lower()}
        if values[MARK] and values[MARK] not in MARKS:
            raise ValueError(f"{_where(path, values)}: {MARK} = {values[MARK]!r}, expected 'yes', 'x' or nothing")
        if values["path"] in found:
            raise ValueError(f"{_where(path, values)}: stands there twice")
        found[values["path"]] = values
    return found


def _check(path: Path, row: dict[str, str], contents: dict[str, str | None]) -> None:
    """A ValueError unless the file of a row has the content of the list."""
    file = Path(row["path"])
    if row["path"] not in contents:
        contents[row["path"]] = digests.read_digest(file) if file.is_file() else None
    if contents[row["path"]] is None:
        raise ValueError(f"{_where(path, row)}: does not exist; nothing was deleted")
    if contents[row["path"]] != row["sha256"]:
        raise ValueError(f"{_where(path, row)}: has other content than in the list; nothing was deleted")


def _where(path: Path, row: dict[str, str]) -> str:
    return f"{path}, line {row['line']}: {row['path']}"
