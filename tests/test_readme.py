"""Every command line of README: `videomatch` runs in the small project, and all that is named exists in the demo."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from dvc.cli import parse_args
from snakemake.cli import get_argument_parser

import small_project
from paths import ROOT
from toys import trained
from videomatch import cli
from videomatch.app.requests import load_plan
from videomatch.pipeline import rules

COMMANDS = ("videomatch", "snakemake", "dvc", "make", "pip", "source")
#: what README names -> what the small project has of it
NAMES = {
    "~/Videos": "raw",
    "VIDEO": "raw/clip3.mp4",
    "result.mp4": "raw/clip3.mp4",
    "VIDEOS": "raw",
    "ID": "clip3.mp4",
    "videos": "mine",
    "captions_train": "captions_train",
    "captions_test": "captions_all",
}
PAGE = {"dataset": "mine", "split": "all", "system": "whole", "top": 3, "title": "Neighbours"}


def command_lines() -> list[list[str]]:
    """The words of the commands in README's blocks and code spans, without comments, prompts and variables."""
    blocks = r"^```\n(.*?)^```$"
    found = [line for block in re.findall(blocks, README, re.M | re.S) for line in block.splitlines()]
    found += re.findall(r"`([^`\n]+)`", re.sub(blocks, "", README, flags=re.M | re.S))
    commands = [re.match(rf"(\$ |\w+=\S+ )?((?:{'|'.join(COMMANDS)})(?: .*)?)$", line) for line in found]
    return [shlex.split(found[2].replace("…", ""), comments=True) for found in commands if found]


README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = {shlex.join(words): words for words in command_lines()}


def of(*commands: str) -> list[str]:
    return [line for line, words in LINES.items() if words[0] in commands and len(words) > (words[0] == "videomatch")]


def test_the_lines_are_found():
    assert len(of("videomatch")) >= 15 and len(of("snakemake")) >= 6 and len(of("dvc")) >= 6 and len(of("make")) >= 5
    assert {"library", "copies", "find", "similar", "serve", "leaks", "tables", "prune", "dvc"} <= {
        LINES[line][1] for line in of("videomatch")
    }


def test_files_and_folders_exist():
    named = re.findall(r"(?:configs|profiles|benchmarks)/\w[\w./]*|[\w/]+\.(?:py|yaml|lock)\b", README)
    below = [ROOT, ROOT / "src/videomatch", ROOT / "configs"]
    assert not {path for path in named if not any((folder / path).exists() for folder in below)}


@pytest.mark.parametrize("line", of("videomatch"))
def test_what_a_command_names_is_in_the_demo(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    options, plan = vars(cli.parser().parse_args(LINES[line][1:])), load_plan()
    sections = {"system": plan.systems, "expert": plan.experts, "dataset": plan.datasets}
    for name, known in sections.items():
        assert options.get(name) is None or options[name] in known
    if options["command"] in ("library", "copies") and options.get("system"):
        assert rules.job_of(plan, plan.run(options["system"])).stage == "train"


@pytest.mark.parametrize("line", of("snakemake"))
def test_a_run_makes_all_jobs_from_its_config(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    trained = [f"results/demo/runs/{name}/seed0" for name in ("tiny_clip", "tiny_scene")]  # by `make demo`
    for folder in {*re.findall(r"~/([\w/]+)", line), *trained, "data/msrvtt"}:
        (tmp_path / folder).mkdir(parents=True)
    for name in ("params.yaml", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    options = get_argument_parser().parse_args(shlex.split(line)[1:])
    plan = load_plan(options.configfile, options.config or [])
    assert rules.needed(plan) and set(options.targets) <= rules.targets(plan).keys()


@pytest.mark.parametrize("line", of("dvc"))
def test_dvc_knows_the_options(line):
    options = vars(parse_args(LINES[line][1:]))
    for change in options.get("set_param") or []:
        file, _, keys = change.partition("=")[0].rpartition(":")
        entry = yaml.safe_load((ROOT / (file or "params.yaml")).read_text(encoding="utf-8"))
        for key in keys.split("."):
            entry = entry[key]
    for target in options.get("targets") or []:
        file, _, stage = target.rpartition(":")
        if file or options["cmd"] == "repro":
            stages = yaml.safe_load((ROOT / (file or "dvc.yaml")).read_text(encoding="utf-8"))["stages"]
            assert fnmatch.filter(stages, stage), stage


@pytest.mark.parametrize("line", of("make"))
def test_make_has_the_target(line):
    subprocess.run([*LINES[line], "-n"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("line", of("pip"))
def test_pip_installs_extras_that_there_are(line):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, extra = re.fullmatch(r"(\.|dvc)(?:\[(\w+)\])?", LINES[line][-1]).groups()
    assert name == "dvc" or extra is None or extra in project["optional-dependencies"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The small project, with a page, and the demo's two systems for copies: one trained, one as before training."""
    before = Path.cwd()
    folder = tmp_path_factory.mktemp("readme")
    plan = small_project.built(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    demo = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    detector = demo["systems"]["detector"] | {"dataset": "mine", "seeds": [0]}
    detector["examples"] |= {"expert": "clip"}
    params["systems"] |= {"tiny_copy": {"from": "tiny_clip"}, "detector": detector}
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"pages": {"neighbours": PAGE}}))
    runs = Path(plan.root) / "runs"
    shutil.copytree(runs / "tiny_clip", runs / "tiny_copy")
    trained(runs / "detector/seed0", "segment_detector", width=4, levels=3, head=4)
    (runs / "detector/seed0/manifest.json").touch()
    yield folder
    os.chdir(before)


def test_every_command_does_what_it_is_for(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    monkeypatch.setenv("VIDEOMATCH_HOME", str(project / "home"))  # of indexes
    library = 0
    for line in of("videomatch"):
        words = [NAMES.get(word, word) for word in LINES[line][1:]]
        if words[0] in ("serve", "reference", "shots", "timing"):  # in tests of their own
            continue
        options = cli.parser().parse_args(words)
        chosen = options.command == "library" and options.verb == "add" and (options.expert or options.system)
        library += bool(chosen)  # one that is described otherwise is another library
        words = [f"library{library}" if word == "LIBRARY" else word for word in words]
        status, printed = cli.main(words), capsys.readouterr()
        assert status == (words[0] == "leaks"), (words, printed)  # each video is on both sides there
        assert printed.out.strip() or words[0] in ("copies", "duplicates"), f"{words} says nothing"
        assert printed.err.strip() or words[0] not in ("find", "similar", "copies")
    assert Path("out.html").exists() and Path("dvc.yaml").exists()
