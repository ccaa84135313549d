"""What the terminal shows of a run."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from videomatch.pipeline import run_log

FAILED = (
    'RuleException:\nCalledProcessError in file "/x/Snakefile", line 52:\nCommand \'set -euo pipefail; '
    " python -m videomatch embed --settings s.json --output results/demo/e/manifest.json --log logs/e.log --threads 1' "
)


def record(text: str | None, **fields: object) -> logging.LogRecord:
    found = logging.LogRecord("snakemake", logging.INFO, "", 0, text, (), None)
    vars(found).update(fields)
    return found


@pytest.fixture
def log() -> run_log.RunLog:
    return run_log.RunLog({}, is_dry=lambda: False, stop=lambda: None)


@pytest.mark.parametrize(
    "text",
    [
        "Select jobs to execute...",
        "Execute 3 jobs...",
        "Complete log(s): /x/.snakemake/log/1.snakemake.log",
        "WorkflowError:\nAt least one job did not complete successfully.",
        FAILED + "returned non-zero exit status 1.",
        FAILED + "returned non-zero exit status 130.",
        FAILED + "died with <Signals.SIGINT: 2>.",
    ],
)
def test_what_says_nothing_new_is_left_out(log: run_log.RunLog, text: str):
    assert not log.terse(record(text))


@pytest.mark.parametrize("status", ["returned non-zero exit status 137.", "died with <Signals.SIGKILL: 9>."])
def test_a_job_that_could_not_say_why_it_ended_gets_one_line(log: run_log.RunLog, status: str):
    failed = record(FAILED + status)
    assert log.terse(failed)
    [line] = failed.getMessage().splitlines()
    assert line.startswith("videomatch embed: results/demo/e: the job was ended: ")
    assert status.split()[-1].rstrip(".") in line and line.endswith("(log: logs/e.log)")


def test_other_lines_stay(log: run_log.RunLog):
    for text in ("Nothing to be done (all requested files are present and up to date).", None):
        assert all(log.terse(record(text)) for _ in range(2))


def test_a_full_disk_is_one_line_and_ends_the_run():
    stops = []
    log = run_log.RunLog({}, is_dry=lambda: False, stop=lambda: stops.append(1))
    full, other = (record(FAILED.replace("/e/", f"/{name}/") + "returned non-zero exit status 28.") for name in "ab")
    assert log.terse(full)
    assert full.getMessage().startswith(f"{Path.cwd()}: No space left on device; ")
    assert not log.terse(other)
    assert not log.terse(record("Terminating processes on user request, this might take some time."))
    assert stops == [1]


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):\n  File x, line 1, in y\nOSError: [Errno 28] Denied: '/x/metadata/a'\n",
        "WorkflowError:\nError recording metadata ([Errno 13] Denied: '/x/metadata/a'). Please ensure permissions",
    ],
)
def test_files_of_snakemake_that_cannot_be_written_are_one_line_and_no_traceback(log: run_log.RunLog, text: str):
    failed, again = record(text), record(text)
    assert log.terse(failed)
    assert failed.getMessage().startswith("/x/metadata: Denied; ")
    assert not log.terse(again)


def test_an_interrupt_is_one_line(log: run_log.RunLog):
    ended = record("Terminating processes on user request, this might take some time.")
    assert log.terse(ended)
    assert ended.getMessage() == run_log.INTERRUPTED


def test_a_dry_run_counts_once_and_gives_each_result_its_reason(capsys: pytest.CaptureFixture[str]):
    why = {"a/3/manifest.json": "not made yet", "a/131/manifest.json": "code changed"}
    log = run_log.RunLog({Path("a/3/manifest.json"): why}, is_dry=lambda: True, stop=lambda: None)
    for _ in range(2):
        log.emit(record("", event="run_info", stats={"embed": 2, "systems": 1, "all": 1, "total": 4}))
    log.emit(record("", event="job_info", output=["a/3/manifest.json"]))
    log.emit(record("", event="job_info", output=["other/manifest.json"]))
    log.emit(record("", event="job_info", output=[]))
    lines = capsys.readouterr().err.splitlines()
    expected = ["2 jobs: 2 embed", "  a/3: not made yet", "  a/131: code changed", "  other: an input is made again"]
    assert lines == expected


def test_of_a_job_that_makes_several_results_the_first_is_named_that_it_has_not_made(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, when in (("results/demo/e/7", 2), (".scratch/settings/results/demo/e/7", 1)):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").touch()
        os.utime(tmp_path / name / "manifest.json", (when, when))
    parts = {f"results/demo/e/{shard}/manifest.json": "not made yet" for shard in (7, 135, 263)}
    log = run_log.RunLog({Path("results/demo/e/7/manifest.json"): parts}, is_dry=lambda: False, stop=lambda: None)
    failed = record(
        FAILED.replace("/e/", "/e/7/").replace("logs/e.log", "logs/e/7.log") + "died with <Signals.SIGKILL: 9>."
    )
    assert log.terse(failed)
    line = failed.getMessage()
    assert line.startswith("videomatch embed: results/demo/e/135: the job was ended: ")
    assert line.endswith("(log: logs/e/135.log)")


def test_a_run_says_how_far_it_is_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    now = [100.0]
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now[0])
    log = run_log.RunLog({}, is_dry=lambda: False, stop=lambda: None)
    for done in range(1, 5):
        now[0] += 100 if done == 2 else 1
        log.emit(record(None, event="progress", done=done, total=4))
        log.emit(record("", event="job_info", output=["a/manifest.json"]))
    assert capsys.readouterr().err.splitlines() == ["  2 of 4 jobs, about 2 min left", "  4 of 4 jobs"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[run_log.RunLog]:
    """A run on a cluster whose SLURM knows one job."""
    for name, says in {"squeue": 'echo "TIMEOUT on n1"', "scancel": f'echo "$@" > {tmp_path}/cancelled'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    run = run_log.RunLog({}, is_dry=lambda: False, stop=lambda: None, on_cluster=lambda: True)
    yield run
    run.close()


def of_job(name: str, *logs: str) -> dict[str, object]:
    return {"rule_name": "train", "rule_msg": "", "output": [f"results/{name}/manifest.json"], "log": list(logs)}


def test_a_job_that_fails_on_a_cluster_is_named_with_what_it_said(cluster: run_log.RunLog, capsys, tmp_path: Path):
    (tmp_path / "job.log").write_text("".join(f"line {n}\n\n" for n in range(9)))
    (tmp_path / "slurm.log").write_text("slurmstepd: error: *** JOB 7 CANCELLED DUE TO TIME LIMIT ***\n")
    fields = of_job("a", "job.log", "slurm.log") | {"aux": {"external_jobid": "7"}}
    cluster.emit(record("Error in rule train", event="job_error", **fields))
    head, *lines = capsys.readouterr().err.splitlines()
    assert head == "videomatch train results/a: SLURM job 7 is TIMEOUT on n1 (log: slurm.log)"
    assert lines == [f"  line {n}" for n in range(4, 9)]
    (tmp_path / "slurm.log").write_text("noise\nvideomatch train: title 7 is odd (log: job.log)\nError in rule\n")
    cluster.emit(record("Error in rule train", event="job_error", **fields))
    assert capsys.readouterr().err.splitlines()[1:] == ["  videomatch train: title 7 is odd (log: job.log)"]


def test_of_jobs_that_were_submitted_together_those_are_named_that_made_nothing(cluster, capsys, tmp_path: Path):
    for name in ("results/a", ".scratch/settings/results/a"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".scratch/settings/results/a/manifest.json").touch()
    os.utime(tmp_path / ".scratch/settings/results/a/manifest.json", (1, 1))
    (tmp_path / "results/a/manifest.json").touch()
    jobs = [of_job(name, f"{name}.log") for name in "abcde"]
    cluster.emit(record("Error", event="group_error", aux_logs=["s.log"], job_error_info=jobs, external_jobid="7"))
    for job in jobs:
        cluster.emit(record("Error", event="job_error", indent=True, **job))
    named = "train results/b, train results/c, train results/d and 1 more"
    assert capsys.readouterr().err == f"videomatch {named}: SLURM job 7 is TIMEOUT on n1 (log: s.log)\n"


def test_a_job_that_could_not_be_submitted_says_why(cluster: run_log.RunLog, capsys):
    fields = of_job("a", "job.log") | {"rule_msg": "SLURM sbatch failed: no such partition", "aux": {}}
    cluster.emit(record("Error", event="job_error", **fields))
    assert capsys.readouterr().err == "videomatch train results/a: SLURM sbatch failed: no such partition\n"


def test_jobs_that_ended_on_a_cluster_are_told(cluster: run_log.RunLog, log: run_log.RunLog, capsys):
    for run in (cluster, log):
        run.emit(record("", event="job_info", jobid=3, output=["results/a/manifest.json"]))
        run.emit(record("", event="job_finished", job_id=3))
    assert capsys.readouterr().err == "✓ results/a\n", "here a job tells of itself"


def test_what_a_group_has_made_is_told_before_it_ends(cluster, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "squeue").write_text("#!/bin/sh\n")
    (tmp_path / "s.log").write_text("rule train:\n✓ results/a  3.1 s\n")
    monkeypatch.setattr(run_log, "LOOKS", 0.05)
    cluster.emit(record("SLURM run ID: 1a-2b"))
    cluster.emit(record("Job 3 has been submitted with SLURM jobid 4 (log: s.log)."))
    time.sleep(1)
    cluster.close()
    assert capsys.readouterr().err == "✓ results/a  3.1 s\n"
    for number, name in enumerate("ab"):
        cluster.emit(record("", event="job_info", jobid=number, output=[f"results/{name}/manifest.json"]))
        cluster.emit(record("", event="job_finished", job_id=number))
    assert capsys.readouterr().err == "✓ results/b\n"


def test_an_interrupted_run_cancels_all_its_jobs(cluster: run_log.RunLog, tmp_path: Path):
    cluster.cancel()
    assert not (tmp_path / "cancelled").exists(), "nothing was submitted"
    cluster.emit(record("SLURM run ID: 1a-2b"))
    cluster.cancel()
    assert (tmp_path / "cancelled").read_text() == "--name=1a-2b\n"


def test_a_job_that_waits_for_ever_is_named_once(cluster, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 7: Priority\necho 8: PartitionTimeLimit\n")
    monkeypatch.setattr(run_log, "LOOKS", 0.05)
    cluster.emit(record("SLURM run ID: 1a-2b"))
    time.sleep(1)
    cluster.close()
    assert capsys.readouterr().err == "videomatch: SLURM job 8: PartitionTimeLimit (it waits for that)\n"


def test_what_this_log_says_itself_is_not_said_twice(cluster: run_log.RunLog):
    said = ("job_finished", "progress", "resources_info", "run_info")
    assert not any(cluster.terse(record("x", event=event)) for event in said)
    assert not cluster.terse(record("Job 3 has been submitted with SLURM jobid 4 (log: x)."))
