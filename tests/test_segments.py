"""Metrics of copied segments: published numbers, naive twins, properties."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from paths import fixtures
from videomatch.metrics import matching, segments


def ours(boxes):
    """VCSL's q0, r0, q1, r1 in the order of the table."""
    return np.array(boxes, float).reshape(-1, 4)[:, [0, 2, 1, 3]]


@pytest.fixture(scope="module")
def vcsl():
    return json.loads((fixtures() / "vcsl_metric.json").read_text())


def merged(intervals):
    """Union of intervals, one after the other."""
    result = []
    for start, end in sorted(intervals):
        if result and start <= result[-1][1]:
            result[-1][1] = max(result[-1][1], end)
        else:
            result.append([start, end])
    return result


def naive_pair(predicted, truth, dtype=np.float64):
    """The definition, box by box; the published code adds unions up in single precision."""

    def one_side(boxes, others):
        product = 1.0
        for axis in (0, 2):
            covered = 0.0
            for box in boxes:
                pieces = []
                for other in others:
                    inter = [(max(box[a], other[a]), min(box[a + 1], other[a + 1])) for a in (0, 2)]
                    if all(end > start for start, end in inter):
                        pieces.append(inter[axis // 2])
                if pieces:
                    union = np.array(merged(pieces), dtype)
                    covered += (union[:, 1] - union[:, 0]).sum().item()
            product *= covered / (sum(b[axis + 1] - b[axis] for b in boxes) + 1e-6)
        return product

    if not len(predicted) or not len(truth):
        return float(not len(predicted)), float(not len(truth))
    return one_side(predicted, truth), one_side(truth, predicted)


def test_fixture_vcsl_pairs(vcsl):
    assert len(vcsl["pairs"]) == 200
    for name, boxes in vcsl["pairs"].items():
        expected = vcsl["pair_level"][name]
        predicted, truth = ours(boxes["pred"]), ours(boxes["gt"])
        wanted = pytest.approx((expected["precision"], expected["recall"]), rel=1e-6, abs=1e-6)
        assert segments.pair(predicted, truth) == wanted, name
        # to every digit, once unions are added up in the single precision of the published code
        single = naive_pair(predicted, truth, np.float32)
        assert single == pytest.approx((expected["precision"], expected["recall"]), abs=1e-9), name
        assert segments.pair(predicted, truth) == pytest.approx(naive_pair(predicted, truth), abs=1e-12)


def scored(vcsl):
    return segments.per_pair((ours(p["pred"]), ours(p["gt"])) for p in vcsl["pairs"].values())


@pytest.mark.parametrize("ratio", [1, 0.5, 2])
def test_fixture_vcsl_overall(vcsl, ratio):
    """Rates are turned by a ratio of copies to other pairs, as published tables have them."""
    scores, expected = scored(vcsl), vcsl[f"overall_ratio{ratio}"]
    found, copies = segments.overall(scores), (scores[:, 3] > 0).mean()
    found["FRR"] *= (1 + ratio) / ratio * copies
    found["FAR"] *= (1 + ratio) * (1 - copies)
    names = {"recall": "recall", "precision": "precision", "f1": "F1", "frr": "FRR", "far": "FAR"}
    for theirs, name in names.items():
        assert found[name] == pytest.approx(expected[theirs], rel=1e-6)


def test_fixture_vcsl_boxes_without_extent_are_refused(vcsl):
    for name, case in vcsl["degenerate_quirks"].items():
        predicted, truth = ours(case["pred"]), ours(case["gt"])
        if name == "nested_gt":
            expected = pytest.approx((case["precision"], case["recall"]), rel=1e-6)
            assert segments.pair(predicted, truth) == expected
        else:
            with pytest.raises(ValueError, match="expected query start < end"):
                segments.pair(predicted, truth)


def test_fixture_union(vcsl):
    for case in vcsl["seg_len"]:
        rows = np.array(case["segments"])
        assert segments.union_length(rows[:, 0], rows[:, 1]) == pytest.approx(case["union"], rel=1e-6)


BOX = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2).map(
    lambda b: (b[0], b[0] + b[2], b[1], b[1] + b[3])
)
BOXES = st.lists(BOX, max_size=5).map(lambda rows: np.array(rows, float).reshape(-1, 4))


@settings(max_examples=200, deadline=None)
@given(BOXES, BOXES)
def test_pair_equals_its_naive_twin(predicted, truth):
    found = segments.pair(predicted, truth)
    assert found == pytest.approx(naive_pair(predicted, truth), abs=1e-12)
    assert found[::-1] == pytest.approx(segments.pair(truth, predicted), abs=1e-12)  # roles swap
    assert all(0 <= value <= 1 for value in found)


def test_what_a_half_a_wrong_and_a_swapped_box_cost():
    truth = np.array([[10.0, 30, 50, 70]])
    assert segments.pair(truth, truth) == pytest.approx((1, 1), abs=1e-6)
    assert segments.pair(np.array([[10.0, 20, 50, 60]]), truth) == pytest.approx((1, 0.25), abs=1e-6)
    both = np.array([*truth, [80.0, 100, 80, 100]])
    assert segments.pair(both, truth) == pytest.approx((0.25, 1), abs=1e-6)
    assert segments.pair(np.concatenate([truth, truth]), truth) == pytest.approx((1, 1), abs=1e-6)
    assert segments.pair(truth[:, [2, 3, 0, 1]], truth) == (0, 0)


def test_rates_without_ratio_are_of_the_pairs_they_are_about():
    box, none = np.array([[0.0, 5, 0, 5]]), np.zeros((0, 4))
    cases = [(box, box), (none, box), (box, none), (none, none), (none, none), (none, none)]
    found = segments.overall(segments.per_pair(cases))
    assert found == pytest.approx({"precision": 0.5, "recall": 0.5, "F1": 0.5, "FRR": 1 / 2, "FAR": 1 / 4}, abs=1e-5)
    silent = segments.overall(segments.per_pair([(none, box)]))
    assert (silent["precision"], silent["F1"], silent["FRR"]) == (0, 0, 1)
    with pytest.raises(ValueError, match="no pair"):
        segments.overall(segments.per_pair([]))


def test_a_bad_box_is_named():
    with pytest.raises(ValueError, match=r"predicted segments: segment 0 is \[5.0, 5.0"):
        segments.per_pair([([], []), (np.array([[5, 5, 0, 9, 0.3]]), [])])
    with pytest.raises(ValueError, match="expected query start"):
        segments.check(np.array([[0, np.nan, 0, 1]]))
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        segments.check(np.zeros((1, 3)))


def test_buckets_by_the_written_rule():
    truth = np.array([[0.0, 4, 0, 4], [20, 60, 20, 100]])
    predicted = np.array([[0.0, 4, 0, 4], [200, 210, 200, 210]])  # finds the short one, and a false alarm
    labels = segments.buckets(truth)
    assert labels == {"duration": ["1: to 5 s", "4: 30 to 60 s"], "speed": ["3: 0.9 to 1.1x", "5: over 1.5x"]}
    scores = segments.by_bucket([(predicted, truth, labels["duration"])])
    assert [numbers.tolist() for numbers, _ in scores.values()] == [[0], [0]]
    found = segments.localisation(scores)
    short, long = found["1: to 5 s"], found["4: 30 to 60 s"]
    assert (short["recall"], long["recall"]) == pytest.approx((1, 0), abs=1e-5)
    assert short["precision"] == pytest.approx((4 / 14) ** 2, abs=1e-5)
    assert long["precision"] == 0  # only the false alarm counts here: the other prediction is of another kind
    assert [(v["segments"], v["pairs"]) for v in found.values()] == [(1, 1), (1, 1)]


def test_one_bucket_is_the_overall_metric_of_the_copies():
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(40):
        start = rng.uniform(0, 50, (2, 3, 2))
        boxes = [np.stack([s[:, 0], s[:, 0] + 9, s[:, 1], s[:, 1] + 9], axis=1) for s in start]
        pairs.append((boxes[0][: rng.integers(4)], boxes[1]))
    found = segments.localisation(segments.by_bucket((p, t, ["all"] * len(t)) for p, t in pairs))["all"]
    expected = segments.overall(segments.per_pair(pairs))
    assert all(found[name] == pytest.approx(expected[name]) for name in ("precision", "recall", "F1"))
    both = segments.localisation(segments.by_bucket((p, t, [("a", "b")] * len(t)) for p, t in pairs))
    assert both["a"] == both["b"] == found
    every = segments.localisation(segments.by_place([p for p, _ in pairs], [t for _, t in pairs]))
    assert every["overall"] == expected
    assert sum(v["segments"] for name, v in every.items() if name.startswith("speed/")) == 120


def rows(name):
    with (fixtures() / "vsc2022" / name).open() as file:
        return list(csv.DictReader(file))


def table(lines, names):
    boxes = [[float(r[c]) for c in ("query_start", "query_end", "ref_start", "ref_end")] for r in lines]
    return np.array(boxes), keys(lines, names)


def keys(lines, names):
    return np.array([names.setdefault((r["query_id"], r["ref_id"]), len(names)) for r in lines])


def matching_ap(*given: np.ndarray) -> float:
    """The matching track's average precision."""
    return float(matching.ap_of_changes(matching.changes(*given))[0])


def matched(lines, truth):
    names = {}
    boxes, pair = table(lines, names)
    return matching_ap(boxes, np.array([float(r["score"]) for r in lines]), pair, *table(truth, names))


@pytest.mark.parametrize(
    "file, key", [("matches.csv", "matching_track"), ("matches_distinct_scores.csv", "matching_distinct")]
)
def test_fixture_vsc_matching(file, key):
    expected = json.loads((fixtures() / "vsc2022_expected.json").read_text())[key]
    lines, truth = rows(file), rows("ground_truth.csv")
    ap = matched(lines, truth)
    assert ap == pytest.approx(expected["segment_ap"], rel=1e-9)
    assert matched(lines[::-1], truth[::-1]) == pytest.approx(ap, rel=1e-12)


def test_fixture_vsc_matching_small_sample():
    expected = json.loads((fixtures() / "vsc2022_expected.json").read_text())["matching_small"]
    names = ("query_id", "ref_id", "score", "query_start", "query_end", "ref_start", "ref_end")
    lines = [dict(zip(names, row, strict=True)) for row in expected["predictions"]]
    assert matched(lines, rows("ground_truth.csv")) == pytest.approx(expected["segment_ap"], rel=1e-9)


def test_fixture_vsc_pairs_of_matches():
    expected = json.loads((fixtures() / "vsc2022_expected.json").read_text())
    names = {}
    truth = keys(rows("ground_truth.csv"), names)
    lines = rows("matches.csv")
    pair, score = matching.pair_scores(keys(lines, names), np.array([float(r["score"]) for r in lines]))
    known = {names[q, r]: value for q, r, value in expected["pairs_from_predictions_max_score"]}
    assert dict(zip(pair.tolist(), score.tolist(), strict=True)) == pytest.approx(known)
    ap = matching.micro_ap(score, np.isin(pair, truth), len(set(truth.tolist())))
    assert ap == pytest.approx(expected["matching_track"]["pairwise_micro_ap"], rel=1e-9)


@pytest.mark.parametrize("name", ["no_ties", "ties"])
def test_fixture_vsc_descriptor_track(name):
    expected = json.loads((fixtures() / "vsc2022_expected.json").read_text())
    lines, truth = rows(f"candidates_{name}.csv"), {tuple(p) for p in expected["gt_pairs_from_matches"]}
    relevant = np.array([(r["query_id"], r["ref_id"]) in truth for r in lines])
    score = np.array([float(r["score"]) for r in lines])
    ap = matching.micro_ap(score, relevant, len(truth))
    assert ap == pytest.approx(expected[f"descriptor_{name}"]["uAP"], rel=1e-9)
    assert matching.micro_ap(score[::-1], relevant[::-1], len(truth)) == pytest.approx(ap, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30), st.integers(0, 9))
