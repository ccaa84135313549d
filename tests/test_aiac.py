"""The competition's records: framing, messages, tables, frame features, subsampling."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paths import fixtures, realdata
from records import example, field, write
from toys import corpus_of
from videomatch.corpora import aiac
from videomatch.data import tables, tfrecord
from videomatch.data.store import Store
from videomatch.data.tables import check
from videomatch.examples import frame_index
from videomatch.stages.extract import extract


def _known_ids() -> list[str]:
    """Ids of the fixture's videos, in the order of its file."""
    return np.load(fixtures() / "aiac_tfrecord_expected_job1.npz", allow_pickle=False)["ids"].tolist()


def _judged(ids: list[str]) -> list[tuple[str, str, float]]:
    """Labels for some of them; one pair is judged twice."""
    return [(ids[0], ids[-1], 0.5), (ids[-1], ids[0], 1.0), (ids[1], ids[2], 0.0)]


def _video(video_id: str, frames: int = 5, **more) -> bytes:
    feature = [np.full(aiac.DIM, n, dtype="<f2").tobytes() for n in range(frames)]
    more = {"title": [b"a title"], "asr_text": [b""], "frame_feature": feature, **more}
    return example(id=[video_id.encode()], **more)


def test_records_round_trip(tmp_path):
    path = write(tmp_path / "x", [example(a=[b"\xff", b""], b=[1, -1, 2**62], c=[0.5, -2.0]), example(a=[b"z"]), b""])
    first, second, third = tfrecord.iterate(path)
    assert first["a"] == [b"\xff", b""] and second == {"a": [b"z"]} and third == {}
    assert first["b"].dtype == np.int64 and first["b"].tolist() == [1, -1, 2**62]
    assert first["c"].dtype == np.float32 and first["c"].tolist() == [0.5, -2.0]
    assert next(tfrecord.iterate(path, keys=("b",))).keys() == {"b"}
    # unpacked numbers are legal, too
    unpacked = field(1, field(1, field(1, b"n") + field(2, field(3, b"\x08\x05\x08\x07"))))
    assert tfrecord.parse_example(unpacked)["n"].tolist() == [5, 7]


def test_damage_is_named_by_file_record_and_byte(tmp_path):
    first = example(a=[b"one"])
    path = write(tmp_path / "x.tfrecords", [first, example(a=[b"two"])])
    data, second = path.read_bytes(), len(first) + 16
    path.write_bytes(data[:-3])
    with pytest.raises(ValueError, match=rf"x.tfrecords, record 1 at byte {second}: .* the file ends"):
        list(tfrecord.iterate(path))
    path.write_bytes(data[: second + 5])
    with pytest.raises(ValueError, match="ends after 5 bytes"):
        list(tfrecord.iterate(path))
    damaged = bytearray(data)
    damaged[second + 16] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match=f"record 1 at byte {second}: checksum of .* data"):
        list(tfrecord.iterate(path))
    damaged = bytearray(data)
    damaged[second] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match="checksum of the length"):
        list(tfrecord.iterate(path))
    path = write(tmp_path / "y", [b"\x0a\xff\x01no message"])
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
        list(tfrecord.iterate(path))


def test_ten_thousand_records_against_their_source_real():
    root = realdata() / "tfrecord" / "cdj0311+dssm"
    examples = list(tfrecord.iterate(root / "train.tfrecord"))
    assert len(examples) == 10_000
    characters = {n: c for c, n in json.loads((root / "char.json").read_text()).items()}
    titles = [line.split("\t")[0] for line in (root / "data.txt").read_text().split("\n")]
    for number in range(0, 10_000, 500):
        query = examples[number]["query_char"]
        assert len(query) == 50 and len(examples[number]["doc_char"]) == 200
        written = [characters[n] for n in query.tolist() if n > 1]
        wanted = [c for c in titles[number] if c in set(characters.values())]
        assert written == wanted[: len(written)] and written  # their preparation drops digits and some signs


@pytest.fixture
def raw(tmp_path) -> Path:
    source = fixtures() / "aiac_tfrecord"
    (tmp_path / "pairwise").mkdir()
    shutil.copy(source / "pairwise.tfrecords", tmp_path / "pairwise")
    shutil.copy(source / "tag_list.txt", tmp_path)
    lines = _judged(_known_ids())
    (tmp_path / "pairwise" / "label.tsv").write_text("".join(f"{a}\t{b}\t{s}\n" for a, b, s in lines))
    return tmp_path


