"""From frames to shortlists, segments of what stands on them, their measures, and the challenge's files."""

import json
import pickle
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from test_align_stage import OPTIONS, aligned
from test_search_stage import same_value
from test_tune import data, run  # noqa: F401  (the planted corpus)
from videomatch.common.vectors import unit_rows
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.localisation.maps import SimilarityMaps
from videomatch.retrieval.frame_index import FrameIndex
from videomatch.specs.similarity import Noise, SimilarityMap
from videomatch.stages.align import align
from videomatch.stages.evaluate import evaluate
from videomatch.stages.select_key_frames import select_key_frames
from videomatch.stages.shortlist import shortlist
from videomatch.stages.submit import submit


@pytest.fixture(scope="module")
def listed(data, tmp_path_factory):  # noqa: F811
    output = tmp_path_factory.mktemp("shortlist")
    shortlist(
        corpus=data / "corpus", features=[data / "features"], output=output, split="copies_val", expert="frames", top=3
    )
    return output


def test_the_source_of_every_query_is_first(listed):
    rankings = tables.read("rankings", listed)
    best = rankings.filter(pl.col("better") == 0)
    assert best.select("query_id", "reference_id").rows() == [(f"q{n}", f"r{n}") for n in range(6)]
    assert rankings.group_by("query_id").len()["len"].max() <= 3 and rankings["grade"].null_count() == len(rankings)
    about = json.loads((listed / "shortlist.json").read_text())
    assert (about["queries"], about["references"], about["frames"], about["missing"]) == (6, 6, 360, [])
    size = sum(p.stat().st_size for p in (listed / "library").rglob("*") if p.is_file())
    assert about["query hours"] == pytest.approx(6 * 22 / 3600)
    assert about["hours"] == pytest.approx(6 * 30 / 3600) and about["bytes an hour"] == round(size / about["hours"])
    assert sorted(FrameIndex(listed / "library").ids) == [f"r{n}" for n in range(6)]
    assert not (listed / "references").exists()


def test_only_listed_pairs_are_aligned_and_measured(data, listed, tmp_path):  # noqa: F811
    found, about = aligned(data, tmp_path / "out", **OPTIONS, rankings=listed, top=1)
    assert about["pairs"] == about["segments"] == 6
    metrics = ["F1", "FRR", "FAR", "AP", "uAP", "recall duration/3: 10 to 30 s", "MB/h"]
    given = {"corpus": data / "corpus", "split": "copies_val", "metrics": metrics, "members": ["all"]}
    evaluate(**given, segments=[tmp_path / "out"], output=tmp_path / "metrics")
    written = json.loads((tmp_path / "metrics/all/metrics.json").read_text())
    assert written["metrics"]["F1"] > 95 and written["metrics"]["FRR"] == 0 and written["metrics"]["AP"] > 0.9
    assert written["counts"]["pairs"] == 12 and written["counts"]["pairs with a copy"] == 6
    stored = json.loads((listed / "shortlist.json").read_text())["bytes an hour"]
    assert written["metrics"]["MB/h"] == pytest.approx(stored / 1e6, rel=1e-3)
    assert written["resampled"] == {**written["resampled"], "units": 12, "name": "videos"}
    same = same_value(written, tables.read("statistics", tmp_path / "metrics/all"))
    assert same == {*metrics} - {"MB/h"}
    # a missed pair costs recall
    tables.write("segments", found.filter(pl.col("query_id") != "q0"), tmp_path / "less")
    (tmp_path / "less/align.json").write_text(json.dumps(about))
    evaluate(**given, segments=[tmp_path / "less"], output=tmp_path / "metrics")
    less = json.loads((tmp_path / "metrics/all/metrics.json").read_text())
    assert less["resampled"] == written["resampled"], "the same pairs are judged"
    less = less["metrics"]
    assert less["FRR"] == pytest.approx(100 / 6) and less["F1"] < written["metrics"]["F1"]
    with pytest.raises(ValueError, match="no metric named 'F2'; there are: AP, F1"):
        evaluate(**{**given, "metrics": ["F2"]}, segments=[tmp_path / "out"], output=tmp_path / "metrics")


