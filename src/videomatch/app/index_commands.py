"""The commands for indexes of folders: ``index`` makes and refreshes one, and lists and removes them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from videomatch.app import indexes
from videomatch.common.messages import count, unknown


def index(options: argparse.Namespace) -> int:
    """Make or refresh the index of a folder; 1 where it holds nothing."""
    if options.folder is None:
        return _list(options.json)
    if options.remove:
        return _remove(str(options.folder))
    if not options.folder.is_dir():
        raise ValueError(f"{options.folder} is no folder: expected a folder of videos")
    from videomatch.app.eyes import BLIND, choose
    from videomatch.app.folder_index import FolderIndex  # with torch

    started, name, notes = time.perf_counter(), indexes.name_for(options.folder, options.name), list[str]()
    place, known = indexes.home() / name, indexes.known()
    recorded = known.get(name, {}).get("model", BLIND)
    model = choose(options.model, recorded, notes)
    opened = FolderIndex.open(place, options.folder, model)
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
    known = indexes.known()
    if as_json:
        print(json.dumps(known, ensure_ascii=False, indent=1))
    for name, about in {} if as_json else known.items():
        print(f"{name}  {about['folder']}  (pictures by {about['model']})")
    if not known and not as_json:
        print("no index yet: `videomatch index FOLDER` makes one")
    return 0


def _remove(given: str) -> int:
    """Remove an index, by its name or its folder."""
    known = indexes.known()
    watched = os.path.abspath(Path(given).expanduser())  # noqa: PTH100
    name = next((n for n, about in known.items() if n == given or about["folder"] == watched), None)
    if name is None:
        raise ValueError(unknown("index", given, known))
    shutil.rmtree(indexes.home() / name)
    print(f"index {name!r} is removed; the videos of {known[name]['folder']} stay")
    return 0
