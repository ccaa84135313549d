"""Texts of a video: title, speech with its recognition errors, tags, captions; and ad-hoc topics over many videos.

Every text tells only a part. Titles, speech and tags come with the set of factors that they really give away, which the
oracles of the corpus card use.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from videomatch.synthetic.latent import Latent, scenes
from videomatch.synthetic.vocabulary import BAIT, CATEGORIES, DATA, ENTITIES, LANGUAGES, NOISE_TAGS, WORDS, pick, words

# streams of random numbers
TITLE, SPEECH, TAGS, CAPTIONS = range(20, 24)
TOPICS = 26

#: seconds of speech per character, as planned (speech is fitted to the plan when it is rendered)
SECONDS_PER_CHARACTER = {"en": 0.075, "zh": 0.22}
SHORT = 5.0  #: presenters of videos of less than so many seconds start with the topic


#: factors with their values, as in the table ``facts``
Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Sentence:
    """A caption, and the facts about the video that it names."""

    language: str
    text: str
    facts: Facts


@dataclass(frozen=True)
class Utterance:
    """Speech from ``start`` to ``end`` (s): ``text`` as spoken, ``recognised`` as a recogniser wrote it."""

    start: float
    end: float
    text: str
    recognised: str


def title(latent: Latent) -> tuple[str, frozenset[str]]:
    """The title: nearly always the topic, often the angle or the name, sometimes noise, seldom what is visible."""
    rng, w = latent.rng(TITLE), latent.language_index
    parts, known = _parts(latent, rng, {"topic": 0.9, "angle": 0.6, "entity": 0.5, "place": 0.08, "colour": 0.04})
    if rng.random() < 0.3:
        parts.insert(0, pick(rng, BAIT)[w])
    if rng.random() < 0.1:
        parts.append(pick(rng, NOISE_TAGS)[w])
    if not parts:
        parts = [pick(rng, BAIT)[w]]
    text = pick(rng, [[": ", " - ", ", ", " "], ["，", "！", "：", " "]][w]).join(parts)
    text = text[0].upper() + text[1:]
    if rng.random() < 0.2:
        text += ["!", "！"][w] * int(rng.integers(1, 3))
    if rng.random() < 0.25:
        text += " " + pick(rng, DATA["emoji"])
    if rng.random() < 0.15:
        text += [" #", "#"][w] + pick(rng, NOISE_TAGS)[w].replace(" ", "")
    return text, known


def speech(latent: Latent) -> tuple[list[Utterance], frozenset[str]]:
    """What the presenter says, in order of time and without overlap, and the factors that it tells."""
    if not latent.has_speech or latent.format.audio_rate is None:
        return [], frozenset()
    rng, is_short = latent.rng(SPEECH), latent.duration < SHORT
    lines = [*DATA["spoken_in_short"], *DATA["spoken"][2:]] if is_short else DATA["spoken"]
    is_said = rng.random(len(lines)) < np.array([chance for chance, *_ in lines])
    at = (0.1 if is_short else 0.2) + rng.random() * (0.2 if is_short else 0.6)
    spoken: list[Utterance] = []
    known: set[str] = set()
    for (_, *templates), said in zip(lines, is_said, strict=True):
        template = templates[latent.language_index]
        text = template.format(**latent.words)
        length = 0.3 + SECONDS_PER_CHARACTER[latent.language] * len(text)
        if said and at + length < latent.duration - 0.1:
            recognised = _recognised(text, latent.language, rng)
            spoken.append(Utterance(round(at, 3), round(at + length, 3), text, recognised))
            known.update(_named(template))
            at += length + 0.15 + rng.exponential(0.4)
    return spoken, frozenset(known)


def tags(latent: Latent) -> tuple[list[str], frozenset[str]]:
    """Noisy and incomplete tags without repetition, and the factors that they tell: mostly those of the texts."""
    rng, w = latent.rng(TAGS), latent.language_index
    category, topics = CATEGORIES[latent.category]
    wanted = {"topic": 0.7, "entity": 0.55, "angle": 0.35, "place": 0.4, "shape": 0.25, "action": 0.25, "colour": 0.2}
    result, known = _parts(latent, rng, {**wanted, "mood": 0.1})
    if rng.random() < 0.7:
        result.append(category[w])
    if rng.random() < 0.3:  # a neighbouring topic: related, but wrong
        result.append(pick(rng, topics)[w])
    for _ in range(rng.integers(0, 4)):
        result.append(pick(rng, NOISE_TAGS)[w])
    if rng.random() < 0.35:  # the long tail: a rare name
        result.append(pick(rng, ENTITIES)[w])
    return list(dict.fromkeys(result)) or [category[w]], known


def captions(latent: Latent, count: int) -> list[Sentence]:
    """``count`` (at most 14) different sentences, each telling another part of what the video has."""
    all_scenes = scenes(latent)
    written = next((scene.words for scene in all_scenes if scene.words), "")
    features = {"", "silence" if latent.format.audio_rate is None else "sound"}
    if any(scene.presented for scene in all_scenes) or "presenter" in speech(latent)[1]:
        features.add("presenter")
    if written:
        features.add("words")
    templates = [template for needed, *template in DATA["captions"] if needed in features]
    sentences = []
    for w, language in enumerate(LANGUAGES):
        values = words(latent.factors, w)
        a = "an" if values["colour"][0] in "aeiou" else "a"
        for template in templates:
            facts = _facts(latent, template[w]) + [("words", written)] * ("{written}" in template[w])
            sentences.append(Sentence(language, template[w].format(a=a, written=written, **values), facts))
    return [sentences[k] for k in latent.rng(CAPTIONS).permutation(len(sentences))[:count]]


def _parts(latent: Latent, rng: np.random.Generator, chances: dict[str, float]) -> tuple[list[str], frozenset[str]]:
    """The words of some factors in random order, and these factors."""
    picked = [name for name, chance in chances.items() if rng.random() < chance]
    order = rng.permutation(len(picked))
    return [latent.words[picked[k]] for k in order], frozenset(picked)


def _named(template: str) -> list[str]:
    """The factors in braces, sorted."""
    return sorted(name for name in WORDS if f"{{{name}}}" in template)


def _facts(latent: Latent, template: str) -> Facts:
    values = words(latent.factors, 0)
    return [(name, values[name]) for name in _named(template)]


def _recognised(text: str, language: str, rng: np.random.Generator) -> str:
    """Recognition errors: about 12 % of the words (characters in Chinese) dropped, doubled or replaced."""
    units = text.lower().replace(",", "").split() if language == "en" else [c for c in text if c != "，"]
    other = ["and", "the", "a", "for", "noted", "were"] if language == "en" else list("的是在了和有")
    result: list[str] = []
    for unit in units:
        kind = rng.random()
        if kind < 0.04:
            continue
        result += [other[rng.integers(len(other))]] if kind < 0.1 else [unit, unit] if kind < 0.12 else [unit]
    return (" " if language == "en" else "").join(result)


MIN_RELEVANT = 3  #: relevant videos that a topic needs
#: chance of a relevant, and of another video, to be in the stratum that is judged whole; and of the rest to be judged
FIRST, FIRST_OTHERS, JUDGED = 0.7, 0.1, 0.4


@dataclass(frozen=True)
class Topic:
    """A sentence as TRECVID asks for, the ids of all videos that have its one or two factors, and what assessors would
    have judged: all of stratum 1, with most of the relevant ones, and a part of stratum 2. ``strata`` is video id ->
    (stratum, judgement): 1 relevant, 0 not relevant, -1 not judged."""

    text: str
    facts: Facts
    relevant: list[str]
    strata: dict[str, tuple[str, int]]


def topics(latents: Mapping[str, Latent], count: int, seed: int) -> list[Topic]:
    """``count`` topics (or as many as have :data:`MIN_RELEVANT` relevant videos), of each kind of sentence in turn."""
    rng = np.random.default_rng([seed, TOPICS])
    by_sentence: list[list[tuple[str, Facts, list[str]]]] = []
    for sentence in DATA["topics"]:
        found: dict[tuple[int, ...], list[str]] = {}
        for video, latent in latents.items():
            found.setdefault(tuple(latent.factors[f] for f in _named(sentence)), []).append(video)
        enough = [videos for _, videos in sorted(found.items()) if len(videos) >= MIN_RELEVANT]
        shown = [latents[videos[0]] for videos in enough]
        possible = [
            (sentence.format(**words(latent.factors, 0)), _facts(latent, sentence), videos)
            for latent, videos in zip(shown, enough, strict=True)
        ]
        by_sentence.append([possible[n] for n in reversed(rng.permutation(len(possible)))])
    in_turn = filter(None, itertools.chain(*itertools.zip_longest(*by_sentence)))
    chosen = itertools.islice(in_turn, count)
    return [Topic(text, facts, videos, _judged(list(latents), set(videos), rng)) for text, facts, videos in chosen]


def _judged(videos: list[str], relevant: set[str], rng: np.random.Generator) -> dict[str, tuple[str, int]]:
    strata = {}
    for video, (first, second) in zip(videos, rng.random((len(videos), 2)), strict=True):
        is_first = first < (FIRST if video in relevant else FIRST_OTHERS)
        is_judged = is_first or second < JUDGED
        strata[video] = ("1" if is_first else "2", int(video in relevant) if is_judged else -1)
    return strata
