"""A library of the user's own videos: frames of files, described in one way, to be searched for copies.

On the disk::

    library.json                    the descriptor of frames (:mod:`videomatch.app.descriptors`)
    batches/<name>/videos.parquet   which files are in a batch: id, path, duration, digest
    batches/<name>/features/        the frames of a batch, as long as the index may be made again
    index/                          the inverted file over the frames of all batches; ``learned.json`` is the number of
                                    frames that its lists were learned from
    rejected.parquet                files that could not be read, and why

Files are added in batches; each is described once and appears whole, so a killed process loses the batch at work. A
file is known by its content: moved or renamed it is not described again.

The index is made again from the features whenever there are ``growth`` times as many frames as it has learned from.
Once it has learned from ``settled`` frames it only grows, and the features are deleted.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.app.descriptors import Descriptor
from videomatch.common import digests, files
from videomatch.common.progress import track
from videomatch.corpora.folder import EXTENSIONS, NOT_TEXT, files_below, is_text, printable
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.retrieval.frame_index import FrameIndex
from videomatch.stages.prepare import id_problem

log = logging.getLogger(__name__)

FORMAT = 2
#: dimensions of the index
DIM = 256
COLUMNS = {"video_id": pl.String, "path": pl.String, "duration": pl.Float64, "sha256": pl.String}


@dataclass
class Added:
    """What :meth:`VideoLibrary.add` did; ``known`` files are in the library already, or were given twice."""

    videos: list[str] = field(default_factory=list)
    known: int = 0
    frames: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)

    def reject(self, path: Path, reason: str) -> None:
        """Note a file that cannot be used."""
        self.rejected.append({"path": printable(str(path)), "reason": printable(reason)})


class VideoLibrary:
    """A library of own videos. Files are added in batches of ``batch``; ``growth`` and ``settled`` are above."""

    def __init__(self, folder: Path, *, batch: int = 32, growth: int = 4, settled: int = 1 << 17) -> None:
        self.folder, self.batch, self.growth, self.settled = folder, batch, growth, settled
        if not self.exists(folder):
            raise ValueError(f"{folder} is no library: make one with `videomatch library add {folder} VIDEOS`")
        about = json.loads((folder / "library.json").read_text(encoding="utf-8"))
        if (found := about.get("format")) != FORMAT:
            raise ValueError(f"{folder}/library.json has format {found!r}, expected {FORMAT}: make a new library")
        self.descriptor, self._index = Descriptor(**about["descriptor"]), folder / "index"

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a folder is a library."""
        return (folder / "library.json").is_file()

    @classmethod
    def create(cls, folder: Path, descriptor: Descriptor, **options: int) -> VideoLibrary:
        """Make an empty library; ``options`` are those of the class."""
        if folder.exists() and (not folder.is_dir() or any(p.name != ".lock" for p in folder.iterdir())):
            raise ValueError(f"{folder} exists and is no library: expected a new or an empty folder")
        files.write_json(folder / "library.json", {"format": FORMAT, "descriptor": asdict(descriptor)})
        return cls(folder, **options)

    def open_index(self) -> FrameIndex:
        """The index of all frames."""
        if not self._index.exists():
            raise ValueError(f"{self.folder} holds no video yet: `videomatch library add {self.folder} VIDEOS`")
        return FrameIndex(self._index)

    def videos(self) -> pl.DataFrame:
        """``video_id``, ``path``, ``duration`` (s) and ``sha256`` of all videos."""
        found = [pl.read_parquet(path) for path in sorted(self.folder.glob("batches/[!.]*/videos.parquet"))]
        return pl.concat(found) if found else pl.DataFrame(schema=COLUMNS)

    def features(self) -> list[Path]:
        """The stores of all batches whose frames are kept beside the index."""
        return sorted(self.folder.glob("batches/[!.]*/features"))

    def rejected(self) -> pl.DataFrame:
        """``path`` and ``reason`` of files that could not be read."""
        return tables.read("rejected", self.folder).select("path", "reason")

    def summary(self) -> dict[str, Any]:
        """What the library holds, as plain values."""
        videos = self.videos()
        return {
            "library": str(self.folder),
            "described by": str(self.descriptor),
            "videos": videos.sort("video_id").select("video_id", "duration", "path").to_dicts(),
            "frames": self.open_index().frames if len(videos) else 0,
            "hours": float(videos["duration"].fill_null(0).sum()) / 3600,
            "bytes": sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file()),
            "rejected": self.rejected().to_dicts(),
        }

    def add(self, paths: Sequence[Path], threads: int = 1) -> Added:
        """Describe files, or all videos below folders, and add them to the index; what cannot be read is listed."""
        self.descriptor.check()
        added = Added()
        with self._locked():
            found = list(_videos_below(paths, added))
            new = self._new_files(found, added)
            batches = [list(new)[start : start + self.batch] for start in range(0, len(new), self.batch)]
            for batch in track(batches, label="batches of videos"):
                self._add_batch({video_id: new[video_id] for video_id in batch}, threads, added)
            self._update_index()
            self._write_rejected(added, [path for path, _ in found])
        return added

    def _new_files(self, found: Sequence[tuple[Path, Path]], added: Added) -> dict[str, Path]:
        """Id -> file of what the library does not hold."""
        videos = self.videos()
        contents, ids = set(videos["sha256"]), set(videos["video_id"])
        new: dict[str, Path] = {}
        for path, below in track(found, label="digests"):
            try:
                digest = digests.file_digest(path)
            except OSError as error:
                added.reject(path, error.strerror or str(error))
                continue
            video_id = _new_id(path, below, ids)
            if digest in contents:
                added.known += 1
            elif (reason := id_problem(video_id)) is not None:
                added.reject(path, reason)
            else:
                ids.add(video_id)
                new[video_id] = path
            contents.add(digest)
        return new

    def _add_batch(self, new_files: dict[str, Path], threads: int, added: Added) -> None:
        """Describe some files; their names and features appear together."""
        with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
            store, videos, rejected = self.descriptor.describe(new_files, Path(scratch), threads)
            for row in rejected.iter_rows(named=True):
                added.reject(row["path"], row["reason"])
            rows = videos.select(*COLUMNS)
            if store is None or not len(rows):
                return
            name = digests.digest(sorted(rows["sha256"]))[:16]
            with files.replacing(self.folder / "batches" / name) as new:
                with StoreWriter(new / "features", shape=store.shape, dtype="float16", times=True) as writer:
                    for video_id in rows["video_id"]:
                        frames = store[video_id]
                        writer.add(video_id, frames, times=store.times(video_id))
                        added.frames += len(frames)
                rows.write_parquet(new / "videos.parquet")
        added.videos += rows["video_id"].to_list()

    def _update_index(self) -> None:
        """Add all features that the index lacks, or make it again; delete what a settled one needs no more."""
        features = self.features()
        frames = int(Store(*features).lengths.sum()) if features else 0
        learned_file = self._index / "learned.json"
        learned = json.loads(learned_file.read_text(encoding="utf-8")) if learned_file.exists() else 0
        indexed = set(FrameIndex(self._index).ids) if learned else set()
        missing = [root for root in features if not indexed.issuperset(Store(root).ids)]
        if frames and missing:
            if learned < self.settled and frames >= self.growth * learned:
                with files.replacing(self._index) as new:
                    FrameIndex.create(new, features, expected=self.growth * frames, dim=DIM)
                    FrameIndex.add(new, *features)
                    files.write_json(new / learned_file.name, frames)
                learned = frames
            else:
                FrameIndex.add(self._index, *missing)
        if learned >= self.settled:
            for root in features:
                root.rename(hidden := files.unfinished(root))
                files.remove(hidden)

    def _write_rejected(self, added: Added, found: Iterable[Path]) -> None:
        """Note the files rejected now. Earlier reasons of files that were read again are dropped."""
        again = [printable(str(path)) for path in found]
        before = tables.read("rejected", self.folder).filter(~pl.col("path").is_in(again))
        now = pl.DataFrame([{"video_id": "", **row} for row in added.rejected], schema=tables.SCHEMAS["rejected"])
        tables.write("rejected", pl.concat([before, now]).unique("path", keep="last", maintain_order=True), self.folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process adds at a time; what killed ones left unfinished is removed."""
        lock = files.lock(self.folder / ".lock")
        if lock is None:
            raise ValueError(f"another process is adding to {self.folder}: wait for it")
        with lock:
            for folder in (self.folder, self.folder / "batches", *self.folder.glob("batches/*")):
                files.sweep(folder)
            yield


def _videos_below(paths: Sequence[Path], added: Added) -> Iterator[tuple[Path, Path]]:
    """Every video, and the folder that its id is relative to."""
    for given in paths:
        if not given.exists():
            raise ValueError(f"{printable(str(given))} does not exist: expected a video or a folder of videos")
        if not is_text(str(given)):
            added.reject(given, NOT_TEXT)
        elif given.is_dir():
            found = files_below(given, added.reject)
            yield from ((path, given) for path in found if path.suffix.lower() in EXTENSIONS)
        else:
            yield given, given.parent


def _new_id(path: Path, below: Path, taken: set[str]) -> str:
    """The id of a file: its path below a folder, with as many of that folder's own names as make it unique."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (a link keeps its own name)
    parts = [printable(part) for part in whole.parts]
    for length in range(len(path.relative_to(below).parts), len(parts)):
        video_id = "/".join(parts[-length:])
        if video_id not in taken:
            return video_id
    numbered = (f"{'/'.join(parts)} ({number})" for number in range(2, len(taken) + 3))
    return next(video_id for video_id in numbered if video_id not in taken)
