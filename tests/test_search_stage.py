"""From embeddings to metrics: search, evaluate and combine on small corpora whose answers are known."""

import json

import numpy as np
import polars as pl
import pytest

from paths import fixtures
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.metrics import correlation
from videomatch.similarity import normalise
from videomatch.stages.combine import combine, components, concatenate
from videomatch.stages.evaluate import evaluate
from videomatch.stages.search import search


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


@pytest.fixture
def captions(tmp_path):
    """40 videos, 2 captions each, near them; video v7 has no embedding."""
    rng = np.random.default_rng(0)
    videos = {f"v{n}": rng.normal(size=12) for n in range(40)}
    texts = {f"v{n}#{k}": videos[f"v{n}"] + rng.normal(size=12) * 1.2 for n in range(40) for k in range(2)}
    relevance = [(t, t.split("#")[0], 1.0) for t in texts]
    folder = corpus(tmp_path / "corpus", "captions_test", texts, videos, relevance)
    store(tmp_path / "embeddings/texts", texts)
    store(tmp_path / "embeddings/videos", {v: r for v, r in videos.items() if v != "v7"})
    return folder, tmp_path / "embeddings", videos, texts


@pytest.mark.parametrize("kind", ["text_video", "video_text"])
def test_captions_both_ways(tmp_path, captions, kind):
    folder, embeddings, videos, texts = captions
    arguments = {"split": "captions_test", "kind": kind, "top": 3}
    search(corpus=folder, embeddings=[embeddings], output=tmp_path / "found", **arguments)
    about = read(tmp_path / "found", "search.json")
    assert about["missing"] == ["v7"] and about["counts"]["pairs left out"] == 2 and about["counts"]["pairs"] == 78
    names = [list(texts), [v for v in videos if v != "v7"]]
    rows = [
        normalise(np.array([side[i] for i in ids], np.float32))
        for side, ids in zip((texts, videos), names, strict=True)
    ]
    sims = rows[0].astype(float) @ rows[1].T.astype(float)
    if kind == "video_text":
        sims, names = sims.T, names[::-1]
    table = tables.read("rankings", tmp_path / "found")
    for q, r, score, grade, better, equal in table.iter_rows():
        i, j = names[0].index(q), names[1].index(r)
        assert score == pytest.approx(sims[i, j], abs=1e-6)
        assert better == (sims[i] > sims[i, j] + 1e-9).sum() and equal == 0
        assert (grade == 1) == (q.split("#")[0] == r.split("#")[0])
    nearest = table.filter(pl.col("better") < 3).group_by("query_id").len()["len"]
    assert nearest.to_list() == [3] * len(names[0])  # the best three of every query, judged or not
    evaluate(
        corpus=folder, rankings=tmp_path / "found", output=tmp_path / "m", metrics=["R@1", "R@5", "MdR", "MnR", "mAP"]
    )
    result = read(tmp_path / "m", "metrics.json")
    best = table.filter(pl.col("grade") == 1).group_by("query_id").agg(pl.col("better").min())["better"]
    assert result["metrics"]["R@5"] == pytest.approx(100 * (best < 5).mean())
    assert result["metrics"]["MnR"] == pytest.approx((best + 1).mean())
    assert result["counts"]["items without embedding"] == 1
    assert result["counts"]["queries"] == {"text_video": 78, "video_text": 39}[kind]
    if kind == "text_video":
        assert result["chance"]["R@1"] == pytest.approx(100 / 39) and result["chance"]["MdR"] == 20
        p = result["metrics"]["R@1"] / 100  # the bootstrap's error of a proportion
        assert result["spread"]["R@1"] == pytest.approx(100 * np.sqrt(p * (1 - p) / 78), rel=0.2)


