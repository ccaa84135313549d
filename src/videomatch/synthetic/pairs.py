"""Labelled pairs: which videos are compared, and the grade that annotators give.

The shape follows the AIAC training labels (67,899 pairs, own count of the public label file): 36 % of the grades are
0, 14 % are 1, the mean is 0.36, grades come in steps of 0.05; one giant component holds a quarter of the videos and
63 % of the pairs, most other components are 2 videos. Pairs stay within a side, so each of train, val and test has its
giant.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from videomatch.synthetic.options import WorldOptions
from videomatch.synthetic.story import FAMILY_SIZE, PAIRS, Story, family_of, library_story, likeness, side_of

#: share of the families whose videos join the giant component, and of those that make chains of three
GIANT, CHAINS = 0.26, 0.11
#: share of the giant's pairs that are siblings
SIBLINGS = 0.85
#: likeness below which annotators say 0, and above which they say 1
NOTHING, SAME = 0.14, 0.72
SIDE_NUMBERS = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class Pair:
    """Two library videos (by index), their grade and their side."""

    query: int
    reference: int
    grade: float
    side: str


def pairs(seed: int, options: WorldOptions) -> list[Pair]:
    """All labelled pairs of the corpus; none stands twice, neither as (a, b) nor as (b, a)."""
    rng = np.random.default_rng([seed, PAIRS])
    result: list[Pair] = []
    stories: dict[int, Story] = {}
    families = math.ceil(options.num_library / FAMILY_SIZE)
    for side in SIDE_NUMBERS:
        mine = [f for f in range(families) if side_of(f) == side]
        for a, b in _chosen(mine, rng, options):
            for index in (a, b):
                if index not in stories:
                    stories[index] = library_story(seed, index, options)
            result.append(Pair(a, b, grade(stories[a], stories[b], rng, options.label_noise), side))
    return result


def grade(a: Story, b: Story, rng: np.random.Generator, noise: float) -> float:
    """The annotators' grade in steps of 0.05: likeness, stretched between "nothing" and "same", plus their noise."""
    stretched = (likeness(a, b) - NOTHING) / (SAME - NOTHING)
    return round(round(float(np.clip(stretched + noise * rng.normal(), 0, 1)) * 20) / 20, 2)


def _members(family: int, options: WorldOptions) -> list[int]:
    first = family * FAMILY_SIZE
    return list(range(first, min(first + FAMILY_SIZE, options.num_library)))


def _chosen(families: list[int], rng: np.random.Generator, options: WorldOptions) -> list[tuple[int, int]]:
    """Pairs of videos of one side: couples, chains, and the giant that takes up the rest of the wanted number."""
    order = [families[k] for k in rng.permutation(len(families))]
    num_giant = max(round(GIANT * len(order)), 1)
    num_chains = round(CHAINS * len(order))
    giant = [m for f in order[:num_giant] for m in _members(f, options)]
    result: list[tuple[int, int]] = []
    for number, family in enumerate(order[num_giant:]):
        members = _members(family, options)
        members = [members[k] for k in rng.permutation(len(members))]
        size = 3 if number < num_chains else 2
        for k in range(0, len(members), size):
            group = members[k : k + size]
            result += list(itertools.pairwise(group))
    everyone = sum(len(_members(f, options)) for f in order)
    return result + _giant(giant, max(round(options.pairs * everyone) - len(result), len(giant) - 1), rng)


def _giant(members: list[int], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """``count`` pairs that connect all ``members``: a random tree that prefers much-compared videos, then more."""
    count = min(count, len(members) * (len(members) - 1) // 2)
    ends: list[int] = members[:1]  # every video as often as it has pairs: a draw from here prefers the famous
    seen: dict[tuple[int, int], None] = {}
    inside = set(members)

    def add(a: int, b: int) -> None:
        key = (min(a, b), max(a, b))
        if a != b and key not in seen:
            seen[key] = None
            ends.extend((a, b))

    for position in range(1, len(members)):
        a = members[position]
        siblings = [m for m in members[max(position - FAMILY_SIZE, 0) : position] if family_of(m) == family_of(a)]
        near = bool(siblings) and rng.random() < SIBLINGS
        add(a, siblings[rng.integers(len(siblings))] if near else ends[rng.integers(len(ends))])
    while len(seen) < count:
        a = ends[rng.integers(len(ends))]
        near = family_of(a) * FAMILY_SIZE + int(rng.integers(FAMILY_SIZE))
        far = members[rng.integers(len(members))]
        b = near if rng.random() < SIBLINGS else far
        if b in inside:
            before = len(seen)
            add(a, b)
            if len(seen) == before:  # a family that is used up must not keep us
                add(far, members[rng.integers(len(members))])
    return [(a, b) if rng.random() < 0.5 else (b, a) for a, b in seen]
