"""Folds over labelled pairs."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paths import realdata
from videomatch.data import tables
from videomatch.data.pairs import assign, fold_pairs, judged_pairs

pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=150)


def _names(found):
    return [str(a) for a, _ in found], [str(b) for _, b in found]


def _validated(left, right):
    """How many pairs validate in each of five folds."""
    assigned = assign(left, right, folds=5)
    whole = [assigned[a] for a, b in zip(left, right, strict=True) if assigned[a] == assigned[b]]
    return np.bincount(whole, minlength=5).tolist()


@settings(max_examples=60, deadline=None)
@given(pairs, st.integers(2, 5))
def test_every_video_gets_a_fold(found, k):
    left, right = _names(found)
    assigned = assign(left, right, folds=k)
    assert set(assigned) == {*left, *right} and set(assigned.values()) <= set(range(k))


def test_the_order_of_the_pairs_and_of_their_sides_does_not_matter():
    rng = np.random.default_rng(0)
    found = [tuple(rng.integers(0, 200, 2).tolist()) for _ in range(300)]
    left, right = _names(found)
    assert assign(left, right) == assign(right[::-1], left[::-1])


def test_small_components_stay_whole_and_folds_are_balanced():
    left, right = [f"a{n}" for n in range(1000)], [f"b{n}" for n in range(1000)]
    assert _validated(left, right) == [200] * 5


def test_a_component_of_planted_groups_is_cut_between_them():
    rng = np.random.default_rng(1)
    inside = [(g * 100 + a, g * 100 + b) for g in range(5) for a, b in rng.integers(0, 100, (500, 2)).tolist()]
    between = [(g * 100, (g + 1) % 5 * 100 + 1) for g in range(5)]  # five pairs tie the groups into one component
    left, right = _names(inside + between)
    assert sum(_validated(left, right)) >= 0.9 * len(inside)


def test_remainder_wants_exact_ids(tmp_path):
    def validated(fold, *rows):
        corpus = corpus_of(tmp_path, {"pairs": [(*pair, 1.0) for pair in rows]})
        return fold_pairs(corpus, "pairs", fold=fold, folds=5, protocol="remainder")[1]["query_id"].to_list()

    # 2^53 + 1 as a float would end in 2
    assert validated(0, ("9007199254740993", "5"), ("10", "20")) == ["10"]
    assert validated(3, ("9007199254740993", "3")) == ["9007199254740993"]
    assert validated(2, ("w0000012", "v7"), ("clip9007199254740993", "v3")) == ["w0000012"]
    assert validated(3, ("w9007199254740993", "v0000003")) == ["w9007199254740993"]
    for odd in ("1.5e18", "", "-5", "1e18", "1.5", "w", "w1.5", "w-5", "w1e18", "五"):
        with pytest.raises(ValueError, match="string of digits"):
            validated(0, (odd, "5"))


def test_both_protocols_on_the_labels_of_the_competition_real(tmp_path):
    path = realdata() / "aiac_tencent" / "zlaom+2021_QQ_AIAC_Tack1_15st" / "pairwise_score.csv"
    labels = pl.read_csv(path, schema_overrides={"id_1": pl.String, "id_2": pl.String})
    sides = ("pairs", "query", labels["id_1"]), ("pairs", "reference", labels["id_2"])
    corpus = tmp_path
    judged = labels.rename({"id_1": "query_id", "id_2": "reference_id", labels.columns[2]: "grade"})
    tables.write("relevance", judged, corpus)
    tables.write(
        "splits", pl.concat([pl.DataFrame({"split": s, "role": r, "id": i.unique()}) for s, r, i in sides]), corpus
    )
    train, val = fold_pairs(corpus, "pairs", fold=0, folds=5, protocol="remainder")
    assert (len(train), len(val)) == (65_373, 2_526)
    # the winners' log: 65,373 / 2,526 pairs, 3,574 videos, of which 1,625 also train
    videos = [{*part["query_id"], *part["reference_id"]} for part in (train, val)]
    assert (len(videos[1]), len(videos[0] & videos[1])) == (3_574, 1_625)
    # 63 % of the pairs hang together in one component; random folds of it would keep a fifth of those for validation
    counts = _validated(labels["id_1"].to_list(), labels["id_2"].to_list())
    assert sum(counts) == pytest.approx(62_272, abs=600)  # of 67,899
    assert min(counts) > 0.95 * max(counts)
    assert len(fold_pairs(corpus, "pairs", fold=0, folds=5)[0]) > 51_000


def corpus_of(folder, protocols):
    """A corpus of judged pairs: protocol -> (query, reference, grade)."""
    rows = [row for listed in protocols.values() for row in listed]
    splits = [
        (name, role, i)
        for name, listed in protocols.items()
        for n, role in enumerate(("query", "reference"))
        for i in sorted({row[n] for row in listed})
    ]
    tables.write("splits", tables.frame("splits", splits), folder)
    tables.write("relevance", tables.frame("relevance", rows), folder)
    return folder


def drawn_pairs(rng, count, videos, prefix="w"):
    ids = rng.integers(0, videos, (count, 2))
    return [
        (f"{prefix}{a:07d}", f"{prefix}{b:07d}", float(g)) for (a, b), g in zip(ids, rng.random(count), strict=True)
    ]


def test_pairs_of_a_protocol_are_its_judged_rows_in_order(tmp_path):
    corpus = corpus_of(
        tmp_path,
        {
            "pairs_a": [("w1", "w2", 0.5), ("w2", "w1", 0.5), ("w1", "w2", 0.5), ("w3", "w3", 1.0)],
            "pairs_b": [("w2", "w3", 0.1)],
        },
    )
    # (w1, w2) is judged twice and also the other way round: three rows; w3 with itself is no pair
    assert judged_pairs(corpus, "pairs_a").rows() == [
        ("w1", "w2", 0.5),
        ("w2", "w1", 0.5),
        ("w1", "w2", 0.5),
        ("w2", "w3", 0.1),
    ]
    assert judged_pairs(corpus, "pairs_b").rows() == [("w2", "w3", 0.1)]
    pooled = judged_pairs(corpus, ["pairs_b", "pairs_a"])
    assert pooled.rows() == [("w2", "w3", 0.1), ("w1", "w2", 0.5), ("w2", "w1", 0.5), ("w1", "w2", 0.5)]
    with pytest.raises(ValueError, match="no split 'pairs_c'"):
        judged_pairs(corpus, ["pairs_a", "pairs_c"])


@pytest.mark.parametrize("protocol", ["disjoint", "remainder"])
def test_pairs_of_folds_are_a_partition(tmp_path, protocol):
    rng = np.random.default_rng(5)
    # components of a few videos, so that folds without a common video lose little
    listed = {"pairs_train": drawn_pairs(rng, 150, 400), "pairs_val": drawn_pairs(rng, 60, 200, prefix="x")}
    corpus = corpus_of(tmp_path, listed)
    pooled = judged_pairs(corpus, ["pairs_train", "pairs_val"])
    validated = []
    for fold in range(3):
        train, val = fold_pairs(corpus, ["pairs_train", "pairs_val"], fold=fold, folds=3, protocol=protocol)
        assert train.columns == val.columns == ["query_id", "reference_id", "grade"]
        assert len(val) and not set(train.rows()) & set(val.rows())
        assert [row for row in pooled.rows() if row in set(val.rows())] == val.rows()
        validated += val.rows()
        videos = [{*part["query_id"], *part["reference_id"]} for part in (train, val)]
        if protocol == "disjoint":
            assert not videos[0] & videos[1]
        else:
            assert len(train) + len(val) == len(pooled)
            assert {int(i[1:]) % 3 for i in videos[1]} == {fold}
        again = fold_pairs(corpus, ["pairs_train", "pairs_val"], fold=fold, folds=3, protocol=protocol)
        assert again[0].equals(train) and again[1].equals(val)
    assert len(validated) == len(set(validated))
    if protocol == "disjoint":
        assert len(validated) > 0.9 * len(pooled)


def test_folds_that_cannot_be_are_refused(tmp_path):
    corpus = corpus_of(tmp_path, {"pairs_train": [("w1", "w2", 0.5), ("w3", "w4", 0.1)]})
    with pytest.raises(ValueError, match="fold 2 of 2"):
        fold_pairs(corpus, "pairs_train", fold=2, folds=2)
    with pytest.raises(ValueError, match="fold 0 of 1"):
        fold_pairs(corpus, "pairs_train", fold=0, folds=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no judged pair"):
        judged_pairs(corpus_of(tmp_path / "empty", {"pairs_train": [("w1", "w1", 1.0)]}), "pairs_train")
