"""Any folder of videos, with the subtitles, texts and lists in it.

For a video ``dir/NAME.mp4`` the reader takes, from the same folder: ``NAME.srt .vtt .ass .ssa`` and ``NAME.zh.srt`` …
(subtitles, kind asr, times kept; one file per language), ``NAME.json`` (Whisper's output), ``NAME.txt`` (title, then
description). A ``videos.csv`` and a ``videos.jsonl`` at the top may list the videos, with the columns ``path`` (or
``file``; below the folder), ``title``, ``tags``, ``category``, ``captions``, ``split``. Several rows may be about one
file (a row per caption, as caption sets are published): captions, tags and splits add up.

Every video is query and reference of the split ``all``; captions are queries of ``captions_all``; splits that the list
names get the same two (``<split>``, ``captions_<split>``).

Hidden files are skipped. Links are followed, each real folder once, so that a circle of links ends. A file beside a
video that cannot be read, or is too large, and a line of the list that names no video never stop the reading: they are
listed in ``rejected``, and so is a column of a list that has another name. A list of which nothing can be used (no
text, no column of paths) is an error.
"""

import csv
import io
import logging
import os
import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from videomatch.common.files import parse_json
from videomatch.common.messages import did_you_mean, nearest
from videomatch.data import text as texts
from videomatch.data.encodings import read_text
from videomatch.data.language import tag
from videomatch.data.subtitles import SUBTITLES, Cue, subtitles, whisper
from videomatch.data.tables import frame, videos
from videomatch.data.walk import EXTENSIONS, files_below, passed_over, printable

log = logging.getLogger(__name__)

#: names of a list of the videos, and its columns
LISTS = ("videos.csv", "videos.jsonl")
COLUMNS = ("path", "file", "title", "tags", "category", "captions", "split")
#: endings of what is read beside videos
TEXTS = frozenset((*SUBTITLES, ".json", ".txt", ".csv", ".jsonl"))

#: bytes of the longest text beside a video, and of the longest list: a million videos with their captions
MAX_TEXT, MAX_LIST = 1 << 20, 1 << 30
#: characters that are shown of a listed name, and of a reason
MAX_NAME, MAX_REASON = 300, 1000
#: unknown columns that are named
MAX_UNKNOWN = 50

#: video_id, path, reason
Rejected = tuple[str, str, str]


