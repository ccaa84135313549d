"""The multi-modal transformer: published numbers, a plain twin, what must not matter, and its place in the house."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
import yaml
from transformers import AutoModel, BertConfig, BertForMaskedLM, CLIPConfig, CLIPModel

from paths import fixtures
from toys import CLIP, toy
from videomatch.common.checkpoint import load_weights
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.examples.caption_experts import CaptionExperts, scores
from videomatch.metrics import ranking
from videomatch.models import clip, mmt
from videomatch.objectives.margins import max_margin
from videomatch.stages.embed import embed
from videomatch.stages.search import search
from videomatch.stages.train import train

EXPERTS = {"face": 5, "motion": 4, "speech": 3}
SMALL = {"layers": 2, "heads": 2, "width": 16, "ffn": 32, "dropout": 0.0}
TEXT = {"text_layers": 2, "text_width": 24, "text_heads": 2, "text_ffn": 32, "vocab_size": 40, "text_length": 9}
ENDS = {"bos_token_id": 1, "eos_token_id": 39}
OF_CLIP = {
    "model_type": "clip_text_model", "num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 2,
    "intermediate_size": 32, "vocab_size": 40, "max_position_embeddings": 9, "pad_token_id": 0, **ENDS,
}  # fmt: skip
#: rows of face, motion and speech
ROWS = torch.tensor([[4, 6, 2], [0, 3, 1], [1, 6, 0], [0, 0, 5], [0, 0, 0], [2, 2, 2]])


def build(**options) -> mmt.Model:
    torch.manual_seed(0)
    model = mmt.Model(mmt.Config(**{**SMALL, **TEXT, "experts": EXPERTS, **options}))
    with torch.no_grad():  # larger than a fresh model's, so that attention is no mere mean
        for name, p in model.named_parameters():
            if p.ndim > 1 and name.startswith(("layer", "text_model")):
                p.mul_(4)
        for _, module in sorted(model.text_experts.items()) if model.config.gated else ():
            module.norm.running_mean.uniform_(-0.1, 0.1)
            module.norm.running_var.uniform_(0.02, 0.1)
    return model.eval()


def inputs(count: int = 6, seed: int = 1, extra: int = 0, dims=EXPERTS) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    longest, total = 6 + extra, sum(dims.values())
    mask = torch.arange(longest)[None, :, None] < ROWS[:, None]
    per_dim = mask.repeat_interleave(torch.tensor(list(dims.values())), dim=2)
    features = torch.randn(6, 6, total, generator=g)
    features = torch.where(per_dim, F.pad(features, (0, 0, 0, extra)), 0.0)
    words = torch.tensor([9, 3, 5, 8, 4, 6])
    ids = torch.randint(5, 38, (6, 9), generator=g)
    text = torch.arange(9) < words[:, None]
    ids[:, 0] = 1
    ids[torch.arange(6), words - 1] = 39
    here = per_dim.any(1)
    positions = torch.randint(1, 40, (6, 6, 3), generator=g)
    batch = {
        "features": features,
        "feature_mask": mask,
        "positions": F.pad(positions, (0, 0, 0, extra), value=1),
        "maxima": torch.where(here, torch.randn(6, total, generator=g), 0.0),
        "means": torch.where(here, torch.randn(6, total, generator=g), 0.0),
        "input_ids": ids * text,
        "attention_mask": text.long(),
    }
    return {name: value[:count] for name, value in batch.items()}


def videos_of(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in batch.items() if k not in ("input_ids", "attention_mask")}


def texts_of(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask")}


def plain(model: mmt.Model, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with everything padded, as the published code computes it."""
    config, mask = model.config, batch["feature_mask"]
    count, longest, total = len(mask), mask.shape[1], model.config.max_positions
    zero = torch.zeros(count, 1, config.width, dtype=model.start.dtype)
    rows, valid, places, ends = [zero + model.start], [torch.ones(count, 1)], [torch.zeros(count, 1)], []
    edge, available = 0, mask.any(1)
    for number, (name, dim) in enumerate(config.experts.items()):
        expert, part = model.video_experts[name], slice(edge, edge + dim)
        edge += dim
        ends.append(sum(r.shape[1] for r in rows))
        pooled = F.normalize(
            expert.projection(batch["means" if config.aggregate == "mean" else "maxima"][:, part]), dim=-1
        )
        if config.aggregate == "zero":
            pooled = pooled * 0
        rows += [
            pooled[:, None] + expert.mark,
            F.normalize(expert.projection(batch["features"][..., part]), dim=-1) + expert.mark,
        ]
        valid += [available[:, number, None].float(), mask[..., number].float()]
        places += [torch.zeros(count, 1), batch["positions"][..., number]]
        if config.tokens == "aggregates":
            valid[-1] = valid[-1] * 0
        if config.tokens == "frames":
            valid[-2] = valid[-2] * 0
    hidden = torch.cat(rows, 1)
    if model.times is not None:
        hidden = hidden + model.times(torch.cat(places, 1).long().clamp(max=total - 1))
    hidden = model.norm(hidden)
    bias = (1 - torch.cat(valid, 1).to(hidden.dtype))[:, None, None] * -1e4
    for layer in model.layer:
        hidden = layer(hidden, bias)
    if config.tokens == "frames":
        parts = [hidden[:, e + 1 : e + 1 + longest] * mask[..., n, None] for n, e in enumerate(ends)]
        videos = F.normalize(torch.stack([p.sum(1) for p in parts], 1), dim=-1)
    else:
        videos = F.normalize(hidden[:, ends], dim=-1)
    if config.text == "words":
        there = batch["attention_mask"][..., None]
        state = (model.text_model(batch["input_ids"]) * there).sum(1) / there.sum(1)
    else:
        found = model.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        state = found.pooler_output if model.is_clip else found.last_hidden_state[:, 0]
    units, weights = [], []
    for name in config.experts:
        expert = model.text_experts[name]
        x = expert.projection(state)
        if config.gated:
            x = F.glu(torch.cat([x, expert.norm(expert.gate(x))], 1), 1)
        units.append(F.normalize(x, dim=-1))
        weights.append(expert.weight(state))
    weights = torch.cat(weights, 1).softmax(1)
    each = torch.einsum("ced,ved->cve", torch.stack(units, 1), videos)
    shares = weights[:, None].expand(-1, count, -1)
    if not config.keep_missing:
        shares = shares * available.to(shares.dtype)
        total = shares.sum(-1, keepdim=True)
        shares = shares / torch.where(total == 0, 1e-5, total)
    return {"similarity": (each * shares).sum(-1), "videos": videos, "units": torch.stack(units, 1), "weights": weights}


