"""Every reader on damaged files: kinds of damage that were read once, and some seeded ones; `make fuzz` tries many."""

import zipfile

import numpy as np
import pytest

import fuzz
from fuzz_seeds import DATA
from videomatch.corpora import msvd
from videomatch.data import released

FROM_0 = "expected a number from 0 up"
VCSL, LABELS, QUERIES = "frames_all.csv", "label_file_uuid_total.json", "train/train_query_metadata.csv"


@pytest.mark.parametrize(
    ("target", "file", "old", "new", "message"),
    [
        ("activitynet", "train.json", "30.5", "NaN", "duration: float 'nan': Input should be less than"),
        ("activitynet", "train.json", "30.5", "1e999", "duration: float 'inf': Input should be less than"),
        ("activitynet", "train.json", "30.5", "-30.5", "duration: float '-30.5': Input should be greater than"),
        ("msrvtt", "MSRVTT_data.json", "10.5", "Infinity", "end time: float 'inf': Input should be less than"),
        ("msrvtt", "MSRVTT_data.json", "10.5", '"soon"', "end time: str 'soon': Input should be a valid number"),
        ("msrvtt", "MSRVTT_data.json", "10.5", "0.5", "from 1.5 to 0.5 s, expected an end"),
        ("msrvtt", "MSRVTT_data.json", '"https://www.youtube.com/watch?v=u1"', "7", "url: int '7': Input should be a"),
        ("vcsl", VCSL, ",31", ",nan", "'nan', expected a finite number"),
        ("vcsl", VCSL, ",31", ",-31", f"is -31, {FROM_0}"),
        ("vcsl", VCSL, ",31", ",1e9", f"is 1e.09, {FROM_0}"),
        ("vcsl", LABELS, "22]", "NaN]", "float 'nan': Input should be less than"),
        ("vcsl", LABELS, "x-y", "-" * 100_000, "String should have at most 1024 characters"),
        ("vsc2022", QUERIES, "10.5", "-10.5", f"duration_sec is -10.5, {FROM_0}"),
        ("vsc2022", QUERIES, "640", "1e300", f"width is 1e+300, {FROM_0}"),
        ("vsc2022", QUERIES, "30.0", "nan", "frames_per_sec is 'nan', expected a finite number"),
        ("vsc2022", "train/train_ground_truth.csv", "0.5", "-0.5", "expected query start < end"),
        ("vsc2022", "train/train_ground_truth.csv", "8.5", "1e300", "expected query start < end"),
        ("avs", "msb/00001.tsv", "1.96", "nan", "line 2: .* expected 4 numbers from 0 up"),
        ("avs", "msb/00001.tsv", "1.96", "-1", "line 2: .* expected 4 numbers from 0 up"),
        ("avs", "msb/00001.tsv", "3.96", "1e999", "line 3: .* expected 4 numbers from 0 up"),
        ("avs", "avs.qrels.tv21", " -1\n", "\n", "expected 5 cells|could not parse"),
        ("avs", "avs.qrels.tv21", "1662", "1700", "judges topic 700, which no file of topics has"),
        ("avs table", "valid.txt", "00001 2", "00001 99999999", "last shot 99999999, expected at most 99,999"),
        ("avs table", "valid.txt", "2 3\n", "".join(f"{n} 99999\n" for n in range(2, 200)), "19,799,804 shots in all"),
        ("aiac", "tag_list.txt", "11", "eleven", "tag 'eleven', expected numbers"),
        ("aiac", "tag_list.txt", "11", "9" * 5000, "expected numbers"),
        ("aiac", "tag_list.txt", "11", "²", "expected numbers"),
        ("aiac", "pairwise/label.tsv", "0.35", "nan", "score nan of pair"),
        ("aiac", "pairwise/label.tsv", "\t0.35", "", "expected 3 cells|found more fields"),
        ("bigfile", "shape.txt", "3 2", "² 2", "expected rows and columns"),
        ("bigfile", "id.txt", "a_1", f"a_{'9' * 5000}", "is no frame"),
        ("store", "store/store.json", '"times": true', '"times": 1', "times is 1"),
        ("store", "store/store.json", '"dtype": "<f2"', '"dtype": "O"', "dtype is O"),
        ("store", "store/store.json", '"rows"', '"row"', "rows is None"),
    ],
)
def test_damage_that_was_read_once_is_refused_by_name(tmp_path, target, file, old, new, message):
    DATA[target].write(tmp_path)
    DATA[target].read(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message.replace("+", "\\+")) as caught:
        DATA[target].read(tmp_path)
    assert file.rpartition("/")[2] in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"timestamps": np.array([0.0, np.nan, 0.0])}, "expected seconds from 0 up"),
        ({"timestamps": np.array([0.0, -1.0, 0.0])}, "expected seconds from 0 up"),
        ({"timestamps": np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0]])}, "no end before its start"),
        ({"timestamps": np.array([5.0, 1.0, 0.0])}, "timestamps of 'Q1' go back"),
        ({"timestamps": np.array(["0", "1", "x"])}, "<U1 of shape"),
        ({"features": np.array([["a"], ["b"], ["c"]])}, "expected numbers"),
        ({"video_ids": np.array([b"Q1", b"Q1", b"\xff"])}, "video_ids are no text"),
        ({"video_ids": np.array(["Q1", "Q1", {}], dtype=object)}, "cannot be read as an archive of arrays"),
    ],
)
def test_an_archive_of_odd_arrays_is_refused_by_name(tmp_path, arrays, message):
    DATA["vsc2022"].write(tmp_path)
    good = {"video_ids": np.array(["Q1", "Q1", "R1"]), "features": np.ones((3, 4)), "timestamps": np.arange(3.0) % 2}
    np.savez(tmp_path / "train/a.npz", **{**good, **arrays})
    with pytest.raises(ValueError, match=rf"a\.npz: .*{message}"):
        DATA["vsc2022"].read(tmp_path)


