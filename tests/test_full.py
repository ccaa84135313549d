"""``configs/full.yaml``: the published recipe, planned on a small folder of the competition's layout; and the same
chain run on it for real with a tiny model."""

import contextlib
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from paths import ROOT
from records import example, write
from repo import Repo
from small_project import made
from videomatch.common.checkpoint import load_weights
from videomatch.common.vectors import unit_rows
from videomatch.data.store import Store
from videomatch.models import fusion_bert
from videomatch.pipeline import jobs, params, rules
from videomatch.pipeline.plan import Plan
from videomatch.reports.submission_aiac import check
from videomatch.specs.systems import Trained

TEST_B = [str(9 * 10**17 + n) for n in range(8)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """60 videos about six things, in the competition's files: 32 pointwise, 20 pairwise, 8 to test."""
    folder = tmp_path_factory.mktemp("aiac")
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(6, 1536))
    things = ["红色的车", "蓝色的猫", "做饭", "足球比赛", "唱歌", "游戏"]

    def video(video_id: str, thing: int, tagged: bool = True) -> bytes:
        frames = looks[thing] + rng.normal(size=(int(rng.integers(5, 9)), 1536))
        tags = {"tag_id": [100 + thing, 200 + thing % 2], "category_id": [10100 + thing]} if tagged else {}
        return example(
            id=[video_id.encode()],
            title=[f"{things[thing]} 第{video_id[-2:]}集".encode()],
            asr_text=[things[thing].encode() if thing % 2 else b""],
            frame_feature=[frame.astype("<f2").tobytes() for frame in frames],
            **tags,
        )

    pairwise = [str(5 * 10**17 + n) for n in range(20)]
    for n in (0, 1):
        messages = [video(str(10**17 + i), i % 6) for i in range(16 * n, 16 * n + 16)]
        write(folder / f"pointwise/pretrain_{n}.tfrecords", messages)
    write(folder / "pairwise/pairwise.tfrecords", [video(v, n % 6) for n, v in enumerate(pairwise)])
    for part in ("test_a", "test_b"):
        write(folder / f"{part}/{part}.tfrecords", [video(v, n % 6, False) for n, v in enumerate(TEST_B)])
    lines = [
        f"{a}\t{b}\t{(0.9 if i % 6 == j % 6 else 0.1) + 0.05 * (i % 2)}\n"
        for i, a in enumerate(pairwise)
        for j, b in enumerate(pairwise)
        if i < j
    ]
    (folder / "pairwise/label.tsv").write_text("".join(lines))
    (folder / "tag_list.txt").write_text("".join(f"{t}\n" for t in (200, 201, *range(100, 106))))
    return folder


def full(raw: Path) -> dict:
    """The parameters of a full run, with the data in another place."""
    with contextlib.chdir(ROOT):
        config, _ = params.load(["configs/full.yaml"])
    return params.resolved(params.overlay(config, {"datasets": {"videos": {"raw": str(raw)}}}))


def test_the_recipe_is_the_published_one(raw):
    systems = full(raw)["systems"]
    for name, epochs in (
        ("pretrain_job1", 40),
        ("pretrain_job2", 40),
        ("pretrain_job3", 40),
        ("pretrain_job4", 5),
        ("pretrain_job5", 32),
        ("pretrain_job6", 24),
        ("pretrain_quarter", 10),
        ("pretrain_half", 20),
    ):
        system = systems[name]
        assert system["training"]["epochs"] == epochs and system["training"]["batch"] == 128, name
        assert system["training"]["lr"] == 5e-5 and system["training"]["eps"] == 1e-6, name
        assert system["objectives"]["bce_tags"]["weight"] == pytest.approx(1250 / 3), name
        assert system["objectives"]["mlm"]["weight"] == pytest.approx(1 / 3.75), name
        assert system["model"]["backbone"] == "large" and system["examples"]["num_tags"] == 10_000, name
    assert {n for n, s in systems.items() if "mfm_nce" in s.get("objectives", {})} == {
        "pretrain_job1", "pretrain_job2", "pretrain_job4", "pretrain_job5", "pretrain_job6",
        "pretrain_base", "pretrain_quarter", "pretrain_half", "pretrain_ours",
    }  # fmt: skip
    for name in ("job1", "job2", "job3", "job4", "job5", "job6"):
        training, examples = systems[name]["training"], systems[name]["examples"]
        assert (training["epochs"], training["batch"], training["lr"]) == (10, 32, 1e-5), name
        assert list(training["lr_scale"].values()) == [5] and training["keep"] == "best", name
        assert systems[name]["objectives"] == {"cosine_mse": {"weight": 1.0}}, name
        assert systems[name]["init"]["from"] == f"pretrain_{name}", name
        assert systems[name]["folds"]["count"] == 5 and examples["split"] == "pairs", name
        first = examples.get("layout", "frames_inside") == "frames_first"
        assert first == (name in ("job2", "job3")) and examples["texts"] == {"title": 34 if first else 33}, name
        assert systems[name]["model"]["pool"] == ("attention_all" if name in ("job4", "job5") else "mean_all"), name
    assert systems["pretrain_job6"]["examples"]["mask_tokens"] == 0.25
    assert systems["pretrain_job5"]["examples"]["split"] == ["pretrain", "test_a", "test_b"]
    assert systems["base"]["model"]["backbone"] == "base"
    assert systems["shared_folds"]["examples"]["protocol"] == "remainder"
    assert systems["shared_folds"]["folds"]["only"] == [0]