VARIANTS = [
    {},
    {"keep_missing": False},
    {"temporal": False},
    {"aggregate": "mean"},
    {"aggregate": "zero"},
    {"tokens": "aggregates"},
    {"tokens": "aggregates", "aggregate": "zero"},
    {"tokens": "frames"},
    {"tokens": "frames", "keep_missing": False},
    {"text_encoder": OF_CLIP, **ENDS},
    {"text": "words"},
    {"layers": 0, "tokens": "aggregates"},
    {"gated": False},
]


def named_variant(options: dict) -> str:
    return ",".join(f"{k}={v}" for k, v in options.items() if not k.endswith("_id")) or "published"


def test_projections_start_from_what_rows_look_like():
    batch = inputs()
    shift = 20 * torch.arange(sum(EXPERTS.values()))
    shown = {**batch, "features": batch["features"] * 0.01 + shift}
    plain_start, centred = build(), build(centred=True)
    before = {n: p.clone() for n, p in centred.named_parameters()}
    plain_start.fit_statistics(lambda: shown)
    for name, value in plain_start.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    centred.fit_statistics(lambda: shown)
    changed = {n for n, p in centred.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {f"video_experts.{e}.projection.{kind}" for e in EXPERTS for kind in ("weight", "bias")}
    edge = 0
    for number, (name, dim) in enumerate(EXPERTS.items()):
        at = batch["feature_mask"][..., number]
        rows = shown["features"][..., edge : edge + dim][at].double()
        edge += dim
        projection = centred.video_experts[name].projection.double()
        wanted = F.linear(
            (rows - rows.mean(0)) / rows.std(0),
            before[f"video_experts.{name}.projection.weight"].double(),
            before[f"video_experts.{name}.projection.bias"].double(),
        )
        torch.testing.assert_close(projection(rows), wanted, rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("options", VARIANTS, ids=named_variant)
def test_packed_is_plain(options):
    model, batch = build(**options).double(), inputs()
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    if model.config.text != "words":  # CLIP's eager one rounds to single
        model.text_model.set_attn_implementation("sdpa" if model.is_clip else "eager")
    for layer in model.layer:
        layer.attention.self.config._attn_implementation = "eager"
    found, wanted = model(**batch)["similarity"], plain(model, batch)["similarity"]
    assert found.std() > 0.002
    torch.testing.assert_close(found, wanted)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(3), dtype=found.dtype)
    gradients = []
    for out in (found, wanted):
        model.zero_grad()
        (out * weight).sum().backward()
        gradients.append(
            {n: p.grad for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-9}
        )
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("options", VARIANTS, ids=named_variant)
def test_padding_and_batch_do_not_matter(options):
    model, batch = build(**options), inputs()
    with torch.inference_mode():
        whole, part = model(**batch), model(**inputs(2))
        noisy = inputs(extra=3)
        wide = noisy["feature_mask"].repeat_interleave(torch.tensor(list(EXPERTS.values())), dim=2)
        noisy["features"][~wide] = 77.0
        noisy["maxima"][~wide.any(1)] = 77.0
        noisy["input_ids"][noisy["attention_mask"] == 0] = 0
        padded = model(**noisy)
    for name in ("text_vectors", "video_vectors"):
        torch.testing.assert_close(part[name], whole[name][:2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(padded[name], whole[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(part["similarity"], whole["similarity"][:2, :2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", VARIANTS, ids=named_variant)
def test_embeddings_score_as_the_model(options):
    model, batch = build(**options), inputs()
    with torch.inference_mode():
        whole = model(**batch)
        texts, videos = model.embed_texts(**texts_of(batch)), model.embed_videos(**videos_of(batch))
    torch.testing.assert_close(texts @ videos.T, whole["similarity"], rtol=1e-4, atol=1e-5)
    named = [whole.get(name) for name in ("text_vectors", "video_vectors", "text_weights", "available")]
    np.testing.assert_allclose(scores(*named), whole["similarity"].numpy(), rtol=1e-4, atol=1e-5)
    if model.config.keep_missing and model.config.tokens != "frames":
        torch.testing.assert_close(videos.norm(dim=1), torch.full((6,), 3**0.5), rtol=1e-4, atol=1e-5)


def test_a_missing_expert_counts_only_where_it_is_kept():
    batch = inputs()
    for keep in (True, False):
        model = build(keep_missing=keep)
        with torch.inference_mode():
            videos = model(**batch)["video_vectors"].view(6, 3, 16)
        norms = torch.linalg.vector_norm(videos, dim=2)
        expected = torch.ones(6, 3) if keep else (ROWS > 0).float()
        torch.testing.assert_close(norms, expected, rtol=1e-4, atol=1e-5)


def test_many_experts_without_keep_missing_are_refused_at_embedding():
    dims = {f"e{n}": 2 for n in range(9)}
    model = build(experts=dims, keep_missing=False)
    with pytest.raises(ValueError, match=r"9 experts of width 16 has 73584 numbers, expected at most 32768"):
        model.embed_texts(**texts_of(inputs()))


def test_times_matter_only_with_a_temporal_embedding():
    for temporal in (True, False):
        model, batch = build(temporal=temporal), inputs()
        with torch.inference_mode():
            before = model(**batch)["video_vectors"]
            moved = model(**{**batch, "positions": batch["positions"] % 7 + 1})["video_vectors"]
            late = model(**{**batch, "positions": torch.where(batch["positions"] > 30, 4000, batch["positions"])})
        assert torch.equal(before, moved) != temporal
        assert torch.equal(before, late["video_vectors"])  # later seconds share the last position


def test_saved_is_loaded_equal(tmp_path: Path):
    for number, options in enumerate(
        ({}, {"text_encoder": OF_CLIP, **ENDS, "tokens": "frames", "keep_missing": False})
    ):
        model, folder = build(**options), tmp_path / str(number)
        model.save_pretrained(folder)
        again = AutoModel.from_pretrained(folder).eval()
        assert type(again) is type(model) and again.config.experts == EXPERTS
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
        with torch.inference_mode():
            found, wanted = again(**inputs())["similarity"], model(**inputs())["similarity"]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keep_missing", [True, False])
def test_learns_one_batch(keep_missing):
    torch.manual_seed(0)
    model, batch = build(keep_missing=keep_missing, dropout=0.1), inputs(4)
    step = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        model.train()
        step.zero_grad()
        loss = max_margin(model(**batch)["similarity"], margin=0.2)
        loss.backward()
        step.step()
    assert loss.item() < 0.02
    found = model.eval()(**batch)["similarity"]
    assert found.argmax(1).tolist() == [0, 1, 2, 3]


def test_dropout_is_everywhere_and_repeats_itself():
    model, batch = build(dropout=0.3).train(), inputs()
    outs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(model(**batch)["similarity"])
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])


def test_bfloat16_is_near():
    model, batch = build(), inputs()
    with torch.inference_mode():
        exact = model(**batch)["similarity"]
        with torch.autocast("cpu", torch.bfloat16):
            near = model(**batch)["similarity"]
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=0, atol=0.05)


def test_a_bert_brings_its_weights(tmp_path: Path):
    torch.manual_seed(1)
    source = BertForMaskedLM(
        BertConfig(
            vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16,
        )
    ).eval()  # fmt: skip
    source.save_pretrained(tmp_path)
    model = mmt.Model(
        mmt.Config(**SMALL, experts=EXPERTS, pretrained=str(tmp_path), vocab_size=40, text_length=9)
    ).eval()
    model.initialise()
    batch = texts_of(inputs())
    with torch.inference_mode():
        state = source.bert(**batch).last_hidden_state[:, 0]
        torch.testing.assert_close(model.text_states(**batch), state, rtol=1e-4, atol=1e-5)


def published_clip() -> CLIPModel:
    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = {"vocab_size": 40, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 39}
    vision = {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config={**tower, **text}, vision_config={**tower, **vision}, projection_dim=64)
    torch.manual_seed(1)
    return CLIPModel(config).eval()


def small_clip() -> clip.Model:
    torch.manual_seed(1)
    sizes = {key: value for key, value in CLIP["model"].items() if key != "name"}
    return clip.Model(clip.Config(vocab_size=40, **sizes)).eval()


@pytest.mark.parametrize("made", [published_clip, small_clip])
def test_a_clip_brings_its_text_tower(tmp_path: Path, made):
    source, batch = made(), texts_of(inputs())
    source.save_pretrained(tmp_path)
    ids = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 39, "text_length": 9}
    brought = mmt.Model(mmt.Config(**SMALL, **ids, experts=EXPERTS, pretrained=str(tmp_path))).eval()
    brought.initialise()
    with torch.inference_mode():
        found = source.text_model(**batch)
        state = found.pooler_output if made is published_clip else found.last_hidden_state[:, 0]
        torch.testing.assert_close(brought.text_states(**batch), state, rtol=1e-4, atol=1e-5)


def test_a_clip_and_a_tokenizer_end_texts_alike(tmp_path: Path):
    published_clip().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="texts end with 39 for the text encoder, the tokenizer's with 7"):
        mmt.Config(experts=EXPERTS, pretrained=str(tmp_path), vocab_size=40, eos_token_id=7)


def test_more_experts_start_from_fewer():
    few, many = build(experts={"motion": 4, "speech": 3}), build()
    with pytest.raises(ValueError, match="which no checkpoint has"):
        load_weights(many, few.state_dict())  # an expert's weights have its name, so none is taken for another
    new = [re.escape(name) for name in many.state_dict().keys() - few.state_dict().keys()]
    load_weights(many, few.state_dict(), fresh=new)
    assert all(torch.equal(many.state_dict()[name], value) for name, value in few.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "words", "pretrained": "somewhere"}, "learns its own vectors; pretrained 'somewhere'"),
        ({"width": 10, "heads": 4}, "width 10 is not a multiple of the 4 heads"),
        ({"max_positions": 2}, "max_positions 2"),
        ({"experts": {}}, "no experts"),
    ],
)
def test_refuses_what_does_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_refuses_longer_texts():
    batch = inputs()
    with pytest.raises(ValueError, match="9 tokens, expected at most 5"):
        build(text_length=5)(**batch)