def test_graded_pairs_and_a_video_never_meets_itself(tmp_path):
    rng = np.random.default_rng(1)
    videos = {str(10**18 + n): rng.normal(size=6) for n in range(30)}
    ids = list(videos)
    pairs = [(a, b, round(float(rng.random()), 2)) for a, b in zip(ids, ids[1:] + ids[:1], strict=True)]
    pairs += [(ids[0], ids[0], 1.0), (ids[0], "elsewhere", 1.0)]
    folder = corpus(tmp_path / "corpus", "pairs_test", ids, ids, pairs)
    store(tmp_path / "e/videos", videos)
    search(corpus=folder, embeddings=[tmp_path / "e"], output=tmp_path / "f", split="pairs_test", kind="video_video")
    table = tables.read("rankings", tmp_path / "f")
    assert not (table["query_id"] == table["reference_id"]).any()
    judged = table.filter(pl.col("grade").is_not_null())
    assert len(judged) == 30
    assert table.group_by("query_id").len()["len"].min() == 10
    metrics = ["Spearman", "Pearson", "MSE", "MSE (plain)", "MnR"]
    evaluate(corpus=folder, rankings=tmp_path / "f", output=tmp_path / "m", metrics=metrics)
    result = read(tmp_path / "m", "metrics.json")
    cosine = {(a, b): np.dot(*normalise(np.array([videos[a], videos[b]]))) for a, b, _ in pairs[:30]}
    score, grade = np.array(list(cosine.values())), np.array([g for _, _, g in pairs[:30]])
    assert result["metrics"]["Spearman"] == pytest.approx(correlation.spearman(score, grade))
    expected = np.mean((score - correlation.rank_normalised(grade)) ** 2)
    assert result["metrics"]["MSE"] == pytest.approx(expected, rel=1e-6)
    assert result["metrics"]["MSE (plain)"] == pytest.approx(np.mean((score - grade) ** 2), rel=1e-6)
    assert result["chance"]["MnR"] == 15 and result["chance"]["Spearman"] == 0  # 29 references: not itself
    assert set(result["spread"]) == set(metrics)


