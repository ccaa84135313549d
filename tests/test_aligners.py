"""Aligners: the published boxes, a contract over every file of the room, naive twins, and frames as seconds."""

import json
import tracemalloc

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import regular
from paths import ROOT, fixtures, realdata
from videomatch import aligners
from videomatch.aligners import dtw, dynamic_programming, hough, temporal_network
from videomatch.common import named
from videomatch.localisation import intervals, map_paths
from videomatch.metrics import segments

ALIGNERS = named.names("aligners")
FILES = {"HV": "hough", "TN": "temporal_network", "DP": "dynamic_programming", "DTW": "dtw"}
#: published names of parameters
OPTIONS = {"min_sim": "min_similarity", "ave_sim": "mean_similarity", "min_length": "min_length", "discontinue": "gap"}
OPTIONS |= {"tn_max_step": "max_step", "tn_top_k": "top_k", "max_path": "max_paths", "max_iou": "max_iou"}
OPTIONS |= {"iou_thresh": "max_overlap", "max_peaks": "max_peaks", "diagonal_thres": "max_straight"}
#: aligner -> options with VCSL's published parameters
PUBLISHED = {
    align["aligner"]: align["options"]
    for align in (
        s.get("align", {}) for s in yaml.safe_load((ROOT / "configs/vcsl.yaml").read_text())["systems"].values()
    )
    if align.get("options", {}).get("published")
}
SETTINGS = ["HV:isc_published", "HV:low", "TN:isc_published", "TN:vsc_baseline", "TN:wide", "DP:isc_published"]
SETTINGS += ["DP:transvcl_paper", "DP:active_threshold", "DTW:isc_published", "DTW:loose"]


@pytest.fixture(scope="module")
def published():
    maps = {}
    for part in range(4):
        arrays = np.load(fixtures() / f"aligners_maps_{part}.npz", allow_pickle=False)
        maps |= {name: arrays[name] for name in arrays.files}
    return maps, json.loads((fixtures() / "aligners_expected.json").read_text())


@pytest.mark.parametrize("setting", SETTINGS)
def test_fixture_published_boxes(published, setting):
    maps, expected = published
    method, kind = setting.split(":")
    module = named.module("aligners", FILES[method])
    options = {OPTIONS[key]: value for key, value in expected["expected"][setting]["params"].items()}
    if method == "DP":  # theirs are of the similarity + 1
        options["min_similarity"] -= 1
        options["mean_similarity"] -= 1
    if kind == "isc_published":
        configured = aligners.defaults(module) | PUBLISHED[FILES[method]]
        assert options == pytest.approx({name: configured[name] for name in options})
    for name, case in expected["expected"][setting]["maps"].items():
        for dtype in (np.float32, np.float64):
            found = module.align(maps[name].astype(dtype), published=True, **options)
            assert found[:, [0, 2, 1, 3]].astype(int).tolist() == case["boxes"], (name, dtype)


def test_fixture_ours_beats_the_published_convention(published):
    """On the published maps, with no parameter but the defaults: the ends alone, and with the other deviations."""
    maps, expected = published
    planted = {
        name: np.array([[b[0], b[2] + 1, b[1], b[3] + 1] for b in boxes], float).reshape(-1, 4)
        for name, boxes in expected["planted_q0_r0_q1_r1_speed_mode"].items()
    }

    def score(module, **options):
        pairs = [(module.align(maps[name], **options), truth) for name, truth in planted.items()]
        return segments.overall(segments.per_pair(pairs))["F1"]

    for name in ALIGNERS:
        module = named.module("aligners", name)
        assert score(module) > score(module, **PUBLISHED[name]) + 0.01, name


def test_fixture_dynamic_programme():
    parts = np.load(fixtures() / "aligners_parts.npz", allow_pickle=False)
    sums, moves, missed = dynamic_programming.table(parts["dp_sim"], gap=3, min_similarity=-0.1)
    assert sums == pytest.approx(parts["dp_matrix"], abs=1e-12)
    assert (missed == parts["dp_unmatched"]).all()
    assert (np.where(moves == dynamic_programming.NONE, -1, moves.astype(int)) == parts["dp_backtrace"]).all()
    first = next(dynamic_programming.paths(sums, moves))
    assert (first == parts["dp_first_path"]).all()


def test_fixture_iou():
    parts = np.load(fixtures() / "aligners_parts.npz", allow_pickle=False)
    boxes, others = (parts[f"iou_{k}"][:, [0, 2, 1, 3]] + [0, 1, 0, 1] for k in "ab")  # of last frames
    assert map_paths.iou(boxes, others) == pytest.approx(parts["iou_expected"], abs=1e-12)


