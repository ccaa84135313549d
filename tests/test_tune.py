"""Tuning an aligner: a planted optimum is found, on any number of processes, and everything tried is written."""

import json

import numpy as np
import polars as pl
import pytest

from clips import regular
from videomatch import aligners
from videomatch.data import tables
from videomatch.data.store import StoreWriter
from videomatch.localisation import intervals
from videomatch.localisation.maps import SimilarityMaps
from videomatch.metrics import segments
from videomatch.specs.similarity import SimilarityMap
from videomatch.stages.tune import best, combined, tune

RATE = 2.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six references, and queries that hold 12 s of one each, amid 10 s of their own; noise on every frame."""
    root, rng = tmp_path_factory.mktemp("tune"), np.random.default_rng(0)
    unit = {f"r{n}": rng.normal(size=(60, 64)) for n in range(6)}
    rows: dict[str, list] = {"relevance": [], "segments": [], "splits": []}
    for n in range(6):
        first = int(rng.integers(5, 30))
        own = rng.normal(size=(20, 64))
        copy = unit[f"r{n}"][first : first + 24] + 0.35 * rng.normal(size=(24, 64))
        unit[f"q{n}"] = np.concatenate([own[:10], copy, own[10:]])
        times = (10 / RATE, 34 / RATE, first / RATE, (first + 24) / RATE)
        rows["segments"].append((f"q{n}", f"r{n}", *times, None))
        for other in (n, (n + 1) % 6):
            rows["relevance"].append((f"q{n}", f"r{other}", float(other == n)))
        rows["splits"] += [("copies_val", "query", f"q{n}"), ("copies_val", "reference", f"r{n}")]
    for name, table in rows.items():
        tables.write(name, tables.frame(name, table), root / "corpus")
    with StoreWriter(root / "features/frames", shape=(64,), dtype="float32", times=True) as writer:
        for video_id, values in unit.items():
            writer.add(video_id, values.astype(np.float32), times=regular(len(values), RATE))
    return root


def run(data, output, **options):
    output.mkdir()
    given = {"split": "copies_val", "aligner": "temporal_network", "similarity_map": {"expert": "frames"}}
    tune(**{"corpus": data / "corpus", "features": [data / "features"], "output": output, **given, **options})
    return json.loads((output / "tuned.json").read_text()), pl.read_csv(output / "trials.csv")


GRID = {"min_similarity": [0.05, 0.6, 0.99], "top_k": [3, 2], "min_length": [5]}


def test_the_planted_optimum_is_found(data, tmp_path):
    about, trials = run(data, tmp_path / "out", grid=GRID)
    assert about["options"]["min_similarity"] == 0.6
    assert about["metrics"]["F1"] > 0.95 and about["metrics"]["FAR"] == 0
    assert (about["pairs"], about["copies"], about["combinations"]) == (12, 6, 6)
    assert trials.columns == [*GRID, "precision", "recall", "F1", "FRR", "FAR"]
    assert trials.select(list(GRID)).rows() == [tuple(o.values()) for o in combined(GRID)]
    assert trials["F1"].max() == pytest.approx(about["metrics"]["F1"])
    strict = trials.filter(pl.col("min_similarity") == 0.99)
    assert (strict["F1"] == 0).all() and (strict["FRR"] == 1).all()


def test_processes_change_nothing(data, tmp_path):
    run(data, tmp_path / "one", grid=GRID)
    run(data, tmp_path / "two", grid=GRID, threads=2)
    for name in ("tuned.json", "trials.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("grid", ["ours", "published"])
@pytest.mark.parametrize("aligner", ["dtw", "hough"])
def test_named_grids(data, tmp_path, aligner, grid):
    about, trials = run(data, tmp_path / "out", aligner=aligner, grid=grid)
    assert about["metrics"]["F1"] == pytest.approx(trials["F1"].max())
    assert about["options"].get("published", False) == (grid == "published")


def test_of_equal_trials_the_simplest_wins():
    usual = {"a": 1, "b": 2}
    options = [{"a": 3, "b": 3}, {"a": 1, "b": 3}, {"a": 3, "b": 2}, {"a": 1, "b": 2}]
    assert best([{"F1": 0.5}] * 4, options, usual) == 3
    assert best([{"F1": 0.5}] * 3, options[:3], usual) == 1
    assert best([{"F1": 0.4}, {"F1": 0.5}, {"F1": 0.5}, {"F1": 0.4}], options, usual) == 1


def test_a_pair_is_aligned_in_seconds(data):
    maps = SimilarityMaps.of([data / "features"], SimilarityMap("frames"))
    values, query_times, reference_times = maps.map("q0", "r0")
    assert values.shape == (44, 60) and query_times[-1].tolist() == [21.5, 22]
    network = aligners.load("temporal_network")
    ours, published = (
        aligners.find_segments(network, *maps.map("q0", "r0"), {"min_similarity": 0.6, "published": published})
        for published in (False, True)
    )
    frames = network.align(values, min_similarity=0.6)
    assert ours == pytest.approx(intervals.to_seconds(frames, query_times, reference_times))
    truth = np.array([tables.read("segments", data / "corpus").row(0)[2:6]])
    assert segments.pair(ours, truth)[1] > segments.pair(published, truth)[1]  # a frame short on both axes
    biased = SimilarityMaps.of([data / "features"], SimilarityMap("frames", bias=0.5)).map("q0", "r0")[0]
    assert biased == pytest.approx(values + 0.5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"grid": {"gap": [1]}}, "has no option 'gap'; there are max_step"),
        ({"grid": {"top_k": 3}}, "top_k is 3, expected a list"),
        ({"grid": "theirs"}, "no grid 'theirs'; there are published, ours"),
        ({"similarity_map": {"expert": "faces"}}, "expert 'faces' is in none of"),
        ({"split": "copies_test"}, "no split 'copies_test'"),
        ({"aligner": "spd"}, "no aligner named 'spd'; there are dtw, dynamic_programming, hough"),
    ],
)
def test_wrong_settings_are_named(data, tmp_path, options, message):
    with pytest.raises((ValueError, KeyError), match=message):
        run(data, tmp_path / "out", **options)


def test_frames_of_noise_are_kept(data, tmp_path):
    """With what a search elsewhere needs: how ends were moved, and the noise that scores were normalised by."""
    compared = {"expert": "frames", "bias": 0.5, "noise": {"split": "copies_val"}}
    about, _ = run(data, tmp_path / "out", grid={"min_similarity": [0.6]}, similarity_map=compared, follow=True)
    kept = np.load(tmp_path / "out/noise.npy", allow_pickle=False)
    assert kept.shape == (360, 64) and about["follow"]
