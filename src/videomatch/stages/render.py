"""``render``: the files of the synthetic corpus, one mp4 a video, for the videos of one shard."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from videomatch.common.progress import track_calls
from videomatch.data.corpus import shard_of
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.speech import speaker
from videomatch.synthetic.video import render_video, video_ids

log = logging.getLogger(__name__)

#: videos that a process renders before it reports
PIECE = 16


def render(
    *, output: Path, scratch: Path, threads: int, shard: int, shards: int, seed: int, options: Mapping[str, Any]
) -> None:
    """Write ``output/<video_id>.mp4`` for the videos of the synthetic corpus whose shard is ``shard`` of ``shards``.

    The bytes do not depend on the number of shards or threads. Finished files wait in ``scratch``, so that a killed job
    goes on where it was. ``options`` are those of :class:`videomatch.synthetic.options.SyntheticOptions`.
    """
    checked = SyntheticOptions(**options)
    wanted = [v for v in video_ids(checked) if shard_of(v, shards) == shard]
    scratch.mkdir(parents=True, exist_ok=True)
    missing = [v for v in wanted if not (scratch / f"{v}.mp4").exists()]
    if len(missing) < len(wanted):
        log.info("%d of %d videos were already rendered", len(wanted) - len(missing), len(wanted))
    pieces = [missing[k : k + PIECE] for k in range(0, len(missing), PIECE)]
    render_piece = partial(_render_piece, scratch=scratch, seed=seed, options=checked)
    for _ in track_calls(render_piece, pieces, processes=threads, label="render"):
        pass
    output.mkdir(parents=True, exist_ok=True)
    for video in wanted:
        shutil.move(scratch / f"{video}.mp4", output / f"{video}.mp4")


def _render_piece(videos: list[str], scratch: Path, seed: int, options: SyntheticOptions) -> None:
    with speaker() if options.speech else nullcontext() as speak:
        for video in videos:
            unfinished = scratch / f"{video}.part"
            render_video(unfinished, video, seed=seed, options=options, speak=speak)
            unfinished.replace(scratch / f"{video}.mp4")