# the contract


def noise(rng, rows, columns):
    """Frames that have nothing in common, as real features see them: alike by 0.15 on average, never by 0.45."""
    return np.clip(rng.normal(0.15, 0.1, (rows, columns)), -0.2, 0.45)


def plant(values, q, r, length, speed=1.0, level=0.85):
    """Copy ``length`` query frames from ``(q, r)`` on at ``speed``; the true segment, half open."""
    at = np.arange(length)
    forward = np.floor(at * speed).astype(int)
    values[q + at, r + forward] = level
    if speed > 1:  # frames between two of the query look like both
        between = np.minimum(r + forward + 1, values.shape[1] - 1)
        values[q + at[:-1], between[:-1]] = level - 0.05
    return [q, q + length, r, r + forward[-1] + 1]


@pytest.fixture(params=ALIGNERS)
def align(request):
    return named.module("aligners", request.param).align


def close(found, truth, precision=0.85, recall=0.85):
    scores = segments.pair(found, np.array(truth, float))
    assert scores[0] >= precision and scores[1] >= recall, (found.round(2).tolist(), truth, scores)


def test_finds_a_planted_diagonal(align):
    values = noise(np.random.default_rng(0), 80, 90)
    truth = plant(values, 20, 35, 40)
    found = align(values)
    assert found.shape == (1, 5) and found.dtype == np.float64
    assert np.abs(found[0, :4] - truth).max() <= 1
    assert found[0, 4] == pytest.approx(0.85, abs=0.05)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 1.5, 2.0])
def test_finds_it_at_another_speed(align, speed):
    values = noise(np.random.default_rng(1), 120, 160)
    truth = plant(values, 30, 25, 50, speed)
    close(align(values), [truth], 0.8, 0.8)


def test_finds_several_segments(align):
    values = noise(np.random.default_rng(2), 160, 150)
    truth = [plant(values, 5, 10, 30), plant(values, 60, 55, 25), plant(values, 120, 110, 35)]
    found = align(values)
    assert len(found) == 3
    close(found, truth, 0.9, 0.9)


@pytest.mark.parametrize("name", [n for n in ALIGNERS if n != "dtw"])  # its one path is monotone
def test_finds_segments_in_another_order(name):
    values = noise(np.random.default_rng(3), 160, 150)
    truth = [plant(values, 5, 100, 30), plant(values, 60, 55, 25), plant(values, 120, 5, 35)]
    close(named.module("aligners", name).align(values), truth, 0.85, 0.9)


def test_finds_nothing_in_noise(align):
    for seed in range(5):
        assert len(align(noise(np.random.default_rng(seed), 100 + seed, 130))) == 0


@pytest.mark.parametrize("query, reference", [(17, 0), (0, 23), (11, 29)])
def test_shifts_with_its_input(align, query, reference):
    values = noise(np.random.default_rng(4), 90, 80)
    plant(values, 10, 20, 30)
    plant(values, 50, 55, 20)
    around = np.zeros((90 + query, 80 + reference))
    around[query:, reference:] = values
    found, shifted = align(values), align(around)
    shifted[:, :2] -= query
    shifted[:, 2:4] -= reference
    order = found[:, 0].argsort(), shifted[:, 0].argsort()
    assert found[order[0], :4] == pytest.approx(shifted[order[1], :4], abs=1)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1), (1, 9), (9, 1)])
def test_maps_without_room_hold_nothing(align, shape):
    for level in (0.0, 1.0):
        found = align(np.full(shape, level))
        assert found.shape == (0, 5)


def test_leaves_its_input_alone_and_repeats(align):
    values = noise(np.random.default_rng(5), 60, 70).astype(np.float32)
    plant(values, 10, 20, 30)
    before = values.copy()
    first, second = align(values), align(values)
    assert (values == before).all() and (first == second).all()
    assert align(np.asfortranarray(values)) == pytest.approx(first)


def test_segments_lie_in_the_map_and_have_extent(align):
    rng = np.random.default_rng(6)
    for _ in range(5):
        values = rng.uniform(0, 1, (int(rng.integers(20, 60)), int(rng.integers(20, 60))))
        found = align(values)
        segments.check(found)
        assert (found[:, :4] >= 0).all()
        assert (found[:, 1] <= values.shape[0]).all() and (found[:, 3] <= values.shape[1]).all()


