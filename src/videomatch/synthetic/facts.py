"""What is true of a video, and when: the rows of the table ``facts``."""

from __future__ import annotations

from collections.abc import Mapping

from videomatch.synthetic import openings, vocabulary
from videomatch.synthetic.copies import Copy
from videomatch.synthetic.latent import FACTORS, Latent, scenes

#: factor, value, and from when to when (s); both None of the whole video
Fact = tuple[str, str, float | None, float | None]


def of_video(latent: Latent) -> list[Fact]:
    """Factors of the whole video, words on the screen by scene, and its channel where that is seen."""
    found: list[Fact] = [(name, word, None, None) for name, word in vocabulary.words(latent.factors, 0).items()]
    found.append(("category", vocabulary.CATEGORIES[latent.category][0][0], None, None))
    found += [("words", scene.words, scene.start, scene.end) for scene in scenes(latent) if scene.words]
    opened = [cover for cover in openings.covers(latent) if cover.since is not None]
    return found + [("channel", str(latent.channel), cover.start, cover.end) for cover in opened]


def of_copy(copy: Copy, sources: Mapping[int, Latent]) -> list[Fact]:
    """Facts of a query video: what pictures show at the times at which they show it, of the host and of the segments;
    what is told and heard is the host's, as its title is."""
    visible = {*FACTORS["visual"], "words", "channel"}
    found = [fact for fact in of_video(copy.host) if fact[0] not in visible]
    cuts = [0.0, *(time for s in copy.segments for time in (s.query_start, s.query_end)), copy.duration]
    pieces = [
        (copy.host, start, end, copy.host_time(start), 1.0)
        for start, end in zip(cuts[::2], cuts[1::2], strict=True)
        if end > start
    ]
    pieces += [(sources[s.source], s.query_start, s.query_end, s.reference_start, s.speed) for s in copy.segments]
    for latent, start, end, source_start, speed in sorted(pieces, key=lambda piece: piece[1]):
        source_end = source_start + (end - start) * speed
        for factor, value, first, last in of_video(latent):
            first, last = max(first or 0.0, source_start), source_end if last is None else min(last, source_end)
            if factor in visible and last > first:
                times = (start + (time - source_start) / speed for time in (first, last))
                found.append((factor, value, *times))
    return found
