"""``extract``: features of the videos of one shard, one store per expert.

The path of a video: a decoding thread reads its file once for all experts and queues prepared rows
(:class:`_VideoJob`); the main thread cuts them into batches across videos (:class:`_Output`); network threads compute
the batches; finished videos are written in the order of their ids. PyAV and torch both let other Python threads run.

On a CPU every batch is computed by one torch thread and ``threads`` batches at a time: no thread waits at a barrier,
and the features do not depend on the number of threads. Batches are cut from the rows in the order of the video ids, so
that timing changes nothing; another set of videos shifts them, which changes features by rounding only.
"""

from __future__ import annotations

import ctypes
import logging
import platform
import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from videomatch.common import files, named
from videomatch.common.progress import track
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter, expert_store
from videomatch.experts import BaseExpert, Extracted
from videomatch.media.container import Unreadable
from videomatch.media.decode import CHUNK, Sampler

log = logging.getLogger(__name__)

#: chunks of a video (of 32 frames) that wait for the networks before its decoding pauses
QUEUED_CHUNKS = 4
#: seconds after which a paused decoding thread checks whether the run has ended
POLL = 0.2
#: seconds by which the rate of stored frames may differ from the one that an expert requests
RATE_TOLERANCE = 1e-3
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # malloc.h


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
    """Write ``output/<expert>/`` (a store; ids ``video_id``, sorted; times in seconds; with ``texts.parquet`` where the
    expert recognises texts), ``rejected.parquet`` (videos that could not be read, which are in no store) and
    ``warnings.json`` (``video_id`` -> what was wrong with videos that could).

    Args:
        experts: name -> ``{"extractor": file in experts/, "source": expert whose frames are read instead of the media,
            options…}``.
        runs: results of training that ``backbones`` points into; an error if one of them is missing.
        released: ``{"corpus": reader in corpora/, "raw": folder of the data set's files}``, for released features.
    """
    absent = [str(run) for run in runs or [] if not run.is_dir()]
    if absent:
        raise ValueError(f"trained backbones are missing: {', '.join(absent)}")
    keep_memory()
    torch.set_num_threads(1)
    loaded = {name: _load(options, backbones) for name, options in experts.items()}
    sources = {n: _source(n, o["source"], features or []) for n, o in experts.items() if "source" in o}
    videos = corpora.videos(corpus, shard).sort("video_id").select("video_id", "path").rows()
    rejected: list[tuple[str, str, str]] = []
    warnings: dict[str, list[str]] = {}
    outputs: dict[str, _Output] = {}
    with ExitStack() as stack:
        networks = stack.enter_context(ThreadPoolExecutor(1 if torch.cuda.is_available() else threads, "network"))
        for name, expert in loaded.items():
            made_by = {**experts[name], **expert.about}
            writer = StoreWriter(output / name, shape=expert.shape, dtype=expert.dtype, made_by=made_by, times=True)
            copied = _copy_released(name, expert, writer, [video_id for video_id, _ in videos], released or {})
            if copied is not None:
                rejected += copied
                continue
            if expert.source_text_kind is not None:
                expert.set_texts(tables.read("texts", corpus).filter(pl.col("kind") == expert.source_text_kind))
            stack.enter_context(writer)
            outputs[name] = _Output(name, expert, sources.get(name), networks, 2 * threads, writer)
        jobs = (_VideoJob(video_id, path, outputs) for video_id, path in videos if outputs)
        for job in track(_ahead(jobs, threads), total=len(videos) if outputs else 0, label="extract"):
            for name, rows in job.rows():
                outputs[name].add(rows)
            for name, result in outputs.items():
                result.end_video(job.video_id, job.extracted.get(name))
            if job.failure is not None:
                rejected.append((job.video_id, job.path or "", job.failure))
            elif job.warnings:
                warnings[job.video_id] = job.warnings
        for result in outputs.values():
            result.finish()
    for name, result in outputs.items():
        if result.expert.text_kind is not None:
            tables.write("texts", tables.frame("texts", result.texts), output / name)
    tables.write("rejected", tables.frame("rejected", rejected), output)
    files.write_json(output / "warnings.json", warnings, sort_keys=True)
    log.info("%d videos, %d of them rejected, %d with warnings", len(videos), len(rejected), len(warnings))


