"""Readers of VCSL and VSC 2022: the real label files, small folders of their form, and what is wrong with files."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paths import fixtures, realdata
from videomatch.corpora import vcsl, vsc2022
from videomatch.data import tables as tables_
from videomatch.data.pairs import judged_pairs
from videomatch.metrics import segments
from videomatch.stages import prepare


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """VCSL's own files in one folder, as its repository has them."""
    raw = tmp_path_factory.mktemp("vcsl")
    source = realdata() / "video_copy"
    for path in (source / "ant-research+VCSL").iterdir():
        if path.suffix in (".json", ".csv"):
            (raw / path.name).symlink_to(path)
    (raw / "VCSL_label_file.json").symlink_to(source / "transvcl+TransVCL/VCSL_label_file.json")
    return raw


@pytest.fixture(scope="module")
def tables_of_real(real):
    return vcsl.read(raw=real)


def test_real_vcsl_counts(real, tables_of_real):
    tables = tables_of_real
    relevance, found = tables["relevance"], tables["segments"]
    listed = pl.read_csv(real / "pair_file_test.csv").select("query_id", "reference_id")
    test = relevance.join(listed, on=["query_id", "reference_id"])
    assert (len(test), test["grade"].sum()) == (54_630, 27_315)
    assert len(relevance) == 54_630 + 10_724 + 450  # the batch of 2023-01, and the 1 % that left the test list
    assert relevance["grade"].sum() == 27_765 + 10_724
    assert len(found) == 39_185 + 19_275 - 46
    # of all first test labels, as counted from the file
    labels = vcsl.labels_of(real / "VCSL_label_file.json")
    per_pair = np.array([len(boxes) for boxes in labels.values()])
    assert (len(labels), per_pair.sum(), per_pair.max()) == (27_765, 39_185, 62)
    assert [round(float((per_pair == n).mean()), 3) for n in (1, 2, 3)] == [0.735, 0.179, 0.052]
    lengths = np.array([b[1] - b[0] for boxes in labels.values() for b in boxes])
    assert np.percentile(lengths, [1, 5, 25, 50, 75, 95, 99]).round().tolist() == [3, 4, 10, 19, 57, 144, 432]
    categories = tables["videos"].filter(pl.col("category").is_not_null()).group_by("category").len()
    counts = dict(categories.iter_rows())
    assert (counts["kichiku"], counts["daily life"], counts["games"]) == (1051, 713, 157)
    splits = tables["splits"].group_by("split", "role").len().rows()
    sides = {(s, r): n for s, r, n in splits}
    assert sides["copies_test", "query"] == listed["query_id"].n_unique()
    assert set(tables["splits"]["split"]) == {"test", "copies_test", "appended", "copies_appended"}


def test_real_vcsl_protocol_is_its_list_without_self_pairs(tables_of_real, tmp_path):
    for name in ("splits", "relevance"):
        tables_.write(name, tables_of_real[name], tmp_path)
    pairs = judged_pairs(tmp_path, "copies_test")
    # pairs that left the list may still have both sides in it
    assert 54_630 - 10 <= len(pairs) <= 54_630 - 10 + 450


def test_real_vcsl_a_second_short_costs_five_points(real):
    """The convention of every published aligner, on perfect predictions: 0.951, and 0.9998 without it."""
    labels = list(vcsl.labels_of(real / "VCSL_label_file.json").values())[::8]
    truth = [np.array([b for b in boxes if b[0] < b[1] and b[2] < b[3]]).reshape(-1, 4) for boxes in labels]
    short = [t - [0, 1, 0, 1] for t in truth]
    short = [s[(s[:, 1] > s[:, 0]) & (s[:, 3] > s[:, 2])] for s in short]
    exact = segments.overall(segments.per_pair(zip(truth, truth, strict=True)))
    assert exact["F1"] == pytest.approx(1, abs=1e-3)
    assert segments.overall(segments.per_pair(zip(short, truth, strict=True)))["F1"] == pytest.approx(0.951, abs=0.005)


def folder(tmp_path: Path, **files):
    for name, content in files.items():
        path = tmp_path / name.replace("__", ".")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path


PAIRS = "query_id,reference_id\na,b\na,c\nc,a\n"


def test_vcsl_small_folder(tmp_path, caplog):
    raw = folder(
        tmp_path,
        pair_file_val__csv=PAIRS,
        label_file_uuid_total__json={"a-b": [[1, 2, 11, 22], [5, 5, 5, 9]], "x-y": [[0, 0, 3, 4]]},
        video_categories__json={"games": ["a", "z"]},
        frames_all__csv="uuid,path,frame_count\na,a,31\nb,b,40\n",
    )
    tables = vcsl.read(raw=raw)
    assert tables["relevance"].rows() == [("a", "b", 1.0), ("a", "c", 0.0), ("c", "a", 0.0), ("x", "y", 1.0)]
    assert tables["segments"].rows() == [("a", "b", 1, 11, 2, 22, None), ("x", "y", 0, 3, 0, 4, None)]
    assert "1 segments without extent" in caplog.text
    videos = {row["video_id"]: row for row in tables["videos"].iter_rows(named=True)}
    assert set(videos) == {"a", "b", "c", "x", "y", "z"}
    assert (videos["a"]["duration"], videos["a"]["category"], videos["c"]["duration"]) == (31, "games", None)
    splits = set(tables["splits"].rows())
    assert {("val", "reference", "b"), ("copies_val", "query", "c"), ("copies_appended", "query", "x")} <= splits
    assert ("copies_val", "query", "b") not in splits


