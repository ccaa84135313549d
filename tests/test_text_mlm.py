"""A small text encoder pretrained by masked tokens, and the models that start from it."""

from __future__ import annotations

import math

import polars as pl
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer

from toys import toy
from videomatch.common import named
from videomatch.examples import Source, kind
from videomatch.models import text_mlm
from videomatch.stages.train import train

SYSTEM = {
    "model": {"name": "text_mlm", "layers": 2, "width": 32},
    "tokenizer": {"style": "bert", "vocab_size": 200},
    "examples": {"kind": "masked_text", "texts": ["title", "caption"], "max_length": 16},
    "objectives": {"mlm": None},
    "training": {"epochs": 24, "batch": 8, "lr": 1e-2, "precision": "fp32"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlm")
    corpus, _ = toy(folder)
    out = folder / "run"
    out.mkdir()
    train(corpus=corpus, features=[], output=out, scratch=folder, threads=1, system=SYSTEM, seed=0)
    return out


def test_learns_what_its_texts_say(run):
    losses = pl.read_csv(run / "log.csv")["val/mlm"]
    # captions: two places and four colours, else known words
    assert losses[-1] < 0.6 * losses[0] < math.log(200)


def test_hidden_tokens_are_guessed_as_transformers_does(run):
    ours, plain = text_mlm.Model.from_pretrained(run).eval(), AutoModelForMaskedLM.from_pretrained(run).eval()
    assert type(plain).__name__ == "BertForMaskedLM"
    ids = torch.randint(5, 30, (4, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) < torch.tensor([9, 5, 7, 2])[:, None]
    labels = torch.where(mask & (torch.arange(9) % 3 == 1), ids, -100)
    with torch.inference_mode():
        found = ours(ids, mask.long(), labels)
        wanted = plain(input_ids=ids, attention_mask=mask.long()).logits[labels != -100]
    torch.testing.assert_close(found["token_logits"], wanted, rtol=1e-4, atol=1e-5)
    assert found["token_targets"].tolist() == labels[labels != -100].tolist()


@pytest.mark.parametrize(
    ("name", "part", "options"),
    [
        ("clip", "text_model", {"text_length": 16}),
        ("fusion_bert", "encoder", {"max_tokens": 16}),
        ("mmt", "text_model", {"text_length": 16, "experts": {"clip": 4}, "width": 32}),
    ],
)
def test_other_models_start_from_it(run, name, part, options):
    room = named.module("models", name)
    vocabulary = AutoConfig.from_pretrained(run).vocab_size
    model = room.Model(room.Config(pretrained=str(run), vocab_size=vocabulary, **options))
    model.initialise()
    weights = AutoModel.from_pretrained(run).state_dict()
    own = getattr(model, part).state_dict()
    shared = [key for key in own if not key.startswith("pooler.")]
    assert len(shared) > 30 and all(torch.equal(own[key], weights[key]) for key in shared)


def test_a_split_without_such_texts_is_refused(tmp_path, run):
    corpus, _ = toy(tmp_path)
    examples = kind("masked_text")
    with pytest.raises(ValueError, match="no asr"):
        examples(Source(corpus, tokenizer=AutoTokenizer.from_pretrained(run)), texts=["asr"]).on("train")
