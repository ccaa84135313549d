"""``extract``: features of the videos of one shard, one store per expert.

The path of a video: a decoding thread reads its file once for all experts, and for all videos that are parts of it, and
queues prepared rows (:class:`_FileJob`); the main thread cuts them into batches across videos (:class:`_Output`);
network threads compute the batches; finished videos are written in order. PyAV and torch both let other Python threads
run.

A film with its parts, or other files of :data:`UNIT` seconds together, are a unit: what a kill loses at most. Finished
units wait in ``scratch``; at the end they are joined.

On a CPU every batch is computed by one torch thread and ``threads`` batches at a time: no thread waits at a barrier,
and the features do not depend on the number of threads. Batches are cut from the rows of a unit in the order of its
videos, so that neither timing nor a kill changes anything; another set of videos shifts them, which changes features by
rounding only.
"""

from __future__ import annotations

import itertools
import json
import logging
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from videomatch.common import files, named
from videomatch.common.precision import keep_memory
from videomatch.common.progress import track
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter, expert_store
from videomatch.experts import BaseExpert, Extracted, VideoExtractor
from videomatch.media.container import Unreadable
from videomatch.media.decode import CHUNK, FrameRequest, Sampler
from videomatch.media.sound import SoundRequest

log = logging.getLogger(__name__)

#: prepared rows of an expert, and the video that they end, if one ends
_Rows = tuple[str, np.ndarray, tuple[str, Extracted] | None]

#: chunks of a video (of 32 frames) that wait for the networks before its decoding pauses
QUEUED_CHUNKS = 4
#: seconds of video after which a unit of files ends
UNIT = 7200.0
#: folder of the finished units where no other is given
UNITS = ".units"
#: seconds after which a paused decoding thread checks whether the run has ended
POLL = 0.2
#: seconds by which the rate of stored frames may differ from the one that an expert requests
RATE_TOLERANCE = 1e-3


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
    scratch: Path | None = None,
) -> None:
    """Write ``output/<expert>/`` (a store; ids ``video_id``, sorted, but for parts of a file, which are in the order of
    their times; times in seconds after the first frame of the video; with ``texts.parquet`` where the expert recognises
    texts), ``rejected.parquet`` (videos that could not be read, which are in no store) and ``warnings.json``
    (``video_id`` -> what was wrong with videos that could).

    Args:
        experts: name -> ``{"extractor": file in experts/, "source": expert whose frames are read instead of the media,
            options…}``.
        runs: results of training that ``backbones`` points into; an error if one of them is missing.
        released: ``{"corpus": reader in corpora/, "raw": folder of the data set's files}``, for released features.
        scratch: folder that survives a kill; finished units in it are not made again.
    """
    absent = [str(run) for run in runs or [] if not run.is_dir()]
    if absent:
        raise ValueError(f"trained backbones are missing: {', '.join(absent)}")
    keep_memory()
    torch.set_num_threads(1)
    loaded = {name: _load(options, backbones) for name, options in experts.items()}
    sources = {n: _source(n, o["source"], features or []) for n, o in experts.items() if "source" in o}
    videos = corpora.videos(corpus, shard).sort("video_id")
    rejected: list[tuple[str, str, str]] = []
    outputs: dict[str, _Output] = {}
    with ExitStack() as stack:
        networks = stack.enter_context(ThreadPoolExecutor(1 if torch.cuda.is_available() else threads, "network"))
        for name, expert in loaded.items():
            expert.set_corpus(corpus, shard)
            made_by = {**experts[name], **expert.about}
            writer = StoreWriter(output / name, shape=expert.shape, dtype=expert.dtype, made_by=made_by, times=True)
            copied = _copy_released(name, expert, writer, videos["video_id"].to_list(), released or {})
            if copied is not None:
                rejected += copied
                continue
            outputs[name] = _Output(name, expert, sources.get(name), networks, 2 * threads, writer)
        units = _units(videos) if outputs else []
        places = [(scratch or output / UNITS) / f"{number:06d}" for number in range(len(units))]
        missing = [unit for unit in zip(places, units, strict=True) if not unit[0].exists()]
        jobs = (_FileJob(place, file, outputs) for place, unit in missing for file in unit)
        total = sum(len(unit) for _, unit in missing)
        done = track(stack.enter_context(closing(_ahead(jobs, threads))), total=total, label="extract")
        for place, of_unit in itertools.groupby(done, key=lambda job: job.place):
            with files.replacing(place) as folder:
                _write_unit(folder, of_unit, outputs)
    warnings = _join(output, places, outputs)
    tables.write("rejected", pl.concat([tables.frame("rejected", rejected), tables.read("rejected", *places)]), output)
    files.write_json(output / "warnings.json", warnings, sort_keys=True)
    files.remove(output / UNITS)
    log.info("%d videos, %d of them rejected, %d with warnings", len(videos), len(rejected), len(warnings))


