"""find and similar: the right vectors for texts, ids and files, and the messages where there is no answer."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml

import clips
import small_project
from paths import ROOT
from videomatch import cli
from videomatch.app import client
from videomatch.app.catalogue import Catalogue
from videomatch.app.requests import load_plan
from videomatch.app.search import search
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.pipeline import rules
from videomatch.stages._trained import PairScorer

VIDEO = small_project.name(3)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    small_project.built(folder)
    yield folder
    os.chdir(before)


@pytest.fixture
def catalogue(project, monkeypatch):
    monkeypatch.chdir(project)
    return Catalogue()


def find(catalogue, text, **options):
    return search(catalogue, "find", text, **options)


def similar(catalogue, video, **options):
    return search(catalogue, "similar", video, **options)


def store(catalogue, system, member, side="videos"):
    return Store(Path(catalogue.plan.result("embeddings", "mine", system)).parent / member / side)


def naive(catalogue, system, member, vector, exclude=None):
    """Every video by cosine, best first."""
    rows = store(catalogue, system, member)
    values = rows.gather(rows.ids)[0].astype(np.float64)
    cosines = values @ vector / np.linalg.norm(values, axis=1) / np.linalg.norm(vector)
    order = np.argsort(-cosines, kind="stable")
    return [(i, cosines[n]) for n, i in zip(order, rows.ids.gather(order), strict=True) if i != exclude]


@pytest.mark.parametrize("system", ["zero_shot", "tiny_clip", "whole"])
def test_a_caption_as_a_question_is_the_caption_that_was_embedded(catalogue, system):
    member = catalogue.plan.members(system)[0]
    texts = store(catalogue, system, member, "texts")
    words = dict(
        tables.read("texts", Path(catalogue.plan.result("corpora", "mine")).parent)
        .select("text_id", "text")
        .iter_rows()
    )
    for text_id in texts.ids[::5]:
        answer = find(catalogue, words[text_id], system=system, top=5)
        wanted = naive(catalogue, system, member, texts[text_id][0].astype(np.float64))[:5]
        np.testing.assert_allclose([h["score"] for h in answer.hits], [s for _, s in wanted], atol=1e-5)
        assert {h["id"] for h in answer.hits} <= {i for i, s in naive(catalogue, system, member, texts[text_id][0])
                                               if s >= wanted[-1][1] - 1e-5}  # fmt: skip


@pytest.mark.parametrize(
    ("system", "top", "count"), [("again", 2, 3), ("again", 5, 5), ("both", 2, 3), ("everything", 2, 8)]
)
def test_a_trained_model_ranks_the_best_again(catalogue, system, top, count):
    base, run = catalogue.plan.base(system), Path(catalogue.reranker(system, None)).parent
    weight = {"both": 0.25}.get(system, 1.0)
    own = {hit["id"]: hit["score"] for hit in find(catalogue, "y bars", system=base, top=count).hits}
    first = list(own)
    scorer = PairScorer(run, catalogue.corpus("mine"), [Path("results/tiny/features/mine/clip/0")])
    matched = scorer.matched(scorer.texts(["y bars"]), scorer.videos(first))[0]
    scores = {v: weight * score + (1 - weight) * own[v] for v, score in zip(first, matched, strict=True)}
    answer = find(catalogue, "y bars", system=system, top=top)
    assert answer.system == system and answer.notes == []
    wanted = sorted(scores, key=lambda video: -scores[video])[:top]
    assert [hit["id"] for hit in answer.hits] == wanted
    np.testing.assert_allclose([hit["score"] for hit in answer.hits], [scores[v] for v in wanted], atol=1e-5)
    times = Store("results/tiny/features/mine/clip/0/clip")
    for hit in answer.hits:
        assert [match["word"] for match in hit["matches"]] == ["y", "bars"] and hit["path"]
        spans = {tuple(span) for span in times.times(hit["id"]).tolist()}
        assert all((m["start"], m["end"]) in spans and -1 <= m["score"] <= 1 for m in hit["matches"])


def test_words_and_the_times_of_their_frames_are_printed(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert cli.main(["find", "y bars", "--system", "again", "--top", "2", "--alone"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(re.fullmatch(r" +y \d\.\d s \(-?0\.\d\d\), bars \d\.\d s \(-?0\.\d\d\)", line) for line in lines[1::2])


def test_ranking_again_is_for_texts_and_needs_its_run(catalogue):
    with pytest.raises(ValueError, match=r"it rescores what 'zero_shot' finds for a text: ask that"):
        similar(catalogue, VIDEO, system="again")
    with pytest.raises(ValueError, match=r"run `snakemake results/tiny/runs/not_made/seed0/manifest\.json`"):
        find(catalogue, "bars", system="never")


def test_a_title_is_found_by_its_own_words(catalogue):
    answer = find(catalogue, "film delta number 0", system="title", top=3)
    assert answer.hits[0]["id"] == small_project.name(3) and answer.hits[0]["score"] == pytest.approx(1, abs=1e-5)
    assert answer.hits[0]["title"] == "film delta number 0" and Path(answer.hits[0]["path"]).exists()
    nothing = find(catalogue, "qqqqqq", system="title")
    assert nothing.hits == [] and "no word" in nothing.notes[0]


def test_a_missing_zero_shot_system_is_found_through_the_features_that_are_there(catalogue):
    one, other = (find(catalogue, "x bars", system=s) for s in ("unbuilt", "zero_shot"))
    assert one.hits == other.hits and one.system == "unbuilt"


@pytest.mark.parametrize("system", small_project.BUILT)
def test_similar_by_id_is_the_naive_ranking_without_itself(catalogue, system):
    member = catalogue.plan.members(system)[0]
    answer = similar(catalogue, VIDEO, system=system, top=20)
    wanted = naive(catalogue, system, member, store(catalogue, system, member)[VIDEO][0].astype(np.float64), VIDEO)
    assert [h["id"] for h in answer.hits] == [i for i, _ in wanted]
    np.testing.assert_allclose([h["score"] for h in answer.hits], [s for _, s in wanted], atol=1e-6)


@pytest.mark.parametrize("system", small_project.BUILT)
def test_a_copy_of_a_video_gets_the_vector_that_the_video_has(catalogue, tmp_path, system):
    copy = tmp_path / "an*other [1].mp4"
    copy.write_bytes((Path("raw") / VIDEO).read_bytes() + b"\0")  # not the same file, but the same film
    copy.with_suffix(".txt").write_text("film delta number 0")
    (tmp_path / "an*other [1] b.txt").write_text("another video's title")
    answer = similar(catalogue, str(copy), file=str(copy), system=system, top=8)
    assert answer.hits[0]["id"] == VIDEO and answer.hits[0]["score"] == pytest.approx(1, abs=1e-5)
    assert answer.notes == []
    member = catalogue.plan.members(system)[0]
    wanted = naive(catalogue, system, member, store(catalogue, system, member)[VIDEO][0].astype(np.float64))
    np.testing.assert_allclose([h["score"] for h in answer.hits], [s for _, s in wanted], atol=1e-3)


def test_a_file_of_the_corpus_is_its_video(catalogue, project):
    answer = similar(catalogue, "x", file=str(project / "raw" / VIDEO), system="pooled", top=8)
    assert VIDEO not in [h["id"] for h in answer.hits] and VIDEO in answer.notes[0]


def test_a_file_without_the_texts_that_a_system_reads(catalogue, tmp_path):
    file = clips.write(tmp_path / "new.mp4", range(40))
    assert similar(catalogue, "new", file=str(file), system="pooled").hits
    with pytest.raises(ValueError, match="title"):
        similar(catalogue, "new", file=str(file), system="projected")
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    with pytest.raises(ValueError, match="not a media file"):
        similar(catalogue, "broken", file=str(tmp_path / "broken.mp4"), system="pooled")


def test_what_changed_is_read_again(project, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    catalogue = Catalogue()
    before = similar(catalogue, VIDEO, system="pooled").hits
    folder = Path(catalogue.plan.result("embeddings", "mine", "pooled")).parent
    shutil.rmtree(folder)
    shutil.copytree(Path(catalogue.plan.result("embeddings", "mine", "title")).parent, folder)
    after = similar(catalogue, VIDEO, system="pooled").hits
    assert [h["score"] for h in after] != [h["score"] for h in before]
    assert after == similar(catalogue, VIDEO, system="title").hits
    with pytest.raises(ValueError, match="run `snakemake`"):  # the combination was made of other parts
        similar(catalogue, "x", file=str(_copy(copy)), system="projected")


def _copy(folder):
    file = folder / "elsewhere.mp4"
    file.write_bytes((folder / "raw" / VIDEO).read_bytes() + b"\0")
    file.with_suffix(".txt").write_text("film delta number 0")
    return file


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"system": "zeroshot"}, "did you mean 'zero_shot'"),
        ({"system": "pooled"}, "cannot be asked in words; systems that can: .*zero_shot"),
        ({"system": "aligned"}, "cannot be asked in words; systems that can: .*zero_shot"),
        ({"dataset": "mime"}, "did you mean 'mine'"),
        ({"member": "seed1"}, "no member"),
        ({"top": 0}, "top = 0"),
    ],
)
def test_messages_where_there_is_no_answer(catalogue, asked, message):
    with pytest.raises(ValueError, match=message):
        find(catalogue, "bars", **asked)


@pytest.mark.parametrize(
    ("system", "reason"),
    [
        ("aligned", "it finds the segments that two videos share: ask `videomatch copies`"),
        ("rescored", "it rescores what 'zero_shot' finds for all queries at once: ask that"),
        ("detector", "model 'segment_detector' embeds no videos"),
        ("other", "datasets.mine.experts lists ['frames', 'clip'], but expert 'other' is needed there"),
        ("untitled", "it learns from texts (asr) that fewer than two videos of 'mine' have"),
    ],
)
def test_what_no_run_makes_is_not_recommended(project, monkeypatch, system, reason):
    monkeypatch.chdir(project)
    examples = "examples: {kind: similarity_map, expert: clip, split: train, validation: null}"
    objective = "objectives: {segment_focal: {weight: 1.0}}"
    values = [
        "experts={other: {extractor: image, backbone: clip, source: frames}}",
        f"systems={{detector: {{dataset: mine, model: {{name: segment_detector}}, {examples}, {objective}}}, "
        "other: {embeddings: {features: other, pool: mean}}, untitled: {embeddings: {texts: [asr]}}}",
    ]
    with pytest.raises(ValueError, match=re.escape(f"has not embedded data set 'mine': it cannot ({reason})")):
        similar(Catalogue([], values), "clip2.mp4", system=system)


def test_what_is_not_built_says_what_builds_it(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "raw"):
        (tmp_path / name).symlink_to(project / name)
    (tmp_path / "mine.yaml").write_text("base: params.yaml\n")
    catalogue = Catalogue([Path("mine.yaml")])
    with pytest.raises(ValueError, match="run `snakemake --configfile mine\\.yaml` first"):
        find(catalogue, "bars")
    with pytest.raises(
        ValueError,
        match=re.escape("run `snakemake results/tiny/embeddings/mine/title/manifest.json --configfile mine.yaml`"),
    ):
        find(catalogue, "bars", dataset="mine", system="title")


def test_on_a_folder_titles_are_searched_where_there_are_any(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(project / "raw", "raw", ignore=shutil.ignore_patterns("videos.csv"))
    shutil.copy(project / "params.yaml", ".")
    plan = load_plan()

    def make(*folders):
        job = rules.job_of(plan, result := plan.result(*folders))
        small_project.made(result, job.stage, job.settings, job.inputs)

    make("corpora", "mine")
    with pytest.raises(ValueError, match=r"it cannot \(it learns from texts \(title\) that fewer than two"):
        find(Catalogue(), "bars", dataset="mine", system="title")
    with pytest.raises(ValueError, match=r"it cannot \(it learns from texts \(title\) that fewer than two"):
        similar(Catalogue(), "clip2.mp4", dataset="mine", system="projected")
    with pytest.raises(ValueError, match=r"run `snakemake \S+/title/manifest.json --configfile 'of mine.yaml'`"):
        Path("of mine.yaml").write_text("base: params.yaml\nscale: other\n")
        find(Catalogue([Path("of mine.yaml")]), "bars", dataset="mine", system="title")
    shutil.rmtree("results")
    for number, text in ((2, "a red boat"), (3, "a green tree"), (4, "the green sea")):
        Path(f"raw/clip{number}.txt").write_text(text)
    make("corpora", "mine")
    make("embeddings", "mine", "title")  # there is no split to train on
    assert find(Catalogue(), "red boat", system="title").hits[0]["id"] == "clip2.mp4"


def test_ids_are_looked_up_and_never_opened(catalogue, project):
    for asked in ("../../etc/passwd", "raw/clip0.mp4", "/etc/passwd", "", "clip00.mp4"):
        with pytest.raises(ValueError, match="neither a video"):
            similar(catalogue, asked)
    with pytest.raises(ValueError, match=r"did you mean 'clip3\.mp4'"):
        similar(catalogue, "clip33.mp4", file=str(project / "clip33.mp4"))
    for text in ("", "  \n ", "x" * 2001):
        with pytest.raises(ValueError, match="the question"):
            find(catalogue, text)


def typed(project, *words, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.run(
        [sys.executable, "-m", "videomatch.cli", *words], cwd=project, env=environment, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def running(project):
    """`videomatch serve` of the project: its process, and its file."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "videomatch.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True)
    assert "http://127.0.0.1:" in process.stdout.readline()
    yield process, project / client.server_file([], [])
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_running_server_answers_at_once(project, running, monkeypatch):
    _, file = running
    assert file.stat().st_mode & 0o777 == 0o600
    first = json.loads(typed(project, "find", "x bars", "--system", "zero_shot", "--json").stdout)
    assert len(first["hits"]) == small_project.COUNT and first["seconds"]["total"] > 0
    times = []
    for _ in range(3):
        started = time.monotonic()
        again = typed(project, "find", "x bars", "--system", "zero_shot")
        times.append(time.monotonic() - started)
    assert min(times) < 1, times
    assert again.stdout.splitlines()[0].split()[2] == first["hits"][0]["id"].split()[0]
    found = typed(project, "similar", "raw/clip2.mp4", "--system", "pooled", "--json")  # a file, not an id
    assert "clip2.mp4" in json.loads(found.stdout)["notes"][0]
    refused = typed(project, "similar", "nothing.mp4")
    assert refused.returncode == 1 and "neither a video" in refused.stderr and not refused.stdout
    alone = json.loads(typed(project, "find", "x bars", "--system", "zero_shot", "--json", "--alone").stdout)
    assert [(hit["id"], hit["score"]) for hit in alone["hits"]] == [(h["id"], h["score"]) for h in first["hits"]]


