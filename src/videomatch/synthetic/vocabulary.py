"""The words of the latent factors, with synonyms in English and Chinese. A factor's value is a position in its list.

``vocabulary.yaml`` has the words, and what follows from them: colours, faces, music, sentences.
"""

import random
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

#: in English and in Chinese
Pair = tuple[str, str]
#: synonyms in English and in Chinese, the names first
Word = tuple[list[str], list[str]]
T = TypeVar("T")

#: the file
DATA: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
LANGUAGES = ("en", "zh")  #: in the order of a :data:`Word`


def _synonyms(words: Mapping[str, str]) -> list[Word]:
    return [(english.split("/"), chinese.split("/")) for english, chinese in words.items()]


#: each with its topics
CATEGORIES: list[tuple[Pair, list[Word]]] = [((*words,), _synonyms(topics)) for *words, topics in DATA["category"]]
TOPICS_EACH = 6
NOISE_TAGS: list[Pair] = [*DATA["noise_tags"].items()]
BAIT: list[Pair] = [*DATA["bait"].items()]

_ONSETS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "sh", "ch"]
_VOWELS = ["a", "e", "i", "o", "u", "ai"]
_HAN_FIRST = "金银龙凤天海云山星月华宝福安康乐"
_HAN_LAST = "达美奇丽特佳源泰鑫宏盛洋诚利悦程"


def _entity(index: int) -> Pair:
    a, b = index % len(_ONSETS), index // len(_ONSETS)
    vowel, other = _VOWELS[b % len(_VOWELS)], _VOWELS[(a + b) % len(_VOWELS)]
    english = f"{_ONSETS[a]}{vowel}{_ONSETS[(3 * a + 5 * b + 1) % len(_ONSETS)]}{other}{'nlx'[b % 3]}{'ao'[b // 12]}"
    han = _HAN_FIRST[a] + _HAN_LAST[b % 16] + ("" if b < 16 else "司")
    return english.capitalize(), han


#: made-up names of brands, teams and places, for example ``("Bamika", "金达")``; all differ
ENTITIES: list[Pair] = [_entity(index) for index in range(320)]

#: factor -> its words
WORDS: dict[str, list[Word]] = {
    **{name: _synonyms(DATA[name]) for name in ("place", "shape", "colour", "action", "count", "relation")},
    "topic": [topic for _, topics in CATEGORIES for topic in topics],
    "entity": [([english], [chinese]) for english, chinese in ENTITIES],
    **{name: _synonyms(DATA[name]) for name in ("angle", "mood", "presenter")},
}
_ENDING = re.compile(r"\((e?s)\)")


@lru_cache(maxsize=2048)
def inflected(word: str, ending: bool) -> str:
    """A word with its ending, or without."""
    return _ENDING.sub(r"\1" if ending else "", word)


#: factor -> the names of its values: nouns as of one, verbs as of what one does
NAMES = {factor: [inflected(word[0][0], factor == "action") for word in words] for factor, words in WORDS.items()}


def weighted(rng: random.Random, shares: Mapping[T, float]) -> T:
    """A random key, each as often as its share."""
    return rng.choices(list(shares), list(shares.values()))[0]