def test_vcsl_form_of_another_data_set(tmp_path):
    """VCDB's ids have dashes: the listed videos tell where a key is parted."""
    raw = folder(
        tmp_path,
        vcdb_pairs__csv="query_id,reference_id\nv-1,v-2\n",
        vcdb__json={"v-1-v-2": [[0, 0, 5.5, 6]]},
        label_file_total__json={"not": "read"},
    )
    tables = vcsl.read(raw=raw, labels=["vcdb.json"], pairs={"test": "vcdb_pairs.csv"})
    assert tables["segments"].rows() == [("v-1", "v-2", 0, 5.5, 0, 6, None)]
    (raw / "vcdb_pairs.csv").write_text("query_id,reference_id\nv-1,v-3\n")
    with pytest.raises(ValueError, match="0 ways to part the key"):
        vcsl.read(raw=raw, labels=["vcdb.json"], pairs={"test": "vcdb_pairs.csv"})


@pytest.mark.parametrize(
    "files, message",
    [
        ({"pair_file_test__csv": PAIRS}, "a label file is missing; looked for"),
        ({"label_file__json": "{"}, "not JSON"),
        ({"label_file__json": [1]}, r"label_file.json: list '\[1\]': .*expected {pair: \[\[q0"),
        ({"label_file__json": {"a-b": [[1, 2, 3]]}}, r"a-b, 0: list '\[1, 2, 3\]': List should have at least 4 items"),
        ({"label_file__json": {"a-b": [[1, 2, "3", 4]]}}, "a-b, 0, 2: str '3': .*valid number"),
        ({"label_file__json": {"ab": [[1, 2, 3, 4]]}}, "0 ways to part the key"),
        ({"label_file__json": {"a-b": []}, "pair_file_test__csv": "query,reference\na,b\n"}, "no column 'query_id'"),
        (
            {"label_file__json": {"a-b": []}, "pair_file_test__csv": "query_id,reference_id\na,\n"},
            "line 2: reference_id",
        ),
        (
            {"label_file_1__json": {"a-b": [[1, 2, 3, 4]]}, "label_file_2__json": {"a-b": [[1, 2, 3, 5]]}},
            "other segments than in the files before",
        ),
    ],
)
def test_vcsl_wrong_files_are_named(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        vcsl.read(raw=folder(tmp_path, **files))


def test_vcsl_features(tmp_path):
    (tmp_path / "features").mkdir()
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for name in ("a", "b"):
        np.save(tmp_path / f"features/{name}.npy", rows)
    found = list(vcsl.frame_features(tmp_path, {"b", "c"}))
    assert [f[0] for f in found] == ["b"]
    assert (found[0][1] == rows).all() and found[0][2].tolist() == [[0, 1], [1, 2], [2, 3]]
    np.save(tmp_path / "features/c.npy", rows[0])
    with pytest.raises(ValueError, match=r"c.npy: float32 of shape \(4,\)"):
        list(vcsl.frame_features(tmp_path))
    np.save(tmp_path / "features/c.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="as an array of numbers"):
        list(vcsl.frame_features(tmp_path))


# VSC 2022


def test_real_vsc_metadata(tmp_path):
    source = realdata() / "video_copy/drivendataorg+meta-vsc-matching-runtime"
    part = tmp_path / "test"
    part.mkdir()
    for name in ("query_metadata.csv", "reference_metadata.csv"):
        (part / name).symlink_to(source / name)
    tables = vsc2022.read(raw=tmp_path)
    videos = {row["video_id"]: row for row in tables["videos"].iter_rows(named=True)}
    lines = {n: len((part / n).read_text().splitlines()) - 1 for n in ("query_metadata.csv", "reference_metadata.csv")}
    assert len(videos) == sum(lines.values())
    first = videos["Q100001"]
    assert (first["duration"], first["fps"], first["width"], first["height"]) == (46.047, 29.97, 480, 360)
    sides = dict(tables["splits"].filter(pl.col("split") == "copies_test").group_by("role").len().iter_rows())
    assert sides == {"query": lines["query_metadata.csv"], "reference": lines["reference_metadata.csv"]}


def test_fixture_vsc_ground_truth(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/train_matching_ground_truth.csv").symlink_to(fixtures() / "vsc2022/ground_truth.csv")
    tables = vsc2022.read(raw=tmp_path)
    expected = json.loads((fixtures() / "vsc2022_expected.json").read_text())["gt_pairs_from_matches"]
    assert {tuple(p) for p in expected} == set(tables["relevance"].select("query_id", "reference_id").rows())
    written = pl.read_csv(fixtures() / "vsc2022/ground_truth.csv")
    for ours, theirs in zip(tables["segments"].iter_rows(named=True), written.iter_rows(named=True), strict=True):
        for column in ("query_id", "query_start", "query_end"):
            assert ours[column] == theirs[column]
        assert [ours["reference_id"], ours["reference_start"], ours["reference_end"]] == [
            theirs[column] for column in ("ref_id", "ref_start", "ref_end")
        ]
    (tmp_path / "val").mkdir()
    (tmp_path / "val/ground_truth.csv").symlink_to(fixtures() / "vsc2022/ground_truth.csv")
    with pytest.raises(ValueError, match="is in another part, too"):
        vsc2022.read(raw=tmp_path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("query_id,reference_id\nQ1,R1\n", "no column 'ref_id'"),
        ("query_id,ref_id\n1,R1\n", "line 2: query '1', expected an id that begins with Q"),
        ("query_id,ref_id,query_start,query_end,ref_start,ref_end\nQ1,R1,0,1,x,3\n", "ref_start is 'x'"),
        ("query_id,ref_id,query_start,query_end,ref_start,ref_end\nQ1,R1,0,1,3,3\n", "expected query start < end"),
    ],
)
def test_vsc_wrong_files_are_named(tmp_path, content, message):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/ground_truth.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        vsc2022.read(raw=tmp_path)


def test_vsc_without_parts_or_times(tmp_path):
    with pytest.raises(ValueError, match="expected one a part, as raw/train/"):
        vsc2022.read(raw=tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/train_descriptor_ground_truth.csv").write_text("query_id,ref_id\nQ1,R2\n")
    (tmp_path / "train/query").mkdir()
    (tmp_path / "train/query/Q1.mp4").write_bytes(b"")
    tables = vsc2022.read(raw=tmp_path)
    assert tables["relevance"].rows() == [("Q1", "R2", 1.0)]
    assert tables["segments"].is_empty()
    assert tables["videos"]["path"].to_list() == [str(tmp_path / "train/query/Q1.mp4"), None]


def test_fixture_vsc_features(tmp_path):
    arrays = np.load(fixtures() / "vsc2022_score_normalisation.npz", allow_pickle=False)
    given = {name: arrays[f"queries_{name}"] for name in ("features", "video_ids", "timestamps")}
    np.savez(tmp_path / "queries.npz", **given)
    found = list(vsc2022.frame_features(tmp_path))
    assert [f[0] for f in found] == list(dict.fromkeys(given["video_ids"].tolist()))
    assert (np.concatenate([f[1] for f in found]) == given["features"]).all()
    for _, values, times in found:
        assert times.shape == (len(values), 2) and (times[:, 1] > times[:, 0]).all()
        assert (times[1:, 0] == times[:-1, 1]).all()
    one = found[1][0]
    assert [f[0] for f in vsc2022.frame_features(tmp_path, {one})] == [one]
    np.savez(tmp_path / "twice.npz", **given)
    with pytest.raises(ValueError, match="are in two places"):
        list(vsc2022.frame_features(tmp_path))


def test_vsc_features_of_another_form(tmp_path):
    good = {"video_ids": np.array(["Q1", "Q1"]), "features": np.eye(2), "timestamps": np.array([[0, 0.5], [0.5, 1]])}
    np.savez(tmp_path / "f.npz", **good)
    assert next(vsc2022.frame_features(tmp_path))[2].tolist() == [[0, 0.5], [0.5, 1]]
    for change, message in (
        ({"timestamps": np.zeros(3)}, "expected .F,., .F, D. and"),
        ({"video_ids": np.array([1, 1])}, "expected strings"),
    ):
        np.savez(tmp_path / "f.npz", **{**good, **change})
        with pytest.raises(ValueError, match=message):
            list(vsc2022.frame_features(tmp_path))
    del good["features"]
    np.savez(tmp_path / "f.npz", **good)
    with pytest.raises(ValueError, match="no array 'features'"):
        list(vsc2022.frame_features(tmp_path))


def test_prepare_takes_both(tmp_path):
    """Videos without media pass through ``prepare`` with their metadata and all rows that refer to them."""
    raw = folder(tmp_path, pair_file_test__csv=PAIRS, label_file__json={"a-b": [[1, 2, 11, 22]]})
    prepare.prepare(output=tmp_path / "vcsl", dataset="v", corpus="vcsl", shards=2, seed=0, options={}, raw=str(raw))
    counts = json.loads((tmp_path / "vcsl/corpus.json").read_text())
    assert (counts["videos"], counts["relevant pairs"], counts["segments"]) == (3, 3, 1)
    (tmp_path / "vsc/train").mkdir(parents=True)
    (tmp_path / "vsc/train/query_metadata.csv").write_text("video_id,duration_sec\nQ1,12.5\n")
    given = {"dataset": "v", "corpus": "vsc2022", "shards": 1, "seed": 0, "options": {}}
    prepare.prepare(output=tmp_path / "vsc2022", raw=str(tmp_path / "vsc"), **given)
    assert json.loads((tmp_path / "vsc2022/corpus.json").read_text())["hours"] == round(12.5 / 3600, 4)
