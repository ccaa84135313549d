"""``extract``: features of the videos of one shard, one store an expert.

Each video is decoded once for all experts. Decoding threads run ahead of the networks, which read batches across videos
(PyAV and torch both let other Python threads run). On a CPU every batch is computed by one torch thread and ``threads``
batches at a time: nobody waits at a barrier, and the features do not depend on the number of threads. Batches are
cut from the frames in the order of the video ids, so timing changes nothing; another set of videos shifts them, which
changes features by rounding only.

Features that the data set brings itself (``experts/released.py``) are copied from its files and need no media.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from videomatch import named
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.experts._batches import Batches
from videomatch.experts._expert import Extractor
from videomatch.experts.released import Expert as Released
from videomatch.media.allocator import keep_memory
from videomatch.media.container import Unreadable
from videomatch.media.decode import CHUNK, Sampler
from videomatch.progress import track

log = logging.getLogger(__name__)

#: pieces of a video (of 32 frames) that wait for the networks before its decoding pauses
PIECES = 4
#: seconds after which a paused decoder looks whether anybody still wants its frames
POLL = 0.2


def extract(
    *,
    corpus: Path,
    shard: int,
    experts: dict[str, dict[str, Any]],
    backbones: dict[str, str],
    output: Path,
    features: list[Path] | None = None,
    runs: list[Path] | None = None,
    released: dict[str, Any] | None = None,
    threads: int = 1,
) -> None:
    """Write ``output/<expert>/`` (a store; ids ``video_id``, sorted; times in seconds), ``rejected.parquet`` (videos
    that could not be read, which are in no store) and ``warnings.json`` (``video_id`` -> what was wrong with videos
    that could). Released features stand in the order of the data set's files.

    Args:
        corpus: result of ``prepare``.
        shard: which part of its videos.
        experts: name -> ``{"extractor": file in experts/, "reads": expert whose frames are read instead of the media,
            options…}``.
        backbones: name of a backbone -> folder or hub id.
        features: results of earlier passes, for ``reads``.
        runs: results of training that ``backbones`` points into; an error if one of them is not there.
        released: ``{"corpus": reader in corpora/, "raw": folder of the data set's files}``, for released features.
        output: empty folder.
        threads: decoding threads, and as many for the networks.
    """
    absent = [str(run) for run in runs or [] if not run.is_dir()]
    if absent:
        raise ValueError(f"trained backbones are missing: {', '.join(absent)}")
    keep_memory()
    torch.set_num_threads(1)
    loaded = {name: _expert(name, options, backbones) for name, options in experts.items()}
    made = {name: expert for name, expert in loaded.items() if not isinstance(expert, Released)}
    sources = {
        name: _source(name, options["reads"], features or []) for name, options in experts.items() if "reads" in options
    }
    videos = list(corpora.videos(corpus, shard).sort("video_id").iter_rows(named=True))
    rejected: list[dict[str, str]] = []
    warnings: dict[str, list[str]] = {}
    for name, expert in loaded.items():
        if isinstance(expert, Released):
            rejected += _copy(expert, output / name, [row["video_id"] for row in videos], released, experts[name])
    with ExitStack() as stack:
        networks = stack.enter_context(ThreadPoolExecutor(1 if torch.cuda.is_available() else threads, "network"))
        batches: dict[str, Batches] = {}
        for name, expert in made.items():
            writer = StoreWriter(
                output / name,
                shape=expert.shape,
                dtype=expert.dtype,
                made_by={**experts[name], **expert.about},
                times=True,
            )
            stack.enter_context(writer)
            batches[name] = Batches(expert, networks, 2 * threads, _adder(writer))
        jobs = (_Job(row["video_id"], row["path"], made, sources) for row in (videos if made else []))
        for job in track(_ahead(jobs, threads), total=len(videos) if made else 0, label="extract"):
            for batch in batches.values():
                batch.begin(job.video_id)
            for piece in job.pieces():
                batches[piece.expert].add(piece.rows)
            for name, batch in batches.items():
                batch.end(job.times.get(name) if job.failure is None else None)
            if job.failure is not None:
                rejected.append({"video_id": job.video_id, "path": job.path or "", "reason": job.failure})
            if job.warnings:
                warnings[job.video_id] = job.warnings
        for batch in batches.values():
            batch.finish()
    tables.write("rejected", rejected, output)
    text = json.dumps(warnings, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    (output / "warnings.json").write_text(text, encoding="utf-8")
    log.info("%d videos, %d of them rejected, %d with warnings", len(videos), len(rejected), len(warnings))


def _copy(
    expert: Released, root: Path, ids: list[str], released: dict[str, Any] | None, options: dict[str, Any]
) -> list[dict[str, str]]:
    """Write the store of released features of some videos; rows of ``rejected`` for those that have none."""
    if released is None or released.get("raw") is None:
        raise ValueError(
            f"{root.name!r} reads released features, but the data set has no `raw:` folder to find them in"
        )
    corpus = named.module("corpora", released["corpus"])
    if not hasattr(corpus, "frame_features"):
        raise ValueError(f"{root.name!r} reads released features, but corpora/{released['corpus']}.py has none")
    unseen, rejected = dict.fromkeys(ids), []
    made_by = {**options, **expert.about, "corpus": released["corpus"]}
    with StoreWriter(root, shape=expert.shape, dtype=expert.dtype, made_by=made_by, times=True) as writer:
        features = corpus.frame_features(Path(released["raw"]).expanduser(), frozenset(ids))
        for video_id, values, times in track(features, total=len(ids), label=root.name):
            del unseen[video_id]
            if np.isfinite(values).all():
                writer.add(video_id, values, times=times)
            else:
                reason = f"its released {root.name!r} features hold a number that is not finite"
                rejected.append({"video_id": video_id, "path": "", "reason": reason})
    reason = f"the data set has no released {root.name!r} features of it"
    return rejected + [{"video_id": video_id, "path": "", "reason": reason} for video_id in unseen]


def _expert(name: str, options: dict[str, Any], backbones: dict[str, str]) -> Extractor | Released:
    given = {k: v for k, v in options.items() if k not in ("extractor", "reads")}
    if "backbone" in given:
        if given["backbone"] not in backbones:
            raise ValueError(f"expert {name!r}: no backbone {given['backbone']!r}; there are {sorted(backbones)}")
        given["backbone"] = backbones[given["backbone"]]
    return cast(Extractor | Released, named.module("experts", options["extractor"]).Expert(**given))


def _source(name: str, reads: str, features: list[Path]) -> Store:
    """The frames that an expert reads instead of the media."""
    roots = [folder / reads for folder in features if (folder / reads).is_dir()]
    if not roots:
        raise ValueError(f"expert {name!r} reads {reads!r}, which is in none of {[str(f) for f in features]}")
    store = Store.open(*roots)
    if store.dtype != np.uint8 or len(store.shape) != 3 or store.shape[-1] != 3:
        raise ValueError(
            f"expert {name!r} reads {reads!r}: rows of {store.dtype} {store.shape}, expected frames (height, width, 3)"
        )
    return store


def _adder(writer: StoreWriter):
    def add(video_id: str, rows: np.ndarray, times: np.ndarray) -> None:
        writer.add(video_id, rows, times=times)

    return add


@dataclass(frozen=True)
class _Piece:
    """Some prepared rows of one expert."""

    expert: str
    rows: np.ndarray


class _Job:
    """One video on its way: a thread runs :meth:`run`, the main thread takes :meth:`pieces`."""

    def __init__(
        self, video_id: str, path: str | None, experts: dict[str, Extractor], sources: dict[str, Store]
    ) -> None:
        self.video_id, self.path, self.experts, self.sources = video_id, path, experts, sources
        self.failure: str | None = None
        self.warnings: list[str] = []
        self.times: dict[str, np.ndarray] = {}
        self._queue: queue.Queue[_Piece | None] = queue.Queue(PIECES)
        self.future: Future[None] | None = None

    def run(self, stop: threading.Event) -> None:
        """Read the video and queue its prepared rows."""
        torch.set_num_threads(1)
        try:
            for piece in self._read():
                if not self._put(piece, stop):
                    return
        except Unreadable as error:
            self.failure = str(error)
        finally:
            self._put(None, stop)

    def pieces(self) -> Iterator[_Piece]:
        """What :meth:`run` queues, until it is done; errors of our own making are raised here."""
        while (piece := self._queue.get()) is not None:
            yield piece
        assert self.future is not None
        self.future.result()

    def _put(self, piece: _Piece | None, stop: threading.Event) -> bool:
        while not stop.is_set():
            try:
                self._queue.put(piece, timeout=POLL)
                return True
            except queue.Full:
                continue
        return False

    def _read(self) -> Iterator[_Piece]:
        for name, store in self.sources.items():
            if self.video_id not in store:
                raise Unreadable(f"there are no frames of it for expert {name!r}")
            times = store.times(self.video_id)
            frames = store[self.video_id]
            self.times[name] = np.zeros((len(frames), 2)) if times is None else times
            for start in range(0, len(frames), CHUNK):
                yield _Piece(name, self.experts[name].prepare(frames[start : start + CHUNK]))
        media = [name for name in self.experts if name not in self.sources]
        if not media:
            return
        if self.path is None:
            raise Unreadable("the corpus names no file for it")
        if not Path(self.path).exists():
            # prepare has read it: a disk that went away is no reason to write its videos off
            raise FileNotFoundError(f"{self.path} was there when the corpus was prepared and is gone now")
        sampler = Sampler(Path(self.path), [self.experts[name].request for name in media])
        for chunk in sampler:
            name = media[chunk.request]
            yield _Piece(name, self.experts[name].prepare(chunk.values))
        self.times |= {name: sampler.times(number) for number, name in enumerate(media)}
        self.warnings = sampler.warnings


def _ahead(jobs: Iterator[_Job], threads: int) -> Iterator[_Job]:
    """Hand on the jobs in order while threads work on the next ones."""
    stop = threading.Event()
    started: deque[_Job] = deque()
    with ThreadPoolExecutor(threads, "decode") as decoders:
        try:
            for job in jobs:
                job.future = decoders.submit(job.run, stop)
                started.append(job)
                if len(started) > 2 * threads:
                    yield started.popleft()
            while started:
                yield started.popleft()
        finally:
            stop.set()
