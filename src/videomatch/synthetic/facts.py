"""What is true of a video, and when: the rows of the table ``facts``.

Besides the factors these are the channel and the words on the screen, the shape, colour and place of companions, and
what several factors tell together: what is done where (``place_action``), and what comes first (``…_order``). Texts of
the web have one more, whose scenes they tell (``told_of``: own, other, none).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from videomatch.synthetic import openings, vocabulary
from videomatch.synthetic.copies import Copy
from videomatch.synthetic.latent import FACTORS, Latent, scenes
from videomatch.synthetic.texts import joined
from videomatch.synthetic.vocabulary import NAMES

#: factor, value, and from when to when (s); both None of the whole video
Fact = tuple[str, str, float | None, float | None]


def of_video(latent: Latent) -> list[Fact]:
    """All facts of a library video."""
    order: list[Fact] = []
    for k, (scene, after) in enumerate(itertools.pairwise(scenes(latent))):
        for name in ("place", "action"):
            order.append((f"{name}_order", joined(latent, k, [f"{name}1", f"{name}2"]), scene.start, after.end))
    return _told(latent) + _visible(latent) + order


def of_copy(copy: Copy, sources: Mapping[int, Latent]) -> list[Fact]:
    """Facts of a query video: what pictures show at the times at which they show it, of the host and of the segments;
    what is told and heard is the host's, as its title is."""
    found = _told(copy.host)
    cuts = [0.0, *(time for s in copy.segments for time in (s.query_start, s.query_end)), copy.duration]
    pieces = [
        (copy.host, start, end, copy.host_time(start), 1.0)
        for start, end in zip(cuts[::2], cuts[1::2], strict=True)
        if end > start
    ]
    pieces += [(sources[s.source], s.query_start, s.query_end, s.reference_start, s.speed) for s in copy.segments]
    for latent, start, end, source_start, speed in sorted(pieces, key=lambda piece: piece[1]):
        source_end = source_start + (end - start) * speed
        for factor, value, first, last in _visible(latent):
            first, last = max(first or 0.0, source_start), source_end if last is None else min(last, source_end)
            if last > first:
                first, last = (start + (time - source_start) / speed for time in (first, last))
                found.append((factor, value, first, last))
    return found


def _told(latent: Latent) -> list[Fact]:
    names = [*FACTORS["text"], *FACTORS["sound"]]
    category = vocabulary.CATEGORIES[latent.category][0][0]
    told = {name: NAMES[name][latent.factors[name]] for name in names} | {"category": category}
    return [(name, value, None, None) for name, value in told.items()]


def _visible(latent: Latent) -> list[Fact]:
    found: list[Fact] = [(n, NAMES[n][latent.factors[n]], None, None) for n in ("shape", "colour", "count")]
    for k, scene in enumerate(scenes(latent)):
        step = scene.step
        shown = {"place": NAMES["place"][step.place], "action": NAMES["action"][step.action]}
        shown["place_action"] = joined(latent, k, ["place", "action"])
        if step.companion:
            shown |= {f"companion_{name}": NAMES[name][getattr(step.companion, name)] for name in ("shape", "colour")}
            shown["relation"] = NAMES["relation"][step.companion.relation]
        if scene.words:
            shown["words"] = scene.words
        found += [(factor, value, scene.start, scene.end) for factor, value in shown.items()]
    opened = [cover for cover in openings.covers(latent) if cover.since is not None]
    return found + [("channel", str(latent.channel), cover.start, cover.end) for cover in opened]
