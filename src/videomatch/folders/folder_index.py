"""An index of a folder of videos: a library of its frames that follows the folder, and what else is known of each file.

Beside what a library holds (:mod:`videomatch.app.video_library`)::

    index.json       the folder, the models that look at frames and hear speech, and whether text is read; written last
    eyes/, frames/   features by the model that looks: the rows of its expert, and these in the space of questions
    heard/<digest>/  of some files without subtitles, by the sha256 of their content: what is said in them
    read/<digest>/   of some files: the text in their frames
    lines.sqlite     titles, file names, descriptions, subtitles, speech and text in frames, as words to search

All that costs time is known by the content of a file and made in one pass over it, in batches that appear whole. So a
killed call goes on where it was, and a moved, renamed or copied file costs nothing. It uses the stages' functions and
not the workflow: a result of the workflow is a shard of many videos, which one new file makes again.
"""

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import polars as pl

from videomatch.app import descriptors, indexes
from videomatch.app.video_library import Added, Features, VideoLibrary, damaged
from videomatch.common import digests, files
from videomatch.common.messages import text_of
from videomatch.common.progress import track
from videomatch.corpora import folder as folders
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.walk import videos_below
from videomatch.folders._eyes import BLIND, Eyes
from videomatch.retrieval import ann, lines

EYES, FRAMES, HEARD, READ = "eyes", "frames", "heard", "read"
#: how text in frames is read: a title is shown for two seconds, in letters of a twentieth of the height
READER: dict[str, Any] = {"extractor": "ocr", "every": 2.0, "size": 360}
#: files of a batch: what a kill loses at most
BATCH = 16


@dataclass
class Refreshed(Added):
    """What :meth:`FolderIndex.refresh` did; ``removed`` are videos whose file is gone or has other content."""

    removed: list[str] = field(default_factory=list)


