"""``submit``: the competition's archive, and a checker that knows only the rules."""

import json
import zipfile

import numpy as np
import polars as pl
import pytest

from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.reports.submission_aiac import check
from videomatch.stages.submit import submit

IDS = [str(10**18 + n) for n in range(12)]


@pytest.fixture
def made(tmp_path):
    """A corpus of 12 test videos and 3 others, and unit embeddings of two members."""
    rng = np.random.default_rng(0)
    splits = [("test_b", role, i) for i in IDS for role in ("query", "reference")] + [("train", "reference", "7")]
    tables.write("splits", pl.DataFrame(splits, schema=tables.SCHEMAS["splits"], orient="row"), tmp_path / "corpus")
    for member in ("all", "other"):
        with StoreWriter(tmp_path / "system" / member / "videos", shape=(256,), dtype="float32") as writer:
            rows = rng.normal(size=(15, 256))
            rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
            writer.add_rows([*IDS[::-1], "7", "8", "9"], rows)
    return tmp_path


def submitted(folder, name="out", **options):
    options = {"results": [folder / "system"], "member": "all", "split": "test_b", "format": "aiac"} | options
    (folder / name).mkdir(exist_ok=True)
    submit(corpus=folder / "corpus", output=folder / name, **options)
    return folder / name / "result.zip"


def test_the_archive_is_what_the_competition_asks_for(made):
    archive = submitted(made)
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == ["result.json"]
        assert opened.getinfo("result.json").compress_type == zipfile.ZIP_DEFLATED
        result = json.loads(opened.read("result.json"))
    assert sorted(result) == IDS
    store = Store(made / "system/all/videos")
    for video_id, values in result.items():
        np.testing.assert_array_equal(np.array(values), store[video_id][0].astype(np.float16))
    about = json.loads((made / "out/submission.json").read_text())
    assert about["videos"] == 12 and about["dim"] == 256 and about["zeros"] == [] and about["member"] == "all"


def test_the_same_embeddings_give_the_same_bytes_and_members_differ(made):
    first, again = submitted(made), submitted(made, "again")
    assert first.read_bytes() == again.read_bytes()
    assert submitted(made, "other", member="other").read_bytes() != first.read_bytes()


def test_a_video_without_an_embedding_is_an_error_or_zeros(made):
    splits = tables.read("splits", made / "corpus")
    more = pl.DataFrame([("test_b", "reference", "5")], schema=splits.schema, orient="row")
    tables.write("splits", pl.concat([splits, more]), made / "corpus")
    with pytest.raises(ValueError, match="1 of the 13 videos of split 'test_b' have no embedding, first '5'"):
        submitted(made)
    archive = submitted(made, "zeros", missing="zeros")
    result = json.loads(zipfile.ZipFile(archive).read("result.json"))
    assert result["5"] == [0.0] * 256 and len(result) == 13
    assert json.loads((made / "zeros/submission.json").read_text())["zeros"] == ["5"]


def test_a_split_that_is_not_there_is_named(made):
    with pytest.raises(ValueError, match="no split 'test_z'"):
        submitted(made, split="test_z")


def test_more_dimensions_than_allowed_and_infinite_values(made):
    for name, rows, message in (
        ("wide", np.ones((12, 257)), "has 257 values, expected a list of 1 to 256"),
        ("nan", np.full((12, 4), np.nan), "holds nan"),
        ("large", np.full((12, 4), 1e6), "holds 1000000.0"),
    ):
        with StoreWriter(made / name / "all/videos", shape=rows.shape[1:], dtype="float32") as writer:
            writer.add_rows(IDS, rows)
        with pytest.raises(ValueError, match=message):
            submitted(made, f"out-{name}", results=[made / name])


def archive_of(path, text, name="result.json", method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path / "result.zip", "w", method) as opened:
        opened.writestr(name, text)
    return path / "result.zip"


GOOD = {"a": [0.5, -1.0], "b": [0, 2.0]}


