"""Score normalisation and similarity maps: published numbers, naive twins."""

import numpy as np
import pytest

from paths import fixtures
from videomatch.localisation import frame_similarity
from videomatch.retrieval.score_normalisation import ScoreNormalisation, candidates


@pytest.fixture(scope="module")
def vsc():
    return np.load(fixtures() / "vsc2022_score_normalisation.npz", allow_pickle=False)


@pytest.mark.parametrize(
    "tag, options",
    [
        ("beta1", {}),
        ("beta1.2", {"beta": 1.2}),
        ("noreplace", {"drop": False}),
        ("nol2", {"unit": False, "beta": 1.5}),
    ],
)
def test_fixture_score_normalisation(vsc, tag, options):
    norm = ScoreNormalisation.fit(vsc["noise_features"], **options)
    assert norm.queries(vsc["queries_features"]) == pytest.approx(vsc[f"{tag}_queries"], abs=1e-5)
    assert norm.references(vsc["refs_features"]) == pytest.approx(vsc[f"{tag}_refs"], abs=1e-5)
    assert norm.queries(vsc["queries_features"]).dtype == np.float32
    if options.get("drop", True):
        assert norm.dropped == vsc["low_variance_dim"]


def numbers(ids):
    return np.unique(ids, return_inverse=True)


@pytest.mark.parametrize("nearest", [60, 100000])
def test_fixture_search_over_all_pairs(vsc, nearest):
    norm = ScoreNormalisation.fit(vsc["noise_features"], beta=1.2)
    (queries, query), (references, reference) = numbers(vsc["queries_video_ids"]), numbers(vsc["refs_video_ids"])
    rows = norm.queries(vsc["queries_features"]), norm.references(vsc["refs_features"])
    q, r, score = candidates(rows[0], query, rows[1], reference, nearest=nearest)
    tag = f"search_k{nearest}"
    expected = zip(vsc[f"{tag}_query_id"], vsc[f"{tag}_ref_id"], vsc[f"{tag}_score"].tolist(), strict=True)
    expected = {(str(a), str(b)): s for a, b, s in expected}
    found = {(str(queries[a]), str(references[b])): s for a, b, s in zip(q, r, score.tolist(), strict=True)}
    assert found == pytest.approx(expected, abs=1e-5)
    assert (np.diff(score) <= 0).all()


def test_the_new_inner_product_is_the_normalised_score():
    rng = np.random.default_rng(0)
    q, r, n = (rng.normal(size=(length, 8)) for length in (5, 6, 7))
    norm = ScoreNormalisation.fit(n, beta=1.3, drop=False)
    q, r, n = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (q, r, n))
    expected = q @ r.T - 1.3 * (q @ n.T).max(axis=1, keepdims=True)
    assert norm.queries(q) @ norm.references(r).T == pytest.approx(expected)


def test_search_in_blocks_is_the_search_of_the_whole(monkeypatch):
    rng = np.random.default_rng(1)
    queries, references = rng.normal(size=(50, 4)), rng.normal(size=(40, 4))
    video = np.arange(50) // 5, np.arange(40) // 4
    whole = candidates(queries, video[0], references, video[1], nearest=100)
    monkeypatch.setattr("videomatch.retrieval.score_normalisation.ROWS", 7)
    blocks = candidates(queries, video[0], references, video[1], nearest=100)
    assert all((a == b).all() for a, b in zip(whole[:2], blocks[:2], strict=True))
    assert whole[2] == pytest.approx(blocks[2])
    products = np.sort((queries @ references.T).ravel())[::-1]
    assert whole[2][0] == pytest.approx(products[0])
    assert whole[2][-1] >= products[99] - 1e-12


def test_frames_of_another_size_are_refused():
    norm = ScoreNormalisation.fit(np.eye(4))
    with pytest.raises(ValueError, match="expected 4 columns"):
        norm.queries(np.eye(3))
    with pytest.raises(ValueError, match="at least one row"):
        ScoreNormalisation.fit(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="at least 1"):
        candidates(np.eye(2), np.arange(2), np.eye(2), np.arange(2), nearest=0)


def test_fixture_chamfer_similarity():
    parts = np.load(fixtures() / "aligners_parts.npz", allow_pickle=False)
    found = frame_similarity.chamfer(parts["chamfer_q"], parts["chamfer_r"])
    assert found == pytest.approx(parts["chamfer_expected"], abs=1e-9)
    assert frame_similarity.clipped(found) == pytest.approx(parts["chamfer_normed"], abs=1e-9)


def test_cosines_and_chamfer_agree_on_one_region():
    rng = np.random.default_rng(2)
    query, reference = rng.normal(size=(5, 8)), rng.normal(size=(6, 8))
    found = frame_similarity.cosines(query, reference)
    assert found.shape == (5, 6)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, reference)]
    assert frame_similarity.chamfer(unit[0][:, None], unit[1][:, None]) == pytest.approx(found)
    assert (frame_similarity.cosines(np.zeros((1, 8)), reference) == 0).all()
    with pytest.raises(ValueError, match="with one D"):
        frame_similarity.cosines(query, np.zeros((4, 7)))
