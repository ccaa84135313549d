"""Two engines over one DAG, with toy stages: what runs again is what depends on a change, and nothing else."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from paths import ROOT
from repo import Repo, remember
from videomatch.common import digests, files
from videomatch.pipeline import dvcfile, provenance, rules, signatures
from videomatch.pipeline import params as parameters
from videomatch.pipeline.plan import Plan


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy repository that has been built once."""
    repo = Repo(tmp_path_factory.mktemp("toy") / "repo")
    repo.build()
    return repo.folder


@pytest.fixture
def repo(built: Path, tmp_path: Path) -> Repo:
    """A copy of it to spoil."""
    return Repo.at(shutil.copytree(built, tmp_path / "repo", symlinks=True))


def edit(repo: Repo, stage: str, before: str, after: str) -> None:
    file = repo.folder / f"src/videomatch/stages/{stage}.py"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    "params_file", ["params.yaml", *sorted(f"configs/{p.name}" for p in ROOT.glob("configs/*.yaml"))]
)
def test_every_pipeline_is_what_the_rules_say_and_versions_each_result_once(params_file: str, monkeypatch):
    monkeypatch.chdir(ROOT)
    described = dvcfile.path_of(Path(params_file)).read_text()
    assert described == dvcfile.text(Path(params_file))
    plan = Plan(parameters.resolved(*parameters.load([params_file]), has_data=False))
    stages, outs = yaml.safe_load(described)["stages"], {}
    assert stages.keys() >= {"jobs", *plan.tables}
    assert not stages.keys() & {rule.name for rule in rules.RULES}, "Snakemake makes a rule of each"
    for name, stage in list(stages.items())[1:]:
        assert f"{plan.root}/jobs/{name}.json" in stage["deps"]
        for out in stage["outs"]:
            assert outs.setdefault(*out, name) == name
    for result, job in rules.needed(plan).items():
        made_by = {name for out, name in outs.items() if result.startswith(out + "/")}
        assert len(made_by) == 1, result
        deps = stages[made_by.pop()]
        for path in job.results:
            assert any(
                path.startswith(f"{known}/") for known in [*deps["deps"], *(o for out in deps["outs"] for o in out)]
            )


def test_every_rule_is_a_stage_of_the_package():
    files = {p.stem for p in (ROOT / "src/videomatch/stages").glob("[a-z]*.py")}
    assert files == {rule.name for rule in rules.RULES}


def test_a_job_gets_the_arguments_that_its_stage_has(repo: Repo):
    plan = Plan(parameters.resolved(*parameters.load([ROOT / "params.yaml"])))
    for result, job in rules.needed(plan).items():
        known = signatures.read(f"stages.{job.stage}")[job.stage].options
        assert job.settings.keys() | job.inputs.keys() <= known.keys(), result


def test_a_second_run_does_nothing(repo: Repo):
    assert repo.is_quiet()


def test_a_run_changes_nothing_that_git_has_until_its_tables_are_taken_as_the_reference(repo: Repo):
    assert repo("git", "status", "--porcelain") == ""
    repo("videomatch", "reference")
    assert repo("git", "status", "--porcelain") == "?? results/\n"
    taken = repo.folder / "results/reference/demo"
    for name in ("similarity_untrained", "search_untrained", "folds"):
        for end in ("md", "csv"):
            made = repo.folder / f"results/demo/tables/{name}/table.{end}"
            assert (taken / f"{name}.{end}").read_bytes() == made.read_bytes()
        assert "{http://www.w3.org/2000/svg}text" in {e.tag for e in ElementTree.parse(taken / f"{name}.svg").iter()}
    about = json.loads((taken / "made.json").read_text())
    assert about["commit"] == repo("git", "rev-parse", "HEAD").strip()
    assert about["cpu_seconds"] is not None and about["processor"]
    edit(repo, "illustrate", "EDITED = 0", "EDITED = 1")  # pages are no tables
    assert (
        "commit first what made the tables: src/videomatch/stages/illustrate.py"
        in repo.run("videomatch", "reference").stderr
    )
    assert repo("git", "status", "--porcelain") == " M src/videomatch/stages/illustrate.py\n?? results/\n"


