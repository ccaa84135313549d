"""From a video's id to its file: which story it tells, its pictures in order, its sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from videomatch.synthetic import copies, draw, encode, sound
from videomatch.synthetic.options import WorldOptions
from videomatch.synthetic.speech import Speaker
from videomatch.synthetic.story import Story, library_story


def library_id(index: int) -> str:
    """Id of library video ``index``: ``w0000012``."""
    return f"w{index:07d}"


def query_id(index: int) -> str:
    """Id of same-source query video ``index``: ``c0000003``."""
    return f"c{index:07d}"


def video_ids(options: WorldOptions) -> list[str]:
    """Ids of all videos of the corpus."""
    queries = [query_id(k) for k in range(options.num_queries)]
    return queries + [library_id(k) for k in range(options.num_library)]


def shoot(path: Path, video_id: str, *, seed: int, options: WorldOptions, speaker: Speaker | None) -> None:
    """Render the mp4 file of one video to ``path``; its bytes depend on ``video_id``, ``seed`` and ``options`` only."""
    index = int(video_id[1:])
    if video_id[0] == "w":
        story = library_story(seed, index, options)
        shot, frames = story.shot, _library_frames(story)
        audio = sound.track(story, shot.audio_rate, speaker) if shot.audio_rate else None
    else:
        copy = copies.copy_of(seed, index, options)
        stories = {s.source: library_story(seed, s.source, options) for s in copy.segments}
        shot, frames = copy.host.shot, _query_frames(copy, stories)
        audio = _query_sound(copy, stories, shot.audio_rate, speaker) if shot.audio_rate else None
    encode.write(path, frames, shot, audio)


def _library_frames(story: Story) -> Iterator[np.ndarray]:
    picture, shown = np.zeros(0), -1.0
    for number in range(round(story.duration * float(story.shot.fps))):
        time = float(number // story.shot.hold * story.shot.hold / story.shot.fps)
        if time != shown:
            picture, shown = draw.frame(story, time, story.shot.width, story.shot.height), time
        yield picture


def _query_frames(copy: copies.Copy, stories: dict[int, Story]) -> Iterator[np.ndarray]:
    shot = copy.host.shot
    picture, shown = np.zeros(0), -1.0
    for number in range(round(copy.duration * float(shot.fps))):
        now, time = float(number / shot.fps), float(number // shot.hold * shot.hold / shot.fps)
        if copy.segment_at(now) is not copy.segment_at(time):
            time = now  # a segment begins and ends with its own first and last frame, whatever is held
        if time != shown:
            picture, shown = copies.frame(copy, stories, time, shot.width, shot.height), time
        yield picture


def _query_sound(copy: copies.Copy, stories: dict[int, Story], rate: int, speaker: Speaker | None) -> np.ndarray:
    """The host's sound with the copied sound in the segments that keep it; faster is also higher, as on tape."""
    time = np.arange(round(copy.duration * rate)) / rate
    host_time, host = _host_times(copy, time), sound.track(copy.host, rate, speaker)
    result = host[np.minimum((host_time * rate).astype(np.int64), len(host) - 1)]
    for segment in copy.segments:
        inside = (time >= segment.query_start) & (time < segment.query_end)
        result[inside] = 0
        story = stories[segment.source]
        if segment.with_sound and story.shot.audio_rate:
            source = sound.track(story, rate, speaker)
            result[inside] = np.interp(
                segment.reference_time(time[inside]) * rate, np.arange(len(source)), source
            )  # fmt: skip
    return result


def _host_times(copy: copies.Copy, time: np.ndarray) -> np.ndarray:
    result = time.copy()
    for segment in copy.segments:
        result -= np.clip(time, segment.query_start, segment.query_end) - segment.query_start
    return result
