"""The vocabulary of the latent factors, each word in English and Chinese. A factor's value is a position in its list.

``vocabulary.yaml`` has the words, and what follows from them: colours, faces, music, sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

Word = tuple[str, str]
T = TypeVar("T")

#: the file
DATA: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
LANGUAGES = ("en", "zh")  #: in the order of a :data:`Word`
#: each with its topics
CATEGORIES: list[tuple[Word, list[Word]]] = [((*words,), [*topics.items()]) for *words, topics in DATA["category"]]
TOPICS_EACH = 6
NOISE_TAGS: list[Word] = [*DATA["noise_tags"].items()]
BAIT: list[Word] = [*DATA["bait"].items()]

_ONSETS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "sh", "ch"]
_VOWELS = ["a", "e", "i", "o", "u", "ai"]
_HAN_FIRST = "金银龙凤天海云山星月华宝福安康乐"
_HAN_LAST = "达美奇丽特佳源泰鑫宏盛洋诚利悦程"


def _entity(index: int) -> Word:
    a, b = index % len(_ONSETS), index // len(_ONSETS)
    vowel, other = _VOWELS[b % len(_VOWELS)], _VOWELS[(a + b) % len(_VOWELS)]
    english = f"{_ONSETS[a]}{vowel}{_ONSETS[(3 * a + 5 * b + 1) % len(_ONSETS)]}{other}{'nlx'[b % 3]}{'ao'[b // 12]}"
    han = _HAN_FIRST[a] + _HAN_LAST[b % 16] + ("" if b < 16 else "司")
    return english.capitalize(), han


#: made-up names of brands, teams and places, for example ``("Bamika", "金达")``; all differ
ENTITIES: list[Word] = [_entity(index) for index in range(320)]

#: factor -> its words
WORDS: dict[str, list[Word]] = {
    **{name: [*DATA[name].items()] for name in ("place", "shape", "colour", "action")},
    "topic": [topic for _, topics in CATEGORIES for topic in topics],
    "entity": ENTITIES,
    **{name: [*DATA[name].items()] for name in ("angle", "mood", "presenter")},
}


def words(factors: Mapping[str, int], which: int) -> dict[str, str]:
    """Factor -> its word in the language at this position of :data:`LANGUAGES`."""
    return {name: WORDS[name][position][which] for name, position in factors.items()}


def weighted(rng: np.random.Generator, shares: Mapping[T, float]) -> T:
    """A random key, each as often as its share."""
    return list(shares)[rng.choice(len(shares), p=list(shares.values()))]


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """A random element."""
    return choices[int(rng.integers(len(choices)))]
