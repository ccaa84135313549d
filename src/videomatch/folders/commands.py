"""The commands for own folders: ``index`` and ``duplicates``; ``find``, ``similar``, ``copies`` and ``serve`` read the
index that ``index`` makes."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from videomatch.app import indexes
from videomatch.common import files, named
from videomatch.common.messages import count, unknown
from videomatch.data.walk import printable


def _library(*arguments: Any, **options: Any) -> Any:
    """A :class:`videomatch.folders.library.Library`: a list of the indexes does without, which loads torch."""
    return named.module("folders", "library").Library(*arguments, **options)


def index(options: argparse.Namespace) -> int:
    """Make or refresh the index of a folder; 1 where it holds nothing."""
    if options.folder is None:
        return _list(options.json)
    if options.remove:
        return _remove(str(options.folder))
    started = time.perf_counter()
    library = _library(options.folder, options.name, model=options.model, speech=options.speech, ocr=options.ocr)
    done = library.refresh()
    about, videos = indexes.about(library.place), library.videos()
    if options.json:
        made_with = {key: about[key] for key in ("model", "speech", "ocr")}
        made = {"index": library.name, **made_with, **asdict(done)}
        print(json.dumps(made, ensure_ascii=False, indent=1))
    else:
        hours = float(videos["duration"].fill_null(0).sum()) / 3600
        changes = f"{len(done.videos)} new, {len(done.removed)} removed, {done.known} known"
        heard = f", speech by {about['speech']}" if about["speech"] != "none" else ""
        heard += ", text in frames read" if about["ocr"] else ""
        print(
            f"index {library.name!r} of {library.folder}: {count(len(videos), 'video')}, {hours:.2f} h ({changes}), "
            f"pictures by {about['model']}{heard}; {time.perf_counter() - started:.0f} s"
        )
        for row in done.rejected:
            print(f"rejected: {row['path']}: {row['reason']}", file=sys.stderr)
        for note in done.notes:
            print(printable(note), file=sys.stderr)
    return int(not len(videos))


def _list(as_json: bool) -> int:
    found = indexes.known()
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    for name, of in {} if as_json else found.items():
        print(f"{name}  {of['folder']}  (pictures by {of['model']})")
    if not found and not as_json:
        print("no index yet: `videomatch index FOLDER` makes one")
    return 0


def _remove(given: str) -> int:
    """Remove an index, by its name or its folder; or one file from the indexes of the folders that it is in."""
    name = indexes.name_of(given)
    above = [] if name is not None else indexes.above(Path(given).expanduser())
    if name is None and not above:
        raise ValueError(unknown("index", given, indexes.known()))
    for library in (_library(name=each) for each in above):
        library.remove(given)
        print(f"{given} is removed from index {library.name!r}; the file stays")
    if name is not None:
        library = _library(name=name)
        library.remove()
        print(f"index {name!r} is removed; the videos of {library.folder} stay")
    return 0


def duplicates(options: argparse.Namespace) -> int:
    """Print the groups of files that hold the same film, write them as a list or a page, or delete what is marked."""
    if options.delete is not None:
        return _delete(options.delete)
    grouping = named.module("folders", "duplicates")
    libraries = [_library(folder) for folder in options.folders] or [_library(name=options.index)]
    for library in libraries if options.folders else ():
        sees = library.exists and indexes.about(library.place)["model"] != "none"
        library.model = None if sees else "none"  # grey pixels suffice: no network looks because of this
        library.refresh()
    share = grouping.SHARE if options.min_share is None else options.min_share
    answer = grouping.duplicates([library.index() for library in libraries], share)
    if options.csv:
        files.write_text(options.csv, named.module("folders", "duplicate_list").text(answer.groups))
        answer.notes.append(f"{options.csv}: mark rows in its column `delete`, then `--delete {options.csv}`")
    if options.page:
        files.write_text(options.page, named.module("folders", "duplicates_page").page(answer))
        answer.notes.append(f"page: {options.page}")
    if options.json:
        print(json.dumps(asdict(answer), ensure_ascii=False, indent=1))
        return 0
    for group in answer.groups:
        for row in group:
            print(_line(row))
        print()
    inside = sum(map(len, answer.groups))
    print(
        f"{count(len(answer.groups), 'group')} of {count(inside, 'file')}, of {answer.files} that were compared; "
        f"{grouping.freed(answer.groups) / 1e6:.1f} MB are in files that another one replaces; nothing was deleted",
        *map(printable, answer.notes),
        sep="\n",
        file=sys.stderr,
    )
    return 0


def _line(row: Any) -> str:
    """A row of the table."""
    about, seconds, size, rate, mega = named.module("folders", "duplicates_page").facts(row)
    shown = printable(row.path + (f"  ({about})" if about else ""))
    return f"{row.group:4d}  {row.suggestion:6}  {seconds:>9}  {size:>9}  {rate:>14}  {mega:>11}  {shown}"


def _delete(path: Path) -> int:
    deleted = named.module("folders", "duplicate_list").delete(path)
    for one in deleted:
        print(f"deleted {printable(str(one))}")
    print(f"{count(len(deleted), 'file')} deleted", file=sys.stderr)
    return 0
