"""What strangers show alike: the seconds with which a channel opens and closes its videos, black, and fades.

Frames of them match between videos that share nothing else, so they are no copied segments; score normalisation exists
for them: channels are the same in all splits, whatever their seeds, so that those of the training split are met again.
They cover what the scenes show, and times stay as they are.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from videomatch.synthetic import pictures
from videomatch.synthetic.latent import CHANNEL, Latent, host_latent
from videomatch.synthetic.options import SyntheticOptions

#: shortest and longest black, and opening or closing of a channel, s; longest share of a video that one of them covers
BLACK, TITLES, MOST = (0.3, 1.5), (2.0, 5.0), 0.1
FADE = 0.5  #: s from black to the full picture
MOMENT = 0.5  #: share of the videos with a channel that are black for a moment in the middle as well
#: of the clip of a channel; it opens with its beginning and closes with its second half
CLIP = SyntheticOptions.model_validate(dict.fromkeys(("min_duration", "median_duration", "max_duration"), 10.0))


@dataclass(frozen=True)
class Cover:
    """From ``start`` to ``end`` (s) the video shows its channel's clip from ``since`` on; None: black."""

    start: float
    end: float
    since: float | None = None


@lru_cache(maxsize=64)
def covers(latent: Latent) -> tuple[Cover, ...]:
    """The covered times of a video, in order; none without a channel."""
    if latent.channel is None:
        return ()
    rng, most = latent.rng(CHANNEL), MOST * latent.duration
    first, moment, last = np.minimum(rng.uniform(*BLACK, 3), most).tolist()
    opens, closes = np.minimum(_channel_rng(latent).uniform(*TITLES, 2), most).tolist()
    middle, end = rng.uniform(0.3, 0.6) * latent.duration, latent.duration - last
    between = [Cover(middle, middle + moment)] if rng.random() < MOMENT else []
    opening, closing = Cover(first, first + opens, 0.0), Cover(end - closes, end, CLIP.median_duration / 2)
    return (Cover(0.0, first), opening, *between, closing, Cover(end, latent.duration))


def _channel_rng(latent: Latent) -> np.random.Generator:
    return np.random.default_rng([CHANNEL, latent.channel or 0])


def frame(latent: Latent, time: float, width: int, height: int) -> np.ndarray:
    """The picture of a video at ``time`` (s) as (height, width, 3) uint8 RGB."""
    shown, moment, light = latent, time, 1.0
    for cover in covers(latent):
        outside = max(cover.start - time, time - cover.end, 0.0)
        if cover.since is None:
            light = min(light, outside / FADE)
        elif cover.start <= time < cover.end:
            shown = host_latent(0, int(latent.channel or 0), CLIP, stream=CHANNEL)
            moment = cover.since + time - cover.start
    if not light:
        return np.zeros((height, width, 3), np.uint8)
    picture = pictures.frame(shown, moment, width, height)
    return picture if light == 1.0 else cv2.convertScaleAbs(picture, alpha=light)
