"""The first page of a system's segments: its queries, what was found of each and what was there, with a link to each
query's own page (:mod:`videomatch.page.copies`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from videomatch.page.template import STYLE

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style }}</style></head><body>
<h1>{{ title }}</h1>
{% for line in about %}<p>{{ line }}</p>
{% endfor %}
<div class="wide"><table id="queries"><thead><tr><th>Query</th><th>True segments</th><th>Found of them</th>
<th>Found elsewhere</th></tr></thead><tbody>
{% for row in rows %}<tr><td><a href="{{ row.file }}">{{ row.query }}</a></td><td>{{ row.true }}</td>
<td>{{ row.right }}</td><td>{{ row.wrong }}</td></tr>
{% endfor %}</tbody></table></div>
{% for table in tables %}<section>{{ table }}</section>
{% endfor %}</body></html>
"""


@dataclass(frozen=True)
class Row:
    """A query: its name, the file of its page, how many segments are true, how many of these were found, and how many
    were found that overlap none."""

    query: str
    file: str
    true: int
    right: int
    wrong: int


def render(*, title: str, about: Sequence[str], rows: Sequence[Row], tables: Sequence[Markup] = ()) -> str:
    """The page; values that are no markup are escaped."""
    page = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    return page.render(style=Markup(STYLE), title=title, about=about, rows=rows, tables=tables)
