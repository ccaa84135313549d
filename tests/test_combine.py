"""``combine``: ensembles whose cosines are known, the published one among them."""

import json

import numpy as np
import pytest

from paths import fixtures
from test_search_stage import store
from videomatch.common.vectors import unit_rows
from videomatch.data.store import Store, StoreWriter
from videomatch.metrics import correlation
from videomatch.stages.combine import combine, components, concatenate, directions_of, project, shares_of


def made(output, embeddings, parts, **options):
    """The one member that ``combine`` makes of parts."""
    output.mkdir(exist_ok=True)
    combine(embeddings=embeddings, output=output, members={"all": parts}, **options)
    return output / "all", json.loads((output / "combine.json").read_text())["all"]


def cosines(folder, ids=None):
    found = Store(folder)
    rows = found.gather(ids or found.ids)[0].astype(float)
    return rows @ rows.T


def test_combined_cosines_are_weighted_means(tmp_path):
    rng = np.random.default_rng(2)
    ids = [f"v{n}" for n in range(25)]
    members = [rng.normal(size=(25, d)) * 10 for d in (5, 7)]
    store(tmp_path / "0/seed0/videos", dict(zip(ids, members[0], strict=True)))
    store(tmp_path / "1/all/videos", {i: r for i, r in zip(ids[::-1], members[1][::-1], strict=True) if i != "v3"})
    folders, parts = [tmp_path / "0", tmp_path / "1"], [[0, "seed0", 3], [1, "all", 1]]
    out, about = made(tmp_path / "out", folders, parts)
    assert about["missing"]["videos"] == ["v3"] and about["counts"]["videos"] == 24 and about["parts"] == parts
    known = [unit_rows(m[:3]) @ unit_rows(m[:3]).T for m in members]
    np.testing.assert_allclose(cosines(out / "videos", ids[:3]), 0.75 * known[0] + 0.25 * known[1], atol=1e-6)
    whole, _ = made(tmp_path / "whole", folders, parts, dim=12)  # no smaller than the parts together
    np.testing.assert_array_equal(cosines(whole / "videos"), cosines(out / "videos"))


def test_every_member_is_made_of_its_own_parts(tmp_path):
    rng = np.random.default_rng(5)
    rows = {(s, m): rng.normal(size=(9, 4)) for s in "01" for m in ("fold0-seed0", "fold1-seed0")}
    for (system, member), values in rows.items():
        store(tmp_path / system / member / "videos", {f"v{n}": row for n, row in enumerate(values)})
    members = {m: [[0, m, 1], [1, m, 1]] for m in ("fold0-seed0", "fold1-seed0")}
    members["all"] = [[s, m, w] for s, w in ((0, 0.2), (1, 0.3)) for m in ("fold0-seed0", "fold1-seed0")]
    (tmp_path / "out").mkdir()
    combine(embeddings=[tmp_path / "0", tmp_path / "1"], output=tmp_path / "out", members=members)
    known = {key: unit_rows(values) @ unit_rows(values).T for key, values in rows.items()}
    for member in ("fold0-seed0", "fold1-seed0"):
        wanted = (known["0", member] + known["1", member]) / 2
        np.testing.assert_allclose(cosines(tmp_path / "out" / member / "videos"), wanted, atol=1e-6)
    wanted = sum(w * known[s, m] for s, w in (("0", 0.2), ("1", 0.3)) for m in ("fold0-seed0", "fold1-seed0"))
    np.testing.assert_allclose(cosines(tmp_path / "out/all/videos"), wanted, atol=1e-6)


@pytest.mark.parametrize("count", [3000, 13])  # several chunks; fewer videos than the 16 dimensions
def test_combining_projects_texts_and_videos_alike(tmp_path, count):
    rng = np.random.default_rng(3)
    basis = rng.normal(size=(3, 8))  # rank 3 twice: six directions lose nothing
    for member in "01":
        for part in ("videos", "texts"):
            store(tmp_path / member / "all" / part, {f"{part}{n}": rng.normal(size=3) @ basis for n in range(count)})
    folders, parts = [tmp_path / "0", tmp_path / "1"], [[0, "all", 1], [1, "all", 1]]
    results = {"full": made(tmp_path / "full", folders, parts), "few": made(tmp_path / "few", folders, parts, dim=6)}
    assert results["few"][1]["energy"] == pytest.approx(1)
    directions = directions_of(results["few"][0])
    assert directions is not None and directions.shape == (16, 6) and directions_of(results["full"][0]) is None
    found = []
    for folder, _ in results.values():
        left, right = (s.gather(s.ids)[0] for s in (Store(folder / part) for part in ("videos", "texts")))
        found.append(left[:50] @ right[:50].T)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_directions_equal_numpys_singular_vectors_from_either_side():
    rng = np.random.default_rng(8)
    for shape in ((60, 20), (20, 60)):
        rows = rng.normal(size=shape) * np.linspace(1, 5, shape[1])
        _, values, right = np.linalg.svd(rows, full_matrices=False)
        vectors, energy = components(iter([rows[:7], rows[7:]]), shape, 5)
        np.testing.assert_allclose(np.abs(vectors.T @ right[:5].T), np.eye(5), atol=1e-9)
        assert energy == pytest.approx((values[:5] ** 2).sum() / (values**2).sum())
    vectors, _ = components([np.outer(np.arange(4.0), rows[0])], (4, 60), 3)  # of rank 1
    assert vectors.shape == (60, 1)


