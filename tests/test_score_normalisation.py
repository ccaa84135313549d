"""Score normalisation and similarity maps: published numbers, naive twins."""

import numpy as np
import pytest

from paths import fixtures
from videomatch.localisation import frame_similarity
from videomatch.retrieval.score_normalisation import ScoreNormalisation


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
    norm = ScoreNormalisation(vsc["noise_features"], **options)
    assert norm.queries(vsc["queries_features"]) == pytest.approx(vsc[f"{tag}_queries"], abs=1e-5)
    assert norm.references(vsc["refs_features"]) == pytest.approx(vsc[f"{tag}_refs"], abs=1e-5)
    assert norm.queries(vsc["queries_features"]).dtype == np.float32
    if options.get("drop", True):
        assert norm.dropped == vsc["low_variance_dim"]


def test_the_new_inner_product_is_the_normalised_score():
    rng = np.random.default_rng(0)
    q, r, n = (rng.normal(size=(length, 8)) for length in (5, 6, 7))
    norm = ScoreNormalisation(n, beta=1.3, drop=False)
    q, r, n = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (q, r, n))
    expected = q @ r.T - 1.3 * (q @ n.T).max(axis=1, keepdims=True)
    assert norm.queries(q) @ norm.references(r).T == pytest.approx(expected)


def test_noise_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        ScoreNormalisation(np.zeros((0, 4)))


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
