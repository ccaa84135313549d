"""Where the indexes of the user's folders are, which one is meant, and the command ``index``.

Little is imported: each command asks first.

An index is a folder with ``index.json`` below ``indexes/`` in the user's own data directory (``VIDEOMATCH_HOME``
replaces it); its name is that of the folder of videos, or given.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from videomatch.common import files, named
from videomatch.common.messages import count, unknown

#: written last, so a folder without it is no index yet
ABOUT = "index.json"


def home() -> Path:
    """The folder of all indexes."""
    given = os.environ.get("VIDEOMATCH_HOME")
    return (Path(given).expanduser() if given else platformdirs.user_data_path("videomatch")) / "indexes"


def known() -> dict[str, dict[str, Any]]:
    """Name -> ``folder``, ``model`` … of all indexes."""
    return {path.parent.name: about(path.parent) for path in sorted(home().glob(f"[!.]*/{ABOUT}"))}


def about(index: Path) -> dict[str, Any]:
    """What an index says of itself."""
    return files.parse_json(files.text_of(index / ABOUT), str(index / ABOUT))


def name_for(folder: Path, name: str | None) -> str:
    """The name of the index of a folder: the one that it has, or ``name``, or a new one after the folder's own."""
    indexes, watched = known(), os.path.abspath(folder)  # noqa: PTH100  (a link keeps its own name)
    of_folder = [each for each, of in indexes.items() if of["folder"] == watched]
    if name is None:
        if of_folder:
            return of_folder[0]
        base = re.sub(r"[^\w.-]+", "-", Path(watched).name).strip("-.") or "videos"
        return next(n for n in (base, *(f"{base}-{k}" for k in range(2, len(indexes) + 3))) if n not in indexes)
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise ValueError(f"{name!r} is no name of an index: expected letters, digits, '_', '-' and '.'")
    if name in indexes and indexes[name]["folder"] != watched:
        raise ValueError(f"index {name!r} is of {indexes[name]['folder']}: choose another name")
    return name


def place(name: str | None) -> Path:
    """The folder of an index by name; without one that of the only index, or of the folder one is in."""
    indexes = known()
    if name is not None:
        if name not in indexes:
            raise ValueError(unknown("index", name, indexes))
        return home() / name
    here = Path.cwd()
    inside = [n for n, of in indexes.items() if here.is_relative_to(of["folder"])]
    chosen = inside if len(inside) == 1 else list(indexes)
    if len(chosen) != 1:
        advice = f"choose one by --index: {', '.join(indexes)}" if indexes else "`videomatch index FOLDER` makes one"
        raise ValueError(f"{len(indexes) or 'no'} indexes of folders: {advice}")
    return home() / chosen[0]


def chosen(options: Any) -> Path | None:
    """The index that a command line means; None where it means the parameters of a project."""
    in_project = options.configfile or options.config or options.dataset or Path("params.yaml").is_file()
    return None if options.index is None and in_project else place(options.index)


def server_file(index: Path) -> Path:
    """The file of a server of an index (:mod:`videomatch.app.client`)."""
    return index / "server.json"


def write(index: Path, values: dict[str, Any]) -> None:
    """Write what :func:`about` reads."""
    files.write_json(index / ABOUT, values)


def index(options: argparse.Namespace) -> int:
    """Make or refresh the index of a folder; 1 where it holds nothing."""
    if options.folder is None:
        return _list(options.json)
    if options.remove:
        return _remove(str(options.folder))
    if not options.folder.is_dir():
        raise ValueError(f"{options.folder} is no folder: expected a folder of videos")
    from videomatch.app._eyes import BLIND, choose

    started, name, notes = time.perf_counter(), name_for(options.folder, options.name), list[str]()
    recorded = known().get(name, {}).get("model", BLIND)
    model = choose(options.model, recorded, notes)
    opened = named.module("app", "folder_index").FolderIndex.open(home() / name, options.folder, model)
    done = opened.refresh(os.cpu_count() or 1)
    done.notes[:0] = notes
    videos = opened.videos()
    if options.json:
        print(json.dumps({"index": name, "model": opened.about["model"], **asdict(done)}, ensure_ascii=False, indent=1))
    else:
        hours = float(videos["duration"].fill_null(0).sum()) / 3600
        changes = f"{len(done.videos)} new, {len(done.removed)} removed, {done.known} known"
        print(
            f"index {name!r} of {opened.watched}: {count(len(videos), 'video')}, {hours:.2f} h ({changes}), "
            f"pictures by {opened.about['model']}; {time.perf_counter() - started:.0f} s"
        )
        for row in done.rejected:
            print(f"rejected: {row['path']}: {row['reason']}", file=sys.stderr)
        for note in done.notes:
            print(note, file=sys.stderr)
    return int(not len(videos))


def _list(as_json: bool) -> int:
    found = known()
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    for name, of in {} if as_json else found.items():
        print(f"{name}  {of['folder']}  (pictures by {of['model']})")
    if not found and not as_json:
        print("no index yet: `videomatch index FOLDER` makes one")
    return 0


def _remove(given: str) -> int:
    """Remove an index, by its name or its folder."""
    found = known()
    watched = os.path.abspath(Path(given).expanduser())  # noqa: PTH100
    name = next((n for n, of in found.items() if n == given or of["folder"] == watched), None)
    if name is None:
        raise ValueError(unknown("index", given, found))
    shutil.rmtree(home() / name)
    print(f"index {name!r} is removed; the videos of {found[name]['folder']} stay")
    return 0