def test_what_others_write_is_accepted(tmp_path):
    check(archive_of(tmp_path, json.dumps(GOOD)), ["b", "a"])
    text = ' {\n"\\u0061" :\t[0.5,\n-1e0]\n, "b":[0,2]}\n '
    check(archive_of(tmp_path, text), ["b", "a"])
    check(archive_of(tmp_path, "{}"), [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(GOOD | {"c": [1.0, 1.0]}), "'c' is not among the 2 videos"),
        (json.dumps({"a": [1.0]}), "1 of 2 videos are missing, first 'b'"),
        ("{}", "2 of 2 videos are missing"),
        ('{"a": [1.0], "a": [1.0], "b": [1.0]}', "'a' occurs twice"),
        (json.dumps({"a": [0.0] * 257, "b": [0.0] * 257}), "'a' has 257 values"),
        (json.dumps({"a": [], "b": []}), "'a' has 0 values"),
        (json.dumps({"a": [1.0], "b": [1.0, 2.0]}), "'b' has 2 values, those before it 1"),
        ('{"a": [NaN], "b": [1.0]}', "'a' holds nan, expected finite"),
        ('{"a": [1e999], "b": [1.0]}', "'a' holds inf, expected finite"),
        ('{"a": [1' + "0" * 400 + '], "b": [1.0]}', "'a' holds a number too large"),
        ('{"a": [70000.0], "b": [1.0]}', "'a' holds 70000.0, expected finite"),
        ('{"a": [0.1], "b": [1.0]}', "'a' holds 0.1, expected finite numbers rounded to float16"),
        ('{"a": ["0.5"], "b": [1.0]}', "holds '0.5', which is not a number"),
        ('{"a": [true], "b": [1.0]}', "holds True, which is not a number"),
        ('{"a": [[0.5]], "b": [1.0]}', r"holds \[0.5\], which is not a number"),
        ('{"a": null, "b": [1.0]}', "'a' has None, expected a list"),
        ('[["a", [1.0]]]', "is not a JSON object"),
        ('{"a": [1.0], "b": [1.0]', "is not a JSON object"),
        ('{"a": [1.0], "b": [1.0', "is not a JSON object"),
        ('{"a": [1.0], "b": [1.0]}}', "is not a JSON object"),
        ('{"a": [1.0] "b": [1.0]}', "is not a JSON object"),
        ('{"a": [1.0], "b": [1.0],}', "is not a JSON object"),
        ("{7: [1.0]}", "is not a JSON object"),
        (b'{"\xff": [1.0]}', "is not a JSON object"),
        ("", "is not a JSON object"),
    ],
)
def test_broken_results_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        check(archive_of(tmp_path, text), ["a", "b"])


def test_broken_archives_are_refused(tmp_path):
    text = json.dumps(GOOD)
    with pytest.raises(ValueError, match=r"holds \['submit/result.json'\], expected only 'result.json'"):
        check(archive_of(tmp_path, text, "submit/result.json"), GOOD)
    with pytest.raises(ValueError, match="is not deflated"):
        check(archive_of(tmp_path, text, method=zipfile.ZIP_STORED), GOOD)
    with zipfile.ZipFile(archive_of(tmp_path, text), "a") as opened:
        opened.writestr("more.json", "{}")
    with pytest.raises(ValueError, match="expected only"):
        check(tmp_path / "result.zip", GOOD)
    whole = archive_of(tmp_path, text * 50).read_bytes()
    (tmp_path / "result.zip").write_bytes(whole[:40])
    with pytest.raises(ValueError, match="not a whole zip archive"):
        check(tmp_path / "result.zip", GOOD)
    damaged = bytearray(archive_of(tmp_path, text).read_bytes())
    damaged[50] ^= 0xFF
    (tmp_path / "result.zip").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"not a whole zip archive|is not a JSON object|holds"):
        check(tmp_path / "result.zip", GOOD)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path):
    with pytest.raises(ValueError, match="is larger than 65536 bytes, too large for 1 videos"):
        check(archive_of(tmp_path, '{"a": [' + "0.5, " * 1_000_000), ["a"])
