"""What an oracle sees: one-hot rows of the facts that are true of a generated video, at regular times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from videomatch.data import corpus as corpora
from videomatch.data import facts
from videomatch.experts import BaseExpert, Extracted, seconds


class Expert(BaseExpert):
    """A row every ``every`` seconds: 1 for each value of the ``factors`` (or of ``all``) that holds at that time."""

    def __init__(self, *, factors: Sequence[str] | str = facts.ALL, every: float = 0.5) -> None:
        self.factors, self.every = factors, float(seconds(every))

    def set_corpus(self, corpus: Path, shard: int) -> None:
        rows = facts.read(corpus, self.factors).with_columns(column=pl.struct("factor", "value").rank("dense") - 1)
        self.shape = (rows["column"].n_unique(),)
        self.durations: dict[str, float] = dict(
            corpora.videos(corpus, shard).select("video_id", pl.col("duration").fill_null(0.0)).iter_rows()
        )
        rows = rows.filter(pl.col("id").is_in(list(self.durations))).select("id", "column", "start", "end")
        self.facts = {str(video): of_video for (video,), of_video in rows.partition_by("id", as_dict=True).items()}

    def start(self, video_id: str) -> Timeline:
        return Timeline(self, video_id)


class Timeline:
    """The rows of one video; nothing of its media is read."""

    def __init__(self, expert: Expert, video_id: str) -> None:
        self.expert, self.video_id = expert, video_id

    def update(self, items: np.ndarray, first: int) -> np.ndarray:
        return self.expert.no_rows

    def finalize(self, times: np.ndarray) -> Extracted:
        duration, every = self.expert.durations[self.video_id], self.expert.every
        start = np.arange(0, duration, every)
        times = np.stack([start, np.minimum(start + every, duration)], axis=1)
        rows = np.zeros((len(times), *self.expert.shape), self.expert.dtype)
        if (found := self.expert.facts.get(self.video_id)) is not None:
            middle, (first, last) = times.mean(axis=1), (found[side].to_numpy() for side in ("start", "end"))
            is_true = ~((middle[:, None] < first) | (middle[:, None] >= last))  # also where there are no times
            at, number = np.nonzero(is_true)
            rows[at, found["column"].to_numpy()[number]] = 1
        return Extracted(rows, times)
