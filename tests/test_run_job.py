"""Jobs that are started twice."""

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from videomatch.common import files, named
from videomatch.common.digests import SCRATCH
from videomatch.pipeline import provenance, run_job
from videomatch.pipeline.reached import code_digest

MANIFEST = Path("results/render/manifest.json")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a stage was called, which takes half a second; in a project's folder with the settings of its job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_job, "WAIT", 0.05)
    found: list[float] = []

    def render(*, output: Path, scratch: Path, renders: object = None) -> None:
        assert not list(scratch.iterdir()), "another process is at work in here"
        (scratch / "state").touch()
        found.append(time.monotonic())
        time.sleep(0.5)
        (output / "made").write_text("x")
        (scratch / "state").unlink()

    monkeypatch.setattr(named, "module", lambda *_: SimpleNamespace(render=render))
    job: dict[str, Any] = {"stage": "render", "settings": {}, "modules": [], "inputs": {}}
    files.write_json(Path("job.json"), job | {"code": code_digest("stages.render")})
    return found


def test_a_job_that_is_at_work_already_is_waited_for(calls: list[float]):
    arguments = ("render", Path("job.json"), MANIFEST, 1)
    jobs = [threading.Thread(target=run_job.run, args=arguments) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(calls) == 1, "the others find its result"
    assert MANIFEST.with_name("made").read_text() == "x"
    assert not list((SCRATCH / "jobs").iterdir())


def test_what_a_job_of_a_dead_host_left_is_removed_and_done_again(calls: list[float]):
    """But nothing that another host may be at work on."""
    request = provenance.request(json.loads(Path("job.json").read_text()))
    lock = SCRATCH / "jobs" / f"{run_job.digest(request)}.lock"
    left = [MANIFEST.parent.with_name(f".render.new.7-{host}") for host in ("dead", "alive")]
    for folder in (lock.parent, *left):
        folder.mkdir(parents=True)
    lock.write_text("7-dead")
    long_ago = time.time() - 2 * files.PATIENCE
    os.utime(lock, (long_ago, long_ago))
    run_job.run("render", Path("job.json"), MANIFEST, 1)
    assert len(calls) == 1
    assert [folder.exists() for folder in left] == [False, True]


def test_a_result_is_read_while_another_snakemake_starts_its_job(calls: list[float]):
    """Which has removed the manifest, and will find the result unchanged: a job of a killed workflow goes on."""
    read, job = Path("results/read/manifest.json"), json.loads(Path("job.json").read_text())
    files.write_text(read.with_name("file"), "whole")
    provenance.seal(read.parent, provenance.request(job))
    provenance.remember(read, read)
    read.unlink()
    files.write_json(Path("job.json"), job | {"inputs": {"renders": [str(read)]}})
    run_job.run("render", Path("job.json"), MANIFEST, 1)
    assert len(calls) == 1
    read.with_name("file").write_text("half")
    with pytest.raises(provenance.Damaged, match=r"results/read/manifest\.json is missing"):
        run_job.run("render", Path("job.json"), MANIFEST, 1)


def test_each_job_has_a_card_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with contextlib.ExitStack() as stack:
        for number in (1, 2, 1):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")
            stack.enter_context(run_job.cards(number))
            seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["3", "5,6", "7"] and not list(SCRATCH.iterdir())
    for number in (0, 4, 5):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")
        with run_job.cards(number):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5,6,7"
