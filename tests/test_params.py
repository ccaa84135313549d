"""Every mistake in the parameters is found before a job starts, with its place and the nearest name."""

import datetime
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from paths import ROOT
from repo import Repo
from videomatch.pipeline import check, jobs, params, rules
from videomatch.pipeline import plan as plan_module
from videomatch.pipeline.plan import Plan

#: examples of a system
DMT = {"kind": "caption_video", "expert": "clip"}


def config() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def change(path: str, value) -> dict:
    changed = config()
    *parents, last = path.split(".")
    entry = changed
    for name in parents:
        entry = entry[name]
    entry[last] = value
    return changed


def test_the_projects_own_parameters_are_right():
    assert params.resolved(config())["scale"] == "demo"


def test_values_of_the_command_line_have_the_types_of_a_file():
    given = (
        "{epochs: 8, lr: 1.0e-3, use: true, tune: null, name: x, list: [1, '2', y], raw: '2024', title: 'one # two'}"
    )
    inner = {"epochs": 8, "lr": 1e-3, "use": True, "tune": None, "name": "x", "list": [1, "2", "y"]}
    assert params.load([], [f"a={given}", "a={epochs: 9}"])[0] == {
        "a": inner | {"epochs": 9, "raw": "2024", "title": "one # two"}
    }
    with pytest.raises(ValueError, match=r"--config a=\[1: not YAML"):
        params.load([], ["a=[1"])


def test_both_engines_read_values_of_the_command_line_alike(tmp_path: Path):
    repo = Repo(tmp_path, toy=False, dvc=False)
    (tmp_path / "2024").mkdir()
    for value, is_right in (('"2024"', True), ("2024", False)):
        given = ["--config", f"datasets={{mine: {{corpus: folder, raw: {value}}}}}"]
        for command in (["snakemake", "-n", *given], ["videomatch", *given, "tables"]):
            done = repo.run(*command)
            said = done.stdout + done.stderr
            assert (done.returncode == 0) == is_right, said
            assert ("2024 is not a value of type str" in said) != is_right


def bomb(line: str) -> str:
    return "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {line.replace('@', f'*a{n - 1}')}\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb("[@, @, @, @, @, @, @, @]"), "with its aliases"),
        (bomb("{k: @, l: @, m: @}"), "with its aliases"),
        (bomb("{<<: [@, @, @]}"), "with its aliases"),
        ("systems: &a\n  b: *a\n", "leads back to itself"),
        ("systems: " + "[" * 20_000, "nested too deeply"),
    ],
)
def test_a_file_whose_aliases_stand_for_too_much_is_refused_at_once(tmp_path: Path, text: str, message: str):
    file = tmp_path / "bomb.yaml"
    file.write_text(text)
    started = time.process_time()
    with pytest.raises(params.ParamsError, match=rf"bomb\.yaml.*{message}"):
        params.load([file])
    assert time.process_time() - started < 5


def test_aliases_of_a_reasonable_size_are_read(tmp_path: Path):
    file = tmp_path / "aliases.yaml"
    file.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n")
    assert params.load([file])[0] == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]}


def test_from_merges_replaces_and_removes():
    systems = {
        "a": {"model": {"name": "x", "width": 1}, "objectives": {"p": {}, "q": {"weight": 2}}, "seeds": [0, 1]},
        "b": {"from": "a", "model": {"width": 2}, "objectives": {"p": None, "r": {}}, "seeds": [5]},
        "c": {"from": "b", "model": {"name": "y"}},
    }
    resolved = params.resolve(systems)
    assert resolved["b"] == {
        "model": {"name": "x", "width": 2},
        "objectives": {"q": {"weight": 2}, "r": {}},
        "seeds": [5],
    }
    assert resolved["c"]["model"] == {"name": "y", "width": 2}
    assert systems["a"]["objectives"] == {"p": {}, "q": {"weight": 2}}, "nothing is changed in place"


