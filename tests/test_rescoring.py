"""Rescoring against the whole matrix written out; blocks, ties, limits, and the stage ``search``."""

import json
from dataclasses import replace

import numpy as np
import pytest

from test_exact import counts
from test_search_stage import corpus as corpus_of
from test_search_stage import store
from videomatch.common.vectors import unit_rows
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.retrieval import exact, rescoring
from videomatch.retrieval.exact import Request
from videomatch.retrieval.rescoring import Frames, frame_max, qb_norm
from videomatch.stages import search as search_


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Case:
    """Queries, references with equal ones among them, frames, and a bank."""

    def __init__(self, seed=0, queries=23, references=41, dim=6):
        rng = np.random.default_rng(seed)
        self.queries, self.references = unit(rng, queries, dim), unit(rng, references, dim)
        self.lengths = rng.integers(1, 8, references)
        self.videos = [rng.normal(size=(n, 5)) for n in self.lengths]
        self.references[7], self.videos[7] = self.references[3], self.videos[3]
        self.references[9], self.videos[9] = self.references[3], self.videos[3]
        self.lengths = np.array([len(v) for v in self.videos])
        self.texts, self.bank = unit(rng, queries, 5), unit(rng, 30, dim)
        self.pairs = np.stack([rng.integers(0, queries, 60), rng.integers(0, references, 60)], axis=1)
        self.pairs[:3] = [[2, 3], [2, 7], [2, 9]]

    @property
    def frames(self) -> Frames:
        return Frames(self.texts, self.lengths, lambda first, last: np.concatenate(self.videos[first:last]))

    @property
    def cosines(self) -> list[np.ndarray]:
        """(Q, T) of every video."""
        return [self.texts @ (v / np.linalg.norm(v, axis=1, keepdims=True)).T for v in self.videos]

    def found(self, method, request, **options):
        inputs = {"qb_norm": [self.bank], "dual_softmax": []}.get(method, [self.frames])
        return getattr(rescoring, method)(self.queries, self.references, *inputs, request, **options)

    def naive(self, method) -> np.ndarray:
        """The matrix as the papers write it."""
        plain = self.queries @ self.references.T
        if method == "frame_max":
            return plain + 0.5 * np.stack([c.max(1) for c in self.cosines], axis=1)
        if method == "frame_softmax":
            rows = []
            for video, cosines in zip(self.videos, self.cosines, strict=True):
                weight = np.exp(cosines / 0.1)
                weight /= weight.sum(1, keepdims=True)
                pooled = weight @ (video / np.linalg.norm(video, axis=1, keepdims=True))
                rows.append((pooled * self.texts).sum(1) / np.linalg.norm(pooled, axis=1))
            return np.stack(rows, axis=1)
        if method == "qb_norm":
            banked = self.bank @ self.references.T
            normal = np.exp(20 * plain) / np.exp(20 * banked).sum(0)
            active = np.isin(plain.argmax(1), np.unique(banked.argmax(1)))
            return np.where(active[:, None], np.log(normal * len(banked)) / 20, plain)
        exponents = np.exp(100 * plain)
        return plain * exponents / exponents.sum(0)


METHODS = ["frame_max", "frame_softmax", "qb_norm", "dual_softmax"]


def check(found, matrix, request):
    """The result against a matrix of which equal scores may differ by rounding."""
    size = 10.0 ** np.floor(np.log10(np.abs(matrix)))
    matrix = np.round(matrix / size, 4) * size
    np.testing.assert_allclose(found.scores, matrix[request.pairs[:, 0], request.pairs[:, 1]], rtol=2e-4)
    better, equal = counts(matrix, request.pairs)
    np.testing.assert_array_equal(found.better, better)
    np.testing.assert_array_equal(found.equal, equal)
    for row, own in enumerate(matrix):
        order = np.lexsort((np.arange(len(own)), -own))[: request.top]
        np.testing.assert_allclose(found.top_scores[row], own[order], rtol=2e-4)
        assert len(set(found.top[row].tolist())) == request.top
        better, equal = counts(matrix, np.stack([np.full(request.top, row), found.top[row]], axis=1))
        np.testing.assert_array_equal(found.top_better[row], better)
        np.testing.assert_array_equal(found.top_equal[row], equal)