@dataclass(frozen=True)
class _File:
    """The videos that are parts of one file, or the one that it is (without spans)."""

    ids: list[str]
    path: str | None
    spans: list[tuple[float, float]] | None


def _units(videos: pl.DataFrame) -> list[list[_File]]:
    """The files of some videos, in the order of their first ids, as units."""
    is_whole = pl.col("start").is_null()
    grouped = videos.group_by(is_whole, pl.when(is_whole).then("video_id").otherwise("path"), maintain_order=True)
    units: list[list[_File]] = []
    seconds = UNIT  # of the last unit
    for _, rows in grouped:
        rows = rows.sort("start")
        ids, paths, starts, ends = (rows[column].to_list() for column in ("video_id", "path", "start", "end"))
        is_cut = starts[0] is not None
        if is_cut or seconds >= UNIT:
            units.append([])
            seconds = 0.0
        units[-1].append(_File(ids, paths[0], list(zip(starts, ends, strict=True)) if is_cut else None))
        seconds = UNIT if is_cut else seconds + float(rows["duration"].sum())
    return units


def _write_unit(folder: Path, jobs: Iterable[_FileJob], outputs: Mapping[str, _Output]) -> None:
    """Write the stores, texts, rejected videos and warnings of a unit."""
    rejected: list[tuple[str, str, str]] = []
    warnings: dict[str, list[str]] = {}
    with ExitStack() as stack:
        for name, result in outputs.items():
            expert = result.expert
            writer = StoreWriter(folder / name, shape=expert.shape, dtype=expert.dtype, times=True)
            result.begin(stack.enter_context(writer))
        for job in jobs:
            for name, rows, extracted in job.rows():
                if len(rows):
                    outputs[name].add(rows)
                if extracted is not None:
                    outputs[name].end_video(*extracted)
            if job.failure is not None:
                for result in outputs.values():
                    result.drop_video()
                rejected += [(video_id, job.file.path or "", job.failure) for video_id in job.file.ids]
            elif job.warnings:
                warnings |= dict.fromkeys(job.file.ids, job.warnings)
        for result in outputs.values():
            result.finish()
    for name, result in outputs.items():
        if result.expert.text_kind is not None:
            tables.write("texts", tables.frame("texts", result.texts), folder / name)
    tables.write("rejected", tables.frame("rejected", rejected), folder)
    files.write_json(folder / "warnings.json", warnings)


def _join(output: Path, units: Sequence[Path], outputs: Mapping[str, _Output]) -> dict[str, list[str]]:
    """Join the units to the stores and texts of the output; returns their warnings."""
    lost = set(tables.read("rejected", *units)["video_id"])
    for name, result in outputs.items():
        with result.joined as writer:
            for unit in units:
                store = Store(unit / name)
                for video_id in store.ids:
                    if video_id not in lost:  # a file that broke after some of its videos has none
                        writer.add(video_id, store[video_id], times=store.times(video_id))
        if result.expert.text_kind is not None:
            texts = tables.read("texts", *(unit / name for unit in units))
            tables.write("texts", texts.filter(~pl.col("video_id").is_in(list(lost))), output / name)
    return {k: v for unit in units for k, v in json.loads((unit / "warnings.json").read_text(encoding="utf-8")).items()}


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


