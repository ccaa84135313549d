"""The joint encoder against a plain twin, other encoders, and what must not matter."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMConfig,
)

from videomatch.models import fusion_bert
from videomatch.objectives.margins import cosine_mse
from videomatch.objectives.tags_and_masks import bce_tags, mfm_nce, mlm

ALL = ("tags", "tokens", "frames")
POOLS = ("mean", "attention", "mean_all", "attention_all")
SMALL = {"layers": 2, "width": 32, "heads_count": 4, "ffn": 64, "embedding_dim": 16, "frame_dim": 12, "dropout": 0.0}
FACTS = {"vocab_size": 50, "max_frames": 6, "max_tokens": 9, "num_tags": 7}


def build(**options) -> fusion_bert.Model:
    torch.manual_seed(0)
    model = fusion_bert.Model(fusion_bert.Config(**{**SMALL, **FACTS, **options}))
    with torch.no_grad():  # larger than a fresh model's, so that attention is no mere mean
        for name, p in model.named_parameters():
            if p.ndim > 1 and "embeddings" not in name:
                p.mul_(3)
    return model.eval()


def inputs(count: int = 5, masks: bool = False, seed: int = 1) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    lengths, words = torch.tensor([6, 3, 1, 0, 5])[:count], torch.tensor([9, 2, 5, 8, 3])[:count]
    batch = {
        "frames": torch.randn(count, 6, 12, generator=g),
        "frame_mask": torch.arange(6) < lengths[:, None],
        "input_ids": torch.randint(5, 50, (count, 9), generator=g),
        "attention_mask": (torch.arange(9) < words[:, None]).long(),
    }
    batch["input_ids"][:, 0] = 1
    batch["input_ids"] *= batch["attention_mask"]
    if masks:
        hit = (torch.rand(count, 9, generator=g) < 0.4) & batch["attention_mask"].bool()
        hit[:, 0] = False
        batch["token_labels"] = torch.where(hit, batch["input_ids"], -100)
        batch["input_ids"] = torch.where(hit, 3, batch["input_ids"])
        batch["masked_frames"] = (torch.rand(count, 6, generator=g) < 0.4) & batch["frame_mask"]
    return batch


def plain(model: fusion_bert.Model, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The obvious computation: everything padded, transformers' own encoder with eager attention, then selected."""
    encoder = model.encoder
    encoder.set_attn_implementation("eager")
    config, seen, text = model.config, batch["frame_mask"], batch["attention_mask"].bool()
    hidden = batch.get("masked_frames", torch.zeros_like(seen))
    shown = batch["frames"] * (seen & ~hidden)[..., None]
    spots = torch.arange(seen.shape[1]).expand(seen.shape)
    words = encoder.embeddings(input_ids=batch["input_ids"])
    if hasattr(encoder, "embeddings_project"):
        words = encoder.embeddings_project(words)
    joint, valid = torch.cat([words, model.frames(shown, spots)], 1), torch.cat([text, seen], 1)
    bias = torch.zeros(valid.shape).masked_fill(~valid, -10000.0)[:, None, None, :]
    for layer in encoder.encoder.layer:
        joint = layer(joint, bias)
        joint = joint[0] if isinstance(joint, tuple) else joint
    tokens, frames = joint[:, : text.shape[1]], joint[:, text.shape[1] :]
    share = torch.ones_like(valid) if config.pool.endswith("_all") else valid
    weights = share.double() / share.sum(1, keepdim=True)
    if model.attention_pool is not None:
        weights = model.attention_pool(joint)[..., 0].masked_fill(~share, -torch.inf).softmax(1)
    pooled = model.projection((weights[..., None].to(joint.dtype) * joint).sum(1))
    state = tokens[:, 0] if config.tags_from == "cls" else pooled
    outputs = {"embedding": F.normalize(pooled, dim=-1), "logits": model.tag_head(F.relu(state))}
    if "token_labels" in batch:
        at = batch["token_labels"] != -100
        outputs |= {"token_logits": model.token_head(tokens)[at], "token_targets": batch["token_labels"][at]}
        outputs |= {"frame_outputs": model.frame_head(frames)[hidden], "frame_candidates": batch["frames"][seen]}
        outputs["frame_targets"] = hidden[seen].nonzero()[:, 0]
    return outputs


def total(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """One number that every float output enters, each entry with a weight of its own."""
    parts = [
        (value * torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).view(value.shape)).sum()
        for value in outputs.values()
        if value.is_floating_point()
    ]
    return torch.stack(parts).sum()


@pytest.mark.parametrize("tags_from", ["cls", "embedding"])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("width", [32, 192])  # wide layers attend to one example after the other
def test_packed_is_plain(pool, tags_from, masks, width):
    model = build(pool=pool, tags_from=tags_from, heads=ALL, width=width).double()
    batch = inputs(masks=masks)
    batch["frames"] = batch["frames"].double()
    found, wanted = model(**batch), plain(model, batch)
    assert set(found) == set(wanted) - ({"embedding"} if masks and tags_from == "cls" else set())
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name].to(value.dtype), rtol=1e-10, atol=1e-11)
    grads = []
    for outputs in (found, {name: wanted[name] for name in found}):
        model.zero_grad(set_to_none=True)
        total(outputs).backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    used = 0
    for name, grad in grads[0].items():
        other = grads[1][name]
        if grad is None or other is None:
            assert (grad if other is None else other) is None or not (grad if other is None else other).any(), name
            continue
        used += bool(grad.any())
        torch.testing.assert_close(grad, other, rtol=1e-9, atol=1e-9)
    assert used > 30


