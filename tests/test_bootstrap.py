"""The bootstrap over videos: coverage by simulation, variances in closed form, every draw against its naive twin."""

import itertools

import numpy as np
import pytest

from videomatch.metrics import bootstrap, correlation, matching, ranking, segments
from videomatch.metrics.bootstrap import Rows


def covers(simulate, truth, *, sets=150, resamples=300):
    """The share of simulated data sets, (rows, units) each, whose interval of a mean holds the truth."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(sets):
        rows, units = simulate(rng)
        drawn = bootstrap.replicates("MSE", {"MSE": rows}, units, resamples)
        low, high = bootstrap.interval(drawn, bootstrap.value("MSE", {"MSE": rows}, units))
        found += low <= truth <= high
    return found / sets


def test_intervals_of_queries_cover_what_they_claim_if_captions_belong_to_their_video():
    videos, captions = 50, 6

    def by_video(rng):
        values = rng.normal(size=(videos, 1)) + rng.normal(size=(videos, captions))
        return Rows(np.repeat(np.arange(videos), captions), values.ravel()), videos

    def by_caption(rng):
        return Rows(np.arange(videos * captions), by_video(rng)[0].value), videos * captions

    assert 0.9 <= covers(by_video, 0) <= 0.99
    assert covers(by_caption, 0) < 0.8


def pairs_of(kind, rng):
    """Pairs of 60 videos: each video in one, or in some eight."""
    if kind == "apart":
        return np.arange(60).reshape(30, 2).T, 60
    every = np.array(list(itertools.combinations(range(60), 2)))
    return rng.permutation(every)[:240].T, 60


@pytest.mark.parametrize("kind", ["apart", "shared"])
@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_intervals_of_pairs_cover_what_they_claim_whether_or_not_they_share_videos(kind, effect):
    def simulate(rng):
        (first, second), units = pairs_of(kind, rng)
        video = effect * rng.normal(size=units)
        return Rows(first, video[first] + video[second] + rng.normal(size=len(first)), second), units

    assert 0.9 <= covers(simulate, 0) <= 0.99


def test_pairs_taken_for_independent_would_cover_less():
    def simulate(rng):
        (first, second), units = pairs_of("shared", rng)
        video = rng.normal(size=units)
        return Rows(np.arange(len(first)), video[first] + video[second] + rng.normal(size=len(first))), len(first)

    assert covers(simulate, 0) < 0.75


def test_the_variance_of_pairs_is_that_of_clusters_in_two_ways():
    """Sum over all pairs of pairs that share a video, in closed form."""
    rng = np.random.default_rng(1)
    (first, second), units = pairs_of("shared", rng)
    video = rng.normal(size=units)
    values = video[first] + video[second] + rng.normal(size=len(first))
    error = values - values.mean()
    sums = np.bincount(first, error, units) + np.bincount(second, error, units)
    expected = np.sqrt((sums**2).sum() - (error**2).sum()) / len(values)
    drawn = bootstrap.replicates("MSE", {"MSE": Rows(first, values, second)}, units)
    low, high = bootstrap.interval(drawn, values.mean())
    assert (high - low) / 2 / 1.96 == pytest.approx(expected, rel=0.05)
    independent = np.sqrt((error**2).sum()) / len(values)
    assert drawn[:, 1].std() == pytest.approx(independent, rel=0.05) and independent < 0.6 * expected


def repeated(counts, *columns):
    return [np.repeat(column, counts.astype(int)) for column in columns]


@pytest.mark.parametrize("metric", ["Spearman", "Pearson", "MdR", "mAP", "uAP", "AP", "F1"])
def test_every_draw_is_the_metric_of_the_rows_as_often_as_they_were_drawn(metric):
    rng = np.random.default_rng(2)
    (first, second), units = pairs_of("shared", rng)
    first, second, number = first[:60], second[:60], np.arange(60)
    score, grade = rng.integers(0, 12, 60) / 10, rng.integers(0, 4, 60) / 4  # with ties
    copy = grade > 0.4
    boxes = np.stack([start := rng.uniform(0, 9, 60), start + 4, start, start + 4], axis=1)
    truth = boxes[copy] + 1
    statistics = {
        "score": Rows(first, score, second, grade),
        "rank": Rows(first, grade * 8),
        "average precision": Rows(first, score),
        "uAP": Rows(first, np.where(number < 50, score, np.nan), second, copy),
        "precision": Rows(first[:40], score[:40], second[:40]),
        "recall": Rows(first[copy], grade[copy], second[copy]),
    }
    changes = matching.changes(boxes, score, number, truth, number[copy])
    statistics |= {name: Rows(first[at], added, second[at], step) for name, (at, added, step) in changes.items()}

    def naive(counts):
        one, both = counts[first], counts[first] * counts[second]
        if metric in ("Spearman", "Pearson"):
            return getattr(correlation, metric.lower())(*repeated(both, score, grade))
        if metric == "MdR":
            return ranking.median(*repeated(one, grade * 8))
        if metric == "mAP":
            return np.mean(*repeated(one, score))
        if metric == "uAP":
            found, relevant = repeated(both[:50], score[:50], copy[:50])
            return matching.micro_ap(found, relevant, int(both[copy].sum()))
        if metric == "AP":
            pair, true_pair = repeated(both, number)[0], repeated(both[copy], number[copy])[0]
            apart = [np.arange(len(p)) - np.searchsorted(p, p) + 1000 * p for p in (pair, true_pair)]  # one id each
            of_pair = np.searchsorted(number[copy], true_pair)
            found = matching.changes(boxes[pair], score[pair], apart[0], truth[of_pair], apart[1])
            return matching.ap_of_changes(found)[0]
        precision, recall = (
            np.repeat(value, both[at].astype(int)).mean()
            for value, at in ((score[:40], number[:40]), (grade[copy], copy))
        )
        return 2 * precision * recall / (precision + recall)

    found = bootstrap.replicates(metric, statistics, units, 20)
    (drawn,) = bootstrap.draws(units, 20, 20)
    expected = [naive(counts) for counts in drawn.counts.T]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected) > 0.05
    assert bootstrap.value(metric, statistics, units) == pytest.approx(naive(np.ones(units)), rel=1e-9)


def test_draws_are_the_same_in_chunks_of_any_size():
    whole, *none = bootstrap.draws(13, 50, 50)
    assert not none and (whole.counts.sum(axis=0) == 13).all()
    for size in (1, 7, 49):
        for side in ("counts", "uniform"):
            chunks = [getattr(chunk, side) for chunk in bootstrap.draws(13, 50, size)]
            np.testing.assert_array_equal(np.concatenate(chunks, axis=1), getattr(whole, side))


def test_what_is_not_given_or_has_no_rows_has_no_replicates():
    rows = {"R@1": Rows(np.arange(3), np.array([0.0, 100.0, 100.0]))}
    assert bootstrap.replicates("R@5", rows, 3) is None and bootstrap.replicates("R@sum", rows, 3) is None
    assert bootstrap.replicates("MB/h", rows, 3) is None
    assert bootstrap.interval(bootstrap.replicates("R@1", rows, 3), 200 / 3) == (0, 100)


def test_a_draw_without_a_prediction_has_no_precision():
    truth = Rows(np.array([0, 1]), np.array([100.0, 100.0]), np.array([2, 3]))
    alone = Rows(np.array([0]), np.array([80.0]), np.array([2]))
    found = bootstrap.replicates("F1", {"precision": alone, "recall": truth}, 4, 200)
    expected = segments.overall(np.array([[0.8, 1, 1, 1], [1.0, 1, 0, 1]]))["F1"]
    assert found.min() == 0 and found.max() == pytest.approx(100 * expected, rel=1e-5)
