"""The recipes on real data sets: every name in them exists, every job has its inputs, without any file of theirs."""

from pathlib import Path

import pytest
import yaml

from videomatch.pipeline import params
from videomatch.pipeline.plan import Plan

ROOT = Path(__file__).parents[1]
#: config -> its corpus, its table's protocols
CONFIGS = {
    "msrvtt": ("msrvtt", {"captions_test", "captions_1ka_test", "v2t_captions_1ka_test", "v2t_captions_test"}),
    "msvd": ("msvd", {"captions_test"}),
    "activitynet": ("activitynet", {"captions_val1", "v2t_captions_val1"}),
    "lsmdc": ("lsmdc", {"captions_test", "v2t_captions_test"}),
    "avs": ("avs", {"captions_tv21"}),
}


@pytest.fixture
def plan(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of one config, with empty folders where a person has the data."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("msrvtt", "msvd", "activitynet", "lsmdc", "v3c1"):
        (tmp_path / "data" / name).mkdir(parents=True)
    config = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    file = ROOT / "configs" / f"{request.param}.yaml"
    config = params.overlay(config, yaml.safe_load(file.read_text(encoding="utf-8")))
    raw = {"videos": "v3c1" if request.param == "avs" else request.param, "msrvtt": "msrvtt"}
    for dataset in raw.keys() & config["datasets"].keys():
        config = params.overlay(config, {"datasets": {dataset: {"raw": f"~/data/{raw[dataset]}"}}})
    return Plan(params.resolved(config, [file]))


@pytest.mark.parametrize("plan", CONFIGS, indirect=True)
def test_every_name_exists_and_every_job_has_its_inputs(plan: Plan):
    plan.check()
    corpus, protocols = CONFIGS[plan.params["scale"]]
    assert plan.dataset("videos")["corpus"] == corpus
    assert {split for _, split, _ in plan.cells()} == protocols
    assert plan.data_results() and plan.systems_results() and plan.benchmark_results()
    assert not plan.needed_backbones(["videos"]), "nothing small is trained here"
    for system in plan.needed_runs():
        for member in plan.members(system):
            plan.train_settings(system, member)


@pytest.mark.parametrize("plan", ["msrvtt", "lsmdc"], indirect=True)
def test_the_recipe_of_mmt_is_the_published_one(plan: Plan):
    system = plan.train_settings("mmt", "seed0")["system"]
    assert len(system["examples"]["experts"]) == 7 and system["examples"]["max_tokens"] == 30
    assert (system["model"]["layers"], system["model"]["width"], system["model"]["ffn"]) == (4, 512, 3072)
    assert system["model"]["pretrained"] == system["tokenizer"]["pretrained"] == "bert-base-cased"
    assert system["training"]["batch"] == 32 and system["training"]["lr"] == 5e-5


@pytest.mark.parametrize("plan", ["msrvtt", "msvd"], indirect=True)
def test_the_recipe_of_dual_encoding_is_the_published_one(plan: Plan):
    system = plan.train_settings("dual_encoding", "seed0")["system"]
    model, training = system["model"], system["training"]
    assert (model["dim"], model["hidden"], model["filters"]) == (2048, 1024, 512)
    assert (model["word_dim"], model["word_hidden"], model["word_filters"]) == (500, 512, 512)
    assert model["fuse"] == "concatenate" and model.get("dropout", 0.2) == 0.2 and not model.get("centred")
    assert (
        system["objectives"]["triplet"].get("hardest", True)
        and system["objectives"]["triplet"].get("margin", 0.2) == 0.2
    )
    assert (training["batch"], training["lr"], training["weight_decay"]) == (128, 1e-4, 0.0)
    assert not training.get("lr_scale") and training.get("ema") is None


@pytest.mark.parametrize("plan", ["avs"], indirect=True)
def test_topics_are_searched_a_thousand_deep_with_what_was_learned_elsewhere(plan: Plan):
    assert plan.search_settings("videos", "captions_tv21", "dmt")["top"] >= 1000
    assert plan.train_corpus("dmt") == plan.corpus("msrvtt")
    assert plan.submitted("tv21") == {"rankings": plan.ranking("videos", "captions_tv21", "dmt")}


@pytest.mark.parametrize(
    "name, protocols", [("vcsl", {"copies_val", "copies_test"}), ("vsc2022", {"copies_train", "copies_test"})]
)
def test_same_source_segments_of_real_data_need_features_alone(name: str, protocols: set[str], tmp_path: Path):
    config = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    file = ROOT / "configs" / f"{name}.yaml"
    config = params.overlay(config, yaml.safe_load(file.read_text(encoding="utf-8")))
    plan = Plan(params.resolved(params.overlay(config, {"datasets": {"films": {"raw": str(tmp_path)}}}), [file]))
    plan.check()
    assert plan.needed_datasets() == ["films"] and plan.passes("films") == {"copy": ["copy"]}
    assert {split for _, split, _ in plan.localised_cells()} == protocols
    assert not plan.needed_backbones(["films"]) and plan.segments_results() and plan.benchmark_results()
    assert set(plan.needed_runs()) <= {"made_up", "labelled"}, "nothing else is trained"
    labelled = plan.train_settings("labelled", "seed0")["system"]["examples"]
    assert (labelled["expert"], labelled["split"]) == ("copy", "copies_train"), "never on what a table shows"
    assert plan.train_init("labelled", "seed0") == [plan.run("made_up", "seed0")]
    assert plan.train_corpus("made_up") == plan.train_corpus("labelled") == plan.corpus("films")
    for _, split, system in plan.localised_cells():
        settings = plan.align_settings(split, system)
        asked = plan.systems[system]["align"]
        assert settings["expert"] == "copy"
        assert ("aligner" in settings) == ("aligner" in asked and "tune" not in asked)


def test_the_baseline_of_vsc2022_is_the_published_one(tmp_path: Path):
    config = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    config = params.overlay(config, yaml.safe_load((ROOT / "configs/vsc2022.yaml").read_text(encoding="utf-8")))
    plan = Plan(params.resolved(params.overlay(config, {"datasets": {"films": {"raw": str(tmp_path)}}})))
    assert plan.align_settings("copies_test", "network_copy") == {
        "split": "copies_test",
        "expert": "copy",
        "aligner": "temporal_network",
        "bias": 0.5,
        "score": "max",
        "top": 5,
        "noise": {"split": "val", "beta": 1.0},
        "options": {"max_step": 5, "min_length": 4, "top_k": 5, "min_similarity": 0.2, "published": True},
    }
    assert plan.shortlist_settings("films", "copies_test", "copy")["top"] == 5
    settings = plan.submit_settings("descriptors")
    assert settings["noise"]["split"] == "val" and plan.submitted("descriptors")["features"]
