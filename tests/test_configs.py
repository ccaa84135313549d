"""The recipes on real data sets: every name in them exists, every job has its inputs, without any file of theirs."""

import importlib
import re
from pathlib import Path

import pytest

from videomatch.common import named
from videomatch.pipeline import jobs, lineage, params, rules
from videomatch.pipeline.plan import Plan
from videomatch.specs.systems import Align
from videomatch.training.loop import Training

ROOT = Path(__file__).parents[1]
#: config -> its corpus, its table's protocols
CONFIGS = {
    "msrvtt": ("msrvtt", {f"{way}captions{split}_test" for way in ("", "v2t_") for split in ("", "_1ka", "_1kb")}),
    "msvd": ("msvd", {"captions_test"}),
    "activitynet": ("activitynet", {"captions_val1", "v2t_captions_val1"}),
    "lsmdc": ("lsmdc", {"captions_test", "v2t_captions_test"}),
    "avs": ("avs", {"captions_tv21"}),
    "msrvtt_media": ("msrvtt", {"captions_1ka_test", "v2t_captions_1ka_test"}),
    "msrvtt_ant": ("msrvtt", {"captions_1ka_test"}),
    "vatex": ("vatex", {"captions_test"}),
    "didemo": ("didemo", {"captions_test"}),
    "cnvid": ("vatex", {"captions_test_zh"}),
}