@pytest.mark.parametrize("memory", [1, 3000, 1 << 28])
@pytest.mark.parametrize("method", METHODS)
def test_equals_the_matrix_written_out(method, memory):
    case = Case()
    request = Request(case.pairs, top=5, memory=memory)
    check(case.found(method, request), case.naive(method), request)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_do_not_change_a_score(method):
    case = Case(1)
    one, other = (case.found(method, Request(case.pairs, top=4, memory=m)) for m in (1, 1 << 28))
    for name in one.__dataclass_fields__:
        is_exact = method != "frame_softmax" or name not in ("scores", "top_scores")
        compare = np.testing.assert_array_equal if is_exact else np.testing.assert_allclose
        compare(getattr(one, name), getattr(other, name))
    assert one.equal[:3].tolist() == [2, 2, 2]  # equal references tie to the last bit


@pytest.mark.parametrize("method", ["frame_max", "frame_softmax"])
def test_videos_may_be_the_queries(method):
    """The transposed matrix: videos that search for texts."""
    case = Case(2)
    pairs = case.pairs[:, ::-1]
    for memory in (1, 2000, 1 << 28):
        request = Request(pairs, top=3, memory=memory)
        found = getattr(rescoring, method)(case.references, case.queries, case.frames, request)
        check(found, case.naive(method).T, request)


def test_without_a_say_nothing_changes():
    case, request = Case(3), Request(Case(3).pairs, top=5)
    plain = exact.search(case.queries, case.references, request)
    found = case.found("frame_max", request, weight=0.0)
    np.testing.assert_allclose(found.scores, plain.scores, atol=1e-6)
    np.testing.assert_array_equal(found.better, plain.better)
    np.testing.assert_array_equal(found.top_better, plain.top_better)
    alike = qb_norm(case.queries, case.references, np.zeros((4, 6)), request)  # a bank that finds all equally
    np.testing.assert_array_equal(alike.better, plain.better)


def test_limits_of_the_temperature():
    case, request = Case(4), Request(Case(4).pairs)
    coldest = case.found("frame_softmax", request, temperature=1e-4)
    best = np.stack([c.max(1) for c in case.cosines], axis=1)
    np.testing.assert_allclose(coldest.scores, best[case.pairs[:, 0], case.pairs[:, 1]], atol=1e-3)
    warmest = case.found("frame_softmax", request, temperature=1e6)
    means = [(v / np.linalg.norm(v, axis=1, keepdims=True)).mean(0) for v in case.videos]
    cosine = case.texts @ unit_rows(np.stack(means)).T
    np.testing.assert_allclose(warmest.scores, cosine[case.pairs[:, 0], case.pairs[:, 1]], atol=1e-5)


