"""Exact search in blocks against the whole matrix, sorted; ties, exclusions and hard floats included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from videomatch.common.vectors import unit_rows
from videomatch.retrieval.exact import Request, error_bound, scores_of, search


def naive(queries, references, exclude=None):
    """The whole matrix, every score by itself in double precision; -inf where excluded."""
    q, n = len(queries), len(references)
    pairs = np.stack(np.meshgrid(np.arange(q), np.arange(n), indexing="ij"), axis=-1).reshape(-1, 2)
    matrix = scores_of(queries, references, pairs).reshape(q, n)
    if exclude is not None:
        matrix[np.flatnonzero(exclude >= 0), exclude[exclude >= 0]] = -np.inf
    return matrix


def counts(matrix, pairs):
    own = matrix[pairs[:, 0], pairs[:, 1]]
    rows = matrix[pairs[:, 0]]
    return (rows > own[:, None]).sum(1), (rows == own[:, None]).sum(1) - 1


def check(queries, references, top, pairs, exclude, **options):
    found = search(queries, references, Request(pairs, top, exclude, **options))
    matrix = naive(queries, references, exclude)
    np.testing.assert_array_equal(found.scores, matrix[pairs[:, 0], pairs[:, 1]])
    better, equal = counts(matrix, pairs)
    np.testing.assert_array_equal(found.better, better)
    np.testing.assert_array_equal(found.equal, equal)
    for row, own in enumerate(matrix):
        order = np.lexsort((np.arange(len(own)), -own))
        order = order[np.isfinite(own[order])][:top]
        filled = len(order)
        assert found.top[row, :filled].tolist() == order.tolist()
        assert (found.top[row, filled:] == -1).all() and np.isnan(found.top_scores[row, filled:]).all()
        np.testing.assert_array_equal(found.top_scores[row, :filled], own[order])
        better, equal = counts(matrix, np.stack([np.full(filled, row), order], axis=1))
        np.testing.assert_array_equal(found.top_better[row, :filled], better)
        np.testing.assert_array_equal(found.top_equal[row, :filled], equal)
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equals_the_whole_matrix(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    q, n, d = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 700)), data.draw(st.integers(1, 40))
    kind = data.draw(st.sampled_from(["normal", "grid", "repeated", "constant", "close", "scaled"]))
    pool = rng.normal(size=(n + q, d)).astype(np.float32)
    if kind == "grid":
        pool = rng.integers(-1, 2, size=(n + q, d)).astype(np.float32)
    if kind == "repeated":
        pool = pool[rng.integers(0, 1 + n // 10, size=n + q)]
    if kind == "constant":
        pool[:] = pool[0]
    if kind == "close":  # differences far below what single precision resolves in a sum
        pool = pool[0] * (1 + 1e-7 * rng.integers(-3, 4, size=(n + q, 1)).astype(np.float32))
    if kind == "scaled":
        pool *= 10.0 ** rng.integers(-6, 6, size=(n + q, 1))
    references, queries = pool[:n].astype(np.float32), pool[n:].astype(np.float32)
    exclude = rng.integers(-1, n, size=q) if data.draw(st.booleans()) else np.full(q, -1)
    pairs = np.stack([rng.integers(0, max(q, 1), size=3 * q), rng.integers(0, n, size=3 * q)], axis=1)
    pairs = pairs[exclude[pairs[:, 0]] != pairs[:, 1]]
    options = {"memory": data.draw(st.sampled_from([1 << 13, 1 << 16, 1 << 28]))}
    check(queries, references, data.draw(st.sampled_from([0, 1, 3, 10])), pairs, exclude, **options)


def test_blocks_and_threads_do_not_change_the_result():
    rng = np.random.default_rng(0)
    references, queries = unit_rows(rng.normal(size=(5000, 64))), unit_rows(rng.normal(size=(40, 64)))
    pairs = np.stack([np.arange(40), rng.integers(0, 5000, 40)], axis=1)
    first = search(queries, references, Request(pairs, 10))
    threads = torch.get_num_threads()
    for options in ({"memory": 1 << 18}, {"memory": 1 << 15}, {"threads": 2}):
        torch.set_num_threads(options.pop("threads", threads))
        again = search(queries, references, Request(pairs, 10, **options))
        for name in first.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    torch.set_num_threads(threads)


def test_equal_references_far_apart_tie():
    rng = np.random.default_rng(1)
    pool = rng.normal(size=(3000, 16)).astype(np.float32)
    references = np.concatenate([pool, pool[:500], pool[:500]])
    pairs = np.stack([np.arange(20), rng.integers(0, 4000, 20)], axis=1)
    check(pool[:20], references, 10, pairs, np.arange(20))


class Read:
    """Rows that are read when they are asked for; counts how many of them are at once."""

    def __init__(self, rows):
        self.rows, self.shape, self.most = rows, rows.shape, 0

    def __getitem__(self, at):
        some = self.rows[at]
        self.most = max(self.most, len(some))
        return some


def test_rows_are_read_part_by_part_and_in_any_order_the_best_stay():
    rng = np.random.default_rng(3)
    references, queries = unit_rows(rng.normal(size=(3000, 16))), unit_rows(rng.normal(size=(70, 16)))
    nearer = references[np.argsort(references @ queries[0])]  # every part has better ones of the first query
    pairs = np.stack([rng.integers(0, 70, 90), rng.integers(0, 3000, 90)], axis=1)
    for rows in (references, nearer, nearer[::-1]):
        given = Read(queries), Read(rows)
        found = search(*given, Request(pairs, 10, memory=1 << 15))
        assert max(side.most for side in given) <= 90
        whole = search(queries, rows, Request(pairs, 10))
        for name in found.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_queries_without_pairs_are_compared_with_their_candidates_alone():
    rng = np.random.default_rng(4)
    references, queries = rng.normal(size=(400, 8)).astype(np.float32), rng.normal(size=(300, 8)).astype(np.float32)
    references[200:] = references[:200]  # all tie
    pairs, exclude = np.array([[7, 3], [250, 1]]), rng.integers(-1, 400, 300)
    exclude[[7, 250]] = -1
    request = Request(pairs, 5, exclude)
    whole = search(queries, references, request)
    asked = []

    def some(rows, top):
        """Of odd places alone; -1 where there are no more."""
        asked.append(len(rows))
        return np.tile(np.r_[np.arange(1, 400, 2), -1, -1], (len(rows), 1))

    found = search(queries, references, request, candidates=some)
    assert sum(asked) == 298 and max(asked) < 298
    for name in ("scores", "better", "equal"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    odd = search(queries, references[1::2], Request(top=5, exclude=np.where(exclude % 2, exclude // 2, -1)))
    for row in range(300):
        expected = whole if row in (7, 250) else odd
        for name in ("top", "top_scores", "top_better", "top_equal"):
            values = getattr(expected, name)[row]
            values = 2 * values + 1 if name == "top" and expected is odd else values
            np.testing.assert_array_equal(getattr(found, name)[row], values)


def test_the_error_of_the_matrix_product_is_bounded():
    rng = np.random.default_rng(2)
    queries, references = rng.normal(size=(50, 300)).astype(np.float32), rng.normal(size=(80, 300)).astype(np.float32)
    product = (torch.from_numpy(queries) @ torch.from_numpy(references).T).double().numpy()
    error = np.abs(product - naive(queries, references))
    assert (error <= error_bound(queries, references)[:, None]).all() and error.max() > 0


def test_unit_rows():
    unit = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]], np.float16))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0]], rtol=1e-7)
    assert unit.dtype == np.float32 and unit_rows(np.ones((1, 2))).dtype == np.float64


def test_no_references_and_no_queries():
    found = search(np.zeros((2, 3), np.float32), np.zeros((0, 3), np.float32), Request(top=2))
    assert found.top.tolist() == [[-1, -1]] * 2
    assert search(np.zeros((0, 3), np.float32), np.zeros((5, 3), np.float32), Request(top=2)).top.shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": np.zeros((3, 5))}, r"expected \(Q, D\) and \(N, D\)"),
        ({"queries": np.array([[0.0, 1], [np.nan, 0]])}, "row 1 of the queries"),
        ({"references": np.array([[0.0, np.inf]])}, "row 0 of the references"),
        ({"request": Request(np.array([[0, 3]]))}, "outside the 2 queries and 3 references"),
        ({"request": Request(np.array([[1, 2]]), exclude=np.array([-1, 2]))}, "excluded"),
        ({"request": Request(exclude=np.array([0]))}, "one position below 3 for every query"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        search(**({"queries": np.zeros((2, 2)), "references": np.zeros((3, 2)), "request": Request(top=1)} | change))
