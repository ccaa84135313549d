"""Where the time of a run went, by logs that are written here."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

import small_project
from videomatch import cli
from videomatch.app.requests import load_plan
from videomatch.pipeline import rules

START = datetime(2026, 3, 1, 23, 59)
PAGES = "pages: {neighbours: {dataset: mine, split: all, system: pooled, top: 3, title: Neighbours}}\n"


def log(result: str, start: float, wall: float, cpu: float) -> None:
    """What the job of a result leaves, by seconds after the start."""
    path = Path("logs", Path(result).parent.relative_to("results")).with_suffix(".log")
    path.parent.mkdir(parents=True, exist_ok=True)
    begun, ended = (f"{START + timedelta(seconds=s):%Y-%m-%d %H:%M:%S},500" for s in (start, start + wall))
    line = f"{ended} INFO videomatch: stage finished: {wall:.1f} s, {cpu:.1f} s of CPU"
    path.write_text(f"{begun} INFO videomatch: stage started: {{}}\n{line}\n{ended} INFO videomatch: result: 1 s\n")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    Path("params.yaml").write_text(small_project.PARAMS + PAGES)
    return load_plan()


def test_seconds_of_a_run_are_work_waiting_or_idle_and_breaks_are_no_part_of_it(plan, capsys):
    calls = Path(".snakemake/log")
    calls.mkdir(parents=True)
    for second in (-4000, 0, 1000):
        (calls / f"{START + timedelta(seconds=second):%Y-%m-%dT%H%M%S}.500000.snakemake.log").touch()
    log(plan.result("corpora", "mine"), 10, 10, 10)  # two cores are idle before it, one is beside it
    log(plan.run("tiny_clip"), 20, 60, 30)
    log(plan.result("features", "mine", "media", "0"), 20, 20, 20)
    log(plan.result("features", "mine", "clip", "0"), 1005, 10, 20)  # of two threads, in a second call
    assert cli.main(["timing", "--cores", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    left = len(rules.needed(plan)) - 4
    assert lines[0] == f"4 jobs in 1.6 min on 2 cores; {left} more without a record of a run"
    seconds = [int(line.split()[0]) for line in lines[1:5]]
    assert seconds == [80, 30, 10 + 40, 20 + 10] and sum(seconds) == 2 * (80 + 15)
    assert ["train", "1", "60", "30", "38%", "40"] in [line.split() for line in lines]
    assert ["tiny_clip", "1", "60", "30", "38%", "40"] in [line.split() for line in lines]
    assert ["extract", "mine", "clip", "1", "10", "20", "25%", "0"] in [line.split() for line in lines]


def test_without_a_finished_job_there_is_one_line(plan, capsys):
    path = Path("logs/tiny/corpora/mine.log")
    path.parent.mkdir(parents=True)
    path.write_text("2026-03-01 10:00:00,000 INFO videomatch: results/tiny/corpora/mine: unchanged\n")
    assert cli.main(["timing"]) == 1
    assert cli.main(["timing", "--cores", "0"]) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "logs/tiny has no finished job: run `snakemake`",
        "--cores 0: expected at least 1",
    ]
    assert not printed.out
