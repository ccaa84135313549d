"""Cutting a story into scenes: when, which place, what is written over the picture. Pure, and cheap without pixels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from videomatch.synthetic import words
from videomatch.synthetic.story import Scene, Story

#: mean length of a scene, s
SCENE_SECONDS = 3.2
#: share of the stories whose presenter is seen, and of their scenes after the first in which that is so
SEEN, SEEN_AGAIN = 0.5, 0.7


def scenes(story: Story) -> tuple[Scene, ...]:
    """The scenes of a story in order; the first starts at 0, the last ends at its duration."""
    return _scenes(story.seed, story.duration, story.language, tuple(sorted(story.latents.items())))


@lru_cache(maxsize=64)
def _scenes(
    seed: tuple[int, ...], duration: float, language: str, latents: tuple[tuple[str, int], ...]
) -> tuple[Scene, ...]:
    rng = np.random.default_rng([*seed, 10])
    known = dict(latents)
    count = int(np.clip(round(duration / SCENE_SECONDS + rng.normal(0, 0.5)), 1 if duration < 5 else 2, 9))
    lengths = rng.dirichlet(np.full(count, 8.0)) * duration
    edges = np.concatenate([[0.0], np.cumsum(lengths)])
    edges[-1] = duration
    which = words.language_index(language)
    host = np.random.default_rng([*seed, 11])
    seen = host.random() < SEEN
    result = []
    for k in range(count):
        inset = count > 2 and k > 0 and rng.random() < 0.2
        text = _written(known, which, rng) if rng.random() < 0.6 else ""
        extra = bool(rng.random() < 0.35)
        layout = int(rng.integers(2**31))
        presented = bool(seen and (host.random() < SEEN_AGAIN or k == 0))
        result.append(
            Scene(float(edges[k]), float(edges[k + 1]), known["place"], layout, inset, extra, text, presented)
        )
    return tuple(result)


def _written(latents: dict[str, int], which: int, rng: np.random.Generator) -> str:
    """Words on the screen: more often empty talk than what the video is about."""
    kind = rng.random()
    if kind < 0.2:
        return words.TOPICS[latents["topic"]][which]
    if kind < 0.35:
        return words.entity(latents["entity"])[which]
    if kind < 0.45:
        return words.ANGLES[latents["angle"]][which]
    if kind < 0.6:
        return (f"Chapter {rng.integers(1, 9)}", f"第{'一二三四五六七八'[rng.integers(8)]}章")[which]
    return words.BAIT[rng.integers(len(words.BAIT))][which]
