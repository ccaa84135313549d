"""What training and test videos share: planted twins are found, strangers not, and what the real files say."""

import zipfile

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paths import realdata
from videomatch.app import leaks
from videomatch.corpora import msrvtt, msvd
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.data.tables import SCHEMAS


def frame(name, rows):
    return pl.DataFrame(rows, schema=SCHEMAS[name], orient="row")


@pytest.fixture
def corpus(tmp_path):
    """Videos a0 to a3 to train on, t0 to t3 to test with; a3 is in both."""
    splits = [("captions_train", "reference", f"a{n}") for n in range(4)]
    splits += [("captions_train", "query", f"a{n}:0") for n in range(4)]
    splits += [("captions_test", "reference", i) for i in ("t0", "t1", "t2", "t3", "a3")]
    splits += [("captions_test", "query", i) for i in ("t0:0", "t1:0", "t2:0")] + [("all", "reference", "t3")]
    captions = {"a0": "A man, running.", "a1": "a dog", "a2": "a CAT", "a3": "x"}
    captions |= {"t0": "a man running", "t1": "a dog", "t2": "y"}
    texts = [(f"{v}:0", v, "caption", None, None, None, words) for v, words in captions.items()]
    texts += [("t2:1", "t2", "caption", None, None, None, "a cat")]  # no query of the protocol
    sources = [("a0", "film", 0.0, 5.0), ("a1", "film", 9.0, 12.0), ("a2", "reel", None, None)]
    sources += [("a3", "other", 0.0, 1.0), ("t0", "film", 4.0, 10.0), ("t1", "film", 12.0, 13.0)]
    sources += [("t2", "reel", 3.0, 4.0), ("t3", "film", 5.05, 8.0)]
    for name, rows in (("splits", splits), ("texts", texts), ("sources", sources)):
        tables.write(name, frame(name, rows), tmp_path / "corpus")
    rng = np.random.default_rng(0)
    rows = {i: rng.normal(size=(3, 16)) for i in ("a0", "a1", "a2", "t0", "t1", "t2")}
    rows["t2"] = np.concatenate([rows["a2"]] * 2) * 7 + rng.normal(size=(6, 16)) * 0.01
    with StoreWriter(tmp_path / "features", shape=(16,), dtype="float32") as writer:
        for i, values in rows.items():
            writer.add(i, values.astype(np.float32))
        writer.add("t3", np.zeros((0, 16), np.float32))
    return tmp_path


def pairs(found, check):
    return sorted(found.filter(pl.col("check") == check).select("test_id", "train_id").iter_rows())


def test_planted_twins_are_found_and_strangers_are_not(corpus):
    found = leaks.find_leaks(corpus / "corpus", ["captions_train"], ["captions_test"], [corpus / "features"])
    assert pairs(found, "same id") == [("a3", "a3")]
    assert pairs(found, "same source") == [("t0", "a0"), ("t0", "a1"), ("t2", "a2")]  # t1 begins where a1 ends
    assert pairs(found, "same text") == [("t0", "a0"), ("t1", "a1")]
    assert pairs(found, "near vector") == [("t2", "a2")]
    amount = dict(found.filter(pl.col("check") == "same source").select("train_id", "amount").iter_rows())
    assert amount == {"a0": 1.0, "a1": 1.0, "a2": None}
    assert found.filter(pl.col("check") == "near vector")["amount"][0] > 0.999
    pooled = leaks.find_leaks(corpus / "corpus", ["captions_train", "all"], ["captions_test"])
    assert ("t3", "t3") in pairs(pooled, "same id") and not pairs(pooled, "near vector")


def test_what_is_told(corpus):
    sides = (corpus / "corpus", ["captions_train"], ["captions_test"])
    text, count = leaks.report(*sides, [corpus / "features"])
    assert count == 3 and "5 test videos against 4 training videos" in text
    assert "same source: 2 test videos (40.0 %), 3 pairs\n  t0 ~ a0: film (1)" in text
    assert "near vector: not compared" in leaks.report(*sides)[0]
    assert "near vector: 1 test videos (20.0 %), 1 pairs" in text and "same id: 1 test videos" in text


