"""Texts of a video: title, speech with its recognition errors, tags, captions; and ad-hoc topics over many videos.

Every text tells only a part. Titles, speech and tags come with the set of factors that they really give away, which the
oracles of the corpus card use; captions and topics with the facts that they name. Sentences take any synonym of a
word; tags take its name.
"""

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter

from videomatch.synthetic.latent import Latent, scalar_rng, scenes
from videomatch.synthetic.vocabulary import (
    BAIT,
    CATEGORIES,
    DATA,
    ENTITIES,
    LANGUAGES,
    NAMES,
    NOISE_TAGS,
    WORDS,
    inflected,
    weighted,
)

# streams of random numbers
TITLE, SPEECH, TAGS, CAPTIONS = range(20, 24)
TOPICS, NARRATED = 26, 27

#: seconds of speech per character, as planned (speech is fitted to the plan when it is rendered)
SECONDS_PER_CHARACTER = {"en": 0.075, "zh": 0.22}
#: fields of a sentence that together tell one more fact: what is where, and what comes first
COUPLED = {
    ("place", "action"): "place_action",
    ("place1", "action1"): "place_action",
    ("place2", "action2"): "place_action",
    ("place1", "place2"): "place_order",
    ("action1", "action2"): "action_order",
}
_ARTICLE = re.compile(r"\ba (?=[aeiou])")
SHORT = 5.0  #: presenters of videos of less than so many seconds start with the topic


#: factors with their values, as in the table ``facts``
Facts = tuple[tuple[str, str], ...]

#: fields of a sentence that tell several factors of the object, or of its companion
OBJECT = {"subject": ("count", "colour", "shape"), "plain": ("count", "shape"), "companion": ("colour", "shape")}


def joined(latent: Latent, scene: int, fields: Sequence[str]) -> str:
    """The names of a scene's factors, like ``place``, and of the one after it, like ``place2``."""
    steps = [(field.rstrip("12"), latent.script[scene + (field[-1] == "2")]) for field in fields]
    return ", ".join(NAMES[name][getattr(step, name)] for name, step in steps)


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
    rng, w = latent.scalar_rng(TITLE), latent.language_index
    chances = {"topic": 0.9, "angle": 0.6, "entity": 0.5, "place": 0.08, "colour": 0.04}
    parts, known = _parts(latent, rng, chances, any_word=True)
    for needed, chance, *template in DATA["titled"]:
        if rng.random() < chance and (at := _scenes_with(latent, needed)):
            text, _ = _told(latent, template[w], w, rng, rng.choice(at))
            parts.append(text)
            known |= _named(template[w])
    if rng.random() < 0.3:
        parts.insert(0, rng.choice(BAIT)[w])
    if rng.random() < 0.1:
        parts.append(rng.choice(NOISE_TAGS)[w])
    if not parts:
        parts = [rng.choice(BAIT)[w]]
    text = rng.choice([[": ", " - ", ", ", " "], ["，", "！", "：", " "]][w]).join(parts)
    text = text[0].upper() + text[1:]
    if rng.random() < 0.2:
        text += ["!", "！"][w] * rng.randrange(1, 3)
    if rng.random() < 0.25:
        text += " " + rng.choice(DATA["emoji"])
    if rng.random() < 0.15:
        text += [" #", "#"][w] + rng.choice(NOISE_TAGS)[w].replace(" ", "")
    return text, known


def speech(latent: Latent) -> tuple[list[Utterance], frozenset[str]]:
    """What the presenter says, in order of time and without overlap, and the factors that it tells."""
    if not latent.has_speech or latent.format.audio_rate is None:
        return [], frozenset()
    rng, w, is_short = latent.scalar_rng(SPEECH), latent.language_index, latent.duration < SHORT
    lines = [*DATA["spoken_in_short"], *DATA["spoken"][2:]] if is_short else DATA["spoken"]
    at = (0.1 if is_short else 0.2) + rng.random() * (0.2 if is_short else 0.6)
    spoken: list[Utterance] = []
    known: frozenset[str] = frozenset()
    for needed, chance, *template in lines:
        if rng.random() >= chance or not (possible := _scenes_with(latent, needed)):
            continue
        text, _ = _told(latent, template[w], w, rng, rng.choice(possible))
        length = 0.3 + SECONDS_PER_CHARACTER[latent.language] * len(text)
        if at + length < latent.duration - 0.1:
            recognised = _recognised(text, latent.language, rng)
            spoken.append(Utterance(round(at, 3), round(at + length, 3), text, recognised))
            known |= _named(template[w])
            at += length + 0.15 + rng.expovariate(2.5)
    return spoken, known


@dataclass(frozen=True)
class Narrated(Sentence):
    """A title (without times), or a part of a transcript as a recogniser wrote it, from ``start`` to ``end`` (s).
    ``told_of`` is whose scenes it tells: the video's ``own``, those of an ``other``, or ``none``."""

    told_of: str
    start: float | None = None
    end: float | None = None