def test_micro_ap_is_sklearns_times_the_share_found(pairs, lost):
    score, relevant = np.array([s for s, _ in pairs], float), np.array([r for _, r in pairs])
    total = relevant.sum() + lost
    if not relevant.any():
        if total:
            assert matching.micro_ap(score, relevant, total) == 0
        return
    expected = average_precision_score(relevant, score) * relevant.sum() / total
    assert matching.micro_ap(score, relevant, total) == pytest.approx(expected)


def naive_matching(predicted, score, pair, truth, truth_pair):
    """Recomputed from scratch at every score."""

    def length(boxes, axis):
        return sum(e - s for s, e in merged([(b[axis], b[axis + 1]) for b in boxes]))

    def meets(a, b):
        return all(min(a[k + 1], b[k + 1]) > max(a[k], b[k]) for k in (0, 2))

    total, recall_before = 0.0, 0.0
    for level in sorted(set(score), reverse=True):
        sums = np.zeros((3, 2))
        for name in {*pair, *truth_pair}:
            shown = [p for p, s, n in zip(predicted, score, pair, strict=True) if n == name and s >= level]
            true = [t for t, n in zip(truth, truth_pair, strict=True) if n == name]
            met = [t for t in true if any(meets(t, p) for p in shown)]
            for number, axis in enumerate((0, 2)):
                own, other = length(shown, axis), length(met, axis)
                sums[:, number] += own + other - length([*shown, *met], axis), own, length(true, axis)
        recall = np.sqrt(np.prod(sums[0] / sums[2]))
        total += np.sqrt(np.prod(sums[0] / sums[1])) * (recall - recall_before)
        recall_before = recall
    return total


@settings(max_examples=60, deadline=None)
@given(BOXES, BOXES.filter(len), st.randoms(use_true_random=False))
def test_matching_equals_its_naive_twin(predicted, truth, random):
    score = np.array([random.randint(0, 3) for _ in predicted], float)
    pair, true_pair = ([random.randint(0, 2) for _ in boxes] for boxes in (predicted, truth))
    ap = matching_ap(predicted, score, np.array(pair, int), truth, np.array(true_pair))
    assert ap == pytest.approx(naive_matching(predicted, score, pair, truth, true_pair), abs=1e-12)


def test_matching_refuses_what_it_cannot_measure():
    box, one = np.array([[0.0, 1, 0, 1]]), np.array([0])
    assert matching_ap(box, np.array([0.5]), one, box, one) == 1
    assert matching_ap(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), box, one) == 0
    with pytest.raises(ValueError, match="no true segment"):
        matching_ap(box, np.array([0.5]), one, np.zeros((0, 4)), np.zeros(0, int))
    with pytest.raises(ValueError, match="finite"):
        matching_ap(box, np.array([np.nan]), one, box, one)
    with pytest.raises(ValueError, match="copies in all"):
        matching.micro_ap(np.array([1.0]), np.array([True]), 0)
