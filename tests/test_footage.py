"""A library of own files: what is added once, what is refused, and what a kill leaves."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import films
from videomatch.app import descriptors
from videomatch.app import video_library as footage
from videomatch.app.descriptors import chosen
from videomatch.app.library import Refused
from videomatch.app.video_library import Footage, summary
from videomatch.data.store import Store
from videomatch.experts import grey


def no_parameters():
    raise AssertionError("nobody asks for the parameters")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    for number in range(3):
        films.write(folder / f"film{number}.mp4", (number, 0, 8))
    films.write(folder / "deep/film0.mp4", (10, 0, 5))
    (folder / "broken.mp4").write_bytes((folder / "film0.mp4").read_bytes()[:500])
    (folder / "notes.txt").write_text("no video")
    shutil.copy(folder / "film1.mp4", folder / "film1 again.mp4")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "library"


def made(place, **options):
    return Footage.made(place, chosen(no_parameters, **options))


def counted(monkeypatch):
    """Ids that are described, call by call."""
    calls = []
    before = descriptors.Descriptor.described

    def described(self, files, folder, threads):
        calls.append(sorted(files))
        return before(self, files, folder, threads)

    monkeypatch.setattr(descriptors.Descriptor, "described", described)
    return calls


def test_files_are_added_once_and_broken_ones_are_named(raw, place, monkeypatch):
    calls = counted(monkeypatch)
    added = made(place).add([raw])
    assert sorted(added.videos) == ["deep/film0.mp4", "film0.mp4", "film1 again.mp4", "film2.mp4"]
    assert added.known == 1 and added.frames == 3 * 32 + 20
    assert [Path(r["path"]).name for r in added.rejected] == ["broken.mp4"] and "FFmpeg" in added.rejected[0]["reason"]
    library = Footage(place).searchable()
    assert library.frames == added.frames and sorted(library.ids) == sorted(added.videos)
    # again, moved, and with one more: only that one is decoded
    films.write(place.parent / "more/film3.mp4", (3, 0, 4))
    shutil.copy(raw / "film2.mp4", place.parent / "more/moved.mp4")
    before = {p: p.stat().st_mtime_ns for p in (place / "features").rglob("*.npy")}
    calls.clear()
    added = Footage(place).add([raw, place.parent / "more"])
    assert added.videos == ["film3.mp4"] and added.known == 6
    assert calls == [["broken.mp4", "film3.mp4"]]
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(Footage(place).searchable()) == 5
    said = summary(Footage(place))
    assert [v["video_id"] for v in said["videos"]] == sorted(Footage(place).searchable().ids)
    assert said["frames"] == 3 * 32 + 20 + 16 and len(said["rejected"]) == 1
    # what was broken and is mended is a video
    shutil.copy(raw / "film0.mp4", place.parent / "broken.mp4")
    monkeypatch.setattr(footage, "_shown", lambda path: Path(path).name)
    assert Footage(place).add([place.parent / "broken.mp4"]).known == 1


def test_what_is_described_is_not_lost_by_a_kill(raw, place, monkeypatch):
    monkeypatch.setattr(footage, "BATCH", 1)
    wanted = made(place.parent / "whole")
    wanted.add([raw])
    calls = counted(monkeypatch)
    library = made(place)
    before = Footage._note
    monkeypatch.setattr(Footage, "_note", lambda self, batch: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # the features of one batch stand, and nothing else
        library.add([raw])
    monkeypatch.setattr(Footage, "_note", before)
    (place / "features/.half.new.1").mkdir()
    (place / ".index.new.1").mkdir()
    done = [ids for ids in calls if ids != ["broken.mp4"]]
    calls.clear()
    monkeypatch.setattr(footage.Library, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # while the index is made
        library.add([raw])
    monkeypatch.undo()
    monkeypatch.chdir(place.parent)
    with pytest.raises(Refused, match="holds no video yet"):
        library.searchable()
    monkeypatch.setattr(footage, "BATCH", 1)
    later = counted(monkeypatch)
    assert library.add([raw]).known == 2  # the lost one, and the file that stands twice
    assert done[0] not in calls + later and not list(place.glob("**/*.new.*"))
    assert sorted(Footage(place).searchable().ids) == sorted(wanted.searchable().ids)
    ours, theirs = (Store.open(*one._batches()) for one in (library, wanted))
    for video in wanted.searchable().ids:
        assert ours[video].tolist() == theirs[video].tolist()


def test_an_index_grows_with_the_library_and_settles(place, monkeypatch):
    monkeypatch.setattr(footage, "SETTLED", 100)
    for number in range(12):
        films.write(place.parent / f"raw/{number}.mp4", (number, 0, 5))
    library = made(place)
    learned = []
    for number in range(12):
        library.add([place.parent / f"raw/{number}.mp4"])
        learned.append(json.loads((place / "index/batches.json").read_text())["learned"])
        assert len(library.searchable()) == number + 1
    assert learned == [20] * 3 + [80] * 9
    assert len(library.videos()) == 12
    monkeypatch.setattr(footage, "SETTLED", 80)
    films.write(place.parent / "raw/12.mp4", (12, 0, 5))
    library.add([place.parent / "raw/12.mp4"])
    assert not list((place / "features").glob("[!.]*")) and len(library.searchable()) == 13
    # nothing is described again though no features are kept
    assert library.add([place.parent / "raw"]).known == 13


def test_ids_are_names_that_can_be_shown_and_are_never_paths(raw, place):
    nasty = ['<img src=x onerror="1">.mp4', "a\nb.mp4", "..mp4", "%2e%2e.mp4"]
    for number, name in enumerate(nasty):
        films.write(place.parent / "odd" / name, (20 + number, 0, 3))
    (place.parent / "odd" / b"\xff.mp4".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    films.write(place.parent / "other/film0.mp4", (40, 0, 3))
    films.write(place.parent / "b/other/film0.mp4", (41, 0, 3))
    library = made(place)
    added = library.add([place.parent / "odd", raw / "film0.mp4", place.parent / "other", place.parent / "b/other"])
    assert {"a%0Ab.mp4", nasty[0], "film0.mp4", "other/film0.mp4", "b/other/film0.mp4"} < set(added.videos)
    assert ["UTF-8" in r["reason"] for r in added.rejected] == [True]
    assert all(i.isprintable() for i in library.searchable().ids)
    outside = {p.name for p in place.parent.iterdir()} - {".scratch"}  # where digests are remembered
    assert outside == {"library", "odd", "other", "b"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"expert": "clip"}, "no params.yaml here"),
        ({"system": "clip"}, "no params.yaml here"),
        ({"key_frames": "shot"}, "did you mean 'shots'"),
        ({"share": 0.5}, "with a way to choose key frames"),
        ({"key_frames": "uniform", "share": 2.0}, "at most 1"),
        ({"every": 0.0}, "0.02 to 60"),
        ({"expert": "grey", "run": Path("run")}, "expected one of them"),
    ],
)
def test_what_cannot_describe_frames_is_refused(place, options, said):
    with pytest.raises(Refused, match=said):
        made(place, **options)
    assert not place.exists()


def test_what_is_no_library_is_refused(raw, place):
    with pytest.raises(Refused, match="is no library: make one"):
        Footage(place)
    with pytest.raises(Refused, match="new or an empty folder"):
        made(raw)
    library = made(place)
    with pytest.raises(Refused, match="holds no video yet"):
        library.searchable()
    with pytest.raises(Refused, match="nothing is there"):
        library.add([place.parent / "nothing"])
    (place / "library.json").write_text('{"format": 99}')
    with pytest.raises(Refused, match="format 99, expected 1"):
        Footage(place)


def test_one_process_adds_at_a_time(raw, place):
    library = made(place)
    with library._alone(), pytest.raises(Refused, match="another process is adding"):
        Footage(place).add([raw])


def test_a_retrained_checkpoint_is_another_descriptor(place):
    run = place.parent / "run"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    with pytest.raises(Refused, match="no image network"):
        made(place, run=run)
    (run / "preprocessor_config.json").write_text("{}")
    (run / "model.safetensors").write_bytes(b"1")
    library = made(place, run=run)
    library.descriptor.check()
    (run / "log.csv").write_text("says nothing of the weights")
    library.descriptor.check()
    (run / "model.safetensors").write_bytes(b"2")
    with pytest.raises(Refused, match="other weights"):
        Footage(place).add([place.parent])
    shutil.rmtree(run)
    with pytest.raises(Refused, match="is not there"):
        Footage(place).add([place.parent])


def test_key_frames_stand_for_all_of_a_video(raw, place):
    library = made(place, key_frames="differences", share=0.25)
    library.add([raw / "film0.mp4"])
    frames, times = library.searchable().features("film0.mp4")
    assert len(frames) == 8 and times[0, 0] == 0 and abs(times[-1, 1] - 8) < 0.01
    assert np.allclose(times[1:, 0], times[:-1, 1])


def test_an_expert_that_reads_stored_frames_describes_files(raw, place):
    """The frames it reads are made first, in their own size."""
    options = {"extractor": "grey", "size": 8}
    source = {"extractor": "frames", "every": 0.5, "size": 32}
    library = Footage.made(place, descriptors.Descriptor("small", options, source))
    assert library.add([raw]).frames == 3 * 16 + 10
    store = Store.open(*library._batches())
    assert store.shape == (64,)
    views = library.descriptor.views(raw / "film0.mp4", place.parent / "views", 1)
    assert set(views.ids) == set(descriptors.VIEWS) and set(views.lengths.tolist()) == {16}
    row = store["film0.mp4"][3].reshape(8, 8)
    assert np.abs(views["mirrored"][3].reshape(8, 8) - row[:, ::-1]).max() < 0.02


def test_grey_pixels_do_not_see_brightness_colour_and_size():
    expert = grey.Expert(size=8)
    frames = np.stack([films.picture(seed, 0.5) for seed in range(4)])
    rows = expert.prepare(frames)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5) and np.abs(rows.mean(1)).max() < 1e-6
    dark = expert.prepare(np.stack([films.darker(f, 0) for f in frames]))
    large = expert.prepare(frames.repeat(3, 1).repeat(2, 2))
    for other in (dark, large):
        assert (np.einsum("nd,nd->n", rows, other) > 0.97).all()
    assert np.abs(rows @ rows.T - np.eye(4)).max() < 0.8
    flat = expert.prepare(np.full((2, 20, 30, 3), 255, np.uint8))
    assert not flat.any() and expert.prepare(frames[:0]).shape == (0, 64)
    with pytest.raises(ValueError, match="size = 1 pixels"):
        grey.Expert(size=1)
