"""The ragged store: any lengths, any ids, any shard size come back as they were; nothing half-written opens."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videomatch.common.vectors import padded
from videomatch.data.store import OPEN_FILES, Store, StoreWriter

ITEMS = st.dictionaries(st.text(max_size=8), st.integers(0, 7), max_size=12)


def rows(length: int, shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(length, *shape)) * 50
    return np.abs(values).astype(dtype) if np.dtype(dtype).kind == "u" else values.astype(dtype)


def write(root: Path, lengths: dict[str, int], shape=(3,), dtype="float16", **options) -> dict[str, np.ndarray]:
    items = {i: rows(n, shape, dtype, k) for k, (i, n) in enumerate(lengths.items())}
    with StoreWriter(root, shape=shape, dtype=dtype, **options) as writer:
        for item_id, values in items.items():
            writer.add(item_id, values)
    return items


@settings(max_examples=60, deadline=None)
@given(
    items=ITEMS,
    shape=st.sampled_from([(), (1,), (5,), (2, 3)]),
    dtype=st.sampled_from(["float16", "float32", "float64", "uint8", "int64"]),
    shard_bytes=st.sampled_from([1, 16, 100, 1 << 20]),
    data=st.data(),
)
def test_round_trip(tmp_path_factory, items, shape, dtype, shard_bytes, data):
    root = tmp_path_factory.mktemp("store")
    wanted = {i: rows(n, shape, dtype, k) for k, (i, n) in enumerate(items.items())}
    with StoreWriter(root, shape=shape, dtype=dtype, times=True, shard_bytes=shard_bytes) as writer:
        for k, (i, v) in enumerate(wanted.items()):
            writer.add(i, v, times=rows(len(v), (2,), "float64", 100 + k))
    store = Store(root)
    assert store.ids.to_list() == list(items) and store.shape == shape and store.dtype == np.dtype(dtype)
    assert store.lengths.tolist() == list(items.values())
    for k, (i, v) in enumerate(wanted.items()):
        np.testing.assert_array_equal(store[i], v)
        np.testing.assert_array_equal(store.times(i), rows(len(v), (2,), "float64", 100 + k))
    ids = data.draw(st.lists(st.sampled_from(sorted(items)), max_size=20)) if items else []
    values, lengths = store.gather(ids)
    assert lengths.tolist() == [items[i] for i in ids]
    naive = np.concatenate([np.zeros((0, *shape), dtype), *[wanted[i] for i in ids]])
    np.testing.assert_array_equal(values, naive)
    assert values.dtype == np.dtype(dtype)
    side_by_side, mask = padded(values, lengths)
    assert mask.shape == side_by_side.shape[:2] and mask.dtype == bool
    for row, valid, i in zip(side_by_side, mask, ids, strict=True):
        own = wanted[i]
        assert valid.tolist() == [True] * len(own) + [False] * (len(valid) - len(own))
        np.testing.assert_array_equal(row[: len(own)], own)
        assert not row[len(own) :].any()


def test_files_are_plain_npy_and_roll_over(tmp_path):
    items = write(tmp_path, {"a": 4, "b": 4, "c": 9, "d": 1}, shard_bytes=8 * 6)
    files = sorted(tmp_path.glob("values-*.npy"))
    assert len(files) == 3  # a b | c alone, larger than a shard | d
    stacked = np.concatenate([np.load(f, mmap_mode="r") for f in files])
    np.testing.assert_array_equal(stacked, np.concatenate(list(items.values())))


def test_several_roots_are_one_store(tmp_path):
    items = write(tmp_path / "0", {"a": 2, "b": 0}, shard_bytes=1)
    items |= write(tmp_path / "1", {})
    items |= write(tmp_path / "2", {"c": 3, "d": 1})
    store = Store(*(tmp_path / n for n in "012"))
    assert store.ids.to_list() == ["a", "b", "c", "d"] and "c" in store and "e" not in store and len(store) == 4
    np.testing.assert_array_equal(store.gather(["d", "a", "d"])[0], np.concatenate([items[i] for i in "dad"]))
    write(tmp_path / "3", {"c": 1})
    with pytest.raises(ValueError, match="'c' stands twice"):
        Store(tmp_path / "2", tmp_path / "3")
    write(tmp_path / "4", {"f": 1}, shape=(4,))
    with pytest.raises(ValueError, match=r"4 holds rows of .*expected .* as in .*2"):
        Store(tmp_path / "2", tmp_path / "4")


def test_times_that_are_missing(tmp_path):
    write(tmp_path / "0", {"a": 2})
    with StoreWriter(tmp_path / "1", shape=(3,), times=True) as writer:
        writer.add("b", np.ones((1, 3)), times=np.array([[0.0, 0.5]]))
    with pytest.raises(ValueError, match="0 has no times, only values"):
        Store(tmp_path / "0").times("a")
    with pytest.raises(ValueError, match=r"1 holds rows of .*times.*, expected .* as in .*0"):
        Store(tmp_path / "0", tmp_path / "1")


def test_missing_id_is_named(tmp_path):
    write(tmp_path, {"a": 2})
    with pytest.raises(KeyError, match="no item 'x' among the 1 of"):
        Store(tmp_path).gather(["a", "x"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 4)), r"shape \(2, 4\), expected \(L, 3\)"),
        (np.zeros(3), r"shape \(3,\)"),
        (np.full((1, 3), 1e6), r"1000000.0, which does not fit float16"),
        (np.zeros((1, 3), complex), "are complex128"),
    ],
)
def test_values_that_do_not_fit(tmp_path, values, message):
    with pytest.raises(ValueError, match=message), StoreWriter(tmp_path, shape=(3,)) as writer:
        writer.add("a", values)
    with pytest.raises(FileNotFoundError):
        Store(tmp_path)


def test_rows_are_added_as_items(tmp_path):
    with StoreWriter(tmp_path, shape=(2,)) as writer:
        writer.add_rows(["a", "b"], np.ones((2, 2)))
        with pytest.raises(ValueError, match="1 ids came with 2 rows"):
            writer.add_rows(["d"], np.ones((2, 2)))
        with pytest.raises(ValueError, match="id 'a' stands twice"):
            writer.add_rows(["a"], np.ones((1, 2)))
    assert Store(tmp_path).ids.to_list() == ["a", "b"]


def test_infinite_and_nan_values_are_kept(tmp_path):
    with StoreWriter(tmp_path, shape=(2,)) as writer:
        writer.add("a", np.array([[np.nan, np.inf]]))
    assert np.isnan(Store(tmp_path)["a"][0, 0]) and np.isinf(Store(tmp_path)["a"][0, 1])


def test_wrong_parts_and_repeated_ids(tmp_path):
    with StoreWriter(tmp_path, shape=(), dtype="uint8") as writer:
        writer.add("a", np.arange(3))
        with pytest.raises(ValueError, match="'a' stands twice"):
            writer.add("a", np.arange(3))
        with pytest.raises(ValueError, match=r"'b' came with the wrong parts, expected \['values'\]"):
            writer.add("b", np.arange(3), times=np.ones((3, 2)))
        with pytest.raises(ValueError, match="256, which does not fit uint8"):
            writer.add("b", np.arange(257))
        with pytest.raises(ValueError):
            writer.add("\ud800", np.arange(3))
    assert Store(tmp_path)["a"].tolist() == [0, 1, 2]
    with pytest.raises(FileExistsError):
        StoreWriter(tmp_path, shape=(3,))


def test_an_exception_leaves_nothing_that_opens(tmp_path):
    with pytest.raises(RuntimeError), StoreWriter(tmp_path, shape=(3,)) as writer:
        writer.add("a", np.ones((2, 3)))
        raise RuntimeError
    with pytest.raises(FileNotFoundError, match=r"no store\.json"):
        Store(tmp_path)


def cut_values(root):
    path = root / "values-00000.npy"
    path.write_bytes(path.read_bytes()[:-1])


def drop_an_index_row(root):
    pl.read_parquet(root / "index.parquet").head(1).write_parquet(root / "index.parquet")


def shift_the_index(root):
    frame = pl.read_parquet(root / "index.parquet").with_columns(pl.col("offset") + 1)
    frame.write_parquet(root / "index.parquet")


def other_dtype(root):
    about = json.loads((root / "store.json").read_text()) | {"dtype": "<f4"}
    (root / "store.json").write_text(json.dumps(about))


def other_format(root):
    (root / "store.json").write_text(json.dumps({"format": 0}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_values, "is cut"),
        (drop_an_index_row, "does not fit store.json"),
        (shift_the_index, "does not fit store.json"),
        (other_dtype, "expected .* float32"),
        (other_format, "format 0, expected 1"),
    ],
)
def test_damage_is_refused_when_a_store_is_opened(tmp_path, damage, message):
    write(tmp_path, {"a": 2, "b": 3})
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        Store(tmp_path)


def test_threads_and_few_open_files(tmp_path):
    items = write(tmp_path, {str(n): n % 5 for n in range(300)}, shard_bytes=1)
    store = Store(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    ids = [str(n) for n in np.random.default_rng(0).permutation(300)]
    naive = np.concatenate([items[i] for i in ids])
    with ThreadPoolExecutor(4) as pool:
        for values, _ in pool.map(lambda _: store.gather(ids), range(8)):
            np.testing.assert_array_equal(values, naive)
    # of 240 files; one per thread may be open beside those that are kept
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + OPEN_FILES + 6
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.gather(ids)[0], naive)


def test_made_by_is_kept(tmp_path):
    write(tmp_path, {}, made_by={"expert": "clip", "every": 0.5})
    assert Store(tmp_path).made_by == [{"expert": "clip", "every": 0.5}]
    with pytest.raises(TypeError):
        StoreWriter(tmp_path / "x", shape=(3,), made_by={"path": tmp_path})