def test_an_archive_cannot_claim_more_than_it_holds(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(tmp_path / "small.npz", x=np.ones((3, 4)))
    with zipfile.ZipFile(tmp_path / "small.npz") as archive:
        member = archive.read("x.npy")
    for content, message in (
        (member.replace(b"(3, 4), }        ", b"(999999999, 4), }"), "more than its 224 bytes hold"),
        (member[:40], "cannot be read as an archive of arrays"),
        (b"no array", "cannot be read as an archive of arrays"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
        with pytest.raises(ValueError, match=rf"a\.npz: .*{message}"):
            released.read_arrays(path, ["x"])
    with pytest.raises(ValueError, match=r"a\.npz: .*no array 'y' among"):
        released.read_arrays(path, ["y"])
    path.write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"a\.npz: cannot be read as an archive of arrays"):
        released.read_arrays(path, ["x"])


def test_half_a_surrogate_pair_and_a_clip_that_ends_before_it_starts(tmp_path):
    DATA["msvd json"].write(tmp_path)
    for name in ("captions_msvd.json", "train_list.txt"):
        text = (tmp_path / name).read_text().replace("a cat sits", "a \\ud83d cat").replace("abc-d_0_10", "abc-d_10_0")
        (tmp_path / name).write_text(text)
    found = msvd.read(raw=tmp_path, partial=True)
    assert found["texts"]["text"][0] == "a \ufffd cat"
    assert found["sources"].row(0) == ("abc-d_10_0", "youtube:abc-d", None, None)


@pytest.mark.parametrize("name", ["texts", "segments", "videos-00000"])
def test_a_damaged_table_is_refused_by_name(tmp_path, name):
    DATA["tables"].write(tmp_path)
    path = tmp_path / f"{name}.parquet"
    for content in (path.read_bytes()[:-9], b"", (tmp_path / "splits.parquet").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name):
            DATA["tables"].read(tmp_path)


def test_damaged_files_are_read_or_refused_by_name():
    counts, wrong = fuzz.run(data=4 * len(fuzz.DATA), media=2 * len(fuzz.MEDIA), seed=1)
    assert not wrong, "\n".join(wrong)
    assert counts.total() == 4 * len(fuzz.DATA) + 2 * len(fuzz.MEDIA) and min(counts.values()) > 5