@pytest.fixture
def plan(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of one config, with empty folders where a person has the data."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("msrvtt", "activitynet", "lsmdc"):
        (tmp_path / "data" / name).mkdir(parents=True)
    monkeypatch.chdir(ROOT)
    config, read = params.load([ROOT / "configs" / f"{request.param}.yaml"])
    raw = {dataset: {"raw": str(tmp_path)} for dataset in config["datasets"]}
    return Plan(params.resolved(params.overlay(config, {"datasets": raw}), read))


@pytest.mark.parametrize("plan", CONFIGS, indirect=True)
def test_every_name_exists_and_every_job_has_its_inputs(plan: Plan):
    made = rules.needed(plan)
    corpus, protocols = CONFIGS[plan.params["scale"]]
    assert plan.datasets["videos"].corpus == corpus
    assert {split for _, split, _ in plan.cells} == protocols
    assert {"prepare", "embed", "search", "tabulate"} <= {job.stage for job in made.values()}
    assert not [path for path in made if "/tiny_" in path], "nothing small is trained here"


@pytest.mark.parametrize("plan", ["msrvtt", "lsmdc"], indirect=True)
def test_the_recipe_of_mmt_is_the_published_one(plan: Plan):
    system = jobs.train(plan, "mmt", "seed0").settings["system"]
    assert len(system["examples"]["experts"]) == 7 and system["examples"]["max_tokens"] == 30
    assert (system["model"]["layers"], system["model"]["width"], system["model"]["ffn"]) == (4, 512, 3072)
    assert system["model"]["pretrained"] == system["tokenizer"]["pretrained"] == "bert-base-cased"
    assert system["training"]["batch"] == 32 and system["training"]["lr"] == 5e-5


@pytest.mark.parametrize("plan", ["msrvtt", "msvd"], indirect=True)
def test_the_recipe_of_dual_encoding_is_the_published_one(plan: Plan):
    system = jobs.train(plan, "dual_encoding", "seed0").settings["system"]
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


@pytest.mark.parametrize("plan", ["cnvid"], indirect=True)
def test_the_recipe_of_cnvid_is_the_published_one(plan: Plan):
    job = jobs.train(plan, "pretrain_hscl", "seed0")
    system, training = job.settings["system"], job.settings["system"]["training"]
    assert job.inputs["corpus"] == plan.result("corpora", "web")
    model, examples = system["model"], system["examples"]
    assert (model["queue"], model["momentum"], model["group"]) == (16_384, 0.9999, 128)
    assert model["mining"] == "nearest" and model["mining_rise"] == 0.15
    assert set(system["objectives"]) == {"moco_nce", "vtm", "mlm", "fused_mlm", "itm"}
    assert system["objectives"]["moco_nce"] == {"temperature": 0.05}
    read = ("per_video", "min_words", "min_seconds", "clips", "clip_frames", "max_length", "mask_tokens")
    assert [examples[name] for name in read] == [5, 5, 5.0, 4, 1, 50, 0.15]
    assert (training["batch"], training["lr"], training["weight_decay"]) == (8 * 128, 5e-5, 1e-3)
    for name in ("scratch", "finetuned_hscl"):
        system = jobs.train(plan, name, "seed0").settings["system"]
        assert system["examples"]["clips"] == 16 and set(system["objectives"]) == {"vtm", "mil_nce"}
        assert (system["training"]["batch"], system["training"]["lr"]) == (8 * 32, 1e-5)
    assert jobs.train(plan, "finetuned_hscl", "seed0").inputs["init"] == [plan.run("pretrain_hscl", "seed0")]
    assert jobs.train(plan, "scratch", "seed0").inputs["init"] == []


@pytest.mark.parametrize("plan", ["msrvtt_ant", "vatex", "didemo"], indirect=True)
def test_hard_samples_and_partial_order_have_the_published_constants(plan: Plan):
    system = jobs.train(plan, "tpm", "seed0").settings["system"]
    assert system["objectives"]["neg_nce"] == {"scale": 100.0, "negative_weight": 0.5, "margin": 0.0}
    assert system["objectives"]["partial_order"] == {"margin": 0.6, "orders": "both"}
    model = system["model"]
    assert model["interaction"] == "both" and model["visual_attention"] and model["content_weight"] == 2.0
    plain = jobs.train(plan, "ce", "seed0").settings["system"]
    assert plain["objectives"]["neg_nce"]["negative_weight"] == 0 and not plain["examples"].get("content_words")
    joint = jobs.search(plan, "videos", plan.tables[plan.params["tables"][0]].split, "snp_joint")
    assert joint.settings["rescore"]["top"] is None and joint.inputs["run"] == [plan.run("snp", "seed0")]


@pytest.mark.parametrize("plan", ["avs"], indirect=True)
def test_topics_are_searched_a_thousand_deep_with_what_was_learned_elsewhere(plan: Plan):
    assert jobs.search(plan, "videos", "captions_tv21", "dmt").settings["top"] >= 1000
    assert jobs.train(plan, "dmt", "seed0").inputs["corpus"] == plan.result("corpora", "msrvtt")
    assert jobs.submit(plan, "tv21").inputs["results"] == [plan.result("rankings", "videos", "captions_tv21", "dmt")]


@pytest.mark.parametrize("plan", ["vcsl", "vsc2022"], indirect=True)
def test_same_source_segments_of_real_data_need_features_alone(plan: Plan):
    made = rules.needed(plan)
    protocols = {"vcsl": {"copies_val", "copies_test"}, "vsc2022": {"copies_train", "copies_test"}}
    aligned = {path.split("/")[4]: job for path, job in made.items() if job.stage == "align"}
    assert rules.datasets(plan) == ["films"] and list(plan.passes("films")) == ["copy"]
    assert {path.split("/")[4] for path, job in made.items() if job.stage == "align"} <= protocols[plan.params["scale"]]
    assert aligned
    trained = {path.split("/")[3] for path, job in made.items() if job.stage == "train"}
    assert trained <= {"made_up", "labelled"}, "nothing else is trained"
    labelled = jobs.train(plan, "labelled", "seed0")
    examples = labelled.settings["system"]["examples"]
    assert (examples["expert"], examples["split"]) == ("copy", "copies_train"), "never on what a table shows"
    assert labelled.inputs["init"] == [plan.run("made_up", "seed0")]
    assert labelled.inputs["corpus"] == plan.result("corpora", "films")
    for path, job in made.items():
        if job.stage == "align":
            entry = plan.system_of_kind(path.split("/")[5], Align)
            assert job.inputs["features"] == plan.features("films", "copy")
            assert ("aligner" in job.settings) == (entry.aligner is not None and entry.tune is None)


@pytest.mark.parametrize("plan", ["vsc2022"], indirect=True)
def test_the_baseline_of_vsc2022_is_the_published_one(plan: Plan):
    assert jobs.align(plan, "films", "copies_test", "network_copy", "all").settings == {
        "split": "copies_test",
        "similarity_map": {
            "expert": "copy",
            "bias": 0.5,
            "noise": {"split": "val"},
        },
        "aligner": "temporal_network",
        "score": "max",
        "top": 5,
        "options": {"max_step": 5, "min_length": 4, "top_k": 5, "min_similarity": 0.2, "published": True},
    }
    assert jobs.shortlist(plan, "films", "copies_test", "network_copy").settings["top"] == 5
    job = jobs.submit(plan, "descriptors")
    assert job.settings["noise"]["split"] == "val" and job.inputs["results"]


@pytest.fixture
def text_video(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(ROOT)
    config, read = params.load(["configs/text_video.yaml"])
    return Plan(params.resolved(config, read))


def test_what_ranks_again_is_read_by_the_search_and_among_what_it_learned_from(text_video: Plan):
    plan = text_video
    own, every = (jobs.search(plan, "videos", "captions_test", name) for name in ("dmae_again", "best_again"))
    seeds = plan.members("dmae")
    assert own.inputs["run"] == [plan.run("dmae", seed) for seed in seeds] and len(seeds) == 5
    assert every.inputs["run"] == [plan.run("best_match", seed) for seed in seeds]
    assert every.inputs["embeddings"] == plan.result("embeddings", "videos", "best")
    for job, weight in ((own, {}), (every, {"weight": 0.5})):
        assert job.inputs["features"] == plan.features("videos", "clip") and job.experts == ["clip"]
        assert {"models.token_match", "examples.caption_video"} <= set(job.modules)
        assert job.settings["rescore"] == {"method": "rerank", "top": 50} | weight
        assert job.settings["groups"] == ["family"], "as a column of its tables needs"
    other = jobs.search(plan, "videos", "captions_test", "zero_shot_again")
    assert other.inputs["run"] == [plan.run("dmae_tpm", "seed0")], "of another system the first member"
    learned = lineage.learned(plan, "videos", "zero_shot_again", "all")
    assert learned["zero_shot_again → reranker dmae_tpm"]["own"]
    learned = lineage.learned(plan, "videos", "best_again", "seed3")
    assert learned["best_again → best → best_match"]["own"]
    assert {about["dataset"] for about in learned.values()} == {"pictures", "videos", "web"}


def test_all_together_is_made_of_every_method_and_compared_with_none_of_them(text_video: Plan):
    plan = text_video
    match, encoder = (jobs.train(plan, name, "seed1") for name in ("best_match", "best_encoder"))
    model, objectives = (match.settings["system"][part] for part in ("model", "objectives"))
    assert model["visual_attention"] and model["importance"] and match.settings["system"]["examples"]["content_words"]
    assert objectives["neg_nce"]["negative_weight"] == 0.5 and objectives["partial_order"].get("orders") in (
        None,
        "both",
    )
    assert match.inputs["init"] == [plan.run("pretrain_match", "seed0")]
    assert encoder.inputs["init"] == [plan.run("pretrain_best", "seed0")]
    pretrained = jobs.train(plan, "pretrain_best", "seed0").settings["system"]
    assert pretrained["model"]["mining"] == "nearest" and pretrained["examples"]["mask_content"]
    assert "lvwm" in pretrained["objectives"]
    for name in ("pretrain_best", "pretrain_match"):
        job = jobs.train(plan, name, "seed0")
        assert job.inputs["scores"] == [plan.result("scores", "web", "pair_filter")]
        assert job.settings["system"]["examples"]["texts"] == ["title", "asr"]
    scratch = jobs.train(plan, "match_ce", "seed1")
    assert not scratch.inputs["init"] and scratch.settings["system"]["objectives"]["neg_nce"]["negative_weight"] == 0
    assert plan.tables["search_hard_samples"].base == "match_ce_again"


def test_a_run_takes_the_processors_that_training_has_by_default():
    assert Training().threads == jobs.THREADS


@pytest.mark.parametrize("plan", ["msrvtt"], indirect=True)
@pytest.mark.parametrize("table", ["search_mmt_1ka", "search_mmt_1ka_ablations", "search_mmt_1kb", "search_mmt_7k"])
def test_tables_of_released_features_need_no_clip(plan: Plan, table: str):
    """The results that a table is made from, as the engine follows them from its name."""
    assert table in plan.tables
    found, waiting = set(), [plan.result("tables", table)]
    while waiting:
        job = rules.job_of(plan, waiting.pop())
        inputs = {path for paths in job.inputs.values() for path in ([paths] if isinstance(paths, str) else paths)}
        waiting += inputs - found
        found |= inputs
    features = {path.split("/")[4] for path in found if "/features/" in path}
    assert features == {"face", "ocr", "rgb", "s3d", "scene", "speech", "vggish"}, (
        "each a pass of its own, none decodes"
    )


def test_every_data_set_is_described_with_its_files_configs_and_tables(monkeypatch: pytest.MonkeyPatch):
    """DATA.md has a section for each reader, which names the files that its code looks for, and the configs and tables
    that use it."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "DATA.md").read_text(encoding="utf-8")
    parts = re.split(r"^## `(\w+)`$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert sections.keys() == set(named.names("corpora"))
    for corpus, section in sections.items():
        constants = {
            n: v for n, v in vars(importlib.import_module(f"videomatch.corpora.{corpus}")).items() if n.isupper()
        }
        files = re.findall(r"'([\w.]+\.(?:jsonl?|csv|txt))'", repr(constants))
        missing = {file for file in files if file not in section}
        assert not missing, f"{corpus}: {sorted(missing)}"
    for file in sorted((ROOT / "configs").glob("*.yaml")):
        content, _ = params.load([file])
        corpora = {entry["corpus"] for entry in content["datasets"].values()}
        assert all(f"`{file.name}`" in sections[corpus] for corpus in corpora), file.name
        described = " ".join(sections[corpus] for corpus in corpora)
        assert all(f"`{table}`" in described for table in content.get("tables", [])), file.name