#: parts of a transcript for each scene; the share of them that tell nothing, also where the others do
LINES, IDLE = 2, 0.25


def narrated(latent: Latent, other: Latent, shares: Mapping[str, float]) -> Iterator[Narrated]:
    """The title and the transcript of a video of the web; each is of another video, or of none, by its own chance."""
    rng, found = latent.scalar_rng(NARRATED), scenes(latent)
    parts = [(k, scene.start, (scene.end - scene.start) / LINES) for k, scene in enumerate(found)]
    times = [
        (k, start + part * length, start + (part + 0.95) * length)
        for k, start, length in parts
        for part in range(LINES)
    ]
    for kind, moments in (("narrated_titles", [(rng.randrange(len(found)), None, None)]), ("narrated", times)):
        told_of = weighted(rng, shares)
        teller = other if told_of == "other" else latent
        for scene, start, end in moments:
            tells = "none" if start is not None and rng.random() < IDLE else told_of
            text, facts = _narrated(teller, kind, rng, scene % len(teller.script), tells)
            if start is None or (text := _recognised(text, teller.language, rng)):
                yield Narrated(teller.language, text, facts, tells, start and round(start, 3), end and round(end, 3))


def _narrated(teller: Latent, kind: str, rng: random.Random, scene: int, told_of: str) -> tuple[str, Facts]:
    """A sentence about a scene, or about nothing."""
    w = teller.language_index
    if told_of == "none":
        if kind == "narrated":
            return rng.choice(DATA["chatter"])[w], ()
        words = [rng.choice(BAIT)[w], *(tag[w] for tag in rng.sample(NOISE_TAGS, rng.randint(2, 5)))]
        return [" ", "，"][w].join(words), ()
    possible = [sentence for needed, *sentence in DATA[kind] if scene in _scenes_with(teller, needed)]
    return _told(teller, rng.choice(possible)[w], w, rng, scene)


def tags(latent: Latent) -> tuple[list[str], frozenset[str]]:
    """Noisy and incomplete tags without repetition, and the factors that they tell: mostly those of the texts."""
    rng, w = latent.scalar_rng(TAGS), latent.language_index
    category, topics = CATEGORIES[latent.category]
    wanted = {"topic": 0.7, "entity": 0.55, "angle": 0.35, "place": 0.4, "shape": 0.25, "action": 0.25, "colour": 0.2}
    result, known = _parts(latent, rng, {**wanted, "mood": 0.1})
    if rng.random() < 0.7:
        result.append(category[w])
    if rng.random() < 0.3:  # a neighbouring topic: related, but wrong
        result.append(rng.choice(topics)[w][0])
    for _ in range(rng.randrange(4)):
        result.append(rng.choice(NOISE_TAGS)[w])
    if rng.random() < 0.35:  # the long tail: a rare name
        result.append(rng.choice(ENTITIES)[w])
    return list(dict.fromkeys(result)) or [category[w]], known


def captions(latent: Latent, count: int) -> list[Sentence]:
    """``count`` (at most 20) sentences of different kinds or languages, each of another part of what the video has."""
    rng, sentences = latent.scalar_rng(CAPTIONS), []
    kinds = [(w, template[w], needed) for needed, *template in DATA["captions"] for w in range(len(LANGUAGES))]
    rng.shuffle(kinds)
    for w, template, needed in kinds:
        if len(sentences) < count and (at := _scenes_with(latent, needed)):
            sentences.append(Sentence(LANGUAGES[w], *_told(latent, template, w, rng, rng.choice(at))))
    return sentences


def _scenes_with(latent: Latent, needed: str) -> Sequence[int]:
    """Numbers of the scenes of which a sentence can tell that needs something of the video; none if it is missing."""
    every = range(len(latent.script))
    if needed == "order":  # a scene that another follows
        return every[:-1]
    if needed == "companion":
        return [k for k in every if latent.script[k].companion]
    if needed == "words":
        return [k for k, scene in enumerate(scenes(latent)) if scene.words]
    if needed == "presenter":
        there = any(scene.presented for scene in scenes(latent)) or "presenter" in speech(latent)[1]
    else:
        there = not needed or (needed == "sound") == (latent.format.audio_rate is not None)
    return every if there else ()


