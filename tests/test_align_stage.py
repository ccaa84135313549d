"""Aligning the pairs of a protocol, or those that a search found."""

import json

import numpy as np
import polars as pl
import pytest

from clips import regular
from test_tune import data, run  # noqa: F401  (the planted corpus)
from videomatch.data import tables
from videomatch.localisation.line_ends import followed
from videomatch.metrics import segments
from videomatch.stages.align import align
from videomatch.stages.evaluate import segment_metrics
from videomatch.stages.select_key_frames import select_key_frames

OPTIONS = {"aligner": "temporal_network", "options": {"min_similarity": 0.6}}


def aligned(data, output, **options):  # noqa: F811
    output.mkdir()
    how = {} if "tuned" in options else {"similarity_map": {"expert": "frames"}}
    given = {"features": [data / "features"], "split": "copies_val", **how, **options}
    align(corpus=data / "corpus", output=output, **given)
    return tables.read("segments", output), json.loads((output / "align.json").read_text())


def test_planted_segments_are_found_in_seconds(data, tmp_path):  # noqa: F811
    found, about = aligned(data, tmp_path / "out", **OPTIONS)
    truth = tables.read("segments", data / "corpus")
    assert (about["pairs"], about["pairs with a segment"], about["segments"]) == (12, 6, 6)
    both = truth.join(found, on=["query_id", "reference_id"], suffix="_found")
    times = ("query_start", "query_end", "reference_start", "reference_end")
    for row in both.iter_rows(named=True):
        assert [row[f"{c}_found"] for c in times] == pytest.approx([row[c] for c in times], abs=0.5)
    assert len(both) == 6 and both["score_found"].is_between(0.6, 1).all()
    (seconds,) = json.loads((tmp_path / "out/measured.json").read_text()).values()
    assert 0 < seconds < 3600 and not {"seconds", "CPU s/h"} & about.keys()


def test_with_what_was_tuned(data, tmp_path):  # noqa: F811
    compared = {"expert": "frames", "bias": 0.05}
    best, _ = run(data, tmp_path / "tuned", grid={"min_similarity": [0.2, 0.6]}, similarity_map=compared)
    found, about = aligned(data, tmp_path / "out", tuned=tmp_path / "tuned")
    assert (about["options"], about["similarity_map"]) == (best["options"], compared)
    truth, pairs = tables.read("segments", data / "corpus"), []
    for keys in tables.read("relevance", data / "corpus").select("query_id", "reference_id").iter_rows():
        one = [t.filter((pl.col("query_id") == keys[0]) & (pl.col("reference_id") == keys[1])) for t in (found, truth)]
        pairs.append(tuple(t.drop("query_id", "reference_id", "score").to_numpy() for t in one))
    metrics = segments.overall(segments.per_pair(pairs))
    assert metrics == pytest.approx({k: best["metrics"][k] for k in metrics})


def test_segments_by_their_sums_above_the_bias(data, tmp_path):  # noqa: F811
    how = {
        "similarity_map": {"expert": "frames", "bias": 0.2},
        "grid": {"min_similarity": [0.7], "min_score": [0, 1, 99]},
    }
    best, trials = run(data, tmp_path / "tuned", score="sum", **how)
    assert best["options"]["min_score"] < 99 and best["metrics"]["F1"] > 0.9 and trials["F1"].to_list()[2] == 0
    summed, _ = aligned(data, tmp_path / "sum", tuned=tmp_path / "tuned", score="sum")
    mean, _ = aligned(data, tmp_path / "mean", tuned=tmp_path / "tuned")
    seconds = summed["query_end"] - summed["query_start"]
    assert len(summed) == len(mean) == 6
    assert summed["score"].to_numpy() == pytest.approx((seconds * (mean["score"] - 0.2)).to_numpy(), rel=0.1)


def test_nearest_references_of_a_search(data, tmp_path):  # noqa: F811
    rows = [("q0", "r0", 0.9, 0), ("q0", "r1", 0.5, 1), ("q0", "r2", 0.4, 2)]
    rows += [("q1", "r0", 0.8, 0), ("q1", "gone", 0.7, 1)]
    rankings = [(*pair, score, None, better, 0) for *pair, score, better in rows]
    tables.write("rankings", tables.frame("rankings", rankings), tmp_path)
    found, about = aligned(data, tmp_path / "out", **OPTIONS, rankings=tmp_path, top=2, score="max")
    assert about["pairs"] == 3
    assert found.select("query_id", "reference_id").rows() == [("q0", "r0")]
    mean, _ = aligned(data, tmp_path / "mean", **OPTIONS, rankings=tmp_path, top=2)
    assert 1 >= found["score"][0] > mean["score"][0]


def test_an_unknown_split_is_named(data, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match="no split 'copies_test'"):
        aligned(data, tmp_path / "out", **OPTIONS, split="copies_test")


