"""The stage ``embed`` and its latent semantic analysis."""

import contextlib
import json

import numpy as np
import polars as pl
import pytest
import torch

from toys import CLIP, toy
from videomatch.data import tables
from videomatch.data.lsa import Lsa, words
from videomatch.data.store import Store, StoreWriter
from videomatch.models import clip
from videomatch.stages import embed as embed_
from videomatch.stages.embed import embed
from videomatch.stages.train import train


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def checkpoint(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    system = {**CLIP, "training": {**CLIP["training"], "epochs": 40, "lr": 2e-3}}
    (folder / "out").mkdir()
    given = {"corpus": toys[0], "features": [toys[1]], "output": folder / "out", "scratch": folder}
    train(**given, threads=1, system=system, seed=0)
    return folder / "out"


def made(tmp_path, toys, system, **options):
    tmp_path.mkdir(exist_ok=True)
    embed(corpus=toys[0], output=tmp_path, threads=1, system=system, members=["all"], **options)
    counts = json.loads((tmp_path / "all/embed.json").read_text())
    stores = {side: Store(tmp_path / "all" / side) for side in counts}
    for side, store in stores.items():
        assert len(store) == counts[side]["embedded"] and store.shape == (counts[side]["dim"],)
        assert store.dtype == np.float32 and (store.lengths == 1).all()
        np.testing.assert_allclose(np.linalg.norm(store.gather(store.ids)[0], axis=1), 1, rtol=1e-5)
    return stores, counts


def test_pooled_features_equal_the_naive_mean(toys, tmp_path):
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "f/some", shape=(5,), dtype="float32") as writer:
        for number, length in ((0, 3), (1, 0), (7, 1)):
            writer.add(f"v{number:03d}", rng.normal(size=(length, 5)).astype(np.float32))
    stores, counts = made(
        tmp_path / "out", toys, {"embeddings": {"features": "some", "pool": "mean"}}, features=[tmp_path / "f"]
    )
    assert stores["videos"].ids.to_list() == ["v000", "v007"] and counts["videos"]["absent"] == 22
    features = Store(tmp_path / "f/some")
    for video in stores["videos"].ids:
        units = [frame / np.linalg.norm(frame) for frame in features[video]]
        mean = np.mean(units, axis=0)
        np.testing.assert_allclose(stores["videos"][video][0], mean / np.linalg.norm(mean), rtol=1e-5)


@pytest.mark.parametrize("at", [0, 1, 5])
def test_killed_it_goes_on_and_makes_the_same_bytes(toys, tmp_path, monkeypatch, at):
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "f/some", shape=(5,), dtype="float32") as writer:
        for number in range(24):
            rows = rng.normal(size=(3, 5)) * (number > 3)  # the first have no direction: their unit is empty
            writer.add(f"v{number:03d}", rows.astype(np.float32))
    monkeypatch.setattr(embed_, "UNIT", 4)
    monkeypatch.setattr(embed_, "VIDEOS", 2)
    given = {"corpus": toys[0], "features": [tmp_path / "f"], "members": ["all"], "threads": 1}
    given["system"] = {"embeddings": {"features": "some"}}
    embed(**given, output=tmp_path / "whole")
    read, gather = [], Store.gather

    def killed(self, ids, part="values"):
        if self.roots[0].name == "some":
            read.append(list(ids))
            if len(read) == 2 * at + 2:  # within a unit
                raise KeyboardInterrupt
        return gather(self, ids, part)

    monkeypatch.setattr(Store, "gather", killed)
    for output, error in (("first", pytest.raises(KeyboardInterrupt)), ("second", contextlib.nullcontext())):
        with error:
            embed(**given, output=tmp_path / output, scratch=tmp_path / "scratch")
    assert len(read) == 12 + 2, "of the unit that was at work alone, the batches before are made again"
    whole, second = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("whole", "second")
    )
    assert whole == second and len(whole) == 4


