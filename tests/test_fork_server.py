"""Jobs that are forked from a process which has imported everything already."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import engines
from videomatch.common import files
from videomatch.pipeline import fork_server

#: a job that says where it runs; its argument says how it ends
JOB = """
import json, os, sys, time

argv = sys.argv[1:]
ready = "fractions" in sys.modules
print(json.dumps({"cwd": os.getcwd(), "word": os.environ.get("WORD"), "argv": argv, "ready": ready}))
sys.stdout.flush()
print("a complaint", file=sys.stderr)
if argv[0] == "sleep":
    open("started", "w").write(str(os.getpid()))
    time.sleep(60)
if argv[0] == "die":
    os.kill(os.getpid(), 9)
if argv[0] == "raise":
    raise ValueError("odd")
sys.exit(int(argv[0]))
"""
SERVE = """
import sys
from videomatch.pipeline.fork_server import serve
serve(sys.argv[1], job="ajob", modules=("fractions",))
"""
ASK = "import sys; from videomatch.pipeline import fork_server; sys.exit(fork_server.delegate(sys.argv[1:]))"


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds, at most half a minute."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path):
    """A project's folder with a server at work."""
    (tmp_path / ".scratch").mkdir()
    (tmp_path / "ajob.py").write_text(JOB)
    process = subprocess.Popen([sys.executable, "-c", SERVE, f".scratch/fork_server.{files.me()}"], cwd=tmp_path)
    until(lambda: list((tmp_path / ".scratch").glob("fork_server.*")))
    yield tmp_path
    process.kill()
    process.wait()


def ask(folder: Path, *argv: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "VIDEOMATCH_WORKFLOW": files.me(), "WORD": "spoken"}
    return subprocess.Popen(
        [sys.executable, "-c", ASK, *argv],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_job_has_the_streams_folder_and_environment_of_who_asked(folder: Path):
    process = ask(folder, "7", "ü")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 7
    assert json.loads(out) == {"cwd": str(folder), "word": "spoken", "argv": ["7", "ü"], "ready": True}
    assert err == "a complaint\n"


def test_jobs_run_side_by_side_and_fail_alone(folder: Path):
    jobs = {how: ask(folder, how) for how in ("0", "3", "die", "raise")}
    statuses = {how: job.wait(timeout=30) for how, job in jobs.items()}
    assert statuses == {"0": 0, "3": 3, "die": 137, "raise": 1}


def test_a_job_ends_with_who_asked(folder: Path):
    process = ask(folder, "sleep")
    until(lambda: (folder / "started").exists() and (folder / "started").read_text())
    child = (folder / "started").read_text()
    process.kill()
    process.wait()
    until(lambda: not files.alive(child))


def test_without_a_fork_server_or_a_workflow_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIDEOMATCH_WORKFLOW", raising=False)
    assert fork_server.address() is None and fork_server.delegate(["x"]) is None
    monkeypatch.setenv("VIDEOMATCH_WORKFLOW", f"{os.getpid()}-elsewhere")
    assert fork_server.address() is None
    monkeypatch.setenv("VIDEOMATCH_WORKFLOW", files.me())
    assert fork_server.delegate(["x"]) is None
    (tmp_path / ".scratch").mkdir()
    (tmp_path / f".scratch/fork_server.{files.me()}").touch()  # left by a fork_server that was killed
    assert fork_server.delegate(["x"]) is None


def test_those_who_need_a_fork_server_start_one_together(tmp_path: Path):
    (tmp_path / ".scratch").mkdir()
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    environment = {**os.environ, "VIDEOMATCH_WORKFLOW": f"{owner.pid}-{files.HOST}"}
    begin = "import sys; from videomatch.pipeline import fork_server; fork_server.start(*sys.argv[1:]); "
    wait = begin + "print(fork_server.delegate(['no', 'stage']))"
    command = [sys.executable, "-c", wait, "fractions"]
    jobs = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = [job.communicate(timeout=60)[0].split()[-1] for job in jobs]
    assert answers == [b"2"] * 3, "one process ran the glue for all of them: it knows no such arguments"
    owner.kill()
    owner.wait()
    until(lambda: not list((tmp_path / ".scratch").iterdir()))  # it ends with its workflow, and nothing is left


def test_a_fork_server_that_cannot_start_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".scratch").mkdir()
    monkeypatch.setenv("VIDEOMATCH_WORKFLOW", files.me())
    fork_server.start("no_such_module")
    assert fork_server.delegate(["x"]) is None
    assert not list((tmp_path / ".scratch").iterdir())


def test_an_engine_that_is_forked_for_tests_does_what_the_real_one_does(tmp_path: Path):
    package = tmp_path / "own/videomatch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import os, sys\nprint(os.getcwd(), os.environ['WORD'], sys.argv[1:], sys.path)"
    )
    (tmp_path / "Snakefile").write_text("import atexit, videomatch\natexit.register(print, 'bye')\nexit('an end')")
    until(lambda: list(Path(engines.folder()).glob(f"fork_server.{files.me()}")))
    said = []
    for place in (engines.folder(), str(Path(sys.executable).parent)):
        environment = {**os.environ, "PYTHONPATH": str(package.parent), "WORD": "spoken"}
        environment["PATH"] = place + os.pathsep + environment["PATH"]
        done = subprocess.run(["snakemake", "-n"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        said.append((done.returncode, done.stdout, done.stderr))
    assert said[0] == said[1]
    assert "spoken" in said[0][1] and "bye" in said[0][1] and "an end" in said[0][2]
