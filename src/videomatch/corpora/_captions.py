"""What the readers of captioned videos (text-video search) share.

Videos are ``videos/<id>.<ending>`` at any depth below ``raw``, or below the folder ``media``; one without a file has a
null path, and its features come from elsewhere (``experts/released.py``). Captions stay as they are published.
``sources`` holds what clips were cut from, where known. ``partial`` takes files, lists and splits that are not whole,
which is not the published protocol any more.

Splits come in pairs: ``<name>`` lists videos (as references, to train on or to embed), ``captions_<name>`` is the
protocol of the same videos with their captions as queries. Sentences that serve a test protocol only, beside the
captions of its videos, are texts of kind ``query``.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.corpora._files import MEDIA, id_list, media_files, missing
from videomatch.data.tables import frame, videos

log = logging.getLogger(__name__)

Tables = dict[str, pl.DataFrame]
#: a film or upload, start and end (s)
Source = tuple[str, float | None, float | None]
_CLIP = re.compile(r"(.+)_([0-9]{1,8})_([0-9]{1,8})")


class Collected:
    """Videos, captions and splits of a data set on their way to the tables."""

    def __init__(self, raw: Path, partial: bool) -> None:
        self.raw, self.partial = Path(raw), partial
        self.videos: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, tuple[Any, ...]] = {}
        self.captions: dict[str, list[str]] = {}  # ids of the texts of each video that are captions
        self.splits: list[tuple[str, str, str]] = []
        self.sources: list[tuple[str, str, float | None, float | None]] = []
        self.blank = 0
        self._split_of: dict[str, str] = {}

    def video(
        self, video_id: str, *, category: str | None = None, source: Source | None = None, file: str | None = None
    ) -> None:
        """Add a video, unless it was added, and what it was cut from; its file is ``<video_id>.<ending>`` or
        ``<file>.<ending>``."""
        if video_id in self.videos:
            return
        self.videos[video_id] = {"video_id": video_id, "category": category, "path": file}
        self.captions[video_id] = []
        if source is not None:
            self.sources.append((video_id, *source))

    def clip(self, video_id: str) -> None:
        """Add a clip of a YouTube video, called ``<video>_<start>_<end>`` (s)."""
        timed = _CLIP.fullmatch(video_id)
        if timed is None:
            self.video(video_id, source=(f"youtube:{video_id}", None, None))
        else:
            source, start, end = timed.groups()
            self.video(video_id, source=cut(f"youtube:{source}", float(start), float(end)))

    def text(
        self, text_id: str, video_id: str, words: str, *, kind: str = "caption", language: str | None = None
    ) -> list[str]:
        """Add a caption of a video that was added; a list of its id, empty if the caption is blank."""
        words = words.strip()
        if not words:
            self.blank += 1
            return []
        self.rows[text_id] = (text_id, video_id, kind, language, None, None, words)
        if kind == "caption":
            self.captions[video_id].append(text_id)
        return [text_id]

    def split(
        self, name: str, videos: Iterable[str], queries: Iterable[str] | None = None, *, most: int | None = None
    ) -> None:
        """Add the list ``name`` of videos and its protocol, whose queries are by default all captions of the videos, or
        ``most`` of each."""
        videos = list(dict.fromkeys(videos))
        if queries is None:
            queries = [text_id for video_id in videos for text_id in self.captions[video_id][:most]]
        self.splits += [(name, "reference", video_id) for video_id in videos]
        self.splits += [(f"captions_{name}", "query", text_id) for text_id in dict.fromkeys(queries)]
        self.splits += [(f"captions_{name}", "reference", video_id) for video_id in videos]

    def tables(self, media: str | None) -> Tables:
        """The tables, with the files in the folder ``media``."""
        files = media_files(self.raw, media)
        for video_id, row in self.videos.items():
            row["path"] = files.get(row["path"] or video_id, files.get(video_id))
        absent = sum(row["path"] is None for row in self.videos.values())
        if absent:
            log.warning("%s: %d of %d videos have no file there", media or MEDIA, absent, len(self.videos))
        if self.blank:
            log.warning("%s: %d captions are blank and left out", self.raw, self.blank)
        tables = {
            "videos": videos(self.videos.values()),
            "texts": frame("texts", self.rows.values()),
            "splits": frame("splits", self.splits),
            "relevance": frame("relevance", [(text_id, row[1], 1.0) for text_id, row in self.rows.items()]),
        }
        if self.sources:
            tables["sources"] = frame("sources", self.sources)
        return tables

    def present(self, files: Mapping[str, str]) -> dict[str, Path]:
        """Those of the annotation files of splits that are there: at least one must be."""
        found = {split: self.raw / name for split, name in files.items() if (self.raw / name).is_file()}
        if not found:
            raise missing(self.raw, "the annotations are", files.values())
        return found

    def expect(self, path: Path, found: int, wanted: int | None, what: str) -> None:
        """Refuse a file with another number of things than was published, unless parts are accepted."""
        if wanted is not None and found != wanted and not self.partial:
            raise ValueError(
                f"{path}: {found:,} {what}, expected {wanted:,} (`partial: true` takes what is there, and is no longer "
                f"the published protocol)"
            )

    def apart(self, path: Path, ids: Iterable[str], split: str) -> None:
        """Refuse a file of a split with a video of another split."""
        ids = list(ids)
        both = next((i for i in ids if i in self._split_of), None)
        if both is not None:
            raise ValueError(f"{path}: {both[:60]!r} stands in the {self._split_of[both]} file, too")
        self._split_of |= dict.fromkeys(ids, split)

    def listed(self, path: Path, wanted: int, there: Iterable[str], what: str) -> list[str]:
        """The videos of a list of ``wanted`` ids, as :meth:`known`."""
        if not path.is_file():
            raise missing(self.raw, "the list of videos is", [path.name])
        ids = id_list(path)
        self.expect(path, len(ids), wanted, "videos")
        return self.known(path, ids, there, what)

    def known(self, path: Path, ids: Iterable[str], there: Iterable[str], what: str) -> list[str]:
        """Those of ``ids`` that are there; all must be, unless parts are accepted."""
        ids, there = list(ids), set(there)
        kept = [i for i in ids if i in there]
        if len(kept) < len(ids) and not self.partial:
            first = next(i for i in ids if i not in there)
            raise ValueError(
                f"{path}: {len(ids) - len(kept):,} of its {len(ids):,} videos are not in {what}, first {first[:60]!r}; "
                f"`partial: true` leaves them out"
            )
        return kept


def cut(source: str, start: float, end: float) -> Source:
    """Where a clip was cut from by its name; an end before the start says nothing."""
    return (source, start, end) if start <= end else (source, None, None)


def paragraph(sentences: Iterable[str]) -> str:
    """Sentences as one text."""
    return " ".join(sentence.strip() for sentence in sentences if sentence.strip())
