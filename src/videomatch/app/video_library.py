"""A library of the user's own videos: frames of files, described in one way, to be searched for copies.

On the disk::

    library.json        the descriptor of frames (:mod:`videomatch.app.descriptors`)
    batches/<name>/     which files are in a batch: id, path (null: the file there has changed), duration, digest
    features/, index/   the frames of these files, and the index of them (:mod:`videomatch.app._features`)
    points/             of a library by grey pixels: the same of the corners of these files
    rejected/           files that could not be read, and why

Files are added in batches; each is described once and appears whole, so a killed process loses the batch at work. A
file is known by its content: moved or renamed it is not described again, and its new path is kept.

Every folder holds the digests of its files. What is damaged or missing is mended by the next :meth:`VideoLibrary.add`:
the index is made again from features, features from the files.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.app import indexes
from videomatch.app._features import Features, damaged, discard
from videomatch.app._given import Added, check_given, new_id, videos_given
from videomatch.app.descriptors import GREY, POINTS, Descriptor
from videomatch.common import digests, files
from videomatch.common.messages import count, unknown
from videomatch.common.progress import track
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.data.walk import printable
from videomatch.retrieval import ann
from videomatch.retrieval.frame_index import FrameIndex
from videomatch.stages.prepare import id_problem

log = logging.getLogger(__name__)

FORMAT = 3
#: the features by the library's descriptor; a file without them is no video of it
OWN = "own"
#: of corners, which are many: ``settled``, and lists of the index that a corner is compared with
CORNERS, NPROBE = 1 << 20, 4
COLUMNS = {"video_id": pl.String, "path": pl.String, "duration": pl.Float64, "sha256": pl.String}


class VideoLibrary:
    """A library of own videos. Files are added in batches of ``batch``; the index of frames has ``growth`` and
    ``settled`` (:mod:`videomatch.app._features`). ``features`` are those by :data:`OWN` and by experts that read the
    files in the same pass, by name."""

    #: endings of texts beside videos that are read, too
    read_beside: Collection[str] = ()

    def __init__(self, folder: Path, *, batch: int = 32, growth: int = 4, settled: int = 1 << 17) -> None:
        self.folder, self.batch = folder, batch
        if not self.exists(folder):
            raise ValueError(f"{folder} is no library: make one with `videomatch library add {folder} VIDEOS`")
        path = folder / "library.json"
        anew = f"{self._command()} makes it again" if self._watched else "make a new library"
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is damaged ({error}): {anew}") from error
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            found = about.get("format") if isinstance(about, dict) else about
            raise ValueError(f"{path} has format {found!r}, expected {FORMAT}: {anew}")
        if about.get("digest") != digests.digest(about.get("descriptor")):
            raise ValueError(f"{path} is damaged: it is not what was written; {anew}")
        self.descriptor = Descriptor(**about["descriptor"])
        self.features = {OWN: Features(folder, growth=growth, settled=settled)}
        if self.descriptor.name == GREY:
            given = folder / POINTS.name, POINTS.name, POINTS.options
            self.features[POINTS.name] = Features(*given, settled=CORNERS, nprobe=NPROBE)

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a folder is a library."""
        return (folder / "library.json").is_file()

    @classmethod
    def create(cls, folder: Path, descriptor: Descriptor, **options: int) -> VideoLibrary:
        """Make an empty library; ``options`` are those of the class. What a killed call left is no hindrance."""
        if folder.exists() and (not folder.is_dir() or any(not _is_rest(p) for p in folder.iterdir())):
            raise ValueError(f"{folder} exists and is no library: expected a new or an empty folder")
        about = asdict(descriptor)
        whole = {"format": FORMAT, "descriptor": about, "digest": digests.digest(about)}
        files.write_json(folder / "library.json", whole)
        return cls(folder, **options)

    @property
    def _watched(self) -> str | None:
        """The folder that it follows, of an index (:mod:`videomatch.app.indexes`)."""
        return indexes.about(self.folder)["folder"] if (self.folder / indexes.ABOUT).is_file() else None

    def _command(self, videos: str = "") -> str:
        """The command that mends what is damaged, and adds videos."""
        watched = self._watched
        return f"`videomatch index {watched}`" if watched else f"`videomatch library add {self.folder}{videos}`"

    @contextmanager
    def mended(self, path: Path | None = None) -> Iterator[None]:
        """What is damaged (``path``, or the error names it) is named in a ValueError that says what mends it."""
        try:
            yield
        except (ValueError, OSError, RuntimeError, sqlite3.DatabaseError) as error:
            what = f"{path} is damaged ({error})" if path else error
            raise ValueError(f"{what}: {self._command()} mends it") from error

    def open_index(self) -> FrameIndex:
        """The index of all frames."""
        ids = set(self.videos()["video_id"])
        if not ids:
            raise ValueError(f"{self.folder} holds no video yet: {self._command(' VIDEOS')}")
        with self.mended():
            index = self.features[OWN].index()
        if index is None:
            raise ValueError(f"{self.folder}: {count(len(ids), 'video')}, and no index: {self._command()} makes it")
        if absent := len(ids - set(index.ids)):
            message = f"{self.folder}: {absent} of {count(len(ids), 'video')} without frames in the index"
            if not self._is_locked():
                raise ValueError(f"{message}: {self._command()} mends it")
            log.warning("%s: another process is adding them", message)
        return index

    def open_points(self) -> FrameIndex | None:
        """The index of the corners of the same files; None where there is none (yet)."""
        with self.mended():
            return self.features[POINTS.name].index() if POINTS.name in self.features else None

    def videos(self) -> pl.DataFrame:
        """``video_id``, ``path``, ``duration`` (s) and ``sha256`` of all videos."""
        with self.mended():
            found = list(self._batches().values())
        return pl.concat(found) if found else pl.DataFrame(schema=COLUMNS)

    def rejected(self) -> pl.DataFrame:
        """``path`` and ``reason`` of files that could not be read."""
        folder = self.folder / "rejected"
        if not folder.is_dir():
            return tables.frame("rejected").select("path", "reason")
        ann.checked(folder)
        return tables.read("rejected", folder).select("path", "reason")

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

    def check(self) -> tuple[list[str], list[str]]:
        """What is damaged in the library, which :meth:`add` mends; and which files of its videos are not what they
        were, which does no harm to a search."""
        damage = [problem for _, problem in damaged(self._folders())]
        try:
            videos = self.videos()
            if len(videos):
                self.open_index()
                self.open_points()
        except ValueError as error:
            return damage if any(d in str(error) for d in damage) else [*damage, str(error)], []
        rows = videos.sort("video_id").iter_rows(named=True)
        return damage, [f"{row['video_id']}: {why}" for row in rows if (why := _absence(row))]

    def add(self, paths: Sequence[Path] = (), threads: int = 1) -> Added:
        """Mend what is damaged, describe files, or all videos below folders, and add them to the index. A file that
        cannot be read stops nothing, and is listed in the result."""
        self.descriptor.check()
        check_given(paths)
        added = Added()
        with self._locked():
            self._mend(added, threads)
            found = list(videos_given(paths, added, self.read_beside))
            new = self._new_files(found, added)
            batches = [list(new)[start : start + self.batch] for start in range(0, len(new), self.batch)]
            try:
                for batch in track(batches, label="batches of videos"):
                    self._add_batch({video_id: new[video_id] for video_id in batch}, threads, added)
                self._describe_again([name for name in self.features if name != OWN], threads, added)
            finally:  # after Ctrl-C, too: what is described can be searched
                self._update_indexes()
            self._write_rejected(added, [path for path, _ in found])
        return added

    def remove(self, ids: Collection[str]) -> int:
        """Remove videos; returns how many. A ValueError if one is not in the library, or something is damaged: none is
        removed then."""
        with self._locked():
            known = self.videos()["video_id"].to_list()
            for video_id in ids:
                if video_id not in known:
                    raise ValueError(unknown(f"video of {self.folder}", video_id, known))
            with self.mended():
                for folder in self._folders():
                    ann.checked(folder)
                for features in self.features.values():
                    features.index()
                    features.drop_damaged()  # none is; some may be by another model
            for name, rows in self._batches().items():
                self._write_batch(name, rows.filter(~pl.col("video_id").is_in(list(ids))), rows)
            self._forget()
            self._update_indexes()
        return len(set(ids))

    def _tables(self) -> list[Path]:
        """The folders that say which files the library holds, and which it rejected."""
        return [*sorted(self.folder.glob("batches/[!.]*")), *self.folder.glob("rejected")]

    def _folders(self) -> list[Path]:
        """All folders but the index's."""
        return [*self._tables(), *(batch for features in self.features.values() for batch in features.batches())]

    def _batches(self) -> dict[str, pl.DataFrame]:
        """Name of a batch -> its videos."""
        found = {}
        for folder in sorted(self.folder.glob("batches/[!.]*")):
            ann.checked(folder)
            found[folder.name] = pl.read_parquet(folder / "videos.parquet")
        return found

    def _write_batch(self, name: str, rows: pl.DataFrame, before: pl.DataFrame | None = None) -> None:
        """Write the videos of a batch, if they are others than ``before``; without any, the batch goes away."""
        place = self.folder / "batches" / name
        if before is not None and rows.equals(before):
            return
        if not len(rows):
            discard(place)
            return
        with ann.written(place, {"videos": len(rows)}) as new:
            rows.write_parquet(new / "videos.parquet")

    def _mend(self, added: Added, threads: int) -> None:
        """Remove what is damaged, and make again what is missing; of batches, features and index the first counts."""
        for folder, problem in damaged(self._tables()):
            lost = "; which files it held is lost: add them again" if folder.parent.name == "batches" else ""
            added.notes.append(f"removed: {problem}{lost}")
            discard(folder)
        for features in self.features.values():
            added.notes += [f"removed: {problem}" for problem in features.drop_damaged()]
        self._describe_again([OWN], threads, added)
        self._forget()

    def _forget(self) -> None:
        batches = self._batches()
        for features in self.features.values():
            features.forget(batches)

    def _update_indexes(self) -> None:
        for features in self.features.values():
            features.update()

    def _describe_again(self, names: Sequence[str], threads: int, added: Added) -> None:
        """Describe the batches again of which features of some names are missing. A video whose frames are neither on
        the disk nor in the index, and whose file is no more, is removed."""
        batches = self._batches()
        missing = {name: self.features[name].missing(batches) for name in names}
        again = sorted(set[str]().union(*missing.values()))
        index = self.features[OWN].index() if again else None
        for batch in track(again, label="batches again"):
            rows, needed = batches[batch], [name for name in names if batch in missing[name]]
            gone = {row["video_id"]: why for row in rows.iter_rows(named=True) if (why := _absence(row))}
            paths = rows.select("video_id", "path").iter_rows()
            path_of = {video_id: Path(path) for video_id, path in paths if video_id not in gone}
            with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
                stores, _, rejected = self._describe(path_of, Path(scratch), threads, needed)
                gone |= dict(rejected.select("video_id", "reason").iter_rows())
                found = [video_id for video_id in path_of if video_id not in gone]
                for features in [self.features[name] for name in needed] if found else ():
                    features.write(batch, found, stores[features.source], features.make)
            if OWN in needed:
                gone = {i: why for i, why in gone.items() if index is None or i not in index}
                added.notes += [f"described again: {count(len(found), 'video')}"] if found else []
                added.notes += [f"{video_id} is lost, add it again: {reason}" for video_id, reason in gone.items()]
                self._write_batch(batch, rows.filter(~pl.col("video_id").is_in(list(gone))), rows)

    def _new_files(self, found: Sequence[tuple[Path, Path]], added: Added) -> dict[str, Path]:
        """Id -> file of what the library does not hold. Paths of videos are renewed: of files that were moved, and of
        those whose file has other content now."""
        videos = self.videos()
        contents, ids = set(videos["sha256"]), set(videos["video_id"])
        path_of: dict[str, str | None] = dict(videos.select("sha256", "path").iter_rows())
        digest_at: dict[str | None, str] = {}
        for path, _ in track(found, label="digests"):
            try:
                digest_at[str(path)] = digests.file_digest(path)
            except OSError as error:
                added.reject(path, error.strerror or str(error))
        replaced = {digest: path for digest, path in path_of.items() if digest_at.get(path, digest) != digest}
        path_of |= dict.fromkeys(replaced)
        new: dict[str, Path] = {}
        for path, below in found:
            if (digest := digest_at.get(str(path))) is None:
                continue
            video_id = new_id(path, below, ids)
            if digest in contents:
                added.known += 1
                if _absence({"path": path_of.get(digest, str(path)), "sha256": digest}):
                    path_of[digest] = str(path)
            elif (reason := id_problem(video_id)) is not None:
                added.reject(path, reason)
            else:
                ids.add(video_id)
                new[video_id] = path
            contents.add(digest)
        kept = "" if self._watched else ", which the library keeps"
        for path in (path for digest, path in replaced.items() if path_of[digest] is None):
            added.notes.append(f"{path} has other content than when it was added{kept}")
        for name, rows in self._batches().items():
            paths = pl.Series("path", [path_of[digest] for digest in rows["sha256"]], pl.String)
            self._write_batch(name, rows.with_columns(paths), rows)
        return new

    def _add_batch(self, new_files: dict[str, Path], threads: int, added: Added) -> None:
        """Describe some files; their names and features appear together."""
        with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
            stores, videos, rejected = self._describe(new_files, Path(scratch), threads, [*self.features])
            for row in rejected.iter_rows(named=True):
                added.reject(row["path"], row["reason"])
            rows = videos.select(*COLUMNS)
            empty = [i for i in rows["video_id"] if not stores or not stores[""].rows([i])[0]]
            for video_id in empty:
                added.reject(new_files[video_id], "holds no frame that can be described")
            rows = rows.filter(~pl.col("video_id").is_in(empty))
            if not len(rows):
                return
            name, ids = digests.digest(sorted(rows["sha256"]))[:16], rows["video_id"].to_list()
            written = {n: f.write(name, ids, stores[f.source], f.make) for n, f in self.features.items()}
            self._write_batch(name, rows)  # last: features without a batch are removed
        added.frames += written[OWN]
        added.videos += ids

    def _describe(
        self, files: Mapping[str, Path], scratch: Path, threads: int, names: Sequence[str]
    ) -> tuple[dict[str, Store], pl.DataFrame, pl.DataFrame]:
        """The rows of the experts of some features, by their ``source``, and the tables ``videos`` and ``rejected``; no
        rows without a video."""
        beside = {f.source: f for name in names if (f := self.features[name]).source}
        experts = {source: features.expert for source, features in beside.items()}
        backbones = {k: v for features in beside.values() for k, v in features.backbones.items()}
        own, videos, rejected = self.descriptor.describe(files, scratch, threads, experts, backbones)
        if own is None:
            return {}, videos, rejected
        return {"": own, **{s: Store(self.descriptor.passed(scratch) / s) for s in beside}}, videos, rejected

    def _write_rejected(self, added: Added, found: Iterable[Path]) -> None:
        """Note the files rejected now. Earlier reasons of files that were read again are dropped."""
        again = [printable(str(path)) for path in found]
        before = self.rejected().filter(~pl.col("path").is_in(again)).to_dicts()
        rows = {row["path"]: {"video_id": "", **row} for row in [*before, *added.rejected]}
        with ann.written(self.folder / "rejected", {}) as new:
            tables.write("rejected", pl.DataFrame(list(rows.values()), schema=tables.SCHEMAS["rejected"]), new)

    def _is_locked(self) -> bool:
        """Whether a process is adding now."""
        try:
            lock = files.lock(self.folder / ".lock")
        except OSError:  # a folder that cannot be written
            return False
        if lock is not None:
            lock.close()
        return lock is None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process adds at a time; what killed ones left unfinished is removed."""
        lock = files.lock(self.folder / ".lock")
        if lock is None:
            raise ValueError(f"another process is adding to {self.folder}: wait for it")
        with lock:
            files.sweep(self.folder / "batches", locked=True)
            for features in self.features.values():
                features.sweep()
            yield


def _is_rest(path: Path) -> bool:
    """Whether a file is the lock, or what a killed process left (:mod:`videomatch.common.files`)."""
    return path.name == ".lock" or bool(re.fullmatch(r"\.(library\.json|\.lock\.\d+)\.new\.\d+(-[\w-]+)?", path.name))


def _absence(row: Mapping[str, Any]) -> str | None:
    """Why the file of a video is not what it was; None where it is."""
    if (path := row["path"]) is None:
        return "its file has other content now"
    try:
        if not Path(path).is_file():
            return f"{path} does not exist"
        return None if digests.file_digest(Path(path)) == row["sha256"] else f"{path} has other content now"
    except OSError as error:
        return f"{path}: {error.strerror}"