@pytest.mark.parametrize("scale", ["evidence", "full"])
def test_of_initial_weights_only_those_are_left_that_a_system_names(raw, scale, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = full(raw) if scale == "full" else params.resolved(*params.load([Path("configs/evidence.yaml")]))
    plan = Plan(config)

    def model(name):
        """Its model, as small as can be, with the parts and tables of positions that the recipe says."""
        entry = plan.systems[name]
        examples = dict(entry.examples.further)
        texts, first = examples["texts"], examples.get("layout") == "frames_first"
        options = {k: v for k, v in entry.model.further.items() if k in ("pool", "heads", "tags_from")}
        options |= {
            "layers": 1,
            "width": 8,
            "heads_count": 2,
            "ffn": 8,
            "embedding_dim": 4,
            "vocab_size": 9,
            "frame_dim": 5,
        }
        options["max_tokens"] = 2 - first + sum(texts.values()) + len(texts)
        if "tags" in options.get("heads", ()):
            options["num_tags"] = 3
        return fusion_bert.Model(fusion_bert.Config(**options, max_frames=examples["max_frames"]))

    started = [
        name
        for name, entry in plan.systems.items()
        if isinstance(entry, Trained) and entry.model.name == "fusion_bert" and entry.init is not None
    ]
    assert {"job1", "job4", "with_asr", "ours", "ours_frames", "ours_text"} <= set(started)
    for name in started:
        init = plan.systems[name].init
        load_weights(model(name), model(init.from_).state_dict(), fresh=init.fresh)


def test_every_job_has_its_inputs(raw):
    plan = Plan(full(raw))
    made = rules.needed(plan)
    assert jobs.prepare(plan, "videos").settings["options"] == {"cleaned": False}
    assert rules.datasets(plan) == ["videos"] and not [path for path in made if "/tiny_" in path]
    extraction = jobs.extract(plan, "videos", plan.pass_of("effnet"), "0")
    assert extraction.settings["released"] == {"corpus": "aiac", "raw": str(raw)}
    assert "corpora.aiac" in extraction.modules
    assert {split for _, split, _ in plan.cells} == {"out_of_fold"}, "labels of test videos are not published"
    members = plan.combined_members("ensemble")
    assert len(members["all"]) == 30 and sum(w for *_, w in members["all"]) == pytest.approx(6)


def test_a_dry_run_plans_the_whole(raw, tmp_path):
    repo = Repo(tmp_path / "repo", toy=False, dvc=False)
    (repo.folder / "configs").mkdir()
    (repo.folder / "configs/full.yaml").write_text((ROOT / "configs/full.yaml").read_text(encoding="utf-8"))
    (repo.folder / "my.yaml").write_text(yaml.safe_dump({"datasets": {"videos": {"raw": str(raw)}}}))
    said = repo("snakemake", "-n", "--configfile", "configs/full.yaml", "my.yaml")
    listed = re.findall(r"(\d+) (\w+)", re.search(r"^\d+ jobs: (.*)", said, re.M)[1])
    counts = {name: int(count) for count, name in listed}
    assert counts["prepare"] == 1 and counts["extract"] == 4 and counts["submit"] == 1
    assert counts["train"] > 6 * 5 + 6 and "render" not in counts
    assert counts["tabulate"] == 6


def tiny(raw: Path) -> Plan:
    """The same systems, a thousand times smaller; the ensemble has two of them."""
    with contextlib.chdir(ROOT):
        config, _ = params.load(["configs/full.yaml"])
    del config["systems"]["pretrain_job1"]["model"]["backbone"]
    small = {
        "model": {"layers": 1, "width": 32, "heads_count": 2, "ffn": 64, "embedding_dim": 16},
        "tokenizer": {"pretrained": None, "vocab_size": 300},
        "examples": {"num_tags": 8},
        "training": {"epochs": 2, "batch": 8, "lr": 1e-3, "precision": "fp32"},
    }
    changes = {
        "datasets": {"videos": {"raw": str(raw), "shards": 2}},
        "systems": {
            "pretrain_job1": small,
            "job1": {"folds": {"count": 2, "only": [0, 1]}, "training": {"epochs": 1, "batch": 8, "lr": 1e-3}},
            "ensemble": {"combine": {"systems": ["job1", "job2"], "dim": 16}},
        },
        "tables": [],
    }
    return Plan(params.resolved(params.overlay(config, changes)))


def test_from_the_competitions_files_to_its_archive(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = tiny(raw)
    wanted = rules.needed(plan)
    assert sum(job.stage == "train" for job in wanted.values()) == 6
    order = ["prepare", "extract", "train", "embed", "combine", "submit"]
    # jobs start from the weights of those that pretrain
    for result, job in sorted(wanted.items(), key=lambda item: (order.index(item[1].stage), "pretrain" not in item[0])):
        made(result, job.stage, job.settings, job.inputs)
    parts = jobs.combine(plan, "videos", "ensemble").inputs["embeddings"]

    archive = Path(plan.result("submissions", "aiac")).parent / "result.zip"
    check(archive, TEST_B)
    result = json.loads(zipfile.ZipFile(archive).read("result.json"))
    rows = unit_rows(np.array([result[video_id] for video_id in TEST_B]))
    assert rows.shape == (8, 16)
    folders = [Path(p).parent / f"fold{f}-seed2021/videos" for p in parts for f in (0, 1)]
    members = [unit_rows(Store(folder).gather(TEST_B)[0].astype(float)) for folder in folders]
    # 64 dimensions to 16: the cosines of the 8 videos are nearly the mean of the members'
    np.testing.assert_allclose(rows @ rows.T, np.mean([m @ m.T for m in members], axis=0), atol=0.1)


def test_a_data_set_without_released_features_is_named_before_any_job(raw):
    config = params.overlay(yaml.safe_load((ROOT / "params.yaml").read_text()), {})
    config["experts"]["scene"] = {"extractor": "released", "dim": 1536}
    with pytest.raises(params.ParamsError, match="corpus 'generated' has no features of its own"):
        params.resolved(config)