def test_tables_equal_the_winners_reader_fixture(raw):
    expected = np.load(fixtures() / "aiac_tfrecord_expected_job1.npz", allow_pickle=False)
    found = aiac.read(raw=raw, cleaned=False)
    for name, rows in found.items():
        assert rows.equals(check(name, rows))
    videos = found["videos"]
    assert videos["video_id"].to_list() == expected["ids"].tolist()
    assert videos["category"].to_list() == [str(c) for c in expected["category"]]
    assert videos["path"].null_count() == len(videos)
    titles = dict(found["texts"].filter(pl.col("kind") == "title").select("video_id", "text").iter_rows())
    assert [titles.get(i, "") for i in videos["video_id"]] == expected["titles"].tolist()
    classes = aiac.tag_classes(raw)
    assert [int(c) for c in classes] == expected["class_order_tag_ids"].tolist()
    for n, tags in enumerate(videos["tags"]):
        assert [float(c in set(tags)) for c in classes] == expected[f"v{n}__target"].tolist()
    everything = aiac.read(raw=raw, listed_tags=False)["videos"]["tags"]
    assert [int(t) for t in everything[0]] == [t for t in expected["raw_tags_padded"][0] if t >= 0]


def extracted(tmp_path: Path, raw: Path, ids: list[str], expert: dict | None = None) -> Path:
    """``extract`` of the released features of some videos."""
    tmp_path.mkdir(exist_ok=True)
    output = tmp_path / "features"
    extract(
        corpus=corpus_of(tmp_path / "corpus", dict.fromkeys(ids)),
        shard=0,
        experts={"effnet": {"extractor": "released", "dim": aiac.DIM} | (expert or {})},
        backbones={},
        output=output,
        released={"corpus": "aiac", "raw": str(raw)},
    )
    return output


def test_frame_features_equal_the_winners_reader_fixture(raw, tmp_path):
    expected = np.load(fixtures() / "aiac_tfrecord_expected_job1.npz", allow_pickle=False)
    ids = _known_ids()
    output = extracted(tmp_path, raw, ids)
    store = Store(output / "effnet")
    assert store.ids.to_list() == ids and store.lengths.tolist() == expected["n_frames"].tolist()
    assert store.dtype == np.float16 and store.shape == (1536,)
    for n, video_id in enumerate(ids):
        kept = frame_index(len(store[video_id]), 32)
        mask = np.arange(32) < len(kept)
        frames = np.zeros((32, aiac.DIM), np.float16)
        frames[mask] = store[video_id][kept]
        np.testing.assert_array_equal(frames[:, :8].astype(np.float32), expected[f"v{n}__frames_first8"])
        np.testing.assert_allclose(frames.astype(np.float64).sum(1), expected[f"v{n}__frame_sums"], rtol=1e-6)
        np.testing.assert_array_equal(mask, expected[f"v{n}__frame_mask"] == 1)
        assert store.times(video_id)[-1].tolist() == [len(store[video_id]) - 1, len(store[video_id])]
    assert [i for i, _, _ in aiac.frame_features(raw, ids={ids[2]})] == [ids[2]]
    assert tables.read("rejected", output).is_empty() and json.loads((output / "warnings.json").read_text()) == {}


def test_released_features_that_are_absent_or_odd_are_rejected(tmp_path):
    nan = [np.full(aiac.DIM, np.nan, "<f2").tobytes()]
    write(
        tmp_path / "raw/test_a/x.tfrecords",
        [_video("1"), _video("2", frame_feature=nan), _video("3", frame_feature=[]), _video("4")],
    )
    output = extracted(tmp_path, tmp_path / "raw", ["1", "2", "3", "9"])
    store = Store(output / "effnet")
    assert store.ids.to_list() == ["1", "3"] and store.lengths.tolist() == [5, 0]
    reasons = dict(tables.read("rejected", output).select("video_id", "reason").iter_rows())
    assert reasons.keys() == {"2", "9"}
    assert "not finite" in reasons["2"] and "has no released 'effnet' features" in reasons["9"]
    with pytest.raises(ValueError, match=r"shape \(5, 1536\), expected \(L, 7\)"):
        extracted(tmp_path / "other", tmp_path / "raw", ["1"], {"dim": 7})


@pytest.mark.parametrize(
    ("released", "message"),
    [(None, "no `raw:` folder"), ({"corpus": "folder", "raw": "."}, r"corpora/folder\.py has none")],
)
def test_released_features_need_a_data_set_that_has_some(tmp_path, released, message):
    corpus = corpus_of(tmp_path / "corpus", {"1": None})
    with pytest.raises(ValueError, match=message):
        extract(
            corpus=corpus,
            shard=0,
            experts={"effnet": {"extractor": "released", "dim": 1536}},
            backbones={},
            output=tmp_path / "out",
            released=released,
        )


def test_pairs_and_splits_fixture(raw):
    found = aiac.read(raw=raw)
    assert found["relevance"]["grade"].to_list() == [0.75, 0.75, 0.0]  # judged twice: the mean, and both lines stay
    named = {(s, r): sorted(g["id"]) for (s, r), g in found["splits"].group_by("split", "role")}
    ids = _known_ids()
    judged = [pair[:2] for pair in _judged(ids)]
    val = [pair for pair in judged if all(int(i) % 5 == 0 for i in pair)]
    for side, role in enumerate(("query", "reference")):
        assert named["pairs", role] == sorted({pair[side] for pair in judged})
        assert named.get(("pairs_val", role), []) == sorted({pair[side] for pair in val})
    assert named["pretrain", "reference"] == named["pairwise", "reference"] == sorted(ids)