def test_of_a_run_that_is_not_at_its_end_the_tables_that_stand_are_taken(repo: Repo):
    repo.set("systems.title.embeddings.dim", 12)
    repo.commit("shorter titles")
    said = repo("videomatch", "reference")
    assert "results/reference/demo: 1 of 3 tables" in said
    reason = "results/demo/embeddings/videos/title is not current (settings changed (system.embeddings.dim))"
    assert all(f"not taken: {name}: {reason}" in said for name in ("similarity_untrained", "folds"))
    taken = repo.folder / "results/reference/demo"
    expected = {"made.json", *(f"search_untrained.{end}" for end in ("md", "csv", "svg"))}
    assert {p.name for p in taken.iterdir()} == expected
    about = json.loads((taken / "made.json").read_text())
    timed = repo("videomatch", "timing")
    assert 0 < about["jobs"] < int(re.match(r"(\d+) jobs in", timed)[1]) and about["cpu_seconds"] is not None
    assert re.search(r"^search_untrained +\d+\.\d$", timed, re.M)
    edit(repo, "prepare", "EDITED = 0", "EDITED = 1")
    refused = repo.run("videomatch", "reference")
    assert refused.returncode == 1 and re.search(r"is not current \(.*\): run `snakemake`\n$", refused.stderr)
    assert (taken / "search_untrained.md").exists()


def test_times_mean_nothing(repo: Repo):
    for path in repo.folder.rglob("*"):
        if path.is_file() and ".git" not in path.parts and ".dvc" not in path.parts:
            path.touch()
    assert repo.is_quiet()


def test_a_parameter_runs_what_depends_on_it(repo: Repo):
    repo.set("systems.title.embeddings.dim", 12)
    made = repo.made()
    assert "embeddings/videos/title" in made
    assert "embeddings/videos/title_and_frames" in made
    assert not [m for m in made if "pooled" in m or m.startswith(("media", "corpora", "features", "runs"))]
    assert repo.is_quiet()


def test_a_parameter_set_back_runs_nothing(repo: Repo):
    before = yaml.safe_load((repo.folder / "params.yaml").read_text())["systems"]["title"]["embeddings"]["dim"]
    repo.set("systems.title.embeddings.dim", 12)
    assert not repo.is_quiet()
    repo.set("systems.title.embeddings.dim", before)
    assert repo.is_quiet()


def test_swapped_values_are_seen(repo: Repo):
    repo.set("systems.tiny_clip.training.epochs", 8)
    repo.set("systems.tiny_scene.training.epochs", 6)
    assert {"runs/tiny_clip/seed0", "runs/tiny_scene/seed0"} <= repo.made()


def test_code_runs_what_reaches_it_and_comments_run_nothing(repo: Repo):
    edit(repo, "train", "EDITED = 0", "# a comment\nEDITED = 0")
    assert repo.is_quiet()
    edit(repo, "search", "EDITED = 0", "EDITED = 1")
    assert {m.split("/")[0] for m in repo.made()} == {"rankings", "metrics", "tables", "pages"}
    assert repo.is_quiet()


def test_code_whose_results_stay_the_same_stops_there(repo: Repo):
    edit(repo, "combine", "EDITED = 0", "EDITED = 0\n_UNUSED = 1")
    assert repo.made() == {"embeddings/videos/title_and_frames", "embeddings/videos/of_each_fold"}


def test_only_the_shard_of_a_changed_video_is_extracted_again(repo: Repo):
    file = repo.folder / "src/videomatch/stages/render.py"
    # the stage's code is the same for all shards, what it makes changes for one
    file.write_text(file.read_text().replace('"render", EDITED', '"render", EDITED + (shard == 1)'))
    made = repo.made()
    assert {m for m in made if m.startswith("features/videos/media")} == {"features/videos/media/1"}


def test_tables_that_are_made_again_start_the_jobs_of_those_shards_alone_that_differ(repo: Repo):
    edit(repo, "prepare", "[EDITED // 2, value]", "[EDITED // 2 + (shard == 1), value]")
    corpus = (repo.folder / "results/demo/corpora/videos/manifest.json").read_bytes()
    assert "features/videos/media/0: an input is made again" in repo("snakemake", "-n")
    assert (repo.folder / "results/demo/corpora/videos/manifest.json").read_bytes() == corpus, "it was a dry run"
    started = repo.build()
    assert started["corpora/videos"] != "unchanged"
    assert {name for name in started if name.startswith("features/videos/media")} == {"features/videos/media/1"}
    assert repo.is_quiet()


