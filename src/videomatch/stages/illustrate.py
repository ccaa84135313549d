"""``illustrate``: a page to look at: each query with its nearest neighbours, thumbnails and scores.

The page is one file without scripts or addresses of other places; titles and ids are escaped.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
import polars as pl

from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.media.thumbnail import data_url, thumbnail
from videomatch.progress import track

#: queries on one page: more would be a page that no browser opens quickly
MOST_QUERIES = 60

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>
:root { color-scheme: light dark; --line: #8884; }
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; } p { margin: 0 0 1rem; opacity: .75; }
.row { display: flex; gap: .75rem; padding: .75rem 0; border-top: 1px solid var(--line); overflow-x: auto; }
figure { margin: 0; width: 150px; flex: none; } figure.query { width: 180px; padding-right: .75rem; }
figure.query { border-right: 3px solid #2a7de1; }
.still { height: 110px; display: flex; align-items: center; justify-content: center; background: #8882; }
img { max-height: 110px; max-width: 100%; display: block; }
figcaption { font-size: 12px; max-height: 4.2em; overflow: hidden; }
.score { font-variant-numeric: tabular-nums; font-weight: 600; }
.id { opacity: .6; word-break: break-all; }
</style></head><body>
<h1>{{ title }}</h1>
<p>System <b>{{ system }}</b>. Left, each query; then its {{ top }} nearest references by cosine similarity.
{{ queries|length }} of {{ total }} queries are shown.</p>
{% macro still(video) %}<div class="still">
{% if video.picture %}<img alt="" src="{{ video.picture }}">{% else %}no picture{% endif %}</div>{% endmacro %}
{% for query in queries %}<div class="row"><figure class="query">{{ still(query) }}<figcaption>{{ query.title }} <span
class="id">{{ query.id }}</span></figcaption></figure>
{% for near in query.near %}<figure>{{ still(near) }}<figcaption>
<span class="score">{{ "%.3f"|format(near.score) }}</span> {{ near.title }}
<span class="id">{{ near.id }}</span></figcaption></figure>{% endfor %}</div>
{% endfor %}</body></html>
"""


def illustrate(*, corpus: Path, rankings: Path, output: Path, title: str, top: int, system: str) -> None:
    """Write ``index.html`` and ``neighbours.csv`` (query_id, rank, reference_id, score) from a ranking of videos.

    Args:
        corpus: result of ``prepare``.
        rankings: result of ``search`` between videos.
        title: heading of the page.
        top: neighbours shown of each query.
        system: the system's name, printed on the page.
    """
    nearest = neighbours(tables.read("rankings", rankings), top)
    nearest.write_csv(output / "neighbours.csv")
    queries = nearest["query_id"].unique(maintain_order=True).to_list()
    shown = queries[:: max(1, -(-len(queries) // MOST_QUERIES))]
    part = nearest.filter(pl.col("query_id").is_in(shown))
    needed = set(shown) | set(part["reference_id"])
    videos = corpora.videos(corpus).filter(pl.col("video_id").is_in(list(needed)))
    stills = {
        v["video_id"]: picture(v["path"], v["duration"])
        for v in track(videos.select("video_id", "path", "duration").to_dicts(), label="thumbnails")
    }
    titles = dict(
        tables.read("texts", corpus)
        .filter((pl.col("kind") == "title") & pl.col("video_id").is_in(list(needed)))
        .select("video_id", "text")
        .iter_rows()
    )

    def described(video_id: str) -> dict[str, object]:
        return {"id": video_id, "title": titles.get(video_id, ""), "picture": stills.get(video_id)}

    rows = [
        described(query)
        | {"near": [described(r) | {"score": s} for r, s in group.select("reference_id", "score").iter_rows()]}
        for (query,), group in part.group_by("query_id", maintain_order=True)
    ]
    page = jinja2.Environment(autoescape=True).from_string(TEMPLATE)
    html = page.render(title=title, system=system, top=top, queries=rows, total=len(queries))
    (output / "index.html").write_text(html, encoding="utf-8")


def neighbours(rankings: pl.DataFrame, top: int) -> pl.DataFrame:
    """The ``top`` best references of each query: query_id, rank (from 1), reference_id, score; ties by id."""
    return (
        rankings.sort(["query_id", "score", "reference_id"], descending=[False, True, False])
        .with_columns(pl.int_range(1, pl.len() + 1).over("query_id").alias("rank"))
        .filter(pl.col("rank") <= top)
        .select("query_id", "rank", "reference_id", "score")
    )


def picture(path: str | None, duration: float | None) -> str | None:
    """The thumbnail of a video as a data address, or None where there is no picture."""
    still = thumbnail(Path(path), duration) if path else None
    return data_url(still) if still is not None else None
