"""`snakemake` and `dvc` for tests, without the second that each takes to import: forked from a process that has.

:func:`folder` has a program of either name, to be put first on the PATH. It runs what the real one runs, with the same
arguments, streams, folder and environment (so the source that PYTHONPATH names), and ends with the same status. Killing
it ends the engine, no other signal reaches it: who sends signals starts the real one. So does whoever asks before the
libraries are imported, or after that process has ended, as it does with the one that called :func:`folder`.
"""

import atexit
import functools
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from paths import ROOT

#: program -> where its main function is
ENGINES = {"snakemake": "snakemake.cli", "dvc": "dvc.cli"}
#: what else the two import, of libraries alone, until they have read the rules
MODULES = (
    *("snakemake.executors.local", "snakemake.executors.dryrun", "snakemake.report.html_reporter"),
    *("dvc.cli.parser", "dvc.repo", "dvc.repo.open_repo", "polars", "requests", "scipy.sparse", "smart_open"),
)
CLIENT = """#!{python} -IS
import json, os, socket, sys

link, program = socket.socket(socket.AF_UNIX), os.path.basename(sys.argv[0])
try:
    link.connect({socket!r})
except OSError:
    os.execv(os.path.join(os.path.dirname({python!r}), program), sys.argv)
request = {{"argv": [program, *sys.argv[1:]], "environment": dict(os.environ), "cwd": os.getcwd()}}
socket.send_fds(link, [b"\\n"], [0, 1, 2])
link.sendall(json.dumps(request).encode() + b"\\n")
sys.exit(ord(link.recv(1) or b"\\x89"))
"""


@functools.cache
def folder() -> str:
    """The folder of the two programs."""
    from videomatch.common import files

    place = Path(tempfile.mkdtemp(prefix="engines-"))
    listens = place / f"fork_server.{files.me()}"
    for name in ENGINES:
        (place / name).write_text(CLIENT.format(python=sys.executable, socket=str(listens)))
        (place / name).chmod(0o700)
    # whoever is forked has the PYTHONPATH of its caller, and what else is on the path of any process
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
    environment["OMP_NUM_THREADS"] = "1"
    silent = subprocess.DEVNULL
    command = [sys.executable, __file__, str(listens)]
    subprocess.Popen(command, env=environment, stdin=silent, stdout=silent, stderr=silent)
    return str(place)


def main(first: str, *others: str) -> int:
    """Import, listen and fork; in a fork, be the engine that is asked for."""
    if first not in ENGINES:
        sys.path.insert(1, str(ROOT / "src"))
        from videomatch.pipeline import fork_server

        try:
            fork_server.serve(first, job="engines", modules=(*ENGINES.values(), *MODULES))
        finally:
            shutil.rmtree(Path(first).parent)
        return 0
    for name in [name for name in sys.modules if name.partition(".")[0] == "videomatch"]:
        del sys.modules[name]
    sys.path[:2] = [str(Path(sys.executable).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = [first, *others]
    try:
        return importlib.import_module(ENGINES[first]).main()
    except SystemExit as end:
        if isinstance(end.code, str):  # the interpreter would show it
            print(end.code, file=sys.stderr)
        raise
    finally:
        atexit._run_exitfuncs()  # as at the end of a process that is no fork


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
