"""Files that are written whole or not at all, texts that are read with errors that name them, locks, and processes that
end with the one that they work for.

What is being written has a hidden name with its writer's name (``.NAME.new.PID-HOST``) beside its place, and is
renamed when it is finished; :func:`sweep` removes what killed writers of this host left. Several hosts may share the
folders: no process of one is judged by the process ids of another.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import platform
import re
import select
import shutil
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import IO, Any, ClassVar, Self

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
#: exit status of a process that ends because the one it worked for has ended (as after SIGTERM)
ORPHANED = 143
#: exit status of a job that found the disk full
FULL = 28
#: this host, as part of a file's name
HOST = re.sub(r"[^\w-]", "_", platform.node()) or "localhost"
#: seconds between two signs of life of a lock's holder, and without one after which the lock is anyone's
BEAT, PATIENCE = 15.0, 120.0


def me() -> str:
    """The name of this process, which no process of another host has."""
    return f"{os.getpid()}-{HOST}"


def unfinished(path: Path) -> Path:
    """The hidden name beside ``path`` under which this process writes it."""
    return path.with_name(f".{path.name}.new.{me()}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write a file or folder under; it takes the place of ``path`` at the end or goes away after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = unfinished(path), path.with_name(f".{path.name}.old.{me()}")
    try:
        yield new
        if new.is_dir() and path.exists():
            path.rename(old)
        new.replace(path)
        remove(old)
    finally:
        remove(new)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all. A link at ``path`` is replaced, the file it leads to is left alone."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, sort_keys: bool = False) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=sort_keys) + "\n")


def text_of(path: Path, encoding: str = "utf-8-sig") -> str:
    """The text of a file that must be in one encoding."""
    try:
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error})") from error


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text; the error where there is none, too deep a one or too long a number names ``where``.
    Halves of surrogate pairs, which no table can hold, become U+FFFD."""
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            kept = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
            value = json.loads(kept.decode("utf-16", "replace"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON, or cut short ({error})") from error
    return value


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; nothing happens if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path, pattern: str = ".*.*.*", *, locked: bool = False) -> None:
    """Remove from a folder what processes of this host that have ended left unfinished: names that end with theirs.
    What was about to be replaced is put back. ``locked``: no other process writes there: all such names are left."""
    for left in list(folder.glob(pattern)):
        owner = left.suffix.removeprefix(".")
        if owner.partition("-")[0].isdigit() and (locked or _has_ended(owner)):
            name, _, kind = left.stem.rpartition(".")
            if kind == "old" and not (place := left.with_name(name.removeprefix("."))).exists():
                left.rename(place)
            remove(left)


def _has_ended(owner: str) -> bool:
    """Whether a process is known to have ended by its name; never of another host's."""
    process, _, host = owner.partition("-")
    return process.isdigit() and host in ("", HOST) and not alive(process)


class Lock:
    """A file that one process holds, until it is closed or the process ends; see :func:`lock`.

    Attributes:
        before: the name of a process that held it and has ended without closing it.
    """

    _held: ClassVar[set[Path]] = set()

    def __init__(self, path: Path, before: str | None) -> None:
        self.before, self._path, self._process = before, path.resolve(), os.getpid()
        self._file = _named(path)
        self._held.add(self._path)
        self._closed = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()
        atexit.register(self.close)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._file.fileno())  # of this file, even where another has its name now

    def close(self) -> None:
        """Let go of it."""
        if self._closed.is_set() or os.getpid() != self._process:  # a fork's copy holds nothing
            return
        self._closed.set()
        self._held.discard(self._path)
        atexit.unregister(self.close)
        with contextlib.suppress(OSError):
            if self._path.read_text() == me():
                self._path.unlink()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def is_abandoned(cls, path: Path, owner: str) -> bool:
        """Whether the holder of a lock has ended: it was of this host, or has given no sign of life for
        :data:`PATIENCE` seconds by the clock of the file system."""
        if _has_ended(owner) or (owner == me() and path.resolve() not in cls._held):  # its number is ours by now
            return True
        probe = unfinished(path)
        probe.touch()
        age = probe.stat().st_mtime - path.stat().st_mtime
        probe.unlink()
        return age > PATIENCE


def _named(path: Path) -> IO[str]:
    """Make a file with the name of this process in it, whole or not at all; ``FileExistsError`` where there is one."""
    new = unfinished(path.with_name(f"{path.name}.{threading.get_ident()}"))
    with new.open("w") as file:
        try:
            file.write(me())
            file.flush()
            os.link(new, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            with path.open("x") as plain:  # a file system without links
                plain.write(me())
        finally:
            new.unlink()
    return path.open()


def lock(path: Path) -> Lock | None:
    """Hold a file for this process alone; None where another process, of any host, holds it.

    It is a file of the holder's name, which is touched again and again: no other lock works on all file systems that
    hosts share.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Lock(path, None)
    except FileExistsError:
        pass
    try:
        owner = path.read_text()
        if not Lock.is_abandoned(path, owner):
            return None
        taken = unfinished(path)
        path.rename(taken)  # of several processes that come to this, one can
        if taken.read_text() == owner:
            taken.unlink()
            return Lock(path, owner or None)
        os.link(taken, path)  # another process has taken it over in between
        taken.unlink()
    except (FileNotFoundError, FileExistsError):
        pass
    return None


def alive(process: int | str) -> bool:
    """Whether a process of that id runs on this machine. One that has ended does not, though it may stay in the table
    of processes for good: in a container whose first process waits for nobody."""
    if not str(process).isdigit():
        return False
    try:
        watched = os.pidfd_open(int(process))
    except (OSError, OverflowError):
        return False
    try:
        return not _ended(watched, 0)
    finally:
        os.close(watched)


def _ended(pidfd: int, milliseconds: int | None) -> bool:
    """Whether a process ends before a time is up (None: wait for it): a pidfd becomes readable then."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(milliseconds))


def is_full(error: BaseException) -> bool:
    """Whether an error, of Python or of another library, tells of a full disk."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in numbers or any(os.strerror(number) in str(error) for number in numbers)


def end_with(process: int) -> None:
    """End this process (status 143) as soon as another one of this machine has ended, killed or not. The kernel can do
    this for a parent only, which may be a shell that outlives the process that counts."""
    try:
        watched = os.pidfd_open(process)
    except ProcessLookupError:
        os._exit(ORPHANED)

    def watch() -> None:
        _ended(watched, None)
        os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()


def workers(processes: int) -> futures.ProcessPoolExecutor:
    """A pool of spawned processes (a fork of a process with threads may deadlock) that stop when this one is killed."""
    import multiprocessing  # here: it costs every job's start, and few jobs need it

    return futures.ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), end_with, (os.getpid(),))


def cancel_timers_at_the_end() -> None:
    """Cancel timers that still wait when the main thread ends; the interpreter would wait for them."""

    def cancel() -> None:
        threading.main_thread().join()
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.cancel()

    threading.Thread(target=cancel, daemon=True).start()