@pytest.mark.parametrize("name", ALIGNERS)
def test_published_options_and_grids_are_options_of_their_aligner(name):
    module = named.module("aligners", name)
    values = noise(np.random.default_rng(7), 60, 60)
    truth = plant(values, 10, 15, 40)
    found = module.align(values, **PUBLISHED[name])
    assert len(found) and found[:, 1].max() <= 59  # last frames, not ends
    assert segments.pair(found, np.array([truth], float))[1] > 0.9
    known = aligners.defaults(module)
    assert set(module.GRIDS) == {"published", "ours"} and known["published"] is False
    assert all(set(options) <= set(known) for options in module.GRIDS.values())
    assert module.GRIDS["published"]["published"] == [True] and "published" not in module.GRIDS["ours"]


def test_bad_maps_are_named(align):
    with pytest.raises(ValueError, match=r"query frame 1 and reference frame 2 is nan"):
        align(np.array([[0, 0, 0], [0, 0, np.nan]]))
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        align(np.zeros(4))


def test_hough_votes_of_a_still_picture_take_bounded_memory():
    """All frames match all: what is kept of a hit for all speeds together is some numbers, not some a speed."""
    still = np.ones((500, 2000), np.float32)
    tracemalloc.start()
    try:
        (found,) = hough.align(still)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[:2].tolist() == [0, 500] and peak <= 50 * still.size


def test_real_map_holds_its_one_copy():
    """The similarity map that VCSL shows as its sample: the copy runs from the query's start to the reference's end."""
    values = np.load(realdata() / "video_copy/ant-research+VCSL/vcsl_sim_matrix_sample.npy", allow_pickle=False)
    for name in ("hough", "temporal_network", "dynamic_programming"):
        best = max(named.module("aligners", name).align(values).tolist(), key=lambda s: s[1] - s[0])
        assert best[:4] == pytest.approx([0, 55, 187, 241], abs=4), name


# naive twins


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.integers(1, 4), st.integers(2, 6))
def test_edges_of_the_network_by_definition(seed, rows, columns, top, step):
    least = 0.5 if seed % 2 else -np.inf
    values = np.random.default_rng(seed).uniform(0, 1, (rows, columns)).round(1)  # with ties
    nearest = temporal_network.top_columns(values, min(top, columns))
    assert (nearest == np.argsort(-values, axis=1, kind="stable")[:, :top]).all()
    similarity = np.take_along_axis(values, nearest, axis=1)
    source, target = temporal_network.edges(nearest, similarity, step, 0.3, least)
    width, expected = nearest.shape[1], []
    for q in range(rows):
        linked = set()
        for other in range(q + 1, min(rows, q + step)):
            new = set()
            for a, r in enumerate(nearest[q]):
                for b, s in enumerate(nearest[other]):
                    between = any(r < m < s for m in linked)
                    if 0 < s - r < step and values[other, s] >= 0.3 and values[q, r] >= least and not between:
                        expected.append((q * width + a, other * width + b))
                        new.add(int(s))
            linked |= new
    assert list(zip(source.tolist(), target.tolist(), strict=True)) == sorted(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_paths_by_definition(seed, rows, columns):
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0, 2, (rows, columns))
    sums = np.full((rows + 1, columns + 1), np.inf)
    sums[0, 0] = 0
    for i in range(rows):
        for j in range(columns):
            sums[i + 1, j + 1] = cost[i, j] + min(sums[i, j], sums[i, j + 1], sums[i + 1, j])
    path = dtw.cheapest_path(cost)
    assert cost[path[:, 0], path[:, 1]].sum() == pytest.approx(sums[-1, -1])
    assert path[0].tolist() == [0, 0] and path[-1].tolist() == [rows - 1, columns - 1]
    assert {tuple(s) for s in np.diff(path, axis=0).tolist()} <= {(1, 1), (1, 0), (0, 1)}
    gap, low = int(rng.integers(0, 3)), rng.uniform(-0.5, 0.8)
    found, moves, missed = dynamic_programming.table(1 - cost, gap=gap, min_similarity=low)
    s = 2 - cost
    expected, count = s.copy(), np.zeros(s.shape, int)
    for i in range(1, rows):
        for j in range(1, columns):
            choices = [(i - 1, j - 1, 1.0), (i - 1, j, 0.5), (i, j - 1, 0.5)]
            values = [expected[a, b] + w * s[i, j] for a, b, w in choices]
            a, b, _ = choices[int(np.argmax(values))]
            count[i, j] = count[a, b] + 1 if 1 - cost[i, j] < low else 0
            if count[i, j] <= gap:
                expected[i, j] = max(values)
                assert moves[i, j] == np.argmax(values)
    assert found == pytest.approx(expected)
    assert (missed == count).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), max_size=30), st.integers(0, 4))