def test_same_input_same_bytes(tmp_path, captions):
    folder, embeddings, *_ = captions
    for name in "ab":
        out = tmp_path / name
        search(corpus=folder, embeddings=[embeddings], output=out, split="captions_test", kind="text_video")
        evaluate(corpus=folder, rankings=out, output=out / "m", metrics=["R@1"])
    for name in ("rankings.parquet", "search.json", "m/metrics.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_collapsed_system_gets_chance(tmp_path):
    videos = {f"v{n}": [1.0, 2.0] for n in range(20)}
    texts = {f"t{n}": [3.0, 1.0] for n in range(20)}
    folder = corpus(tmp_path / "c", "s", texts, videos, [(f"t{n}", f"v{n}", 1.0) for n in range(20)])
    store(tmp_path / "e/videos", videos)
    store(tmp_path / "e/texts", texts)
    search(corpus=folder, embeddings=[tmp_path / "e"], output=tmp_path / "f", split="s", kind="text_video")
    evaluate(corpus=folder, rankings=tmp_path / "f", output=tmp_path / "m", metrics=["R@1", "R@10", "MdR", "mAP"])
    result = read(tmp_path / "m", "metrics.json")
    assert result["metrics"] == result["chance"] and result["metrics"]["R@1"] == 5


def test_what_is_wrong_is_named(tmp_path, captions):
    folder, embeddings, videos, _ = captions
    for changed, message in (
        ({"kind": "videos"}, "no kind 'videos' of search; there are video_video"),
        ({"split": "tset"}, "no split 'tset'"),
    ):
        arguments = {"split": "captions_test", "kind": "text_video"} | changed
        with pytest.raises(ValueError, match=message):
            search(corpus=folder, embeddings=[embeddings], output=tmp_path / "x", **arguments)
    search(corpus=folder, embeddings=[embeddings], output=tmp_path / "f", split="captions_test", kind="text_video")
    for options, message in (
        ({"metrics": ["spearmann"]}, "did you mean 'Spearman'"),
        ({"metrics": ["R@0"]}, "no metric 'R@0'"),
        ({"metrics": ["R@1"], "convention": "mine"}, "no convention 'mine'; there are house"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(corpus=folder, rankings=tmp_path / "f", output=tmp_path / "x", **options)
    store(tmp_path / "bad/videos", dict.fromkeys(videos, [np.nan] * 12))
    store(tmp_path / "bad/texts", captions[3])
    with pytest.raises(ValueError, match="embedding of 'v0' is not finite"):
        search(
            corpus=folder,
            embeddings=[tmp_path / "bad"],
            output=tmp_path / "x",
            split="captions_test",
            kind="text_video",
        )


def test_combined_cosines_are_weighted_means(tmp_path):
    rng = np.random.default_rng(2)
    ids = [f"v{n}" for n in range(25)]
    members = [rng.normal(size=(25, d)) * 10 for d in (5, 7)]
    store(tmp_path / "0/videos", dict(zip(ids, members[0], strict=True)))
    store(tmp_path / "1/videos", {i: r for i, r in zip(ids[::-1], members[1][::-1], strict=True) if i != "v3"})
    folders = [tmp_path / "0", tmp_path / "1"]
    combine(embeddings=folders, output=tmp_path / "out", weights=[3, 1])
    about = read(tmp_path / "out", "combine.json")
    assert about["missing"]["videos"] == ["v3"] and about["counts"]["videos"] == 24
    combined = Store.open(tmp_path / "out/videos")
    rows, _ = combined.gather(ids[:3])
    cosines = [normalise(m[:3]) @ normalise(m[:3]).T for m in members]
    np.testing.assert_allclose(rows @ rows.T, 0.75 * cosines[0] + 0.25 * cosines[1], atol=1e-6)
    combine(embeddings=folders, output=tmp_path / "all", weights=[3, 1], dim=12)  # no smaller than the members
    np.testing.assert_array_equal(Store.open(tmp_path / "all/videos").gather(ids[:3])[0], rows)
    for weights in ([1], [1, -1], [0, 0]):
        with pytest.raises(ValueError, match="expected 2 numbers"):
            combine(embeddings=folders, output=tmp_path / "x", weights=weights)


def test_combining_projects_texts_and_videos_alike(tmp_path, monkeypatch):
    monkeypatch.setattr("videomatch.stages.combine.ROWS", 7)  # several chunks, the last one short
    rng = np.random.default_rng(3)
    basis = rng.normal(size=(3, 8))  # rank 3: three directions lose nothing
    for member in "01":
        for part in ("videos", "texts"):
            store(tmp_path / member / part, {f"{part}{n}": rng.normal(size=3) @ basis for n in range(20)})
    folders = [tmp_path / "0", tmp_path / "1"]
    combine(embeddings=folders, output=tmp_path / "full")
    combine(embeddings=folders, output=tmp_path / "few", dim=6)
    assert read(tmp_path / "few", "combine.json")["energy"] == pytest.approx(1)
    cosines = []
    for name in ("full", "few"):
        sides = [Store.open(tmp_path / name / part) for part in ("videos", "texts")]
        left, right = (s.gather(s.ids)[0] for s in sides)
        cosines.append(left @ right.T)
    np.testing.assert_allclose(cosines[0], cosines[1], atol=1e-6)


def test_fixture_ensemble(tmp_path):
    arrays = np.load(fixtures() / "aiac_ensemble.npz", allow_pickle=False)
    members, size = list(arrays["embeddings"]), len(arrays["embeddings"][0])
    rows = concatenate(members, np.full(6, 1 / 6))
    unit = normalise(rows)
    np.testing.assert_allclose(unit[:50] @ unit[:50].T, arrays["expected_concat_cos_first50"], atol=1e-9)
    dim = int(arrays["n_components"])
    directions, _ = components(iter([rows[:200], rows[200:]]), dim)
    projected = rows @ directions
    np.testing.assert_allclose(np.abs(projected[:10]), arrays["expected_abs_projection_first10"], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=1), arrays["expected_row_norm"], atol=1e-9)
    few = normalise(projected)
    np.testing.assert_allclose(few[:50] @ few[:50].T, arrays["expected_cos_first50"], atol=1e-9)
    np.testing.assert_allclose((few @ few.T)[np.triu_indices(size, 1)], arrays["expected_cos_upper"], atol=1e-6)
    a, b, target = arrays["pair_a"], arrays["pair_b"], correlation.rank_normalised(arrays["pair_score"])
    systems = [*(normalise(m.astype(float)) for m in members), few, unit]
    for system, (spearman, mse) in zip(systems, arrays["spearman_mse"], strict=True):
        score = (system[a] * system[b]).sum(axis=1)
        assert correlation.spearman(score, target) == pytest.approx(spearman, abs=1e-6)
        assert correlation.mse(score, target) == pytest.approx(mse, abs=1e-6)
    ids = [str(n) for n in range(size)]
    for number, member in enumerate(members):
        store(tmp_path / str(number) / "videos", dict(zip(ids, member, strict=True)))
    combine(embeddings=[tmp_path / str(n) for n in range(6)], output=tmp_path / "out", dim=dim)
    stored = Store.open(tmp_path / "out/videos").gather(ids)[0].astype(float)
    np.testing.assert_allclose((stored @ stored.T)[np.triu_indices(size, 1)], arrays["expected_cos_upper"], atol=1e-6)