def test_a_server_of_other_parameters_or_source_is_not_asked(project, running, monkeypatch, tmp_path):
    monkeypatch.chdir(project)
    request = {"command": "find", "asked": "film bravo", "system": "title"}
    assert client.ask(request, client.server_file([], []))["hits"]
    assert client.ask(request, client.server_file([], ["seed=1"])) is None
    _, file = running
    before = file.read_text()
    try:
        file.write_text(json.dumps({**json.loads(before), "state": "older"}))
        assert client.ask(request, client.server_file([], [])) is None
        file.write_text(json.dumps({**json.loads(before), "parameters": ["raw/videos.csv"]}))
        assert client.ask(request, client.server_file([], [])) is None
        file.write_text(json.dumps({**json.loads(before), "token": "wrong"}))
        assert client.ask(request, client.server_file([], [])) is None
    finally:
        file.write_text(before)


def test_a_server_file_that_is_no_json_is_not_asked(project, running, monkeypatch):
    monkeypatch.chdir(project)
    _, file = running
    before = file.read_text()
    for damaged in (before[:-9], "", "[]", "{}"):
        file.write_text(damaged)
        assert (
            client.ask({"command": "find", "asked": "film bravo", "system": "title"}, client.server_file([], []))
            is None
        )
    file.write_text(before)


