"""A library of own videos: what is added once, what is refused, and what a killed process leaves."""

import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import films
from videomatch.app import descriptors
from videomatch.app.descriptors import choose
from videomatch.app.requests import load_plan
from videomatch.app.video_library import OWN, VideoLibrary
from videomatch.common import files
from videomatch.corpora import _files
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.experts import grey
from videomatch.retrieval.frame_index import FrameIndex


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


def made(place, sizes=None, **options):
    return VideoLibrary.create(place, choose(load_plan, **options), **(sizes or {}))


def counted(monkeypatch):
    """Ids that are described, call by call."""
    calls = []
    before = descriptors.Descriptor.describe

    def describe(self, files, folder, threads, *beside):
        calls.append(sorted(files))
        return before(self, files, folder, threads, *beside)

    monkeypatch.setattr(descriptors.Descriptor, "describe", describe)
    return calls


def test_files_are_added_once_and_broken_ones_are_named(raw, place, monkeypatch):
    calls = counted(monkeypatch)
    added = made(place).add([raw])
    assert sorted(added.videos) == ["deep/film0.mp4", "film0.mp4", "film1 again.mp4", "film2.mp4"]
    assert added.known == 1 and added.frames == 3 * 32 + 20
    assert [Path(r["path"]).name for r in added.rejected] == ["broken.mp4"] and "FFmpeg" in added.rejected[0]["reason"]
    library = VideoLibrary(place).open_index()
    assert library.frames == added.frames and sorted(library.ids) == sorted(added.videos)
    # again, moved, and with one more: only that one is decoded
    films.write(place.parent / "more/film3.mp4", (3, 0, 4))
    shutil.copy(raw / "film2.mp4", place.parent / "more/moved.mp4")
    before = {p: p.stat().st_mtime_ns for p in (place / "batches").rglob("*.npy")}
    calls.clear()
    added = VideoLibrary(place).add([raw, place.parent / "more"])
    assert added.videos == ["film3.mp4"] and added.known == 6
    assert calls == [["broken.mp4", "film3.mp4"]]
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(VideoLibrary(place).open_index()) == 5
    found = VideoLibrary(place).summary()
    assert [v["video_id"] for v in found["videos"]] == sorted(VideoLibrary(place).open_index().ids)
    assert found["frames"] == 3 * 32 + 20 + 16 and len(found["rejected"]) == 1
    # what was broken and is mended is a video
    broken = place.parent / "more/broken.mp4"
    broken.write_bytes((raw / "broken.mp4").read_bytes())
    assert len(VideoLibrary(place).add([broken]).rejected) == 1 and len(VideoLibrary(place).rejected()) == 2
    shutil.copy(raw / "film0.mp4", broken)
    assert VideoLibrary(place).add([broken]).known == 1 and len(VideoLibrary(place).rejected()) == 1


def killed(monkeypatch, owner, name, when):
    """Make a function raise an interrupt at its call number ``when``, from 0."""
    before, calls = getattr(owner, name), []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) > when:
            raise KeyboardInterrupt
        return before(*arguments, **options)

    monkeypatch.setattr(owner, name, interrupted)


def test_what_is_described_is_not_lost_by_a_kill(raw, place, monkeypatch):
    wanted = made(place.parent / "whole")
    wanted.add([raw])
    library = made(place, sizes={"batch": 1})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, descriptors.Descriptor, "describe", 3)  # broken.mp4 and two videos are described
        library.add([raw])
    (place / "batches/.half.new.99999999").mkdir(parents=True)
    (place / ".index.new.99999999").mkdir()
    done = sorted(library.videos()["video_id"])
    assert len(done) == 2
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, FrameIndex, "add", 0)
        library.add([raw])
    with pytest.raises(ValueError, match="2 of 4 videos without frames in the index"):
        library.open_index()
    calls = counted(monkeypatch)
    assert library.add([raw]).known == 5  # all four, and the file that is there twice
    assert calls == [["broken.mp4"]]
    assert sorted(VideoLibrary(place).open_index().ids) == sorted(wanted.open_index().ids)
    assert not list(place.rglob("*.9999*"))
    ours, theirs = (Store(*one.features[OWN].batches()) for one in (library, wanted))
    for video in wanted.open_index().ids:
        assert ours[video].tolist() == theirs[video].tolist()