def test_of_many_shards_several_are_made_by_one_job_and_each_as_if_it_were_alone(repo: Repo):
    shutil.rmtree(repo.folder / "results")
    rules_file, stage = (repo.folder / "src/videomatch" / name for name in ("pipeline/rules.py", "stages/render.py"))
    text, whole = rules_file.read_text(), stage.read_text()
    rules_file.write_text(text.replace("\nJOBS = 128\n", "\nJOBS = 3\n", 1))
    assert rules_file.read_text() != text
    repo.set("datasets.videos.shards", 8)
    kinds = ("media/videos", "features/videos/media")
    results = {kind: [f"results/demo/{kind}/{shard}/manifest.json" for shard in range(8)] for kind in kinds}
    wanted = results["features/videos/media"][:3]  # known to Snakemake
    stage.write_text(whole.replace("    write(", "    assert shard not in (4, 7), 'odd'\n    write("))
    failed = repo.run("snakemake", *wanted)
    assert failed.returncode == 1
    for shard in (4, 7):  # with shard 1 in one job
        assert f"videomatch render: odd (log: logs/demo/media/videos/{shard}.log)" in failed.stderr
    assert [shard for shard in range(8) if not (repo.folder / results["media/videos"][shard]).exists()] == [4, 7]
    stage.write_text(whole)
    repo("snakemake", *wanted)
    assert all((repo.folder / path).exists() for paths in results.values() for path in paths)
    stage.write_text(whole.replace('"render", EDITED', '"render", EDITED + (shard == 5)'))
    said = repo("snakemake", *wanted)
    assert re.findall(r"^✓ results/demo/features/videos/media/(\d)  [\d.]+ s$", said, re.M) == ["5"]
    rules_file.write_text(text)
    assert "Nothing to be done" in repo("snakemake", "-n", *results["features/videos/media"]), (
        "the results are the same"
    )


def test_a_deleted_or_damaged_result_is_made_again(repo: Repo):
    features, before = repo.folder / "results/demo/features/videos", repo.metrics()
    (features / "clip/0/clip/value.json").write_text("0.5")
    (features / "clip/1/clip/value.json").unlink()
    (features / "scene/1/manifest.json").unlink()
    # where the files are whole, their manifest comes back from memory and nothing is computed
    assert repo.made() == {"features/videos/clip/0", "features/videos/clip/1"}
    assert (features / "scene/1/manifest.json").exists()
    assert repo.metrics() == before
    assert repo.is_quiet()


def test_a_failing_job_says_which_and_where_its_log_is(repo: Repo):
    edit(repo, "embed", "    write(", "    raise ValueError('title 7 is odd')\n    write(")
    done = repo.run("snakemake")
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert re.search(r"videomatch embed: title 7 is odd \(log: logs/demo/embeddings/videos/title.log\)", text)
    assert "Traceback" not in text
    assert "Traceback" in (repo.folder / "logs/demo/embeddings/videos/title.log").read_text()
    edit(repo, "embed", "    raise ValueError('title 7 is odd')\n", "")
    assert repo.made() == set(), "the results were there all the time"


def test_a_full_disk_ends_the_run_with_one_line(repo: Repo):
    repo.set("systems.title.embeddings.dim", 12)
    edit(repo, "embed", "    write(", "    raise OSError(28, 'No space left on device')\n    write(")
    done = repo.run("snakemake")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if re.search("Error|space|failed|log:", line)]
    assert lines == [
        f"{repo.folder}: No space left on device; mend that, and `snakemake` goes on with what is finished"
    ]
    edit(repo, "embed", "    raise OSError(28, 'No space left on device')\n", "")
    assert {"embeddings/videos/title", "embeddings/videos/title_and_frames"} <= repo.made()


