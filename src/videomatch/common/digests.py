"""Digests of values, files and folders.

Those of files are remembered: in a project (a folder with ``params.yaml``) below ``.scratch/``, elsewhere in the user's
own cache. A queued experiment, for which DVC makes a copy of the project below ``.dvc/``, remembers in the project: to
read its code again would take ten seconds. Each host has a cache of its own: inodes and clocks are a host's, and not
every file system that hosts share has locks that SQLite can use. A cache that is a link, or that others could write to,
is not used.
"""

import functools
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from stat import S_ISDIR, S_ISREG, S_IWOTH
from typing import Any

from videomatch.common import files

#: what is local to a folder of work
SCRATCH = Path(".scratch")
#: the name of this host's cache
MEMORY = f"digests.{files.HOST}.sqlite"


def own(path: Path) -> bool:
    """Whether a file or folder belongs to this user, and no other may write to it; links do not."""
    stat = path.lstat()
    plain = S_ISREG(stat.st_mode) or S_ISDIR(stat.st_mode)
    return plain and stat.st_uid == os.getuid() and not stat.st_mode & S_IWOTH


def dumps(value: Any) -> str:
    """JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def digest(value: Any) -> str:
    """sha256 of a JSON value."""
    return hashlib.sha256(dumps(value).encode("utf-8", "surrogateescape")).hexdigest()


def read_digest(path: Path) -> str:
    """sha256 of a file as it is on the disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file, remembered by its size, times and inode so that an untouched file is read once."""
    stat = path.stat()
    key = f"sha256 {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
    # a file written to within the clock's resolution of now could change again under the same times
    settled = time.time_ns() - stat.st_mtime_ns > 20_000_000
    name = os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")
    return cached(name, key, lambda: read_digest(path)) if settled else read_digest(path)


def cached(name: str, key: str, find: Callable[[], Any]) -> Any:
    """The JSON value of ``find()``, remembered under ``name`` as long as ``key`` stays the same."""
    known = _query("SELECT sha256 FROM digests WHERE path = ? AND key = ?", name, key)
    if known is not None:
        return json.loads(known[0])
    value = find()
    _query("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", name, key, dumps(value))
    return value


@functools.cache
def _database(process: int, thread: int) -> sqlite3.Connection:
    """This thread's connection to the cache of digests (SQLite's connections do not cross threads or forks)."""
    import platformdirs  # here: a client of a running server imports the standard library only

    if Path("params.yaml").is_file():
        here = Path.cwd()
        copied = (p for p in here.parents if p / ".dvc" in here.parents and (p / "params.yaml").is_file())
        folder = next(copied, Path()) / SCRATCH
        folder.mkdir(exist_ok=True)
    else:
        folder = platformdirs.user_cache_path("videomatch")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / MEMORY
    if not own(folder) or ((path.is_symlink() or path.exists()) and not own(path)):
        raise PermissionError(f"{path} or its folder is a link, or others can write to it")
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, key TEXT, sha256 TEXT)")
    return connection


def _query(statement: str, *values: str) -> Any:
    try:
        return _database(os.getpid(), threading.get_ident()).execute(statement, values).fetchone()
    except (sqlite3.Error, OSError):  # a convenience: a file system without locks, or to read only, costs time
        return None


def tree_digest(folder: Path) -> str:
    """Digest of all files below a folder (names and content), or of one file. Links to folders are followed, each real
    folder once. Hidden files do not count; one that cannot be read counts by its name."""
    if folder.is_file():
        return file_digest(folder)
    found: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        stat = Path(place).stat()
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for path in (Path(place) / f for f in names if not f.startswith(".")):
            try:
                content = file_digest(path) if path.is_file() else "no file"
            except OSError:
                content = "unreadable"
            found.append((path.relative_to(folder).as_posix(), content))
    return digest(sorted(found))
