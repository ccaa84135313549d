"""Stories: everything there is to know about a video before a pixel is drawn.

A story is a function of ``(seed, index)`` alone, so any of 100,000 is had without the others. Stories come in families
of :data:`FAMILY_SIZE` neighbours. A family has two looks, two subjects and two sounds, dealt to its members by
:data:`DEALT` such that among the 15 pairs of siblings there are ones that look alike but speak of different things,
ones that speak of the same things and look different, ones alike in both and ones alike in neither; each member then
redraws a few factors by chance. So no single modality tells how similar two stories are.

A family as a whole belongs to one side (train, val, test): :func:`side_of`. It is a fixed pattern over the families'
numbers rather than a hash, so that even three families have all three sides; families are exchangeable, so nothing is
lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from videomatch.synthetic import words
from videomatch.synthetic.options import WorldOptions

Modality = Literal["visual", "text", "sound"]

FAMILY_SIZE = 6
#: for each member of a family: which of its two looks, subjects and sounds it has
DEALT = {"visual": (0, 0, 0, 0, 1, 1), "text": (0, 0, 1, 1, 0, 0), "sound": (0, 1, 0, 0, 1, 1)}
#: sides of the families 0..19, then again; 12 train, 3 val, 5 test
SIDES = [{"r": "train", "v": "val", "t": "test"}[letter] for letter in "rtvrrtrrrtrvrrtrrvtr"]


@dataclass(frozen=True)
class Factor:
    """One latent: the modality that shows it, its share in the similarity of two stories, its number of values."""

    modality: Modality
    weight: float
    count: int


#: shares of the modalities in the similarity
SHARE: dict[Modality, float] = {"visual": 0.43, "text": 0.43, "sound": 0.14}
FACTORS = {
    "place": Factor("visual", 0.36, len(words.PLACES)),
    "shape": Factor("visual", 0.22, len(words.SHAPES)),
    "colour": Factor("visual", 0.20, len(words.COLOURS)),
    "action": Factor("visual", 0.22, len(words.ACTIONS)),
    "topic": Factor("text", 0.55, len(words.TOPICS)),
    "entity": Factor("text", 0.25, words.NUM_ENTITIES),
    "angle": Factor("text", 0.20, len(words.ANGLES)),
    "mood": Factor("sound", 0.60, len(words.MOODS)),
    "presenter": Factor("sound", 0.40, len(words.PRESENTERS)),
}
#: how much oftener than other factors those of the sound are redrawn
MORE_SOUND = 0.3
#: credit for two different topics of one category
SAME_CATEGORY = 0.4

FRAME_RATES = [Fraction(25), Fraction(24), Fraction(30000, 1001), Fraction(30), Fraction(15), Fraction(50)]
FRAME_RATE_SHARES = [0.38, 0.2, 0.2, 0.12, 0.06, 0.04]
#: width over height
ASPECTS = [Fraction(16, 9), Fraction(4, 3), Fraction(1), Fraction(2)]
ASPECT_SHARES = [0.66, 0.18, 0.08, 0.08]
SIZES, SIZE_SHARES = [1.0, 0.75, 1.25], [0.7, 0.22, 0.08]


@dataclass(frozen=True)
class Shot:
    """How a video is stored: size as shown (px), frames per second, H.264 settings, turn (degrees), sound track."""

    width: int
    height: int
    fps: Fraction
    gop: int
    b_frames: int
    crf: int
    rotation: int
    audio_rate: int | None

    @property
    def hold(self) -> int:
        """How many frames in a row show one drawing, as in drawn films: about 13 drawings a second at any rate."""
        return max(round(self.fps / 13), 1)


@dataclass(frozen=True)
class Scene:
    """What is seen from ``start`` to ``end`` (s); ``layout`` seeds what the factors leave open, ``presented`` tells
    whether the presenter is in the picture."""

    start: float
    end: float
    place: int
    layout: int
    inset: bool
    extra: bool
    words: str
    presented: bool


@dataclass(frozen=True)
class Story:
    """One video's story; ``latents`` holds a position in the vocabulary for each of :data:`FACTORS`."""

    seed: tuple[int, ...]
    family: int
    latents: dict[str, int]
    language: str
    duration: float
    shot: Shot
    has_speech: bool

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers for one purpose of this story, the same whenever they are asked for."""
        return np.random.default_rng([*self.seed, purpose])

    @property
    def category(self) -> int:
        """Category of the topic."""
        return self.latents["topic"] // words.TOPICS_EACH


# streams of random numbers, so that one purpose never disturbs another
LIBRARY, FAMILY, HOST, COPY, PAIRS = range(5)


def family_of(index: int) -> int:
    """Family of library story ``index``."""
    return index // FAMILY_SIZE


def side_of(family: int) -> str:
    """``"train"``, ``"val"`` or ``"test"``: 60, 15 and 25 % of the families, the same in every corpus."""
    return SIDES[family % len(SIDES)]


def library_story(seed: int, index: int, options: WorldOptions) -> Story:
    """The story of library video ``index``, a member of family ``index // 6``."""
    family, member = divmod(index, FAMILY_SIZE)
    rng = np.random.default_rng([seed, LIBRARY, index])
    latents: dict[str, int] = {}
    change = 0.02 + 0.22 * rng.beta(1, 3)
    for modality, dealt in DEALT.items():
        shared = _draw(np.random.default_rng([seed, FAMILY, family, len(modality), dealt[member]]))
        own = _draw(rng)
        for name, factor in FACTORS.items():
            if factor.modality == modality:
                latents[name] = (
                    own[name] if rng.random() < change + (modality == "sound") * MORE_SOUND else shared[name]
                )
    english = np.random.default_rng([seed, FAMILY, family]).random() < 0.6
    language = "en" if english != (rng.random() < 0.08) else "zh"
    return _finish((seed, LIBRARY, index), family, latents, language, rng, options)


