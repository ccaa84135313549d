"""What is said and written about a story: title, speech with its recognition errors, tags, captions.

Every text tells only a part. :class:`Said` records which factors a title, the speech or the tags really give away,
which is what the oracles of the corpus card use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from videomatch.synthetic import words
from videomatch.synthetic.scenes import scenes
from videomatch.synthetic.story import FACTORS, Story

TITLE, SPEECH, TAGS, CAPTIONS, ERRORS = range(20, 25)
#: captions of every story in each language; there are more of one with a known presenter or with words on the screen
NUM_TEMPLATES = 7
#: seconds of speech per character, as planned (speech is fitted to the plan when it is rendered)
SECONDS_PER_CHARACTER = {"en": 0.075, "zh": 0.22}
#: in clips of less than so many seconds presenters come to the point at once
SHORT = 5.0


@dataclass(frozen=True)
class Said:
    """A text and the factors that a reader learns from it."""

    text: str
    known: frozenset[str]


@dataclass(frozen=True)
class Utterance:
    """Something said from ``start`` to ``end`` (s): ``text`` as spoken, ``heard`` as a recogniser wrote it."""

    start: float
    end: float
    text: str
    heard: str


def title(story: Story) -> Said:
    """The title: nearly always the topic, often the angle or the name, sometimes shouting, seldom what is seen."""
    rng, w = story.rng(TITLE), words.language_index(story.language)
    parts, known = _parts(story, rng, {"topic": 0.9, "angle": 0.6, "entity": 0.5, "place": 0.08, "colour": 0.04}, w)
    if rng.random() < 0.3:
        parts.insert(0, words.BAIT[rng.integers(len(words.BAIT))][w])
    if rng.random() < 0.1:
        parts.append(words.NOISE_TAGS[rng.integers(len(words.NOISE_TAGS))][w])
    if not parts:
        parts = [words.BAIT[rng.integers(len(words.BAIT))][w]]
    marks = [[": ", " - ", ", ", " "], ["，", "！", "：", " "]][w]
    text = marks[rng.integers(len(marks))].join(parts)
    text = text[0].upper() + text[1:]
    if rng.random() < 0.2:
        text += ["!", "！"][w] * int(rng.integers(1, 3))
    if rng.random() < 0.25:
        text += " " + words.EMOJI[rng.integers(len(words.EMOJI))]
    if rng.random() < 0.15:
        text += [" #", "#"][w] + words.NOISE_TAGS[rng.integers(len(words.NOISE_TAGS))][w].replace(" ", "")
    return Said(text, known)


def speech(story: Story) -> tuple[list[Utterance], frozenset[str]]:
    """What the presenter says, in order of time and without overlap, and the factors it tells. Silence gives ``[]``."""
    if not story.has_speech or story.shot.audio_rate is None:
        return [], frozenset()
    rng, w = story.rng(SPEECH), words.language_index(story.language)
    topic, name = words.TOPICS[story.latents["topic"]][w], words.entity(story.latents["entity"])[w]
    angle, host = words.ANGLES[story.latents["angle"]][w], words.PRESENTERS[story.latents["presenter"]][w]
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
    is_short = story.duration < SHORT
    if is_short:
        lines[:2] = [
            ([f"about {topic}", f"说说{topic}"][w], ("topic",)),
            ([f"I am {host}", f"我是{host}"][w], ("presenter",)),
        ]
        chances[:2] = [0.85, 0.6]
    keep = rng.random(len(lines)) < np.array(chances)
    at = (0.1 if is_short else 0.2) + rng.random() * (0.2 if is_short else 0.6)
    said: list[Utterance] = []
    known: set[str] = set()
    for (text, tells), kept in zip(lines, keep, strict=True):
        length = 0.3 + SECONDS_PER_CHARACTER[story.language] * len(text)
        if kept and at + length < story.duration - 0.1:
            heard = _misheard(text, story.language, rng)
            said.append(Utterance(round(at, 3), round(at + length, 3), text, heard))
            known.update(tells)
            at += length + 0.15 + rng.exponential(0.4)
    return said, frozenset(known)


def tags(story: Story) -> tuple[list[str], frozenset[str]]:
    """Tags in the video's language without repetition, noisy and incomplete, and the factors they tell: mostly what is
    spoken of, some of what is seen, as people tag."""
    rng, w = story.rng(TAGS), words.language_index(story.language)
    category, topics = words.CATEGORIES[story.category]
    wanted = {"topic": 0.7, "entity": 0.55, "angle": 0.35, "place": 0.4, "shape": 0.25, "action": 0.25, "colour": 0.2}
    wanted["mood"] = 0.1
    result, known = _parts(story, rng, wanted, w)
    if rng.random() < 0.7:
        result.append(category[w])
    if rng.random() < 0.3:  # a neighbouring topic: related, but wrong
        result.append(topics[rng.integers(len(topics))][w])
    for _ in range(rng.integers(0, 4)):
        result.append(words.NOISE_TAGS[rng.integers(len(words.NOISE_TAGS))][w])
    if rng.random() < 0.35:  # the long tail: a name that nobody else uses much
        result.append(words.entity(int(rng.integers(words.NUM_ENTITIES)))[w])
    return list(dict.fromkeys(result)) or [category[w]], known


def captions(story: Story, count: int) -> list[tuple[str, str]]:
    """``count`` (at most 14) different (language, sentence), each telling another part of the story: what is seen and
    spoken of, and in some what music is heard, who presents it (if seen or heard to be named) or what is written."""
    english, chinese = (_captions(story, w) for w in (0, 1))
    written = [("en", sentence) for sentence in english] + [("zh", sentence) for sentence in chinese]
    return [written[k] for k in story.rng(CAPTIONS).permutation(len(written))[:count]]


def screen_words(story: Story) -> list[tuple[float, float, str]]:
    """What is written over the picture: (start, end, words), seconds."""
    return [(s.start, s.end, s.words) for s in scenes(story) if s.words]


def _parts(
    story: Story, rng: np.random.Generator, chances: dict[str, float], which: int
) -> tuple[list[str], frozenset[str]]:
    picked = [name for name, chance in chances.items() if rng.random() < chance]
    order = rng.permutation(len(picked))
    return [value(story, picked[k])[which] for k in order], frozenset(picked)


def value(story: Story, factor: str) -> words.Word:
    """The word for a factor of this story."""
    position = story.latents[factor]
    if factor == "entity":
        return words.entity(position)
    if factor == "colour":
        return words.COLOURS[position][:2]
    table = {
        "place": words.PLACES, "shape": words.SHAPES, "action": words.ACTIONS, "topic": words.TOPICS,
        "angle": words.ANGLES, "mood": words.MOODS, "presenter": words.PRESENTERS,
    }  # fmt: skip
    return table[factor][position]


def _captions(story: Story, w: int) -> list[str]:
    v = {name: value(story, name)[w] for name in FACTORS}
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
    if story.shot.audio_rate is not None:
        english[4] = f"{v['mood']} music plays over the {v['place']}, something {v['colour']} {v['action']}"
        english.append(f"{v['mood']} music and {v['topic']} {v['angle']}")
        english.append(f"a {v['shape']} in the {v['place']} {v['action']} to {v['mood']} music")
        chinese[4] = f"{v['mood']}的音乐，{v['place']}，{v['colour']}的东西在{v['action']}"
        chinese.append(f"{v['mood']}的音乐，讲的是{v['topic']}{v['angle']}")
        chinese.append(f"{v['place']}里有{v['shape']}随着{v['mood']}的音乐{v['action']}")
    shown = scenes(story)
    if any(scene.presented for scene in shown) or "presenter" in speech(story)[1]:
        english.append(f"{v['presenter']} presents {v['topic']} in front of the {v['place']}")
        english.append(f"{v['presenter']} talks in the {v['place']} beside {a} {v['colour']} {v['shape']}")
        chinese.append(f"{v['presenter']}在{v['place']}前介绍{v['topic']}")
        chinese.append(f"{v['presenter']}在{v['place']}说话，旁边是{v['colour']}的{v['shape']}")
    if written := next((scene.words for scene in shown if scene.words), ""):
        english.append(f'the words "{written}" stand over {a} {v["colour"]} {v["shape"]}')
        english.append(f'somebody wrote "{written}" over the {v["place"]}')
        chinese.append(f"{v['colour']}的{v['shape']}上写着“{written}”")
        chinese.append(f"{v['place']}的画面上写着“{written}”")
    return (english, chinese)[w]


def _misheard(text: str, language: str, rng: np.random.Generator) -> str:
    """Recognition errors: about 12 % of the words (characters in Chinese) dropped, doubled or replaced."""
    units = text.lower().replace(",", "").split() if language == "en" else [c for c in text if c != "，"]
    other = ["and", "the", "a", "for", "noted", "were"] if language == "en" else list("的是在了和有")
    heard: list[str] = []
    for unit in units:
        kind = rng.random()
        if kind < 0.04:
            continue
        heard += [other[rng.integers(len(other))]] if kind < 0.1 else [unit, unit] if kind < 0.12 else [unit]
    return (" " if language == "en" else "").join(heard)
