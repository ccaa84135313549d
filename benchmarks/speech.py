"""How a Whisper reads speech, and what it makes of other sounds: ``python benchmarks/speech.py MODEL [FOLDER …]``.

MODEL is a folder or hub id, as of the expert ``speech``. espeak-ng speaks sentences of the generated corpus, in English
and in Chinese; two minutes each of silence, of noise and of the corpus's music have no speech. Every sound or video in
a FOLDER is transcribed, too; the words of NAME.txt beside it, if there is one, are its reference. Printed are the error
rates (edits by reference words; Chinese and Japanese characters count as words; case and punctuation do not), the
language, and the CPU time of a minute of sound. ``--seconds``: of speech by language.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from faster_whisper.audio import decode_audio
from scipy.signal import resample_poly

from _claims import claim
from videomatch.data.lsa import words
from videomatch.experts import Text
from videomatch.experts.speech import RATE, Expert
from videomatch.synthetic import texts
from videomatch.synthetic.latent import library_latent
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.speech import RATE as VOICE_RATE
from videomatch.synthetic.speech import Speak, speaker
from videomatch.synthetic.video import soundtrack

SEED, PAUSE, QUIET = 0, 0.8, 120  #: seconds between two sentences, and of each sound without speech
ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".mp4", ".mkv", ".webm", ".mov", ".flv", ".avi")
OPTIONS = SyntheticOptions(videos=400, min_duration=20, median_duration=30, max_duration=60)
log = logging.getLogger("benchmark")


def edits(reference: Sequence[str], read: Sequence[str]) -> int:
    """The least number of words to insert, to leave out and to exchange."""
    row = list(range(len(read) + 1))
    for n, word in enumerate(reference, 1):
        before, row = row, [n]
        for m, other in enumerate(read, 1):
            row.append(min(before[m] + 1, row[-1] + 1, before[m - 1] + (word != other)))
    return row[-1]


def transcribed(expert: Expert, sound: np.ndarray) -> tuple[Sequence[Text], float]:
    """The utterances in a sound, cleaned, and the CPU time of reading a minute of it."""
    started, reader = time.process_time(), expert.start("sound")
    count = -(-len(sound) // RATE)
    reader.update(np.pad(sound, (0, count * RATE - len(sound))).reshape(count, RATE), 0)
    seconds = np.arange(count, dtype=np.float64)
    found = reader.finalize(np.stack([seconds, seconds + 1], axis=1)).texts
    return found, (time.process_time() - started) * 60 * RATE / len(sound)


def report(name: str, expert: Expert, sound: np.ndarray, reference: str | None) -> tuple[int, int]:
    """Print what is read in a sound; the numbers of edits and of reference words."""
    found, cost = transcribed(expert, sound)
    read = " ".join(text.text for text in found)
    languages = ", ".join(sorted({text.language or "?" for text in found})) or "-"
    line = f"{name:38} {len(sound) / RATE:6.1f} s  {cost:5.1f} CPU s/min  {len(found):3} utterances  {languages:6}"
    if reference is None:
        log.info("%s  %s", line, read[:160])
        return 0, 0
    count = len(words(reference)), edits(words(reference), words(read))
    log.info("%s  %4d words, error rate %5.1f %%  %s", line, count[0], 100 * count[1] / max(count[0], 1), read[:80])
    claim(f"words that are read wrong in {name}", [100 * count[1] / max(count[0], 1)], "%")
    return count[1], count[0]


def spoken(speak: Speak, language: str, seconds: float) -> tuple[np.ndarray, str]:
    """Sentences of the generated corpus by espeak-ng's four voices, with pauses, and their text."""
    sounds, lines, length = [], [], 0.0
    for number in range(OPTIONS.num_library):
        latent = library_latent(SEED, number, OPTIONS)
        if latent.language != language or length >= seconds:
            continue
        for utterance in texts.speech(latent)[0]:
            voice = resample_poly(speak(utterance.text, language, number), RATE, VOICE_RATE).astype(np.float32)
            sounds += [voice, np.zeros(round(PAUSE * RATE), np.float32)]
            lines.append(utterance.text)
            length += len(voice) / RATE
    return np.concatenate(sounds), " ".join(lines)


def simulated(language: str) -> float:
    """The error rate of the recogniser that the generated corpus simulates."""
    latents = [library_latent(SEED, number, OPTIONS) for number in range(OPTIONS.num_library)]
    lines = [u for latent in latents if latent.language == language for u in texts.speech(latent)[0]]
    wrong = sum(edits(words(u.text), words(u.recognised)) for u in lines)
    return wrong / sum(len(words(u.text)) for u in lines)


def without_speech() -> Iterator[tuple[str, np.ndarray]]:
    """Sounds without speech."""
    yield "silence", np.zeros(QUIET * RATE, np.float32)
    noise = np.random.default_rng(SEED).standard_normal(QUIET * RATE, dtype=np.float32)
    yield "noise, -40 dB", 0.01 * noise
    music = [
        soundtrack(library_latent(SEED, n, OPTIONS), RATE, None)
        for n in range(1 + QUIET // round(OPTIONS.min_duration))
    ]
    yield "music of the generated corpus", np.concatenate(music)[: QUIET * RATE]


def main() -> None:
    """Print everything."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("faster_whisper").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    expert = Expert(backbone=options.model)
    log.info("%s", expert.about)
    with speaker() as speak:
        for language in ("en", "zh"):
            sound, text = spoken(speak, language, options.seconds)
            report(f"espeak-ng, {language}", expert, sound, text)
            told = Expert(backbone=options.model, language=language)
            report(f"espeak-ng, {language}, language given", told, sound, text)
            log.info("%-38s error rate %5.1f %%", f"simulated recogniser, {language}", 100 * simulated(language))
    for name, sound in without_speech():
        report(name, expert, sound, None)
    for folder in options.folders:
        counts = []
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS):
            try:
                sound = decode_audio(str(path), sampling_rate=RATE)
            except (ValueError, OSError, IndexError):  # without a sound track, or none that can be read
                continue
            beside = path.with_suffix(".txt")
            reference = beside.read_text(encoding="utf-8") if beside.exists() else None
            if len(sound):
                counts.append(report(path.name, expert, sound, reference))
        wrong, total = map(sum, zip(*counts, strict=True))
        if total:
            claim(f"words of {folder.name} that are read wrong, of {total}", [100 * wrong / total], "%")


if __name__ == "__main__":
    main()
