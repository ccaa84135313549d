"""A library of people's own videos: frames of files, described in one way, to be searched for copies.

On the disk::

    library.json         how frames are described (:mod:`videomatch.app.descriptors`)
    videos/<batch>.parquet   which files are in a batch: id, path, duration, digest
    features/<batch>/    the frames of a batch, while the index is young
    index/               :mod:`videomatch.retrieval.library` over all batches
    rejected.parquet     files that could not be read, and why

Files are added in batches that appear whole, each described once: a kill loses the batch at work, and adding the same
files again goes on behind the others. A file counts by its content; moved or renamed it is not described again.

The index learns its lists from what is there when it is made. While it is young it is made anew from the features
whenever there are :data:`GROWTH` times as many frames (nothing is decoded for that); once it has learned from
:data:`SETTLED` frames it stays, and features are not kept any longer.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.app.descriptors import Descriptor
from videomatch.app.library import Refused
from videomatch.common import digests
from videomatch.common.progress import track
from videomatch.corpora.folder import EXTENSIONS
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.pipeline import provenance
from videomatch.retrieval.library import Library
from videomatch.stages.prepare import odd_id

log = logging.getLogger(__name__)

FORMAT = 1
#: files of a batch
BATCH = 32
#: times more frames than the index has learned from, from which on a young one is made anew
GROWTH = 4
#: frames from which on an index stays as it is
SETTLED = 1 << 17
#: dimensions of the index
DIM = 256
#: names of a batch in the folder of its features: hidden, as it is no part of the store
NAMES = ".videos.parquet"
COLUMNS = {"video_id": pl.String, "path": pl.String, "duration": pl.Float64, "sha256": pl.String}


@dataclass
class Added:
    """What :meth:`Footage.add` did.

    Attributes:
        videos: ids that are new. known: files that were there, or stand twice. frames: of the new videos.
        rejected: ``path`` and ``reason`` of files that could not be read.
    """

    videos: list[str] = field(default_factory=list)
    known: int = 0
    frames: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)


class Footage:
    """A library of own videos.

    Args:
        folder: of :meth:`made`.

    Raises:
        Refused: there is none, or it was made by another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "library.json"
        if not path.is_file():
            raise Refused(f"{folder} is no library: make one with `videomatch library add {folder} VIDEOS`")
        said = json.loads(path.read_text(encoding="utf-8"))
        if said.get("format") != FORMAT:
            raise Refused(f"{path} has format {said.get('format')!r}, expected {FORMAT}: make a new library")
        self.descriptor = Descriptor(**said["descriptor"])

    @classmethod
    def made(cls, folder: Path, descriptor: Descriptor) -> Footage:
        """An empty library.

        Raises:
            Refused: something else lies there.
        """
        if folder.exists() and (not folder.is_dir() or any(p.name != ".lock" for p in folder.iterdir())):
            raise Refused(f"{folder} is there and is no library: expected a new or an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        said = {"format": FORMAT, "descriptor": descriptor.as_json()}
        provenance.write_text(folder / "library.json", json.dumps(said, indent=1, ensure_ascii=False) + "\n")
        return cls(folder)

    # -------------------------------------------------------------------------------------------------- what there is

    @property
    def index(self) -> Path:
        """Folder of the index."""
        return self.folder / "index"

    def searchable(self) -> Library:
        """The index, opened.

        Raises:
            Refused: nothing was added yet.
        """
        if not (self.index / "codec").is_dir():
            raise Refused(f"{self.folder} holds no video yet: `videomatch library add {self.folder} VIDEOS`")
        return Library(self.index)

    def videos(self) -> pl.DataFrame:
        """``video_id``, ``path``, ``duration`` (s) and ``sha256`` of all videos that were described."""
        there = [pl.read_parquet(path) for path in sorted((self.folder / "videos").glob("[!.]*.parquet"))]
        return pl.concat(there) if there else pl.DataFrame(schema=COLUMNS)

    def rejected(self) -> pl.DataFrame:
        """Files that could not be read."""
        return tables.read("rejected", self.folder)

    def _batches(self) -> list[Path]:
        """Features of the batches that still have some."""
        return sorted((self.folder / "features").glob("[!.]*"))

    # --------------------------------------------------------------------------------------------------------- adding

    def add(self, paths: Sequence[Path], threads: int = 1, label: str = "videos") -> Added:
        """Describe files, or all videos below folders, and make them searchable.

        What cannot be read is listed and never stops the rest.

        Raises:
            Refused: a path does not exist, another process is adding, or the descriptor is not what it was.
        """
        self.descriptor.check()
        added = Added()
        with self._alone():
            found = list(_files(paths, added.rejected))
            self._sweep()
            known = self.videos()
            seen, ids = set(known["sha256"]), set(known["video_id"])
            new: dict[str, Path] = {}
            for path, below in track(found, label="known?"):
                try:
                    digest = digests.file_digest(path)
                except OSError as error:
                    added.rejected.append(_no(path, error.strerror or str(error)))
                    continue
                if digest in seen:
                    added.known += 1
                    continue
                seen.add(digest)
                name = _name(path, below, ids)
                if (reason := odd_id(name)) is not None:
                    added.rejected.append(_no(path, reason))
                    continue
                ids.add(name)
                new[name] = path
            names = list(new)
            batches = [names[n : n + BATCH] for n in range(0, len(names), BATCH)]
            for batch in track(batches, label=f"batches of {label}"):
                self._batch({name: new[name] for name in batch}, threads, added)
            self._index_all()
            self._reject(added, [path for path, _ in found])
        return added

    def _batch(self, files: dict[str, Path], threads: int, added: Added) -> None:
        """Describe some files; their features and names appear whole."""
        with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
            described = self.descriptor.described(files, Path(scratch), threads)
            shown = {str(path): _shown(path) for path in files.values()}
            added.rejected += [_no(shown[r["path"]], r["reason"]) for r in described.rejected.iter_rows(named=True)]
            store, rows = described.store, described.videos.select(*COLUMNS)
            if store is None or not len(rows):
                return
            name = digests.digest(sorted(rows["sha256"]))[:16]
            new = self.folder / "features" / f".{name}.new.{os.getpid()}"
            with StoreWriter(new, shape=store.shape, dtype="float16", times=True) as writer:
                for video_id in rows["video_id"]:
                    frames = store[video_id]
                    writer.add(video_id, frames, times=store.times(video_id))
                    added.frames += len(frames)
            rows.write_parquet(new / NAMES)
            new.replace(self.folder / "features" / name)
        self._note(name)
        added.videos += rows["video_id"].to_list()

    def _note(self, batch: str) -> None:
        """Names stay when features go."""
        there = self.folder / "videos"
        there.mkdir(exist_ok=True)
        new = there / f".{batch}.new.{os.getpid()}"
        shutil.copyfile(self.folder / "features" / batch / NAMES, new)
        new.replace(there / f"{batch}.parquet")

    def _index_all(self) -> None:
        """Bring the index to what is described."""
        state = self.index / "batches.json"
        said = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {"learned": 0, "batches": []}
        there = self._batches()
        pending = [batch for batch in there if batch.name not in said["batches"]]
        frames = int(Store.open(*there).lengths.sum()) if there else 0
        if not pending or not frames:
            return
        if said["learned"] < SETTLED and frames >= GROWTH * said["learned"]:
            new, old = (self.folder / f".index.new.{os.getpid()}{end}" for end in ("", ".0"))
            Library.create(new, there, expected=GROWTH * frames, dim=DIM)
            Library.add(new, *there)
            said = {"learned": frames, "batches": [batch.name for batch in there]}
            provenance.write_text(new / state.name, json.dumps(said) + "\n")
            if self.index.exists():
                self.index.replace(old)
            new.replace(self.index)
            shutil.rmtree(old, ignore_errors=True)
        else:
            Library.add(self.index, *pending)
            said["batches"] += [batch.name for batch in pending]
            provenance.write_text(state, json.dumps(said) + "\n")
        if said["learned"] >= SETTLED:
            for batch in there:
                shutil.rmtree(batch)

    def _reject(self, added: Added, looked_at: Iterable[Path]) -> None:
        """Note what was rejected now; of files that were looked at before, what they were rejected for is forgotten."""
        seen = {_shown(path) for path in looked_at}
        before = self.rejected().filter(~pl.col("path").is_in(list(seen)))
        rows = [{"video_id": "", **row} for row in added.rejected]
        now = pl.DataFrame(rows, schema=tables.SCHEMAS["rejected"])
        tables.write("rejected", pl.concat([before, now]).unique("path", keep="last", maintain_order=True), self.folder)

    def _sweep(self) -> None:
        """Remove what killed processes left half-written, and finish what they left whole."""
        (self.folder / "features").mkdir(exist_ok=True)
        for left in (*self.folder.glob(".index.new.*"), *self.folder.glob("*/.*.new.*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for batch in self._batches():
            if not (self.folder / "videos" / f"{batch.name}.parquet").exists():
                self._note(batch.name)
        self._index_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process adds meanwhile."""
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Refused(f"another process is adding to {self.folder}: wait for it") from error
            yield


def _files(paths: Sequence[Path], rejected: list[dict[str, str]]) -> Iterator[tuple[Path, Path]]:
    """Every video, and the folder that its id is below; hidden files and links to folders are passed over."""
    for given in paths:
        if not given.exists():
            raise Refused(f"{_shown(given)}: expected a video or a folder of videos, and nothing is there")
        below = given if given.is_dir() else given.parent
        for path in _walk(given) if given.is_dir() else [given]:
            try:
                str(path).encode()
            except UnicodeEncodeError:
                rejected.append(_no(path, "file name is not valid UTF-8, which tables cannot hold"))
                continue
            yield path, below


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(place) / name


def _name(path: Path, below: Path, taken: set[str]) -> str:
    """The id of a file: its path below a folder, with as many of that folder's own names as it takes to be the only
    one."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (a link keeps its own name)
    count = len(path.relative_to(below).parts)
    parts = [_printable(part) for part in whole.parts]
    for length in range(count, len(parts)):
        name = "/".join(parts[-length:])
        if name not in taken:
            return name
    number = next(n for n in range(2, len(taken) + 3) if f"{'/'.join(parts)} ({n})" not in taken)
    return f"{'/'.join(parts)} ({number})"


def _printable(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"%{ord(c):02X}" for c in text)


def _shown(path: Path) -> str:
    return _printable(str(path))


def _no(path: Path | str, reason: str) -> dict[str, str]:
    return {"path": path if isinstance(path, str) else _shown(path), "reason": _printable(reason)}


def summary(footage: Footage) -> dict[str, Any]:
    """What a library holds, as plain values."""
    videos = footage.videos()
    files = [p for p in footage.folder.rglob("*") if p.is_file()]
    return {
        "library": str(footage.folder),
        "described by": str(footage.descriptor),
        "videos": videos.sort("video_id").select("video_id", "duration", "path").to_dicts(),
        "frames": footage.searchable().frames if len(videos) else 0,
        "hours": float(videos["duration"].fill_null(0).sum()) / 3600,
        "bytes": sum(p.stat().st_size for p in files),
        "rejected": footage.rejected().select("path", "reason").to_dicts(),
    }
