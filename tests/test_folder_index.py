"""videomatch index, and find, similar and copies in it: what is read again, what is found, and from where."""

import json
import os
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from starlette.testclient import TestClient
from transformers import CLIPConfig, CLIPModel

import clips
import films
from paths import ROOT
from videomatch import cli
from videomatch.app import descriptors, indexes
from videomatch.app.search import search
from videomatch.app.server import create_app
from videomatch.data import corpus as corpora
from videomatch.data.store import Store
from videomatch.data.tokenize import tokenizer
from videomatch.folders.folder_index import FRAMES, FolderIndex
from videomatch.folders.folder_search import FolderCatalogue, near_chance
from videomatch.retrieval import lines

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
SUBTITLE = "1\n00:00:01,000 --> 00:00:02,500\nWe launched the rocket\n\n2\n00:00:03,000 --> 00:00:04,000\n{}\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small CLIP of random weights."""
    folder = tmp_path_factory.mktemp("clip")
    words = tokenizer(None, ["a red heart", "the old town"] * 3, vocab_size=80, style="clip")
    torch.manual_seed(0)
    texts = TOWER | {"vocab_size": len(words), "eos_token_id": words.eos_token_id, "max_position_embeddings": 16}
    config = CLIPConfig(vision_config=TOWER | {"image_size": 32, "patch_size": 8}, text_config=texts, projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three films, one with subtitles."""
    raw = tmp_path_factory.mktemp("three")
    (raw / "Holiday 2024").mkdir()
    for n, name in enumerate(("Holiday 2024/beach_dog.mp4", "talk.mp4", "clip3.mp4")):
        clips.write(raw / name, range(150 * n, 150 * n + 150))
    (raw / "talk.srt").write_text(SUBTITLE.format("发射火箭"))
    return raw


@pytest.fixture
def folder(three, tmp_path, monkeypatch):
    """A copy of the films to spoil; the indexes of the user are elsewhere, and so is the process."""
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))
    raw = shutil.copytree(three, tmp_path / "my films")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return raw


@pytest.fixture
def read(monkeypatch):
    """The ids of all videos whose frames are read."""
    found, extract = [], descriptors.extract

    def counted(**given):
        found.extend(corpora.videos(given["corpus"])["video_id"])
        return extract(**given)

    monkeypatch.setattr(descriptors, "extract", counted)
    return found


def run(capsys, *arguments, status=0):
    assert cli.main([str(a) for a in arguments]) == status
    return capsys.readouterr()


def index(capsys, folder, *options):
    return json.loads(run(capsys, "index", folder, *options, "--json").out)


def found(capsys, *arguments):
    return json.loads(run(capsys, *arguments, "--json", "--alone").out)["hits"]


def test_words_of_names_and_speech_are_found_with_their_moment_from_any_directory(folder, capsys):
    made = index(capsys, folder, "--model", "none")
    assert made["index"] == "my-films" and sorted(made["videos"]) == [
        "Holiday 2024/beach_dog.mp4",
        "clip3.mp4",
        "talk.mp4",
    ]
    hit = found(capsys, "find", "launching a rocket")[0]
    assert (hit["id"], hit["start"], hit["end"], hit["by"]) == ("talk.mp4", 1.0, 2.5, ["speech"])
    assert found(capsys, "find", "火箭")[0]["start"] == 3.0
    dogs = found(capsys, "find", "a dog at the beach")
    assert [h["id"] for h in dogs] == ["Holiday 2024/beach_dog.mp4"] and dogs[0]["by"] == ["titles"]
    assert found(capsys, "find", "a dog at the beach", "--in", "speech") == []
    assert str(folder / "talk.mp4") + "  1.0-2.5 s  (speech)" in run(capsys, "find", "rocket", "--alone").out
    assert run(capsys, "index").out == f"my-films  {folder}  (pictures by none)\n"
    copied = run(capsys, "copies", folder / "clip3.mp4", "--json")
    assert "clip3.mp4" not in {s["reference"] for s in json.loads(copied.out)["segments"]}  # itself does not count
    assert "this very file" in json.loads(copied.out)["notes"][0]
    assert "no model that looks at pictures" in run(capsys, "similar", "talk.mp4", "--alone", status=1).err


def test_text_in_frames_is_read_once_and_found_with_its_moment(folder, capsys, read):
    """Only if asked for; the next call goes on with it, and it is forgotten if it is not wanted any more."""

    def sign(image, second):
        board = np.full((180, 320, 3), image.mean((0, 1)) / 3, np.uint8)
        return cv2.putText(board, "SPRING SALE" * (second >= 4), (30, 100), 0, 1.2, (255, 255, 255), 2)

    films.write(folder / "sign.mp4", (1, 0, 8), edit=sign)
    index(capsys, folder, "--model", "none")
    assert found(capsys, "find", "sale") == []
    read.clear()
    assert index(capsys, folder, "--ocr")["ocr"] and len(set(read)) == 4
    hit = found(capsys, "find", "spring sale", "--in", "ocr")[0]
    assert (hit["id"], hit["by"], hit["start"]) == ("sign.mp4", ["ocr"], 4.0) and hit["end"] >= 6
    (folder / "sign.mp4").rename(folder / "moved.mp4")
    read.clear()
    assert index(capsys, folder)["ocr"] and not read
    assert found(capsys, "find", "sale")[0]["path"] == str(folder / "moved.mp4")
    assert not index(capsys, folder, "--no-ocr")["ocr"] and found(capsys, "find", "sale") == []


def test_several_questions_are_answered_in_turn_and_words_alone_load_no_torch(folder, capsys):
    index(capsys, folder, "--model", "none")
    replies = json.loads(run(capsys, "find", "rocket", "clip3", "--alone", "--json").out)
    assert [[h["id"] for h in reply["hits"]] for reply in replies] == [["talk.mp4"], ["clip3.mp4"]]
    printed = run(capsys, "find", "rocket", "a whale", "--alone")
    assert printed.out.startswith("rocket:\n  1 ") and printed.out.endswith("a whale:\n")
    assert "nothing found" in printed.err
    code = "import sys; from videomatch import cli; cli.main(['find', 'rocket']); sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)


def test_only_new_content_is_read_and_the_index_follows_the_folder(folder, model, capsys, read):
    index(capsys, folder, "--model", model)
    assert len(read) == 3
    read.clear()
    assert index(capsys, folder)["known"] == 3 and read == []
    (folder / "talk.mp4").rename(folder / "Holiday 2024/speech.mp4")  # renamed and moved
    shutil.copy(folder / "clip3.mp4", folder / "twin.mp4")  # the same content
    clips.write(folder / "new.mp4", range(600, 640))
    done = index(capsys, folder)
    assert done["videos"] == ["new.mp4"] == read and done["removed"] == []
    assert found(capsys, "find", "speech", "--in", "titles")[0]["path"] == str(folder / "Holiday 2024/speech.mp4")
    read.clear()
    clips.write(folder / "new.mp4", range(700, 740))  # replaced
    (folder / "clip3.mp4").unlink()  # its twin is left
    (folder / "Holiday 2024/beach_dog.mp4").unlink()
    done = index(capsys, folder)
    assert len(read) == 1 and len(done["removed"]) == 2
    paths = {h["path"] for h in found(capsys, "find", "a red heart")}
    assert paths == {str(folder / n) for n in ("twin.mp4", "new.mp4", "Holiday 2024/speech.mp4")}


def test_a_killed_call_goes_on_where_it_was(folder, model, capsys, read):
    code = (
        "import sys; from videomatch import cli; from videomatch.folders import folder_index; "
        "folder_index.BATCH = 1; cli.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "index", str(folder), "--model", str(model)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    batches = indexes.home() / "my-films/batches"
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(batches.glob("[!.]*")):
            time.sleep(0.01)
        process.kill()  # as kill -9
    done = index(capsys, folder)
    assert 1 <= len(read) == len(done["videos"]) <= 2  # what was read before is not read again
    assert done["known"] == 3 - len(read) and len(found(capsys, "find", "a red heart", "--in", "pictures")) == 3


def test_a_disk_that_is_not_mounted_loses_nothing(folder, capsys):
    index(capsys, folder, "--model", "none")
    hidden = folder.with_name("unmounted")
    folder.rename(hidden)
    assert "is no folder" in run(capsys, "index", folder, status=1).err
    folder.mkdir()
    assert "is its disk mounted?" in run(capsys, "index", folder, status=1).err
    folder.rmdir()
    hidden.rename(folder)
    assert index(capsys, folder)["known"] == 3


def test_moments_are_the_best_windows_and_similar_is_by_frames(folder, model, capsys, tmp_path):
    index(capsys, folder, "--model", model)
    catalogue = FolderCatalogue(indexes.place("my-films"))
    answer = search(catalogue, "find", "a red heart", within="pictures")
    vector = catalogue.index.eyes.encode(["a red heart"])[0]
    naive = {}
    for root in catalogue.index.features[FRAMES].batches():
        for video_id in (store := Store(root)).ids:
            scores = store[video_id].astype(np.float32) @ vector
            naive[video_id] = max(scores[n : n + 3].mean() for n in range(max(1, len(scores) - 2)))
    assert len(naive) == 3 and [h["id"] for h in answer.hits] == sorted(naive, key=lambda i: -naive[i])
    assert all(0 <= h["start"] < h["end"] <= 5.1 and h["by"] == ["pictures"] for h in answer.hits)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes((folder / "talk.mp4").read_bytes() + b"\0")  # not the same file, but the same film
    near = {h["id"]: h["score"] for h in found(capsys, "similar", copy)}
    assert len(near) == 3 and near["talk.mp4"] == pytest.approx(1, abs=1e-4)
    assert "talk.mp4" not in [h["id"] for h in found(capsys, "similar", "talk.mp4")]
    assert "did you mean 'talk.mp4'" in run(capsys, "similar", "talk.mp", "--alone", status=1).err
    odd = copy.rename(tmp_path / os.fsdecode(b"\xff.mp4"))
    assert "\\udcff.mp4: file name is not valid UTF-8" in run(capsys, "similar", odd, "--alone", status=1).err


def test_a_question_that_no_picture_answers_is_warned_of(folder, model, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    assert np.mean([near_chance(rng.normal(size=50).tolist()) for _ in range(1000)]) == pytest.approx(0.75, abs=0.05)
    assert not near_chance([*rng.normal(size=50).tolist(), 4.5]) and not near_chance([0.1, 0.2])
    index(capsys, folder, "--model", model)
    catalogue = FolderCatalogue(indexes.place("my-films"))
    for near in (True, False):
        monkeypatch.setattr("videomatch.folders.folder_search.near_chance", lambda _, near=near: near)
        assert any("stands out" in note for note in search(catalogue, "find", "a red heart").notes) == near
        assert not search(catalogue, "find", "rocket").notes  # said, whatever the pictures show


def test_the_page_answers_from_an_index_and_sees_a_refresh(folder, model, capsys):
    index(capsys, folder, "--model", model)
    catalogue = FolderCatalogue(indexes.place(None))
    catalogue.warm()
    page = TestClient(create_app(catalogue, "my-films", "token"), base_url="http://127.0.0.1")
    shown = page.get("/token/", params={"q": "rocket"}).text
    assert "video?id=talk.mp4#t=1.000,2.500" in shown
    part = page.get("/token/video", params={"id": "talk.mp4"}, headers={"Range": "bytes=0-9"})
    assert part.status_code == 206 and len(part.content) == 10
    (folder / "talk.mp4").unlink()
    index(capsys, folder)
    assert page.get("/token/find", params={"q": "rocket"}).json()["hits"][0]["id"] != "talk.mp4"


def test_another_model_looks_at_all_files_again_and_one_that_is_missing_is_replaced(folder, model, capsys):
    index(capsys, folder, "--model", "none")
    assert FRAMES not in FolderIndex(indexes.place(None)).features
    index(capsys, folder, "--model", model)
    (looks,) = FolderIndex(indexes.place(None)).features[FRAMES].batches()
    assert len(Store(looks)) == 3
    done = index(capsys, folder, "--model", folder / "no-model")
    assert done["model"] == str(model) and "no-model does not exist" in done["notes"][0]


@pytest.mark.parametrize(("file", "question"), [
    ("library.json", "find"), ("lines.sqlite", "find"), ("batches/*/videos.parquet", "find"),
    ("frames/features/*/values-00000.npy", "find"), ("frames/features/*/index.parquet", "find"),
    ("frames/features/*/about.json", "find"), ("eyes/features/*/store.json", None),
    ("index/codec/lists.faiss", "copies"), ("index/parts/*/about.json", "copies"), ("library.json", "copies"),
    ("points/index/codec/about.json", "copies"), ("points/index/parts/*/lists.faiss", "copies"),
    ("points/features/*/store.json", None), ("rejected/rejected.parquet", None),
])  # fmt: skip
def test_damage_is_one_line_that_names_the_file_and_the_next_index_mends_it(folder, model, capsys, file, question):
    index(capsys, folder, "--model", model)
    (damaged,) = indexes.place(None).glob(file)
    asked = {"find": ("find", "a red heart", "--alone"), "copies": ("copies", folder / "clip3.mp4")}.get(question)
    before = run(capsys, *asked).out if asked else ""
    for content in (b"damaged", b""):
        damaged.write_bytes(content)
        if asked:
            said = run(capsys, *asked, status=1).err.splitlines()[-1]  # transformers draws a bar before it
            assert str(damaged) in said and f"`videomatch index {folder}`" in said
        made = index(capsys, folder)
        assert made["known"] + len(made["videos"]) == 3
        assert run(capsys, *asked).out == before if asked else any(str(damaged) in note for note in made["notes"])
        (damaged,) = indexes.place(None).glob(file)


def test_an_index_that_says_no_folder_is_named(folder, capsys):
    index(capsys, folder, "--model", "none")
    about = indexes.place(None) / "index.json"
    for content in (b"", b"\xff", b"[]", b'{"folder": 1}'):
        about.write_bytes(content)
        said = run(capsys, "find", "rocket", status=1).err
        assert said == f"{about} is damaged: delete {about.parent} and index its folder again\n"
    shutil.rmtree(about.parent)
    assert len(index(capsys, folder, "--model", "none")["videos"]) == 3


def test_an_index_of_another_version_is_made_again(folder, capsys):
    index(capsys, folder, "--model", "none")
    (indexes.place(None) / "library.json").write_text('{"format": 2}')
    said = run(capsys, "copies", folder / "clip3.mp4", status=1).err
    assert f"has format 2, expected 3: `videomatch index {folder}` makes it again" in said
    assert len(index(capsys, folder)["videos"]) == 3


def test_all_names_and_texts_of_one_content_lead_to_its_video(folder, capsys):
    """Whichever of two identical files was indexed first."""
    index(capsys, folder, "--model", "none")
    shutil.copy(folder / "clip3.mp4", folder / "sunset_sailing.mp4")
    (folder / "sunset_sailing.srt").write_text(SUBTITLE.format("the harbour"))
    index(capsys, folder)
    for question, kind in (("sailing", "titles"), ("harbour", "speech"), ("clip3", "titles")):
        assert [(h["id"], h["by"]) for h in found(capsys, "find", question)] == [("clip3.mp4", [kind])], question
    (folder / "sunset_sailing.mp4").unlink()
    index(capsys, folder)
    assert found(capsys, "find", "sailing") == [] != found(capsys, "find", "clip3")


@pytest.mark.parametrize(("name", "content", "problem"), [
    ("videos.csv", b"id;name\n1;x\n", "no column 'path' or 'file'"),
    ("videos.jsonl", bytes(range(128, 256)), "unknown"),
])  # fmt: skip
def test_a_list_of_another_program_is_said_and_left_out(folder, capsys, name, content, problem):
    (folder / name).write_bytes(content)
    for _ in range(2):
        said = [note for note in index(capsys, folder, "--model", "none")["notes"] if str(folder / name) in note]
        assert len(said) == 1 and problem in said[0]
    assert found(capsys, "find", "rocket")[0]["by"] == ["speech"]


def test_a_folder_without_a_video_makes_no_index(folder, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no video" in run(capsys, "index", empty, status=1).err
    assert indexes.known() == {} and "no index yet" in run(capsys, "index").out


def test_what_an_index_says_of_its_folder_is_so_and_said_once(folder, capsys, caplog):
    (folder / "videos.jsonl").write_text('{"path": "talk.mp4", "titel": "x"}\n{"path": "gone.mp4"}\n')
    (folder / "a\x1b[31m.jpg").write_bytes(b"")
    said = run(capsys, "index", folder, "--model", "none").err
    assert "1 file passed over by ending: 1 .jpg" in said and said.count("titel") == said.count("gone.mp4") == 1
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
    clips.write(folder / "talk.mp4", range(700, 740))
    assert f"{folder}/talk.mp4 has other content than when it was added\n" in run(capsys, "index", folder).err


def test_a_file_name_gives_no_order_to_the_terminal(folder, capsys):
    shutil.copy((folder / "clip3.mp4").rename(folder / "red\x1b[31m.mp4"), folder / "twin.mp4")
    index(capsys, folder, "--model", "none")
    for command in (["find", "red", "--alone"], ["duplicates"]):
        said = run(capsys, *command)
        assert "red%1B[31m.mp4" in said.out and "\x1b" not in said.out + said.err


def test_of_several_indexes_one_is_named_or_is_that_of_the_directory(folder, tmp_path, capsys, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "clip3.mp4", other / "rocket.mp4")
    index(capsys, folder, "--model", "none")
    index(capsys, other, "--name", "second", "--model", "none")
    assert "choose one by --index: my-films, second" in run(capsys, "find", "rocket", status=1).err
    assert found(capsys, "find", "rocket", "--index", "second")[0]["id"] == "rocket.mp4"
    monkeypatch.chdir(folder)
    assert found(capsys, "find", "rocket")[0]["id"] == "talk.mp4"
    assert "did you mean 'second'" in run(capsys, "find", "rocket", "--index", "secnd", status=1).err
    assert "is of" in run(capsys, "index", other, "--name", "my-films", status=1).err
    run(capsys, "index", "second", "--remove")
    assert list(indexes.known()) == ["my-films"] and (other / "rocket.mp4").exists()
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "nobody"))
    assert "`videomatch index FOLDER` makes one" in run(capsys, "find", "rocket", status=1).err


def test_a_line_counts_as_far_as_it_holds_the_question(tmp_path):
    rows = [
        lines.Line("a", lines.TITLES, "the red car"),
        lines.Line("b", lines.TITLES, "a red balloon"),
        lines.Line("b", lines.SPEECH, "cars are RED.", 1.0, 2.0),
        lines.Line("c", lines.SPEECH, "狗在叫", 3.0, 4.0),
    ]
    lines.write(tmp_path / "lines.sqlite", rows)
    both = (lines.TITLES, lines.SPEECH)

    def asked(question, channels=both):
        return [
            (line.video, line.channel, round(s, 2))
            for s, line in lines.search(tmp_path / "lines.sqlite", question, channels)
        ]

    red, car = np.log(1 + 4 / 4), np.log(1 + 4 / 3)
    assert asked("the red cars") == [
        ("a", "titles", 1.0),
        ("b", "speech", 1.0),
        ("b", "titles", round(red / (red + car), 2)),
    ]
    assert asked("red", [lines.SPEECH]) == [("b", "speech", 1.0)]
    assert asked("狗") == [("c", "speech", 1.0)] and asked("在叫")[0][0] == "c" and asked("猫") == []
    assert asked("the of") == [] and asked('" OR *') == []


def test_words_of_all_scripts_are_whole_and_of_one_form(tmp_path):
    texts = ["हिन्दी में समाचार", "हन्द", "Cafe\u0301 Müller", "ＴＯＫＹＯ １２", "ทำอาหารที่บ้าน", "தமிழ் பாடல்"]
    lines.write(tmp_path / "lines.sqlite", [lines.Line(str(n), lines.TITLES, text) for n, text in enumerate(texts)])
    for question, videos in (
        ("हिन्दी", "0"), ("समाचार", "0"), ("हन्द", "1"), ("café", "2"), ("CAFE", "2"), ("mu\u0308ller", "2"),
        ("tokyo", "3"), ("12", "3"), ("บ้าน", "4"), ("ทำ", "4"), ("தமிழ்", "5"), ("न", ""), ("த", ""),
    ):  # fmt: skip
        found = lines.search(tmp_path / "lines.sqlite", question, [lines.TITLES])
        assert "".join(line.video for _, line in found) == videos, question
