"""Jobs that are forked from a process which has imported everything already."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from videomatch.pipeline import preload

#: a job that says where it runs; its argument says how it ends
JOB = """
import json, os, sys, time
from videomatch.pipeline import preload

def run(argv):
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
    return int(argv[0])

preload.serve(sys.argv[1], sys.argv[2], run, ("fractions",))
"""
ASK = "import sys; from videomatch.pipeline import preload; sys.exit(preload.delegate(sys.argv[1:]))"


@pytest.fixture
def folder(tmp_path: Path):
    """A project's folder with a nursery at work."""
    (tmp_path / ".scratch").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", JOB, f".scratch/nursery.{os.getpid()}", str(os.getpid())], cwd=tmp_path
    )
    deadline = time.monotonic() + 30
    while not list((tmp_path / ".scratch").glob("nursery.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    yield tmp_path
    process.kill()
    process.wait()


def ask(folder: Path, *argv: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "VIDEOMATCH_WORKFLOW": f"{platform.node()}:{os.getpid()}", "WORD": "spoken"}
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
    deadline = time.monotonic() + 30
    while not (folder / "started").exists() or not (folder / "started").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = (folder / "started").read_text()
    process.kill()
    process.wait()
    while preload.alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_a_nursery_or_a_workflow_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIDEOMATCH_WORKFLOW", raising=False)
    assert preload.address() is None and preload.delegate(["x"]) is None
    monkeypatch.setenv("VIDEOMATCH_WORKFLOW", f"elsewhere:{os.getpid()}")
    assert preload.address() is None
    monkeypatch.setenv("VIDEOMATCH_WORKFLOW", f"{platform.node()}:{os.getpid()}")
    assert preload.delegate(["x"]) is None
    (tmp_path / ".scratch").mkdir()
    (tmp_path / f".scratch/nursery.{os.getpid()}").touch()  # left by a nursery that was killed
    assert preload.delegate(["x"]) is None


def test_those_who_need_a_nursery_start_one_together(tmp_path: Path):
    (tmp_path / ".scratch").mkdir()
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    environment = {**os.environ, "VIDEOMATCH_WORKFLOW": f"{platform.node()}:{owner.pid}"}
    begin = "import sys; from videomatch.pipeline import preload; preload.begin(*sys.argv[1:]); "
    wait = begin + "print(preload.delegate(['no', 'stage']))"
    command = [sys.executable, "-c", wait, "fractions"]
    jobs = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = [job.communicate(timeout=60)[0].split()[-1] for job in jobs]
    assert answers == [b"2"] * 3, "one process ran the glue for all of them: it knows no such arguments"
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 30
    while list((tmp_path / ".scratch").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list((tmp_path / ".scratch").iterdir()), "it ends with its workflow, and nothing is left"


def test_a_nursery_that_cannot_start_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".scratch").mkdir()
    monkeypatch.setenv("VIDEOMATCH_WORKFLOW", f"{platform.node()}:{os.getpid()}")
    preload.begin("no_such_module")
    assert preload.delegate(["x"]) is None
    assert not list((tmp_path / ".scratch").iterdir())