@pytest.mark.parametrize("pool", POOLS)
def test_padding_and_batch_do_not_matter(pool):
    model, batch = build(pool=pool, heads=["tags"]), inputs()
    with torch.inference_mode():
        whole = model(**batch)
        noisy = {**batch, "frames": batch["frames"].masked_fill(~batch["frame_mask"][..., None], 9.0)}
        noisy["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 7)
        for name, value in model(**noisy).items():
            torch.testing.assert_close(value, whole[name], rtol=1e-5, atol=1e-6)
        for n in range(5):
            length, words = int(batch["frame_mask"][n].sum()), int(batch["attention_mask"][n].sum())
            cut = {"frames": length, "frame_mask": length, "input_ids": words, "attention_mask": words}
            alone = model(**{name: batch[name][n : n + 1, :to] for name, to in cut.items()})
            for name, value in alone.items():
                torch.testing.assert_close(value, whole[name][n : n + 1], rtol=1e-4, atol=1e-5)
    assert (whole["embedding"][:, None] - whole["embedding"][None]).norm(dim=-1)[~torch.eye(5).bool()].min() > 0.05
    torch.testing.assert_close(whole["embedding"].norm(dim=-1), torch.ones(5))


@pytest.mark.parametrize("pool", POOLS)
def test_pairs_are_two_examples(pool):
    model, batch = build(pool=pool), inputs(4)
    pairs = {name: value.unflatten(0, (2, 2)) for name, value in batch.items()}
    outputs, each = model(**pairs), model.embed_videos(**batch)
    torch.testing.assert_close(outputs["embedding"], each.unflatten(0, (2, 2)))
    torch.testing.assert_close(outputs["similarity"], (each[0::2] * each[1::2]).sum(-1))
    cosine_mse(outputs["similarity"], torch.tensor([0.0, 1.0])).backward()
    assert model.frames.projection.weight.grad.any()


def test_saved_is_loaded_equal(tmp_path: Path):
    model = build(heads=ALL, pool="attention", id2label={n: f"t{n}" for n in range(7)})
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["FusionBert"]
    for again in (fusion_bert.Model.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(again) is fusion_bert.Model
        assert again.config.id2label[3] == "t3"
        weights = again.state_dict()
        assert weights.keys() == model.state_dict().keys()
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        for name, value in again.eval()(**inputs(masks=True)).items():
            assert torch.equal(value, model(**inputs(masks=True))[name])


def test_starts_as_the_winners_do():
    torch.manual_seed(0)
    model = fusion_bert.Model(fusion_bert.Config(heads=ALL, num_tags=500, vocab_size=2000))
    words, decoder = model.encoder.embeddings.word_embeddings.weight, model.token_head.decoder.weight
    assert torch.equal(words, decoder)
    assert words.data_ptr() != decoder.data_ptr()
    assert model.frames.projection.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.encoder.encoder.layer[0].intermediate.dense.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for layer in (model.tag_head, model.projection, model.frame_head.decoder):  # torch's: uniform to 1 / sqrt(inputs)
        assert layer.weight.abs().max().item() == pytest.approx(128**-0.5, rel=0.01)


@pytest.mark.parametrize("tags_from", ["cls", "embedding"])
def test_learns_one_batch(tags_from):
    model = build(heads=ALL, tags_from=tags_from).train()
    batch = inputs(masks=True)
    labels = (torch.rand(5, 7, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(100):
        o = model(**batch)
        losses = [
            bce_tags(o["logits"], labels),
            mlm(o["token_logits"], o["token_targets"]),
            mfm_nce(o["frame_outputs"], o["frame_candidates"], o["frame_targets"]),
        ]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
    assert max(x.item() for x in losses) < 0.05


@pytest.mark.parametrize("heads", [("tokens",), ("frames",), ALL, ()])
def test_empty_masks(heads):
    model, batch = build(heads=heads), inputs(masks=True)
    batch["token_labels"].fill_(-100)
    batch["masked_frames"].fill_(False)
    o = model(**batch)
    losses = [value.sum() * 0 for value in o.values() if value.requires_grad]
    if "tokens" in heads:
        assert o["token_logits"].shape == (0, 50)
        losses.append(mlm(o["token_logits"], o["token_targets"]))
    if "frames" in heads:
        assert o["frame_outputs"].shape == (0, 12)
        losses.append(mfm_nce(o["frame_outputs"], o["frame_candidates"], o["frame_targets"]))
    if not heads:
        assert o == {}
        return
    loss = torch.stack(losses).sum()
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_no_frames_and_no_text():
    batch = inputs()
    none = {"frames": torch.zeros(5, 0, 12), "frame_mask": torch.zeros(5, 0).bool()}
    empty = build()(**{**batch, **none})["embedding"]
    torch.testing.assert_close(build()(**{**batch, "frame_mask": batch["frame_mask"] & False})["embedding"], empty)
    model = build(max_frames=0)
    assert model.frames is None
    assert model(**{**batch, **none})["embedding"].shape == (5, 16)


def test_dropout_and_deterministic_algorithms():
    model = build(heads=ALL, dropout=0.3).train()
    results = []
    torch.use_deterministic_algorithms(True)
    try:
        for seed in (1, 1, 2):
            model.zero_grad(set_to_none=True)
            torch.manual_seed(seed)
            loss = total(model(**inputs(masks=True)))
            loss.backward()
            results.append((loss.item(), model.encoder.encoder.layer[0].attention.self.key.weight.grad))
    finally:
        torch.use_deterministic_algorithms(False)
    assert results[0][0] == results[1][0] != results[2][0]
    assert torch.equal(results[0][1], results[1][1])


def test_bfloat16_is_near():
    model, batch = build(heads=ALL, tags_from="embedding"), inputs(masks=True)
    exact = model(**batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(**batch)
        loss = mfm_nce(rough["frame_outputs"], rough["frame_candidates"], rough["frame_targets"])
    assert rough["embedding"].dtype == torch.float32
    assert loss.dtype == torch.float32
    torch.testing.assert_close(rough["embedding"], exact["embedding"], rtol=0.05, atol=0.03)


def encoder(kind: str, folder: Path):
    """A small checkpoint of a kind of encoder, with a trained head (every bias is drawn)."""
    sizes = {
        "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": 20, "pad_token_id": 1,
    }  # fmt: skip
    torch.manual_seed(5)
    model = {
        "bert": lambda: BertForMaskedLM(BertConfig(**sizes)),
        "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**sizes)),
        "electra": lambda: ElectraForMaskedLM(ElectraConfig(**sizes, embedding_size=16)),
        "wide electra": lambda: ElectraForMaskedLM(ElectraConfig(**sizes, embedding_size=32)),
    }[kind]()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape) * 0.1)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "wide electra"])
def test_reads_text_as_the_pretrained_encoder_does(kind, tmp_path: Path):
    source = encoder(kind, tmp_path)
    config = fusion_bert.Config(
        pretrained=str(tmp_path), heads=["tokens"], dropout=0.0, pad_token_id=1, **{**FACTS, "max_frames": 0}
    )
    model = fusion_bert.Model(config)
    model.initialise()
    batch = inputs()
    ids = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 1)
    ids[:, 0] = 4
    text = {"input_ids": ids, "attention_mask": batch["attention_mask"]}
    nothing = {"frames": torch.zeros(5, 0, 12), "frame_mask": torch.zeros(5, 0).bool()}
    valid = batch["attention_mask"].bool()
    outputs = model.eval()(**text, **nothing, token_labels=torch.where(valid, ids, -100))
    if kind == "electra":  # its narrower head is another's
        states = source.base_model(**text).last_hidden_state[valid]
        torch.testing.assert_close(outputs["token_logits"], model.token_head(states))
    else:
        torch.testing.assert_close(outputs["token_logits"], source(**text).logits[valid], rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path / "again")
    again = fusion_bert.Model.from_pretrained(tmp_path / "again")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["roberta", "electra"])
