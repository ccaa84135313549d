"""An index of a folder of videos: a library of its frames that follows the folder, and what else is known of each file.

Beside what a library holds (:mod:`videomatch.app.video_library`)::

    index.json       the folder, the model that looks at frames and the one that hears speech; written last
    seen/<digest>/   of some files, by the sha256 of their content: ``eyes`` (rows of the model's expert) and ``frames``
                     (these in the space of questions)
    heard/<digest>/  of some files without subtitles, by the sha256 of their content: what is said in them
    lines.sqlite     titles, file names, descriptions, subtitles and speech, as words to search

All that costs time is known by the content of a file and made in one pass over it, in batches that appear whole. So a
killed call goes on where it was, and a moved, renamed or copied file costs nothing. It uses the stages' functions and
not the workflow: a result of the workflow is a shard of many videos, which one new file makes again.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import polars as pl

from videomatch.app import descriptors, indexes
from videomatch.app.video_library import Added, VideoLibrary
from videomatch.common import digests, files
from videomatch.common.progress import track
from videomatch.corpora import folder as folders
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.folders._eyes import BLIND, Eyes
from videomatch.retrieval import lines

EYES, FRAMES, HEARD = "eyes", "frames", "heard"
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
    def open(cls, place: Path, watched: Path, model: str, speech: str = BLIND) -> Self:
        """The index of a folder by a model, and a Whisper that hears ``speech``, made where it is missing."""
        if not cls.exists(place):
            VideoLibrary.create(place, descriptors.grey())
        about = {"folder": os.path.abspath(watched), "model": model, "speech": speech}  # noqa: PTH100
        files.write_json(place / indexes.ABOUT, about)
        return cls(place)

    @property
    def sees(self) -> bool:
        """Whether a model looks at the frames."""
        return self.about["model"] != BLIND

    def refresh(self, threads: int) -> Refreshed:
        """Bring the index up to date with its folder; files that did not change are not read again."""
        lock = files.lock(self.folder / ".refresh")
        if lock is None:
            raise ValueError(f"another process is refreshing index {self.folder.name!r}: wait for it")
        with lock:
            for kind in ("seen", HEARD):
                files.sweep(self.folder / kind, locked=True)
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
            if self.sees:
                self._complete_seen(threads)
            found = folders.read(raw=self.watched)
            self._complete_heard(threads, found)
            added.notes += self._write_lines(found)
            files.write_json(self.folder / indexes.ABOUT, self.about)
        return Refreshed(**vars(added), removed=gone)

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
        stores = {folder: Store(folder / EYES) for folder in self.seen()}
        made = ((folder, store.made_by[0].get("model"), store.ids) for folder, store in stores.items())
        for part in _batches(self._missing(made, self.eyes.name), "pictures"):
            with extracted(part, {EYES: self.eyes.expert}, self.eyes.backbones, threads) as output:
                self._write_seen(Store(output / EYES), part)

    def _complete_heard(self, threads: int, found: Mapping[str, pl.DataFrame]) -> None:
        """Forget what another model heard, and of contents that are no more; hear what is said in files without
        subtitles (``found`` by the folder's reader) that were never heard."""
        model, ids = self.about.get("speech", BLIND), self._ids(found["videos"])
        spoken = found["texts"].filter(pl.col("kind") == "asr")["video_id"]
        told = [ids[video_id] for video_id in spoken if video_id in ids]
        made = ((folder, about["model"], about["contents"]) for folder, about in self._heard())
        missing = self._missing(made, model).filter(~pl.col("video_id").is_in(told))
        for part in _batches(missing, "speech") if model != BLIND else ():
            contents = sorted(part["sha256"])
            experts, backbones = {HEARD: {"extractor": "speech", "backbone": HEARD}}, {HEARD: model}
            with extracted(part, experts, backbones, threads) as output:
                heard = tables.read("texts", output / HEARD)
            content = pl.col("video_id").replace_strict(part["video_id"], part["sha256"], return_dtype=pl.String)
            with files.replacing(self.folder / HEARD / digests.digest([model, *contents])[:16]) as new:
                new.mkdir()
                tables.write("texts", heard.with_columns(content), new)
                files.write_json(new / "about.json", {"model": model, "contents": contents})

    def _missing(self, made: Iterable[tuple[Path, Any, Iterable[str]]], model: str) -> pl.DataFrame:
        """The videos of whose contents a model has ``made`` nothing yet (folder, model, contents); what another one
        made, and of contents that are no more, is removed."""
        videos, done = self.videos(), set[str]()
        for folder, by, contents in made:
            if by != model or not set(contents) & set(videos["sha256"]):
                files.remove(folder)
            else:
                done |= set(contents)
        return videos.filter(~pl.col("sha256").is_in(list(done)))

    def _heard(self) -> list[tuple[Path, dict[str, Any]]]:
        """The folders of what was heard, each with its ``model`` and ``contents``."""
        found = sorted(self.folder.glob(f"{HEARD}/[!.]*/about.json"))
        return [(path.parent, files.parse_json(files.text_of(path), str(path))) for path in found]

    def _ids(self, found: pl.DataFrame) -> dict[str, str]:
        """Ids of the folder's own reader -> ids of the index, of the files that it has."""
        id_at = dict(self.videos().select("path", "video_id").iter_rows())
        paths = found.select("video_id", "path").iter_rows()
        return {video_id: id_at[path] for video_id, path in paths if path in id_at}

    def _write_lines(self, found: Mapping[str, pl.DataFrame]) -> list[str]:
        """Write the words of titles, names and subtitles (the tables of the folder's reader) and of speech; returns
        what could not be read."""
        ids = self._ids(found["videos"])
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
        spoken, of_content = {row.video for row in rows if row.channel == lines.SPEECH}, self._of_content()
        for folder, _ in self._heard():
            for row in tables.read("texts", folder).iter_rows(named=True):
                video_id = of_content.get(row["video_id"])
                if video_id is not None and video_id not in spoken:
                    rows.append(lines.Line(video_id, lines.SPEECH, row["text"], row["start"], row["end"]))
        lines.write(self.folder / "lines.sqlite", rows)
        texts = found["rejected"].filter(~pl.col("path").is_in(self.rejected()["path"].implode()))
        return [f"{row['path']}: {row['reason']}" for row in texts.iter_rows(named=True)]

    def _of_content(self) -> dict[str, str]:
        return dict(self.videos().select("sha256", "video_id").iter_rows())


@contextmanager
def extracted(
    rows: pl.DataFrame, experts: dict[str, dict[str, Any]], backbones: dict[str, str], threads: int
) -> Iterator[Path]:
    """The result of ``extract`` for videos (``video_id`` and ``path``), as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
        corpus, output = Path(scratch) / "corpus", Path(scratch) / "features"
        videos = tables.videos(rows.select("video_id", "path").iter_rows(named=True))
        corpora.write_videos(videos, corpus, 1)
        corpora.write_transcripts(tables.frame("texts"), videos, corpus, 1)
        descriptors.extract(
            corpus=corpus, shard=0, experts=experts, backbones=backbones, output=output, threads=threads
        )
        yield output


def _batches(rows: pl.DataFrame, label: str) -> Iterator[pl.DataFrame]:
    """Some videos at a time, with a bar where there are several batches."""
    return track(list(rows.iter_slices(BATCH)), label=f"batches of {label}")
