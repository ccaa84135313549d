"""A folder of videos, in three lines::

    from videomatch import Library
    lib = Library("~/Videos")
    lib.find("a dog on a beach")

The command line (:mod:`videomatch.folders.commands`) is a layer on this class.
"""

import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import polars as pl

from videomatch.app import indexes, search
from videomatch.app.copies import Copies, CopySearch, choose_aligner
from videomatch.folders import duplicates as grouping
from videomatch.folders._eyes import BLIND, PACKAGED, choose, choose_speech
from videomatch.folders.duplicates import Duplicates
from videomatch.folders.folder_index import FolderIndex, Refreshed
from videomatch.folders.folder_search import FolderCatalogue

#: a file of a video
File = str | os.PathLike[str]


@dataclass(frozen=True)
class Hit:
    """A moment that answers a question: in the file ``path``, from ``start`` to ``end`` (s; None: all of it). ``by``
    says which of pictures, titles, speech and ocr found it; higher scores are better, within one answer."""

    path: str
    start: float | None
    end: float | None
    score: float
    by: list[str]
    title: str
    duration: float | None
    id: str


class Library:
    """The index of a folder of videos.

    The first question makes the index, which takes minutes an hour of video; later ones only read it:
    :meth:`refresh` brings it up to date with the folder. What the user should know (a model that is missing, a question
    that the model is not made for) comes as a warning of :mod:`warnings`.

    Args:
        folder: of the videos; without one the index ``name``, or the only one there is.
        name: of the index; by default that of the folder.
        model: what looks at pictures, as of ``videomatch index --model``.
        speech: folder or hub id of a Whisper that hears speech in files without subtitles.
        ocr: read the text in frames, which takes 13 minutes of CPU time an hour of video; None: as before.
        threads: that read files; all processors by default.

    Raises:
        ValueError: there is no such folder or index.
    """

    def __init__(
        self,
        folder: File | None = None,
        name: str | None = None,
        *,
        model: str | None = None,
        speech: str | None = None,
        ocr: bool | None = None,
        threads: int | None = None,
    ) -> None:
        self.model, self.speech, self.ocr, self.threads = model, speech, ocr, threads or os.cpu_count() or 1
        if folder is None:
            self.place = indexes.place(name)
            self.folder = Path(indexes.about(self.place)["folder"])
        else:
            self.folder = Path(os.path.abspath(Path(folder).expanduser()))  # noqa: PTH100 (a link keeps its own name)
            if not self.folder.is_dir():
                raise ValueError(f"{folder} is no folder: expected a folder of videos")
            self.place = indexes.home() / indexes.name_for(self.folder, name)
        self._catalogue: FolderCatalogue | None = None

    def __repr__(self) -> str:
        return f"Library({str(self.folder)!r}, {self.name!r})"

    def __len__(self) -> int:
        return len(self.videos())

    @property
    def name(self) -> str:
        """The name of the index."""
        return self.place.name

    @property
    def exists(self) -> bool:
        """Whether the index was made."""
        return (self.place / indexes.ABOUT).is_file()

    def refresh(self) -> Refreshed:
        """Make the index, or bring it up to date: only new content is read; videos that are gone are removed."""
        about = indexes.about(self.place) if self.exists else {}
        notes: list[str] = []
        model = choose(self.model, about.get("model", PACKAGED), notes)
        speech = choose_speech(self.speech, about.get("speech", BLIND), notes)
        ocr = bool(about.get("ocr")) if self.ocr is None else self.ocr
        done = FolderIndex.open(self.place, self.folder, model, speech, ocr).refresh(self.threads)
        done.notes[:0] = notes
        return done

    def remove(self, video: File | None = None) -> None:
        """Delete the index, or remove one ``video`` from it, by its file or id; files stay. :meth:`refresh` adds one
        again that still is in the folder."""
        if video is not None:
            path, videos = str(Path(video).expanduser().absolute()), self.videos()
            at = videos.filter(pl.col("path") == path)["video_id"].to_list()
            self.index().remove([*at, str(video)][:1])
            return
        if self.exists:
            shutil.rmtree(self.place)
        self._catalogue = None

    def videos(self) -> pl.DataFrame:
        """``video_id``, ``path``, ``duration`` (s), ``sha256`` and ``title`` of all videos."""
        return self.catalogue().videos("").drop("start", "end")

    def find(self, text: str, *, top: int = 10, within: str | Sequence[str] | None = None) -> list[Hit]:
        """The moments that answer a text best, best first, at most one a video; ``within`` some of ``pictures``,
        ``titles``, ``speech`` and ``ocr`` alone."""
        kinds = ",".join([within] if isinstance(within, str) else within) if within else None
        return _hits(search.search(self.catalogue(), "find", text, top=top, within=kinds))

    def similar(self, video: File, *, top: int = 10) -> list[Hit]:
        """The videos that look most like a file, or like one of the index by its id; not that one itself."""
        file = str(Path(video).expanduser().absolute())
        return _hits(search.search(self.catalogue(), "similar", str(video), top=top, file=file))

    def copies(self, video: File, *, top: int = 10, views: bool = True) -> Copies:
        """Where the parts of a file come from: its ``segments`` in videos of the index, of which ``top`` are compared
        in full; without ``views`` the picture is not searched mirrored, turned and in parts."""
        found = CopySearch(self.index(), choose_aligner())
        return found.copies(Path(video).expanduser(), top=top, views=views, threads=self.threads)

    def duplicates(self, min_share: float = grouping.SHARE) -> Duplicates:
        """The groups of files that hold the same film, as far as ``min_share`` of the shorter one, in each first the
        file to keep. Nothing is deleted."""
        return grouping.duplicates([self.index()], min_share)

    def index(self) -> FolderIndex:
        """The index, made where there is none."""
        return self.catalogue().index

    def catalogue(self) -> FolderCatalogue:
        """What questions load of the index, made where there is none."""
        if self._catalogue is None:
            if not self.exists:
                _warn(self.refresh().notes)
            self._catalogue = FolderCatalogue(self.place)
        return self._catalogue


def _hits(answer: search.SearchAnswer) -> list[Hit]:
    _warn(answer.notes)
    return [Hit(**{field.name: hit[field.name] for field in fields(Hit)}) for hit in answer.hits]


def _warn(notes: Sequence[str]) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=4)