def read(
    *,
    raw: Path,
    extensions: Sequence[str] = EXTENSIONS,
    separator: str = "|",
    title_from_name: bool = False,
    lists: Sequence[str] = LISTS,
) -> dict[str, pl.DataFrame]:
    """The tables of a folder: ids are paths below ``raw``. ``separator`` stands between several tags, captions or
    splits in one cell of ``videos.csv``; ``title_from_name`` gives videos without a title the words of their file name;
    ``lists`` are the names of lists that are read.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise ValueError(f"{raw}: expected a folder of videos")
    endings = {e.lower() if e.startswith(".") else f".{e.lower()}" for e in extensions}
    rejected: list[Rejected] = []
    files: dict[str, Path] = {}
    beside: dict[Path, list[Path]] = {}

    def reject(path: Path, reason: str) -> None:
        rejected.append(_rejected(_id(path.relative_to(raw).as_posix()), path, reason))

    for path in files_below(raw, reject):
        if path.suffix.lower() in endings:
            video_id = _id(path.relative_to(raw).as_posix())
            if video_id in files:
                reject(path, "another file has the same name in another Unicode form")
            else:
                files[video_id] = path
        else:
            beside.setdefault(path.parent, []).append(path)
    if not files:
        raise ValueError(f"{raw}: no video; looked for {', '.join(sorted(endings))} in it and the folders below")
    others = [p for paths in beside.values() for p in paths if p.suffix.lower() not in TEXTS]
    if others:
        log.info("%s: %s", raw, passed_over(others))
    listed = _listed([raw / name for name in lists], files, separator, rejected)
    owners = _owners(files, beside)
    known: list[dict[str, Any]] = []
    rows: list[tuple[Any, ...]] = []
    splits: dict[str, list[str]] = {"all": list(files)}
    captions: dict[str, list[str]] = {}
    for video_id, path in sorted(files.items()):
        entry = listed.get(video_id, Entry())
        tags = list(entry.tags) or None
        known.append({"video_id": video_id, "path": str(path), "category": entry.category, "tags": tags})
        spoken = _spoken(video_id, owners[video_id], rejected)
        title = entry.title or _description(video_id, owners[video_id], spoken, rejected)
        if not title and title_from_name:
            title = re.sub(r"[\s_.]+", " ", path.stem)
        if title:
            rows.append((f"{video_id}:title", video_id, "title", None, None, None, title))
        for claim, cues in spoken:
            source = f"{video_id}:asr.{claim}" if claim else f"{video_id}:asr"
            rows += [(f"{source}:{n}", video_id, "asr", claim, *cue) for n, cue in enumerate(cues)]
        captions[video_id] = [f"{video_id}:caption:{n}" for n in range(len(entry.captions))]
        for text_id, caption in zip(captions[video_id], entry.captions, strict=True):
            rows.append((text_id, video_id, "caption", None, None, None, caption))
        for split in entry.splits:
            splits.setdefault(split, []).append(video_id)
    for _, path, reason in rejected:
        log.info("%s: %s", path, reason)
    tables = {
        "videos": videos(known),
        "texts": frame("texts", rows),
        "splits": frame("splits", _splits(splits, captions)),
        "relevance": frame("relevance", [(q, video_id, 1.0) for video_id, some in captions.items() for q in some]),
        "rejected": frame("rejected", rejected),
    }
    return texts.clean_tables(tables)


@dataclass
class Entry:
    """What ``videos.csv`` or ``videos.jsonl`` has about one video."""

    title: str = ""
    category: str | None = None
    tags: dict[str, None] = field(default_factory=dict)  # each once, in their order; of these no value counts
    captions: dict[str, None] = field(default_factory=dict)
    splits: dict[str, None] = field(default_factory=dict)


def _listed(
    lists: Sequence[Path], known: Collection[str], separator: str, rejected: list[Rejected]
) -> dict[str, Entry]:
    """The entries of the lists by video id; a line that names no video of the folder goes to ``rejected``."""
    entries: dict[str, Entry] = {}
    for path in filter(Path.is_file, lists):
        raw, unknown = path.parent, set[str]()
        for line, row in _csv(path) if path.suffix == ".csv" else _jsonl(path):
            if isinstance(row, str):
                rejected.append(_rejected(f"line {line}", path, row))
                continue
            for column in [name for name in row if name not in COLUMNS and name not in unknown]:
                unknown.add(column)
                if len(unknown) > MAX_UNKNOWN:
                    continue
                where, name = f"line {1 if path.suffix == '.csv' else line}", column[:MAX_NAME]
                reason = f"{where}: unknown column {name!r} is left out (columns are {', '.join(COLUMNS)})"
                rejected.append(_rejected(where, path, did_you_mean(reason, name, set(COLUMNS) - row.keys())))
                if len(unknown) == MAX_UNKNOWN:
                    rejected.append(_rejected(where, path, f"{where}: further unknown columns are left out, too"))
            name = _text(row.get("path") or row.get("file"))
            given = _relative(name, raw)
            video_id = _id(given)
            if video_id not in known:
                exists = bool(name) and given != "" and os.path.isfile(raw / given)  # noqa: PTH113  (of Path, it raises where a name is too long)
                reason = "is not a video by its ending" if exists else "does not exist in the folder"
                listed = (given or name)[:MAX_NAME] or f"line {line}"
                rejected.append(_rejected(listed, path, f"line {line}: file {name[:MAX_NAME]!r} {reason}"))
                continue
            entry = entries.setdefault(video_id, Entry())
            entry.title = entry.title or _text(row.get("title"))
            entry.category = entry.category or _text(row.get("category")) or None
            for target, column in ((entry.tags, "tags"), (entry.captions, "captions"), (entry.splits, "split")):
                target |= dict.fromkeys(_several(row.get(column), separator))
    return entries


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number and row, or what is wrong with the row."""
    reader = csv.DictReader(io.StringIO(read_text(path, MAX_LIST), newline=""))
    try:
        header = [column.strip() for column in reader.fieldnames or []]
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {error}; expected the names of columns") from error
    if not {"path", "file"} & set(header):
        near = [column for column in header if nearest(column, COLUMNS) in ("path", "file")]
        hint = f"; did you mean {near[0][:60]!r}?" if near else ""
        raise ValueError(f"{path}: no column 'path' or 'file' among {str(header)[:MAX_NAME]}{hint}")
    reader.fieldnames = header
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield reader.reader.line_num, f"line {reader.reader.line_num}: {error}"
            continue
        if row is None:
            return
        if None in row:
            yield (
                reader.line_num,
                f"line {reader.line_num}: more cells than the {len(header)} columns of the first line; a cell with a "
                f"comma needs quotes",
            )
        else:
            yield reader.line_num, row


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number and row, or what is wrong with the row."""
    for number, line in enumerate(read_text(path, MAX_LIST).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, f"line {number}")
        except ValueError as error:
            yield number, str(error)
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield number, f"line {number}: expected an object, found {type(row).__name__}"


def _relative(name: str, raw: Path) -> str:
    """``name`` as the id of a file below ``raw``; empty if it points outside."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute():
        try:
            pure = PurePosixPath(Path(name).relative_to(raw.absolute()).as_posix())
        except ValueError:
            return ""
    path = posixpath.normpath(pure)
    return "" if path.split("/")[0] in (".", "..") else unicodedata.normalize("NFC", path)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _several(value: Any, separator: str) -> list[str]:
    values = value if isinstance(value, list) else _text(value).split(separator)
    return [text for item in values if (text := _text(item))]


