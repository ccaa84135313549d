"""A folder of videos that somebody has: any layout, with whatever lies beside the files.

For a video ``dir/NAME.mp4`` the reader takes, from the same folder: ``NAME.srt .vtt .ass .ssa`` and ``NAME.zh.srt`` …
(subtitles, kind asr, times kept; one file a language), ``NAME.json`` (Whisper's output), ``NAME.txt`` (title, then
description). One ``videos.csv`` or ``videos.jsonl`` at the top may list titles, tags, categories, captions and splits.

Every video is query and reference of the split ``all``; captions are queries of ``captions_all``; splits that the list
names get the same two (``<split>``, ``captions_<split>``).

Hidden files are skipped. Links are followed, each real folder once, so that a circle of links ends: whoever put a link
into the folder wants what it points at. What cannot be read never stops the reading: it is listed in ``rejected``.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.corpora import _listing
from videomatch.corpora._subtitles import SUBTITLES, Cue, read_text, subtitles, whisper
from videomatch.data import text as texts
from videomatch.data.language import tag
from videomatch.data.tables import SCHEMAS, check

log = logging.getLogger(__name__)

EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".wmv"),
    *(".mpg", ".mpeg", ".ts", ".m2ts", ".3gp", ".ogv"),
)


def read(
    *,
    raw: Path,
    extensions: Sequence[str] = EXTENSIONS,
    separator: str = "|",
    title_from_name: bool = False,
    emoji: texts.Emoji = "name",
) -> dict[str, pl.DataFrame]:
    """Read a folder.

    Args:
        raw: the folder.
        extensions: file names that end so (in any case) are videos.
        separator: between several tags, captions or splits in one cell of ``videos.csv``.
        title_from_name: give videos without a title the words of their file name.
        emoji: see :func:`videomatch.data.text.clean`.

    Returns:
        videos (ids: paths below ``raw``; what probing fills is null), texts (cleaned), splits, relevance, rejected.

    Raises:
        ValueError: no video at all, or a list with unknown columns.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise ValueError(f"{raw}: expected a folder of videos")
    endings = {e.lower() if e.startswith(".") else f".{e.lower()}" for e in extensions}
    rejected: list[dict[str, str]] = []
    files: dict[str, Path] = {}
    beside: dict[Path, list[Path]] = {}
    for path in _walk(raw, rejected):
        if path.suffix.lower() in endings:
            video_id = _id(path.relative_to(raw).as_posix())
            if video_id in files:
                rejected.append(_no(video_id, path, "another file has the same name in another Unicode form"))
            else:
                files[video_id] = path
        else:
            beside.setdefault(path.parent, []).append(path)
    if not files:
        raise ValueError(f"{raw}: no video; looked for {', '.join(sorted(endings))} in it and the folders below")
    listed, missing = _listing.read(raw, {_id(k): k for k in files}, separator)
    rejected += missing

    videos, rows = [], []
    splits: dict[str, list[str]] = {"all": list(files)}
    captions: dict[str, list[str]] = {}
    owners = _owners(files, beside)
    for video_id, path in sorted(files.items()):
        entry = listed.get(video_id, _listing.Entry())
        videos.append(
            {"video_id": video_id, "path": str(path), "category": entry.category, "tags": entry.tags, "shard": 0}
        )
        spoken = _spoken(video_id, owners[video_id], rejected)
        title = entry.title or _description(video_id, owners[video_id], spoken, rejected)
        if not title and title_from_name:
            title = re.sub(r"[\s_.]+", " ", path.stem)
        if title:
            rows.append((f"{video_id}:title", video_id, "title", None, None, None, title))
        for claim, cues in spoken:
            source = f"{video_id}:asr.{claim}" if claim else f"{video_id}:asr"
            rows += [(f"{source}:{n}", video_id, "asr", claim, *cue) for n, cue in enumerate(cues)]
        for n, caption in enumerate(entry.captions):
            captions.setdefault(video_id, []).append(f"{video_id}:caption:{n}")
            rows.append((f"{video_id}:caption:{n}", video_id, "caption", None, None, None, caption))
        for split in entry.splits:
            splits.setdefault(split, []).append(video_id)

    tables = {
        "videos": pl.DataFrame(videos, schema=SCHEMAS["videos"]),
        "texts": pl.DataFrame(rows, schema=SCHEMAS["texts"], orient="row"),
        "splits": _splits(splits, captions),
        "relevance": pl.DataFrame(
            [(query, video_id, 1.0) for video_id, queries in sorted(captions.items()) for query in queries],
            schema=SCHEMAS["relevance"],
            orient="row",
        ),
        "rejected": pl.DataFrame(rejected, schema=SCHEMAS["rejected"]),
    }
    for row in rejected:
        log.warning("%s: %s", row["path"], row["reason"])
    return {name: check(name, rows) for name, rows in texts.clean_tables(tables, emoji=emoji).items()}


