"""Rank metrics and correlations: published implementations' numbers, naive twins, closed forms."""

import itertools
import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from paths import fixtures
from videomatch.metrics import correlation, ranking

NAMES = {"R1": "R@1", "R5": "R@5", "R10": "R@10", "R50": "R@50", "MedR": "MdR", "MR": "MdR", "MedianR": "MdR"}
NAMES |= {"MeanR": "MnR", "geometric_mean_R1-R5-R10": "gmean", "mAP": "mAP"}
CASES = ["square", "square_f32", "kcaps", "masked", "ragged", "ragged_shuffled", "ties_square", "ties_kcaps"]
CASES += ["ties_kcaps_masked", "constant", "tiny", "one_video"]


def case(name):
    """Matrix (captions, videos) without masked captions, the owner of every caption, and the expected values."""
    expected = json.loads((fixtures() / "metrics_retrieval_expected.json").read_text())[name]
    arrays = np.load(fixtures() / "metrics_retrieval.npz", allow_pickle=False)
    base = name.removesuffix("_masked")
    sims = arrays[f"{base}_sims"]
    k = expected.pop("K", len(sims) // sims.shape[1])
    owner = arrays[f"{base}_cap2vid"] if f"{base}_cap2vid" in arrays else np.arange(len(sims)) // k
    mask = f"{base}_query_masks"
    if mask in arrays and (name == "masked" or name.endswith("_masked")):
        there = arrays[mask].reshape(-1) > 0
        sims, owner = sims[there], owner[there]
    return sims, owner, expected


def ours(sims, owner, direction, convention):
    captions = np.arange(len(sims))
    if direction == "t2v":
        return ranking.metrics(captions, *ranking.places(sims, captions, owner), convention)
    if direction == "v2t":
        return ranking.metrics(owner, *ranking.places(sims.T, owner, captions), convention)
    videos = np.arange(sims.shape[1])
    best_captions = np.stack([sims[owner == video].max(axis=0) for video in videos], axis=1)
    return ranking.metrics(videos, *ranking.places(best_captions, videos, videos), "clip4clip")


@pytest.mark.parametrize("name", CASES)
def test_fixture_published_conventions(name):
    sims, owner, expected = case(name)
    expected |= expected.pop("same_after_dropping_masked_rows", {})
    compared = 0
    for convention, directions in expected.items():
        if convention.startswith("quirk"):
            continue
        for direction, values in directions.items():
            tolerance = 1e-5 if convention == "clip4clip_multi" and direction == "t2v" else 1e-9
            found = ours(sims, owner, direction, convention)
            for theirs, value in values.items():
                if theirs in NAMES:
                    assert found[NAMES[theirs]] == pytest.approx(value, rel=tolerance), (convention, direction, theirs)
                    compared += 1
    assert compared >= 10


def test_every_peer_has_a_convention_by_its_name():
    peers = {"mmt", "collaborative_experts", "moee", "clip4clip", "clip4clip_multi", "xclip", "drl", "ts2net"}
    assert {*peers, "dual_encoding", "dual_encoding_varied", "hybrid_space", "house"} == set(ranking.CONVENTIONS)
    ranks = np.array([1.0, 2.0, 5.0, 8.0])
    medians = {name: ranking.median(ranks, median) for name, median in ranking.CONVENTIONS.items()}
    assert medians["mmt"] == 3.5 and medians["clip4clip_multi"] == 2 and medians["dual_encoding_varied"] == 3


@pytest.mark.parametrize("name", ["square", "kcaps", "ragged"])
def test_fixture_without_ties_the_house_rule_agrees_with_all_conventions(name):
    sims, owner, _ = case(name)
    for direction in ("t2v", "v2t"):
        assert ours(sims, owner, direction, "house") == pytest.approx(ours(sims, owner, direction, "mmt"), rel=1e-12)


def by_all_orders(scores, relevant, ks):
    """The metrics of one query, averaged over every order that its scores allow."""
    n, seen = len(scores), []
    for order in itertools.permutations(range(n)):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            ranks = sorted(order.index(r) + 1 for r in relevant)
            seen.append([*(ranks[0] <= k for k in ks), ranks[0], np.mean([(i + 1) / r for i, r in enumerate(ranks)])])
    return np.mean(np.array(seen, float), axis=0)


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(st.integers(0, 2), min_size=1, max_size=6), data=st.data())
def test_the_house_rule_is_the_mean_over_all_orders_of_tied_references(scores, data):
    relevant = sorted(data.draw(st.sets(st.sampled_from(range(len(scores))), min_size=1)))
    query = np.zeros(len(relevant), int)
    better, equal = ranking.places(np.array([scores]), query, np.array(relevant))
    found = ranking.per_query(query, better, equal, ks=(1, 2, 3))
    wanted = by_all_orders(scores, relevant, (1, 2, 3)) * [100, 100, 100, 1, 1]
    np.testing.assert_allclose(np.concatenate(list(found.values())), wanted, rtol=1e-9, atol=1e-9)


