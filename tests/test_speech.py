"""Speech in the chain: what Whisper hears in a folder's videos becomes their texts, and these are searched."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import polars as pl
import pytest
import yaml

import clips
import small_project
from paths import ROOT
from toys import voice_detection
from videomatch import Library
from videomatch.app.catalogue import Catalogue
from videomatch.app.requests import load_plan
from videomatch.app.search import search
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.pipeline import params, rules
from videomatch.pipeline.plan import Plan
from videomatch.stages.add_texts import add_texts

#: Hz of a tone -> what the stand-in hears in it
SAID = {300: "the old harbour at night", 600: "a red star over the town", 900: "thank you. " * 40}
RATE = 16000


class Voice:
    """The stand-in for a Whisper of CTranslate2: a tone is a sentence, told by its pitch, and told three times."""

    def __init__(self, folder: str, **_: Any) -> None:
        assert (Path(folder) / "model.bin").exists()

    def transcribe(self, sound: np.ndarray, **_: Any) -> tuple[list[Any], Any]:
        pitch = np.abs(np.fft.rfft(sound)).argmax() * RATE / len(sound)
        text = SAID[min(SAID, key=lambda hz: abs(hz - pitch))]
        lines = [SimpleNamespace(text=f" {text}", start=n, end=n + 1.0, avg_logprob=-0.5) for n in range(3)]
        return lines, SimpleNamespace(language="en")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """faster-whisper with the stand-ins."""
    voice_detection(monkeypatch, WhisperModel=Voice)


def video(path: Path, hz: int | None, seconds: int = 5) -> Path:
    """A video in which a tone sounds from its second to its fourth second; without a pitch it is silent."""
    silent = clips.write(path.with_suffix(".silent.mkv"), range(8 * seconds), time_base=Fraction(1, 8), codec="mpeg4")
    time = np.arange(RATE * seconds) / RATE
    tone = 0.5 * np.sin(2 * np.pi * (hz or 0) * time) * ((time >= 1) & (time < 4))
    with av.open(silent) as read, av.open(path, "w") as container:
        pictures = container.add_stream_from_template(read.streams.video[0])
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                container.mux(packet)
        frame = av.AudioFrame.from_ndarray((tone * 32767).astype("<i2")[None], format="s16", layout="mono")
        frame.rate, frame.pts = RATE, 0
        container.mux([*sound.encode(frame), *sound.encode(None)])
    silent.unlink()
    return path


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """configs/folder.yaml with speech, on four videos: two in which a sentence is heard, one with a subtitle, and a
    silent one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    for name, hz in {"harbour": 300, "star": 600, "thanks": 900, "given": 300, "silent": None}.items():
        video(tmp_path / f"raw/{name}.mkv", hz)
    (tmp_path / "raw/given.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\na green mountain\n")
    (tmp_path / "whisper").mkdir()
    (tmp_path / "whisper/config.json").write_text(json.dumps({"lang_ids": [1]}))
    (tmp_path / "whisper/model.bin").write_bytes(b"weights")
    changed = {
        "datasets": {"mine": {"raw": "raw", "shards": 2, "experts": ["speech"]}},
        "backbones": {"whisper": {"pretrained": "./whisper"}} | {n: {"pretrained": "a/b"} for n in ("clip", "scene")},
        "pages": {"neighbours": {"system": "words"}},
    }
    (tmp_path / "params.yaml").write_text((ROOT / "configs/folder.yaml").read_text())
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(changed))
    return load_plan([Path("params.yaml"), Path("more.yaml")])


def build(plan: Plan, result: str) -> None:
    """Make a result and all that it is made from."""
    if not Path(result).exists():
        job = rules.job_of(plan, result)
        for paths in job.inputs.values():
            for path in [paths] if isinstance(paths, str) else paths:
                build(plan, path)
        small_project.made(result, job.stage, job.settings, job.inputs)


def test_what_is_said_in_a_folder_is_found(plan: Plan, package: None, tmp_path: Path) -> None:
    rules.require_packages(plan)
    build(plan, plan.result("embeddings", "mine", "words"))
    corpus = Path(plan.corpus("mine", "words")).parent
    texts = tables.read("texts", corpus).sort("video_id")
    assert texts.select("video_id", "kind", "language", "text").rows() == [
        ("given.mkv", "asr", "en", "a green mountain"),  # what is given wins
        ("harbour.mkv", "asr", "en", SAID[300]),  # a line that is told again is one line, from its start to its end
        ("star.mkv", "asr", "en", SAID[600]),
        ("thanks.mkv", "asr", "en", "thank you."),  # a loop is told once
    ]
    heard = texts.filter(pl.col("video_id") != "given.mkv")
    assert heard.select("start", "end").unique().rows() == [(1.0, 4.0)]
    assert heard["confidence"].to_list() == pytest.approx([np.exp(-0.5)] * 3)
    assert texts["confidence"][0] is None
    assert json.loads((corpus / "texts.json").read_text()) == {"asr": {"given": 1, "speech": 3}}
    # the same texts as rows of the expert, of which a silent video has none
    rows = Store(*[Path(path).parent / "speech" for path in plan.features("mine", "speech")])
    assert rows.rows(["given.mkv", "harbour.mkv", "silent.mkv"]).tolist() == [1, 1, 0]
    catalogue = Catalogue([Path("params.yaml"), Path("more.yaml")])
    for asked, found in (("harbour", "harbour.mkv"), ("what a star", "star.mkv"), ("mountain", "given.mkv")):
        answer = search(catalogue, "find", asked)
        assert (answer.system, answer.hits[0]["id"]) == ("words", found)
    assert "silent.mkv" not in {hit["id"] for hit in answer.hits}
    # a file from outside is heard, too
    (tmp_path / "outside").mkdir()
    other = video(tmp_path / "outside/other.mkv", 620)
    assert search(catalogue, "similar", "other", file=str(other)).hits[0]["id"] == "star.mkv"