def _walk(folder: Path, rejected: list[dict[str, str]]) -> Iterator[Path]:
    """Every visible file below ``folder``, ordered; broken links and unreadable folders go to ``rejected``."""
    seen: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        here = pending.pop()
        stat = here.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        try:
            entries = sorted(here.iterdir())
        except PermissionError as error:
            rejected.append(_no(_id(str(here)), here, f"folder cannot be opened ({error.strerror})"))
            continue
        below = []
        for path in entries:
            if path.name.startswith("."):
                continue
            if not _is_text(path.name):
                rejected.append(_no(_id(str(path)), path, "file name is not valid UTF-8, which tables cannot hold"))
            elif path.is_dir():
                below.append(path)
            elif path.is_file():
                yield path
            elif path.is_symlink():
                rejected.append(_no(_id(path.relative_to(folder).as_posix()), path, "link to nothing"))
        pending.extend(reversed(below))


def _owners(files: dict[str, Path], beside: dict[Path, list[Path]]) -> dict[str, list[tuple[Path, str]]]:
    """For every video the (file, what stands between its name and the ending) beside it.

    A file belongs to the longest name that begins its own: ``clip.v2.srt`` to ``clip.v2.mp4``, not to ``clip.mp4``.
    """
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
    video_id: str, beside: list[tuple[Path, str]], rejected: list[dict[str, str]]
) -> list[tuple[str | None, list[Cue]]]:
    """One source of speech for every language claimed by a suffix; where the first choice is broken, the next one."""
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
                cues, said = whisper(path) if path.suffix.lower() == ".json" else (subtitles(path), None)
            except (ValueError, OSError) as error:
                rejected.append(_no(video_id, path, f"subtitle left out: {error}"))
                continue
            found.append((claim or (tag(said) if said else None), cues))
            break
    return found


def _description(
    video_id: str,
    beside: list[tuple[Path, str]],
    spoken: list[tuple[str | None, list[Cue]]],
    rejected: list[dict[str, str]],
) -> str:
    """Title and description from NAME.txt, unless it repeats the speech (a recogniser writes NAME.txt, too)."""
    for path, middle in beside:
        if path.suffix.lower() != ".txt" or middle:
            continue
        try:
            content = read_text(path)
        except OSError as error:
            rejected.append(_no(video_id, path, f"text left out: {error}"))
            continue
        letters = re.sub(r"\W+", "", content)
        if not any(letters == re.sub(r"\W+", "", "".join(cue.text for cue in cues)) for _, cues in spoken):
            return content
    return ""


def _splits(splits: dict[str, list[str]], captions: dict[str, list[str]]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for split, ids in splits.items():
        ids = sorted(set(ids))
        rows += [{"split": split, "role": role, "id": video_id} for role in ("query", "reference") for video_id in ids]
        queries = [query for video_id in ids for query in captions.get(video_id, [])]
        if queries:
            name = f"captions_{split}"
            rows += [{"split": name, "role": "query", "id": query} for query in queries]
            rows += [{"split": name, "role": "reference", "id": video_id} for video_id in ids]
    return pl.DataFrame(rows, schema=SCHEMAS["splits"])


def _id(relative: str) -> str:
    """A path as an id: composed Unicode, and nothing that would break a line or a cell."""
    named = unicodedata.normalize("NFC", relative.encode("utf-8", "backslashreplace").decode())
    return "".join(c if c.isprintable() else f"%{ord(c):02X}" for c in named)


def _is_text(name: str) -> bool:
    try:
        os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _no(video_id: str, path: Path, reason: str) -> dict[str, str]:
    shown = str(path).encode("utf-8", "backslashreplace").decode()
    return {"video_id": video_id, "path": shown, "reason": reason.encode("utf-8", "backslashreplace").decode()}