def keep_memory() -> None:
    """Let glibc's malloc keep freed memory; nothing happens elsewhere. Call it before the first large allocation.

    By default each large block is mapped and unmapped afresh, and page faults cost an image network half its time on a
    CPU (EfficientNet-B3, batches of 16, two cores: 12.7 images per second before, 25.7 after).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20), (M_ARENA_MAX, 1)):
            libc.mallopt(name, value)


def _load(options: dict[str, Any], backbones: dict[str, str]) -> BaseExpert:
    given = {k: v for k, v in options.items() if k not in ("extractor", "source")}
    for option in given.keys() & {"backbone", "encoder"}:  # the name of a backbone, or a folder or hub id itself
        given[option] = backbones.get(given[option], given[option])
    return named.module("experts", options["extractor"]).Expert(**given)


def _source(name: str, source: str, features: list[Path]) -> Store:
    """The stored frames that an expert reads instead of the media."""
    store = expert_store(features, source)
    if store.dtype != np.uint8 or len(store.shape) != 3 or store.shape[-1] != 3:
        raise ValueError(
            f"expert {name!r} reads {source!r}: rows of {store.dtype} {store.shape}, expected frames (height, width, 3)"
        )
    return store


def _copy_released(
    name: str, expert: BaseExpert, writer: StoreWriter, ids: list[str], released: dict[str, Any]
) -> list[tuple[str, str, str]] | None:
    """Write released features; returns rows of ``rejected`` for videos without usable ones. None for an expert that
    computes features."""
    corpus, raw = released.get("corpus"), released.get("raw")
    found = expert.released_features(name, ids, corpus, None if raw is None else Path(raw).expanduser())
    if found is None:
        return None
    if corpus is not None:
        writer.made_by["corpus"] = corpus
    rejected = dict.fromkeys(ids, f"the data set has no released {name!r} features of it")
    with writer:
        for video_id, values, times in track(found, total=len(ids), label=name):
            if np.isfinite(values).all():
                writer.add(video_id, values, times=times)
                del rejected[video_id]
            else:
                rejected[video_id] = f"its released {name!r} features hold a number that is not finite"
    return [(video_id, "", reason) for video_id, reason in rejected.items()]


class _VideoJob:
    """One video: a decoding thread calls :meth:`run`, the main thread reads :meth:`rows` and then the attributes."""

    def __init__(self, video_id: str, path: str | None, outputs: Mapping[str, _Output]) -> None:
        self.video_id, self.path, self.outputs = video_id, path, outputs
        self.failure: str | None = None  # why it could not be read
        self.warnings: list[str] = []
        self.extracted: dict[str, Extracted] = {}  # by each expert, unless it could not be read
        self.future: Future[None] | None = None
        self._queue: queue.Queue[tuple[str, np.ndarray] | None] = queue.Queue(QUEUED_CHUNKS)

    def run(self, stop: threading.Event) -> None:
        """Read the video and queue its prepared rows."""
        torch.set_num_threads(1)
        try:
            for name, rows in self._read():
                if len(rows) and not self._put((name, rows), stop):
                    return
        except Unreadable as error:
            self.failure = str(error)
        finally:
            self._put(None, stop)

    def rows(self) -> Iterator[tuple[str, np.ndarray]]:
        """Expert and prepared rows as they come. An error of an expert is raised at the end."""
        while (item := self._queue.get()) is not None:
            yield item
        assert self.future is not None
        self.future.result()

    def _put(self, item: tuple[str, np.ndarray] | None, stop: threading.Event) -> bool:
        while not stop.is_set():
            try:
                self._queue.put(item, timeout=POLL)
                return True
            except queue.Full:
                continue
        return False

    def _read(self) -> Iterator[tuple[str, np.ndarray]]:
        extractors = {name: output.expert.start(self.video_id) for name, output in self.outputs.items()}
        times = {name: np.zeros((0, 2)) for name in extractors}
        requests = {}
        for name, output in self.outputs.items():
            if output.source is not None:
                frames, times[name] = self._stored_frames(name, output.source)
                for start in range(0, len(frames), CHUNK):
                    yield name, extractors[name].update(frames[start : start + CHUNK], start)
            elif output.expert.request is not None:
                requests[name] = output.expert.request
        if requests:
            if self.path is None:
                raise Unreadable("the corpus names no file for it")
            if not Path(self.path).exists():
                # prepare has read it: a disk that is not mounted is no reason to reject its videos
                raise FileNotFoundError(f"{self.path} was there when the corpus was prepared and is gone now")
            names = list(requests)
            sampler = Sampler(Path(self.path), list(requests.values()))
            for chunk in sampler:
                yield names[chunk.request], extractors[names[chunk.request]].update(chunk.values, chunk.first)
            times |= {name: sampler.times(number) for number, name in enumerate(names)}
            self.warnings = sampler.warnings
        for name, extractor in extractors.items():
            self.extracted[name] = extractor.finalize(times[name])
            yield name, self.extracted[name].rows

    def _stored_frames(self, name: str, store: Store) -> tuple[np.ndarray, np.ndarray]:
        """Frames and their times. Windows need frames that were stored at the requested rate."""
        if self.video_id not in store:
            raise Unreadable(f"there are no frames of it for expert {name!r}")
        frames, times, expert = store[self.video_id], store.times(self.video_id), self.outputs[name].expert
        if expert.windows is not None and expert.request is not None and len(times) > 1:
            every, gaps = float(expert.request.every), np.diff(times[:, 0])
            furthest = gaps[abs(gaps - every).argmax()]
            if abs(furthest - every) > RATE_TOLERANCE:
                raise ValueError(
                    f"expert {name!r} reads a frame every {every:g} s, but the stored ones of video {self.video_id!r} "
                    f"are {furthest:g} s apart"
                )
        return frames, times


def _ahead(jobs: Iterator[_VideoJob], threads: int) -> Iterator[_VideoJob]:
    """The jobs in order, while threads work on the next ones."""
    stop = threading.Event()
    started: deque[_VideoJob] = deque()
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


@dataclass
class _Output:
    """What one expert reads and writes. Every ``batch`` rows, of one or several videos, are computed together by the
    executor, at most ``in_flight`` batches at a time; finished videos are written in order."""

    name: str
    expert: BaseExpert
    source: Store | None
    executor: Executor
    in_flight: int
    writer: StoreWriter
    texts: list[tuple[Any, ...]] = field(default_factory=list)  # rows of the table
    num_rows: int = 0  # of the current video
    videos: deque[tuple[str, int, np.ndarray | None]] = field(default_factory=deque)  # to write: id, rows, times
    waiting: list[np.ndarray] = field(default_factory=list)  # for their batch
    futures: deque[Future[np.ndarray]] = field(default_factory=deque)
    finished: list[np.ndarray] = field(default_factory=list)

    def add(self, prepared: np.ndarray) -> None:
        """Further rows of the current video."""
        self.num_rows += len(prepared)
        if not self.expert.batch:
            self.finished.append(prepared)
            return
        self.waiting.append(prepared)
        while _count(self.waiting) >= self.expert.batch:
            self._send(self.expert.batch)

    def end_video(self, video_id: str, extracted: Extracted | None) -> None:
        """The current video is complete. None: it could not be read and is not written."""
        self.videos.append((video_id, self.num_rows, None if extracted is None else extracted.times))
        self.num_rows = 0
        if extracted is not None and extracted.texts:
            for number, (text, (start, end)) in enumerate(zip(extracted.texts, extracted.times.tolist(), strict=True)):
                span = (start, end) if start >= 0 else (None, None)  # -1: unknown
                text_id = f"{video_id}-{self.name}{number}"
                self.texts.append((text_id, video_id, self.expert.text_kind, None, *span, text))
        self._write()

    def finish(self) -> None:
        """Compute the last, smaller batch and write everything."""
        if self.waiting:
            self._send(_count(self.waiting))
        while self.futures:
            self.finished.append(self.futures.popleft().result())
        self._write()

    def _send(self, count: int) -> None:
        rows, self.waiting = _split(self.waiting, count)
        while len(self.futures) >= self.in_flight:
            self.finished.append(self.futures.popleft().result())
        self.futures.append(self.executor.submit(self.expert.infer, rows))

    def _write(self) -> None:
        """Write the videos whose rows are all finished."""
        while self.videos and _count(self.finished) >= self.videos[0][1]:
            video_id, count, times = self.videos.popleft()
            rows, self.finished = _split([self.expert.no_rows, *self.finished], count)
            if times is not None:
                self.writer.add(video_id, rows, times=times)


def _count(parts: list[np.ndarray]) -> int:
    return sum(map(len, parts))


def _split(parts: list[np.ndarray], count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first rows, and parts of the rest."""
    rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return rows[:count], [rows[count:]] if len(rows) > count else []