def _owners(files: dict[str, Path], beside: dict[Path, list[Path]]) -> dict[str, list[tuple[Path, str]]]:
    """Video id -> the files beside it, each with what stands between its name and the ending. A file belongs to the
    longest name that begins its own: ``clip.v2.srt`` to ``clip.v2.mp4``, not to ``clip.mp4``."""
    owners: dict[str, list[tuple[Path, str]]] = {video_id: [] for video_id in files}
    by_stem: dict[tuple[Path, str], list[str]] = {}
    for video_id, path in files.items():
        by_stem.setdefault((path.parent, path.stem), []).append(video_id)
        by_stem.setdefault((path.parent, path.name), []).append(video_id)
    for folder, paths in beside.items():
        for path in paths:
            parts = path.stem.split(".")
            for n in range(len(parts), 0, -1):
                found = by_stem.get((folder, ".".join(parts[:n])))
                if found:
                    for video_id in found:
                        owners[video_id].append((path, ".".join(parts[n:])))
                    break
    return owners


def _spoken(
    video_id: str, beside: list[tuple[Path, str]], rejected: list[Rejected]
) -> list[tuple[str | None, list[Cue]]]:
    """One source of speech for every language claimed by a suffix; where the first choice is broken or has no cue, the
    next one."""
    choices: dict[str | None, list[Path]] = {}
    for path, middle in beside:
        claim = next((t for part in middle.split(".") if (t := tag(part))), None)
        known = path.suffix.lower()
        if known in SUBTITLES or (known == ".json" and (claim or not middle)):
            choices.setdefault(claim, []).append(path)
    if None in choices and len(choices) > 1 and all(p.suffix.lower() == ".json" for p in choices[None]):
        del choices[None]  # the recogniser's guess adds nothing to subtitles whose language is stated
    found = []
    order = [*SUBTITLES, ".json"]
    for claim, paths in sorted(choices.items(), key=lambda item: item[0] or ""):
        for path in sorted(paths, key=lambda p: (order.index(p.suffix.lower()), p.name)):
            try:
                cues, language = whisper(path) if path.suffix.lower() == ".json" else (subtitles(path), None)
            except (ValueError, OSError) as error:
                rejected.append(_rejected(video_id, path, f"subtitle left out: {error}"))
                continue
            if cues:
                found.append((claim or (tag(language) if language else None), cues))
                break
    return found


def _description(
    video_id: str,
    beside: list[tuple[Path, str]],
    spoken: list[tuple[str | None, list[Cue]]],
    rejected: list[Rejected],
) -> str:
    """Title and description from NAME.txt, unless it repeats the speech (a recogniser writes NAME.txt, too)."""
    for path, middle in beside:
        if path.suffix.lower() != ".txt" or middle:
            continue
        try:
            content = read_text(path, MAX_TEXT)
        except (ValueError, OSError) as error:
            rejected.append(_rejected(video_id, path, f"text left out: {error}"))
            continue
        letters = re.sub(r"\W+", "", content)
        if not any(letters == re.sub(r"\W+", "", "".join(cue.text for cue in cues)) for _, cues in spoken):
            return content
    return ""


def _splits(splits: dict[str, list[str]], captions: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    rows = []
    for split, ids in splits.items():
        ids = sorted(set(ids))
        rows += [(split, role, video_id) for role in ("query", "reference") for video_id in ids]
        queries = [query for video_id in ids for query in captions[video_id]]
        if queries:
            rows += [(f"captions_{split}", "query", query) for query in queries]
            rows += [(f"captions_{split}", "reference", video_id) for video_id in ids]
    return rows


def _id(relative: str) -> str:
    """A path as an id: composed Unicode that fits in a line or a cell."""
    return printable(unicodedata.normalize("NFC", relative))


def _rejected(video_id: str, path: Path, reason: str) -> Rejected:
    shown, why = (text.encode("utf-8", "backslashreplace").decode() for text in (str(path), reason))
    return video_id, shown, why if len(why) <= MAX_REASON else f"{why[:MAX_REASON]} …"