def test_maps_are_of_what_the_index_holds(data, listed, tmp_path):  # noqa: F811
    folders, compared = [data / "features"], SimilarityMap("frames")
    plain = SimilarityMaps.of(folders, compared).map("q0", "r0")
    maps = SimilarityMaps.of(folders, compared, shortlist=listed)
    values, *times = pickle.loads(pickle.dumps(maps)).map("q0", "r0")  # another process opens the index again
    np.testing.assert_allclose(values, plain[0], atol=0.02)
    assert not np.array_equal(values, plain[0]), "a byte a dimension"
    for mine, others in zip(times, plain[1:], strict=True):
        np.testing.assert_allclose(mine, others)
    few = tmp_path / "few"
    shortlist(
        corpus=data / "corpus", features=folders, output=few, split="copies_val", expert="frames", codec="SQ4", dim=16
    )
    index = FrameIndex(few / "library")
    coarse = SimilarityMaps.of(folders, compared, shortlist=few).map("q0", "r0")[0]
    query, reference = index.project(Store(data / "features/frames")["q0"]), unit_rows(index.features("r0")[0])
    np.testing.assert_allclose(coarse, query @ reference.T, atol=1e-5)
    # queries may be looked up with fewer frames than references have
    select_key_frames(features=folders, output=tmp_path, expert="frames", name="keys", method="uniform", share=0.2)
    keyed = {"features": [*folders, tmp_path], "expert": "frames", "query_expert": "keys", "nprobe": 2}
    shortlist(corpus=data / "corpus", output=tmp_path / "keyed", split="copies_val", **keyed)
    found = tables.read("rankings", tmp_path / "keyed")
    first = pl.col("better") == 0
    right = [(f"q{n}", f"r{n}") for n in range(6)]
    assert found.filter(first).select("query_id", "reference_id").rows() == right and len(found) > 6
    # and who has no more votes than a stranger is not on the list
    strangers = found.filter(~first)["score"].max()
    shortlist(corpus=data / "corpus", output=tmp_path / "voted", split="copies_val", min_votes=strangers, **keyed)
    assert tables.read("rankings", tmp_path / "voted").select("query_id", "reference_id").rows() == right
    # tuned and aligned on these codes, and their bytes count
    best, _ = run(data, tmp_path / "tuned", grid={"min_similarity": [0.5, 0.7]}, rankings=few)
    assert best["metrics"]["F1"] > 0.9
    bytes_of = {}
    for name, folder in (("whole", listed), ("coarse", few)):
        _, about = aligned(data, tmp_path / name, tuned=tmp_path / "tuned", rankings=folder)
        assert about["pairs with a segment"] >= 6
        bytes_of[name] = about["bytes"]
    assert bytes_of["coarse"] < 0.6 * bytes_of["whole"]
    seconds = [json.loads((folder / "measured.json").read_text()) for folder in (few, tmp_path / "coarse")]
    assert seconds[1]["answer s/h"] > seconds[0]["CPU s/h"] > 0
    with pytest.raises(ValueError, match="similarity 'inner' of the codes in an index, expected 'cosine'"):
        SimilarityMaps.of(folders, replace(compared, similarity="inner"), shortlist=few)


def test_edits_are_measured_where_the_corpus_tells_them(corpus, tmp_path):
    truth = tables.read("segments", corpus)
    first = truth.row(0, named=True)
    edit = {k: first[k] for k in ("query_id", "reference_id", "query_start")} | {"edit": "crop", "kind": "geometry"}
    tables.write("edits", pl.DataFrame([edit]), corpus)
    tables.write(
        "segments", truth.filter(pl.col("query_id") != first["query_id"]).with_columns(score=1.0), tmp_path / "found"
    )
    (tmp_path / "found/align.json").write_text(json.dumps({"bytes": 2, "hours": 1}))
    metrics = ["recall edit/crop", "recall edit/geometry", "recall edit/none"]
    evaluate(
        corpus=corpus, split="copies_val", metrics=metrics, members=["all"], segments=[tmp_path / "found"],
        output=tmp_path / "out",
    )  # fmt: skip
    found = json.loads((tmp_path / "out/all/metrics.json").read_text())["metrics"]
    assert found == pytest.approx({"recall edit/crop": 0, "recall edit/geometry": 0, "recall edit/none": 100})


