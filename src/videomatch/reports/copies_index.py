"""The first page of a system's segments: its queries, what was found of each and what was there, with a link to each
query's own page (:mod:`videomatch.reports.copies`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from videomatch.reports.template import framed

PAGE = """<h1>{{ title }}</h1>
{% for line in about %}<p>{{ line }}</p>
{% endfor %}
<div class="wide"><table id="queries"><thead><tr><th>Query</th><th>True segments</th><th>Found of them</th>
<th>Found elsewhere</th></tr></thead><tbody>
{% for row in rows %}<tr><td><a href="{{ row.file }}">{{ row.query }}</a></td><td>{{ row.true }}</td>
<td>{{ row.right }}</td><td>{{ row.wrong }}</td></tr>
{% endfor %}</tbody></table></div>
{% for table in tables %}<section>{{ table }}</section>
{% endfor %}"""


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
    return framed(PAGE).render(title=title, about=about, rows=rows, tables=tables)