def test_lsa_finds_texts_of_one_meaning_and_repeats_itself(toys, tmp_path):
    system = {"embeddings": {"texts": ["title", "asr"], "dim": 256}}
    stores, counts = made(tmp_path / "a", toys, system, features=[])
    assert counts["videos"]["embedded"] == 24 and counts["videos"]["absent"] == 0
    store = stores["videos"]
    similarity = (rows := store.gather(store.ids)[0]) @ rows.T
    np.fill_diagonal(similarity, -1)
    assert all(i % 8 == j % 8 for i, j in enumerate(similarity.argmax(1)))  # same colour and side
    again, _ = made(tmp_path / "b", toys, system, features=[])
    assert np.array_equal(again["videos"].gather(store.ids)[0], rows)


def test_a_video_without_texts_is_absent(toys, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for path in toys[0].iterdir():
        (corpus / path.name).write_bytes(path.read_bytes())
    texts = tables.read("texts", corpus)
    tables.write("texts", texts.filter(~pl.col("text_id").is_in(["v003-title", "v009-title"])), corpus)
    stores, counts = made(tmp_path / "out", (corpus, None), {"embeddings": {"texts": ["title"], "dim": 4}}, features=[])
    assert counts["videos"] == {"embedded": 22, "absent": 2, "dim": 4}
    assert "v003" not in stores["videos"] and "v004" in stores["videos"]


def test_words_split_scripts_without_spaces():
    assert words("Red-Square 红色的圆 2nd ひらがな") == ["red", "square", *"红色的圆", "2nd", *"ひらがな"]


def test_lsa_embeds_unknown_texts_as_zero():
    lsa = Lsa(["red square", "blue square", "red circle"], dim=2)
    vectors = lsa.embed(["red", "xyzzy", ""])
    assert np.linalg.norm(vectors[0]) == pytest.approx(1) and not vectors[1:].any()
    with pytest.raises(ValueError, match="no words"):
        Lsa(["", " "], dim=2)


def test_trained_system_finds_videos_by_caption(toys, tmp_path, checkpoint):
    stores, _ = made(tmp_path / "out", toys, CLIP, features=[toys[1]], run=[checkpoint])
    texts, videos = stores["texts"], stores["videos"]
    similarity = texts.gather(texts.ids)[0] @ videos.gather(videos.ids)[0].T
    best = similarity.argmax(1)
    # 4 colours: chance is 1/4. The mean over the picture, after two stages, has forgotten the side.
    right = np.mean(
        [int(text[1:4]) % 4 == int(videos.ids[int(b)][1:]) % 4 for text, b in zip(texts.ids, best, strict=True)]
    )
    assert right > 0.9


def test_zero_shot_through_features_equals_the_trained_system(toys, tmp_path, checkpoint):
    direct, _ = made(tmp_path / "direct", toys, CLIP, features=[toys[1]], run=[checkpoint])
    model = clip.Model.from_pretrained(checkpoint).eval()
    frames = Store(toys[1] / "frames")
    with StoreWriter(tmp_path / "f/clip", shape=(128,), dtype="float32") as writer, torch.inference_mode():
        for video in frames.ids:
            writer.add(video, model.images(torch.from_numpy(frames[video])).numpy())
    system = {"embeddings": {"features": "clip", "text_encoder": str(checkpoint), "texts": ["caption"]}}
    zero_shot, _ = made(tmp_path / "out", toys, system, features=[tmp_path / "f"])
    for side in ("videos", "texts"):
        ids = direct[side].ids
        np.testing.assert_allclose(zero_shot[side].gather(ids)[0], direct[side].gather(ids)[0], atol=1e-5)


def planted(tmp_path, toys, facts, captions=()):
    """The toy corpus with these facts as (id, factor, value), and further captions."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for path in toys[0].iterdir():
        (corpus / path.name).write_bytes(path.read_bytes())
    more = tables.frame("texts", [(i, "v000", "caption", "en", None, None, i) for i in captions])
    tables.write("texts", pl.concat([tables.read("texts", corpus), more]), corpus)
    tables.write("facts", tables.frame("facts", facts), corpus)
    return corpus


def oracle(folder, corpus, facts):
    system = {"embeddings": {"facts": facts}}
    embed(corpus=corpus, features=[], output=folder, threads=1, system=system, members=["all"])
    assert json.loads((folder / "all/embed.json").read_text())["score"] == "dot"
    return [Store(folder / "all" / side) for side in ("texts", "videos")]


def test_an_oracle_ranks_by_the_facts_that_agree_and_wrong_ones_count_most(toys, tmp_path):
    scenes = {"v000": "sea", "v001": "sea wood", "v002": "sea wood moor", "v003": "moor", "v004": ""}
    facts = [(v, "place", p, float(n), n + 1.0) for v, named in scenes.items() for n, p in enumerate(named.split())]
    facts += [(v, "order", "sea, wood", None, None) for v in ("v001",)]
    facts += [(v, "place", "sea", 7.0, 8.0) for v in ("v002",)]  # twice in one video counts once
    facts += [(v, "colour", "red", None, None) for v in ("v000", "v002", "v004")]
    said = {
        "sea": ["sea"],
        "both": ["sea", "wood"],
        "order": ["sea", "wood", "sea, wood"],
        "wrong": ["moor", "sea"],
        "none": [],
    }
    factor = {"sea, wood": "order"}
    facts += [(text, factor.get(v, "place"), v, None, None) for text, values in said.items() for v in values]
    facts += [("none", "colour", "red", None, None)]
    corpus = planted(tmp_path, toys, facts, said)
    texts, videos = oracle(tmp_path / "out", corpus, ["place", "order"])
    shown = [f"v{n:03}" for n in range(5)]
    assert len(videos) == 24 and set(said) <= set(texts.ids)

    def scores(query):
        return (videos.gather(shown)[0].astype(float) @ texts[query][0].astype(float)).tolist()

    def better(query):
        found = scores(query)
        return [sum(other > own for other in found) for own in found]

    assert better("sea") == [0, 0, 0, 3, 3], "more scenes are no advantage, and none"
    assert better("both") == [2, 0, 0, 3, 3]
    assert better("order") == [2, 0, 1, 3, 3]
    assert better("wrong") == [1, 1, 0, 1, 4]
    assert better("none") == [0, 0, 0, 0, 0], "the colour is not known: it is embedded all the same"
    # of a video's captions those come first that are right, the longer before the shorter, then those that name nothing
    for video, order in (
        ("v000", ["sea", "none", "both", "wrong", "order"]),
        ("v001", ["order", "both", "sea", "none", "wrong"]),
    ):
        found = texts.gather(list(said))[0].astype(float) @ videos[video][0].astype(float)
        assert [name for _, name in sorted(zip((-found).tolist(), said, strict=True), key=lambda p: p[0])] == order
    # of two videos: the cosine of the sets, mean over both factors
    alike = videos.gather(shown)[0].astype(float) @ videos.gather(shown)[0].astype(float).T
    assert alike[0] == pytest.approx([0.5, 0.5 / 2**0.5, 0.5 / 3**0.5, 0, 0], abs=1e-4)
    assert alike[1, 2] == pytest.approx(0.5 * 2 / 6**0.5, abs=1e-4)


def test_an_oracle_of_unknown_facts_is_an_error(toys, tmp_path):
    with pytest.raises(ValueError, match="has no table of facts: only generated videos"):
        oracle(tmp_path / "none", toys[0], "all")
    corpus = planted(tmp_path, toys, [("v000", "place", "sea", None, None)])
    with pytest.raises(ValueError, match="no factor named 'plase'; did you mean 'place'"):
        oracle(tmp_path / "out", corpus, ["plase"])
