"""A fork server: one process imports what takes seconds (torch, transformers) and forks for every job of a workflow, or
on a cluster for the jobs of one allocation, in which it lives.

``python -m videomatch STAGE …`` connects to a socket below ``.scratch``, sends its arguments, environment and standard
streams there, and ends as the forked child ends. The first job that needs torch starts the server; it and others wait
for it. Without a server (by hand) the job runs in its own process. Nothing of this
package but :mod:`videomatch.common` is imported before the fork, so a job always runs the code as it is on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from videomatch.common import files, named

#: what is imported ahead. A fork takes no threads along, so none may be at work in here: polars starts its pool with
#: the first query, and what it starts at once only waits (for memory to give back; it lets go of its locks for a fork)
MODULES = (
    "numpy",
    "polars",
    "scipy.stats",
    "threadpoolctl",
    "torch",
    "safetensors.torch",
    "transformers.modeling_utils",
    "transformers.models.bert.modeling_bert",
)
#: seconds without a job after which the server ends
IDLE = 600
#: seconds after which a job waits no longer for the server, and imports for itself
PATIENCE = 120


def workflow() -> int | None:
    """The process id of the Snakemake that started this process, where that is on this machine; it may have ended."""
    owner, _, host = os.environ.get("VIDEOMATCH_WORKFLOW", "").partition("-")
    return int(owner) if host == files.HOST and owner.isdigit() else None


def address() -> str | None:
    """The socket of this workflow's server, relative to the project's folder; None outside of a workflow."""
    owner = workflow()
    return None if owner is None or not files.alive(owner) else f".scratch/fork_server.{owner}-{files.HOST}"


def delegate(argv: list[str]) -> int | None:
    """Let the server run a job; its exit status, or None where there is no server."""
    path = address()
    if path is None or not Path(path).exists():
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            link.connect(path)
        except OSError:
            return None
        request = json.dumps({"argv": argv, "environment": dict(os.environ), "cwd": str(Path.cwd())}).encode()
        socket.send_fds(link, [b"\n"], [0, 1, 2])
        link.sendall(request + b"\n")
        status = link.recv(1)
    return status[0] if status else 137  # the child was killed before it could answer


def start(*modules: str) -> None:
    """Start the server of this workflow (which imports ``modules``, or :data:`MODULES`) unless there is one, and wait
    until it listens, has ended, or takes too long."""
    path = address()
    if path is None:
        return
    owner, starting = _owner(path), Path(path).with_stem("fork_server.starting")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(starting, os.O_CREAT | os.O_EXCL))
        command = [sys.executable, "-m", "videomatch.pipeline.fork_server", path, *modules]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # every child sets its own number
        silent = subprocess.DEVNULL
        server = subprocess.Popen(
            command, env=environment, stdin=silent, stdout=silent, stderr=silent, start_new_session=True
        )
        threading.Thread(target=lambda: server.wait() and starting.unlink(missing_ok=True), daemon=True).start()
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists() and starting.exists() and time.monotonic() < deadline:
        if not files.alive(owner):
            sys.exit(files.ORPHANED)
        time.sleep(0.02)


def serve(path: str, *, job: str = "videomatch.pipeline.run_job", modules: tuple[str, ...] = MODULES) -> None:
    """Import ``modules``, listen, and fork for each request a child that runs ``job``, as long as the workflow runs.
    The socket appears when all is imported; its name ends with the workflow's (:func:`files.me`)."""
    named.import_libraries(*modules)
    owner = _owner(path)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are waited for by the processes that asked for them
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        new = Path(path).with_stem("fork_server.new")
        listener.bind(str(new))
        new.chmod(0o600)
        listener.listen(64)
        new.rename(path)  # it appears when it can be connected to
        listener.settimeout(0.2)
        last = time.monotonic()
        while files.alive(owner) and time.monotonic() - last < IDLE:
            try:
                link, _ = listener.accept()
            except TimeoutError:
                continue
            last = time.monotonic()
            if os.fork() == 0:
                listener.close()
                _child(link, job)
            link.close()
    for left in (Path(path), Path(path).with_stem("fork_server.starting")):
        left.unlink(missing_ok=True)


def _owner(path: str) -> str:
    """The process id in a socket's name."""
    return path.rpartition(".")[2].partition("-")[0]


def _child(link: socket.socket, job: str) -> None:
    """Take the streams, folder and environment of the process that asked, and run its job; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, streams, _, _ = socket.recv_fds(link, 1, 3)
        request = json.loads(link.makefile("rb").readline())
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        threading.Thread(target=_end_with, args=(link,), daemon=True).start()
        sys.argv = ["videomatch", *request["argv"]]
        runpy.run_module(job, run_name="__main__", alter_sys=True)
        status = 0
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


def _end_with(link: socket.socket) -> None:
    """End with the process that asked: it sends nothing more, so the next thing received is the end of its stream."""
    with contextlib.suppress(OSError):
        link.recv(1)
    os._exit(files.ORPHANED)


if __name__ == "__main__":
    serve(sys.argv[1], modules=tuple(sys.argv[2:]) or MODULES)