def test_an_index_grows_with_the_library_and_settles(place):
    for number in range(12):
        films.write(place.parent / f"raw/{number}.mp4", (number, 0, 5))
    library = made(place, sizes={"settled": 100})
    learned = []
    for number in range(12):
        library.add([place.parent / f"raw/{number}.mp4"])
        learned.append(library.open_index().learned)
        assert len(library.open_index()) == number + 1
    assert learned == [20] * 3 + [80] * 9
    assert len(library.videos()) == 12
    library = VideoLibrary(place, settled=80)
    films.write(place.parent / "raw/12.mp4", (12, 0, 5))
    library.add([place.parent / "raw/12.mp4"])
    assert not library.features[OWN].batches() and len(library.open_index()) == 13
    # nothing is described again though no features are kept
    assert library.add([place.parent / "raw"]).known == 13


def test_ids_are_names_that_can_be_shown_and_are_never_paths(raw, place):
    nasty = ['<img src=x onerror="1">.mp4', "می\u200cشود 👨\u200d👩.mp4"]
    nasty += ["a\nb.mp4", "..mp4", "%2e%2e.mp4", "\u202egpj.mp4"]
    for number, name in enumerate(nasty):
        films.write(place.parent / "odd" / name, (20 + number, 0, 3))
    (place.parent / "odd" / b"\xff.mp4".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    films.write(place.parent / "other/film0.mp4", (40, 0, 3))
    films.write(place.parent / "b/other/film0.mp4", (41, 0, 3))
    (place.parent / "odd/gone.mp4").symlink_to("nothing")
    (place.parent / "b/again").symlink_to(place.parent / "b")  # a circle
    library = made(place)
    added = library.add([place.parent / "odd", raw / "film0.mp4", place.parent / "other", place.parent / "b"])
    expected = {*nasty[:2], "a%0Ab.mp4", "%202Egpj.mp4", "film0.mp4", "other/film0.mp4", "b/other/film0.mp4"}
    assert expected < set(added.videos)
    reasons = sorted(r["reason"].split(",")[0] for r in added.rejected)
    assert reasons == ["file name is not valid UTF-8", "link to nothing"]
    assert all(re.sub("[\u200c\u200d]", "", i).isprintable() for i in library.open_index().ids)
    assert {p.name for p in place.parent.iterdir()} == {"library", "odd", "other", "b"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expert": "clip"}, "no params.yaml here"),
        ({"system": "clip"}, "no params.yaml here"),
        ({"key_frames": "shot"}, "did you mean 'shots'"),
        ({"share": 0.5}, "with a way to choose key frames"),
        ({"key_frames": "uniform", "share": 2.0}, "at most 1"),
        ({"every": 0.0}, "0.02 to 60"),
    ],
)
def test_what_cannot_describe_frames_is_refused(place, options, message):
    with pytest.raises(ValueError, match=message):
        made(place, **options)
    assert not place.exists()


def test_what_is_no_library_is_refused(raw, place):
    with pytest.raises(ValueError, match="is no library: make one"):
        VideoLibrary(place)
    with pytest.raises(ValueError, match="new or an empty folder"):
        made(raw)
    library = made(place)
    with pytest.raises(ValueError, match="holds no video yet"):
        library.open_index()
    with pytest.raises(ValueError, match="does not exist"):
        library.add([place.parent / "nothing"])
    (place / "library.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99, expected 3"):
        VideoLibrary(place)


def test_one_process_adds_at_a_time(raw, place):
    made(place)
    held = files.lock(place / ".lock")
    assert held is not None
    with held, pytest.raises(ValueError, match="another process is adding"):
        VideoLibrary(place).add([raw])


def test_a_retrained_checkpoint_is_another_descriptor(place):
    run = place.parent / "run"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no image network"):
        made(place, run=run)
    (run / "preprocessor_config.json").write_text("{}")
    (run / "model.safetensors").write_bytes(b"1")
    library = made(place, run=run)
    library.descriptor.check()
    (run / "log.csv").write_text("says nothing of the weights")
    library.descriptor.check()
    (run / "model.safetensors").write_bytes(b"2")
    with pytest.raises(ValueError, match="other weights"):
        VideoLibrary(place).add([place.parent])
    shutil.rmtree(run)
    with pytest.raises(ValueError, match="is missing"):
        VideoLibrary(place).add([place.parent])


