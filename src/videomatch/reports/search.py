"""The page of ``videomatch serve``: a box to ask in, and what was found as pictures. No scripts; nothing is fetched but
the pictures, from this machine."""

from __future__ import annotations

from typing import Any

from videomatch.reports.template import framed

MORE = """
form { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; }
input, select, button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: .4rem .6rem; }
input[type=search] { flex: 1 1 20rem; min-width: 0; }
button { background: var(--train); color: var(--paper); border-color: var(--train); cursor: pointer; }
.error { color: var(--val); overflow-wrap: anywhere; }
.found { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(190px, 45%), 1fr)); gap: 1rem .75rem;
  list-style: none; padding: 0; max-width: none; }
.found a { display: block; text-decoration: none; color: inherit; }
.found a:hover .still, .found a:focus .still { outline: 2px solid var(--train); }
.found .still, .like .still { height: 120px; } .found img, .like img { max-height: 120px; }
.found .words { font-size: 13px; line-height: 1.4; overflow-wrap: anywhere; color: var(--ink); }
.like { display: flex; gap: 1rem; align-items: center; overflow-wrap: anywhere; } .like .still { min-width: 120px; }
"""

PAGE = """{% macro systems(names, chosen) %}<select name="system" aria-label="system">{% for name in names %}<option
{% if name == chosen %} selected{% endif %}>{{ name }}</option>{% endfor %}</select>{% endmacro %}
<h1>{{ title }}</h1>
<form action="/" role="search"><input type="search" name="q" value="{{ question }}" maxlength="{{ longest }}"
aria-label="what to look for" placeholder="What do the videos show?"{% if not like %} autofocus{% endif %}>
{{ systems(askable, asked_system) }}<input type="hidden" name="top" value="{{ top }}"><button>Search</button></form>
{% if error %}<p class="error" role="alert">{{ error }}</p>{% endif %}
{% if like %}<section class="like"><div class="still"><img src="{{ like.picture }}" alt="no picture"></div>
<div><h2>Videos like this one</h2><p>{{ like.title }} <span class="id">{{ like.id }}</span></p>
<form action="/"><input type="hidden" name="like" value="{{ like.id }}">{{ systems(built, like_system) }}
<input type="hidden" name="top" value="{{ top }}"><button>Show</button></form></div></section>{% endif %}
{% if answer %}<p class="soft">{{ answer.hits|length }} videos of <b>{{ answer.dataset }}</b> by the system
<b>{{ answer.system }}</b>, {{ "%.0f"|format(1000 * answer.seconds.total) }} ms.
{% for note in answer.notes %} {{ note }}.{% endfor %}</p>
<ol class="found">
{% for hit in hits %}<li><a href="{{ hit.more }}" title="videos like this one"><div class="still"><img loading="lazy"
src="{{ hit.picture }}" alt="no picture"></div><div class="words"><span class="score">{{ "%.3f"|format(hit.score)
}}</span> {{ hit.title }} <span class="id">{{ hit.id }}</span></div></a></li>
{% endfor %}</ol>{% endif %}
"""

TEMPLATE = framed(PAGE, title="{% if question %}{{ question }} – {% endif %}{{ title }}", style=MORE)


def render(**values: Any) -> str:
    """The page; every value is escaped."""
    return TEMPLATE.render(**values)
