"""What the readers of captioned videos (text-video search) share.

A data set of captioned videos is read from the annotation files that its authors, or the split files that later papers,
give out. Videos need not be there: one whose file is not found has a null path, and its features come from elsewhere
(``experts/released.py``). Captions stay as they are published unless cleaning is asked for.

Splits come in pairs: ``<name>`` lists videos (as references, to train on or to embed), ``captions_<name>`` is the
protocol of the same videos with their captions as queries. Texts of kind ``caption`` are what a video has to train on;
sentences that serve a test protocol only, beside the captions of its videos, are of kind ``query``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.corpora.folder import EXTENSIONS
from videomatch.data import text as texts
from videomatch.data.tables import SCHEMAS, check, videos

log = logging.getLogger(__name__)

#: folder of the video files below ``raw`` where no other is named
MEDIA = "videos"


class Collected:
    """Videos, captions and splits on their way to the tables."""

    def __init__(self) -> None:
        self.videos: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, tuple[Any, ...]] = {}
        self.splits: list[tuple[str, str, str]] = []
        self.sources: list[tuple[str, str, float | None, float | None]] = []
        self.rejected: list[dict[str, str]] = []
        self.blank = 0

    def video(
        self,
        video_id: str,
        *,
        category: str | None = None,
        source: str | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        """Add a video (once: later calls for the same id change nothing), and what it was cut from, where known."""
        if video_id in self.videos:
            return
        self.videos[video_id] = {"video_id": video_id, "category": category}
        if source is not None:
            self.sources.append((video_id, source, start, end))

    def clip(self, video_id: str, name: re.Pattern[str]) -> None:
        """Add a clip of a video of YouTube that is named by that, its start and its end (s), the groups of ``name``."""
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
    ) -> str | None:
        """Add a caption; its id, or None if nothing but blanks is in it."""
        words = words.strip()
        if not words:
            self.blank += 1
            return None
        self.rows[text_id] = (text_id, video_id, kind, language, start, end, words)
        return text_id

    def split(self, name: str, videos: Iterable[str], captions: Iterable[str] | None) -> None:
        """Add the list ``name`` of videos, and the protocol ``captions_<name>`` where there are captions."""
        videos = list(dict.fromkeys(videos))
        self.splits += [(name, "reference", video_id) for video_id in videos]
        if captions is not None:
            self.splits += [(f"captions_{name}", "query", text_id) for text_id in dict.fromkeys(captions)]
            self.splits += [(f"captions_{name}", "reference", video_id) for video_id in videos]

    def tables(
        self, raw: Path, media: str | None, cleaned: bool, emoji: texts.Emoji, names: Mapping[str, str] | None = None
    ) -> dict[str, pl.DataFrame]:
        """The checked tables.

        Args:
            raw: the data set's folder.
            media: folder of the video files, below ``raw`` or anywhere; None for ``videos`` if there is one.
            cleaned: clean the captions.
            emoji: what cleaning does with them.
            names: video id -> file name without its ending, where the two differ.
        """
        files = media_files(raw, media)
        for video_id, row in self.videos.items():
            row["path"] = files.get((names or {}).get(video_id, video_id))
        absent = sum(row["path"] is None for row in self.videos.values())
        if files and absent:
            log.warning("%s: %d of %d videos have no file there", media or MEDIA, absent, len(self.videos))
        if self.blank:
            log.warning("%s: %d captions are blank and left out", raw, self.blank)
        tables = {
            "videos": videos(self.videos.values()),
            "texts": _frame("texts", self.rows.values()),
            "splits": _frame("splits", self.splits),
            "relevance": _frame("relevance", [(text_id, row[1], 1.0) for text_id, row in self.rows.items()]),
            "rejected": pl.DataFrame(self.rejected, schema=SCHEMAS["rejected"]),
        }
        if self.sources:
            tables["sources"] = _frame("sources", self.sources)
        tables = texts.clean_tables(tables, emoji=emoji) if cleaned else tables
        return {name: check(name, rows) for name, rows in tables.items()}


def _frame(table: str, rows: Iterable[Sequence[Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMAS[table], orient="row")


def media_files(raw: Path, media: str | None) -> dict[str, str]:
    """File name without its ending -> path, of all video files in a folder and those below it.

    Raises:
        ValueError: the folder is named, but not there.
    """
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


# -------------------------------------------------------------------------------------------------------------- files


def find(raw: Path, names: str | Sequence[str], what: str) -> Path:
    """The first of some file names that exists in a folder.

    Raises:
        ValueError: none does; the message lists them.
    """
    found = maybe(raw, names)
    if found is None:
        names = [names] if isinstance(names, str) else names
        raise ValueError(f"{raw}: {what} is missing; looked for {', '.join(names)}")
    return found


def maybe(raw: Path, names: str | Sequence[str] | None) -> Path | None:
    """The same, or None."""
    for name in [names] if isinstance(names, str) else names or []:
        if (raw / name).is_file():
            return raw / name
    return None


def present(raw: Path, given: Mapping[str, str]) -> dict[str, Path]:
    """Split -> its file, of those files that are there.

    Raises:
        ValueError: none is; the message lists them.
    """
    found = {split: path for split, name in given.items() if (path := maybe(raw, name))}
    if not found:
        find(raw, list(given.values()), "the annotations")
    return found


def read_json(path: Path, kind: type | tuple[type, ...], expected: str) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is no JSON, cut short, or not of this kind.
    """
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


def id_list(path: Path) -> list[str]:
    """Ids, one a line, perhaps below a heading ``video_id``.

    Raises:
        ValueError: an id stands twice, holds a blank or a comma, or there is none.
    """
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


def caption_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Video id and sentence of a ``*.caption.txt`` file: lines ``video#k sentence``.

    The id ends at the first ``#`` (``video#enc#k`` exists), and a trailing ``.mp4`` or ``.jpg`` is not part of it.

    Raises:
        ValueError: a line has no ``#`` in its first word, or no sentence.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        word, _, sentence = line.strip().partition(" ")
        if "#" not in word or not sentence.strip():
            raise ValueError(f"{path}, line {number}: {line[:60]!r}, expected `video#number sentence`")
        yield word.partition("#")[0].removesuffix(".mp4").removesuffix(".jpg"), sentence.strip()


def expect(path: Path, found: int, wanted: int | None, what: str, partial: bool) -> None:
    """Refuse a file with another number of things than was published, unless parts are welcome."""
    if wanted is not None and found != wanted and not partial:
        raise ValueError(
            f"{path}: {found:,} {what}, expected {wanted:,} (`partial: true` takes what is there, and is no longer "
            f"the published protocol)"
        )


def apart(path: Path, ids: Iterable[str], split: str, seen: dict[str, str]) -> None:
    """Note in ``seen`` that the videos of a file are of this split.

    Raises:
        ValueError: one is of another already.
    """
    ids = list(ids)
    both = next((i for i in ids if i in seen), None)
    if both is not None:
        raise ValueError(f"{path}: {both!r} stands in the {seen[both]} file, too")
    seen |= dict.fromkeys(ids, split)


def known(path: Path, ids: Iterable[str], there: Iterable[str], what: str, partial: bool) -> list[str]:
    """Those of ``ids`` that are there; without ``partial`` all must be."""
    ids, there = list(ids), set(there)
    kept = [i for i in ids if i in there]
    if len(kept) < len(ids) and not partial:
        first = next(i for i in ids if i not in there)
        raise ValueError(
            f"{path}: {len(ids) - len(kept):,} of its {len(ids):,} videos are not in {what}, first {first!r}; "
            f"`partial: true` leaves them out"
        )
    return kept


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:60]!r}"
