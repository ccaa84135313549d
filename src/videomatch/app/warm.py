"""A process that stays warm, and how to ask it: a private socket below ``.scratch/``, a line of JSON each way.

The libraries behind an answer take seconds to load, the answer itself milliseconds. So a question is put to whoever
listens at the socket of these parameters: ``videomatch serve``, or a process that the first question leaves behind and
that ends :data:`IDLE` seconds after the last. A question says what state the parameters and the source are in; whoever
was started with another one ends, and the next takes its place. Only the standard library is imported here until
somebody answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(".scratch/door")
#: seconds without a question after which a process that was left behind ends
IDLE = 600
#: bytes of one question, and seconds that somebody may take to say it
LARGEST, SLOWEST = 1 << 16, 5.0
#: exit status of a process that found another one listening
BUSY = 3
PACKAGE = Path(__file__).parents[1]

Reply = dict[str, Any]


def address(files: Sequence[Path], values: Sequence[str]) -> Path:
    """The socket of some parameters (files beside params.yaml, and values), relative to the project's folder."""
    named = json.dumps([[str(f) for f in files], list(values)])
    return FOLDER / hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def state_of(files: Sequence[Path]) -> str:
    """What the parameters say, and which source lies there."""
    said = hashlib.sha256()
    for file in (Path("params.yaml"), *files):
        said.update(file.read_bytes())
    for path in sorted(PACKAGE.rglob("*.py")):
        stat = path.stat()
        said.update(f"{path.relative_to(PACKAGE)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return said.hexdigest()


def ask(path: Path, question: dict[str, Any]) -> Reply | None:
    """The reply of whoever listens; None where nobody does.

    Raises:
        ConnectionError: it ended without a word.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            link.connect(str(path))
        except OSError:
            return None
        try:
            link.sendall(json.dumps(question).encode() + b"\n")
            with link.makefile("rb") as stream:
                line = stream.readline()
        except (ConnectionResetError, BrokenPipeError):
            return None  # it was about to end, and never read the question
    if not line:
        raise ConnectionError(f"the process behind {path} ended without a word; its log: {path.with_suffix('.log')}")
    return json.loads(line)


def ask_or_start(
    path: Path, question: dict[str, Any], files: Sequence[Path], values: Sequence[str]
) -> tuple[Reply, bool]:
    """The reply, from a process started for it where nobody listens; and whether that was so.

    Raises:
        ConnectionError: the process could not start.
    """
    question = {**question, "state": state_of(files)}
    reply = ask(path, question)
    if reply is not None and "stale" not in reply:
        return reply, False
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    given = json.dumps({"files": [str(f) for f in files], "values": list(values)})
    command = [sys.executable, "-m", "videomatch.app.warm", str(path), given]
    helper, tries = _started(command, path), 0
    while True:
        ended = helper.poll() is not None  # looked at before asking: another's helper may have been faster
        if ended and helper.returncode == BUSY and tries < 100:  # one of another state, that is about to end
            helper, ended, tries = _started(command, path), False, tries + 1
        reply = ask(path, question)
        if reply is not None and "stale" not in reply:
            return reply, True
        if ended:
            raise ConnectionError(f"no process to answer could be started; its log: {path.with_suffix('.log')}")
        time.sleep(0.02)


def _started(command: Sequence[str], path: Path) -> subprocess.Popen[bytes]:
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    silent = subprocess.DEVNULL
    with path.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdin=silent, stdout=log, stderr=log, start_new_session=True, env=environment)


@contextlib.contextmanager
def listening(path: Path):
    """The listening socket of some parameters, this process's alone; None where another process has it."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(path)
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        path.unlink(missing_ok=True)  # of a process that was killed: its lock would still be held otherwise
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.bind(str(path))
            path.chmod(0o600)
            door.listen(16)
            try:
                yield door
            finally:
                path.unlink(missing_ok=True)


def answer_all(
    door: socket.socket, reply: Callable[[dict[str, Any]], Reply], state: str, idle: float | None = IDLE
) -> None:
    """Answer one question after the other until one says ``end`` or comes from another ``state``, a reply says
    ``ends``, or none comes for ``idle`` seconds."""
    door.settimeout(idle)
    while True:
        try:
            link, _ = door.accept()
        except TimeoutError:
            return
        with link, contextlib.suppress(OSError):  # who asked may be gone
            link.settimeout(SLOWEST)
            with link.makefile("rb") as stream:
                line = stream.readline(LARGEST)
            if not line.endswith(b"\n"):
                continue
            question = json.loads(line)
            link.settimeout(None)
            if question.get("command") == "end":
                said: Reply = {"ends": True}
            elif question.pop("state", None) != state:
                said = {"stale": True, "ends": True}
            else:
                said = reply(question)
            link.sendall(json.dumps(said).encode() + b"\n")
            if said.get("ends"):
                return


def _sweep(path: Path) -> None:
    """Remove what processes of other parameters or older source left, unless they still run."""
    for lock in FOLDER.glob("*.lock"):
        if lock.stem == path.name:
            continue
        with contextlib.suppress(OSError), lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in (lock.with_suffix(""), lock.with_suffix(".log"), lock):
                left.unlink(missing_ok=True)


def main(argv: Sequence[str]) -> int:
    """What is left behind: ``python -m videomatch.app.warm SOCKET {"files": […], "values": […]}``."""
    path, given = Path(argv[0]), json.loads(argv[1])
    with listening(path) as door:
        if door is None:
            time.sleep(0.1)
            return BUSY
        files = [Path(f) for f in given["files"]]
        state = state_of(files)  # before anything of it is read
        desk = importlib.import_module("videomatch.app.service")
        made = desk.opened(files, given["values"])
        answer_all(door, made.reply, state)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
