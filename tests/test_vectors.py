"""Rows of vectors."""

import tracemalloc

import numpy as np
import pytest

from videomatch.common import vectors


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_get_length_one_in_pieces_as_at_once(dtype: type, monkeypatch: pytest.MonkeyPatch):
    rows = np.random.default_rng(0).normal(size=(1000, 7)).astype(dtype)
    rows[500] = 0
    whole = vectors.unit_rows(rows)
    monkeypatch.setattr(vectors, "NUMBERS", 50)
    assert whole.dtype == np.result_type(dtype, np.float32)
    assert (vectors.unit_rows(rows) == whole).all() and not whole[500].any()
    assert np.linalg.norm(np.delete(whole, 500, 0), axis=1) == pytest.approx(1, abs=1e-6)
    wide = rows.astype(whole.dtype)
    assert vectors.unit_rows(wide, out=wide) is wide and (wide == vectors.unit_rows(rows)).all()


def test_no_copy_of_all_rows_is_made():
    rows = np.ones((100_000, 256), np.float32)
    tracemalloc.start()
    vectors.unit_rows(rows, out=rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 8 * vectors.NUMBERS < 2 * rows.nbytes
    assert rows[0, 0] == np.float32(1 / 16)