def test_a_sum_in_single_precision_is_as_good_as_needed():
    rng = np.random.default_rng(9)
    rows = (
        rng.normal(size=(300, 1536)) * np.arange(1, 1537) ** -0.7
    )  # the first coordinate outweighs what is added to it
    rows = unit_rows(rows)
    directions = np.linalg.qr(rng.normal(size=(1536, 256)))[0]
    exact, ours = unit_rows(rows @ directions), unit_rows(project(rows.astype(np.float32), directions))
    assert np.abs(ours @ ours.T - exact @ exact.T).max() < 1e-6
    plain = unit_rows((rows.astype(np.float32) @ directions.astype(np.float32)).astype(float))
    assert np.abs(ours @ ours.T - exact @ exact.T).mean() < np.abs(plain @ plain.T - exact @ exact.T).mean()


def test_a_row_of_zeros_stays_zero():
    rows = concatenate([np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[2.0], [0.0]])], np.array([0.36, 0.64]))
    np.testing.assert_allclose(rows, [[0, 0, 0.8], [0.36, 0.48, 0]])


@pytest.mark.parametrize("weights", [[1, -1], [0, 0], [float("nan"), 1]])
def test_weights_that_cannot_be(weights):
    with pytest.raises(ValueError, match="expected numbers of at least 0, not all of them 0"):
        shares_of(weights)


def test_errors_say_which_part_is_odd(tmp_path):
    store(tmp_path / "0/all/videos", {"a": [1.0, 2.0]})
    store(tmp_path / "1/all/videos", {"b": [1.0, 2.0]})
    with StoreWriter(tmp_path / "2/all/videos", shape=(2,)) as writer:
        writer.add("a", np.ones((2, 2)))
    folders = [tmp_path / name for name in "012"]
    for parts, message in (
        ([[0, "all", 1], [1, "all", 1]], "no id is in all of"),
        ([[2, "all", 1]], "'a' has 2 rows, expected one embedding"),
    ):
        with pytest.raises(ValueError, match=message):
            made(tmp_path / "x", folders, parts)
    with pytest.raises(FileNotFoundError, match="holds no store"):
        made(tmp_path / "y", folders, [[0, "seed0", 1]])


def test_fixture_ensemble(tmp_path):
    arrays = np.load(fixtures() / "aiac_ensemble.npz", allow_pickle=False)
    members, size = list(arrays["embeddings"]), len(arrays["embeddings"][0])
    rows = concatenate(members, np.full(6, 1 / 6))
    unit = unit_rows(rows)
    np.testing.assert_allclose(unit[:50] @ unit[:50].T, arrays["expected_concat_cos_first50"], atol=1e-9)
    dim = int(arrays["n_components"])
    directions, _ = components(iter([rows[:200], rows[200:]]), rows.shape, dim)
    projected = project(rows, directions)
    np.testing.assert_allclose(np.abs(projected[:10]), arrays["expected_abs_projection_first10"], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=1), arrays["expected_row_norm"], atol=1e-9)
    few = unit_rows(projected)
    np.testing.assert_allclose(few[:50] @ few[:50].T, arrays["expected_cos_first50"], atol=1e-9)
    upper = np.triu_indices(size, 1)
    np.testing.assert_allclose((few @ few.T)[upper], arrays["expected_cos_upper"], atol=1e-6)
    a, b, target = arrays["pair_a"], arrays["pair_b"], correlation.rank_normalised(arrays["pair_score"])
    systems = [*(unit_rows(m.astype(float)) for m in members), few, unit]
    for system, (spearman, mse) in zip(systems, arrays["spearman_mse"], strict=True):
        score = (system[a] * system[b]).sum(axis=1)
        assert correlation.spearman(score, target) == pytest.approx(spearman, abs=1e-6)
        assert correlation.mse(score, target) == pytest.approx(mse, abs=1e-6)
    ids = [str(n) for n in range(size)]
    for number, member in enumerate(members):
        store(tmp_path / str(number) / "all/videos", dict(zip(ids, member, strict=True)))
    folders = [tmp_path / str(n) for n in range(6)]
    out, about = made(tmp_path / "out", folders, [[n, "all", 1] for n in range(6)], dim=dim)
    np.testing.assert_allclose(cosines(out / "videos", ids)[upper], arrays["expected_cos_upper"], atol=1e-6)
    assert about["energy"] == pytest.approx((arrays["singular_values"][:dim] ** 2).sum() / size, abs=1e-6)