def host_story(seed: int, index: int, options: WorldOptions) -> Story:
    """A story outside every family (family -1), into which query video ``index`` may insert copies."""
    rng = np.random.default_rng([seed, HOST, index])
    language = "en" if rng.random() < 0.6 else "zh"
    return _finish((seed, HOST, index), -1, _draw(rng), language, rng, options)


def _draw(rng: np.random.Generator) -> dict[str, int]:
    """Independent values of all factors; entities have a long tail, all others are uniform."""
    values = {name: int(rng.integers(factor.count)) for name, factor in FACTORS.items()}
    values["entity"] = min(int(4 * rng.pareto(0.6)), words.NUM_ENTITIES - 1 - int(rng.integers(40)))
    return values


def _finish(
    key: tuple[int, ...], family: int, latents: dict[str, int], language: str, rng: np.random.Generator, o: WorldOptions
) -> Story:
    duration = float(np.clip(o.median_duration * math.exp(0.45 * rng.normal()), o.min_duration, o.max_duration))
    shot = _shot(rng, o)
    frames = max(round(Fraction(duration) * shot.fps), 2)
    return Story(key, family, latents, language, float(frames / shot.fps), shot, bool(rng.random() < 0.85) and o.speech)


def _shot(rng: np.random.Generator, options: WorldOptions) -> Shot:
    fps = FRAME_RATES[rng.choice(len(FRAME_RATES), p=FRAME_RATE_SHARES)]
    fps /= math.ceil(float(fps) / options.frame_rate)  # every other frame, or every third …
    short = options.size * SIZES[rng.choice(3, p=SIZE_SHARES)]
    aspect = ASPECTS[rng.choice(len(ASPECTS), p=ASPECT_SHARES)]
    height, width = round(short / 2) * 2, round(short * float(aspect) / 2) * 2
    if rng.random() < options.vertical:
        width, height = height, width
    rotation = int(rng.choice([90, 270, 180])) if rng.random() < options.rotated else 0
    gop = int(rng.choice([12, 50, 100, 250]))
    audio = None if rng.random() < options.silent else int(rng.choice([22050, 44100, 16000], p=[0.6, 0.25, 0.15]))
    return Shot(width, height, fps, gop, int(rng.choice([0, 2, 3])), int(rng.choice([23, 26, 30])), rotation, audio)


def with_duration(story: Story, duration: float) -> Story:
    """The story told in another time (s), rounded to whole frames."""
    return replace(story, duration=float(max(round(Fraction(duration) * story.shot.fps), 2) / story.shot.fps))


def likeness(a: Story, b: Story, known: set[str] | None = None) -> float:
    """Similarity in [0, 1] of two stories: the shares of the factors that agree; of those in ``known`` if given."""
    total = 0.0
    for name, factor in FACTORS.items():
        if known is not None and name not in known:
            continue
        agree = float(a.latents[name] == b.latents[name])
        if name == "topic" and not agree and a.category == b.category:
            agree = SAME_CATEGORY
        total += SHARE[factor.modality] * factor.weight * agree
    return total


def modality(*names: Modality) -> set[str]:
    """The factors that these modalities show."""
    return {name for name, factor in FACTORS.items() if factor.modality in names}