class _FileJob:
    """One file: a decoding thread calls :meth:`run`, the main thread reads :meth:`rows` and then the attributes."""

    def __init__(self, place: Path, file: _File, outputs: Mapping[str, _Output]) -> None:
        self.place, self.file, self.outputs = place, file, outputs
        self.failure: str | None = None  # why it could not be read
        self.warnings: list[str] = []
        self.future: Future[None] | None = None
        self._queue: queue.Queue[_Rows | None] = queue.Queue(QUEUED_CHUNKS)

    def run(self, stop: threading.Event) -> None:
        """Read the file and queue the prepared rows of its videos."""
        torch.set_num_threads(1)
        try:
            for name, rows, extracted in self._read():
                if (len(rows) or extracted is not None) and not self._put((name, rows, extracted), stop):
                    return
        except Unreadable as error:
            self.failure = str(error)
        finally:
            self._put(None, stop)

    def rows(self) -> Iterator[_Rows]:
        """Rows as they come. An error of an expert is raised at the end."""
        while (item := self._queue.get()) is not None:
            yield item
        assert self.future is not None
        self.future.result()

    def _put(self, item: _Rows | None, stop: threading.Event) -> bool:
        while not stop.is_set():
            try:
                self._queue.put(item, timeout=POLL)
                return True
            except queue.Full:
                continue
        return False

    def _read(self) -> Iterator[_Rows]:
        requests = {}
        for name, output in self.outputs.items():
            expert = output.expert
            if output.source is None and expert.request is not None:
                requests[name] = expert.request
                continue
            for video_id in self.file.ids:
                extractor, times = expert.start(video_id), np.zeros((0, 2))
                if output.source is not None:
                    frames, times = self._stored_frames(video_id, name, output.source)
                    for start in range(0, len(frames), CHUNK):
                        yield name, extractor.update(frames[start : start + CHUNK], start), None
                yield _ended(name, video_id, extractor, times)
        if requests:
            yield from self._media(requests)

    def _media(self, requests: Mapping[str, FrameRequest | SoundRequest]) -> Iterator[_Rows]:
        if self.file.path is None:
            raise Unreadable("the corpus names no file for it")
        if not Path(self.file.path).exists():
            # prepare has read it: a disk that is not mounted is no reason to reject its videos
            raise FileNotFoundError(f"{self.file.path} was there when the corpus was prepared and is gone now")
        names, ids = list(requests), self.file.ids
        sampler = Sampler(Path(self.file.path), list(requests.values()), spans=self.file.spans)
        extractors = [self.outputs[name].expert.start(ids[0]) for name in names]
        at = [0] * len(names)  # the span that each of them reads

        def advance(number: int, span: int) -> Iterator[_Rows]:
            while at[number] < span:
                done = at[number]
                yield _ended(names[number], ids[done], extractors[number], sampler.times(number, done))
                at[number] += 1
                if at[number] < len(ids):
                    extractors[number] = self.outputs[names[number]].expert.start(ids[at[number]])

        for chunk in sampler:
            number = chunk.request
            yield from advance(number, chunk.span)
            yield names[number], extractors[number].update(chunk.values, chunk.first), None
        for number in range(len(names)):
            yield from advance(number, len(ids))
        self.warnings = sampler.warnings

    def _stored_frames(self, video_id: str, name: str, store: Store) -> tuple[np.ndarray, np.ndarray]:
        """Frames and their times. Windows need frames that were stored at the requested rate."""
        if video_id not in store:
            raise Unreadable(f"there are no frames of it for expert {name!r}")
        frames, times, expert = store[video_id], store.times(video_id), self.outputs[name].expert
        if expert.windows is not None and expert.request is not None and len(times) > 1:
            every, gaps = float(expert.request.every), np.diff(times[:, 0])
            furthest = gaps[abs(gaps - every).argmax()]
            if abs(furthest - every) > RATE_TOLERANCE:
                raise ValueError(
                    f"expert {name!r} reads a frame every {every:g} s, but the stored ones of video {video_id!r} "
                    f"are {furthest:g} s apart"
                )
        return frames, times


def _ended(name: str, video_id: str, extractor: VideoExtractor, times: np.ndarray) -> _Rows:
    extracted = extractor.finalize(times)
    return name, extracted.rows, (video_id, extracted)


def _ahead(jobs: Iterator[_FileJob], threads: int) -> Generator[_FileJob]:
    """The jobs in order, while threads work on the next ones."""
    stop = threading.Event()
    started: deque[_FileJob] = deque()
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
    """What one expert reads and writes. Every ``batch`` rows, of one or several videos of a unit, are computed together
    by the executor, at most ``in_flight`` batches at a time; finished videos are written in order."""

    name: str
    expert: BaseExpert
    source: Store | None
    executor: Executor
    in_flight: int
    joined: StoreWriter  # of all units
    writer: StoreWriter | None = None  # of the current unit
    texts: list[tuple[Any, ...]] = field(default_factory=list)  # rows of the table
    num_rows: int = 0  # of the current video
    videos: deque[tuple[str, int, np.ndarray | None]] = field(default_factory=deque)  # to write: id, rows, times
    waiting: list[np.ndarray] = field(default_factory=list)  # for their batch
    futures: deque[Future[np.ndarray]] = field(default_factory=deque)
    finished: list[np.ndarray] = field(default_factory=list)

    def begin(self, writer: StoreWriter) -> None:
        """Begin a unit."""
        self.writer, self.texts = writer, []

    def add(self, prepared: np.ndarray) -> None:
        """Further rows of the current video."""
        self.num_rows += len(prepared)
        if not self.expert.batch:
            self.finished.append(prepared)
            return
        self.waiting.append(prepared)
        while _count(self.waiting) >= self.expert.batch:
            self._send(self.expert.batch)

    def end_video(self, video_id: str, extracted: Extracted) -> None:
        """The current video is complete."""
        self.videos.append((video_id, self.num_rows, extracted.times))
        self.num_rows = 0
        for number, t in enumerate(extracted.texts):
            about = (f"{video_id}-{self.name}{number}", video_id, self.expert.text_kind, t.language)
            self.texts.append((*about, t.start, t.end, t.text, t.confidence))
        self._write()

    def drop_video(self) -> None:
        """The current video could not be read to its end and is not written."""
        self.videos.append(("", self.num_rows, None))
        self.num_rows = 0
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
            if times is not None and self.writer is not None:
                self.writer.add(video_id, rows, times=times)


def _count(parts: list[np.ndarray]) -> int:
    return sum(map(len, parts))


def _split(parts: list[np.ndarray], count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first rows, and parts of the rest."""
    rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return rows[:count], [rows[count:]] if len(rows) > count else []