def test_a_hub_is_found_less():
    # reference 0 is near everything; the bank finds it again and again, so that the second best comes first
    references = unit_rows(np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    bank = unit_rows(np.array([[1.0, 1.0, 0.9], [0.9, 1.0, 1.0], [1.0, 0.9, 1.0]]))
    query = unit_rows(np.array([[1.0, 0.45, 0.45]]))
    request = Request(np.array([[0, 1]]), top=1)
    assert exact.search(query, references, Request(top=1)).top[0, 0] == 0
    found = qb_norm(query, references, bank, request)
    assert found.top[0, 0] == 1 and found.better[0] == 0
    elsewhere = qb_norm(query, references, references[2:3], request)  # whose best is another: nothing is normalised
    assert elsewhere.top[0, 0] == 0
    before = bank.copy(), query.copy(), references.copy()
    qb_norm(query, references, bank, request)
    assert all(np.array_equal(a, b) for a, b in zip(before, (bank, query, references), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_excluded_is_not_found(method):
    case = Case(5, queries=41)
    own = np.arange(41)
    pairs = case.pairs[case.pairs[:, 0] != case.pairs[:, 1]]
    found = case.found(method, Request(pairs, top=41, exclude=own))
    assert not (found.top == own[:, None]).any() and (found.top[:, -1] == -1).all()
    assert (found.top[:, :-1] >= 0).all() and np.isfinite(found.scores).all()
    with pytest.raises(ValueError, match="excluded"):
        case.found(method, Request(np.array([[1, 1]]), exclude=own))


def test_what_does_not_fit_is_named():
    case, request = Case(), Request(Case().pairs)
    for options, message in (({"beta": 0.0}, "beta 0"), ({"beta": 1e5}, "beta 100000")):
        for method in ("qb_norm", "dual_softmax"):
            with pytest.raises(ValueError, match=message):
                case.found(method, request, **options)
    with pytest.raises(ValueError, match="temperature 0"):
        case.found("frame_softmax", request, temperature=0)
    with pytest.raises(ValueError, match="texts and frames of 41 videos"):
        frame_max(case.queries, case.references, replace(case.frames, texts=case.texts[:3]), request)
    with pytest.raises(ValueError, match="outside the 23 queries"):
        case.found("qb_norm", Request(np.array([[0, 41]])))


class Pairs:
    """Scores of pairs by a table; counts what is asked."""

    def __init__(self, table):
        self.table, self.asked = table, 0

    def __call__(self, queries, references):
        found = self.table[queries[:, None], references]
        self.asked += found.size
        return found


@pytest.mark.parametrize("memory", [1, 3000, 1 << 28])
@pytest.mark.parametrize("top", [1, 7, 41, 60, None])
def test_the_best_are_ranked_again(top, memory):
    case = Case(6)
    pairs = Pairs(np.random.default_rng(0).normal(size=(23, 41)) * 30)
    plain, request = case.queries @ case.references.T, Request(case.pairs, top=12, memory=memory)
    found = rescoring.rerank(case.queries, case.references, pairs, request, top=top)
    count = min(top or 41, 41)
    assert pairs.asked == 23 * count
    for row in range(23):
        order = np.lexsort((np.arange(41), np.round(-plain[row], 7)))
        again = sorted(order[:count], key=lambda n: -pairs.table[row, n])
        wanted = [*again, *order[count:]][:12]
        assert found.top[row].tolist() == wanted
        own = [n for n in range(len(case.pairs)) if case.pairs[n, 0] == row and case.pairs[n, 1] in again]
        np.testing.assert_array_equal(found.scores[own], pairs.table[row, case.pairs[own, 1]])
        np.testing.assert_array_equal(found.better[own], [again.index(case.pairs[n, 1]) for n in own])


@pytest.mark.parametrize("top", [7, None])
def test_the_best_are_ranked_by_a_share_of_both_scores(top):
    case = Case(6)
    table = np.random.default_rng(0).normal(size=(23, 41))
    plain, request = case.queries @ case.references.T, Request(case.pairs, top=7)
    found = rescoring.rerank(case.queries, case.references, Pairs(table), request, top=top, weight=0.3)
    for row in range(23):
        order = np.lexsort((np.arange(41), np.round(-plain[row], 7)))[:top]
        wanted = sorted(order, key=lambda n, row=row: -(0.3 * table[row, n] + 0.7 * plain[row, n]))
        assert found.top[row].tolist() == wanted[:7]
        np.testing.assert_allclose(found.top_scores[row], (0.3 * table + 0.7 * plain)[row, wanted[:7]], atol=1e-6)
    with pytest.raises(ValueError, match=r"weight 1\.5, expected"):
        rescoring.rerank(case.queries, case.references, Pairs(table), request, weight=1.5)


def test_the_best_are_ranked_again_without_what_is_excluded():
    case = Case(7, queries=41)
    pairs, own = Pairs(np.random.default_rng(0).normal(size=(41, 41))), np.arange(41)
    for top in (5, 41, None):
        found = rescoring.rerank(case.queries, case.references, pairs, Request(top=41, exclude=own), top=top)
        assert not (found.top == own[:, None]).any() and (found.top[:, -1] == -1).all()
        assert np.isfinite(found.top_scores[:, :-1]).all()
    with pytest.raises(ValueError, match="top 0"):
        rescoring.rerank(case.queries, case.references, pairs, Request(), top=0)


@pytest.fixture
def captions(tmp_path):
    """12 videos with 2 captions each in the test, 6 in the train split, as embeddings and as frames."""
    rng = np.random.default_rng(0)
    ids = [f"v{n}" for n in range(18)]
    videos = {v: rng.normal(size=8) for v in ids}
    texts = {f"{v}#{k}": videos[v] + rng.normal(size=8) for v in ids for k in range(2)}
    relevance = [(t, t.split("#")[0], 1.0) for t in texts]
    test = [t for t in texts if int(t[1:].split("#")[0]) < 12]
    folder = corpus_of(tmp_path / "corpus", "captions_test", test, ids[:12], relevance)
    rows = tables.read("splits", folder).rows() + [("train", "reference", v) for v in ids[12:]]
    tables.write("splits", tables.frame("splits", rows), folder)
    rows = [(t, t.split("#")[0], "caption", "en", None, None, "x") for t in texts]
    tables.write("texts", tables.frame("texts", rows), folder)
    store(tmp_path / "e/all/texts", texts)
    store(tmp_path / "e/all/videos", videos)
    with StoreWriter(tmp_path / "f/clip", shape=(8,), dtype="float32") as writer:
        for n, video in enumerate(ids):
            writer.add(video, (videos[video] + 0.3 * rng.normal(size=(1 + n % 4, 8))).astype(np.float32))
    return folder, tmp_path / "e", tmp_path / "f"


OPTIONS = {
    "frame_max": {"expert": "clip", "weight": 0.7},
    "frame_softmax": {"expert": "clip", "temperature": 0.2},
    "qb_norm": {"bank": "train", "beta": 10.0},
    "dual_softmax": {"beta": 50.0},
}


@pytest.mark.parametrize("kind", ["text_video", "video_text"])
@pytest.mark.parametrize("method", METHODS)
def test_search_rescores(method, kind, captions, tmp_path):
    folder, embeddings, features = captions
    rescore = {"method": method, **OPTIONS[method]}
    common = {"corpus": folder, "embeddings": embeddings, "split": "captions_test", "kind": kind, "top": 3}
    search_.search(**common, output=tmp_path / "found", members={"all": None}, rescore=rescore, features=[features])
    search_.search(**common, output=tmp_path / "plain", members={"all": None})
    about = json.loads((tmp_path / "found/all/search.json").read_text())
    assert about["rescore"] == {**rescore, "transductive": method == "dual_softmax"}
    assert "rescore" not in json.loads((tmp_path / "plain/all/search.json").read_text())
    keys = ["query_id", "reference_id"]
    found, plain = (
        tables.read("rankings", tmp_path / name / "all").filter(grade=1.0).sort(keys) for name in ("found", "plain")
    )
    assert found.select(keys).equals(plain.select(keys)) and len(found) == 24
    assert (found["score"] - plain["score"]).abs().min() > 0 or method == "qb_norm"
    assert found["score"].is_finite().all()
    nearest = tables.read("rankings", tmp_path / "found/all").filter(better=0)
    assert len(nearest) == len(set(found["query_id"]))  # one best of every query
    if method == "frame_max" and kind == "text_video":
        query, reference, score = found.row(5)[:3]
        text = Store(embeddings / "all/texts")[query][0]
        frames = Store(features / "clip")[reference]
        best = max(text @ f / np.linalg.norm(text) / np.linalg.norm(f) for f in frames)
        assert score == pytest.approx(plain.row(5)[2] + 0.7 * best, abs=1e-5)


@pytest.mark.parametrize(
    ("rescore", "message"),
    [
        ({"method": "qb_norm"}, "'bank'"),
        ({"method": "frame_max", "expert": "clap"}, "expert 'clap' is in none of"),
        ({"method": "qb_norm", "bank": "captions_test"}, "holds 24 of the queries"),
        ({"method": "rerank"}, "'reranker'"),
    ],
)
def test_a_rescoring_that_cannot_be_is_named(rescore, message, captions, tmp_path):
    folder, embeddings, features = captions
    with pytest.raises(ValueError, match=message):
        search_.search(
            corpus=folder, embeddings=embeddings, output=tmp_path / "found", split="captions_test",
            kind="text_video", members={"all": None}, rescore=rescore, features=[features],
        )  # fmt: skip
