"""``render``: the files of the synthetic corpus, one mp4 a video, for the videos of one shard."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from videomatch.common import workers
from videomatch.common.progress import track
from videomatch.data.corpus import shard_of
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.speech import Speaker
from videomatch.synthetic.video import render_video, video_ids

log = logging.getLogger(__name__)


def render(
    *,
    output: Path,
    scratch: Path,
    threads: int,
    shard: int,
    shards: int,
    seed: int,
    options: Mapping[str, Any],
) -> None:
    """Write ``output/<video_id>.mp4`` for the videos of the synthetic corpus whose shard is ``shard`` of ``shards``.

    Equal arguments give equal bytes, and so does any other number of shards or threads. Finished files wait in
    ``scratch``, so that a killed job goes on where it was.

    Args:
        options: as in :class:`videomatch.synthetic.options.SyntheticOptions`.

    Raises:
        ValueError: an unknown option, or a shard that does not exist.
    """
    checked = SyntheticOptions(**options)
    if not 0 <= shard < shards:
        raise ValueError(f"shard is {shard}, expected 0 to {shards - 1}")
    wanted = [v for v in video_ids(checked) if shard_of(v, shards) == shard]
    scratch.mkdir(parents=True, exist_ok=True)
    missing = [v for v in wanted if not (scratch / f"{v}.mp4").exists()]
    if len(missing) < len(wanted):
        log.info("%d of %d videos were already rendered", len(wanted) - len(missing), len(wanted))
    parts = [missing[k::threads] for k in range(max(threads, 1))]
    done = _in_processes(parts, scratch, seed, checked) if threads > 1 else _render_all(missing, scratch, seed, checked)
    for _ in track(done, total=len(missing), label="render"):
        pass
    output.mkdir(parents=True, exist_ok=True)
    for video in wanted:
        shutil.move(scratch / f"{video}.mp4", output / f"{video}.mp4")


def _render_all(videos: list[str], scratch: Path, seed: int, options: SyntheticOptions) -> Iterator[str]:
    with Speaker() as speaker:
        for video in videos:
            unfinished = scratch / f"{video}.part"
            render_video(unfinished, video, seed=seed, options=options, speaker=speaker if options.speech else None)
            unfinished.replace(scratch / f"{video}.mp4")
            yield video


def _render_list(videos: list[str], scratch: Path, seed: int, options: SyntheticOptions) -> list[str]:
    return list(_render_all(videos, scratch, seed, options))


def _in_processes(parts: list[list[str]], scratch: Path, seed: int, options: SyntheticOptions) -> Iterator[str]:
    """Render in as many processes as there are ``parts``, in pieces small enough for progress to be seen."""
    pieces = [part[k : k + 16] for part in parts for k in range(0, len(part), 16)]
    with workers.pool(len(parts)) as pool:
        jobs = [pool.submit(_render_list, piece, scratch, seed, options) for piece in pieces]
        for job in as_completed(jobs):
            yield from job.result()