def test_from_in_a_circle_is_an_error():
    with pytest.raises(params.ParamsError, match="a → b → a"):
        params.resolve({"a": {"from": "b"}, "b": {"from": "a"}})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("datset", {}, "no section named 'datset'; did you mean 'datasets'?"),
        ("scale", "../up", "is no folder name"),
        ("scale", None, "is no folder name"),
        ("seed", "zero", "is not a whole number"),
        ("datasets.videos.corpus", "generatd", "no corpus named 'generatd'; did you mean 'generated'?"),
        ("datasets.videos.corpus", "folder", "option 'raw' is missing"),
        ("datasets.videos.shards", 0, "not a whole number of at least 1"),
        ("datasets.videos.exact_up_to", 0, "not a whole number of at least 1"),
        ("datasets.videos.experts", ["clp"], "no expert named 'clp'; did you mean 'clip'?"),
        ("datasets.videos.experts", "clip", "'clip' is not a value of type list"),
        ("experts.clip", {"backbone": "clip"}, "option 'extractor' is missing"),
        ("experts.clip", "image", "expected a mapping, got 'image'"),
        ("datasets.videos.options.vidoes", 3, "no option named 'vidoes'; did you mean 'videos'?"),
        ("backbones.clip.system", "tinyclip", "did you mean 'tiny_clip'?"),
        ("backbones.clip", {}, "expected either"),
        ("experts.clip.extractor", "imag", "no extractor named 'imag'; did you mean 'image'?"),
        ("experts.frames.evry", 1, "no option named 'evry'; did you mean 'every'?"),
        ("experts.clip.source", "frame", "no expert named 'frame'; did you mean 'frames'?"),
        ("systems.tiny_clip.model.name", "clop", "no model named 'clop'; did you mean 'clip'?"),
        ("systems.tiny_clip.model.widht", 3, "did you mean 'width'?"),
        ("systems.tiny_clip.training.epoch", 3, "did you mean 'epochs'?"),
        ("systems.tiny_clip.objectives", {"clip_contrastve": {}}, "did you mean 'clip_contrastive'?"),
        ("systems.tiny_clip.objectives.clip_contrastive", 0.5, "expected a mapping, got 0.5"),
        ("systems.network_copy.align.tune", {"split": "copies_val", "grid": "our"}, "did you mean 'ours'?"),
        ("systems.title.from", "titel", "no system named 'titel'; did you mean 'title'?"),
        ("systems.tiny_clip.examples.kind", "frame_captin", "did you mean 'frame_caption'?"),
        ("systems.tiny_clip.dataset", "vidos", "no dataset named 'vidos'; did you mean 'videos'?"),
        ("systems.title.embedings", {}, "did you mean 'embeddings'?"),
        ("systems.title", {"label": 3}, "expected exactly one of"),
        ("systems.title_and_frames.combine.systems", ["titel"], "did you mean 'title'?"),
        ("systems.tiny-x", {}, "cannot be a name"),
        ("tables", ["similarity_untraind"], "did you mean 'similarity_untrained'?"),
        ("tables", "similarity_untrained", "expected a list"),
        ("tables", ["similarity_untrained", "similarity_untrained"], "stands twice"),
        ("pages.run.system", "titl", "did you mean 'title'?"),
        ("systems.pooled_clip.embeddings.pool", "maen", "did you mean 'mean'?"),
        ("systems.title.embeddings.texts", ["titel"], "did you mean 'title'?"),
        ("systems.title.embeddings", {}, "expected `features:`"),
        ("systems.title.embeddings", {"texts": ["title"], "text_encoder": "clip"}, "needs `features:`"),
        ("systems.title_and_frames.combine", {"systems": ["title_and_frames"]}, "is made of itself"),
        ("systems.title_and_frames.combine", {"systems": ["title", "zero_shot"], "weights": [1]}, "1 weights for 2"),
        ("systems.title_and_frames.combine", {}, "a list of at least one"),
        ("systems.tiny_clip.training.lr", "1e-3", "write 1.0e-3, not 1e-3"),
        ("systems.tiny_clip.training.epochs", "three", "is not a value of type int"),
        ("systems.detector.examples.synthetic", "many", "is not a value of type int"),
        ("systems.tiny_clip.seeds", 3, "is not a value of type list"),
        ("systems.tiny_clip.seeds", ["one"], "'one' is not a value of type int"),
        ("systems.tiny_clip.seeds", [], "is not a list of whole numbers"),
        ("systems.tiny_clip.init", "tiny_clip", "starts from itself"),
        ("systems.tiny_clip.init", {"fresh": ["x"]}, "expected a system"),
        ("systems.tiny_clip.init", {"from": "tiny_scene", "fresh": ["("]}, "is no regular expression"),
        ("systems.tiny_clip.init", ["tiny_scene", "title"], "is not trained"),
        ("experts.copy_cover.method", "unifrom", "did you mean 'uniform'"),
        ("experts.copy_cover.key_frames_of", "copy_cover", "is key frames itself"),
        ("experts.copy_cover.backbone", "clip", "either `method:` or `backbone:`"),
        ("systems.network_copy.align.aligner", "temporal_netwrok", "did you mean 'temporal_network'"),
        ("systems.network_copy.align.detector", "tiny_clip", "either `aligner:`"),
        ("systems.network_copy.align.options", {"top_k": 3}, "either given or tuned"),
        ("systems.network_copy.align.tune", {"grid": "ours"}, "option 'split' is missing"),
        ("systems.network_copy.align.tune", {"split": "x", "grid": {"topk": [1]}}, "did you mean 'top_k'"),
        ("systems.network_copy.align.shortlist", {"tops": 3}, "did you mean 'top'"),
        ("systems.pipeline.align.tune.split", ["copies_val", "copies_train"], "expected one protocol"),
        ("systems.network_copy.align.noise", {"beta": 1.0}, "option 'split' is missing"),
        ("systems.ours_all.combine.systems", ["network_copy"], "has no embeddings"),
        ("systems.dmt_frame_max.rescore", {"system": "dmt", "method": "rerank"}, "`reranker:` (a trained system"),
        ("systems.dmt_frame_max.rescore", {"system": "dmt", "method": "rerank", "reranker": "title"}, "is not trained"),
        (
            "systems.dmt_frame_max.rescore",
            {"system": "dmt", "method": "rerank", "reranker": "mmt"},
            "models/mmt.py has no Model.match",
        ),
        ("systems.pair_filter.filter.top", 0, "is not a whole number of at least 1"),
        ("systems.pair_filter.filter.texts", ["titel"], "did you mean 'title'?"),
        ("systems.tiny_clip.examples.filter", "zero_shot", "is no `filter:`"),
        ("systems.tiny_clip.examples.keep", 0.5, "by the scores of a `filter:`, and there is none"),
        ("systems.dmt.examples", {**DMT, "filter": "pair_filter", "keep": 1.5}, "is not a share above 0"),
        ("systems.ours_all.combine.systems", ["pair_filter"], "it filters pairs"),
        ("systems.tiny_clip.init", "title", "is not trained"),
        ("systems.tiny_clip.objectives", {}, "nothing would be learned"),
        ("systems.title", "text", "expected a mapping"),
        ("backbones.clip.system", "title", "is not trained"),
        ("experts.frames.every", 0, "seconds above 0"),
        ("datasets.videos.options.videos", "many", "is not a value of type int"),
        ("datasets.videos.seed", "abc", "is not a value of type int"),
        ("pages.run", {"dataset": "videos", "system": "title"}, "option 'split' is missing"),
        ("seed", True, "is not a whole number"),
        ("datasets", {}, "no dataset named 'videos'"),
        ("datasets.web.raw", "/some/folder", "'generated' reads no files; for your own videos: `corpus: folder`"),
        ("datasets.web.options", {"videos": 6}, "datasets.web.options.videos: Input should be greater than or equal"),
        ("datasets.web.options.min_duration", 50, "expected min_duration <= median_duration <= max_duration"),
        ("datasets.web.seed", -1, "is not a whole number of at least 0"),
        ("datasets.web.embed", [datetime.date(2021, 1, 1)], "is not a value of type str"),
        ("datasets", 5, "expected a mapping of names, got 5"),
        ("systems", ["a"], "expected a mapping of names, got ['a']"),
        ("systems", "text", "expected a mapping of names, got 'text'"),
        ("systems.title.from", ["tiny_clip"], "no system named ['tiny_clip']"),
        ("systems.title_and_frames.combine.systems", [["title"]], "['title'] is not a value of type str"),
        ("systems.title_and_frames.combine.weights", ["a", "b"], "'a' is not a value of type float"),
        ("systems.title_and_frames.combine.weights", [-1, 2], "-1 is not a number of at least 0"),
        ("systems.title_and_frames.combine.dim", -4, "is not a whole number of at least 1"),
        ("systems.tiny_clip.training", {"batch": 0}, "training.batch 0, expected at least 1"),
        ("systems.tiny_clip.training", {"epochs": 3, "keep": "best"}, "need a monitor"),
        ("systems.tiny_clip.training.lr_scale", {"(": 1.0}, "'(' is no regular expression"),
        ("systems.tiny_clip.tokenizer", {"pretrained": "./nope"}, "./nope does not exist"),
        ("systems.tiny_clip.seeds", [0, 1, 0], "0 stands twice"),
        ("systems.tiny_clip.seeds", [-1], "is not a whole number of at least 0"),
        ("systems.tiny_clip.folds", {"count": 3, "only": [1, 1]}, "1 stands twice"),
        ("systems.network_copy.align.tune.grid", {"min_similarity": 5}, "expected a list of values to try, got 5"),
        ("systems.network_copy.align.tune.grid", {"top_k": ["x"]}, "'x' is not a value of type int"),
        ("systems.network_copy.align.shortlist", {"codec": "SQ16"}, "no codec named 'SQ16'"),
        ("systems.network_copy.align.tune", {"split": None}, "option 'split' is missing"),
        ("systems.pair_filter.filter.expert", None, "option 'expert' is missing"),
        ("systems.dmt_frame_max.rescore.system", None, "option 'system' is missing"),
        ("systems.tiny_clip.examples.split", None, "None is not a value of type list or str"),
        ("pages.run.split", None, "option 'split' is missing"),
        ("pages.run.system", None, "option 'system' is missing"),
        ("pages.run.top", None, "None is not a value of type int"),
        ("pages.run.top", -5, "is not a whole number of at least 1"),
        ("experts.media", {"extractor": "frames"}, "is the name of the pass over the videos"),
        ("seed", -1, "is not a whole number of at least 0"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_nearest_name(path: str, value, message: str):
    with pytest.raises(params.ParamsError) as error:
        params.resolved(change(path, value))
    assert message in str(error.value)
    assert path.split(".")[0].removesuffix("s") in str(error.value)


def test_all_mistakes_are_listed_at_once_with_file_and_line(tmp_path: Path):
    text = (ROOT / "params.yaml").read_text()
    file = tmp_path / "params.yaml"
    file.write_text(text.replace("extractor: frames", "extractor: frams", 1).replace("corpus: gen", "corpus: gn", 1))
    with pytest.raises(params.ParamsError) as error:
        params.resolved(yaml.safe_load(file.read_text()), [file])
    lines = str(error.value).splitlines()
    assert lines[0] == "2 mistakes in the parameters:"
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if "frams" in line:
            assert f"{file}:{number} experts.frames.extractor: no extractor named 'frams'" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale: one\nseed: [1\ntables: []\n", "{file}:3: not YAML: expected ',' or ']'"),
        ("scale: one\nsystems:\n  a: {x: 1}\n  b: {}\n  a: {x: 2}\n", "{file}:5 systems.a: the key stands twice"),
        ("- scale\n- seed\n", "{file}: expected a mapping, got ['scale', 'seed']"),
        ("base: nothing.yaml\n", "nothing.yaml: No such file or directory"),
        ("base: tests\n", "tests: Is a directory"),
        ("base: 5\n", "{file}: `base:` is 5, expected a file or a list of files"),
        ("base: {file}\n", "{file}: a circle of `base:`: {file} → {file}"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line(tmp_path: Path, text: str, message: str, monkeypatch):
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("{file}", str(file)))
    monkeypatch.chdir(ROOT)
    with pytest.raises(params.ParamsError) as error:
        params.load([file])
    assert message.format(file=file) in str(error.value)


def test_one_misspelt_section_is_one_mistake():
    with pytest.raises(params.ParamsError, match="1 mistake in the parameters"):
        params.resolved({**{k: v for k, v in config().items() if k != "systems"}, "sytems": config()["systems"]})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("backbones.clip.system", "tiny_clap", "no system named 'tiny_clap'; did you mean 'tiny_clip'?"),
        (
            "datasets.videos.experts",
            ["clip"],
            "datasets.videos.experts lists ['clip'], but expert 'frames' is needed there",
        ),
    ],
)
def test_a_mistake_stops_snakemake_with_one_message_and_no_traceback(tmp_path: Path, path: str, value, message: str):
    repo = Repo(tmp_path, toy=False, dvc=False)
    repo.set(path, value)
    done = repo.run("snakemake", "-n")
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (repo.folder / "results").exists()


