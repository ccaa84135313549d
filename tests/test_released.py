"""Features in the files that others released: as their own readers take them, and what is wrong with a file."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from paths import fixtures
from toys import corpus_of
from videomatch.data import released, tables
from videomatch.data.store import Store
from videomatch.experts.released import FORMATS, Expert
from videomatch.stages.extract import extract

DIMS = {"face": 8, "ocr": 6, "rgb": 10, "s3d": 12, "scene": 9, "speech": 6, "vggish": 5}
#: seconds a row and whether the files' clock counts: how MMT reads its files
MMT = {"rgb": (0.2, False), "s3d": (1.0, True), "vggish": (1.0, True), "scene": (1.0, False)}
IDS = ["video0", "video7", "vxyz_12", "video1"]


def mmt(name, ids=IDS):
    every, clock = MMT.get(name, (None, False))
    found = released.mmt_h5(fixtures() / "mmt_h5", ids, dim=DIMS[name], name=name, every=every, clock=clock)
    return {video_id: (values, times) for video_id, values, times in found}


@pytest.mark.parametrize("name", DIMS)
def test_fixture_mmt_files_as_the_published_reader_takes_them(name):
    expected = np.load(fixtures() / "mmt_h5_expected.npz", allow_pickle=False)
    found = mmt(name)
    assert list(found) == IDS[:3]
    for video_id, (values, times) in found.items():
        # "paragraph" keeps up to 30 rows, more than there are: nothing is drawn
        wanted = {
            k: expected[f"paragraph__{video_id}__{k}__{name}"][0] for k in ("features", "features_t", "features_ind")
        }
        count = int(wanted["features_ind"].sum())
        assert len(values) == count and len(times) == count
        np.testing.assert_allclose(values, wanted["features"][:count], rtol=1e-9)
        maximum = values.max(axis=0) if count else np.zeros(DIMS[name])
        np.testing.assert_allclose(
            maximum, expected[f"paragraph__{video_id}__features_maxpool__{name}"].ravel(), rtol=1e-9
        )
        middle = times.mean(axis=1)
        positions = np.where(np.isnan(middle), 1.0, middle + 2)  # 1: an unknown time
        np.testing.assert_allclose(positions, wanted["features_t"].ravel()[:count], rtol=1e-9)


def test_fixture_bigfile_rows_are_those_of_the_published_reader():
    folder = fixtures() / "bigfile_collection/toycollection/FeatureData/toyfeat"
    expected = json.loads((fixtures() / "bigfile_expected.json").read_text())
    names = expected["names"]
    dim = int((folder / "shape.txt").read_text().split()[1])
    found = {v: values for v, values, _ in released.bigfile(folder, [*names, "nosuch_1"], dim=dim, frames=False)}
    assert sorted(found) == sorted(names)
    for name, vector in zip(expected["read_names"], expected["read_vectors"], strict=True):
        np.testing.assert_array_equal(found[name], [vector])
    one = expected["read_one"]
    np.testing.assert_array_equal(found[one["name"]], [one["vector"]])
    assert sum(v.sum(dtype=np.float64) for v in found.values()) == pytest.approx(expected["sum_of_all_values"])
    by_frame = found
    videos = {
        v: (values, times)
        for v, values, times in released.bigfile(folder, list(expected["video2frames"]), dim=dim, every=0.5)
    }
    assert set(videos) == set(expected["video2frames"])
    for video_id, frames in expected["video2frames"].items():  # numbered frames in order of their numbers
        np.testing.assert_array_equal(videos[video_id][0], np.concatenate([by_frame[frame] for frame in frames]))
        np.testing.assert_allclose(videos[video_id][1][:, 0], np.arange(len(frames)) * 0.5)
    name = max(expected["video2frames"], key=lambda video_id: video_id.count("_"))
    (only,) = released.bigfile(folder, {name, f"{name}_0", name.partition("_")[0] + "?"}, dim=dim)
    assert only[0] == name and len(only[1]) == len(expected["video2frames"][name]) and np.isnan(only[2]).all()


@pytest.fixture
def big(tmp_path):
    (tmp_path / "id.txt").write_text("a_0 a_1 b_0\n")
    (tmp_path / "shape.txt").write_text("3 2\n")
    np.arange(6, dtype="<f4").tofile(tmp_path / "feature.bin")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("id.txt", "a_0 a_1", r"id.txt: 2 names, expected 3, as shape.txt says"),
        ("id.txt", "a_0 a_1 a_0", r"id.txt: 'a_0' stands twice"),
        ("id.txt", "a_0 a_1 film", r"id.txt: 'film' is no frame, expected <video>_<number>"),
        ("shape.txt", "3", r"shape.txt: '3', expected rows and columns"),
        ("shape.txt", "2 3", r"shape.txt: rows of 3 numbers, expected 2 \(`dim`\)"),
        ("feature.bin", "1234", r"feature.bin: 4 bytes, expected 4 \* 3 \* 2"),
        ("feature.bin", None, "no feature.bin; expected feature.bin, id.txt and shape.txt"),
    ],
)
def test_a_broken_bigfile_is_refused(big, name, content, message):
    assert len(list(released.bigfile(big, ["a", "b"], dim=2, frames=True))) == 2
    (big / name).unlink()
    if content is not None:
        (big / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        list(released.bigfile(big, ["a", "b"], dim=2, frames=True))


def test_no_id_leaves_the_folder(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "mult_h5/a/b/c").mkdir(parents=True)
    for path in (tmp_path / "mult_h5/a/b/c/abc.h5", tmp_path / "evil.h5"):
        with h5py.File(path, "w") as file:
            file["features.x"] = np.ones((3, 2), np.float32)
    ids = ["abc", "../evil", "..", "a/../../../../evil", str(tmp_path / "evil"), "ab", "", "a\0b"]
    found = list(released.mmt_h5(tmp_path, ids, dim=2, name="x"))
    assert [video_id for video_id, _, _ in found] == ["abc"]


def test_mmt_files_that_do_not_fit_are_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "a/b/c").mkdir(parents=True)
    path = tmp_path / "a/b/c/abc.h5"

    def error(dim=2, **content):
        with h5py.File(path, "w") as file:
            for name, value in content.items():
                file[name.replace("__", ".")] = value
        list(released.mmt_h5(tmp_path, ["abc"], dim=dim, name="x"))

    with pytest.raises(ValueError, match=r"abc.h5: float32 of shape \(3, 4\), expected numbers of shape \(L, 2\)"):
        error(features__x=np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"features_t.x has shape \(2, 2\), expected \(3 or more, 2\)"):
        error(features__x=np.ones((3, 2)), features_t__x=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"abc.h5: .*features.x is .*, expected numbers"):
        error(features__x=np.array([b"no", b"yes"]))
    path.write_bytes(b"no hdf5")
    with pytest.raises(ValueError, match=r"abc.h5: cannot be read as HDF5"):
        list(released.mmt_h5(tmp_path, ["abc"], dim=2, name="x"))
    with pytest.raises(ValueError, match="there is no such folder"):
        list(released.mmt_h5(tmp_path / "none", ["abc"], dim=2, name="x"))


def test_a_file_a_video(tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    np.save(tmp_path / "v1.npy", np.ones((4, 3), np.float16))
    np.save(tmp_path / "deep/er/v2.npy", np.ones(3))
    found = {v: (values, times) for v, values, times in released.npy(tmp_path, ["v1", "v2", "v3"], dim=3, every=2.0)}
    assert found["v1"][0].shape == (4, 3) and found["v1"][1].tolist()[-1] == [6.0, 8.0]
    assert found["v2"][0].shape == (1, 3) and "v3" not in found
    np.save(tmp_path / "v3.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"v3.npy: cannot be read as an array of numbers"):
        list(released.npy(tmp_path, ["v3"], dim=3))
    np.save(tmp_path / "v4.npy", np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"v4.npy: float64 of shape \(3, 4\), expected numbers of shape \(L, 3\)"):
        list(released.npy(tmp_path, ["v4"], dim=3))
    np.save(tmp_path / "deep/v1.npy", np.ones(3))
    with pytest.raises(ValueError, match="has the same name"):
        list(released.npy(tmp_path, ["v1"], dim=3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "hdf"}, "no format 'hdf' of released features; there are mmt_h5, npy, bigfile"),
        ({"format": "npy"}, "format 'npy': missing a required .*'folder'"),
        ({"format": "mmt_h5", "folder": "x"}, "missing a required .*'name'"),
        ({"format": "npy", "folder": "x", "name": "rgb"}, "unexpected keyword argument 'name'"),
        ({"format": "bigfile", "folder": "x", "clock": True}, "unexpected keyword argument 'clock'"),
        ({"folder": "x"}, "released features with folder, but without `format`"),
        ({"every": 1.0}, "released features with every, but without `format`"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        Expert(dim=3, **options)
    assert Expert(dim=3).format is None and all(hasattr(released, name) for name in FORMATS)


def test_extract_copies_features_of_their_own_files(tmp_path):
    corpus = corpus_of(tmp_path / "corpus", dict.fromkeys(IDS))
    shutil.copytree(fixtures() / "bigfile_collection/toycollection/FeatureData/toyfeat", tmp_path / "big")
    dim = int((tmp_path / "big/shape.txt").read_text().split()[1])
    frames = json.loads((fixtures() / "bigfile_expected.json").read_text())["video2frames"]
    folder = str(fixtures() / "mmt_h5")
    experts = {
        "rgb": {"extractor": "released", "dim": 10, "format": "mmt_h5", "name": "rgb", "folder": folder, "every": 0.2}
        | {"clock": False, "dtype": "float32"},
        "face": {"extractor": "released", "dim": 8, "format": "mmt_h5", "name": "face", "folder": folder},
        "toy": {"extractor": "released", "dim": dim, "format": "bigfile", "folder": str(tmp_path / "big")},
    }
    extract(corpus=corpus, shard=0, experts=experts, backbones={}, output=tmp_path / "out")
    rgb, face, toy = (Store(tmp_path / "out" / name) for name in experts)
    wanted = mmt("rgb")
    for video_id in IDS[:3]:
        np.testing.assert_array_equal(rgb[video_id], wanted[video_id][0])
        np.testing.assert_allclose(rgb.times(video_id), wanted[video_id][1])
    assert len(face["video7"]) == 0 and len(face["video0"]) == 1 and np.isnan(face.times("video0")).all()
    assert toy.ids.to_list() == [v for v in IDS if v in frames]
    assert all(toy[v].shape == (len(frames[v]), dim) for v in toy.ids)
    rejected = tables.read("rejected", tmp_path / "out")
    listed = sorted(rejected.select("video_id", "reason").iter_rows())
    assert [v for v, reason in listed if "'rgb'" in reason] == ["video1"]
    assert [v for v, reason in listed if "'toy'" in reason] == sorted(set(IDS) - set(frames))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (b"(3, 4)", b"(9999999999, 4)", "greater than file size"),
        (b"(3, 4)", b"(3, -4)", "cannot be read"),
        (b"NUMPY", b"NUMPI", "cannot be read"),
        (b"'<f4'", b"'|O'", "cannot be read"),
    ],
)
def test_an_array_that_declares_what_its_file_cannot_hold_is_refused(
    tmp_path: Path, before: bytes, after: bytes, message: str
):
    file = tmp_path / "a.npy"
    np.save(file, np.ones((3, 4), np.float32))
    file.write_bytes(file.read_bytes().replace(before, after))
    with pytest.raises(ValueError, match=rf"a\.npy: .*{message}"):
        released.read_array(file)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"a\.npy: is a pipe"):
        list(released.npy(tmp_path, ["a"], dim=4))


def _h5(tmp_path: Path, change) -> list:
    file = tmp_path / "a/b/c/abc.h5"
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as made:
        change(made)
    return list(released.mmt_h5(tmp_path, ["abc"], dim=4, name="s3d", every=1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.create_dataset("features.s3d", (2 * 10**9, 4), "f4", chunks=(1000, 4)), "can hold"),
        (lambda f: f.__setitem__("features.s3d", h5py.ExternalLink("other.h5", "a")), "another file"),
        (lambda f: f.create_dataset("features.s3d", (3, 4), "f4", external=[("other", 0, 48)]), "another file"),
        (lambda f: f.__setitem__("features.s3d", h5py.SoftLink("/features.s3d")), "cannot be read as HDF5"),
        (lambda f: f.update({"x": h5py.ExternalLink("o.h5", "a"), "features.s3d": h5py.SoftLink("/x")}), "is a link"),
        (lambda f: f.update({"x": h5py.ExternalLink("o.h5", "/"), "features.s3d": h5py.SoftLink("/x/a")}), "is a link"),
        (lambda f: f.__setitem__("features.s3d", np.dtype("f4")), "expected numbers"),
    ],
)
def test_what_an_hdf5_file_only_declares_is_refused(tmp_path: Path, change, message: str):
    (tmp_path / "a/b/c").mkdir(parents=True)
    with h5py.File(tmp_path / "a/b/c/o.h5", "w") as other:
        other["a"] = np.ones((3, 4), "f4")
    with pytest.raises(ValueError, match=rf"abc\.h5: .*{message}"):
        _h5(tmp_path, change)


@pytest.mark.parametrize("times", [[np.nan, 1], [-1, 1], [0, np.inf], [2, 1]])
def test_times_that_are_none_are_refused(tmp_path: Path, times: list[float]):
    def change(file) -> None:
        file["features.s3d"], file["features_t.s3d"] = np.ones((1, 4), "f4"), np.array([times])

    with pytest.raises(ValueError, match=r"abc\.h5: features_t\.s3d: expected start and end"):
        _h5(tmp_path, change)