def test_a_constant_model_gets_chance():
    query = np.arange(40)
    better, equal = ranking.places(np.ones((40, 40)), query, query)
    found = ranking.metrics(query, better, equal)
    assert found["R@1"] == pytest.approx(100 / 40) and found["R@10"] == pytest.approx(25)
    assert found["MdR"] == found["MnR"] == 20.5
    assert found["mAP"] == pytest.approx(np.mean(1 / np.arange(1, 41)))
    assert ranking.chance(query, 40) == pytest.approx(found)


def test_chance_is_what_random_scores_give():
    rng = np.random.default_rng(0)
    query, reference = np.repeat(np.arange(2000), 3), np.tile([0, 1, 2], 2000)
    found = ranking.metrics(query, *ranking.places(rng.normal(size=(2000, 30)), query, reference))
    expected = ranking.chance(query, 30)
    for name in ("R@1", "R@5", "R@10", "MnR", "mAP"):
        assert found[name] == pytest.approx(expected[name], rel=0.1)


def test_average_precision_equals_scikit_learn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(1)
    scores, truth = rng.normal(size=(20, 50)), rng.random((20, 50)) < 0.2
    truth[:, 0] = True
    query, reference = np.nonzero(truth)
    found = ranking.average_precision(query, *ranking.places(scores, query, reference))
    np.testing.assert_allclose(found, [average_precision_score(t, s) for t, s in zip(truth, scores, strict=True)])


def test_large_ties_stay_precise():
    found = ranking.per_query(np.array([0, 1]), np.array([10**6, 0]), np.array([0, 10**6]), ks=(1, 10))
    assert found["AP"][0] == pytest.approx(1 / (10**6 + 1), rel=1e-12)
    assert found["R@10"].tolist() == [0, pytest.approx(1000 / (10**6 + 1))]


def test_order_of_pairs_does_not_matter_and_perfect_is_perfect():
    query, better, equal = np.array([3, 1, 3, 2]), np.array([4, 0, 1, 9]), np.array([0, 1, 0, 0])
    order = [2, 0, 3, 1]
    assert ranking.metrics(query, better, equal) == ranking.metrics(query[order], better[order], equal[order])
    perfect = ranking.metrics(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0, 0, 0]))
    assert perfect["R@1"] == 100 and perfect["MdR"] == 1 and perfect["mAP"] == 1 and perfect["R@sum"] == 300


def test_nothing_to_rank_is_an_error():
    with pytest.raises(ValueError, match="no relevant pair"):
        ranking.metrics(np.array([]), np.array([]), np.array([]))


def test_fixture_rank_labels():
    arrays = np.load(fixtures() / "aiac_rank_labels.npz", allow_pickle=False)
    for name in ("grid", "tiny"):
        found = correlation.rank_normalised(arrays[f"{name}_score"])
        np.testing.assert_allclose(found, arrays[f"{name}_rank_normalised"], rtol=0, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.booleans())
def test_correlations_equal_scipy(seed, size, tied):
    rng = np.random.default_rng(seed)
    score, grade = rng.normal(size=(2, size)).round(0 if tied else 9)
    if np.ptp(score) and np.ptp(grade):
        assert correlation.spearman(score, grade) == pytest.approx(scipy.stats.spearmanr(score, grade)[0], abs=1e-12)
        assert correlation.pearson(score, grade) == pytest.approx(scipy.stats.pearsonr(score, grade)[0], abs=1e-12)
    else:
        assert correlation.spearman(score, grade) == 0
    assert correlation.mse(score, grade) == pytest.approx(np.square(score - grade).mean())


def test_correlations_refuse_what_they_cannot_compare():
    with pytest.raises(ValueError, match="expected two lists"):
        correlation.mse(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="not finite"):
        correlation.spearman(np.array([1, np.nan]), np.ones(2))
