"""An index of a folder of videos: a library of its frames that follows the folder, and what else is known of each file.

Beside what a library holds (:mod:`videomatch.app.video_library`)::

    index.json       the folder and the model that looks at frames; written last
    seen/<digest>/   of some files, by the sha256 of their content: ``eyes`` (rows of the model's expert) and ``frames``
                     (these in the space of questions)
    lines.sqlite     titles, file names, descriptions and subtitles, as words to search

All that costs time is known by the content of a file and made in one pass over it, in batches that appear whole. So a
killed call goes on where it was, and a moved, renamed or copied file costs nothing. It uses the stages' functions and
not the workflow: a result of the workflow is a shard of many videos, which one new file makes again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.app import descriptors, indexes
from videomatch.app._eyes import BLIND, Eyes
from videomatch.app.video_library import Added, VideoLibrary
from videomatch.common import digests, files
from videomatch.corpora import folder as folders
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.retrieval import lines
from videomatch.stages.extract import extract

EYES, FRAMES = "eyes", "frames"
#: files of a batch: what a kill loses at most
BATCH = 16


@dataclass
class Refreshed(Added):
    """What :meth:`FolderIndex.refresh` did; ``removed`` are videos whose file is gone or has other content."""

    removed: list[str] = field(default_factory=list)


class FolderIndex(VideoLibrary):
    """The index at a place (:mod:`videomatch.app.indexes`)."""

    def __init__(self, place: Path) -> None:
        super().__init__(place, batch=BATCH)
        self.about: dict[str, Any] = indexes.about(place)
        self.watched, self.eyes = Path(self.about["folder"]), Eyes(self.about["model"])

    @classmethod
    def open(cls, place: Path, watched: Path, model: str) -> FolderIndex:
        """The index of a folder by a model, made where it is missing."""
        if not cls.exists(place):
            VideoLibrary.create(place, descriptors.choose(lambda: _no_plan()))
        indexes.write(place, {"folder": os.path.abspath(watched), "model": model})  # noqa: PTH100
        return cls(place)

    @property
    def sees(self) -> bool:
        """Whether a model looks at the frames."""
        return self.about["model"] != BLIND

    def refresh(self, threads: int) -> Refreshed:
        """Bring the index up to date with its folder; files that did not change are not read again."""
        done = Refreshed()
        with ExitStack() as stack:
            lock = files.lock(self.folder / ".refresh")
            if lock is None:
                raise ValueError(f"another process is refreshing index {self.folder.name!r}: wait for it")
            stack.enter_context(lock)
            files.sweep(self.folder / "seen", locked=True)
            if not self.watched.is_dir():
                raise ValueError(f"{self.watched} does not exist: is its disk mounted? The index is as it was")
            added = self.add([self.watched], threads)
            known = self.videos()
            paths = known.filter(pl.col("path").is_not_null())["path"]
            gone = known.filter(pl.col("path").is_null())["video_id"].to_list()
            lost = {path for path in paths if not Path(path).exists()}
            if len(lost) == len(known) and len(known):
                raise ValueError(
                    f"{self.watched} holds none of its videos: is its disk mounted? The index is as it was"
                )
            gone += known.filter(pl.col("path").is_in(list(lost)))["video_id"].to_list()
            if gone:
                self.remove(gone)
            for name in ("videos", "known", "frames", "rejected", "notes"):
                setattr(done, name, getattr(added, name))
            done.removed = gone
            if self.sees:
                self._complete_seen(threads)
            done.notes += self._write_lines()
            indexes.write(self.folder, self.about)
        return done

    def seen(self) -> list[Path]:
        """The folders of what the model saw."""
        return sorted(p for p in self.folder.glob("seen/[!.]*") if (p / EYES / "store.json").is_file())

    def _describe(
        self, files: Mapping[str, Path], scratch: Path, threads: int
    ) -> tuple[Store | None, pl.DataFrame, pl.DataFrame]:
        beside = {**self.beside, EYES: self.eyes.expert} if self.sees else self.beside
        backbones = self.eyes.backbones if self.sees else {}
        found = self.descriptor.describe(files, scratch, threads, beside, backbones)
        if found[0] is not None and self.sees:
            self._write_seen(Store(self.descriptor.passed(scratch) / EYES), found[1])
        return found

    def _write_seen(self, store: Store, videos: pl.DataFrame) -> None:
        """Keep the rows of some videos, by content."""
        content = dict(
            videos.filter(pl.col("video_id").is_in(list(store.ids))).select("sha256", "video_id").iter_rows()
        )
        if not content:
            return
        name = digests.digest([self.eyes.name, *sorted(content)])[:16]
        with files.replacing(self.folder / "seen" / name) as new, ExitStack() as stack:
            about = {"times": True, "made_by": {"model": self.eyes.name}}
            writers: dict[str, StoreWriter] = {}
            for sha256, video_id in content.items():
                rows, times = store[video_id], store.times(video_id)
                for part, values in ((EYES, rows), (FRAMES, self.eyes.frames(rows))):
                    if part not in writers:
                        shape = values.shape[1:]
                        writers[part] = stack.enter_context(
                            StoreWriter(new / part, shape=shape, dtype="float16", **about)
                        )
                    writers[part].add(sha256, values, times=times)

    def _complete_seen(self, threads: int) -> None:
        """Forget what another model saw, and of contents that are no more; look at files that were never seen."""
        known = self.videos()
        missing = set(known["sha256"])
        for folder in self.seen():
            store = Store(folder / EYES)
            model = store.made_by[0].get("model")
            if model != self.eyes.name or not set(store.ids) & set(known["sha256"]):
                files.remove(folder)
            else:
                missing -= set(store.ids)
        rows = known.filter(pl.col("sha256").is_in(list(missing)))
        for part in rows.iter_slices(BATCH):
            with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
                corpus, output = Path(scratch) / "corpus", Path(scratch) / "features"
                videos = tables.videos(part.select("video_id", "path").iter_rows(named=True))
                corpora.write_videos(videos, corpus, 1)
                experts = {EYES: self.eyes.expert}
                given = {"corpus": corpus, "output": output, "threads": threads, "backbones": self.eyes.backbones}
                extract(shard=0, experts=experts, **given)
                self._write_seen(Store(output / EYES), part)

    def _write_lines(self) -> list[str]:
        """Write the words of titles, names and subtitles; returns what could not be read."""
        found = folders.read(raw=self.watched, title_from_name=False)
        id_at = dict(self.videos().select("path", "video_id").iter_rows())
        paths = dict(found["videos"].select("video_id", "path").iter_rows())
        ids = {of_folder: id_at[path] for of_folder, path in paths.items() if path in id_at}
        rows: list[lines.Line] = []
        for video_id in ids:
            rows.append(lines.Line(ids[video_id], lines.TITLES, os.path.splitext(video_id)[0].replace("/", " · ")))  # noqa: PTH122
        for row in found["texts"].iter_rows(named=True):
            if row["video_id"] in ids:
                channel = lines.SPEECH if row["kind"] == "asr" else lines.TITLES
                rows.append(lines.Line(ids[row["video_id"]], channel, row["text"], row["start"], row["end"]))
        for row in found["videos"].filter(pl.col("tags").is_not_null()).iter_rows(named=True):
            if row["video_id"] in ids:
                rows.append(lines.Line(ids[row["video_id"]], lines.TITLES, " ".join(row["tags"])))
        lines.write(self.folder / "lines.sqlite", rows)
        texts = found["rejected"].filter(~pl.col("path").is_in(self.rejected()["path"].implode()))
        return [f"{row['path']}: {row['reason']}" for row in texts.iter_rows(named=True)]


def _no_plan() -> Any:
    raise AssertionError("the descriptor of an index needs no parameters")
