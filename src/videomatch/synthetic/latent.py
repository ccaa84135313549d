"""Latent factors: every fact about a video before a pixel is drawn, and its scenes.

A video's latent is a function of ``(seed, index)`` alone, so any of 100,000 can be made without the others. Videos come
in families, with two sets each of visual, text and sound factors. :data:`ASSIGNED` distributes them so that some of the
15 pairs of siblings are similar in pictures but not in texts, some in texts only, in both and in neither; each member
then redraws a few factors. So no single modality tells how similar two videos are. A family is in one split.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, field
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
SHARE = {"visual": 0.43, "text": 0.43, "sound": 0.14}
FACTORS = {
    "visual": {"place": 0.36, "shape": 0.22, "colour": 0.20, "action": 0.22},
    "text": {"topic": 0.55, "entity": 0.25, "angle": 0.20},
    "sound": {"mood": 0.60, "presenter": 0.40},
}
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
SCENE_SECONDS = 3.2  #: mean length of a scene, s
#: share of the videos whose presenter is visible, and of their scenes after the first in which that is so
SEEN, SEEN_AGAIN = 0.5, 0.7

# streams of random numbers, so that one purpose never disturbs another
LIBRARY, FAMILY, HOST, COPY, PAIRS, DISTRACTOR, CHANNEL = range(7)
SCENES, PRESENTED = 10, 11


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
class Latent:
    """All facts about one video; ``factors`` holds a position in the vocabulary for each of :data:`FACTORS`; videos of
    one ``channel`` open and close alike."""

    seed: tuple[int, ...]
    family: int
    factors: dict[str, int] = field(hash=False)
    language: str
    duration: float
    format: VideoFormat
    has_speech: bool
    channel: int | None = None

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers for one purpose of this video, the same in every call."""
        return np.random.default_rng([*self.seed, purpose])

    @property
    def language_index(self) -> int:
        """Position of the language in a word of the vocabulary."""
        return vocabulary.LANGUAGES.index(self.language)

    @property
    def words(self) -> dict[str, str]:
        """Factor -> its word in the video's language."""
        return vocabulary.words(self.factors, self.language_index)

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


def library_latent(seed: int, index: int, options: SyntheticOptions) -> Latent:
    """The latent of library video ``index``, a member of family ``index // 6``."""
    family, member = divmod(index, FAMILY_SIZE)
    rng = np.random.default_rng([seed, LIBRARY, index])
    factors: dict[str, int] = {}
    change = 0.02 + 0.22 * rng.beta(1, 3)
    for modality, assigned in ASSIGNED.items():
        shared = _draw(np.random.default_rng([seed, FAMILY, family, len(modality), assigned[member]]))
        own = _draw(rng)
        for name in FACTORS[modality]:
            is_redrawn = rng.random() < change + (modality == "sound") * MORE_SOUND
            factors[name] = own[name] if is_redrawn else shared[name]
    english = np.random.default_rng([seed, FAMILY, family]).random() < 0.6
    language = "en" if english != (rng.random() < 0.08) else "zh"
    return Latent((seed, LIBRARY, index), family, factors, language, *_file(rng, options))


def host_latent(seed: int, index: int, options: SyntheticOptions, *, stream: int = HOST) -> Latent:
    """A latent outside every family (family -1): of the video into which query ``index`` may insert copies, or number
    ``index`` of another ``stream`` of strangers."""
    rng = np.random.default_rng([seed, stream, index])
    language = "en" if rng.random() < 0.6 else "zh"
    return Latent((seed, stream, index), -1, _draw(rng), language, *_file(rng, options))


def _draw(rng: np.random.Generator) -> dict[str, int]:
    """Independent values of all factors; entities have a long tail, all others are uniform."""
    values = {name: int(rng.integers(len(words))) for name, words in vocabulary.WORDS.items()}
    values["entity"] = min(int(4 * rng.pareto(0.6)), len(vocabulary.ENTITIES) - 1 - int(rng.integers(40)))
    return values