class FolderIndex(VideoLibrary):
    """The index at a place (:mod:`videomatch.app.indexes`)."""

    read_beside = folders.TEXTS

    def __init__(self, place: Path) -> None:
        self.about: dict[str, Any] = indexes.about(place)
        self.watched, self.eyes = Path(self.about["folder"]), Eyes(self.about["model"])
        super().__init__(place, batch=BATCH)
        if self.sees:
            eyes = self.eyes
            looks = Features(place / EYES, EYES, eyes.expert, eyes.backbones, eyes.name, is_indexed=False)
            self.features |= {EYES: looks, FRAMES: replace(looks, folder=place / FRAMES, make=eyes.frames)}

    @classmethod
    def open(cls, place: Path, watched: Path, model: str, speech: str = BLIND, ocr: bool = False) -> Self:
        """The index of a folder by a model, a Whisper that hears ``speech``, and ``ocr`` if text in frames is read;
        made where it is missing, and again where it cannot be read."""
        if cls.exists(place):
            try:
                VideoLibrary(place)
            except ValueError:
                files.remove(place)
        if not cls.exists(place):
            _check_watched(watched)
            VideoLibrary.create(place, descriptors.grey())
        about = {"folder": os.path.abspath(watched), "model": model, "speech": speech, "ocr": ocr}  # noqa: PTH100
        files.write_json(place / indexes.ABOUT, about)
        return cls(place)

    @property
    def sees(self) -> bool:
        """Whether a model looks at the frames."""
        return self.about["model"] != BLIND

    def refresh(self, threads: int) -> Refreshed:
        """Bring the index up to date with its folder; files that did not change are not read again."""
        with self._changed():
            for name in (HEARD, READ):
                files.sweep(self.folder / name, locked=True)
            _check_watched(self.watched)
            found, problems = _read(self.watched)
            added = self.add([self.watched], threads)
            known = self.videos()
            lost = [path is None or not Path(path).exists() for path in known["path"]]
            if all(lost) and len(known) and not known["path"].null_count():
                raise ValueError(
                    f"{self.watched} holds none of its videos: is its disk mounted? The index is as it was"
                )
            if gone := known.filter(pl.Series(lost, dtype=pl.Boolean))["video_id"].to_list():
                super().remove(gone)
            for rest in ("seen",) if self.sees else ("seen", EYES, FRAMES):  # ``seen``: of an earlier version
                files.remove(self.folder / rest)
            self._complete_texts(threads, found)
            added.notes += [*problems, *self._write_lines(found)]
        return Refreshed(**vars(added), removed=gone)

    def remove(self, ids: Collection[str]) -> int:
        """Remove videos and their words, as :meth:`VideoLibrary.remove`. :meth:`refresh` adds those again whose file
        still is in the folder."""
        path = self.folder / "lines.sqlite"
        with self._changed():
            removed = super().remove(ids)
            with self.mended(path):
                lines.remove(path, ids)
        return removed

    @contextmanager
    def _changed(self) -> Iterator[None]:
        """Only one process changes the index; what was loaded of it before is out of date then."""
        lock = files.lock(self.folder / ".refresh")
        if lock is None:
            raise ValueError(f"another process is refreshing index {self.folder.name!r}: wait for it")
        with lock:
            yield
            files.write_json(self.folder / indexes.ABOUT, self.about)

    def _complete_texts(self, threads: int, found: Mapping[str, pl.DataFrame]) -> None:
        """Hear what is said in files without subtitles (``found`` by the folder's reader), and read what is written in
        frames."""
        ids, videos = self._ids(found["videos"]), self.videos()
        subtitled = found["texts"].filter(pl.col("kind") == "asr")["video_id"]
        spoken = videos.filter(pl.col("video_id").is_in([ids[i] for i in subtitled if i in ids]))["sha256"]
        whisper = self.about.get("speech", BLIND)
        hears = {"extractor": "speech", "backbone": HEARD}
        self._complete(HEARD, whisper, hears, {HEARD: whisper}, set(spoken), threads, "batches of speech")
        reader = digests.digest(READER) if self.about.get("ocr") else BLIND
        self._complete(READ, reader, READER, {}, set(), threads, "batches of text")

    def _complete(
        self,
        name: str,
        model: str,
        expert: dict[str, Any],
        backbones: dict[str, str],
        done: set[str],
        threads: int,
        label: str,
    ) -> None:
        """Forget what another ``model`` made of contents, and of contents that are no more; make the texts of all
        others that are not ``done``."""
        videos = self.videos()
        for folder, _ in damaged(self._texts(name)):
            files.remove(folder)
        for folder in self._texts(name):
            about = ann.checked(folder)
            if about["model"] != model or not set(about["contents"]) & set(videos["sha256"]):
                files.remove(folder)
            else:
                done |= set(about["contents"])
        missing = videos.filter(~pl.col("sha256").is_in(list(done)) & (model != BLIND))
        for part in track(list(missing.iter_slices(BATCH)), label=label):
            contents = sorted(part["sha256"])
            with extracted(part, {name: expert}, backbones, threads) as output:
                texts = tables.read("texts", output / name)
            content = pl.col("video_id").replace_strict(part["video_id"], part["sha256"], return_dtype=pl.String)
            place = self.folder / name / digests.digest([model, *contents])[:16]
            with ann.written(place, {"model": model, "contents": contents}) as new:
                tables.write("texts", texts.with_columns(content), new)

    def _texts(self, name: str) -> list[Path]:
        """The folders of what was heard or read."""
        return sorted(self.folder.glob(f"{name}/[!.]*"))

    def _ids(self, found: pl.DataFrame) -> dict[str, str]:
        """Ids of the folder's own reader -> ids of the index, of the files whose content it has under any name."""
        id_at, ids = (
            {key: row["video_id"] for row in self.videos().to_dicts() for key in (row["path"], row["sha256"])},
            {},
        )
        for video_id, path in found.select("video_id", "path").iter_rows():
            with suppress(OSError):  # a file that is gone by now
                known = id_at.get(path) or id_at.get(digests.file_digest(Path(path)))
                ids |= {video_id: known} if known else {}
        return ids

    def _write_lines(self, found: Mapping[str, pl.DataFrame]) -> list[str]:
        """Write the words of titles, names and subtitles (the tables of the folder's reader), of speech and of text in
        frames; returns what could not be read."""
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
        spoken = {row.video for row in rows if row.channel == lines.SPEECH}
        of_content = dict(self.videos().select("sha256", "video_id").iter_rows())
        for channel, name, known in ((lines.SPEECH, HEARD, spoken), (lines.OCR, READ, set[str]())):
            for row in (row for f in self._texts(name) for row in tables.read("texts", f).iter_rows(named=True)):
                video_id = of_content.get(row["video_id"])
                if video_id is not None and video_id not in known:
                    rows.append(lines.Line(video_id, channel, row["text"], row["start"], row["end"]))
        lines.write(self.folder / "lines.sqlite", dict.fromkeys(rows))
        texts = found["rejected"].filter(~pl.col("path").is_in(self.rejected()["path"].implode()))
        return [f"{row['path']}: {row['reason']}" for row in texts.iter_rows(named=True)]


def _check_watched(watched: Path) -> None:
    """A ValueError unless there are videos in a folder."""
    if not videos_below(watched, lambda path, reason: None)[0]:
        raise ValueError(
            f"{watched} does not exist or holds no video: is its disk mounted? No index was made or changed"
        )


def _read(watched: Path) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """The tables of a folder's reader; without its lists where one is of another program, which is said."""
    try:
        return folders.read(raw=watched), []
    except (ValueError, OSError) as error:
        return folders.read(raw=watched, lists=()), [f"the lists are left out: {text_of(error)}"]


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
