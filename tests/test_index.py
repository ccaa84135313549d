"""The index against comparing everything, and what it does with a cache that is old, damaged or cut."""

import json

import numpy as np
import pytest

from videomatch.data.store import StoreWriter
from videomatch.retrieval.index import RECALL, Index


def written(folder, rows, shard_bytes=1 << 30):
    with StoreWriter(folder, shape=rows.shape[1:], dtype="float32", shard_bytes=shard_bytes) as writer:
        writer.add_rows([f"v{n}" for n in range(len(rows))], rows.astype(np.float32))
    return folder


def clustered(count, dim, seed=0, centres=40):
    rng = np.random.default_rng(seed)
    middle = np.random.default_rng(99).normal(size=(centres, dim))
    rows = middle[rng.integers(0, centres, count)] + 0.5 * rng.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def naive(rows, query, top, cosine=True, exclude=None):
    rows = rows.astype(np.float64)
    if cosine:
        lengths = np.linalg.norm(rows, axis=1)
        rows = rows / np.where(lengths > 0, lengths, 1)[:, None]
    scores = np.einsum("nd,d->n", rows, query.astype(np.float64))
    order = [n for n in np.argsort(-scores, kind="stable") if n != exclude][:top]
    return np.array(order), scores[order]


@pytest.mark.parametrize("cosine", [True, False])
def test_few_rows_are_compared_exactly(tmp_path, monkeypatch, cosine):
    rng = np.random.default_rng(0)
    rows = (clustered(500, 12) * rng.uniform(0.2, 3, (500, 1))).astype(np.float32)
    rows[7], rows[400], rows[20] = rows[3], rows[3], 0  # ties, and a row that has no direction
    monkeypatch.chdir(tmp_path)
    index = Index(written(tmp_path / "s", rows, shard_bytes=4000), tmp_path / "cache", cosine=cosine)
    assert index.about["kind"] == "exact" and not (tmp_path / "cache").exists()
    for query in (rows[3], rows[9], rng.normal(size=12)):
        for top in (1, 3, 10, 500, 700):
            at, scores = index.search(query, top)
            order, wanted = naive(rows, query, top, cosine)
            np.testing.assert_allclose(scores, wanted, rtol=1e-6, atol=1e-7)
            assert len(set(at.tolist())) == len(at) == min(top, 500)
            assert at.tolist() == order.tolist() or top >= 10  # further down, rounding of the norm may swap equals
    assert index.search(rows[3], 3)[0].tolist()[:2] != [] and 3 not in index.search(rows[3], 5, exclude=3)[0]


@pytest.fixture
def large(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = clustered(3000, 16)
    root = written(tmp_path / "member/videos", rows)
    written(tmp_path / "member/texts", clustered(300, 16, seed=5) + np.float32(0.2))
    return root, rows, tmp_path / "cache"


def recall(index, rows, kind, queries):
    hits = [set(index.search(q, 10, kind=kind)[0].tolist()) & set(naive(rows, q, 10)[0].tolist()) for q in queries]
    return sum(map(len, hits)) / (10 * len(queries))


def test_many_rows_are_found_as_often_as_promised(large):
    root, rows, cache = large
    index = Index(root, cache, exact=100, held_out=100)
    assert index.about["kind"] == "lists" and min(index.about["recall"].values()) >= RECALL
    assert set(index.about["nprobe"]) == set(index.about["recall"]) == {"rows", "texts"}
    assert 1 <= index.about["nprobe"]["rows"] <= index.about["nlist"]
    assert recall(index, rows, "rows", clustered(100, 16, seed=8)) >= 0.95
    assert recall(index, rows, "texts", clustered(100, 16, seed=9) + np.float32(0.2)) >= 0.95
    query = clustered(1, 16, seed=3)[0]
    at, scores = index.search(query, 10)
    np.testing.assert_allclose(
        scores, rows[at].astype(np.float64) @ query, atol=1e-6
    )  # scored from the rows themselves
    assert (np.diff(scores) <= 0).all() and 17 not in index.search(rows[17], 10, exclude=17)[0]


def made(cache):
    """Changes when an index is built."""
    return (cache / "index.faiss").stat().st_ino, (cache / "index.faiss").stat().st_mtime_ns


def test_lists_are_built_once_and_again_when_the_rows_change(large):
    root, rows, cache = large
    found = Index(root, cache, exact=100, held_out=100).search(rows[0], 5)[0].tolist()
    first = made(cache)
    assert Index(root, cache, exact=100, held_out=100).search(rows[0], 5)[0].tolist() == found and made(cache) == first
    Index(root, cache, exact=100, cosine=False)
    second = made(cache)
    assert second != first, "other scores need other lists"
    for path in root.iterdir():
        path.unlink()
    written(root, rows[::-1])
    again = Index(root, cache, exact=100, held_out=100)
    assert made(cache) != second and again.search(rows[0], 1)[0].tolist() == [2999]


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "list", "foreign"])
def test_a_damaged_index_is_built_again(large, damage):
    root, rows, cache = large
    wanted = Index(root, cache, exact=100, held_out=100).search(rows[5], 5)[0].tolist()
    lists, about = cache / "index.faiss", cache / "about.json"
    content = bytearray(lists.read_bytes())
    content[len(content) // 2] ^= 0xFF
    changes = {
        "cut": lambda: lists.write_bytes(lists.read_bytes()[:1000]),
        "flipped": lambda: lists.write_bytes(bytes(content)),
        "gone": lists.unlink,
        "list": lambda: about.write_text("[]"),
        "foreign": lambda: about.write_text(json.dumps(json.loads(about.read_text()) | {"format": 0})),
    }
    first = made(cache)
    changes[damage]()
    assert Index(root, cache, exact=100, held_out=100).search(rows[5], 5)[0].tolist() == wanted and made(cache) != first
    assert not list(cache.glob(".*"))


def test_what_does_not_fit_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index = Index(written(tmp_path / "s", clustered(20, 4)), tmp_path / "c")
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(4,\)"):
        index.search(np.ones(3), 2)
    with pytest.raises(ValueError, match="finite"):
        index.search(np.array([1, np.nan, 0, 0]), 2)
    with StoreWriter(tmp_path / "two", shape=(4,), dtype="float32") as writer:
        writer.add("a", np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match="one vector per id"):
        Index(tmp_path / "two", tmp_path / "c")
    assert index.search(np.ones(4), 0)[0].tolist() == []