def test_an_index_hears_what_has_no_subtitles(
    plan: Plan, package: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))
    heard: list[int] = []
    transcribe = Voice.transcribe
    monkeypatch.setattr(Voice, "transcribe", lambda *a, **k: (heard.append(1), transcribe(*a, **k))[1])
    library = Library(tmp_path / "raw", model="none", speech=str(tmp_path / "whisper"))
    hit = library.find("a star", within="speech")[0]
    assert (hit.id, hit.start, hit.end) == ("star.mkv", 1.0, 4.0)
    assert library.find("harbour", within="speech")[0].id == "harbour.mkv" and len(heard) == 3
    assert library.find("mountain", within="speech")[0].id == "given.mkv"  # what is given is not heard
    (tmp_path / "raw/star.mkv").rename(tmp_path / "raw/moved.mkv")
    Library(tmp_path / "raw").refresh()  # by the Whisper that is recorded
    assert library.find("a star", within="speech")[0].path.endswith("moved.mkv") and len(heard) == 3
    notes = Library(tmp_path / "raw", speech=str(tmp_path / "nothing")).refresh().notes
    assert any("nothing does not exist" in note for note in notes)
    Library(tmp_path / "raw", speech="none").refresh()
    assert library.find("a star", within="speech") == []


def test_speech_is_read_by_what_names_it_alone(plan: Plan) -> None:
    jobs = rules.needed(plan)
    assert plan.passes("mine").keys() == {"speech"}
    (added,) = [path for path, job in jobs.items() if job.stage == "add_texts"]
    readers = {path for path, job in jobs.items() if added in job.inputs.values()}
    assert readers == {plan.result("embeddings", "mine", "words")}
    assert plan.corpus("mine", "title") == plan.result("corpora", "mine")
    heard = jobs[plan.features("mine", "speech")[1]]
    assert heard.patterns["corpus"] == ["transcripts-00001.parquet", "videos-00001.parquet"]
    assert heard.files == ["./whisper"]


def test_given_texts_win_video_by_video_and_kind_by_kind(tmp_path: Path) -> None:
    corpus, feature = tmp_path / "corpus", tmp_path / "features"
    given = [("a:t", "a", "title"), ("a:0", "a", "asr"), ("q", None, "query")]
    tables.write("texts", tables.frame("texts", [(*row, None, None, None, "given") for row in given]), corpus)
    read = {
        "first": [("a-1", "a", "asr"), ("b-1", "b", "asr"), ("b-2", "b", "asr")],
        "second": [("b-s", "b", "asr"), ("c-s", "c", "asr")],
        "ocr": [("a-o", "a", "ocr")],
    }
    for expert, rows in read.items():
        table = tables.frame("texts", [(*row, "en", 0.0, 1.0, expert, 0.5) for row in rows])
        tables.write("texts", table, feature / expert)

    def added(name: str, kinds: list[str], experts: list[str]) -> list[tuple[str, str]]:
        output = tmp_path / name
        add_texts(corpus=corpus, features=[feature], output=output, kinds=kinds, experts=experts)
        return tables.read("texts", output).select("text_id", "text").rows()

    kept = [("a:t", "given"), ("a:0", "given"), ("q", "given")]
    heard = [("b-1", "first"), ("b-2", "first"), ("c-s", "second")]
    assert added("speech", ["asr"], ["first", "second"]) == kept + heard
    assert added("both", ["asr", "ocr"], ["ocr", "second"]) == [*kept, ("a-o", "ocr"), ("b-s", "second"), heard[-1]]


@pytest.mark.parametrize("file", ["params.yaml", "configs/full.yaml"])
def test_pretraining_reads_the_texts_that_finetuning_reads(file: str) -> None:
    known = params.resolve(yaml.safe_load((ROOT / file).read_text())["systems"])
    texts = [known[system]["examples"]["texts"] for system in ("pretrain_ours", "ours")]
    assert texts[0] == texts[1] and "asr" in texts[0]


def test_no_job_of_the_demo_waits_for_recognised_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    demo = load_plan()
    assert {demo.corpus("videos", system) for system in demo.systems} == {demo.corpus("videos")}


def test_a_missing_package_is_named_before_any_job(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videomatch.common.named.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package faster-whisper: pip install 'videomatch\[speech\]'"):
        rules.require_packages(plan)
