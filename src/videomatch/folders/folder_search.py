"""Find moments in an indexed folder, by pictures, titles, speech and text in frames; and videos that look alike.

A question's answer joins four rankings by reciprocal rank fusion (Cormack et al., SIGIR 2009), in which a text counts
as far as it holds the question's words (:mod:`videomatch.retrieval.lines`):

* ``pictures``: the best :data:`WINDOW` seconds of a video, by the mean cosine of their frames and the question. The
  moment is that window and what is beside it, as long as the cosine stays above halfway between the window's and the
  video's mean.
* ``titles``: titles, file names, folders, descriptions and tags.
* ``speech``: subtitles and transcripts; the moment is that of the line.
* ``ocr``: text in frames; the moment is the time for which it is shown.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtr

from videomatch.app.indexes import ABOUT
from videomatch.app.requests import Answer, Cache
from videomatch.app.search import hits_of
from videomatch.common import digests, named
from videomatch.common.messages import did_you_mean, unknown
from videomatch.common.vectors import unit_rows
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.data.walk import NOT_TEXT, is_text, printable
from videomatch.folders._eyes import PACKAGED
from videomatch.folders.folder_index import EYES, FRAMES, FolderIndex, extracted
from videomatch.reports.pages import Shown
from videomatch.retrieval import ann, lines

PICTURES = "pictures"
CHANNELS = (PICTURES, lines.TITLES, lines.SPEECH, lines.OCR)
#: seconds of a moment at least
WINDOW = 3.0
#: the constant of reciprocal rank fusion, as published
RANKS = 60
#: how often the best of as many normal draws is below the best video, where it stands out
SURE = 0.75


@dataclass(frozen=True)
class Moment:
    """Where a video answers a question: its score in one ranking, and from when to when (s; None: all of it)."""

    score: float
    start: float | None = None
    end: float | None = None


class _Loaded(FolderIndex):
    """One state of an index, and what is in memory of it."""

    @cached_property
    def titled(self) -> pl.DataFrame:
        """:meth:`videos`, with what a data set has beside it."""
        none, rows = pl.lit(None, pl.Float64), self.videos()
        title = [Path(p).stem.replace("_", " ") if p else "" for p in rows["path"]]
        return rows.with_columns(pl.Series("title", title, pl.String), start=none, end=none)

    @cached_property
    def frames(self) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        """Ids, all frames in the space of questions, their times, and where each video's begin."""
        ids, rows, times = list[str](), [np.zeros((0, 1), np.float32)], [np.zeros((0, 2))]
        for video_id, store in self._seen(FRAMES):
            ids.append(video_id)
            rows.append(store[video_id].astype(np.float32))
            times.append(store.times(video_id))
        starts = np.cumsum([len(part) for part in rows])[:-1]
        return ids, np.concatenate(rows[bool(ids) :]), np.concatenate(times), starts

    @cached_property
    def looks(self) -> tuple[list[str], np.ndarray]:
        """Ids, and a unit row of every video: the mean of its frames."""
        found = {video_id: _mean(store[video_id]) for video_id, store in self._seen(EYES)}
        return list(found), np.stack([*found.values()]) if found else np.zeros((0, 1), np.float32)

    @cached_property
    def duplicates(self) -> Any:
        """The groups of files that hold the same film, as a :class:`videomatch.folders.duplicates.Duplicates`, which is
        imported only when it is asked for, since that loads torch."""
        return named.module("folders", "duplicates").duplicates([self])

    def _seen(self, name: str) -> Iterator[tuple[str, Store]]:
        """The videos at which the model looked and saw a frame, and a store that has it."""
        known = set(self.videos()["video_id"])
        with self.mended():
            for folder in self.features[name].batches():
                if ann.checked(folder)["model"] == self.eyes.name:
                    store = Store(folder)
                    yield from ((i, store) for i in store.present(store.ids.to_list()) if i in known)