def test_key_frames_stand_for_all_of_a_video(raw, place):
    library = made(place, key_frames="differences", share=0.25)
    library.add([raw / "film0.mp4"])
    frames, times = library.open_index().features("film0.mp4")
    assert len(frames) == 8 and times[0, 0] == 0 and abs(times[-1, 1] - 8) < 0.01
    assert np.allclose(times[1:, 0], times[:-1, 1])


def test_an_expert_that_reads_stored_frames_describes_files(raw, place):
    """The frames it reads are made first, in their own size."""
    options = {"extractor": "grey", "size": 8}
    source = {"extractor": "frames", "every": 0.5, "size": 32}
    library = VideoLibrary.create(place, descriptors.Descriptor("small", options, source))
    assert library.add([raw]).frames == 3 * 16 + 10
    store = Store(*library.features[OWN].batches())
    assert store.shape == (64,)
    videos = tables.videos([{"video_id": "f", "path": str(raw / "film0.mp4")}])
    views = library.descriptor.describe_views(videos, place.parent / "views", 1)
    assert set(views.ids) == {f"{view}/f" for view in descriptors.VIEWS} - {"between blurred bars/f"}  # it has none
    assert set(views.lengths.tolist()) == {16}
    row = store["film0.mp4"][3].reshape(8, 8)
    assert np.abs(views["mirrored/f"][3].reshape(8, 8) - row[:, ::-1]).max() < 0.02