def test_the_command_line_says_the_same(tmp_path: Path):
    broken = tmp_path / "mine.yaml"
    broken.write_text("base: params.yaml\nsystems:\n  title: {embeddings: {txts: [title]}}\n")
    command = [sys.executable, "-m", "videomatch.cli", "--configfile", str(broken), "tables"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{broken}:3 systems.title.embeddings.txts: no option named 'txts'; did you mean 'texts'?" in done.stderr


def test_a_backbone_starts_from_other_systems_and_these_from_others():
    plan = Plan(params.resolved(change("systems.tiny_ast.init", ["tiny_scene", "job1"])))
    initial = [("tiny_scene", "seed0"), ("job1", plan.members("job1")[0])]
    assert plan.initial_members("tiny_ast", "seed0") == initial
    assert jobs.train(plan, "tiny_ast", "seed0").inputs["init"] == [plan.run(*one) for one in initial]
    assert {plan.run(system) for system in ("tiny_scene", "job1", "pretrain_job1")} <= rules.needed(plan).keys()


def test_a_file_stands_alone_or_names_its_base(tmp_path: Path):
    (tmp_path / "base.yaml").write_text("scale: one\nsystems: {a: {x: 1}}\n")
    (tmp_path / "mine.yaml").write_text(f"base: {tmp_path}/base.yaml\nscale: two\nsystems: {{a: {{y: 2}}}}\n")
    (tmp_path / "alone.yaml").write_text("scale: three\n")
    assert params.load([tmp_path / "alone.yaml"])[0] == {"scale": "three"}
    merged, read = params.load([tmp_path / "mine.yaml"])
    assert merged == {"scale": "two", "systems": {"a": {"x": 1, "y": 2}}}
    assert read == [tmp_path / "base.yaml", tmp_path / "mine.yaml"]
    merged, _ = params.load([tmp_path / "mine.yaml"], ["systems={a: {y: 3}, b: {z: 1.0e-3}}"])
    assert merged["systems"] == {"a": {"x": 1, "y": 3}, "b": {"z": 1e-3}}, "values of --config have types"


def test_a_size_beyond_which_neighbours_are_looked_up_is_told_to_searches_of_its_data_set_alone():
    plan = Plan(params.resolved(change("datasets.videos.exact_up_to", 1000)))
    for dataset, split in (("videos", "captions_test"), ("web", "captions_test")):
        found = jobs.search(plan, dataset, split, "zero_shot").settings.get("exact_up_to")
        assert found == {"videos": 1000, "web": None}[dataset]


def test_a_circle_through_an_expert_and_its_backbone_is_named():
    given = change("datasets.pictures.experts", ["frames", "clip"])
    given["systems"]["tiny_clip"]["examples"]["expert"] = "clip"
    with pytest.raises(ValueError, match=r"a circle .*: .*runs/tiny_clip/seed0 → .*features/pictures/clip/. → "):
        rules.needed(Plan(params.resolved(given)))


@pytest.mark.parametrize("split", ["val.1", "my val"])
def test_a_protocol_whose_name_is_no_name_of_a_folder_is_refused(split: str):
    given = change("pages.run.split", split)
    with pytest.raises(ValueError, match=f"{split}.*: .*letters, digits, _ and -"):
        rules.needed(Plan(params.resolved(given)))


def test_a_table_has_a_name_that_no_rule_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("my.table", "train"):
        shutil.copy(ROOT / "workflow/tables/search_overview.yaml", tmp_path / f"{name}.yaml")
    for module in (check, plan_module):
        monkeypatch.setattr(module, "TABLES", tmp_path)
    with pytest.raises(params.ParamsError, match="'train' is the name of a rule"):
        params.resolved(change("tables", ["train"]))
    with pytest.raises(ValueError, match=r"tables/my\.table: .*letters, digits, _ and -"):
        rules.needed(Plan(params.resolved(config() | {"tables": ["my.table"], "pages": {}})))