@pytest.mark.parametrize("sign", [".scratch/lock", "logs/demo/runs/*/*.log"])  # of the rules, of a job
def test_an_interrupted_run_says_so_in_one_line_and_goes_on(repo: Repo, sign: str):
    shutil.rmtree(repo.folder / "logs")
    edit(repo, "train", "EDITED = 0", "import time; time.sleep(20)\nEDITED = 0")
    with subprocess.Popen(
        ["snakemake", "--cores", "1"],
        cwd=repo.folder,
        env=repo.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        while not list(repo.folder.glob(sign)) and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate()[0]
    assert process.returncode != 0
    assert "Traceback" not in said and said.endswith("interrupted; `snakemake` goes on with what is finished\n")
    edit(repo, "train", "import time; time.sleep(20)\nEDITED = 0", "EDITED = 0")
    assert repo.made() == set(), "the results were there all the time"


def test_killed_at_any_moment_it_goes_on_to_the_same_metrics(repo: Repo, built: Path):
    before = repo.metrics()
    shutil.rmtree(repo.folder / "results")
    shutil.rmtree(repo.folder / ".scratch")
    remember(built, repo.folder)

    def hidden() -> set[Path]:
        return {p for p in (repo.folder / "results").rglob(".*") if p.name != ".gitignore"}

    for seconds in (0, 0.5, 1.5):  # after a job of this run has begun to write
        left = hidden()
        process = subprocess.Popen(
            ["snakemake"], cwd=repo.folder, env=repo.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not hidden() - left and process.poll() is None:
            time.sleep(0.005)
        time.sleep(seconds)
        process.kill()
        process.wait()
    repo.build()
    assert repo.metrics() == before
    assert repo.is_quiet()
    assert hidden() == set(), "what killed jobs left is gone"


@pytest.mark.parametrize("is_back", [True, False])
def test_killed_while_a_result_took_its_place_nothing_is_left_or_lost(repo: Repo, is_back: bool):
    """The job had one step left, or two; its result is current, so that it does not run again."""
    child = subprocess.Popen(["true"])
    child.wait()
    result = next((repo.folder / "results").rglob("manifest.json")).parent
    left = result.with_name(f".{result.name}.old.{child.pid}-{files.HOST}")
    if is_back:
        shutil.copytree(result, left)
    else:
        result.rename(left)
    repo.run("snakemake", "-n")
    assert left.exists(), "a dry run changes nothing"
    assert "Nothing to be done" in repo("snakemake")
    assert not left.exists()
    assert result.exists()


def test_a_checkout_after_a_kill_makes_nothing_again(repo: Repo):
    """Snakemake marks the jobs of a killed run; their results may have come from elsewhere since."""
    repo.set("systems.tiny_clip.training.epochs", 9)
    waits = "import time, pathlib; pathlib.Path('reached').touch(); time.sleep(60)\nEDITED = 0"
    edit(repo, "train", "EDITED = 0", waits)
    results = repo.folder / "results"
    shutil.copytree(results, repo.folder.parent / "kept", symlinks=True)
    with subprocess.Popen(
        ["snakemake"], cwd=repo.folder, env=repo.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not (repo.folder / "reached").exists() and process.poll() is None:
            time.sleep(0.05)
        process.kill()
    assert (repo.folder / "reached").exists()
    edit(repo, "train", waits, "EDITED = 0")
    repo("git", "checkout", "-q", "params.yaml")
    shutil.rmtree(results)
    shutil.move(repo.folder.parent / "kept", results)
    assert repo.is_quiet()


def test_two_at_once_are_refused(repo: Repo):
    waits = """
import time
from pathlib import Path
from xml.etree import ElementTree
Path("reached").touch()
while Path("reached").exists():
    time.sleep(0.1)
"""
    (repo.folder / "Snakefile").write_text((repo.folder / "Snakefile").read_text() + waits)
    first = subprocess.Popen(["snakemake", "-n"], cwd=repo.folder, env=repo.environment(), stdout=subprocess.PIPE)
    while not (repo.folder / "reached").exists() and first.poll() is None:
        time.sleep(0.1)
    second = repo.run("snakemake", "-n")
    (repo.folder / "reached").unlink(missing_ok=True)
    assert first.wait() == 0
    assert second.returncode != 0
    assert "another snakemake is at work in this folder" in second.stdout + second.stderr


@pytest.fixture(scope="module")
def recorded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy repository with its results in DVC."""
    repo = Repo.at(shutil.copytree(built, tmp_path_factory.mktemp("recorded") / "repo", symlinks=True))
    assert not [line for line in repo("dvc", "repro").splitlines() if line.startswith("✓")]
    repo.commit("built")
    return repo.folder


@pytest.fixture
def versioned(recorded: Path, tmp_path: Path) -> Repo:
    """A copy of it to spoil."""
    return Repo.at(shutil.copytree(recorded, tmp_path / "repo", symlinks=True))


def test_both_engines_leave_each_others_work_alone(versioned: Repo):
    assert versioned.is_quiet()
    assert "up to date" in versioned("dvc", "status")
    lock = (versioned.folder / "dvc.lock").read_text()
    versioned.set("systems.title.embeddings.dim", 12)
    versioned("dvc", "repro", "-q")
    assert versioned.is_quiet()
    assert (versioned.folder / "dvc.lock").read_text() != lock
    versioned("git", "checkout", "-q", ".")
    versioned("dvc", "checkout", "-q", "--force")
    assert versioned.is_quiet(), "an older state comes back whole"


def test_push_and_pull_bring_everything_back(versioned: Repo, tmp_path: Path):
    versioned("dvc", "remote", "add", "-d", "store", str(tmp_path / "remote"))
    versioned.commit("remote")
    versioned("dvc", "push", "-q")
    clone = Repo.at(tmp_path / "clone")
    versioned("git", "clone", "-q", ".", str(clone.folder))
    clone("dvc", "pull", "-q")
    assert clone.is_quiet()
    assert clone.metrics() == versioned.metrics()


def test_experiments_in_the_workspace_and_queued_are_compared_by_exp_show(versioned: Repo):
    repo = versioned
    base = repo.metrics()
    file = repo.folder / "params.yaml"
    comments, params = re.findall("#.*", file.read_text()), yaml.safe_load(file.read_text())
    repo("dvc", "exp", "run", "-q", "-n", "here", "-S", "systems.title.embeddings.dim=12", "similarity_untrained")
    changed = repo.metrics()
    assert changed != base
    params["systems"]["title"]["embeddings"]["dim"] = 12
    assert yaml.safe_load(file.read_text()) == params
    assert comments and re.findall("#.*", file.read_text()) == comments, "what DVC writes anew keeps them"
    repo("git", "checkout", "-q", ".")
    repo("dvc", "checkout", "-q", "--force")
    repo("dvc", "exp", "run", "-q", "--queue", "-n", "there", "-S", "seed=5")
    repo("dvc", "exp", "run", "-q", "--run-all", "-j", "1")
    assert repo.metrics() == base
    shown = json.loads(repo("dvc", "exp", "show", "--json"))
    text = json.dumps(shown)
    path = "results/demo/metrics/videos/pairs_test/title_and_frames/all/metrics.json"
    assert str(changed[path]["metrics"]["Spearman"]) in text, "the experiment made here"
    repo("dvc", "exp", "apply", "-q", "there")
    assert repo.is_quiet()
    assert str(repo.metrics()[path]["metrics"]["Spearman"]) in text, "the queued experiment"


CONFIG = "configs/msrvtt.yaml"
TABLE = "search_clip_1ka"


@pytest.fixture
def msrvtt(repo: Repo) -> Repo:
    """The toy repository with the config of MSR-VTT, in one shard, and planted annotations, which DVC has."""
    annotations = repo.folder / "data/msrvtt/MSRVTT_data.json"
    annotations.parent.mkdir(parents=True)
    annotations.write_text('{"videos": [], "sentences": []}')
    (repo.folder / CONFIG).parent.mkdir()
    config = (ROOT / CONFIG).read_text().replace("~/data", "data").replace("shards: 8", "shards: 1")
    config = config.replace("openai/clip-vit-base-patch32", "./clip")  # no hub is asked
    (repo.folder / "clip").mkdir()
    (repo.folder / "clip/config.json").write_text("{}")
    (repo.folder / CONFIG).write_text(re.sub(r"epochs: \d+", "epochs: 1", config))
    repo.describe()
    repo("dvc", "add", "-q", "data/msrvtt")
    repo.commit("a config")
    return repo


def test_a_table_of_a_config_is_made_by_either_engine(msrvtt: Repo):
    repo, table = msrvtt, ("snakemake", TABLE, "--configfile", CONFIG)
    pipeline, value = str(dvcfile.path_of(Path(CONFIG))), "experts.clip.every"
    repo("dvc", "repro", "-q", f"{pipeline}:{TABLE}")
    assert "Nothing to be done" in repo(*table, "-n")
    assert not (repo.folder / "results/msrvtt/runs").exists(), "nothing of another table"
    repo.commit("built")
    before = repo.metrics()
    repo.set(value, 1.0, CONFIG)
    assert "features/videos/media/0" in repo(*table)
    after = repo.metrics()
    assert before != after
    assert "✓" not in repo("dvc", "repro", f"{pipeline}:{TABLE}") and repo.metrics() == after
    repo("git", "checkout", "-q", ".")
    repo("dvc", "checkout", "-q", "--force", "--allow-missing", pipeline)  # of the other tables
    assert "Nothing to be done" in repo(*table, "-n") and repo.metrics() == before
    repo("dvc", "exp", "run", "-q", "-S", f"{CONFIG}:{value}=1.0", f"{pipeline}:{TABLE}")
    assert repo.metrics() == after
    shown, diff = repo("dvc", "exp", "show", "--json"), repo("dvc", "metrics", "diff")
    for found in (before, after):
        value = found["results/msrvtt/metrics/videos/captions_1ka_test/zero_shot/all/metrics.json"]["metrics"]["R@1"]
        assert str(value) in shown and str(value)[:6] in diff
    (repo.folder / "data/msrvtt/MSRVTT_data.json").write_text("{}")
    assert "data/msrvtt" in repo("dvc", "status", "--with-deps", f"{pipeline}:{TABLE}")
    assert "corpora/videos: files changed (data/msrvtt)" in repo(*table, "-n")


def test_a_pipeline_of_other_parameters_is_refused(repo: Repo):
    repo.set("tables", ["folds"])
    done = repo.run("dvc", "repro")
    assert done.returncode != 0
    assert "dvc.yaml was written for other parameters: run `videomatch dvc`" in done.stderr


def test_an_unknown_target_says_which_there_are(repo: Repo):
    done = repo.run("snakemake", "similarity_sizes")
    assert done.returncode != 0
    tables = "all, similarity_untrained, search_untrained, folds, page_neighbours, page_run, submission_challenge"
    assert f"no table or other target 'similarity_sizes'; there are: {tables}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_prune_lists_what_no_rule_makes(repo: Repo):
    params = yaml.safe_load((repo.folder / "params.yaml").read_text())
    params["pages"] = {}
    (repo.folder / "params.yaml").write_text(yaml.safe_dump(params))
    work = repo.folder / ".scratch/jobs"
    job = json.loads((repo.folder / ".scratch/settings/results/demo/runs/tiny_clip/seed0/manifest.json").read_text())
    with contextlib.chdir(repo.folder):
        unfinished = digests.digest(provenance.request(job))
    for name in (unfinished, "left", "held"):
        (work / name).mkdir(parents=True)
    (work / "held.lock").write_text("7-another_host")
    listed = repo("videomatch", "prune")
    assert "unused  results/demo/pages/neighbours" in listed
    assert "metrics" not in listed
    assert re.findall(r"unused  \.scratch/\S+", listed) == ["unused  .scratch/jobs/left"]
    repo("videomatch", "prune", "--yes")
    assert not (repo.folder / "results/demo/pages/neighbours").exists()
    assert {path.name for path in work.iterdir()} == {unfinished, "held", "held.lock"}


def test_members_are_folds_and_seeds(repo: Repo):
    table = csv.DictReader((repo.folder / "results/demo/tables/folds/table.csv").read_text().splitlines())
    columns = {f"{row['label']} {row['metric']}": row["runs"] for row in table}
    assert set(columns) == {
        f"{row} Spearman ({split})" for row, split in (("one", "valid"), ("one", "test"), ("ensemble", "valid"))
    } | {"ensemble Spearman (test)", "untrained Spearman (test)"}, "what has no folds has no pairs left out of them"
    assert columns["one Spearman (valid)"] == "2" and columns["untrained Spearman (test)"] == "1"
    runs = {p.name for p in (repo.folder / "results/demo/runs/finetuned").iterdir()}
    assert runs == {"fold0-seed0", "fold2-seed0"}
    assert (repo.folder / "results/demo/submissions/challenge/value.json").exists()
    repo.set("systems.finetuned.folds.only", [0, 1])
    made = repo.made()
    assert {m for m in made if m.startswith("runs")} == {"runs/finetuned/fold1-seed0"}
    assert "tables/folds" in made and "tables/search_untrained" not in made