def _told(latent: Latent, template: str, w: int, rng: random.Random, scene: int) -> tuple[str, Facts]:
    """A sentence about a scene, and the one after it, with the facts that it names."""
    fields = _fields(template)
    is_one = not latent.factors["count"] or not {"subject", "plain"} & set(fields)
    values: dict[str, str] = {}
    facts: dict[tuple[str, str], None] = {}

    def word(factor: str, position: int, ending: bool = False, prefix: str = "") -> str:
        facts[prefix + factor, NAMES[factor][position]] = None
        return inflected(rng.choice(WORDS[factor][position][w]), ending)

    for field in fields:
        name = field.rstrip("12")
        step = latent.script[scene + (field[-1] == "2")]
        if name == "written":
            values[field] = scenes(latent)[scene].words
            facts["words", values[field]] = None
        elif name == "companion" and step.companion:
            colour = word("colour", step.companion.colour, prefix="companion_")
            shape = word("shape", step.companion.shape, prefix="companion_")
            values[field] = (f"a {colour} {shape}", f"一个{colour}的{shape}")[w]
        elif name in OBJECT:
            told = [
                word(factor, latent.factors[factor], ending=not is_one and factor == "shape") for factor in OBJECT[name]
            ]
            values[field] = (" ".join(told), told[0] + "".join(f"{c}的" for c in told[1:-1]) + told[-1])[w]
        elif name == "relation" and step.companion:
            values[field] = word(name, step.companion.relation)
        else:
            position = getattr(step, name) if name in ("place", "action") else latent.factors[name]
            values[field] = word(name, position, ending=is_one and name == "action")
    for names in COUPLED:
        if {*names} <= {*fields}:
            facts[COUPLED[names], joined(latent, scene, names)] = None
    text = template.format_map(values)
    return (_ARTICLE.sub("an ", text) if w == 0 else text), tuple(facts)


@lru_cache(maxsize=256)
def _fields(template: str) -> tuple[str, ...]:
    return tuple(name for _, name, _, _ in Formatter().parse(template) if name)


def _named(template: str) -> frozenset[str]:
    """The factors that a sentence tells."""
    fields = [field.rstrip("12") for field in _fields(template)]
    return frozenset(itertools.chain(*(OBJECT.get(field, (field,)) for field in fields))) & WORDS.keys()


def _parts(
    latent: Latent, rng: random.Random, chances: dict[str, float], any_word: bool = False
) -> tuple[list[str], frozenset[str]]:
    """The words of some factors in random order, and these factors; of places and actions one of them."""
    picked = [name for name, chance in chances.items() if rng.random() < chance]
    rng.shuffle(picked)
    step, words = rng.choice(latent.script), []
    for name in picked:
        position = getattr(step, name) if name in ("place", "action") else latent.factors[name]
        synonyms = WORDS[name][position][latent.language_index]
        words.append(inflected(rng.choice(synonyms) if any_word else synonyms[0], name == "action"))
    return words, frozenset(picked)


def _recognised(text: str, language: str, rng: random.Random) -> str:
    """Recognition errors: about 12 % of the words (characters in Chinese) dropped, doubled or replaced."""
    units = text.lower().replace(",", "").split() if language == "en" else [c for c in text if c != "，"]
    other = ["and", "the", "a", "for", "noted", "were"] if language == "en" else list("的是在了和有")
    result: list[str] = []
    for unit in units:
        kind = rng.random()
        if kind < 0.04:
            continue
        result += [rng.choice(other)] if kind < 0.1 else [unit, unit] if kind < 0.12 else [unit]
    return (" " if language == "en" else "").join(result)


MIN_RELEVANT = 3  #: relevant videos that a topic needs
#: chance of a relevant, and of another video, to be in the stratum that is judged whole; and of the rest to be judged
FIRST, FIRST_OTHERS, JUDGED = 0.7, 0.1, 0.4


@dataclass(frozen=True)
class Topic:
    """A sentence as TRECVID asks for, the ids of all videos that have its one to three factors, and what assessors
    would have judged: all of stratum 1, with most of the relevant ones, and a part of stratum 2. ``strata`` is video id
    -> (stratum, judgement): 1 relevant, 0 not relevant, -1 not judged."""

    text: str
    facts: Facts
    relevant: list[str]
    strata: dict[str, tuple[str, int]]


def topics(latents: Mapping[str, Latent], count: int, seed: int) -> list[Topic]:
    """``count`` topics (or as many as have :data:`MIN_RELEVANT` relevant videos), of each kind of sentence in turn."""
    rng = scalar_rng(seed, TOPICS)
    by_sentence: list[list[tuple[str, Facts, list[str]]]] = []
    for needed, sentence in DATA["topics"]:
        found: dict[Facts, tuple[str, dict[str, None]]] = {}
        for video, latent in latents.items():
            for scene in _scenes_with(latent, needed):
                text, facts = _told(latent, sentence, 0, rng, scene)
                found.setdefault(facts, (text, {}))[1][video] = None
        enough = [(text, facts, list(videos)) for facts, (text, videos) in found.items() if len(videos) >= MIN_RELEVANT]
        rng.shuffle(enough)
        by_sentence.append(enough)
    in_turn = filter(None, itertools.chain(*itertools.zip_longest(*by_sentence)))
    chosen = itertools.islice(in_turn, count)
    return [Topic(text, facts, videos, _judged(list(latents), set(videos), rng)) for text, facts, videos in chosen]


def _judged(videos: list[str], relevant: set[str], rng: random.Random) -> dict[str, tuple[str, int]]:
    strata = {}
    for video in videos:
        is_first = rng.random() < (FIRST if video in relevant else FIRST_OTHERS)
        is_judged = rng.random() < JUDGED or is_first
        strata[video] = ("1" if is_first else "2", int(video in relevant) if is_judged else -1)
    return strata