def counted(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", ["MSRVTT_jsfusion_trainval", "LSMDC_full_trainval", "ActivityNet_val1_trainval"])
def test_counts_of_parameters_are_the_published(name):
    known = json.loads((fixtures() / "param_counts.json").read_text())[f"MMT {name}"]
    dims = {"face": 512, "ocr": 300, "rgb": 2048, "s3d": 1024, "scene": 2208, "speech": 300, "vggish": 128}
    dims["face"] = 128 if name.startswith("LSMDC") else 512
    dims = {e: dims[e] for e in known["experts"]}
    with torch.device("meta"):
        model = mmt.Model(mmt.Config(experts=dims, max_positions=known["max_position"], text_length=512))
    text = counted(model.text_model) + counted(model.text_experts)
    video = counted(model) - text
    pooler, unused = 512 * 512 + 512, (known["type_vocab"] - 1 - len(dims)) * 512
    assert video + unused == known["video_without_pooler"] and video + unused + pooler == known["video"]
    assert counted(model.text_model) + 768 * 768 + 768 == known["bert"]
    assert text + 768 * 768 + 768 == known["text"]


def published(**options) -> tuple[mmt.Model, dict[str, np.ndarray], dict[str, torch.Tensor]]:
    """The authors' weights in our model, double precision, with their inputs and outputs."""
    with np.load(fixtures() / "arch_mmt.npz") as file:
        z = {name: file[name] for name in file.files}
    theirs = {k.removeprefix("param__"): torch.from_numpy(v).double() for k, v in z.items() if k.startswith("param__")}
    names = [str(name) for name in z["experts"]]
    model = mmt.Model(
        mmt.Config(
            **options, experts={n: z[f"features__{n}"].shape[2] for n in names}, layers=2, heads=4, width=16, ffn=32,
            text_layers=1, text_width=24, text_heads=2, text_ffn=8, vocab_size=40, text_length=9,
        )
    )  # fmt: skip
    marks = theirs.pop("vid_bert.embeddings.token_type_embeddings.weight")
    weights = {"start": marks[0]}
    for name, number in zip(names, z["expert_type_id"].tolist(), strict=True):
        weights[f"video_experts.{name}.mark"] = marks[number]
    renamed = [
        ("vid_bert.embeddings.position_embeddings", "times"),
        ("vid_bert.embeddings.layer_norm", "norm"),
        ("vid_bert.encoder.layer", "layer"),
        ("layer_norm", "LayerNorm"),
    ]
    for name, value in theirs.items():
        for old, new in renamed:
            name = name.replace(old, new)
        for n in names:
            name = name.replace(f"video_dim_reduce.{n}.fc", f"video_experts.{n}.projection")
            name = name.replace(f"text_GU.{n}.fc", f"text_experts.{n}.projection")
            name = name.replace(f"text_GU.{n}.cg.fc", f"text_experts.{n}.gate")
            name = name.replace(f"text_GU.{n}.cg.batch_norm", f"text_experts.{n}.norm")
            name = name.replace(f"moe_fc_txt.{n}", f"text_experts.{n}.weight")
        weights[name] = value
    left = model.double().load_state_dict(weights, strict=False)
    assert not left.unexpected_keys
    assert all(n.startswith("text_model.") or n.endswith("num_batches_tracked") for n in left.missing_keys)
    batch = {
        "features": torch.cat([torch.from_numpy(z[f"features__{n}"]) for n in names], 2),
        "feature_mask": torch.stack([torch.from_numpy(z[f"features_ind__{n}"]) > 0 for n in names], 2),
        "positions": torch.stack([torch.from_numpy(z[f"features_t__{n}"]).long() for n in names], 2),
        "maxima": torch.cat([torch.from_numpy(z[f"features_maxpool__{n}"]) for n in names], 1),
    }
    return model.eval(), z, {**batch, "means": torch.full_like(batch["maxima"], torch.nan)}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("captions", [1, 3])
def test_forward_is_the_published(keep, captions):
    model, z, batch = published(keep_missing=keep)
    states = torch.from_numpy(z[f"bert_cls_K{captions}"])
    model.text_model = torch.nn.Embedding.from_pretrained(states)  # in place of BERT: its published states
    texts = {"input_ids": torch.arange(len(states))[:, None], "attention_mask": torch.ones(len(states), 1).long()}
    with torch.inference_mode():
        out = model(**batch, **texts)
    close = {"rtol": 1e-9, "atol": 1e-12}
    wanted = torch.from_numpy(z[f"sim_K{captions}_keep{int(keep)}_indep"])
    torch.testing.assert_close(out["similarity"], wanted, **close)
    count = len(z["available"])
    vectors = out["text_vectors"].view(count, captions, 7, 16)
    units = F.normalize(vectors, dim=-1).transpose(1, 2)
    torch.testing.assert_close(units, torch.from_numpy(z[f"text_embds_K{captions}"]), **close)
    if not keep:
        assert np.array_equal(out["available"].numpy() > 0, z["available"])
        return
    theirs = torch.from_numpy(z[f"text_weights_K{captions}_keep1_indep"])
    torch.testing.assert_close(vectors.norm(dim=-1), theirs, **close)
    ours = out["video_vectors"].view(count, 7, 16)
    torch.testing.assert_close(ours, torch.from_numpy(z["video_embds"]), **close)
    with torch.inference_mode():
        scores = model.embed_texts(**texts) @ model.embed_videos(**batch).T
    torch.testing.assert_close(scores, wanted, **close)


def test_a_missing_experts_token_is_the_projections_bias():
    model, z, _ = published()
    wanted = torch.from_numpy(z["embedding_output"])[1, 1]  # video 1 has no face
    bias = F.normalize(model.video_experts["face"].projection.bias, dim=0)
    row = model.norm(bias + model.video_experts["face"].mark + model.times.weight[0])
    torch.testing.assert_close(row, wanted, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> tuple[Path, Path]:
    """The toy corpus; experts: mean colours of a frame's halves (colour), which side is bright (side), half of them."""
    corpus, features = toy(tmp_path_factory.mktemp("mmt"))
    frames = Store(features / "frames")
    rng = np.random.default_rng(0)
    with (
        StoreWriter(features / "colour", shape=(6,), dtype="float32", times=True) as colour,
        StoreWriter(features / "side", shape=(3,), dtype="float32") as side,
    ):
        for number, video in enumerate(frames.ids):
            halves = np.stack([h.mean((1, 2)) for h in np.split(frames[video] / 255.0, 2, axis=2)], 1)
            colour.add(video, halves.reshape(len(halves), 6) - 0.35, times=frames.times(video))
            if number % 2:
                bright = halves.max(2)[:, 0] - halves.max(2)[:, 1]
                side.add(video, np.c_[bright, -bright, rng.normal(size=len(bright)) * 0.1])
    return corpus, features


SYSTEM = {
    "model": {
        "name": "mmt", "layers": 1, "heads": 2, "width": 32, "ffn": 64, "text_layers": 1, "text_width": 32,
        "text_heads": 2, "text_ffn": 64,
    },
    "tokenizer": {"style": "bert", "vocab_size": 200},
    "examples": {"kind": "caption_experts", "experts": ["colour", "side"], "clockless": ["side"], "max_length": 16,
                 "per_video": 8},
    "objectives": {"max_margin": {"margin": 0.2}},
    "training": {"epochs": 12, "batch": 8, "lr": 3e-3, "precision": "fp32"},
}  # fmt: skip


@pytest.mark.parametrize("keep_missing", [True, False])
def test_trained_embedded_and_searched(toys, tmp_path, keep_missing):
    corpus, features = toys
    system = {**SYSTEM, "model": {**SYSTEM["model"], "keep_missing": keep_missing}}
    system["training"] = {**SYSTEM["training"], "epochs": 12 if keep_missing else 1}
    (tmp_path / "run").mkdir()
    given = {"corpus": corpus, "features": [features], "system": system, "threads": 1}
    train(output=tmp_path / "run", scratch=tmp_path, seed=0, **given)
    log = pl.read_csv(tmp_path / "run/log.csv")
    assert {"val/R@1", "val/R@5", "val/MdR", "val/max_margin"} <= set(log.columns)
    if keep_missing:
        assert log["val/R@5"][-1] > 80  # of 8 videos, one of a kind each: chance is 62.5
    assert yaml.safe_load((tmp_path / "run/system.yaml").read_text()) == system
    embed(output=tmp_path / "e", members=["seed0"], run=[tmp_path / "run"], **given)
    about = json.loads((tmp_path / "e/seed0/embed.json").read_text())
    assert about["score"] == "dot" and about["videos"]["dim"] == (2 if keep_missing else 3 * 2) * 32
    texts, videos = (Store(tmp_path / "e/seed0" / side) for side in ("texts", "videos"))
    assert abs(np.linalg.norm(texts.gather(texts.ids)[0], axis=1) - 1).min() > 0.1  # no unit vectors
    captions = tables.read("texts", corpus).filter(pl.col("kind") == "caption")
    relevance = captions.select(query_id="text_id", reference_id="video_id", grade=pl.lit(1.0))
    tables.write("relevance", relevance, tmp_path)
    sides = {"query": "text_id", "reference": "video_id"}
    splits = [("captions", role, i) for role, column in sides.items() for i in captions[column].unique().sort()]
    tables.write("splits", tables.frame("splits", splits), tmp_path)
    found = {}
    for kind in ("text_video", "video_text"):
        output = tmp_path / kind
        search(corpus=tmp_path, embeddings=tmp_path / "e", output=output, split="captions", kind=kind,
               members={"seed0": None})  # fmt: skip
        found[kind] = tables.read("rankings", output / "seed0").filter(pl.col("grade").is_not_null())
    matrix = texts.gather(texts.ids)[0].astype(float) @ videos.gather(videos.ids)[0].T.astype(float)
    for kind, s, rows, columns in (("text_video", matrix, texts, videos), ("video_text", matrix.T, videos, texts)):
        for query, reference, score, better in (
            found[kind].select("query_id", "reference_id", "score", "better").iter_rows()
        ):
            row, own = rows.index([query])[0], columns.index([reference])[0]
            assert score == pytest.approx(s[row, own], abs=1e-6)
            assert better == (s[row] > s[row, own] + 1e-9).sum()


def test_validation_ranks_as_search_does(toys):
    model = build(experts={"colour": 6, "side": 3}, keep_missing=False)
    g = torch.Generator().manual_seed(0)
    texts, videos = torch.randn(9, 32, generator=g), torch.randn(9, 32, generator=g)
    weights, available = torch.rand(9, 2, generator=g), (torch.rand(9, 2, generator=g) > 0.4).float()
    named = {"text_vectors": texts, "video_vectors": videos, "text_weights": weights, "available": available}
    s = (texts @ videos.T / (weights @ available.T).clamp(min=1e-5)).numpy()
    rank = (s > np.diag(s)[:, None]).sum(1)
    assert CaptionExperts.metrics["R@1"](**named) == pytest.approx(100 * (rank == 0).mean())
    assert CaptionExperts.metrics["R@5"](**named) == pytest.approx(100 * (rank < 5).mean())
    assert CaptionExperts.metrics["MdR"](**named) == pytest.approx(np.median(rank) + 1)
    assert ranking.KS[:2] == (1, 5) and model.comparison == "dot"
