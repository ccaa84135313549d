"""What jobs take of a cluster, and the profiles that ask for it."""

import os
from pathlib import Path

import polars as pl
import pytest
from snakemake.profiles import ProfileConfigFileParser

from paths import ROOT
from videomatch.pipeline import params as parameters
from videomatch.pipeline import resources, rules
from videomatch.pipeline.plan import Plan


def plan_of(file: Path | str, **systems: dict) -> Plan:
    """The plan of a file of parameters, some systems' entries of ``training`` changed."""
    given, files = parameters.load([ROOT / file])
    for name, training in systems.items():
        given["systems"][name]["training"] |= training
    return Plan(parameters.resolved(given, files))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of the tiny chain, of which nothing is made."""
    monkeypatch.chdir(tmp_path)
    return plan_of("tests/tiny.yaml")


def test_more_work_takes_longer(tiny: Plan):
    longer = plan_of("tests/tiny.yaml", tiny_clip={"epochs": 100_000})
    run = tiny.run("tiny_clip")
    assert resources.minutes(longer, run) == 100_000 * resources.minutes(tiny, run)
    assert resources.runtime(longer, run) > 100 * resources.runtime(tiny, run)
    assert resources.runtime(tiny, tiny.result("tables", "search_avs")) == resources.BASE


def test_a_second_attempt_gets_twice_as_much(tiny: Plan):
    for result in rules.needed(tiny):
        for estimate in (resources.runtime, resources.mem_mb):
            assert estimate(tiny, result, 3) == pytest.approx(4 * estimate(tiny, result, 1), abs=2)


def test_each_process_gets_a_processor_and_a_card(tiny: Plan):
    run = tiny.run("tiny_clip")
    assert (resources.threads(tiny, run), resources.cards(tiny, run)) == (1, 1)
    shared = plan_of("tests/tiny.yaml", tiny_clip={"processes": 3})
    assert (resources.threads(shared, run), resources.cards(shared, run)) == (3, 3)
    assert resources.cards(tiny, tiny.result("tables", "search_avs")) == 0


def test_processes_are_shared_by_machines(tiny: Plan):
    given, files = parameters.load([ROOT / "tests/tiny.yaml"])
    given["systems"]["tiny_clip"] |= {"nodes": 2, "training": {"processes": 6, "threads": 9}}
    shared = Plan(parameters.resolved(given, files))
    run, other = tiny.run("tiny_clip"), tiny.run("tiny_scene")
    assert [resources.nodes(shared, result) for result in (run, other)] == [2, 1]
    assert [resources.threads(shared, run, alone=alone) for alone in (True, False)] == [9, 5]
    assert "--nnodes=2 --nproc-per-node=3" in resources.launcher(shared, run)
    assert resources.launcher(shared, other) == "python -m"
    assert resources.group(tiny, run) and not resources.group(shared, run), "it is submitted alone"
    given["systems"]["tiny_clip"]["nodes"] = 4
    with pytest.raises(ValueError, match=r"6 processes .* cannot be shared by 4 machines equally"):
        parameters.resolved(given, files)


def test_what_the_corpus_holds_counts_once_it_is_made(tiny: Plan):
    media, run = tiny.result("features", "videos", "media", "0"), tiny.run("tiny_clip")
    before = [(resources.mem_mb(tiny, r), resources.minutes(tiny, r), resources.threads(tiny, r)) for r in (media, run)]
    corpus = Path(tiny.result("corpora", "videos"))
    corpus.parent.mkdir(parents=True)
    for shard in range(2):
        pl.DataFrame({"video_id": range(500_000)}).write_parquet(corpus.with_name(f"videos-{shard:05d}.parquet"))
    corpus.touch()
    after = [(resources.mem_mb(tiny, r), resources.minutes(tiny, r), resources.threads(tiny, r)) for r in (media, run)]
    assert after[0][1] / before[0][1] == after[1][1] / before[1][1] == 1_000_000 / 60
    assert after[1][0] > before[1][0] + 10_000
    assert (after[0][2], after[1][2]) == (16, 1), "what does not depend on the number of processors takes more of them"
    assert resources.threads(tiny, media, alone=True) == 1


@pytest.mark.parametrize("file", ["tests/tiny.yaml", "params.yaml", "configs/evidence.yaml"])
def test_no_large_job_lies_between_small_ones_of_a_group(file: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    plan = plan_of(file)
    jobs = rules.needed(plan)
    above: dict[str, set[str]] = {}  # result -> groups that it is made from by way of a job outside of them

    def passed(result: str) -> set[str]:
        if result not in above:
            group = resources.group(plan, result)
            above[result] = {
                name
                for read in jobs[result].results
                for name in passed(read) | {resources.group(plan, read) or ""}
                if name and name != group
            }
            assert group is None or group not in {n for read in jobs[result].results for n in passed(read)}, result
        return above[result]

    for result in jobs:
        passed(result)
    on_cards = frozenset({"extract"})
    assert not any(resources.group(plan, r, on_cards) for r, job in jobs.items() if job.stage in on_cards)
    sizes = [resources.group(plan, result) for result in jobs]
    assert (None in sizes) == (file != "tests/tiny.yaml") and any(sizes)


def profile(name: str) -> dict:
    """The options of a profile."""
    with (ROOT / "profiles" / name / "config.yaml").open() as file:
        return dict(ProfileConfigFileParser().parse(file))


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster that says of its nodes what stands in a file."""
    (tmp_path / "sinfo").write_text(f"#!/bin/sh\ncat {tmp_path}/gres\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path / "gres"


def test_the_profile_of_a_machine_does_not_rule_over_that_of_a_cluster(sinfo: Path, monkeypatch: pytest.MonkeyPatch):
    sinfo.write_text("8 16000 (null)\n")
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    assert profile("default")["cores"] == "all"
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "profiles/slurm")
    assert not profile("default").keys() & profile("slurm").keys()
    assert profile("slurm")["cores"] == "8" and profile("slurm")["resources"] == ["mem_mb=16000"]
    assert "resources" not in profile("default"), "a limit would be that of the whole cluster"


def test_cards_are_asked_of_the_nodes(sinfo: Path):
    sinfo.write_text("8 16000 (null)\n")
    without = profile("slurm")["set-resources"]
    assert set(without) == {f"{rule.name}:gpu=0" for rule in rules.RULES if rule.gpu}
    sinfo.write_text("8 16000 (null)\n64 512000 gpu:a100:4(S:0-1)\n")
    assert not [entry for entry in profile("slurm").get("set-resources", []) if "gpu" in entry]
