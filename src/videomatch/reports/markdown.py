"""The little markdown that ``tabulate`` writes, as HTML: a heading, paragraphs, lists, tables, ``code`` and *stress*.

All text is escaped first. Tables keep the columns that they have.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import polars as pl
from markupsafe import Markup, escape

INLINE = [(re.compile(r"`([^`]+)`"), r"<code>\1</code>"), (re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*"), r"<i>\1</i>")]


def html(text: str) -> Markup:
    """A markdown text; headings become ``h3``."""
    parts = []
    for kind, group in groupby(text.splitlines(), key=_kind):
        lines = list(group)
        if kind == "heading":
            parts += [Markup("<h3>{}</h3>").format(inline(line.lstrip("# "))) for line in lines]
        elif kind == "list":
            entries = Markup("").join(Markup("<li>{}</li>").format(inline(line[2:])) for line in lines)
            parts.append(Markup("<ul>{}</ul>").format(entries))
        elif kind == "table":
            parts.append(_table(lines))
        elif kind == "text":
            parts += [Markup("<p>{}</p>").format(inline(line)) for line in lines]
    return Markup("\n").join(parts)


def inline(text: str) -> Markup:
    """A line's text, escaped, with its code and stress."""
    found = str(escape(text))
    for pattern, replacement in INLINE:
        found = pattern.sub(replacement, found)
    return Markup(found)


def csv_html(path: Path) -> Markup:
    """A csv file as a table, whatever its columns."""
    frame = pl.read_csv(path, infer_schema=False)
    return rows_html(frame.columns, [[cell or "" for cell in row] for row in frame.rows()])


def rows_html(heads: list[str], rows: list[list[str]]) -> Markup:
    """A table; every column but the first is flush right."""
    head = Markup("").join(Markup("<th>{}</th>").format(inline(h)) for h in heads)
    body = [Markup("").join(Markup("<td>{}</td>").format(inline(c)) for c in row) for row in rows]
    lines = Markup("\n").join(Markup("<tr>{}</tr>").format(row) for row in body)
    return Markup('<div class="wide"><table><thead><tr>{}</tr></thead><tbody>\n{}\n</tbody></table></div>').format(
        head, lines
    )


def _kind(line: str) -> str:
    for start, kind in (("#", "heading"), ("- ", "list"), ("|", "table")):
        if line.startswith(start):
            return kind
    return "text" if line.strip() else "gap"


def _cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _table(lines: list[str]) -> Markup:
    rows = [_cells(line) for line in lines if not re.fullmatch(r"[|\s:-]+", line)]
    return rows_html(rows[0], rows[1:]) if rows else Markup("")