class FolderCatalogue(Cache):
    """What a search loads of one index; it is loaded again when the index was refreshed."""

    kinds = CHANNELS

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.place = place

    @property
    def index(self) -> _Loaded:
        """The index as it is now."""
        return self.cached([str(self.place / ABOUT)], ("index",), lambda: _Loaded(self.place))

    def warm(self) -> None:
        """Load all that a question needs."""
        if self.index.sees:
            _ = self.index.frames
            self.index.eyes.encode(["a question"])

    def dataset(self, name: str | None) -> str:
        """The name of the index."""
        return self.place.name

    def embedded_by(self, dataset: str) -> list[str]:
        """The model that looked at the frames."""
        return [self.index.eyes.name] if self.index.sees else []

    def searchable(self, dataset: str, *, for_text: bool) -> Iterator[str]:
        """The same for questions: it is asked together with all texts."""
        yield self.index.eyes.name

    def videos(self, dataset: str) -> pl.DataFrame:
        """video_id, path, start, end, duration, sha256 and title of all videos."""
        return self.index.titled

    def video(self, dataset: str, video_id: str) -> dict[str, Any] | None:
        """One row of :meth:`videos`."""
        return next(self.videos(dataset).filter(pl.col("video_id") == video_id).iter_rows(named=True), None)

    def duplicates_page(
        self, show: Callable[[str, float, float, Sequence[str]], Shown], links: Sequence[tuple[str, str]]
    ) -> str:
        """The page of files that hold the same film, by what shows a part of a video, given its id. All videos are
        compared with all when it is asked for first, and again when the index was refreshed."""
        ids = dict(self.videos("").select("sha256", "video_id").iter_rows())

        def shown(row: Any, said: Sequence[str]) -> Shown:
            return show(ids[row.sha256], 0.0, row.duration, [row.path, *said])

        return named.module("folders", "duplicates_page").page(self.index.duplicates, shown, links)

    def find(
        self, answer: Answer, question: str, top: int, channels: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The moments that match a question best, by some of :data:`CHANNELS` or all."""
        channels = channels or CHANNELS
        if odd := [c for c in channels if c not in CHANNELS]:
            raise ValueError(unknown("kind of hits", odd[0], CHANNELS))
        rankings: dict[str, dict[str, Moment]] = {}
        if PICTURES in channels and self.index.sees:
            if self.index.eyes.name == PACKAGED and not any(c.isascii() and c.isalpha() for c in question):
                answer.notes.append(f"model {PACKAGED} reads English: the pictures were not asked")
            else:
                with answer.timed("models"):
                    vector = self.index.eyes.encode([question])[0]
                with answer.timed("index"):
                    frames = self.index.frames
                with answer.timed("search"):
                    rankings[PICTURES] = _pictures(vector, *frames)
        path = self.index.folder / "lines.sqlite"
        with answer.timed("search"), self.index.mended(path):
            for share, line in lines.search(path, question, channels):
                moment = Moment(share, line.start, line.end)
                rankings.setdefault(line.channel, {})[line.video] = moment
        found = self._fused(rankings, top)
        if found and found[0]["by"] == [PICTURES] and near_chance([m.score for m in rankings[PICTURES].values()]):
            answer.notes.append("no picture stands out for this question: what comes first may do so by chance")
        return found

    def similar(self, answer: Answer, asked: str, top: int, file: str | None) -> list[dict[str, Any]]:
        """The videos that look most like one, by the mean of its frames."""
        if not self.index.sees:
            advice = f"videomatch index {self.index.watched} --model {PACKAGED}"
            raise ValueError(f"index {self.place.name!r} has no model that looks at pictures: `{advice}`")
        with answer.timed("index"):
            ids, rows = self.index.looks
        videos = self.videos("")
        if asked not in ids:
            if file is None or not Path(file).is_file():
                message = f"{asked!r} is neither a video of index {self.place.name!r} nor a file"
                raise ValueError(did_you_mean(message, asked, ids))
            digest = digests.file_digest(Path(file))
            same = videos.filter(pl.col("sha256") == digest)["video_id"].to_list()
            asked = same[0] if same else asked
        with answer.timed("question"):
            vector = rows[ids.index(asked)] if asked in ids else self._look(Path(str(file)))
        scores = rows @ vector
        order = [n for n in np.argsort(-scores, kind="stable").tolist() if ids[n] != asked][:top]
        return self._hits([(ids[n], Moment(float(scores[n])), [PICTURES]) for n in order])

    def _fused(self, rankings: dict[str, dict[str, Moment]], top: int) -> list[dict[str, Any]]:
        """The videos of several rankings, best first."""
        parts: dict[str, dict[str, float]] = {}
        for channel, moments in rankings.items():
            order = sorted({m.score for m in moments.values()}, reverse=True)
            rank = {score: n for n, score in enumerate(order, 1)}
            for video_id, moment in moments.items():
                share = 1.0 if channel == PICTURES else moment.score
                parts.setdefault(video_id, {})[channel] = share / (RANKS + rank[moment.score])
        order = sorted(parts, key=lambda video_id: (-sum(parts[video_id].values()), video_id))[:top]
        found = []
        for video_id in order:
            given = sorted(parts[video_id], key=lambda c: (-parts[video_id][c], c == PICTURES))
            timed = [rankings[c][video_id] for c in given if rankings[c][video_id].start is not None]
            moment = timed[0] if timed else Moment(0.0)
            score = sum(parts[video_id].values())
            found.append((video_id, Moment(score, moment.start, moment.end), given))
        return self._hits(found)

    def _hits(self, found: Sequence[tuple[str, Moment, list[str]]]) -> list[dict[str, Any]]:
        hits = hits_of(self.index.titled, [video_id for video_id, *_ in found], [m.score for _, m, _ in found])
        moments = [{"start": moment.start, "end": moment.end, "by": by} for _, moment, by in found]
        return [hit | moment for hit, moment in zip(hits, moments, strict=True)]

    def _look(self, file: Path) -> np.ndarray:
        """The unit row of a file that is not in the index."""
        if not is_text(str(file)):
            raise ValueError(f"{printable(str(file))}: {NOT_TEXT}")
        eyes, row = self.index.eyes, pl.DataFrame({"video_id": ["file"], "path": [str(file)]})
        with extracted(row, {EYES: eyes.expert}, eyes.backbones, os.cpu_count() or 1) as output:
            if len(rejected := tables.read("rejected", output)):
                raise ValueError(f"{file}: {rejected['reason'][0]}")
            return _mean(Store(output / EYES)["file"])


def _mean(rows: np.ndarray) -> np.ndarray:
    return unit_rows(unit_rows(rows, np.float32).mean(0, keepdims=True), np.float32)[0]


def _pictures(
    vector: np.ndarray, ids: Sequence[str], rows: np.ndarray, times: np.ndarray, starts: np.ndarray
) -> dict[str, Moment]:
    """The best window of every video."""
    if not len(rows):
        return {}
    scores = np.concatenate([part @ vector for part in np.array_split(rows, max(1, len(rows) >> 16))]).astype(float)
    bounds = np.append(starts, len(rows))
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    owner = np.repeat(np.arange(len(ids)), np.diff(bounds))
    at = np.arange(len(rows))
    # frames of a window, so many that they last its seconds; all of a video that is shorter
    step = float(np.median(times[:, 1] - times[:, 0])) or 1.0
    frames = max(1, round(WINDOW / step))
    stop = np.minimum(at + frames, bounds[owner + 1])
    whole = (stop - at == frames) | (at == bounds[owner])
    means = np.where(whole, (sums[stop] - sums[at]) / (stop - at), -np.inf)
    found = {}
    for n, video_id in enumerate(ids):
        first, last = bounds[n], bounds[n + 1]
        best = first + int(means[first:last].argmax())
        score, end = float(means[best]), int(stop[best])
        least = (score + float((sums[last] - sums[first]) / (last - first))) / 2
        while best > first and scores[best - 1] >= least:
            best -= 1
        while end < last and scores[end] >= least:
            end += 1
        found[video_id] = Moment(score, float(times[best, 0]), float(times[end - 1, 1]))
    return found


def near_chance(scores: Sequence[float]) -> bool:
    """Whether the best of the scores of a question is one as chance gives: below what the best of as many draws from a
    normal distribution with their mean and deviation would be in :data:`SURE` of all cases."""
    values = np.asarray(scores)
    if len(values) < 3 or not (deviation := float(values.std())):
        return False  # too few to tell
    return float(ndtr((values.max() - values.mean()) / deviation)) ** len(values) < SURE
