"""The filter of pairs: scores of texts against frames, the share of texts that examples keep, and the AUC of scores."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from paths import ROOT
from videomatch.data import tables
from videomatch.data.store import StoreWriter
from videomatch.data.tokenize import wrap
from videomatch.examples import Source
from videomatch.examples.masked_text import MaskedText
from videomatch.pipeline import jobs, lineage, params
from videomatch.pipeline.plan import Plan
from videomatch.stages import score_pairs as stage
from videomatch.stages.evaluate import evaluate

DIM = 6


def tower(encoder):
    """A text encoder: a word ``e3`` is the third axis, words are added."""

    def encode(texts):
        rows = np.array([sum(np.eye(DIM)[int(word[1:])] for word in text.split() if word[0] == "e") for text in texts])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return encode


def text_rows(texts):
    return tables.frame("texts", [(i, v, kind, "en", None, None, text) for i, v, kind, text in texts])


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Scores of a video of two frames, one of five, and one without any."""
    monkeypatch.setattr(stage, "text_tower", tower)
    with StoreWriter(tmp_path / "features/some", shape=(DIM,), dtype="float32") as writer:
        writer.add("a", 3 * np.eye(DIM)[[0, 1]].astype(np.float32))
        writer.add("b", np.eye(DIM)[[0, 2, 2, 3, 2]].astype(np.float32))
    texts = [
        ("a-1", "a", "title", "e0"),
        ("a-2", "a", "asr", "e0 e5"),
        ("b-1", "b", "asr", "e2"),
        ("b-2", "b", "asr", "e3"),
    ]
    texts += [("b-3", "b", "caption", "e3"), ("c-1", "c", "title", "e0")]
    tables.write("texts", text_rows(texts), tmp_path)

    def score(**options):
        given = {"corpus": tmp_path, "features": [tmp_path / "features"], "output": tmp_path, "text_encoder": ""}
        stage.score_pairs(**given | {"expert": "some", "texts": ["title", "asr"]} | options)
        return tables.read("scores", tmp_path)

    return score


def test_a_score_is_the_mean_of_the_best_frames(scored):
    cosines = dict(scored().select("text_id", "cosine").rows())
    assert cosines == pytest.approx({"a-1": 1 / 2, "a-2": 0.5**1.5, "b-1": 1.0, "b-2": 1 / 3})
    assert scored(top=1)["cosine"].to_list() == pytest.approx([1.0, 0.5**0.5, 1.0, 1.0])


def test_scores_are_standardised_among_texts_as_long(scored, tmp_path):
    rng, rows = np.random.default_rng(0), []
    for n in range(900):
        words = ["e2"] + [("e1", "e2", "e4")[rng.integers(3)] for _ in range(n % 4)]
        rows.append((f"t{n:03}", "b", "asr", " ".join(words)))
    tables.write("texts", text_rows(rows), tmp_path)
    found = scored(texts=["asr"]).sort("text_id")
    lengths = np.array([len(row[-1].split()) for row in rows])
    assert abs(np.corrcoef(found["score"], lengths)[0, 1]) < 0.01
    assert abs(np.corrcoef(found["cosine"], lengths)[0, 1]) > 0.3
    longest = found["score"].to_numpy()[lengths == 4]
    assert longest.mean() == pytest.approx(0, abs=1e-9) and longest.std() == pytest.approx(1)


def test_what_cannot_be_scored_is_named(scored, monkeypatch):
    with pytest.raises(ValueError, match=r"no text of the kinds \['query'\] belongs to a video with features"):
        scored(texts=["query"])
    monkeypatch.setattr(stage, "text_tower", lambda encoder: lambda texts: np.ones((len(texts), 4)))
    with pytest.raises(ValueError, match="embeds texts in 4 dimensions, 'some' has 6"):
        scored()


