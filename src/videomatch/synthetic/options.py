"""What a person may choose about the generated corpus, said once for ``render`` and ``read``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class WorldOptions:
    """Size and make-up of the generated corpus.

    Args:
        videos: how many videos in all, library and copies together (30 to 100,000 are meant).
        size: short side of the commonest picture, px; other pictures are a little smaller or larger.
        min_duration, max_duration: bounds of a clip's length, s.
        median_duration: middle of the (log-normal) lengths, s.
        pairs: labelled similarity pairs per library video. The AIAC training labels have 67,899 / 63,613 = 1.07
            (own count of the public label file); more pairs all go into the one giant component.
        copies: share of all videos that are made as queries for same-source search (with or without a copy in them).
        clean: share of those queries that contain no copy.
        captions: captions per library video, 1 to 14.
        topics: ad-hoc topics with many relevant videos each, judged in part, over the test side.
        silent: share of the videos without a sound track.
        speech: whether presenters talk (text to speech by espeak-ng); without, only music and noises are heard.
        frame_rate: frames a second at most; faster videos leave out every other frame, or more.
        vertical: share of the videos that are taller than wide.
        rotated: share of the videos stored turned, with a display matrix that turns them back.
        label_noise: standard deviation of the annotators' mean on the grade before rounding to 0.05.
    """

    videos: int = 240
    size: int = 144
    min_duration: float = 4.0
    max_duration: float = 30.0
    median_duration: float = 6.5
    pairs: float = 1.07
    copies: float = 0.2
    clean: float = 0.3
    captions: int = 4
    topics: int = 0
    silent: float = 0.08
    speech: bool = True
    frame_rate: float = 60.0
    vertical: float = 0.15
    rotated: float = 0.06
    label_noise: float = 0.18

    def __post_init__(self) -> None:
        for name in ("copies", "clean", "silent", "vertical", "rotated"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"world option {name!r} is {getattr(self, name)}, expected a share in [0, 1)")
        if not 30 <= self.videos < 10_000_000:
            raise ValueError(f"world option 'videos' is {self.videos}, expected at least 30 (and below 10,000,000)")
        if self.size < 64 or self.size % 2:
            raise ValueError(f"world option 'size' is {self.size}, expected an even number of pixels from 64")
        if not 2 <= self.min_duration <= self.median_duration <= self.max_duration:
            raise ValueError(
                "world options: expected 2 <= min_duration <= median_duration <= max_duration, got "
                f"{self.min_duration}, {self.median_duration}, {self.max_duration}"
            )
        if not 2 <= self.frame_rate <= 60:
            raise ValueError(f"world option 'frame_rate' is {self.frame_rate}, expected 2 to 60 frames a second")
        if self.pairs <= 0 or not 1 <= self.captions <= 14 or self.label_noise < 0:
            raise ValueError(
                "world options: expected pairs > 0, captions from 1 to 14 and label_noise >= 0, got "
                f"{self.pairs}, {self.captions}, {self.label_noise}"
            )

    @property
    def num_queries(self) -> int:
        """Videos made as queries for same-source search."""
        return round(self.videos * self.copies)

    @property
    def num_library(self) -> int:
        """Videos that tell a story of their own."""
        return self.videos - self.num_queries

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> WorldOptions:
        """Options from a mapping, as it stands in ``params.yaml``.

        Raises:
            ValueError: an unknown key (the message lists those that exist), a wrong type, or a value out of bounds.
        """
        kinds: dict[str, type] = {f.name: type(f.default) for f in fields(cls)}
        for name, value in options.items():
            if name not in kinds:
                raise ValueError(f"no world option {name!r}; there are {', '.join(kinds)}")
            kind = kinds[name]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            fits = isinstance(value, bool) if kind is bool else is_number and (kind is float or value == int(value))
            if not fits:
                raise ValueError(f"world option {name!r} is {value!r}, expected {kind.__name__}")
        checked: dict[str, Any] = {name: kinds[name](value) for name, value in options.items()}
        return cls(**checked)