def test_normalised_scores_are_those_of_the_frames(data, tmp_path):  # noqa: F811
    noise = {"split": "copies_val", "beta": 0.8, "drop": False}
    normalised = SimilarityMap("frames", noise=Noise(**noise))
    maps = SimilarityMaps.of([data / "features"], normalised, data / "corpus")
    plain = SimilarityMaps.of([data / "features"], SimilarityMap("frames")).map("q0", "r1")[0]
    store = Store(data / "features/frames")
    rows, _ = store.gather([f"r{n}" for n in range(6)])
    unit, query = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rows, store["q0"]))
    expected = plain - 0.8 * (query @ unit.T).max(axis=1, keepdims=True)
    np.testing.assert_allclose(maps.map("q0", "r1")[0], expected, atol=1e-5)
    compared = {"expert": "frames", "noise": noise, "bias": 0.5}
    best, _ = run(data, tmp_path / "tuned", grid={"min_similarity": [0.05]}, similarity_map=compared)
    assert best["similarity_map"] == compared
    _, about = aligned(data, tmp_path / "out", tuned=tmp_path / "tuned")
    assert about["similarity_map"] == compared
    with pytest.raises(ValueError, match="similarity 'chamfer' with score normalisation"):
        SimilarityMaps.of([data / "features"], replace(normalised, similarity="chamfer"), data / "corpus")


def test_queries_may_bring_more_frames_than_the_library_keeps(data, tmp_path):  # noqa: F811
    select_key_frames(
        features=[data / "features"], output=tmp_path, expert="frames", name="keys", method="uniform", share=0.5,
        dtype="float32",
    )  # fmt: skip
    folders = [data / "features", tmp_path]
    compared = SimilarityMap("keys", query_expert="frames")
    values, query_times, reference_times = SimilarityMaps.of(folders, compared).map("q0", "r0")
    assert values.shape == (44, 30) and len(query_times) == 44 and reference_times[-1, 1] == 30
    spread = SimilarityMaps.of(folders, replace(compared, every=0.5)).map("q0", "r0")[0]
    assert spread.shape == (44, 60)
    (tmp_path / "out").mkdir()
    align(
        corpus=data / "corpus", features=folders, output=tmp_path / "out", split="copies_val",
        similarity_map=replace(compared, every=0.5).settings(), aligner="temporal_network",
        options={"min_similarity": 0.4, "min_length": 2},
    )  # fmt: skip
    about = json.loads((tmp_path / "out/align.json").read_text())
    assert (
        about["similarity_map"]["query_expert"] == "frames"
        and about["bytes"] == 6 * 30 * 4 * Store(tmp_path / "keys").shape[0]
        and about["pairs with a segment"] >= 6
    )


@pytest.fixture
def corpus(data, tmp_path):  # noqa: F811
    """The planted corpus with its videos' lengths."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for file in (data / "corpus").glob("*.parquet"):
        (folder / file.name).write_bytes(file.read_bytes())
    lengths = {f"q{n}": 22.0 for n in range(6)} | {f"r{n}": 30.0 for n in range(6)}
    rows = tables.videos({"video_id": i, "duration": d} for i, d in lengths.items())
    rows.write_parquet(folder / "videos-00000.parquet")
    return folder


def test_the_challenges_files_are_written_from_segments_and_frames(data, corpus, tmp_path):  # noqa: F811
    aligned(data, tmp_path / "found", **OPTIONS)
    common = {"corpus": corpus, "member": "all", "split": "copies_val", "output": tmp_path}
    submit(**common, results=[tmp_path / "found"], format="vsc2022_matching")
    about = json.loads((tmp_path / "submission.json").read_text())
    assert (about["file"], about["segments"], about["pairs"]) == ("matches.csv", 6, 6)
    assert len(pl.read_csv(tmp_path / "matches.csv")) == 6
    noise = {"split": "copies_val", "beta": 1.0}
    submit(**common, results=[data / "features"], expert="frames", noise=noise, format="vsc2022_descriptors")
    about = json.loads((tmp_path / "submission.json").read_text())
    assert about["rows"] == {"query": 6 * 22, "reference": 6 * 30}  # two frames a second, one is allowed
    with (
        np.load(tmp_path / "query_descriptors.npz") as query,
        np.load(tmp_path / "reference_descriptors.npz") as reference,
    ):
        assert query["features"].shape == (132, 64)
        np.testing.assert_array_equal(reference["features"][:, -1], 1)