def _file(rng: np.random.Generator, options: SyntheticOptions) -> tuple[float, VideoFormat, bool, int | None]:
    """Duration, format, whether there is speech, and the channel."""
    duration = options.median_duration * math.exp(0.45 * rng.normal())
    fps = weighted(rng, FRAME_RATES)
    fps /= math.ceil(float(fps) / options.frame_rate)  # every other frame, or every third …
    short = options.size * weighted(rng, SIZES)
    height, width = round(short / 2) * 2, round(short * float(weighted(rng, ASPECTS)) / 2) * 2
    if rng.random() < VERTICAL:
        width, height = height, width
    rotation = int(rng.choice([90, 270, 180])) if rng.random() < ROTATED else 0
    gop = int(rng.choice([12, 50, 100, 250]))
    audio = None if rng.random() < options.silent else weighted(rng, AUDIO_RATES)
    b_frames, crf = int(rng.choice([0, 2, 3])), int(rng.choice([23, 26, 30]))
    video_format = VideoFormat(width, height, fps, gop, b_frames, crf, rotation, audio)
    duration = min(max(duration, options.min_duration), options.max_duration)
    has_speech = bool(rng.random() < 0.85) and options.speech
    channel = int(rng.integers(CHANNELS)) if rng.random() < options.openings else None
    return video_format.whole_frames(duration), video_format, has_speech, channel


def similarity(a: Latent, b: Latent, known: Set[str] | None = None) -> float:
    """Similarity in [0, 1] of two videos: the weights of the factors that agree; of those in ``known`` if given."""
    total = 0.0
    for modality, weights in FACTORS.items():
        for name, weight in weights.items():
            agree = float(a.factors[name] == b.factors[name])
            if name == "topic" and not agree and a.category == b.category:
                agree = SAME_CATEGORY
            if known is None or name in known:
                total += SHARE[modality] * weight * agree
    return total


@dataclass(frozen=True)
class Scene:
    """What is visible from ``start`` to ``end`` (s); ``layout`` seeds what the factors leave open, ``presented`` tells
    whether the presenter is in the picture."""

    start: float
    end: float
    layout: int
    inset: bool
    extra: bool
    words: str
    presented: bool


@lru_cache(maxsize=64)
def scenes(latent: Latent) -> tuple[Scene, ...]:
    """The scenes of a video in order; the first starts at 0, the last ends at its duration."""
    rng, presenter = latent.rng(SCENES), latent.rng(PRESENTED)
    count = round(latent.duration / SCENE_SECONDS + rng.normal(0, 0.5))
    count = min(max(count, 1 if latent.duration < 5 else 2), 9)
    lengths = rng.dirichlet(np.full(count, 8.0)) * latent.duration
    edges = [0.0, *np.cumsum(lengths)[:-1].tolist(), latent.duration]
    is_seen = presenter.random() < SEEN
    result = []
    for k in range(count):
        inset = count > 2 and k > 0 and rng.random() < 0.2
        words = _screen_words(latent, rng) if rng.random() < 0.6 else ""
        extra = bool(rng.random() < 0.35)
        layout = int(rng.integers(2**31))
        presented = bool(is_seen and (presenter.random() < SEEN_AGAIN or k == 0))
        result.append(Scene(edges[k], edges[k + 1], layout, inset, extra, words, presented))
    return tuple(result)


def _screen_words(latent: Latent, rng: np.random.Generator) -> str:
    """Words on the screen: more often unrelated to the video than about its topic."""
    kind = rng.random()
    for below, factor in ((0.2, "topic"), (0.35, "entity"), (0.45, "angle")):
        if kind < below:
            return latent.words[factor]
    if kind < 0.6:
        chapter = (f"Chapter {rng.integers(1, 9)}", f"第{'一二三四五六七八'[rng.integers(8)]}章")
        return chapter[latent.language_index]
    return vocabulary.pick(rng, vocabulary.BAIT)[latent.language_index]
