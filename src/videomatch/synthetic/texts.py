"""Texts of a video: title, speech with its recognition errors, tags, captions; and ad-hoc topics over many videos.

Every text tells only a part. Titles, speech and tags come with the set of factors that they really give away, which the
oracles of the corpus card use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from videomatch.synthetic import vocabulary
from videomatch.synthetic.latent import FACTORS, Latent, scenes

TITLE, SPEECH, TAGS, CAPTIONS = range(20, 24)
TOPICS = 26
#: seconds of speech per character, as planned (speech is fitted to the plan when it is rendered)
SECONDS_PER_CHARACTER = {"en": 0.075, "zh": 0.22}
#: presenters of videos of less than so many seconds start with the topic
SHORT = 5.0


@dataclass(frozen=True)
class Utterance:
    """Speech from ``start`` to ``end`` (s): ``text`` as spoken, ``recognised`` as a recogniser wrote it."""

    start: float
    end: float
    text: str
    recognised: str


def title(latent: Latent) -> tuple[str, frozenset[str]]:
    """The title: nearly always the topic, often the angle or the name, sometimes noise, seldom what is visible."""
    rng, w = latent.rng(TITLE), vocabulary.language_index(latent.language)
    parts, known = _parts(latent, rng, {"topic": 0.9, "angle": 0.6, "entity": 0.5, "place": 0.08, "colour": 0.04}, w)
    if rng.random() < 0.3:
        parts.insert(0, vocabulary.BAIT[rng.integers(len(vocabulary.BAIT))][w])
    if rng.random() < 0.1:
        parts.append(vocabulary.NOISE_TAGS[rng.integers(len(vocabulary.NOISE_TAGS))][w])
    if not parts:
        parts = [vocabulary.BAIT[rng.integers(len(vocabulary.BAIT))][w]]
    marks = [[": ", " - ", ", ", " "], ["，", "！", "：", " "]][w]
    text = marks[rng.integers(len(marks))].join(parts)
    text = text[0].upper() + text[1:]
    if rng.random() < 0.2:
        text += ["!", "！"][w] * int(rng.integers(1, 3))
    if rng.random() < 0.25:
        text += " " + vocabulary.EMOJI[rng.integers(len(vocabulary.EMOJI))]
    if rng.random() < 0.15:
        text += [" #", "#"][w] + vocabulary.NOISE_TAGS[rng.integers(len(vocabulary.NOISE_TAGS))][w].replace(" ", "")
    return text, known


def speech(latent: Latent) -> tuple[list[Utterance], frozenset[str]]:
    """What the presenter says, in order of time and without overlap, and the factors that it tells."""
    if not latent.has_speech or latent.format.audio_rate is None:
        return [], frozenset()
    rng, w = latent.rng(SPEECH), vocabulary.language_index(latent.language)
    topic, name = vocabulary.TOPICS[latent.factors["topic"]][w], vocabulary.entity(latent.factors["entity"])[w]
    angle, host = vocabulary.ANGLES[latent.factors["angle"]][w], vocabulary.PRESENTERS[latent.factors["presenter"]][w]
    lines: list[tuple[str, tuple[str, ...]]] = [
        ([f"Hello, this is {host}", f"大家好，我是{host}"][w], ("presenter",)),
        ([f"today we talk about {topic}", f"今天我们聊聊{topic}"][w], ("topic",)),
        ([f"thanks to {name}", f"感谢{name}的支持"][w], ("entity",)),
        ([f"{topic}, {angle}", f"{topic}，{angle}"][w], ("topic", "angle")),
        (["let us begin", "我们开始吧"][w], ()),
        (["look at this", "大家看这里"][w], ()),
        ([f"{name} is here again", f"{name}又来了"][w], ("entity",)),
        (["see you next time", "我们下次再见"][w], ()),
    ]
    chances = [0.4, 0.75, 0.45, 0.5, 0.3, 0.35, 0.3, 0.4]
    is_short = latent.duration < SHORT
    if is_short:
        lines[:2] = [
            ([f"about {topic}", f"说说{topic}"][w], ("topic",)),
            ([f"I am {host}", f"我是{host}"][w], ("presenter",)),
        ]
        chances[:2] = [0.85, 0.6]
    keep = rng.random(len(lines)) < np.array(chances)
    at = (0.1 if is_short else 0.2) + rng.random() * (0.2 if is_short else 0.6)
    spoken: list[Utterance] = []
    known: set[str] = set()
    for (text, tells), kept in zip(lines, keep, strict=True):
        length = 0.3 + SECONDS_PER_CHARACTER[latent.language] * len(text)
        if kept and at + length < latent.duration - 0.1:
            recognised = _recognised(text, latent.language, rng)
            spoken.append(Utterance(round(at, 3), round(at + length, 3), text, recognised))
            known.update(tells)
            at += length + 0.15 + rng.exponential(0.4)
    return spoken, frozenset(known)


def tags(latent: Latent) -> tuple[list[str], frozenset[str]]:
    """Tags in the video's language without repetition, noisy and incomplete, and the factors that they tell: mostly
    those of the texts, some of the visual ones."""
    rng, w = latent.rng(TAGS), vocabulary.language_index(latent.language)
    category, topics = vocabulary.CATEGORIES[latent.category]
    wanted = {"topic": 0.7, "entity": 0.55, "angle": 0.35, "place": 0.4, "shape": 0.25, "action": 0.25, "colour": 0.2}
    wanted["mood"] = 0.1
    result, known = _parts(latent, rng, wanted, w)
    if rng.random() < 0.7:
        result.append(category[w])
    if rng.random() < 0.3:  # a neighbouring topic: related, but wrong
        result.append(topics[rng.integers(len(topics))][w])
    for _ in range(rng.integers(0, 4)):
        result.append(vocabulary.NOISE_TAGS[rng.integers(len(vocabulary.NOISE_TAGS))][w])
    if rng.random() < 0.35:  # the long tail: a rare name
        result.append(vocabulary.entity(int(rng.integers(vocabulary.NUM_ENTITIES)))[w])
    return list(dict.fromkeys(result)) or [category[w]], known


def captions(latent: Latent, count: int) -> list[tuple[str, str]]:
    """``count`` (at most 14) different (language, sentence), each telling another part: the visual factors and the
    topic; some the music, the presenter (where visible or named) or the words on the screen."""
    english, chinese = (_captions(latent, w) for w in (0, 1))
    written = [("en", sentence) for sentence in english] + [("zh", sentence) for sentence in chinese]
    return [written[k] for k in latent.rng(CAPTIONS).permutation(len(written))[:count]]


def screen_words(latent: Latent) -> list[tuple[float, float, str]]:
    """Words over the picture: (start, end, words), seconds."""
    return [(s.start, s.end, s.words) for s in scenes(latent) if s.words]


def _parts(
    latent: Latent, rng: np.random.Generator, chances: dict[str, float], which: int
) -> tuple[list[str], frozenset[str]]:
    picked = [name for name, chance in chances.items() if rng.random() < chance]
    order = rng.permutation(len(picked))
    return [value(latent, picked[k])[which] for k in order], frozenset(picked)


def value(latent: Latent, factor: str) -> vocabulary.Word:
    """The word for a factor of this video."""
    position = latent.factors[factor]
    if factor == "entity":
        return vocabulary.entity(position)
    if factor == "colour":
        return vocabulary.COLOURS[position][:2]
    table = {
        "place": vocabulary.PLACES,
        "shape": vocabulary.SHAPES,
        "action": vocabulary.ACTIONS,
        "topic": vocabulary.TOPICS,
        "angle": vocabulary.ANGLES,
        "mood": vocabulary.MOODS,
        "presenter": vocabulary.PRESENTERS,
    }
    return table[factor][position]


def _captions(latent: Latent, w: int) -> list[str]:
    v = {name: value(latent, name)[w] for name in FACTORS}
    a = "an" if v["colour"][0] in "aeiou" else "a"
    english = [
        f"{a} {v['colour']} {v['shape']} {v['action']} in the {v['place']}",
        f"in a {v['place']} scene {a} {v['colour']} {v['shape']} {v['action']}",
        f"the {v['shape']} {v['action']} while someone talks about {v['topic']}",
        f"a video about {v['topic']} with {a} {v['colour']} {v['shape']}",
        f"in the {v['place']} something {v['colour']} {v['action']}",
        f"{v['topic']} {v['angle']}, shown in the {v['place']}",
        f"{a} {v['colour']} {v['shape']} that {v['action']}, about {v['topic']}",
    ]
    chinese = [
        f"{v['place']}里一个{v['colour']}的{v['shape']}在{v['action']}",
        f"{v['colour']}{v['shape']}在{v['place']}{v['action']}",
        f"一边讲{v['topic']}，一边有{v['shape']}在{v['action']}",
        f"关于{v['topic']}的视频，画面里有{v['colour']}的{v['shape']}",
        f"{v['place']}，{v['colour']}的东西在{v['action']}",
        f"{v['topic']}{v['angle']}，背景是{v['place']}",
        f"{v['colour']}的{v['shape']}{v['action']}，主题是{v['topic']}",
    ]
    if latent.format.audio_rate is not None:
        english[4] = f"{v['mood']} music plays over the {v['place']}, something {v['colour']} {v['action']}"
        english.append(f"{v['mood']} music and {v['topic']} {v['angle']}")
        english.append(f"a {v['shape']} in the {v['place']} {v['action']} to {v['mood']} music")
        chinese[4] = f"{v['mood']}的音乐，{v['place']}，{v['colour']}的东西在{v['action']}"
        chinese.append(f"{v['mood']}的音乐，讲的是{v['topic']}{v['angle']}")
        chinese.append(f"{v['place']}里有{v['shape']}随着{v['mood']}的音乐{v['action']}")
    all_scenes = scenes(latent)
    if any(scene.presented for scene in all_scenes) or "presenter" in speech(latent)[1]:
        english.append(f"{v['presenter']} presents {v['topic']} in front of the {v['place']}")
        english.append(f"{v['presenter']} talks in the {v['place']} beside {a} {v['colour']} {v['shape']}")
        chinese.append(f"{v['presenter']}在{v['place']}前介绍{v['topic']}")
        chinese.append(f"{v['presenter']}在{v['place']}说话，旁边是{v['colour']}的{v['shape']}")
    if written := next((scene.words for scene in all_scenes if scene.words), ""):
        english.append(f'the words "{written}" stand over {a} {v["colour"]} {v["shape"]}')
        english.append(f'somebody wrote "{written}" over the {v["place"]}')
        chinese.append(f"{v['colour']}的{v['shape']}上写着“{written}”")
        chinese.append(f"{v['place']}的画面上写着“{written}”")
    return (english, chinese)[w]


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


# -------------------------------------------------------------------------------------------------- ad-hoc topics

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
MIN_RELEVANT = 3
#: chance of a relevant, and of another video, to be in the stratum that is judged whole; and of the rest to be judged
FIRST, FIRST_OTHERS, JUDGED = 0.7, 0.1, 0.4


@dataclass(frozen=True)
class Topic:
    """A sentence as TRECVID asks for, the ids of all videos that show it, and what was judged.

    A topic names one or two factors; the videos that have them are relevant, which is known. A protocol gets what
    assessors would have judged: all of stratum 1 (with most of the relevant ones, as in what good systems return
    first), a part of stratum 2.

    Attributes:
        strata: video id -> (stratum, judgement): 1 relevant, 0 not relevant, -1 not judged.
    """

    text: str
    relevant: list[str]
    strata: dict[str, tuple[str, int]]


def topics(latents: Mapping[str, Latent], count: int, seed: int) -> list[Topic]:
    """``count`` topics (or as many as have :data:`MIN_RELEVANT` relevant videos), of each kind of sentence in turn."""
    rng = np.random.default_rng([seed, TOPICS])
    waiting: list[list[tuple[str, list[str]]]] = []
    for factors, sentence in SENTENCES.items():
        found: dict[tuple[int, ...], list[str]] = {}
        for video, latent in latents.items():
            found.setdefault(tuple(latent.factors[f] for f in factors), []).append(video)
        asked = [
            (sentence.format(**{f: value(latents[videos[0]], f)[0] for f in factors}), videos)
            for _, videos in sorted(found.items())
            if len(videos) >= MIN_RELEVANT
        ]
        waiting.append([asked[n] for n in rng.permutation(len(asked))])
    made: list[Topic] = []
    while len(made) < count and any(waiting):
        for asked in waiting:
            if asked and len(made) < count:
                text, videos = asked.pop()
                made.append(Topic(text, videos, _judged(list(latents), set(videos), rng)))
    return made


def _judged(videos: list[str], relevant: set[str], rng: np.random.Generator) -> dict[str, tuple[str, int]]:
    draws = rng.random((len(videos), 2))
    strata = {}
    for video, (first, second) in zip(videos, draws, strict=True):
        is_first = first < (FIRST if video in relevant else FIRST_OTHERS)
        is_judged = is_first or second < JUDGED
        strata[video] = ("1" if is_first else "2", int(video in relevant) if is_judged else -1)
    return strata
