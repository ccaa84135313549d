"""HTML pages from the templates of this room (``templates/``), and Markdown tables as HTML.

Pages are readable in light and dark, on a telephone and on paper. They hold no script, and load nothing from elsewhere
but videos that a person plays. Values are escaped unless they are markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("videomatch.reports"),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
)
#: no markup of its own and no addresses: labels and notes of tables may be anything
MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table")
MARKDOWN.disable(["link", "image", "autolink", "reference"])


def clock(seconds: float, step: float = 0.1) -> str:
    """``mm:ss.s``, ``h:mm:ss.s`` from an hour on; without tenths where ``step`` is whole seconds."""
    tenths = max(0, round(seconds * 10))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60) if minutes >= 60 else (0, minutes)
    text = (f"{hours}:" if hours else "") + f"{minutes:02d}:{rest // 10:02d}"
    return text if step >= 1 else f"{text}.{rest % 10}"


ENVIRONMENT.filters["clock"] = clock


@dataclass(frozen=True)
class Shown:
    """A video on a page, or a part of it: ``video`` and ``picture`` are addresses (None: it cannot be played, or has no
    picture), ``facts`` are said of it, and ``links`` are texts with their addresses. It plays from ``start`` to ``end``
    (s), where these are given."""

    name: str
    video: str | None = None
    picture: str | None = None
    start: float | None = None
    end: float | None = None
    facts: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()

    @property
    def address(self) -> str | None:
        """Of the video, with the part that is played."""
        is_part = self.video is not None and self.start is not None and self.end is not None
        return f"{self.video}#t={self.start:.3f},{self.end:.3f}" if is_part else self.video


def render(template: str, **values: Any) -> str:
    """A template of this room (a file of ``templates/``) with its values."""
    return ENVIRONMENT.get_template(template).render(**values)


def markdown(text: str) -> Markup:
    """A Markdown text as HTML; headings become ``h3``, and lines stay lines."""
    tokens = MARKDOWN.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "h3"
    html = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
    return Markup(html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>"))