@pytest.fixture
def source(tmp_path):
    """Ten videos with a title each, whose scores fall from the last to the first."""
    reader = wrap(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"0123456789"])
    tables.write("texts", text_rows([(f"t{n}", f"v{n}", "title", str(n)) for n in range(10)]), tmp_path)
    tables.write("splits", tables.frame("splits", [("train", "reference", f"v{n}") for n in range(10)]), tmp_path)
    rows = [(f"t{n}", f"v{n}", 0.1, n / 10) for n in range(10)]
    tables.write("scores", tables.frame("scores", rows), tmp_path)
    return Source(tmp_path, tokenizer=reader, scores=tmp_path)


def read(examples):
    """The words of all examples, in order."""
    drawn = examples.on("train")
    ids = drawn.batch(np.arange(len(drawn)), np.random.default_rng(0))["input_ids"]
    return drawn.source.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_examples_keep_the_share_that_fits_best(source):
    options = {"texts": ["title"], "mask_tokens": 0.0, "filter": "some"}
    assert read(MaskedText(source, keep=0.3, **options)) == ["7", "8", "9"]
    assert read(MaskedText(source, **options)) == list("0123456789")
    with pytest.raises(ValueError, match="filter 'some' has no score of a text of kind 'title'"):
        tables.write("scores", tables.frame("scores"), source.scores)
        read(MaskedText(source, keep=0.3, **options))


def test_the_auc_is_that_of_texts_which_tell_of_their_own_video(tmp_path):
    rng = np.random.default_rng(0)
    told_of = rng.choice(["own", "other", "none"], 300)
    scores = np.round(rng.normal(size=300) + (told_of == "own") - (told_of == "other"), 1)  # with ties
    rows = [(f"t{n}", f"v{n % 90}", 0.0, score) for n, score in enumerate(scores)]
    tables.write("scores", tables.frame("scores", rows), tmp_path)
    tables.write("facts", tables.frame("facts", [(f"t{n}", "told_of", v) for n, v in enumerate(told_of)]), tmp_path)
    tables.write("splits", tables.frame("splits", [("train", "reference", f"v{n}") for n in range(80)]), tmp_path)
    given = {"corpus": tmp_path, "output": tmp_path, "members": ["all"], "split": "train", "scores": tmp_path}
    evaluate(metrics=["AUC", "AUC (other)", "AUC (none)"], **given)
    result = json.loads((tmp_path / "all/metrics.json").read_text())
    inside = np.arange(300) % 90 < 80
    for metric, others in {"AUC": ("other", "none"), "AUC (other)": ("other",), "AUC (none)": ("none",)}.items():
        judged = inside & np.isin(told_of, ("own", *others))
        assert result["metrics"][metric] == pytest.approx(roc_auc_score(told_of[judged] == "own", scores[judged]))
    assert tables.read("statistics", tmp_path / "all")["statistic"].n_unique() == 3
    with pytest.raises(ValueError, match="no metric named 'AUC0'"):
        evaluate(metrics=["AUC0"], **given)


def test_pairs_are_scored_once_for_all_shares(monkeypatch):
    monkeypatch.chdir(ROOT)
    config, read = params.load([ROOT / "configs/text_video.yaml"])
    plan = Plan(params.resolved(config, read))
    shares = {}
    for system in ("pretrain_video_text", *(f"pretrain_keep_{n}" for n in (100, 89, 67, 56))):
        job = jobs.train(plan, system, "seed0")
        assert job.inputs["scores"] == [plan.result("scores", "web", "pair_filter")]
        shares[system] = job.settings["system"]["examples"]["keep"]
    assert sorted(shares.values()) == [0.56, 0.67, 0.78, 0.89, 1.0]
    assert jobs.train(plan, "video_text", "seed0").inputs["scores"] == []
    learned = lineage.learned(plan, "videos", "keep_56", "seed0")
    assert any(how.startswith("keep_56 → init pretrain_keep_56 → filter pair_filter → ") for how in learned)
