"""The frame of every page: readable in light and dark, on a telephone and on paper. And the page of a run: one file."""

from __future__ import annotations

from typing import Any

import jinja2
from markupsafe import Markup

STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5b6675; --paper: #fff; --card: #f6f7f9; --line: #8888;
  --train: #0072b2; --val: #c4500a; --point: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --soft: #a3adba; --paper: #14181d; --card: #1c2229;
  --train: #56b4e9; --val: #f0a030; --point: #56b4e9; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1240px; padding: 0 1rem; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem; } p, ul { margin: 0 0 .75rem; max-width: 75ch; }
p, li, .soft { color: var(--soft); } ul { padding-left: 1.2rem; } a { color: var(--train); }
b, code { color: var(--ink); } nav { display: flex; flex-wrap: wrap; gap: 1rem; }
.wide { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: .3rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { border-bottom-width: 2px; vertical-align: bottom; white-space: normal; min-width: 5rem; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 12rem; padding-left: 0; }
tbody tr:hover { background: var(--card); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: .75rem; }
.chart { background: var(--card); border-radius: 8px; padding: .6rem .6rem .3rem; margin: 0; max-width: 440px; }
.chart figcaption { font-size: 13px; margin: 0 .25rem .3rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; color: var(--soft); font-variant-numeric: tabular-nums; }
.key { display: inline-block; width: 20px; border-top: 2.5px solid; vertical-align: middle; margin-right: .35rem; }
.key.train { border-top-style: dashed; border-color: var(--train); } .key.val { border-color: var(--val); }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 11px; fill: var(--soft); } svg .name { fill: var(--ink); }
.grid, .axis { stroke: var(--line); fill: none; } .grid { stroke-width: .8; stroke-dasharray: 2 3; }
path.thin, path.thick { fill: none; stroke-linejoin: round; } .thin { stroke-width: 1; opacity: .45; }
path.thick { stroke-width: 2; } path.val { stroke: var(--val); }
path.train { stroke: var(--train); stroke-dasharray: 5 3; }
path.thin.train { stroke-dasharray: 3 2; } circle.train { fill: var(--train); } circle.val { fill: var(--val); }
.point { fill: var(--point); opacity: .4; } .box { fill: var(--val); fill-opacity: .14; stroke: var(--val); }
.median { stroke: var(--val); stroke-width: 2.5; }
.row { display: flex; gap: .75rem; padding: .75rem 0; border-top: 1px solid var(--line); overflow-x: auto; }
.row figure { margin: 0; width: 150px; flex: none; } .row figure.query { width: 180px; padding-right: .75rem;
  border-right: 3px solid var(--train); }
.still { height: 110px; display: flex; align-items: center; justify-content: center; background: var(--card);
  color: var(--soft); }
img { max-height: 110px; max-width: 100%; display: block; }
.row figcaption { font-size: 12.5px; line-height: 1.4; max-height: 5.6em; overflow: hidden; overflow-wrap: anywhere; }
.score { font-variant-numeric: tabular-nums; font-weight: 600; } .id { color: var(--soft); }
@media print { .chart, .row { break-inside: avoid; } nav { display: none; } }
"""

#: around the body of a page
FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>TITLE</title><style>{{ style }}</style></head><body>
BODY</body></html>
"""

PAGE = """{% macro legend(chart) %}<div class="legend">{% for side, text in chart.legend %}<span><span
class="key {{ side }}"></span>{{ text }}</span>{% endfor %}</div>{% endmacro %}
{% macro still(video) %}<div class="still">
{% if video.picture %}<img alt="" src="{{ video.picture }}">{% else %}no picture{% endif %}</div>{% endmacro %}
<h1>{{ title }}</h1>
{% if tables or systems or scatters %}<nav>
{% if tables %}<a href="#tables">Tables</a>{% endif %}
{% if scatters %}<a href="#similarity">Similarity</a>{% endif %}
{% if systems %}<a href="#training">Training</a>{% endif %}
<a href="#neighbours">Neighbours</a></nav>{% endif %}
{% if tables %}<section id="tables"><h2>Tables</h2>
{% for table in tables %}{{ table }}
{% endfor %}</section>{% endif %}
{% if scatters %}<section id="similarity"><h2>Similarity of the judged pairs</h2>
<p>Each point is a pair: the cosine that the system gives over the grade that people gave. A box holds the middle half
of the cosines at a grade, its thick line is their median.</p>
<div class="charts">
{% for chart in scatters %}<figure class="chart"><figcaption><b>{{ chart.name }}</b><div
class="legend">{{ chart.note }}</div></figcaption>{{ chart.svg }}</figure>
{% endfor %}</div></section>{% endif %}
{% if systems %}<section id="training"><h2>Training</h2>
<p>Losses and validation metrics by epoch. Thin lines are single runs (folds or seeds), thick lines their mean; numbers
are means over runs of the last value.</p>
{% for entry in systems %}<h3>{{ entry.name }}</h3><p>{{ entry.note }}</p><div class="charts">
{% for chart in entry.charts %}<figure class="chart"><figcaption><b>{{ chart.name }}</b>{{ legend(chart)
}}</figcaption>{{ chart.svg }}</figure>
{% endfor %}</div>
{% endfor %}</section>{% endif %}
<section id="neighbours">{% if tables or systems or scatters %}<h2>Nearest neighbours</h2>{% endif %}
<p>System <b>{{ system }}</b>. Left, each query; then its {{ top }} nearest references by cosine similarity.
{{ queries|length }} of {{ total }} queries are shown.</p>
{% for query in queries %}<div class="row"><figure class="query">{{ still(query) }}<figcaption>{{ query.title }} <span
class="id">{{ query.id }}</span></figcaption></figure>
{% for near in query.near %}<figure>{{ still(near) }}<figcaption>
<span class="score">{{ "%.3f"|format(near.score) }}</span> {{ near.title }}
<span class="id">{{ near.id }}</span></figcaption></figure>{% endfor %}</div>
{% endfor %}</section>"""


def framed(body: str, *, title: str = "{{ title }}", style: str = "") -> jinja2.Template:
    """A whole page; what it is filled with is escaped, but for markup.

    Args:
        body: the template of what stands between ``<body>`` and ``</body>``. title: that of the window's title.
        style: of this page, beside that of all.
    """
    pages = jinja2.Environment(autoescape=True, trim_blocks=True)
    source = FRAME.replace("TITLE", title).replace("BODY", body)
    return pages.from_string(source, globals={"style": Markup(STYLE + style)})


def render(**values: Any) -> str:
    """The page; values that are no markup are escaped."""
    return framed(PAGE).render(**values)
