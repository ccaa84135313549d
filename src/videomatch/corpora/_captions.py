"""What the readers of captioned videos (text-video search) share.

A data set of captioned videos is read from the annotation files of its authors, or the split files of later papers.
Videos need not be there: one without a file has a null path, and its features come from elsewhere
(``experts/released.py``). Captions stay as they are published unless cleaning is asked for.

Splits come in pairs: ``<name>`` lists videos (as references, to train on or to embed), ``captions_<name>`` is the
protocol of the same videos with their captions as queries. Texts of kind ``caption`` are what a video has to train on;
sentences that serve a test protocol only, beside the captions of its videos, are of kind ``query``.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.corpora.folder import EXTENSIONS
from videomatch.data import text as texts
from videomatch.data.tables import check, frame, videos

log = logging.getLogger(__name__)

#: folder of the video files below ``raw`` where no other is named
MEDIA = "videos"


def reader(collect: Callable[..., None]) -> Callable[..., dict[str, pl.DataFrame]]:
    """Make ``read(*, raw, …)`` of a function ``collect(out, *, …)`` that puts a data set's videos, texts and splits
    into ``out``. The options of ``collect`` come first, then those that all captioned data sets have."""

    @functools.wraps(collect)
    def read(
        *,
        raw: Path,
        media: str | None = None,
        partial: bool = False,
        cleaned: bool = False,
        emoji: texts.Emoji = "name",
        **options: Any,
    ) -> dict[str, pl.DataFrame]:
        out = Collected(Path(raw), partial)
        collect(out, **options)
        return out.tables(media, cleaned, emoji)

    shared = list(inspect.signature(read, follow_wrapped=False).parameters.values())
    own = list(inspect.signature(collect).parameters.values())
    vars(read)["__signature__"] = inspect.Signature([shared[0], *own[1:], *shared[1:-1]])
    read.__doc__ = f"""{collect.__doc__}
    Options of every captioned data set:
        raw: the folder described above.
        media: folder of the video files, below ``raw`` or anywhere; ``videos`` if there is one.
        partial: take files, lists and splits that are not whole; that is not the published protocol any more.
        cleaned: clean the texts (:mod:`videomatch.data.text`).
        emoji: what cleaning does with emoji.

    Raises:
        ValueError: a file is missing, foreign or cut short: its name, what was found, what was expected.
    """
    return read


class Collected:
    """Videos, captions and splits of a data set on their way to the tables.

    Args:
        raw: its folder.
        partial: accept parts of the published files.
    """

    def __init__(self, raw: Path, partial: bool) -> None:
        self.raw, self.partial = raw, partial
        self.videos: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, tuple[Any, ...]] = {}
        self.splits: list[tuple[str, str, str]] = []
        self.sources: list[tuple[str, str, float | None, float | None]] = []
        self.blank = 0
        self._split_of: dict[str, str] = {}

    def video(
        self,
        video_id: str,
        *,
        category: str | None = None,
        source: str | None = None,
        start: float | None = None,
        end: float | None = None,
        file: str | None = None,
    ) -> None:
        """Add a video (once: later calls for the same id change nothing), and what it was cut from, where known; its
        file is ``<video_id>.<ending>`` or ``<file>.<ending>``."""
        if video_id in self.videos:
            return
        self.videos[video_id] = {"video_id": video_id, "category": category, "path": file}
        if source is not None:
            self.sources.append((video_id, source, start, end))

    def clip(self, video_id: str, name: re.Pattern[str]) -> None:
        """Add a clip of a YouTube video. ``name`` matches its id: the video, start and end (s) are its groups."""
        timed = name.fullmatch(video_id)
        if timed is None:
            return self.video(video_id, source=f"youtube:{video_id}")
        source, start, end = timed.groups()
        return self.video(video_id, source=f"youtube:{source}", start=float(start), end=float(end))

    def text(
        self,
        text_id: str,
        video_id: str,
        words: str,
        *,
        kind: str = "caption",
        language: str | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> list[str]:
        """Add a caption; a list of its id, empty if the caption is blank."""
        words = words.strip()
        if not words:
            self.blank += 1
            return []
        self.rows[text_id] = (text_id, video_id, kind, language, start, end, words)
        return [text_id]

    def split(self, name: str, videos: Iterable[str], captions: Iterable[str]) -> None:
        """Add the list ``name`` of videos, and their protocol ``captions_<name>``."""
        videos = list(dict.fromkeys(videos))
        self.splits += [(name, "reference", video_id) for video_id in videos]
        self.splits += [(f"captions_{name}", "query", text_id) for text_id in dict.fromkeys(captions)]
        self.splits += [(f"captions_{name}", "reference", video_id) for video_id in videos]

    def tables(self, media: str | None, cleaned: bool, emoji: texts.Emoji) -> dict[str, pl.DataFrame]:
        """The checked tables; arguments as of :func:`reader`."""
        files = media_files(self.raw, media)
        for video_id, row in self.videos.items():
            row["path"] = files.get(row["path"] or video_id, files.get(video_id))
        absent = sum(row["path"] is None for row in self.videos.values())
        if files and absent:
            log.warning("%s: %d of %d videos have no file there", media or MEDIA, absent, len(self.videos))
        if self.blank:
            log.warning("%s: %d captions are blank and left out", self.raw, self.blank)
        tables = {
            "videos": videos(self.videos.values()),
            "texts": frame("texts", self.rows.values()),
            "splits": frame("splits", self.splits),
            "relevance": frame("relevance", [(text_id, row[1], 1.0) for text_id, row in self.rows.items()]),
            "rejected": frame("rejected"),
        }
        if self.sources:
            tables["sources"] = frame("sources", self.sources)
        tables = texts.clean_tables(tables, emoji=emoji) if cleaned else tables
        return {name: check(name, rows) for name, rows in tables.items()}

    def present(self, given: Mapping[str, str]) -> dict[str, Path]:
        """Split -> its file, of those files that are there: at least one must be."""
        found = {split: self.raw / name for split, name in given.items() if (self.raw / name).is_file()}
        if not found:
            find(self.raw, list(given.values()), "the annotations")
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
            raise ValueError(f"{path}: {both!r} stands in the {self._split_of[both]} file, too")
        self._split_of |= dict.fromkeys(ids, split)

    def known(self, path: Path, ids: Iterable[str], there: Iterable[str], what: str) -> list[str]:
        """Those of ``ids`` that are there; all must be, unless parts are accepted."""
        ids, there = list(ids), set(there)
        kept = [i for i in ids if i in there]
        if len(kept) < len(ids) and not self.partial:
            first = next(i for i in ids if i not in there)
            raise ValueError(
                f"{path}: {len(ids) - len(kept):,} of its {len(ids):,} videos are not in {what}, first {first!r}; "
                f"`partial: true` leaves them out"
            )
        return kept


def media_files(raw: Path, media: str | None) -> dict[str, str]:
    """File name without its ending -> path, of all video files in a folder and those below it. A folder that is named
    must be there."""
    folder = raw / Path(media or MEDIA).expanduser()
    if not folder.is_dir():
        if media is not None:
            raise ValueError(f"media {media!r}: there is no folder {folder}")
        return {}
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file():
            found.setdefault(path.stem, str(path))
    return found


def find(raw: Path, names: str | Sequence[str], what: str) -> Path:
    """The first of some file names that exists in a folder, or a ValueError that lists them."""
    names = [names] if isinstance(names, str) else names
    for name in names:
        if (raw / name).is_file():
            return raw / name
    raise ValueError(f"{raw}: {what} is missing; looked for {', '.join(names)}")


def read_json(path: Path, kind: type | tuple[type, ...], expected: str) -> Any:
    """The content of a JSON file, which must be of this kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON, or cut short ({error}); expected {expected}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path}: holds {_shown(content)}, expected {expected}")
    return content


def field(path: Path, where: str, entry: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    """A field of a JSON object, of a type."""
    if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
        kinds = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        value = _shown(entry.get(name)) if isinstance(entry, dict) else _shown(entry)
        raise ValueError(f"{path}, {where}: {name!r} is {value}, expected {kinds}")
    return entry[name]


def strings(path: Path, where: str, values: Any) -> list[str]:
    """A list of strings."""
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ValueError(f"{path}, {where}: {_shown(values)}, expected a list of sentences")
    return values


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:60]!r}"


def id_list(path: Path) -> list[str]:
    """Different ids, one per line, perhaps below a heading ``video_id``."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error}); expected one id a line") from error
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        word = line.strip()
        if not word or (number == 1 and word == "video_id"):
            continue
        if "," in word or len(word.split()) > 1 or word[0] in "{[":
            raise ValueError(f"{path}, line {number}: {line[:60]!r}, expected one id a line")
        if word in ids:
            raise ValueError(f"{path}, line {number}: {word!r} stands on line {ids[word]} already")
        ids[word] = number
    if not ids:
        raise ValueError(f"{path}: no id in it")
    return list(ids)
