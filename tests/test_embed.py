"""The stage ``embed`` and its latent semantic analysis."""

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
    # 8 kinds of videos: chance is 1/8; the train split alone is a third
    right = np.mean(
        [int(text[1:4]) % 8 == int(videos.ids[int(b)][1:]) % 8 for text, b in zip(texts.ids, best, strict=True)]
    )
    assert right > 0.6


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