def test_published_ends_are_a_frame_short(data, tmp_path):  # noqa: F811
    ours, _ = aligned(data, tmp_path / "ours", **OPTIONS)
    options = {"min_similarity": 0.6, "published": True}
    published, _ = aligned(data, tmp_path / "published", aligner="temporal_network", options=options)
    assert len(ours) == len(published) == 6
    for column in ("query_end", "reference_end"):
        assert np.median(ours[column] - published[column]) == pytest.approx(0.5)


def test_found_segments_are_measured(data, tmp_path):  # noqa: F811
    truth = tables.read("segments", data / "corpus")
    perfect = segment_metrics(data / "corpus", "copies_val", truth.with_columns(pl.lit(0.5).alias("score")))[0]
    assert perfect["overall"] == pytest.approx({"precision": 1, "recall": 1, "F1": 1, "FRR": 0, "FAR": 0}, abs=1e-6)
    assert perfect["matching"] == pytest.approx({"AP": 1, "uAP": 1})
    assert perfect["duration/3: 10 to 30 s"]["segments"] == perfect["speed/3: 0.9 to 1.1x"]["pairs"] == 6
    # a false alarm in a judged pair that is no copy, with the highest score, and one in a pair that is not judged
    extra = [("q0", "r1", 0.0, 12.0, 0.0, 12.0, 0.9), ("q0", "r3", 0.0, 12.0, 0.0, 12.0, 0.1)]
    noise = pl.DataFrame(extra, schema=tables.SCHEMAS["segments"], orient="row")
    found = segment_metrics(
        data / "corpus", "copies_val", pl.concat([truth.with_columns(pl.lit(0.5).alias("score")), noise])
    )[0]
    assert found["overall"]["FAR"] == pytest.approx(1 / 6) and found["overall"]["precision"] == pytest.approx(6 / 7)
    assert found["matching"]["uAP"] == pytest.approx(6 / 7)
    assert found["matching"]["AP"] == pytest.approx(6 / 7)
    nothing = segment_metrics(data / "corpus", "copies_val", truth.clear())[0]
    assert nothing["overall"]["FRR"] == 1 and "matching" not in nothing
    assert "matching" not in segment_metrics(data / "corpus", "copies_val", truth)[0]  # without scores


def test_ends_are_sought_in_all_frames_of_the_query(data, tmp_path):  # noqa: F811
    select_key_frames(
        features=[data / "features"], output=tmp_path / "keys", expert="frames", name="keys", method="uniform",
        share=0.5, dtype="float32", pool=True,
    )  # fmt: skip
    given = {"features": [data / "features", tmp_path / "keys"], "similarity_map": {"expert": "keys", "every": 1.0}}
    given["similarity_map"]["query_expert"] = "frames"
    options = OPTIONS | {"options": {"min_similarity": 0.4, "top_k": 1}}  # means of different frames are less alike
    truth, wrong = tables.read("segments", data / "corpus"), {}
    for name, follow in (("boxes", False), ("lines", True)):
        found, about = aligned(data, tmp_path / name, **given, **options, follow=follow)
        both = truth.join(found, on=["query_id", "reference_id"], suffix="_found")
        assert len(both) == 6 and about["follow"] == follow
        ends = [(both[c] - both[f"{c}_found"]).abs() for c in segments.TIMES[:2]]
        wrong[name] = float(np.mean([e.mean() for e in ends]))
    assert wrong["lines"] <= wrong["boxes"] < 0.5
    best, _ = run(data, tmp_path / "tuned", grid={"min_similarity": [0.4], "top_k": [1]}, follow=True, **given)
    assert best["metrics"]["F1"] > 0.9


def test_what_becomes_of_a_segment_along_its_line():
    rng = np.random.default_rng(0)
    reference, other = rng.normal(size=(2, 60, 256))
    query = np.concatenate([other[:10], reference[12:42] + 0.3 * rng.normal(size=(30, 256)), other[10:30]])
    query[20:24] = rng.normal(size=(4, 256))  # blacked out: a part of the copy all the same
    times = [regular(n, 2.0) for n in (60, 60)]

    def after(*segments):
        return followed(np.array(segments, float), query, times[0], reference, times[1])

    whole = [5.0, 20.0, 6.0, 21.0]
    assert after([7, 9, 8, 10, 0.9])[0].tolist() == [*whole, 0.9], "it goes on, over the gap"
    assert after([4.2, 21, 5.2, 22, 0.9])[0, :4].tolist() == pytest.approx(whole), "it was too long"
    assert after([6, 9, 7, 10, 0.7], [14, 19, 15, 20, 0.8]).tolist() == [[*whole, 0.8]], "two parts of one"
    stranger = [0.5, 4.0, 20.0, 23.5, 0.6]
    assert after(stranger).tolist() == [stranger], "nothing there is similar"
    # all of the reference, and no further
    long = np.concatenate([other[:10], reference[:20], other[10:20]])
    moved = followed(np.array([[6.0, 9, 1, 4, 1]]), long, regular(40, 2.0), reference[:20], regular(20, 2.0))
    assert moved[0, :4].tolist() == [5.0, 15.0, 0.0, 10.0]
