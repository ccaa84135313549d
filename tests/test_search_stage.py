"""From embeddings to metrics: search and evaluate on small corpora whose answers are known."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from videomatch.common.vectors import unit_rows
from videomatch.data import tables
from videomatch.data.store import StoreWriter
from videomatch.metrics import bootstrap, correlation
from videomatch.stages import evaluate as evaluate_
from videomatch.stages import search as search_


def store(folder, rows):
    width = len(next(iter(rows.values())))
    with StoreWriter(folder, shape=(width,), dtype="float32") as writer:
        for item_id, row in rows.items():
            writer.add(item_id, np.asarray(row, np.float32).reshape(-1, width))
    return folder


def corpus(folder, split, queries, references, relevance):
    rows = [(split, "query", i) for i in queries] + [(split, "reference", i) for i in references]
    tables.write("splits", pl.DataFrame(rows, schema=tables.SCHEMAS["splits"], orient="row"), folder)
    tables.write("relevance", pl.DataFrame(relevance, schema=tables.SCHEMAS["relevance"], orient="row"), folder)
    return folder


def read(folder, name):
    return json.loads((folder / name).read_text())


def search(**given):
    search_.search(members={"all": None}, **given)


def evaluate(**given):
    evaluate_.evaluate(members=["all"], corpus=Path(), **given)


def same_value(result, statistics):
    """The metrics that have the same value if they are computed from the statistics, each unit once."""
    rows = {}
    for (name,), part in statistics.partition_by("statistic", as_dict=True).items():
        first, second, value, other = (part[c].to_numpy() for c in ("first", "second", "value", "other"))
        rows[name] = bootstrap.Rows(first, value, None if part["second"].null_count() else second, other)
    units = result["resampled"]["units"]
    found = {metric: bootstrap.value(metric, rows, units) for metric in result["metrics"] if bootstrap.needed(metric)}
    return {metric for metric, value in found.items() if value == pytest.approx(result["metrics"][metric], rel=1e-9)}


@pytest.fixture
def captions(tmp_path):
    """40 videos, 2 captions each, near them; video v7 has no embedding."""
    rng = np.random.default_rng(0)
    videos = {f"v{n}": rng.normal(size=12) for n in range(40)}
    texts = {f"v{n}#{k}": videos[f"v{n}"] + rng.normal(size=12) * 1.2 for n in range(40) for k in range(2)}
    relevance = [(t, t.split("#")[0], 1.0) for t in texts]
    folder = corpus(tmp_path / "corpus", "captions_test", texts, videos, relevance)
    store(tmp_path / "embeddings/all/texts", texts)
    store(tmp_path / "embeddings/all/videos", {v: r for v, r in videos.items() if v != "v7"})
    return folder, tmp_path / "embeddings", videos, texts


@pytest.mark.parametrize("kind", ["text_video", "video_text"])
def test_captions_both_ways(tmp_path, captions, kind):
    folder, embeddings, videos, texts = captions
    arguments = {"split": "captions_test", "kind": kind, "top": 3}
    search(corpus=folder, embeddings=embeddings, output=tmp_path / "found", **arguments)
    about = read(tmp_path / "found/all", "search.json")
    assert about["missing"] == ["v7"] and about["counts"]["pairs left out"] == 2 and about["counts"]["pairs"] == 78
    names = [list(texts), [v for v in videos if v != "v7"]]
    rows = [
        unit_rows(np.array([side[i] for i in ids], np.float32))
        for side, ids in zip((texts, videos), names, strict=True)
    ]
    sims = rows[0].astype(float) @ rows[1].T.astype(float)
    if kind == "video_text":
        sims, names = sims.T, names[::-1]
    table = tables.read("rankings", tmp_path / "found/all")
    for q, r, score, grade, better, equal in table.iter_rows():
        i, j = names[0].index(q), names[1].index(r)
        assert score == pytest.approx(sims[i, j], abs=1e-6)
        assert better == (sims[i] > sims[i, j] + 1e-9).sum() and equal == 0
        assert (grade == 1) == (q.split("#")[0] == r.split("#")[0])
    nearest = table.filter(pl.col("better") < 3).group_by("query_id").len()["len"]
    assert nearest.to_list() == [3] * len(names[0])  # the best three of every query, judged or not
    evaluate(rankings=tmp_path / "found", output=tmp_path / "m", metrics=["R@1", "R@5", "MdR", "MnR", "mAP"])
    result = read(tmp_path / "m/all", "metrics.json")
    best = table.filter(pl.col("grade") == 1).group_by("query_id").agg(pl.col("better").min())["better"]
    assert result["metrics"]["R@5"] == pytest.approx(100 * (best < 5).mean())
    assert result["metrics"]["MnR"] == pytest.approx((best + 1).mean())
    assert result["counts"]["items without embedding"] == 1
    assert result["counts"]["queries"] == {"text_video": 78, "video_text": 39}[kind]
    # captions and their video are one unit, either way
    assert (result["resampled"]["units"], result["resampled"]["name"]) == (39, "videos")
    statistics = tables.read("statistics", tmp_path / "m/all")
    hits = statistics.filter(pl.col("statistic") == "R@5").group_by("first").agg(pl.col("value").sum())
    assert len(hits) == 39 and hits["value"].sum() == pytest.approx(result["metrics"]["R@5"] * len(best))
    assert set(statistics["statistic"]) == {"R@1", "R@5", "rank", "average precision"}
    assert {"R@1", "R@5", "MdR", "MnR", "mAP"} == same_value(result, statistics)
    if kind == "text_video":
        assert result["chance"]["R@1"] == pytest.approx(100 / 39) and result["chance"]["MdR"] == 20


def test_graded_pairs_and_a_video_never_meets_itself(tmp_path):
    rng = np.random.default_rng(1)
    videos = {str(10**18 + n): rng.normal(size=6) for n in range(30)}
    ids = list(videos)
    pairs = [(a, b, round(float(rng.random()), 2)) for a, b in zip(ids, ids[1:] + ids[:1], strict=True)]
    pairs += [(ids[0], ids[0], 1.0), (ids[0], "elsewhere", 1.0)]
    folder = corpus(tmp_path / "corpus", "pairs_test", ids, ids, pairs)
    store(tmp_path / "e/all/videos", videos)
    search(corpus=folder, embeddings=tmp_path / "e", output=tmp_path / "f", split="pairs_test", kind="video_video")
    table = tables.read("rankings", tmp_path / "f/all")
    assert not (table["query_id"] == table["reference_id"]).any()
    judged = table.filter(pl.col("grade").is_not_null())
    assert len(judged) == 30
    assert table.group_by("query_id").len()["len"].min() == 10
    metrics = ["Spearman", "Pearson", "MSE", "MSE (plain)", "MnR"]
    evaluate(rankings=tmp_path / "f", output=tmp_path / "m", metrics=metrics)
    result = read(tmp_path / "m/all", "metrics.json")
    cosine = {(a, b): np.dot(*unit_rows(np.array([videos[a], videos[b]]))) for a, b, _ in pairs[:30]}
    score, grade = np.array(list(cosine.values())), np.array([g for _, _, g in pairs[:30]])
    assert result["metrics"]["Spearman"] == pytest.approx(correlation.spearman(score, grade))
    expected = np.mean((score - correlation.rank_normalised(grade)) ** 2)
    assert result["metrics"]["MSE"] == pytest.approx(expected, rel=1e-6)
    assert result["metrics"]["MSE (plain)"] == pytest.approx(np.mean((score - grade) ** 2), rel=1e-6)
    assert result["chance"]["MnR"] == 15 and result["chance"]["Spearman"] == 0  # 29 references: not itself
    assert result["chance"]["MSE (plain)"] == pytest.approx(grade.var()), "of the best constant"
    assert same_value(result, tables.read("statistics", tmp_path / "m/all")) == set(metrics)


def test_vectors_that_say_so_are_compared_as_they_are(tmp_path, captions):
    folder, embeddings, videos, texts = captions
    arguments = {"corpus": folder, "embeddings": embeddings, "split": "captions_test", "top": 1}
    tables_of = {}
    for score in ("cosine", "dot"):
        about = {"videos": {}, "texts": {}, **({} if score == "cosine" else {"score": score})}
        (embeddings / "all/embed.json").write_text(json.dumps(about))
        for kind in ("text_video", "video_text"):
            search(output=tmp_path / score / kind, kind=kind, **arguments)
            tables_of[score, kind] = tables.read("rankings", tmp_path / score / kind / "all")
    present = [v for v in videos if v != "v7"]
    sims = np.array(list(texts.values()), np.float32).astype(float) @ np.array(
        [videos[v] for v in present], np.float32
    ).T.astype(float)
    for q, r, score, _, better, _ in tables_of["dot", "video_text"].iter_rows():
        column = sims[:, present.index(q)]
        own = column[list(texts).index(r)]
        assert score == pytest.approx(own, rel=1e-6) and better == (column > own + 1e-9).sum()
    for kind in ("text_video", "video_text"):  # the length of the references matters
        one, other = (tables_of[score, kind].filter(pl.col("grade") == 1)["better"] for score in ("cosine", "dot"))
        assert (one != other).any()


def test_same_input_same_bytes(tmp_path, captions):
    folder, embeddings, *_ = captions
    for name in "ab":
        out = tmp_path / name
        search(corpus=folder, embeddings=embeddings, output=out, split="captions_test", kind="text_video")
        evaluate(rankings=out, output=out / "m", metrics=["R@1"])
    for name in ("all/rankings.parquet", "all/search.json", "m/all/metrics.json", "m/all/statistics.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.fixture
def crowd(tmp_path):
    """600 videos around 20 centres, of which all are queries, and two are judged; some have no embedding."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(20, 8))
    videos = {f"v{n}": centres[n % 20] + 0.4 * rng.normal(size=8) for n in range(600)}
    folder = corpus(tmp_path / "corpus", "s", [], list(videos)[:500], [("v3", "v23", 1.0), ("v4", "v9", 0.0)])
    for member in "ab":
        store(tmp_path / f"e/{member}/videos", {v: r for v, r in videos.items() if v != "v7"})
    return {"corpus": folder, "embeddings": tmp_path / "e", "split": "s", "kind": "video_video"}