def test_what_cannot_be_compared_is_an_error(corpus):
    with pytest.raises(ValueError, match="no split 'nothing'"):
        leaks.find_leaks(corpus / "corpus", ["nothing"], ["captions_test"])
    with StoreWriter(corpus / "bad", shape=(2,), dtype="float32") as writer:
        writer.add("a0", np.ones((1, 2), np.float32))
        writer.add("t0", np.full((1, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="the vectors of 't0' are not finite"):
        leaks.find_leaks(corpus / "corpus", ["captions_train"], ["captions_test"], [corpus / "bad"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 10)), min_size=2, max_size=14))
def test_overlaps_equal_the_obvious_search(cut):
    rows = [
        (f"v{n}", f"film{film}", float(start), float(start + length)) for n, (film, start, length) in enumerate(cut)
    ]
    half = len(rows) // 2
    found = leaks.same_source(frame("sources", rows), [r[0] for r in rows[:half]], [r[0] for r in rows[half:]])
    wanted = {
        (a[0], b[0]): min(a[3], b[3]) - max(a[2], b[2])
        for a in rows[:half]
        for b in rows[half:]
        if a[1] == b[1] and min(a[3], b[3]) - max(a[2], b[2]) >= leaks.SHARED
    }
    got = {(a, b): amount for a, b, amount in found.select("test_id", "train_id", "amount").iter_rows()}
    assert got == pytest.approx(wanted)


def test_vectors_are_compared_across_chunks(tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 8)).astype(np.float32)
    rows[41], rows[55] = rows[3] * 2, rows[29]
    ids = [f"v{n}" for n in range(60)]
    with StoreWriter(tmp_path / "s", shape=(8,), dtype="float32") as writer:
        writer.add_rows(ids, rows)
    for size in (7, 1024):
        found = leaks.near_vectors(Store(tmp_path / "s"), ids[:30], ids[30:], block=size)
        assert sorted(found.select("test_id", "train_id").iter_rows()) == [("v29", "v55"), ("v3", "v41")]


def test_real_msrvtt_1ka_test_against_the_training_clips_of_the_official_test(tmp_path):
    """Address and time alone: the annotations of the other 7,010 training videos are not at hand."""
    source = realdata() / "text_annotations"
    with zipfile.ZipFile(source / "WingsBrokenAngel+MSR-VTT-DataCleaning/test_videodatainfo.json.zip") as opened:
        opened.extractall(tmp_path)
    for name in ("MSRVTT_JSFUSION_test.csv", "MSRVTT_train.9k.csv"):
        (tmp_path / name).write_bytes((source / "www-2025+EAT" / name).read_bytes())
    for name, rows in msrvtt.read(raw=tmp_path, partial=True).items():
        tables.write(name, rows, tmp_path / "corpus")
    found = leaks.find_leaks(tmp_path / "corpus", ["train_9k"], ["captions_1ka_test"])
    counts = {check: len(pairs(found, check)) for check in ("same id", "same source", "same text")}
    found_videos = found.filter(pl.col("check") == "same source")["test_id"].n_unique()
    assert counts == {"same id": 0, "same source": 55, "same text": 635} and found_videos == 52
    sources = tables.read("sources", tmp_path / "corpus")
    where = {i: (s, a, b) for i, s, a, b in sources.iter_rows()}
    for test_id, train_id in pairs(found, "same source"):
        (one, a, b), (two, c, d) = where[test_id], where[train_id]
        assert one == two and min(b, d) - max(a, c) >= leaks.SHARED


def test_real_msvd_splits_share_no_second(tmp_path):
    source = realdata() / "text_annotations/layer6ai-labs+xpool"
    (tmp_path / "captions_msvd.json").write_bytes((source / "captions_msvd.json").read_bytes())
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}_list.txt").write_bytes((source / f"msvd_{split}_list.txt").read_bytes())
    for name, rows in msvd.read(raw=tmp_path).items():
        tables.write(name, rows, tmp_path / "corpus")
    found = leaks.find_leaks(tmp_path / "corpus", ["captions_train"], ["captions_test"])
    assert not pairs(found, "same id") and not pairs(found, "same source")
    # of 670; "a man is singing" says too little to tell a twin
    assert found["test_id"].n_unique() == 556
