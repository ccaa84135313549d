"""Latent factors: every fact about a video before a pixel is drawn, and its scenes.

A video's latent is a function of ``(seed, index)`` alone, so any of 100,000 can be made without the others. An object
of some shape, colour and number goes through the video; its script says for each scene the place, what the object does
there, and its companion. Videos come in families, with two sets each of visual, text and sound factors.
:data:`ASSIGNED` distributes them so that some of the 15 pairs of siblings are similar in pictures but not in texts,
some in texts only, in both and in neither. Each two siblings then redraw a few visual factors, and each one a few of
the others, so no single modality tells how similar two videos are. The second of two differs from the first in one
visual factor: its hard negative. A family is in one split.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Hashable, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np

from videomatch.synthetic import vocabulary
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.vocabulary import weighted

FAMILY_SIZE = 6
#: for each member of a family: which of its two sets of factors it has
ASSIGNED = {"visual": (0, 0, 0, 0, 1, 1), "text": (0, 0, 1, 1, 0, 0), "sound": (0, 1, 0, 0, 1, 1)}
#: splits of the families 0..19, then again; 12 train, 3 val, 5 test
SPLITS = [{"r": "train", "v": "val", "t": "test"}[letter] for letter in "rtvrrtrrrtrvrrtrrvtr"]

#: shares of the modalities in the similarity, and of its factors in a modality
SHARE = {"visual": 0.50, "text": 0.37, "sound": 0.13}
FACTORS = {
    "visual": {"place": 0.30, "action": 0.22, "shape": 0.16, "colour": 0.16, "count": 0.08, "companion": 0.08},
    "text": {"topic": 0.55, "entity": 0.25, "angle": 0.20},
    "sound": {"mood": 0.60, "presenter": 0.40},
}
SCRIPTED = ("place", "action", "companion")  #: factors that each scene has its own of
IN_ORDER = 0.3  #: share of the similarity of two scripts that scenes have only if they are at the same position
MORE_SOUND = 0.3  #: added to the chance that a factor of the sound is redrawn
SAME_CATEGORY = 0.4  #: credit for two different topics of one category

#: shares of the frame rates, of width over height, of short sides (times the option ``size``) and of sampling rates
FRAME_RATES = {Fraction(25): 0.38, Fraction(24): 0.2, Fraction(30000, 1001): 0.2, Fraction(30): 0.12}
FRAME_RATES |= {Fraction(15): 0.06, Fraction(50): 0.04}
ASPECTS = {Fraction(16, 9): 0.66, Fraction(4, 3): 0.18, Fraction(1): 0.08, Fraction(2): 0.08}
SIZES = {1.0: 0.7, 0.75: 0.22, 1.25: 0.08}
AUDIO_RATES = {22050: 0.6, 44100: 0.25, 16000: 0.15}

#: shares of the videos taller than wide, and of those stored rotated, with a display matrix that rotates them back
VERTICAL, ROTATED = 0.15, 0.06
CHANNELS = 12  #: of videos that open and close alike
SCENE_SECONDS = 2.5  #: mean length of a scene of a clip, s
LONGER, MOST_SCENES = 0.85, 24  #: scenes of longer videos are longer: their number grows with a power of the length
COMPANION = 0.7  #: chance of a scene to have a companion, where the action leaves room
COURSES = 10  #: so many actions are courses, by two: one and its reverse
MEETING = (8, 9)  #: actions that need a companion, at one side
CROWDED = (10, 12, 13, 14, 15)  #: actions that leave no room for one
#: share of the videos whose presenter is visible, and of their scenes after the first in which that is so
SEEN, SEEN_AGAIN = 0.5, 0.7

# streams of random numbers, so that one purpose never disturbs another
LIBRARY, FAMILY, HOST, COPY, PAIRS, DISTRACTOR, CHANNEL, TWINS = range(8)
SCENES, PRESENTED = 10, 11


def scalar_rng(*key: int) -> random.Random:
    """Random numbers of a key, the same in every process. (Faster than NumPy's where they are drawn singly.)"""
    return random.Random(repr(key))


@dataclass(frozen=True)
class VideoFormat:
    """How a video is stored: size as shown (px), frames a second, H.264 settings, rotation (degrees), sound track."""

    width: int
    height: int
    fps: Fraction
    gop: int
    b_frames: int
    crf: int
    rotation: int
    audio_rate: int | None

    def drawing_time(self, number: int) -> float:
        """Time (s) of the drawing that frame ``number`` shows: there are about 13 a second at any frame rate."""
        hold = max(round(self.fps / 13), 1)
        return float(number // hold * hold / self.fps)

    def whole_frames(self, duration: float) -> float:
        """A duration (s) rounded to whole frames, at least two."""
        return float(max(round(Fraction(duration) * self.fps), 2) / self.fps)


@dataclass(frozen=True)
class Companion:
    """A second object of another shape and colour, and where it is (positions in the vocabulary)."""

    shape: int
    colour: int
    relation: int


@dataclass(frozen=True)
class Step:
    """What a scene shows: positions in the vocabulary."""

    place: int
    action: int
    companion: Companion | None


@dataclass(frozen=True)
class Latent:
    """All facts about one video: ``factors`` holds a position in the vocabulary for each of :data:`FACTORS` that is not
    :data:`SCRIPTED`, ``script`` what each scene shows; videos of one ``channel`` open and close alike."""

    seed: tuple[int, ...]
    family: int
    factors: dict[str, int] = field(hash=False)
    script: tuple[Step, ...] = field(hash=False)
    language: str
    duration: float
    format: VideoFormat
    has_speech: bool
    channel: int | None = None

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers for one purpose of this video, the same in every call."""
        return np.random.default_rng([*self.seed, purpose])

    def scalar_rng(self, purpose: int) -> random.Random:
        """The same for numbers that are drawn singly."""
        return scalar_rng(*self.seed, purpose)

    @property
    def language_index(self) -> int:
        """Position of the language in a word of the vocabulary."""
        return vocabulary.LANGUAGES.index(self.language)

    def name(self, factor: str) -> str:
        """The first word of a factor's value in the video's language."""
        return vocabulary.WORDS[factor][self.factors[factor]][self.language_index][0]

    @property
    def category(self) -> int:
        """Category of the topic."""
        return self.factors["topic"] // vocabulary.TOPICS_EACH


def family_of(index: int) -> int:
    """Family of library video ``index``."""
    return index // FAMILY_SIZE


def split_of(family: int) -> str:
    """``"train"``, ``"val"`` or ``"test"``: 60, 15 and 25 % of the families, the same in every corpus."""
    return SPLITS[family % len(SPLITS)]


def seed_of(seed: int, split: str, options: SyntheticOptions) -> int:
    """The seed of a split's videos, texts and labels."""
    return seed if split != "test" or options.test_seed is None else options.test_seed


@lru_cache(maxsize=2**14)
def library_latent(seed: int, index: int, options: SyntheticOptions) -> Latent:
    """The latent of library video ``index``, a member of family ``index // 6``."""
    family, member = divmod(index, FAMILY_SIZE)
    seed = seed_of(seed, split_of(family), options)
    rng = scalar_rng(seed, LIBRARY, index)
    visible, script, length = _twins(seed, index // 2, _num_scenes(options.max_duration))
    factors = dict(visible)
    change = _change(rng)
    for modality in ("text", "sound"):
        shared, own = _shared(seed, family, modality, ASSIGNED[modality][member]), _drawn(rng, modality)
        chance = change + (modality == "sound") * MORE_SOUND
        factors |= {name: own[name] if rng.random() < chance else shared[name] for name in own}
    english = scalar_rng(seed, FAMILY, family).random() < 0.6
    language = "en" if english != (rng.random() < 0.08) else "zh"
    file = _file(rng, options, length)
    script = script[: _num_scenes(file[0])]
    if index % 2:
        factors, script = _hard_negative(rng, factors, script)
    return Latent((seed, LIBRARY, index), family, factors, script, language, *file)


def host_latent(seed: int, index: int, options: SyntheticOptions, *, stream: int = HOST) -> Latent:
    """A latent outside every family (family -1): of the video into which query ``index`` may insert copies, or number
    ``index`` of another ``stream`` of strangers."""
    rng = scalar_rng(seed, stream, index)
    language = "en" if rng.random() < 0.6 else "zh"
    factors = {name: value for modality in FACTORS for name, value in _drawn(rng, modality).items()}
    file = _file(rng, options, rng.gauss(0, 1))
    script = _script(rng, factors, _num_scenes(file[0]))
    return Latent((seed, stream, index), -1, factors, script, language, *file)


@lru_cache(maxsize=16)
def _twins(seed: int, pair: int, most: int) -> tuple[dict[str, int], tuple[Step, ...], float]:
    """What siblings ``2 * pair`` and ``2 * pair + 1`` share: visual factors, script of as many scenes as they may have,
    and length in deviations."""
    family, member = divmod(2 * pair, FAMILY_SIZE)
    rng, assigned = scalar_rng(seed, TWINS, pair), ASSIGNED["visual"][member]
    change, own = _change(rng), _drawn(rng, "visual")
    shared = _shared(seed, family, "visual", assigned)
    factors = {name: own[name] if rng.random() < change else shared[name] for name in own}
    length = rng.gauss(0, 1)
    theirs, ours = _script(scalar_rng(seed, FAMILY, family, assigned), factors, most), _script(rng, factors, most)
    script = tuple(b if rng.random() < 2 * change else a for a, b in zip(theirs, ours, strict=True))
    return factors, script, length


@lru_cache(maxsize=64)
def _shared(seed: int, family: int, modality: str, assigned: int) -> dict[str, int]:
    return _drawn(scalar_rng(seed, FAMILY, family, len(modality), assigned), modality)


def _change(rng: random.Random) -> float:
    """Chance of a factor to be another than the family's."""
    return 0.02 + 0.22 * rng.betavariate(1, 3)


def _drawn(rng: random.Random, modality: str) -> dict[str, int]:
    """Independent values of a modality's factors; entities have a long tail, all others are uniform."""
    names = [name for name in FACTORS[modality] if name not in SCRIPTED]
    values = {name: rng.randrange(len(vocabulary.WORDS[name])) for name in names}
    if "entity" in values:
        tail = 4 * (rng.paretovariate(0.6) - 1)
        values["entity"] = int(min(tail, len(vocabulary.ENTITIES) - 1 - rng.randrange(40)))
    return values


def _script(rng: random.Random, factors: dict[str, int], count: int) -> tuple[Step, ...]:
    """``count`` scenes; a shorter script is the beginning of a longer one. Neighbours differ in place and action."""
    places, actions = (list(range(len(vocabulary.WORDS[name]))) for name in ("place", "action"))
    rng.shuffle(places)
    rng.shuffle(actions)
    return tuple(
        Step(places[k % len(places)], action, _companion(rng, factors, action))
        for k, action in enumerate(actions[k % len(actions)] for k in range(count))
    )


def _companion(rng: random.Random, factors: dict[str, int], action: int) -> Companion | None:
    """A companion where the action needs one or leaves room: of another shape and colour than the object."""
    there, (shape, colour, relation) = rng.random() < COMPANION, (rng.random() for _ in range(3))
    if action in CROWDED or not (there or action in MEETING):
        return None
    relations = len(vocabulary.WORDS["relation"])
    sides = range(relations - 2, relations) if action in MEETING else range(relations)
    return Companion(
        _other("shape", factors, shape), _other("colour", factors, colour), sides[int(relation * len(sides))]
    )


def _other(name: str, factors: dict[str, int], at: float) -> int:
    """A value of the factor that is not the object's, at a share of them."""
    others = [value for value in range(len(vocabulary.WORDS[name])) if value != factors[name]]
    return others[int(at * len(others))]


def _hard_negative(
    rng: random.Random, factors: dict[str, int], script: tuple[Step, ...]
) -> tuple[dict[str, int], tuple[Step, ...]]:
    """The same but for one visual factor: the order of two scenes, a place, an action (where there is one, its
    reverse), or the object's colour, shape or number."""
    kinds = ["place", "action", "action", "colour", "shape", "count"] + ["order"] * 2 * (len(script) > 1)
    kind = rng.choice(kinds)
    steps, k = list(script), rng.randrange(max(len(script) - 1, 1))
    if kind == "order":
        steps[k], steps[k + 1] = steps[k + 1], steps[k]
    elif kind == "place":
        steps[k] = replace(steps[k], place=_unused(rng, "place", 0, [step.place for step in steps], steps[k].place))
    elif kind == "action":
        used = steps[k].action
        others = [step.action for step in steps]
        action = used ^ 1 if used < COURSES else _unused(rng, "action", COURSES, others, used)
        companion = None if action in CROWDED else steps[k].companion
        steps[k] = replace(steps[k], action=action, companion=companion)
    else:
        factors = {**factors, kind: _other(kind, factors, rng.random())}
    return factors, tuple(steps)


def _unused(rng: random.Random, name: str, first: int, used: list[int], own: int) -> int:
    """A value of the factor from ``first`` on that no scene has; if there is none, any but the scene's own."""
    others = [value for value in range(first, len(vocabulary.WORDS[name])) if value != own]
    return rng.choice([value for value in others if value not in used] or others)


def _num_scenes(duration: float) -> int:
    return min(max(round((duration / SCENE_SECONDS) ** LONGER), 1), MOST_SCENES)


def _file(rng: random.Random, options: SyntheticOptions, length: float) -> tuple[float, VideoFormat, bool, int | None]:
    """Duration, format, whether there is speech, and the channel; ``length`` is in deviations from the median."""
    duration = options.median_duration * math.exp(0.45 * length)
    fps = weighted(rng, FRAME_RATES)
    fps /= math.ceil(float(fps) / options.frame_rate)  # every other frame, or every third …
    short = options.size * weighted(rng, SIZES)
    height, width = round(short / 2) * 2, round(short * float(weighted(rng, ASPECTS)) / 2) * 2
    if rng.random() < VERTICAL:
        width, height = height, width
    rotation = rng.choice([90, 270, 180]) if rng.random() < ROTATED else 0
    gop = rng.choice([12, 50, 100, 250])
    audio = None if rng.random() < options.silent else weighted(rng, AUDIO_RATES)
    b_frames, crf = rng.choice([0, 2, 3]), rng.choice([23, 26, 30])
    video_format = VideoFormat(width, height, fps, gop, b_frames, crf, rotation, audio)
    duration = min(max(duration, options.min_duration), options.max_duration)
    has_speech = rng.random() < 0.85 and options.speech
    channel = rng.randrange(CHANNELS) if rng.random() < options.openings else None
    return video_format.whole_frames(duration), video_format, has_speech, channel


def similarity(a: Latent, b: Latent, known: Set[str] | None = None) -> float:
    """Similarity in [0, 1] of two videos: the weights of the factors that agree; of those in ``known`` if given."""
    total = 0.0
    for modality, weights in FACTORS.items():
        for name, weight in weights.items():
            if known is not None and name not in known:
                continue
            if name in SCRIPTED:
                agree = _agreement(*([getattr(step, name) for step in latent.script] for latent in (a, b)))
            elif name == "topic" and a.factors[name] != b.factors[name] and a.category == b.category:
                agree = SAME_CATEGORY
            else:
                agree = float(a.factors[name] == b.factors[name])
            total += SHARE[modality] * weight * agree
    return total


def _agreement(a: list[Hashable], b: list[Hashable]) -> float:
    """Share of the scenes of the longer script that the other has, too; some of it only at the same position."""
    both, in_place = (Counter(a) & Counter(b)).total(), sum(x == y for x, y in zip(a, b, strict=False))
    return ((1 - IN_ORDER) * both + IN_ORDER * in_place) / max(len(a), len(b))


@dataclass(frozen=True)
class Scene:
    """What is visible from ``start`` to ``end`` (s); ``presented`` tells whether the presenter is in the picture.
    ``layout``, ``spot`` (x and y in [0, 1]), ``radius`` (short sides), ``turn`` (radians) are what no factor tells."""

    start: float
    end: float
    step: Step
    layout: int
    inset: bool
    words: str
    presented: bool
    spot: tuple[float, float]
    radius: float
    turn: float


@lru_cache(maxsize=64)
def scenes(latent: Latent) -> tuple[Scene, ...]:
    """The scenes of a video in order; the first starts at 0, the last ends at its duration."""
    rng, presenter = latent.scalar_rng(SCENES), latent.scalar_rng(PRESENTED)
    lengths = [rng.uniform(0.8, 1.2) for _ in latent.script]
    edges = [latent.duration * length / sum(lengths) for length in itertools.accumulate(lengths, initial=0.0)]
    edges[-1] = latent.duration
    is_seen = presenter.random() < SEEN
    result = []
    for k, step in enumerate(latent.script):
        inset = k > 0 and rng.random() < 0.1
        words = _screen_words(latent, rng) if rng.random() < 0.6 else ""
        presented = is_seen and (presenter.random() < SEEN_AGAIN or k == 0)
        spot = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7)
        shown = (
            step,
            rng.randrange(2**31),
            inset,
            words,
            presented,
            spot,
            rng.uniform(0.2, 0.24),
            rng.uniform(-0.25, 0.25),
        )
        result.append(Scene(edges[k], edges[k + 1], *shown))
    return tuple(result)


def _screen_words(latent: Latent, rng: random.Random) -> str:
    """Words on the screen: more often unrelated to the video than about its topic."""
    kind = rng.random()
    for below, factor in ((0.2, "topic"), (0.35, "entity"), (0.45, "angle")):
        if kind < below:
            return latent.name(factor)
    if kind < 0.6:
        chapter = rng.randrange(8)
        return (f"Chapter {chapter + 1}", f"第{'一二三四五六七八'[chapter]}章")[latent.language_index]
    return rng.choice(vocabulary.BAIT)[latent.language_index]