def test_beyond_a_size_neighbours_are_looked_up_and_judged_pairs_stay_exact(tmp_path, crowd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, most in (("exact", None), ("few", 499), ("many", 400)):
        search_.search(**crowd, output=tmp_path / name, members={"a": None}, exact_up_to=most)
        assert [p.name for p in (tmp_path / name).iterdir()] == ["a"]
    whole, few, many = (tables.read("rankings", tmp_path / name / "a") for name in ("exact", "few", "many"))
    assert few.equals(whole) and "approximate" not in read(tmp_path / "few/a", "search.json")
    about = read(tmp_path / "many/a", "search.json")["approximate"]
    assert (about["queries"], about["sample"], about["top"]) == (497, 256, 10)
    for table in (many, whole):  # all of the queries that have judged pairs
        assert table.filter(pl.col("query_id").is_in(["v3", "v4"])).equals(
            whole.filter(pl.col("query_id").is_in(["v3", "v4"]))
        )
    keys = ["query_id", "reference_id"]
    assert many.select(keys).is_duplicated().sum() == 0 and set(many["reference_id"]) <= {f"v{n}" for n in range(500)}
    both = many.join(whole, on=keys)
    assert (both["score"] == both["score_right"]).all()
    assert 0.9 < about["recall"] == pytest.approx(len(both) / len(whole), abs=0.02)
    evaluate_.evaluate(
        members=["a"], corpus=crowd["corpus"], rankings=tmp_path / "many", output=tmp_path / "m", metrics=["MnR"]
    )
    assert read(tmp_path / "m/a", "metrics.json")["approximate"] == about


def test_a_killed_search_goes_on_with_the_next_member(tmp_path, crowd, monkeypatch):
    members = {"a": None, "b": None}
    search_.search(**crowd, output=tmp_path / "whole", members=members)
    done, plain = [], search_.exact.search

    def killed(*given, **options):
        done.append(given)
        if len(done) == 2:
            raise KeyboardInterrupt
        return plain(*given, **options)

    monkeypatch.setattr(search_.exact, "search", killed)
    again = {"members": members, "scratch": tmp_path / "scratch"}
    with pytest.raises(KeyboardInterrupt):
        search_.search(**crowd, output=tmp_path / "first", **again)
    search_.search(**crowd, output=tmp_path / "second", **again)
    assert len(done) == 3
    for member in members:
        for name in ("rankings.parquet", "search.json"):
            paths = (tmp_path / folder / member / name for folder in ("whole", "second"))
            assert len({path.read_bytes() for path in paths}) == 1


def test_a_collapsed_system_gets_chance(tmp_path):
    videos = {f"v{n}": [1.0, 2.0] for n in range(20)}
    texts = {f"t{n}": [3.0, 1.0] for n in range(20)}
    folder = corpus(tmp_path / "c", "s", texts, videos, [(f"t{n}", f"v{n}", 1.0) for n in range(20)])
    store(tmp_path / "e/all/videos", videos)
    store(tmp_path / "e/all/texts", texts)
    search(corpus=folder, embeddings=tmp_path / "e", output=tmp_path / "f", split="s", kind="text_video")
    evaluate(rankings=tmp_path / "f", output=tmp_path / "m", metrics=["R@1", "R@10", "MdR", "mAP"])
    result = read(tmp_path / "m/all", "metrics.json")
    assert result["metrics"] == result["chance"] and result["metrics"]["R@1"] == 5


def test_the_right_video_among_its_own_group_alone(tmp_path, captions):
    """Families of four; v3's embedding is v2's, so they tie, and v7 has none, so its family has three."""
    folder, _, videos, texts = captions
    videos["v3"] = videos["v2"]
    store(tmp_path / "e/all/videos", {v: r for v, r in videos.items() if v != "v7"})
    store(tmp_path / "e/all/texts", texts)
    family = {v: str(int(v[1:]) // 4) for v in videos}
    facts = [(v, "family", f, None, None) for v, f in family.items()] + [("v0#0", "colour", "red", None, None)]
    tables.write("facts", tables.frame("facts", facts), folder)
    arguments = {"corpus": folder, "embeddings": tmp_path / "e", "split": "captions_test", "top": 1}
    search(output=tmp_path / "f", kind="text_video", groups=["family"], **arguments)
    evaluate_.evaluate(
        members=["all"], corpus=folder, rankings=tmp_path / "f", output=tmp_path / "m", metrics=["R@1 (family)", "R@1"]
    )
    result = read(tmp_path / "m/all", "metrics.json")
    hits = []
    for text, row in texts.items():
        own = text.split("#")[0]
        if own == "v7":
            continue
        cosine = {v: unit_rows(np.array([row, r], np.float32)) for v, r in videos.items() if v != "v7"}
        scores = {
            v: float(a.astype(float) @ b.astype(float)) for v, (a, b) in cosine.items() if family[v] == family[own]
        }
        best = [v for v, score in scores.items() if score == max(scores.values())]
        hits.append(100 * (own in best) / len(best))
    assert 50 in hits and result["metrics"]["R@1 (family)"] == pytest.approx(np.mean(hits))
    assert result["metrics"]["R@1"] < result["metrics"]["R@1 (family)"]
    sizes = [3 if family[v] == "1" else 4 for v in videos if v != "v7" for _ in range(2)]
    assert result["chance"]["R@1 (family)"] == pytest.approx(np.mean([100 / n for n in sizes]))
    statistics = tables.read("statistics", tmp_path / "m/all")
    assert same_value(result, statistics) == {"R@1 (family)", "R@1"}
    judged = tables.read("rankings", tmp_path / "f/all").filter(pl.col("grade").is_not_null())
    search(output=tmp_path / "plain", kind="text_video", **arguments)
    assert judged.equals(tables.read("rankings", tmp_path / "plain/all").filter(pl.col("grade").is_not_null()))
    with pytest.raises(ValueError, match="no reference has a fact of factor 'family'"):  # captions are of no family
        search(output=tmp_path / "x", kind="video_text", groups=["family"], **arguments)
    with pytest.raises(ValueError, match="no factor named 'famly'; did you mean 'family'"):
        search(output=tmp_path / "x", kind="text_video", groups=["famly"], **arguments)


def test_what_is_wrong_is_named(tmp_path, captions):
    folder, embeddings, videos, _ = captions
    captions_test = {"split": "captions_test", "kind": "text_video"}
    with pytest.raises(ValueError, match="no split 'tset'"):
        search(corpus=folder, embeddings=embeddings, output=tmp_path / "x", **captions_test | {"split": "tset"})
    search(corpus=folder, embeddings=embeddings, output=tmp_path / "f", **captions_test)
    (embeddings / "all/embed.json").write_text(json.dumps({"score": "angle"}))
    with pytest.raises(ValueError, match="score 'angle', expected cosine or dot"):
        search(corpus=folder, embeddings=embeddings, output=tmp_path / "x", **captions_test)
    for options, message in (
        ({"metrics": ["spearmann"]}, "did you mean 'Spearman'"),
        ({"metrics": ["R@0"]}, "no metric named 'R@0'; did you mean 'R@"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(rankings=tmp_path / "f", output=tmp_path / "x", **options)
    store(tmp_path / "bad/all/videos", dict.fromkeys(videos, [np.nan] * 12))
    store(tmp_path / "bad/all/texts", captions[3])
    with pytest.raises(ValueError, match="embedding of 'v0' is not finite"):
        search(corpus=folder, embeddings=tmp_path / "bad", output=tmp_path / "x", **captions_test)