def test_a_torchscript_file_describes_files(raw, place):
    """By an expert of the parameters; another file under its name is refused."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
    torch.jit.script(network).save("copy.pt")
    Path("params.yaml").write_text(
        "{scale: t, seed: 0, backbones: {sscd: {pretrained: copy.pt}},"
        " experts: {sscd: {extractor: image, backbone: sscd, size: 16}}}"
    )
    library = made(place, expert="sscd", every=1.0)
    assert library.add([raw / "film0.mp4"]).frames == 8
    assert Store(*library.features[OWN].batches()).shape == (48,)
    torch.jit.script(torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d(4), torch.nn.Flatten())).save("copy.pt")
    with pytest.raises(ValueError, match=r"copy.pt holds other weights than those that described this library"):
        VideoLibrary(place).add([raw / "film1.mp4"])


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


@pytest.mark.parametrize(("sides", "ends", "colour"), [
    (0.34, 0, 0), (0.125, 0, 0), (0, 0.12, 0), (0, 0.25, 255), (0.15, 0.1, 0), (0.2, 0, (200, 30, 30)), (0.05, 0, 0),
])  # fmt: skip
def test_grey_pixels_do_not_see_bars(sides, ends, colour):
    def barred(seed, second, edit=None):
        frame = np.full((120, 160, 3), colour, np.uint8)
        height, width = round(120 * (1 - 2 * ends)), round(160 * (1 - 2 * sides))
        picture = cv2.resize(films.picture(seed, second), (width, height), interpolation=cv2.INTER_AREA)
        picture = picture if edit is None else edit(picture, 0)
        top, left = (120 - height) // 2, (160 - width) // 2
        frame[top : top + height, left : left + width] = picture
        return frame

    expert = grey.Expert()
    rows = expert.prepare(np.stack([barred(seed, 0.5) for seed in range(8)]))
    copies = expert.prepare(np.stack([barred(seed, 0.5, films.darker) for seed in range(8)]))
    marked = np.stack([barred(seed, 0.5) for seed in range(8)])
    marked[:, 4:14, 140:156] = 255 - marked[:, 4:14, 140:156]  # a logo
    assert (np.einsum("nd,nd->n", rows, copies) > 0.97).all()
    assert (np.einsum("nd,nd->n", rows, expert.prepare(marked)) > 0.85).all()
    assert np.abs(rows @ rows.T - np.eye(8)).max() < 0.6


def flipped(path):
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def frames_of(place):
    index = VideoLibrary(place).open_index()
    return {video_id: index.features(video_id)[0] for video_id in index.ids}


@pytest.fixture
def four(place):
    """Four films, two a batch."""
    for number in range(4):
        films.write(place.parent / f"raw/{number}.mp4", (number, 0, 3))
    return [place.parent / f"raw/{number}.mp4" for number in range(4)]


@pytest.mark.parametrize("settled", [20, 1000])
def test_every_flipped_bit_is_noticed_and_mended(place, four, settled):
    library = made(place, sizes={"batch": 2, "settled": settled})
    (place.parent / "raw/broken.mp4").write_bytes(b"no video")
    library.add([place.parent / "raw"])
    wanted = frames_of(place)
    assert library.check() == ([], []) and len(wanted) == 4
    whole = place.with_name("whole")
    shutil.copytree(place, whole)
    damaged = [p.relative_to(place) for p in sorted(place.rglob("*")) if p.is_file() and p.name not in (".lock",)]
    damaged.remove(Path("library.json"))
    assert len(damaged) == (28 if settled == 20 else 38)  # 16 of them of the corners
    for name in damaged:
        shutil.rmtree(place)
        shutil.copytree(whole, place)
        flipped(place / name)
        problems, _ = library.check()
        assert any(name.name in problem for problem in problems), (name, problems)
        notes = library.add([place.parent / "raw"] if name.parts[0] == "batches" else ()).notes
        assert any(name.name in note for note in notes), (name, notes)
        assert library.check() == ([], []), name
        got = frames_of(place)
        assert got.keys() == wanted.keys(), name
        assert all(np.abs((got[i] * wanted[i]).sum(1) - 1).max() < 0.05 for i in got), name
    flipped(place / "library.json")
    with pytest.raises(ValueError, match=r"library\.json"):
        VideoLibrary(place)


def test_what_cannot_be_mended_is_named(place, four):
    library = made(place, sizes={"settled": 20})
    library.add(four)
    four[0].unlink()
    flipped(next(place.glob("index/parts/*/lists.faiss")))
    with pytest.raises(ValueError, match=r"is damaged or missing.*library add .* mends it"):
        library.open_index()
    notes = library.add().notes
    assert any("0.mp4 is lost, add it again" in note for note in notes)
    assert sorted(library.open_index().ids) == sorted(library.videos()["video_id"]) == ["1.mp4", "2.mp4", "3.mp4"]
    shutil.rmtree(place / "index")
    with pytest.raises(ValueError, match="3 videos, and no index"):
        library.summary()


def test_of_a_damaged_library_nothing_is_removed(place, four):
    library = made(place, sizes={"batch": 2})
    library.add(four)
    ids = library.videos()["video_id"].to_list()
    with pytest.raises(ValueError, match="did you mean"):
        library.remove(["4.mp4"])
    whole = place.with_name("whole")
    shutil.copytree(place, whole)
    for name in (
        "batches/*/videos.parquet",
        "features/*/*.npy",
        "index/parts/*/lists.faiss",
        "points/index/codec/lists.faiss",
    ):
        file = next(place.glob(name))
        flipped(file)
        with pytest.raises(ValueError, match=rf"{file.name} is damaged or missing.*library add .* mends it"):
            library.remove([ids[-1]])
        assert any(file.name in problem for problem in library.check()[0]), "it is left to `add`"
        shutil.rmtree(place)
        shutil.copytree(whole, place)
    assert library.videos()["video_id"].to_list() == ids


@pytest.mark.parametrize("settled", [20, 1000])
def test_videos_are_removed(place, four, settled):
    library = made(place, sizes={"batch": 2, "settled": settled})
    library.add(four)
    before = frames_of(place)
    with pytest.raises(ValueError, match="did you mean"):
        library.remove(["0.mp4", "4.mp4"])
    assert library.remove(["0.mp4", "2.mp4", "3.mp4"]) == 3
    assert library.check() == ([], []) and library.videos()["video_id"].to_list() == ["1.mp4"]
    assert np.abs((frames_of(place)["1.mp4"] * before["1.mp4"]).sum(1) - 1).max() < 0.05
    assert library.add(four).videos == ["0.mp4", "2.mp4", "3.mp4"] and len(library.open_index()) == 4
    assert library.remove(["0.mp4", "1.mp4", "2.mp4", "3.mp4"]) == 4 and library.check() == ([], [])
    with pytest.raises(ValueError, match="holds no video yet"):
        library.open_index()
    assert len(library.add(four).videos) == 4


def test_moved_renamed_and_replaced_files(place, four, monkeypatch):
    library = made(place)
    monkeypatch.chdir(place.parent)
    library.add([Path("raw")])
    paths = dict(library.videos().select("video_id", "path").iter_rows())
    assert paths == {path.name: str(path) for path in four}
    four[0].rename(four[0].with_name("renamed.mp4"))
    (place.parent / "elsewhere").mkdir()
    four[1].rename(place.parent / "elsewhere/1.mp4")
    shutil.copy(four[2], before := place.parent / "before")
    films.write(four[2], (50, 0, 3))
    assert len(library.check()[1]) == 3
    added = library.add([Path("raw"), Path("elsewhere")])
    assert added.known == 3 and added.videos == ["raw/2.mp4"]
    assert any("2.mp4 has other content" in note for note in added.notes)
    paths = dict(library.videos().select("video_id", "path").iter_rows())
    assert paths["0.mp4"] == str(four[0].with_name("renamed.mp4"))
    assert paths["1.mp4"] == str(place.parent / "elsewhere/1.mp4")
    assert paths["2.mp4"] is None and paths["raw/2.mp4"] == str(four[2])
    assert library.check() == ([], ["2.mp4: its file has other content now"])
    # the old file comes back under another name
    shutil.copy(before, place.parent / "back.mp4")
    assert library.add([place.parent / "back.mp4"]).known == 1 and library.check() == ([], [])


@pytest.mark.parametrize("moves", [("1", "2>1", "3>2", "0>9"), ("0>x", "1>0", "x>1"), ("3", "2>3", "1>2", "0>1")])
def test_files_that_take_each_others_names_stay(place, four, moves):
    """Renamed down by one, swapped, and up by one; what is deleted is the only video without a file."""
    library, raw = made(place, sizes={"batch": 2}), place.parent / "raw"
    library.add(four)
    content = dict(library.videos().select("path", "sha256").iter_rows())
    for move in moves:
        first, _, then = move.partition(">")
        path = raw / f"{first}.mp4"
        path.rename(raw / f"{then}.mp4") if then else path.unlink()
    added = library.add([raw])
    paths = dict(library.videos().select("sha256", "path").iter_rows())
    files = sorted(raw.iterdir())
    assert {str(path) for path in files} == {path for path in paths.values() if path is not None}
    assert added.videos == [] and added.known == len(files) and library.add([raw]).videos == []
    lost = [raw / f"{move}.mp4" for move in moves if ">" not in move]
    assert [paths[content[str(path)]] for path in lost] == [None] * len(lost) and len(added.notes) == len(lost)
    assert len(library.check()[1]) == len(lost)


def test_folders_are_walked_once_without_pipes_and_what_is_passed_over_is_counted(place, four):
    raw = place.parent / "raw"
    four[0].rename(raw / "0.MTS.mp4")
    (raw / "pipe.mp4").unlink(missing_ok=True)
    os.mkfifo(raw / "pipe.mp4")
    (raw / "circle").symlink_to(raw)
    (raw / "self").symlink_to("self")
    (place.parent / "linked").symlink_to(raw)
    for name in ("a.JPG", "b.jpg", "README"):
        (raw / name).write_text("x")
    library = made(place)
    added = library.add([place.parent / "linked", raw / "pipe.mp4"])
    assert len(added.videos) == 4
    assert [r["reason"].split(",")[0] for r in added.rejected] == [
        "is a pipe", "link to nothing", "is a pipe",
    ]  # fmt: skip
    assert added.notes == [f"{place.parent}/linked: 3 files passed over by ending: 2 .jpg, 1 no ending"]
    found = _files.media_files(place.parent, "linked")
    assert sorted(found) == ["0.MTS", "1", "2", "3"]


def test_endings_of_cameras_phones_and_discs_are_videos_in_any_case(place, four):
    names = ["cam.MTS", "disc.VOB", "phone.3g2", "anim.gif", "old.Asf", "studio.MXF", "flash.f4v", "real.RMVB", "a.qt"]
    for number, name in enumerate(names):
        shutil.copy(four[0], place.parent / f"raw/{name}")
        with (place.parent / f"raw/{name}").open("ab") as file:
            file.write(bytes(number + 1))  # other content
    added = made(place).add([place.parent / "raw"])
    assert sorted(added.videos) == sorted([*(path.name for path in four), *names]) and not added.notes


def test_what_a_killed_first_call_leaves_is_no_hindrance(place, four):
    (place).mkdir()
    (place / ".library.json.new.99999999").write_text("{")
    (place / ".lock").write_text(f"99999999-{files.HOST}")
    assert made(place).add(four).known == 0
    assert VideoLibrary(place).check() == ([], []) and not list(place.glob(".library*"))