def test_all_parts_and_videos_in_both_test_sets(tmp_path):
    tagged = {"tag_id": [7, 3], "category_id": [10112]}
    write(tmp_path / "pointwise" / "pretrain_10.tfrecords", [_video("3", tag_id=[3], category_id=[10112])])
    write(tmp_path / "pointwise" / "pretrain_2.tfrecords", [_video("9223372036854775807", **tagged)])
    write(tmp_path / "test_a" / "test_a.tfrecords", [_video("11"), _video("12")])
    write(tmp_path / "test_b" / "test_b.tfrecords", [_video("12"), _video("13")])
    (tmp_path / "tag_list.txt").write_text("10\n7\n9\n")
    assert aiac.tag_classes(tmp_path) == ["7", "9", "10"]  # by number, not by letter
    found = aiac.read(raw=tmp_path)
    assert found["videos"]["video_id"].to_list() == ["9223372036854775807", "3", "11", "12", "13"]
    assert found["videos"]["tags"].to_list() == [["7"], [], None, None, None]  # 3 is not listed
    splits = found["splits"].filter(pl.col("role") == "reference").group_by("split").agg(pl.col("id").sort())
    found = dict(splits.iter_rows())
    assert found["test_a"] == ["11", "12"] and found["test_b"] == found["test"] == ["12", "13"]
    assert "pairs" not in found and found["pretrain"] == found["train"]
    assert [i for i, _, _ in aiac.frame_features(tmp_path)] == ["9223372036854775807", "3", "11", "12", "13"]


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="no TFRecord"):
        aiac.read(raw=tmp_path, listed_tags=False)
    path = write(tmp_path / "pairwise" / "pairwise.tfrecords", [_video("1"), example(id=[b"x1"])])
    with pytest.raises(ValueError, match=r"tag_list\.txt is missing"):
        aiac.read(raw=tmp_path)
    with pytest.raises(ValueError, match="record 1: id 'x1', expected at most 19 digits"):
        aiac.read(raw=tmp_path, listed_tags=False)
    write(path, [_video("1"), example(id=[b"2"], frame_feature=[b"short"])])
    with pytest.raises(ValueError, match=r"record 1, video 2: a frame of 5 bytes, expected 3072"):
        list(aiac.frame_features(tmp_path))
    (tmp_path / "pairwise" / "label.tsv").write_text("1\t9\t0.5\n")
    with pytest.raises(ValueError, match="1 labels name a video that no TFRecord holds, first '9'"):
        aiac.read(raw=tmp_path, listed_tags=False)
    (tmp_path / "pairwise" / "label.tsv").write_text("1\t2\t1.5\n")
    with pytest.raises(ValueError, match=r"score 1.5 of pair \('1', '2'\)"):
        aiac.read(raw=tmp_path, listed_tags=False)


def test_labels_of_the_competition_real(tmp_path):
    path = realdata() / "aiac_tencent" / "zlaom+2021_QQ_AIAC_Tack1_15st" / "pairwise_score.csv"
    published = pl.read_csv(path, schema_overrides={"id_1": pl.String, "id_2": pl.String})
    published.write_csv(tmp_path / "label.tsv", separator="\t", include_header=False)
    labels = aiac.labels(tmp_path / "label.tsv")
    assert len(labels) == 67_899
    assert labels["query_id"].equals(published["id_1"].rename("query_id"))
    # 25 of the 45 pairs that stand twice are judged differently
    assert ((labels["grade"] - published["score"]).abs() > 1e-9).sum() == 50
    assert labels["grade"].mean() == pytest.approx(0.3586, abs=5e-5)


def test_the_tag_list_of_the_competition_real():
    classes = aiac.tag_classes(realdata() / "aiac_tencent" / "zr2021+2021_QQ_AIAC_Tack1_1st")
    assert len(classes) == 10_000 and [int(c) for c in classes] == sorted(int(c) for c in classes)


@pytest.mark.parametrize("maxlen", [32, 8])
def test_subsampling_equals_the_winners_fixture(maxlen):
    found = json.loads((fixtures() / "aiac_frame_subsampling.json").read_text())
    shorter = found.pop("maxlen8")
    indices = {n: row["index"] for n, row in found.items()} if maxlen == 32 else shorter
    assert len(indices) > 5
    for n, index in ((int(n), index) for n, index in indices.items()):
        if n == maxlen + 1:
            assert len(index) == n and len(frame_index(n, maxlen)) == maxlen  # theirs returns one row too many
            continue
        kept = frame_index(n, maxlen).tolist()
        assert kept + [-1] * (maxlen - len(kept)) == index, n


def test_subsampling_of_nothing():
    assert len(frame_index(0, 8)) == 0
