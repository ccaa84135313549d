"""Where the indexes of the user's folders are, and which one is meant.

Little is imported: each command asks first.

An index is a folder with ``index.json`` below ``indexes/`` in the user's own data directory (``VIDEOMATCH_HOME``
replaces it); its name is that of the folder of videos, or given.
"""

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import platformdirs

from videomatch.common import files
from videomatch.common.messages import unknown

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
    """What an index says of itself: ``folder``, ``model``, ``speech`` and ``ocr``."""
    said: Any = None
    with contextlib.suppress(ValueError):
        said = files.parse_json(files.text_of(index / ABOUT), "")
    if not isinstance(said, dict) or not all(isinstance(said.get(name), str) for name in ("folder", "model")):
        raise ValueError(f"{index / ABOUT} is damaged: delete {index} and index its folder again")
    return said


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
    inside = above(Path.cwd())
    chosen = inside if len(inside) == 1 else list(indexes)
    if len(chosen) != 1:
        advice = f"choose one by --index: {', '.join(indexes)}" if indexes else "`videomatch index FOLDER` makes one"
        raise ValueError(f"{len(indexes) or 'no'} indexes of folders: {advice}")
    return home() / chosen[0]


def above(path: Path) -> list[str]:
    """The names of the indexes of the folders that a path is in."""
    place = Path(os.path.abspath(path))  # noqa: PTH100  (a link keeps its own name)
    return [name for name, of in known().items() if place.is_relative_to(of["folder"])]


def chosen(options: Any) -> Path | None:
    """The index that a command line means; None where it means the parameters of a project."""
    in_project = options.configfile or options.config or options.dataset or Path("params.yaml").is_file()
    return None if options.index is None and in_project else place(options.index)


def server_file(index: Path) -> Path:
    """The file of a server of an index (:mod:`videomatch.app.client`)."""
    return index / "server.json"


def name_of(given: str) -> str | None:
    """The name of an index by itself or by its folder; None where there is none."""
    watched = os.path.abspath(Path(given).expanduser())  # noqa: PTH100
    return next((name for name, of in known().items() if name == given or of["folder"] == watched), None)
