"""find and similar: the right vectors for texts, ids and files, and what is said where there is no answer."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import clips
import doors
from paths import ROOT
from videomatch import cli
from videomatch.app import warm
from videomatch.app.library import Library, Refused
from videomatch.data import tables
from videomatch.data.store import Store

VIDEO = doors.name(3)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("door")
    before = Path.cwd()
    doors.built(folder)
    yield folder
    os.chdir(before)


@pytest.fixture
def library(project, monkeypatch):
    monkeypatch.chdir(project)
    return Library(doors.plan_of([]))


def store(library, system, member, side="videos"):
    return Store.open(Path(library.plan.embedding("mine", system)).parent / member / side)


def naive(library, system, member, vector, exclude=None):
    """Every video by cosine, best first."""
    rows = store(library, system, member)
    values = rows.gather(rows.ids)[0].astype(np.float64)
    cosines = values @ vector / np.linalg.norm(values, axis=1) / np.linalg.norm(vector)
    order = np.argsort(-cosines, kind="stable")
    return [(rows.ids[n], cosines[n]) for n in order if rows.ids[n] != exclude]


@pytest.mark.parametrize("system", ["zero_shot", "tiny_clip", "whole"])
def test_a_caption_as_a_question_is_the_caption_that_was_embedded(library, system):
    member = library.plan.members(system)[0]
    texts = store(library, system, member, "texts")
    words = dict(tables.read("texts", Path(library.plan.corpus("mine")).parent).select("text_id", "text").iter_rows())
    for text_id in texts.ids[::5]:
        answer = library.find(words[text_id], system=system, top=5)
        wanted = naive(library, system, member, texts[text_id][0].astype(np.float64))[:5]
        np.testing.assert_allclose([h.score for h in answer.hits], [s for _, s in wanted], atol=1e-5)
        assert {h.id for h in answer.hits} <= {i for i, s in naive(library, system, member, texts[text_id][0])
                                               if s >= wanted[-1][1] - 1e-5}  # fmt: skip


def test_a_title_is_found_by_its_own_words(library):
    answer = library.find("film delta number 0", system="title", top=3)
    assert answer.hits[0].id == doors.name(3) and answer.hits[0].score == pytest.approx(1, abs=1e-5)
    assert answer.hits[0].title == "film delta number 0" and Path(answer.hits[0].path).exists()
    nothing = library.find("qqqqqq", system="title")
    assert nothing.hits == [] and "no word" in nothing.notes[0]


def test_a_missing_zero_shot_system_is_found_through_the_features_that_are_there(library):
    one, other = (library.find("x bars", system=s) for s in ("unbuilt", "zero_shot"))
    assert one.hits == other.hits and one.system == "unbuilt"


@pytest.mark.parametrize("system", doors.BUILT)
def test_similar_by_id_is_the_naive_ranking_without_itself(library, system):
    member = library.plan.members(system)[0]
    answer = library.similar(VIDEO, system=system, top=20)
    wanted = naive(library, system, member, store(library, system, member)[VIDEO][0].astype(np.float64), VIDEO)
    assert [h.id for h in answer.hits] == [i for i, _ in wanted]
    np.testing.assert_allclose([h.score for h in answer.hits], [s for _, s in wanted], atol=1e-6)


@pytest.mark.parametrize("system", doors.BUILT)
def test_a_copy_of_a_video_gets_the_vector_that_the_video_has(library, tmp_path, system):
    copy = tmp_path / "an*other [1].mp4"
    copy.write_bytes((Path("raw") / VIDEO).read_bytes() + b"\0")  # not the same file, but the same film
    copy.with_suffix(".txt").write_text("film delta number 0")
    (tmp_path / "an*other [1] b.txt").write_text("somebody else's title")
    answer = library.similar(str(copy), file=str(copy), system=system, top=8)
    assert answer.hits[0].id == VIDEO and answer.hits[0].score == pytest.approx(1, abs=1e-5)
    assert answer.notes == []
    member = library.plan.members(system)[0]
    wanted = naive(library, system, member, store(library, system, member)[VIDEO][0].astype(np.float64))
    np.testing.assert_allclose([h.score for h in answer.hits], [s for _, s in wanted], atol=1e-3)


def test_a_file_of_the_corpus_is_its_video(library, project):
    answer = library.similar("x", file=str(project / "raw" / VIDEO), system="pooled", top=8)
    assert VIDEO not in [h.id for h in answer.hits] and VIDEO in answer.notes[0]


def test_a_file_without_the_texts_that_a_system_reads(library, tmp_path):
    file = clips.write(tmp_path / "new.mp4", range(40))
    assert library.similar("new", file=str(file), system="pooled").hits
    with pytest.raises(Refused, match="title"):
        library.similar("new", file=str(file), system="projected")
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    with pytest.raises(Refused, match="not a media file"):
        library.similar("broken", file=str(tmp_path / "broken.mp4"), system="pooled")


def test_what_changed_is_read_again(project, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    library = Library(doors.plan_of([]))
    before = library.similar(VIDEO, system="pooled").hits
    folder = Path(library.plan.embedding("mine", "pooled")).parent
    shutil.rmtree(folder)
    shutil.copytree(Path(library.plan.embedding("mine", "title")).parent, folder)
    after = library.similar(VIDEO, system="pooled").hits
    assert [h.score for h in after] != [h.score for h in before]
    assert after == library.similar(VIDEO, system="title").hits
    with pytest.raises(ValueError, match="run `snakemake`"):  # the combination was made of other parts
        library.similar("x", file=str(_copy(copy)), system="projected")


def _copy(folder):
    file = folder / "elsewhere.mp4"
    file.write_bytes((folder / "raw" / VIDEO).read_bytes() + b"\0")
    file.with_suffix(".txt").write_text("film delta number 0")
    return file


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"system": "zeroshot"}, "did you mean 'zero_shot'"),
        ({"system": "pooled"}, "cannot be asked in words; systems that can: .*zero_shot"),
        ({"system": "aligned"}, "cannot be asked in words; systems that can: .*zero_shot"),
        ({"dataset": "mime"}, "did you mean 'mine'"),
        ({"member": "seed1"}, "no member"),
        ({"top": 0}, "top = 0"),
    ],
)
def test_what_is_said_where_there_is_no_answer(library, asked, said):
    with pytest.raises(Refused, match=said):
        library.find("bars", **asked)


def test_segments_are_asked_elsewhere(library, project):
    with pytest.raises(Refused, match=r"has not embedded .*ask `videomatch copies`"):
        library.similar("clip2.mp4", system="aligned")


def test_what_is_not_built_says_what_builds_it(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "raw"):
        (tmp_path / name).symlink_to(project / name)
    library = Library(doors.plan_of([]), "--configfile mine.yaml")
    with pytest.raises(Refused, match="run `snakemake --configfile mine\\.yaml` first"):
        library.find("bars")
    with pytest.raises(
        Refused,
        match=re.escape("run `snakemake results/tiny/embeddings/mine/title/manifest.json --configfile mine.yaml`"),
    ):
        library.find("bars", dataset="mine", system="title")


def test_ids_are_looked_up_and_never_opened(library, project):
    for asked in ("../../etc/passwd", "raw/clip0.mp4", "/etc/passwd", "", "clip00.mp4"):
        with pytest.raises(Refused, match="neither a video"):
            library.similar(asked)
    with pytest.raises(Refused, match=r"did you mean 'clip3\.mp4'"):
        library.similar("clip33.mp4", file=str(project / "clip33.mp4"))
    for text in ("", "  \n ", "x" * 2001):
        with pytest.raises(Refused, match="the question"):
            library.find(text)


# --------------------------------------------------------------------------------------------------- the command line


def typed(project, *words, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.run(
        [sys.executable, "-m", "videomatch.cli", *words], cwd=project, env=environment, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


def test_a_process_stays_warm_and_answers_in_less_than_a_second(project, monkeypatch):
    monkeypatch.chdir(project)
    path = warm.address([], [])
    try:
        first = typed(project, "find", "x bars", "--system", "zero_shot", "--json")
        assert first.returncode == 0, first.stderr
        answer = json.loads(first.stdout)
        assert len(answer["hits"]) == doors.COUNT and answer["seconds"]["total"] > 0
        times = []
        for _ in range(3):
            started = time.monotonic()
            again = typed(project, "find", "x bars", "--system", "zero_shot")
            times.append(time.monotonic() - started)
        assert min(times) < 1, times
        assert again.stdout.splitlines()[0].split()[2] == answer["hits"][0]["id"].split()[0]
        assert "0.0" in again.stderr and "libraries" not in again.stderr
        similar = typed(project, "similar", "raw/clip2.mp4", "--system", "pooled", "--json")
        assert "clip2.mp4" in json.loads(similar.stdout)["notes"][0]
        refused = typed(project, "similar", "nothing.mp4")
        assert refused.returncode == 1 and "neither a video" in refused.stderr and not refused.stdout
        # who was started from other parameters, or older source, gives way
        assert warm.ask(path, {"command": "find", "asked": "x", "state": "older"}) == {"stale": True, "ends": True}
    finally:
        warm.ask(path, {"command": "end"})
    for _ in range(100):
        if not path.exists():
            break
        time.sleep(0.05)
    assert not path.exists()


def test_alone_leaves_nothing_behind(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    shutil.rmtree(project / ".scratch/door", ignore_errors=True)
    assert cli.main(["find", "film bravo", "--system", "title", "--alone", "--top", "2"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2 and "deep/clip 1.mp4" in printed.out.splitlines()[0]
    assert "mine by title (all)" in printed.err
    assert not (project / ".scratch/door").exists()


def test_mistakes_in_the_parameters_are_the_answer(project, tmp_path, monkeypatch, capsys):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"systems": {"title": {"embeddings": {"feature": "clip"}}}}))
    monkeypatch.chdir(project)
    assert cli.main(["--configfile", str(tmp_path / "other.yaml"), "find", "x", "--alone"]) == 1
    assert "did you mean 'features'" in capsys.readouterr().err
