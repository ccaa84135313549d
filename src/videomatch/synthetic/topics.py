"""Ad-hoc topics over the generated videos, as TRECVID asks them: a sentence, many videos that show it, judged in part.

A topic names one or two factors of the world; the videos whose story has them are relevant, and that is known. What a
protocol gets to see is what assessors would have seen: every video is pooled, those of stratum 1 (where most of the
relevant ones are, as in what good systems return first) are all judged, of stratum 2 a share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from videomatch.synthetic.language import value
from videomatch.synthetic.story import Story

#: factors that a topic names -> its sentence
SENTENCES = {
    ("colour", "shape"): "something {colour} in the form of a {shape}",
    ("place", "shape"): "a {shape} in front of a {place}",
    ("action", "shape"): "a {shape} that {action}",
    ("topic",): "a video about {topic}",
    ("place", "topic"): "{topic}, with a {place} in the picture",
    ("mood", "place"): "{mood} music and a {place}",
}
#: relevant videos that a topic needs
LEAST = 3
#: chance of a relevant, and of another video, to be in the stratum that is judged whole; and of the rest to be judged
FIRST, FIRST_OTHERS, JUDGED = 0.7, 0.1, 0.4
TOPICS = 26


@dataclass(frozen=True)
class Topic:
    """A sentence, the ids of all videos that show it, and what was judged of them and the others.

    Attributes:
        strata: video id -> (stratum, judgement): 1 relevant, 0 not, -1 nobody looked.
    """

    text: str
    relevant: list[str]
    strata: dict[str, tuple[str, int]]


def topics(stories: Mapping[str, Story], count: int, seed: int) -> list[Topic]:
    """``count`` topics (or as many as have :data:`LEAST` relevant videos), the kinds of sentences taking turns."""
    rng = np.random.default_rng([seed, TOPICS])
    waiting: list[list[tuple[str, list[str]]]] = []
    for factors, sentence in SENTENCES.items():
        found: dict[tuple[int, ...], list[str]] = {}
        for video, story in stories.items():
            found.setdefault(tuple(story.latents[f] for f in factors), []).append(video)
        asked = [
            (sentence.format(**{f: value(stories[videos[0]], f)[0] for f in factors}), videos)
            for _, videos in sorted(found.items())
            if len(videos) >= LEAST
        ]
        waiting.append([asked[n] for n in rng.permutation(len(asked))])
    made: list[Topic] = []
    while len(made) < count and any(waiting):
        for asked in waiting:
            if asked and len(made) < count:
                text, videos = asked.pop()
                made.append(Topic(text, videos, _judged(list(stories), set(videos), rng)))
    return made


def _judged(videos: list[str], relevant: set[str], rng: np.random.Generator) -> dict[str, tuple[str, int]]:
    draws = rng.random((len(videos), 2))
    strata = {}
    for video, (first, looked) in zip(videos, draws, strict=True):
        is_first = first < (FIRST if video in relevant else FIRST_OTHERS)
        is_judged = is_first or looked < JUDGED
        strata[video] = ("1" if is_first else "2", int(video in relevant) if is_judged else -1)
    return strata
