"""``from videomatch import Library``: what programs ask of a folder of videos."""

import os
import shutil
import subprocess
import sys

import pytest

import films
from paths import ROOT
from videomatch import Library, cli

SUBTITLE = "1\n00:00:01,000 --> 00:00:02,500\nWe launched the rocket\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two films, one with subtitles, and a copy of a part of it elsewhere."""
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))
    raw = tmp_path / "films"
    films.write(raw / "talk.mp4", (1, 0, 8))
    films.write(raw / "old town.mp4", (2, 0, 8))
    (raw / "talk.srt").write_text(SUBTITLE)
    films.write(tmp_path / "copy.mp4", (1, 2, 6))
    return raw


def test_three_lines_find_a_moment(folder, tmp_path):
    lib = Library(folder, model="none")
    assert not lib.exists  # nothing is made before a question
    hit = lib.find("launching a rocket")[0]
    assert (hit.path, hit.start, hit.end, hit.by) == (str(folder / "talk.mp4"), 1.0, 2.5, ["speech"])
    assert [h.path for h in lib.find("an old town", within="titles", top=1)] == [str(folder / "old town.mp4")]
    assert lib.exists and len(lib) == 2 and lib.videos()["duration"].to_list() == pytest.approx([8, 8])
    segment = lib.copies(tmp_path / "copy.mp4").segments[0]
    assert segment.path == hit.path and segment.reference_start == pytest.approx(2, abs=0.5)
    assert lib.duplicates().groups == []
    assert repr(lib) == f"Library({str(folder)!r}, 'films')"


def test_it_follows_the_folder_and_forgets_it(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    lib = Library("~/films", model="none")
    lib.refresh()
    shutil.copy(folder / "talk.mp4", folder / "harbour.mp4")
    films.write(folder / "harbour.mp4", (3, 0, 4))
    assert lib.find("harbour") == [] and lib.refresh().videos == ["harbour.mp4"]
    assert [h.title for h in lib.find("harbour")] == ["harbour"]  # what was loaded before is loaded again
    (folder / "harbour.mp4").unlink()
    assert lib.refresh().removed == ["harbour.mp4"] and Library(name="films").find("harbour") == []
    lib.remove()
    assert not lib.exists and len(list(folder.iterdir())) == 3
    with pytest.raises(ValueError, match="no index named 'films'"):
        Library(name="films")


def test_one_file_is_forgotten_until_the_folder_is_read_again(folder, tmp_path, capsys):
    lib = Library(folder, model="none")
    assert lib.find("a rocket") and lib.find("an old town")
    lib.remove(folder / "talk.mp4")
    assert lib.videos()["video_id"].to_list() == ["old town.mp4"] and (folder / "talk.mp4").exists()
    assert lib.find("a rocket") == [] and lib.copies(tmp_path / "copy.mp4").segments == []
    with pytest.raises(ValueError, match=r"no video of .* named 'old towns.mp4'; did you mean 'old town.mp4'"):
        lib.remove("old towns.mp4")
    assert lib.refresh().videos == ["talk.mp4"] and lib.find("a rocket")
    lib.remove("talk.mp4")  # by its id
    assert cli.main(["index", str(folder / "old town.mp4"), "--remove"]) == 0
    assert "is removed from index 'films'; the file stays" in capsys.readouterr().out
    assert Library(name="films").find("an old town") == [] and not len(Library(name="films"))
    assert cli.main(["index", str(tmp_path / "copy.mp4"), "--remove"]) == 1
    assert "no index named" in capsys.readouterr().err


def test_what_cannot_be_asked_is_said(folder):
    with pytest.raises(ValueError, match="is no folder: expected a folder of videos"):
        Library(folder / "nowhere")
    lib = Library(folder, model=str(folder / "no model"))
    with pytest.warns(UserWarning, match="no model' cannot be loaded"):
        assert lib.find("a rocket")
    with pytest.raises(ValueError, match="the question is empty"):
        lib.find("  ")
    with pytest.raises(ValueError, match="no kind of hits named 'sound'"):
        lib.find("rocket", within=["sound"])
    with pytest.raises(ValueError, match="has no model that looks at pictures"):
        Library(folder, name="blind", model="none").similar("talk.mp4")


def test_the_package_is_imported_without_its_libraries():
    code = "import sys, videomatch; sys.exit(bool({'torch', 'numpy', 'polars'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
