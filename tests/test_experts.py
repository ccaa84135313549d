"""What every file of ``experts/`` promises (``videomatch.experts.BaseExpert``)."""

from __future__ import annotations

import inspect
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    VideoMAEConfig,
    VideoMAEModel,
)

import clips
from toys import corpus_of
from videomatch.common import named
from videomatch.data import tables
from videomatch.data.corpus import videos, write_transcripts
from videomatch.experts import BaseExpert, seconds
from videomatch.media.decode import Sampler

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}


def options_of(name: str, folder: Path) -> dict[str, Any]:
    """Options without which an expert cannot be made; checkpoints are tiny ones of random weights."""
    torch.manual_seed(0)
    if name == "image":
        config = CLIPVisionConfig(**TOWER, image_size=32, patch_size=8, projection_dim=24)
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
    elif name == "motion":
        VideoMAEModel(VideoMAEConfig(**TOWER, image_size=32, patch_size=8, num_frames=4)).save_pretrained(folder)
    elif name == "sound":
        ASTModel(ASTConfig(**TOWER, num_mel_bins=48, max_length=120, patch_size=16)).save_pretrained(folder)
        ASTFeatureExtractor(num_mel_bins=48, max_length=120).save_pretrained(folder)
    return {"dim": 4} if name == "released" else {"backbone": str(folder)} if any(folder.iterdir()) else {}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.write(tmp_path_factory.mktemp("clip") / "a.mp4", range(75), tone=0.5)


@pytest.mark.parametrize("name", named.names("experts"))
def test_contract(name: str, video: Path, tmp_path: Path) -> None:
    kind = named.module("experts", name).Expert
    assert issubclass(kind, BaseExpert) and inspect.getdoc(kind)
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    expert: BaseExpert = kind(**options_of(name, tmp_path))
    corpus = corpus_of(tmp_path / "corpus", {"v": None})
    write_transcripts(tables.frame("texts", [("t", "v", "asr", None, 0.0, 1.0, "x")]), videos(corpus), corpus, 1)
    tables.write("facts", tables.frame("facts", [("v", "place", "sea", 0.0, 1.0)]), corpus)
    expert.set_corpus(corpus, 0)
    assert expert.shape and all(isinstance(n, int) for n in expert.shape) and np.dtype(expert.dtype)
    assert expert.text_kind in (None, "ocr", "asr")
    if name == "released":
        with pytest.raises(ValueError, match="no `raw:` folder"):
            expert.released_features("toy", ["v"], None, None)
        return
    assert expert.released_features(name, ["v"], None, None) is None
    extractor, rows, times = expert.start("v"), [], np.zeros((0, 2))
    if expert.request is not None:
        sampler = Sampler(video, [expert.request])
        rows = [extractor.update(chunk.values, chunk.first) for chunk in sampler]
        times = sampler.times(0)
    found = extractor.finalize(times)
    rows = [part for part in [*rows, found.rows] if len(part)]
    count = sum(map(len, rows))
    assert found.times.shape == (count, 2)
    assert len(found.texts) == (count if expert.text_kind else 0)
    if rows:
        prepared = np.concatenate(rows)
        finished = expert.infer(prepared[: expert.batch]) if expert.batch else prepared
        assert finished.shape[1:] == expert.shape and np.isfinite(finished).all()


def test_seconds_are_exact() -> None:
    assert seconds(0.1) == Fraction(1, 10)
    with pytest.raises(ValueError, match="every = 0 seconds, expected more than 0"):
        seconds(0)