def test_matched_parts_by_definition(matched, gap):
    expected, start, last = [], None, -1
    for at, hit in enumerate(matched):
        if hit:
            if start is not None and at - last > gap + 1:
                expected.append((start, last + 1))
                start = None
            start = at if start is None else start
            last = at
    expected += [(start, last + 1)] if start is not None else []
    assert map_paths.matched_parts(np.array(matched, bool), gap) == expected


def test_straight_runs_are_cut_out():
    path = np.array([(0, 0), (1, 1), (2, 2), (2, 3), (2, 4), (2, 5), (3, 6), (4, 7)])
    assert map_paths.straight_runs(path, 4) == [(0, 8)]
    assert map_paths.straight_runs(path, 3) == [(0, 2), (6, 8)]
    assert map_paths.straight_runs(path[2:6], 3) == []


# frames as seconds


def test_frames_become_seconds_on_both_clocks():
    found = np.array([[2.0, 5, 1, 3, 0.7]])
    query, reference = regular(6, 2.0), np.array([[0.0, 0.4], [0.4, 3.1], [3.1, 3.5], [3.5, 8]])
    assert intervals.to_seconds(found, query, reference).tolist() == [[1.0, 2.5, 0.4, 3.5, 0.7]]
    assert found[0, 0] == 2
    whole = intervals.to_seconds(np.array([[0.0, 6, 0, 4]]), query, reference)
    assert whole.tolist() == [[0, 3, 0, 8]]


def test_key_frames_reach_halfway_to_their_neighbours():
    moments = np.array([[1.0, 1.0], [2.0, 2.0], [6.0, 6.0]])
    assert intervals.filled(moments).tolist() == [[0, 1.5], [1.5, 4], [4, 8]]
    assert intervals.filled(moments[:0]).shape == (0, 2)
    assert intervals.filled(regular(5, 2.0)) == pytest.approx(regular(5, 2.0))


def test_frames_that_do_not_exist_are_named():
    clock = regular(4)
    with pytest.raises(ValueError, match=r"reference frames 2\.0 to 5\.0, expected rising frames in 0 to 4"):
        intervals.to_seconds(np.array([[0.0, 1, 2, 5]]), clock, clock)
    with pytest.raises(ValueError, match=r"segment 1 holds query frames 2\.0 to 1\.0"):
        intervals.to_seconds(np.array([[0.0, 1, 0, 1], [2, 1, 0, 1]]), clock, clock)
    with pytest.raises(ValueError, match="do not rise"):
        intervals.filled(clock[::-1])


@pytest.mark.parametrize("name", ALIGNERS)
def test_segments_in_seconds_and_their_scores(name):
    aligner, times = aligners.load(name), regular(12, 2.0)
    similarity = np.zeros((12, 12), np.float32)
    assert aligners.find_segments(aligner, similarity, times, times).shape == (0, 5)
    np.fill_diagonal(similarity, 1)
    assert aligners.find_segments(aligner, similarity, times, times)[0, :4].tolist() == [0, 6, 0, 6]
    largest = aligners.find_segments(aligner, similarity, times, times, score="max")
    assert largest[0, 4] == 1
    summed = {
        level: aligners.find_segments(aligner, similarity, times, times, score="sum", level=level)
        for level in (0, 0.25)
    }
    assert {level: found[0, 4] for level, found in summed.items()} == {0: 6.0, 0.25: 4.5}  # seconds of the query
    for least, count in ((5.9, 1), (6.0, 0)):
        found = aligners.find_segments(aligner, similarity, times, times, {"min_score": least}, score="sum")
        assert len(found) == count


def test_a_sum_along_a_line_is_over_the_query_and_of_what_is_beside_it():
    values = np.full((8, 16), -0.5)
    for row in range(8):
        values[row, 2 * row + row % 2] = 0.5  # twice as fast, and never more than a frame off
    boxes, seconds = np.array([[0.0, 8, 0, 16], [2, 6, 4, 12], [2, 6, 10, 14]]), np.full(8, 0.5)
    assert map_paths.line_sums(values, seconds, boxes).tolist() == [2, 1, 0]
    slow = map_paths.line_sums(values.T, np.full(16, 0.25), boxes[:1, [2, 3, 0, 1]])  # one frame in two is similar
    assert slow.tolist() == [1]
    assert map_paths.line_sums(values, seconds, np.zeros((0, 5))).shape == (0,)
