"""Start jobs fast: one process a workflow imports what takes seconds (torch, transformers) and forks for every job.

``python -m videomatch STAGE …`` first asks for such a process at a socket below ``.scratch``, sends its arguments,
environment and standard streams there, and ends as the forked child ends. The first job that needs torch starts the
nursery and waits for it, as do those beside it: torch is imported once. Where nobody answers (before that, on another
machine, a stage called by hand) the job runs in its own process as ever. Nothing of this package is imported before the
fork, so a job always runs the code that lies there.

The nursery ends with its workflow, a child with the process that asked for it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

#: what is imported ahead. A fork takes no threads along, so none may be at work in here: polars starts its pool with
#: the first query, and what it starts at once only waits (for memory to give back; it lets go of its locks for a fork)
MODULES = (
    "numpy",
    "polars",
    "scipy.stats",
    "threadpoolctl",
    "torch",
    "torch._dynamo",
    "safetensors.torch",
    "transformers.modeling_utils",
    "transformers.models.bert.modeling_bert",
)
#: seconds without a job after which the nursery ends
IDLE = 600
#: seconds after which a job waits no longer for a nursery, and imports for itself
PATIENCE = 120


def address() -> str | None:
    """The socket of this workflow's nursery, relative to the project's folder; None outside of a workflow."""
    host, _, owner = os.environ.get("VIDEOMATCH_WORKFLOW", "").rpartition(":")
    return f".scratch/nursery.{owner}" if host == platform.node() and alive(owner) else None


def alive(process: str) -> bool:
    """Whether a process of that number runs."""
    return process.isdigit() and Path(f"/proc/{process}").exists()


def delegate(argv: list[str]) -> int | None:
    """Have the nursery run a job; its exit status, or None where there is no nursery."""
    path = address()
    if path is None or not Path(path).exists():
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            link.connect(path)
        except OSError:
            return None
        request = json.dumps({"argv": argv, "environment": dict(os.environ), "cwd": str(Path.cwd())}).encode()
        socket.send_fds(link, [len(request).to_bytes(4, "big")], [0, 1, 2])
        link.sendall(request)
        status = link.recv(1)
    return status[0] if status else 137  # no word: the child was killed


def sweep(scratch: Path) -> None:
    """Remove what nurseries that were killed left."""
    for left in scratch.glob("nursery.*"):
        if not alive(left.name.split(".")[1]):
            left.unlink(missing_ok=True)


def begin(*modules: str) -> None:
    """Start the nursery of this workflow unless somebody has, and wait until it listens, or has ended, or has taken too
    long.

    Args:
        modules: what it imports; :data:`MODULES` if none are named.
    """
    path = address()
    if path is None:
        return
    owner, starting = path.rpartition(".")[2], Path(f"{path}.starting")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(starting, os.O_CREAT | os.O_EXCL))
        command = [sys.executable, "-m", "videomatch.pipeline.preload", path, *modules]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # every child sets its own number
        silent = subprocess.DEVNULL
        nursery = subprocess.Popen(
            command, env=environment, stdin=silent, stdout=silent, stderr=silent, start_new_session=True
        )
        threading.Thread(target=lambda: nursery.wait() and starting.unlink(missing_ok=True), daemon=True).start()
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists() and starting.exists() and time.monotonic() < deadline:
        if not alive(owner):
            sys.exit(143)  # who would wait for the job is gone
        time.sleep(0.02)


def serve(
    path: str, owner: str, run: Callable[[list[str]], int] | None = None, modules: tuple[str, ...] = MODULES
) -> None:
    """Import, listen, and fork for whoever asks, as long as the workflow lives.

    Args:
        path: of the socket, which appears when all is imported.
        owner: process number of the workflow.
        run: what a child does with its arguments; by default the glue's ``main``.
        modules: imported before listening.
    """
    for name in modules:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children but who asked for them
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(f"{path}.new")
        Path(f"{path}.new").chmod(0o600)
        door.listen(64)
        Path(f"{path}.new").rename(path)  # who sees it finds somebody listening
        door.settimeout(0.2)
        last = time.monotonic()
        while alive(owner) and time.monotonic() - last < IDLE:
            try:
                link, _ = door.accept()
            except TimeoutError:
                continue
            last = time.monotonic()
            if os.fork() == 0:
                door.close()
                _child(link, run)
            link.close()
    for left in (Path(path), Path(f"{path}.starting")):
        left.unlink(missing_ok=True)


def _child(link: socket.socket, run: Callable[[list[str]], int] | None) -> None:
    """Become the process that asked: its streams, folder and environment; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        size, streams, _, _ = socket.recv_fds(link, 4, 3)
        request = json.loads(_read(link, int.from_bytes(size, "big")))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        threading.Thread(target=_end_with, args=(link,), daemon=True).start()
        sys.argv = ["videomatch", *request["argv"]]
        if run is None:
            run = importlib.import_module("videomatch.pipeline.job").main
        assert run is not None
        status = run(request["argv"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except Exception:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
            link.sendall(bytes([status & 255]))
        os._exit(status)


def _read(link: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = link.recv(size - len(found))
        if not more:
            raise ConnectionError("who asked for the job is gone")
        found += more
    return found


def _end_with(link: socket.socket) -> None:
    """End when the process that asked has ended: it says nothing more, so the next thing read is its end."""
    with contextlib.suppress(OSError):
        link.recv(1)
    os._exit(143)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[1].rpartition(".")[2], modules=tuple(sys.argv[2:]) or MODULES)