def test_packed_is_plain_for_other_encoders(kind, tmp_path: Path):
    encoder(kind, tmp_path)
    options = {**FACTS, "frame_dim": 12, "pretrained": str(tmp_path), "dropout": 0.0, "pad_token_id": 1, "heads": ALL}
    model = fusion_bert.Model(fusion_bert.Config(**options))
    model.initialise()
    batch = inputs(masks=True)
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 1)
    batch["input_ids"][:, 0] = 4
    found, wanted = model.eval()(**batch), plain(model, batch)
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": ["tag"]}, "no head 'tag'; there are tags"),
        ({"heads": ["tags"], "num_tags": 0}, "the examples have none"),
        ({"heads": ["frames"], "max_frames": 0}, "max_frames is 0"),
        ({"encoder": XLMConfig()}, "encoder 'xlm' is not laid out like BERT"),
        ({"encoder": BertConfig(vocab_size=49)}, "knows 49 tokens, the tokenizer 50"),
        ({"encoder": RobertaConfig(vocab_size=50, max_position_embeddings=10)}, "9 tokens, the encoder has 8"),
    ],
)
def test_refuses_what_does_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        fusion_bert.Config(**{**SMALL, **FACTS, **options})


def test_refuses_another_checkpoint_and_longer_inputs(tmp_path: Path):
    encoder("bert", tmp_path)
    config = fusion_bert.Config(pretrained=str(tmp_path), **FACTS)
    config.encoder = AutoConfig.for_model(**{**config.encoder.to_dict(), "intermediate_size": 96})
    with pytest.raises(ValueError, match="does not fit the configured encoder"):
        fusion_bert.Model(config).initialise()
    batch = inputs()
    with pytest.raises(ValueError, match="6 frames and 9 tokens, expected at most 5 and 9"):
        build(max_frames=5)(**batch)
