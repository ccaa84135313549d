"""What is named by a hub id is loaded before the first job starts. No hub is asked here."""

import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from paths import ROOT
from repo import Repo
from videomatch.pipeline import hub, rules
from videomatch.pipeline import params as parameters
from videomatch.pipeline.plan import Plan

WHISPER = "openai/whisper-small"


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return Plan(parameters.resolved(*parameters.load([Path("configs/msrvtt_media.yaml")]), has_data=False))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Checkpoint -> the patterns that a hub was asked for, which has no CLIP, and of Whisper no safetensors."""
    found: dict[str, list[str]] = {}

    def snapshot_download(checkpoint: str, *, allow_patterns: list[str], **_: Any) -> str:
        if "clip" in checkpoint:
            raise OSError("no route to host\nand more")
        found.setdefault(checkpoint, []).extend(allow_patterns)
        folder, weights = tmp_path / checkpoint, "pytorch_model.bin" if checkpoint == WHISPER else "model.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        if weights in allow_patterns:
            (folder / weights).touch()
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return found


def test_a_run_loads_what_its_jobs_name_and_its_jobs_ask_no_hub(plan: Plan, asked: dict[str, list[str]]):
    hub.load(plan, [plan.result("corpora", "videos")])
    assert not asked and os.environ["HF_HUB_OFFLINE"] == "0"
    hub.load(plan, plan.features("videos", "speech"))
    assert asked.keys() == {WHISPER, "bert-base-cased"} and os.environ["HF_HUB_OFFLINE"] == "1"


def test_weights_of_an_older_kind_are_loaded_where_there_are_no_others(plan: Plan, asked: dict[str, list[str]]):
    hub.load(plan, plan.features("videos", "speech"))
    assert "pytorch_model.bin" in asked[WHISPER] and "pytorch_model.bin" not in asked["bert-base-cased"]


def test_what_cannot_be_loaded_is_named_with_its_parameter(plan: Plan, asked: dict[str, list[str]]):
    expected = r"backbones\.clip\.pretrained: 'openai/clip-vit-base-patch32' is not in .* \(no route to host\); run `hf"
    with pytest.raises(ValueError, match=expected):
        hub.load(plan, rules.needed(plan))
    assert os.environ["HF_HUB_OFFLINE"] == "0"


def test_a_run_ends_before_its_first_job_where_the_hub_has_to_be_asked_and_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repo = Repo(tmp_path / "repo", dvc=False)
    repo.set("backbones.scene", {"pretrained": "some/network"})
    features = "results/demo/features/videos/scene/0/manifest.json"
    ended = repo.run("snakemake", features)
    assert ended.returncode and "backbones.scene.pretrained: 'some/network' is not in the hub's cache" in ended.stderr
    assert "Traceback" not in ended.stderr and not (repo.folder / "results/demo/media").exists()
    cache = tmp_path / "hub/hub/models--some--network"
    for file in ("refs/main", "snapshots/abc/model.safetensors", "snapshots/abc/config.json"):
        (cache / file).parent.mkdir(parents=True, exist_ok=True)
        (cache / file).write_text("abc")
    repo("snakemake", features)
    assert (repo.folder / features).exists()