def test_a_suspended_server_is_waited_for_a_while_only(project, running, monkeypatch, caplog):
    process, _ = running
    monkeypatch.chdir(project)
    monkeypatch.setattr(client, "ALIVE", 1)
    request = {"command": "find", "asked": "film bravo", "system": "title"}
    process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert client.ask(request, client.server_file([], [])) is None
        assert time.monotonic() - started < 30 and "does not answer" in caplog.text
    finally:
        process.send_signal(signal.SIGCONT)
    assert client.ask(request, client.server_file([], []))["hits"]


def test_ctrl_c_ends_a_server_whatever_its_clients_do(project, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "videomatch.cli", "--config", "seed=1", "serve", "--port", "0"]
    with (tmp_path / "printed").open("w+") as printed:
        process = subprocess.Popen(
            command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=printed, text=True
        )
        address = process.stdout.readline().split()[0]
        port, token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]{40,})/", address).groups()
        assert urllib.request.urlopen(address, timeout=60).status == 200
        with contextlib.ExitStack() as links:
            for _ in range(800):
                link = links.enter_context(socket.create_connection((client.HOST, int(port))))
            # the server has seen all others when it ends the last one, at once or because it is silent
            assert link.recv(1) == b""
        assert urllib.request.urlopen(address, timeout=60).status == 200
        with socket.create_connection((client.HOST, int(port))) as link:
            head = f"POST /{token}/reply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue"
            link.sendall(f"{head}\r\n\r\n".encode())
            assert link.recv(100).startswith(b"HTTP/1.1 100")  # the request waits for the rest of its body
            link.sendall(b"{")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
        process.stdout.close()
        printed.seek(0)
        assert not printed.read()


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--port", "70000"], "0 to 65535"), (["--port", "-1"], "0 to 65535"), (["--top", "0"], "top = 0")],
)
def test_a_server_that_cannot_start_says_why(project, options, message, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert cli.main(["serve", *options]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_killed_server_is_not_missed(project, running, monkeypatch, capsys):
    process, file = running
    process.kill()
    process.wait()
    monkeypatch.chdir(project)
    assert file.exists()
    assert cli.main(["find", "film bravo", "--system", "title", "--top", "2"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2 and "deep/clip 1.mp4" in printed.out.splitlines()[0]
    assert "mine by title (all)" in printed.err


def test_mistakes_in_the_parameters_are_the_answer(project, tmp_path, monkeypatch, capsys):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"systems": {"title": {"embeddings": {"feature": "clip"}}}}))
    monkeypatch.chdir(project)
    assert cli.main(["--configfile", str(tmp_path / "other.yaml"), "find", "x", "--alone"]) == 1
    assert "did you mean 'features'" in capsys.readouterr().err


def test_leaks_between_splits_of_a_data_set(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    sides = ["--train", "captions_train", "--test", "captions_all"]
    assert cli.main(["leaks", "mine", *sides, "--system", "pooled"]) == 1  # every video is on both sides
    assert f"same id: {small_project.COUNT} test videos" in capsys.readouterr().out
    assert cli.main(["leaks", "mine", "--train", "trian", "--test", "all"]) == 1
    assert "no split 'trian'; there are ['all', " in capsys.readouterr().err
    assert cli.main(["leaks", "mime", "--train", "train", "--test", "all"]) == 1
    assert "did you mean 'mine'" in capsys.readouterr().err
