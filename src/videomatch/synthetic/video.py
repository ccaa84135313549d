"""The file of a video: its frames in order, its sound, and the encoding as H.264 and AAC.

Sound is music of a mood, noise, a sound at every cut, and the presenter's voice.

The bytes of a file depend on the pictures, the sound and the settings only: x264 runs with one thread and without
macroblock-tree rate control, the only part of it that was measured to vary from run to run; the price is larger files.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import lfilter

from videomatch.synthetic import texts
from videomatch.synthetic.copies import Copy, copy_of, query_frame
from videomatch.synthetic.latent import DISTRACTOR, Latent, VideoFormat, host_latent, library_latent, scenes, seed_of
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.speech import RATE as VOICE_RATE
from videomatch.synthetic.speech import Speak
from videomatch.synthetic.vocabulary import DATA

#: streams of random numbers
MUSIC = 30
#: ids of the library, of the same-source query videos and of distractors by their index, like w0000012
library_id, query_id, distractor_id = "w{:07d}".format, "c{:07d}".format, "d{:07d}".format
DISTRACTORS_EACH = 5  #: one of so many distractors is a reference of ``copies_val``, the others of ``copies_test``
DISTRACTOR_RATE = 2.0  #: frames a second of a distractor: no query shows it, so its frames need not be dense


def video_ids(options: SyntheticOptions) -> list[str]:
    """Ids of all videos of the corpus."""
    counts = {query_id: options.num_queries, library_id: options.num_library, distractor_id: options.distractors}
    return [of(index) for of, count in counts.items() for index in range(count)]


def distractor_split(index: int) -> str:
    """The split of distractor ``index``."""
    return "test" if index % DISTRACTORS_EACH else "val"


def distractor_latent(seed: int, index: int, options: SyntheticOptions) -> Latent:
    """The latent of distractor ``index``, outside every family."""
    seed = seed_of(seed, distractor_split(index), options)
    return host_latent(seed, index, options.model_copy(update={"frame_rate": DISTRACTOR_RATE}), stream=DISTRACTOR)


def render_video(path: Path, video_id: str, *, seed: int, options: SyntheticOptions, speak: Speak | None) -> None:
    """Write the mp4 file of one video to ``path``; its bytes depend on ``video_id``, ``seed`` and ``options`` only."""
    index = int(video_id[1:])
    if video_id[0] == "c":
        copy = copy_of(seed, index, options)
    else:
        latent = (library_latent if video_id[0] == "w" else distractor_latent)(seed, index, options)
        copy = Copy(latent, "", (), latent.duration)
    sources = {s.source: library_latent(seed, s.source, options) for s in copy.segments}
    rate, sound = copy.host.format.audio_rate, None
    if rate:
        sound = soundtrack(copy.host, rate, speak)
        if video_id[0] == "c":
            sound = _query_sound(copy, sources, sound, rate, speak)
    encode(path, _frames(copy, sources), copy.host.format, sound)


def _frames(copy: Copy, sources: dict[int, Latent]) -> Iterator[np.ndarray]:
    video_format = copy.host.format
    picture, drawn = np.zeros(0), -1.0
    for number in range(round(copy.duration * float(video_format.fps))):
        now, time = float(number / video_format.fps), video_format.drawing_time(number)
        if copy.segment_at(now) is not copy.segment_at(time):
            time = now  # held frames never cross the edge of a segment
        if time != drawn:
            picture, drawn = query_frame(copy, sources, time, video_format.width, video_format.height), time
        yield picture


def _query_sound(
    copy: Copy, sources: dict[int, Latent], host: np.ndarray, rate: int, speak: Speak | None
) -> np.ndarray:
    """The host's sound with the copied sound in the segments that keep it; faster is also higher, as on tape."""
    time = np.arange(round(copy.duration * rate)) / rate
    host_time = time.copy()
    for segment in copy.segments:
        host_time -= np.clip(time, segment.query_start, segment.query_end) - segment.query_start
    result = host[np.minimum((host_time * rate).astype(np.int64), len(host) - 1)]
    for segment in copy.segments:
        inside = (time >= segment.query_start) & (time < segment.query_end)
        result[inside] = 0
        latent = sources[segment.source]
        if segment.with_sound and latent.format.audio_rate:
            source = soundtrack(latent, rate, speak)
            result[inside] = np.interp(segment.reference_time(time[inside]) * rate, np.arange(len(source)), source)
    return result


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


def encode(path: Path, frames: Iterator[np.ndarray], video_format: VideoFormat, sound: np.ndarray | None) -> None:
    """Write ``frames`` ((height, width, 3) uint8 RGB, as shown) and mono ``sound`` (float32). Pictures of a rotated
    format are stored rotated, with a display matrix: of a stored ``p``, ``np.rot90(p, frame.rotation // 90)`` is given.
    """
    with av.open(str(path), "w", format="mp4") as container:
        x264 = f"threads=1:no-mbtree=1:bframes={video_format.b_frames}:keyint={video_format.gop}"
        options = {"preset": "superfast", "crf": str(video_format.crf), "x264-params": x264}
        stream = container.add_stream("libx264", video_format.fps, options, pix_fmt="yuv420p")
        size = (video_format.width, video_format.height)
        stream.width, stream.height = size[::-1] if video_format.rotation % 180 else size
        stream.codec_context.time_base = 1 / video_format.fps
        stream.codec_context.gop_size = video_format.gop
        stream.codec_context.max_b_frames = video_format.b_frames
        if video_format.rotation:
            stream.set_display_rotation(video_format.rotation)
        audio = None
        if sound is not None:
            fast = {"aac_coder": "fast"}
            audio = container.add_stream("aac", video_format.audio_rate, fast, layout="mono", bit_rate=48000)
        for number, picture in enumerate(frames):
            stored = np.ascontiguousarray(np.rot90(picture, -(video_format.rotation // 90)))
            frame = av.VideoFrame.from_ndarray(stored, "rgb24")
            frame.pts = number
            frame.time_base = 1 / video_format.fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None and sound is not None:
            whole = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
            whole.sample_rate = audio.rate
            whole.pts = 0
            whole.time_base = Fraction(1, audio.rate)
            container.mux(audio.encode(whole))
            container.mux(audio.encode(None))
