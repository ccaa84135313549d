"""Sound tracks: music of a mood, noise, a sound at every cut, and the presenter's voice."""

import math

import numpy as np
from scipy.signal import lfilter

from videomatch.synthetic import texts
from videomatch.synthetic.latent import Latent, scenes
from videomatch.synthetic.speech import RATE as VOICE_RATE
from videomatch.synthetic.speech import Speak
from videomatch.synthetic.vocabulary import DATA

MUSIC = 30


def soundtrack(latent: Latent, rate: int, speak: Speak | None) -> np.ndarray:
    """The whole sound of a video: float32 in [-1, 1], mono, ``rate`` samples per second; without ``speak`` no voice."""
    count = round(latent.duration * rate)
    sound = 0.30 * _music(latent, count, rate) + 0.12 * _noise(latent, count, rate)
    for scene in scenes(latent)[1:]:  # a short sound at every cut
        at = round(scene.start * rate)
        swish = np.exp(-np.arange(min(rate // 10, count - at)) / (rate * 0.02), dtype=np.float64)
        sound[at : at + len(swish)] += 0.1 * swish * np.sin(np.arange(len(swish)) * 0.4)
    if speak is not None:
        for utterance in texts.speech(latent)[0]:
            spoken = speak(utterance.text, latent.language, latent.factors["presenter"])
            planned = round((utterance.end - utterance.start) * rate)
            samples = max(min(planned, round(len(spoken) * rate / VOICE_RATE)), 1)  # squeezed, never stretched
            voice = np.interp(np.linspace(0, max(len(spoken) - 1, 0), samples), np.arange(len(spoken)), spoken)
            at = round(utterance.start * rate)
            part = sound[at : at + len(voice)]
            part *= 0.45  # the music is softer during speech
            part += 0.8 * voice[: len(part)]
    return np.clip(sound, -1, 1).astype(np.float32)


def _music(latent: Latent, count: int, rate: int) -> np.ndarray:
    rng = latent.rng(MUSIC)
    steps, tempo, lowest, overtones = DATA["music"][latent.factors["mood"]]
    tempo, lowest = tempo * rng.uniform(0.9, 1.1), lowest * 2 ** (rng.integers(-3, 4) / 12)
    sound = np.zeros(count)
    length = min(round(rate * min(1.6 / tempo, 1.2)), count)
    time = np.arange(length) / rate
    fall = np.exp(-time * tempo * 1.4) * np.minimum(time * 60, 1)
    notes = {}
    for step in steps:
        pitch = lowest * 2 ** (step / 12)
        waves = [a * np.sin(2 * math.pi * pitch * (k + 1) * time) for k, a in enumerate(overtones)]
        notes[step] = fall * np.sum(waves, axis=0) / sum(overtones)
    for k in range(int(count / rate * tempo)):
        at = round(k / tempo * rate)
        note = notes[steps[rng.integers(len(steps))]]
        sound[at : at + length] += note[: count - at]
    return sound


def _noise(latent: Latent, count: int, rate: int) -> np.ndarray:
    """Coloured hiss with a slow swell, which depends on no factor."""
    rng = latent.rng(MUSIC + 1)
    colour, swell = rng.uniform(0.5, 0.97), rng.uniform(0.1, 0.6)
    white = rng.standard_normal(count, dtype=np.float32)
    hiss = lfilter([1 - colour], [1, -colour], white)
    return hiss * (0.6 + 0.4 * np.sin(2 * math.pi * swell * np.arange(count) / rate))
