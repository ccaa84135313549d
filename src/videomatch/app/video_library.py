"""A library of the user's own videos: frames of files, described in one way, to be searched for copies.

On the disk::

    library.json        the descriptor of frames (:mod:`videomatch.app.descriptors`)
    batches/<name>/     which files are in a batch: id, path (null: the file there has changed), duration, digest
    features/<name>/    the frames of a batch, as long as the index may be made again
    index/              the inverted file over the frames of all batches
    rejected/           files that could not be read, and why
    points/             of a library by grey pixels: another library of the same files, by their corners

Files are added in batches; each is described once and appears whole, so a killed process loses the batch at work. A
file is known by its content: moved or renamed it is not described again, and its new path is kept.

Every folder holds the digests of its files. What is damaged or missing is mended by the next :meth:`VideoLibrary.add`:
the index is made again from features, features from the files.

The index is made again from the features whenever there are ``growth`` times as many frames as it has learned from.
Once it has learned from ``settled`` frames it only grows, and the features are deleted.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.app._given import Added, check_given, new_id, videos_given
from videomatch.app.descriptors import GREY, POINTS, Descriptor
from videomatch.common import digests, files
from videomatch.common.messages import count, unknown
from videomatch.common.progress import track
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.data.walk import printable
from videomatch.retrieval import ann
from videomatch.retrieval.frame_index import FrameIndex
from videomatch.stages.prepare import id_problem

log = logging.getLogger(__name__)

FORMAT = 3
#: dimensions of the index
DIM = 256
#: of the library of corners, which are many: ``settled``, and lists of the index that a corner is compared with
CORNERS: dict[str, int] = {"settled": 1 << 20, "nprobe": 4}
COLUMNS = {"video_id": pl.String, "path": pl.String, "duration": pl.Float64, "sha256": pl.String}


class VideoLibrary:
    """A library of own videos. Files are added in batches of ``batch``; ``growth`` and ``settled`` are above; so many
    lists of the index (``nprobe``) are searched."""

    def __init__(
        self, folder: Path, *, batch: int = 32, growth: int = 4, settled: int = 1 << 17, nprobe: int | None = None
    ) -> None:
        self.folder, self.batch, self.growth, self.settled, self.nprobe = folder, batch, growth, settled, nprobe
        if not self.exists(folder):
            raise ValueError(f"{folder} is no library: make one with `videomatch library add {folder} VIDEOS`")
        path = folder / "library.json"
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is damaged ({error}): make a new library") from error
        if (found := about.get("format") if isinstance(about, dict) else about) != FORMAT:
            raise ValueError(f"{path} has format {found!r}, expected {FORMAT}: make a new library")
        if about.get("digest") != digests.digest(about.get("descriptor")):
            raise ValueError(f"{path} is damaged: it is not what was written; make a new library")
        self.descriptor, self._index = Descriptor(**about["descriptor"]), folder / "index"

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
        files.write_json(
            folder / "library.json", {"format": FORMAT, "descriptor": about, "digest": digests.digest(about)}
        )
        return cls(folder, **options)

    def open_index(self) -> FrameIndex:
        """The index of all frames."""
        ids = set(self.videos()["video_id"])
        advice = f"`videomatch library add {self.folder}`"
        if not ids:
            raise ValueError(f"{self.folder} holds no video yet: {advice[:-1]} VIDEOS`")
        try:
            index = FrameIndex(self._index, nprobe=self.nprobe)
        except FileNotFoundError as error:
            raise ValueError(f"{self.folder}: {count(len(ids), 'video')}, and no index: {advice} makes it") from error
        except (ValueError, OSError, RuntimeError) as error:
            raise ValueError(f"{error}: {advice} mends it") from error
        if absent := len(ids - set(index.ids)):
            message = f"{self.folder}: {absent} of {count(len(ids), 'video')} without frames in the index"
            if not self._is_locked():
                raise ValueError(f"{message}: {advice} mends it")
            log.warning("%s: another process is adding them", message)
        return index

    @property
    def points(self) -> VideoLibrary | None:
        """The library of the same files by their corners; None where there is none (yet)."""
        folder = self.folder / POINTS.name
        return VideoLibrary(folder, **CORNERS) if self.exists(folder) else None

    @property
    def beside(self) -> dict[str, dict[str, Any]]:
        """The experts that read files beside the descriptor."""
        return {POINTS.name: POINTS.options} if self.points is not None else {}

    def videos(self) -> pl.DataFrame:
        """``video_id``, ``path``, ``duration`` (s) and ``sha256`` of all videos."""
        try:
            found = list(self._batches().values())
        except (ValueError, OSError) as error:
            raise ValueError(f"{error}: `videomatch library add {self.folder}` mends it") from error
        return pl.concat(found) if found else pl.DataFrame(schema=COLUMNS)

    def features(self) -> list[Path]:
        """The stores of all batches whose frames are kept beside the index."""
        return sorted(self.folder.glob("features/[!.]*"))

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
        damage: list[str] = []
        for folder in (*self._names("batches"), *self.features(), *self.folder.glob("rejected")):
            try:
                ann.checked(folder)
            except (ValueError, OSError) as error:
                damage.append(str(error))
        try:
            if len(videos := self.videos()):
                self.open_index()
        except ValueError as error:
            return damage if any(d in str(error) for d in damage) else [*damage, str(error)], []
        try:
            damage += points.check()[0] if (points := self.points) is not None else []
        except ValueError as error:
            damage.append(str(error))
        absent = []
        for row in videos.sort("video_id").iter_rows(named=True):
            path = row["path"]
            if path is None or not Path(path).is_file():
                absent.append(f"{row['video_id']}: {_where(path)}")
            elif digests.file_digest(Path(path)) != row["sha256"]:
                absent.append(f"{row['video_id']}: {path} has other content now")
        return damage, absent

    def add(self, paths: Sequence[Path] = (), threads: int = 1) -> Added:
        """Mend what is damaged, describe files, or all videos below folders, and add them to the index. A file that
        cannot be read stops nothing, and is listed in the result."""
        self.descriptor.check()
        check_given(paths)
        added = Added()
        with self._locked():
            self._mend(added, threads)
            self._mend_points(added, threads)
            found = list(videos_given(paths, added))
            new = self._new_files(found, added)
            batches = [list(new)[start : start + self.batch] for start in range(0, len(new), self.batch)]
            try:
                for batch in track(batches, label="batches of videos"):
                    self._add_batch({video_id: new[video_id] for video_id in batch}, threads, added)
            finally:  # after Ctrl-C, too: what is described can be searched
                self._update_index()
            self._update_points(threads)
            self._write_rejected(added, [path for path, _ in found])
        return added

    def remove(self, ids: Collection[str]) -> int:
        """Remove videos; returns how many. A ValueError if one is not in the library: none is removed then."""
        added = Added()
        with self._locked():
            self._mend(added, 1)
            known = self.videos()["video_id"].to_list()
            for video_id in ids:
                if video_id not in known:
                    raise ValueError(unknown(f"video of {self.folder}", video_id, known))
            self._forget(ids)
            self._mend_points(added, 1)
        return len(set(ids))

    def _forget(self, ids: Collection[str]) -> None:
        """Remove videos from the batches, the features and the index."""
        for name, rows in self._batches().items():
            self._write_batch(name, rows.filter(~pl.col("video_id").is_in(list(ids))), rows)
        self._mend(Added(), 1)
        self._update_index()

    def _mend_points(self, added: Added, threads: int) -> None:
        """Mend the library of corners, made if need be, and remove from it what this one does not hold."""
        try:
            absent = self.points is None
        except ValueError as error:
            added.notes.append(f"removed: {error}")
            _remove(self.folder / POINTS.name)
            absent = True
        if absent and self.descriptor.name == GREY:
            VideoLibrary.create(self.folder / POINTS.name, POINTS)
        if (points := self.points) is not None:
            known = self.videos()["video_id"]
            with points._locked():
                points._mend(added, threads)
                if stale := set(points.videos()["video_id"]) - set(known):
                    points._forget(stale)

    def _update_points(self, threads: int) -> None:
        """Add to the library of corners what it lacks, as far as the files are there."""
        if (points := self.points) is not None:
            with points._locked():
                known = points.videos()["video_id"].implode()
                missing = self.videos().filter(~pl.col("video_id").is_in(known) & pl.col("path").is_not_null())
                there = [i for i, path in missing.select("video_id", "path").iter_rows() if Path(path).is_file()]
                path_of = dict(missing.select("video_id", "path").iter_rows())
                for start in range(0, len(there), self.batch):
                    batch = {i: Path(path_of[i]) for i in there[start : start + self.batch]}
                    points._add_batch(batch, threads, Added())
                points._update_index()

    def _names(self, kind: str) -> list[Path]:
        return sorted(self.folder.glob(f"{kind}/[!.]*"))

    def _batches(self) -> dict[str, pl.DataFrame]:
        """Name of a batch -> its videos."""
        found = {}
        for folder in self._names("batches"):
            ann.checked(folder)
            found[folder.name] = pl.read_parquet(folder / "videos.parquet")
        return found

    def _write_batch(self, name: str, rows: pl.DataFrame, before: pl.DataFrame | None = None) -> None:
        """Write the videos of a batch, if they are others than ``before``; without any, the batch goes away."""
        place = self.folder / "batches" / name
        if before is not None and rows.equals(before):
            return
        if not len(rows):
            _remove(place)
            return
        with ann.written(place, {"videos": len(rows)}) as new:
            rows.write_parquet(new / "videos.parquet")

    def _write_features(self, name: str, ids: Sequence[str], store: Store) -> int:
        """Write the frames of a batch; returns how many there are."""
        frames = 0
        with (
            ann.written(self.folder / "features" / name, {"videos": len(ids)}) as new,
            StoreWriter(new, shape=store.shape, dtype="float16", times=True) as writer,
        ):
            for video_id in ids:
                rows = store[video_id]
                writer.add(video_id, rows, times=store.times(video_id))
                frames += len(rows)
        return frames

    def _mend(self, added: Added, threads: int) -> None:
        """Remove what is damaged, and make again what is missing; of batches, features and index the first counts."""
        for folder in (*self._names("batches"), *self.features(), *self.folder.glob("rejected")):
            try:
                ann.checked(folder)
            except (ValueError, OSError) as error:
                lost = "; which files it held is lost: add them again" if folder.parent.name == "batches" else ""
                added.notes.append(f"removed: {error}{lost}")
                _remove(folder)
        if self._index.exists():
            added.notes += [f"removed: {problem}" for problem in FrameIndex.drop_damaged(self._index)]
        batches = self._batches()
        index = FrameIndex(self._index) if self._index.exists() else None
        indexed = set(index.ids) if index is not None else set()
        settles = index is not None and index.learned >= self.settled
        known = set(pl.concat(batches.values())["video_id"]) if batches else set()
        for root in self.features():
            if root.name not in batches:
                _remove(root)
            elif not known.issuperset((store := Store(root)).ids):
                kept = [i for i in store.ids if i in known]
                self._write_features(root.name, kept, store) if kept else _remove(root)
        for name, rows in batches.items():
            root = self.folder / "features" / name
            stored = set(Store(root).ids) if root.exists() else set()
            lost = [
                row for row in rows.iter_rows(named=True)
                if row["video_id"] not in stored and not (settles and row["video_id"] in indexed)
            ]  # fmt: skip
            if lost:
                self._describe_again(name, rows, lost, indexed, threads, added)
        if indexed:
            known = set(self.videos()["video_id"])
            if stale := indexed - known:
                FrameIndex.remove(self._index, stale)

    def _describe_again(
        self, name: str, rows: pl.DataFrame, lost: list[dict[str, Any]], indexed: set[str], threads: int, added: Added
    ) -> None:
        """Describe the files of ``lost`` videos of a batch again; those whose file is no more, and that are not in the
        index, are removed from it."""
        there, gone = {}, {}
        for row in lost:
            path = Path(row["path"] or "")
            try:
                same = path.is_file() and digests.file_digest(path) == row["sha256"]
            except OSError:
                same = False
            if same:
                there[row["video_id"]] = path
            elif row["video_id"] not in indexed:
                gone[row["video_id"]] = _where(row["path"])
        root = self.folder / "features" / name
        with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
            store, _, rejected = self._describe(there, Path(scratch), threads) if there else (None, None, None)
            if rejected is not None:
                gone |= {row["video_id"]: row["reason"] for row in rejected.iter_rows(named=True)}
            described = [i for i in there if i not in gone]
            if store is not None and described:
                stores = [root] if root.exists() else []
                both = Store(*stores, *store.roots)
                self._write_features(name, [i for i in both.ids if i not in gone], both)
                added.notes.append(f"described again: {count(len(described), 'video')}")
        added.notes += [f"{video_id} is lost, add it again: {reason}" for video_id, reason in gone.items()]
        self._write_batch(name, rows.filter(~pl.col("video_id").is_in(list(gone))), rows)

    def _new_files(self, found: Sequence[tuple[Path, Path]], added: Added) -> dict[str, Path]:
        """Id -> file of what the library does not hold. Paths of videos are renewed: of files that were moved, and of
        those whose file has other content now."""
        videos = self.videos()
        contents, ids = set(videos["sha256"]), set(videos["video_id"])
        path_of = dict(videos.select("sha256", "path").iter_rows())
        at = {path: digest for digest, path in path_of.items() if path is not None}
        new: dict[str, Path] = {}
        for path, below in track(found, label="digests"):
            try:
                digest = digests.file_digest(path)
            except OSError as error:
                added.reject(path, error.strerror or str(error))
                continue
            if at.get(str(path), digest) != digest:
                path_of[at[str(path)]] = None
                added.notes.append(f"{path} has other content than when it was added, which the library keeps")
            video_id = new_id(path, below, ids)
            if digest in contents:
                added.known += 1
                before = path_of.get(digest, str(path))
                if before is None or not Path(before).exists():
                    path_of[digest] = str(path)
            elif (reason := id_problem(video_id)) is not None:
                added.reject(path, reason)
            else:
                ids.add(video_id)
                new[video_id] = path
            contents.add(digest)
        for name, rows in self._batches().items():
            paths = pl.Series("path", [path_of[digest] for digest in rows["sha256"]], pl.String)
            self._write_batch(name, rows.with_columns(paths), rows)
        return new

    def _add_batch(self, new_files: dict[str, Path], threads: int, added: Added) -> None:
        """Describe some files; their names and features appear together."""
        with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
            store, videos, rejected = self._describe(new_files, Path(scratch), threads)
            for row in rejected.iter_rows(named=True):
                added.reject(row["path"], row["reason"])
            empty = [i for i in videos["video_id"] if store is None or i not in store or not len(store[i])]
            for video_id in empty:
                added.reject(new_files[video_id], "holds no frame that can be described")
            rows = videos.select(*COLUMNS).filter(~pl.col("video_id").is_in(empty))
            if store is None or not len(rows):
                return
            name = digests.digest(sorted(rows["sha256"]))[:16]
            if (points := self.points) is not None:  # first: corners of what this library lacks are removed
                with points._locked():
                    found = Store(self.descriptor.passed(Path(scratch)) / POINTS.name)
                    points._write_features(name, rows["video_id"].to_list(), found)
                    points._write_batch(name, rows)
            added.frames += self._write_features(name, rows["video_id"].to_list(), store)
            self._write_batch(name, rows)  # last: features without a batch are removed
        added.videos += rows["video_id"].to_list()

    def _describe(
        self, files: Mapping[str, Path], scratch: Path, threads: int
    ) -> tuple[Store | None, pl.DataFrame, pl.DataFrame]:
        """The frames of files, as :meth:`Descriptor.describe`."""
        return self.descriptor.describe(files, scratch, threads, self.beside)

    def _update_index(self) -> None:
        """Add all features that the index lacks, or make it again; delete what a settled one needs no more."""
        features = self.features()
        known = set(self.videos()["video_id"])
        store = Store(*features) if features else None
        frames = int(store.lengths.sum()) if store is not None else 0
        index = FrameIndex(self._index) if self._index.exists() else None
        learned, indexed = (index.learned, set(index.ids)) if index is not None else (0, set())
        missing = [root for root in features if not indexed.issuperset(Store(root).ids)]
        is_whole = store is not None and known.issubset(store.ids)
        if not known:
            if index is not None:
                _remove(self._index)
        elif missing:
            if index is None or (learned < self.settled and frames >= self.growth * learned and is_whole):
                with files.replacing(self._index) as new:
                    FrameIndex.create(new, features, expected=self.growth * frames, dim=DIM)
                    FrameIndex.add(new, *features)
                learned = frames
            else:
                twice = {i for root in missing for i in Store(root).ids if i in indexed}
                if twice:
                    FrameIndex.remove(self._index, twice)
                FrameIndex.add(self._index, *missing)
        if learned >= self.settled:
            for root in features:
                _remove(root)

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
            kinds = ("", "batches", "features", "index", "index/parts")
            for folder in (self.folder / kind for kind in kinds):
                files.sweep(folder, locked=True)
            yield


def _is_rest(path: Path) -> bool:
    """Whether a file is the lock, or what a killed process left (:mod:`videomatch.common.files`)."""
    return path.name == ".lock" or bool(re.fullmatch(r"\.(library\.json|\.lock\.\d+)\.new\.\d+(-[\w-]+)?", path.name))


def _where(path: str | None) -> str:
    return "its file has other content now" if path is None else f"{path} does not exist"


def _remove(folder: Path) -> None:
    """Remove a folder at once: what a kill leaves of it has a hidden name."""
    folder.rename(hidden := files.unfinished(folder))
    files.remove(hidden)
