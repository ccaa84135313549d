"""What can be read from features, where the answer is known: probes, and the features of an oracle."""

import json

import numpy as np
import polars as pl
import pytest

from toys import extracted
from videomatch.data import tables
from videomatch.data.corpus import write_videos
from videomatch.data.store import StoreWriter
from videomatch.stages.evaluate import evaluate

PLACES = ["sea", "wood", "moor"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """120 videos of two scenes, 4 s and 1 s at places of their own; one colour each, and which place is first."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("corpus")
    facts, splits, videos = [], [], []
    for n in range(120):
        video = f"v{n:03}"
        first, second = (PLACES[k] for k in rng.choice(3, 2, replace=False))
        facts += [(video, "place", first, 0.0, 4.0), (video, "place", second, 4.0, 5.0)]
        facts += [(video, "order", f"{first}, {second}", None, None)]
        facts += [(video, "colour", "red" if rng.random() < 0.75 else "blue", None, None)]
        facts += [(video, "shape", shape, None, None) for shape in ("star", "disc")]
        splits.append(("train" if n < 80 else "val", "reference", video))
        videos.append({"video_id": video, "duration": 5.0})
    tables.write("facts", tables.frame("facts", facts), folder)
    tables.write("splits", tables.frame("splits", splits), folder)
    write_videos(tables.videos(videos), folder, 1)
    return folder


def probed(folder, corpus, features, metrics, **options):
    given = {"split": "val", "features": [features], "members": ["all"], "metrics": metrics}
    evaluate(corpus=corpus, output=folder, probe={"expert": "some", **options}, **given)
    result = json.loads((folder / "all/metrics.json").read_text())
    rows = tables.read("statistics", folder / "all").group_by("statistic").agg(pl.col("value").mean())
    assert dict(rows.iter_rows()) == pytest.approx(result["metrics"])
    return result["metrics"], result["chance"]


def test_a_probe_reads_what_frames_show_when_they_show_it(corpus, tmp_path):
    rng = np.random.default_rng(1)
    facts = tables.read("facts", corpus)
    place = {(i, start): PLACES.index(v) for i, _, v, start, _ in facts.filter(facts["factor"] == "place").iter_rows()}
    times = np.stack([np.arange(10) / 2, np.arange(1, 11) / 2], 1)
    with StoreWriter(tmp_path / "f/some", shape=(6,), dtype="float32", times=True) as writer:
        for video in facts["id"].unique().sort():
            if video == "v100":  # without features
                continue
            rows = rng.normal(size=(10, 6))
            at = [place[video, 0.0]] * 8 + [place[video, 4.0]] * 2
            rows[np.arange(10), at] += 6
            writer.add(video, 1e3 * rows, times=times)
    factors = ["place", "colour", "shape"]
    found, chance = probed(tmp_path / "mean", corpus, tmp_path / "f", factors)
    assert found["place"] >= 97 and 25 < chance["place"] < 45
    assert found["shape"] == chance["shape"] == 100, "any of several values that hold at once is right"
    red = facts.filter((facts["factor"] == "colour") & (facts["id"] >= "v080"))["value"] == "red"
    assert abs(found["colour"] - chance["colour"]) < 15 and chance["colour"] == pytest.approx(100 * red.mean())
    # the same rows in pairs of places that last equally long: the mean has no order
    with StoreWriter(tmp_path / "g/some", shape=(3,), dtype="float32", times=True) as writer:
        for video in facts["id"].unique().sort():
            rows = np.zeros((4, 3))
            rows[[0, 1], place[video, 0.0]] = rows[[2, 3], place[video, 4.0]] = 1
            writer.add(video, rows, times=times[:4])
    mean, halves = (probed(tmp_path / f"p{n}", corpus, tmp_path / "g", ["order"], parts=n)[0]["order"] for n in (1, 2))
    assert mean < 70 and halves == 100


def test_an_oracles_features_hold_its_facts_alone_when_they_hold(corpus, tmp_path):
    experts = {"some": {"extractor": "facts", "factors": ["place", "order"], "every": 0.5}}
    store = extracted(tmp_path, corpus, experts)["some"]
    assert store.shape == (3 + 6,) and len(store) == 120
    rows = store["v000"].astype(int)
    assert store.times("v000").tolist() == [[n / 2, (n + 1) / 2] for n in range(10)]
    assert (rows.sum(axis=1) == 2).all() and (rows[:8] == rows[0]).all() and (rows[8:] == rows[9]).all()
    assert np.abs(rows[0] - rows[9]).sum() == 2, "another place, the same order"
    found, chance = probed(tmp_path / "m", corpus, tmp_path / "1", ["place", "order", "colour"])
    assert found["place"] == found["order"] == 100
    assert found["colour"] <= chance["colour"] + 5


def test_a_factor_that_is_unknown_is_an_error(corpus, tmp_path):
    with pytest.raises(ValueError, match="no factor named 'plase'; did you mean 'place'"):
        probed(tmp_path, corpus, tmp_path, ["plase"])
