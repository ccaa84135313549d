"""Token interaction against the published numbers and a plain twin, masks and blocks, and its place in the house."""

import shutil

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel

from paths import fixtures
from test_dual_encoding import backbone, batch_of, corpus, sentences, videos  # noqa: F401
from toys import trained
from videomatch.common.checkpoint import load_checkpoint
from videomatch.data import tables, tokenize
from videomatch.data.store import Store
from videomatch.examples.caption_video import CaptionVideo
from videomatch.models import clip, token_match
from videomatch.models.token_match import Importance, partial_scores, token_interaction, without_ends, without_important
from videomatch.objectives.hard_negatives import partial_order
from videomatch.stages._trained import PairScorer
from videomatch.stages.embed import embed
from videomatch.stages.search import search
from videomatch.stages.train import train

SMALL = {"frame_dim": 12, "max_frames": 6, "vocab_size": 40, "text_length": 9, "dropout": 0.0, "dim": 10}
BERT = {
    "model_type": "bert", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 9, "pad_token_id": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def dmae():
    with np.load(fixtures() / "dmae_similarity.npz") as z:
        return {name: torch.from_numpy(z[name]) for name in z.files}


@pytest.fixture(scope="module")
def tpmcl():
    with np.load(fixtures() / "tpmcl.npz") as z:
        return {name: torch.from_numpy(z[name]) for name in z.files}


def plain(words, counts, frames, mask, attend, padding, shares=None):
    """One text after the other, one video after the other; ``padding`` is the product of what is padded."""
    found = []
    for a, (text, count) in enumerate(zip(words, counts, strict=True)):
        for b, (video, there) in enumerate(zip(frames, mask, strict=True)):
            is_pair = (count[:, None] > 0) & (there > 0)
            products = torch.where(is_pair, text @ video.T, padding)
            alike = (video @ video.T * there * there[:, None]) * (1 - torch.eye(len(video)))
            by_word = list(products.amax(1))
            for i, best in enumerate(products.argmax(1).tolist() if attend else []):
                twin = int(alike[best].argmax())
                if count[i] > 0 and alike[best, twin] > 0:
                    by_word[i] = by_word[i] + 0.5 * alike[best, twin] * products[i, twin]
            alpha, beta = (count / count.sum(), there / there.sum()) if shares is None else (shares[0][a], shares[1][b])
            is_word, is_frame = count > 0, there > 0
            along = alpha[is_word] @ torch.stack(by_word)[is_word] + beta[is_frame] @ products.amax(0)[is_frame]
            found.append(along / 2)
    return torch.stack(found).view(len(words), len(frames))


THEIRS, OURS = torch.tensor(0.0).double(), torch.tensor(-torch.inf).double()


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize("mask", ["plainmask", "twm"])
@pytest.mark.parametrize("kind", ["wordframe", "ti", "att_ti"])
def test_the_interaction_is_the_published_but_for_padding(dmae, kind, mask, attend):
    """The published numbers are those of the twin with padding at 0, ours those of the twin without padding; where no
    padding wins ours are the published ones."""
    name = f"{kind}_va{int(attend)}_{mask}"
    counts = dmae["word_mask_twm" if mask == "twm" else "word_mask"]
    inputs = [dmae[n].clone().requires_grad_() for n in ("sentence", "words", "frames")]
    levels = {"wordframe": [(inputs[1], counts)], "ti": [(inputs[0], counts[:, :1])]}
    levels = (levels | {"att_ti": [*levels["wordframe"], *levels["ti"]]})[kind]
    theirs, ours = (
        torch.stack([plain(*level, inputs[2], dmae["frame_mask"], attend, padding) for level in levels]).mean(0)
        for padding in (THEIRS, OURS)
    )
    torch.testing.assert_close(theirs, dmae[f"sim_{name}"], rtol=0, atol=1e-9)
    beta = dmae["frame_mask"] / dmae["frame_mask"].sum(1, keepdim=True)
    given = [(x, m / m.sum(1, keepdim=True)) for x, m in levels]
    found = token_interaction(given, inputs[2], beta, attend=attend)
    torch.testing.assert_close(found, ours, rtol=0, atol=1e-9)
    is_same = (theirs - ours).abs() < 1e-12
    assert is_same.any()
    torch.testing.assert_close(found[is_same], dmae[f"sim_{name}"][is_same], rtol=0, atol=1e-9)
    cotangent = dmae.get(f"cotangent_{name}", torch.rand(ours.shape, dtype=torch.float64))
    gradients = [torch.autograd.grad((x * cotangent).sum(), inputs, allow_unused=True) for x in (theirs, ours, found)]
    for side, of_theirs, of_ours, of_found in zip(("sentence", "words", "frames"), *gradients, strict=True):
        if f"cotangent_{name}" in dmae and of_theirs is not None:
            torch.testing.assert_close(of_theirs, dmae[f"grad_{side}_{name}"], rtol=0, atol=1e-9)
        assert (of_found is None) == (of_ours is None)
        if of_ours is not None:
            torch.testing.assert_close(of_found, of_ours, rtol=0, atol=1e-9)


@pytest.mark.parametrize("attend", [False, True])
def test_learned_weights_are_the_published_but_for_padding(dmae, attend):
    name = f"att_wti_va{int(attend)}_plainmask"
    model = build(learned_weights=True, visual_attention=attend)
    for layer, side in ((model.word_weight, "text"), (model.frame_weight, "video")):
        layer.weight.data, layer.bias.data = (dmae[f"param_{name}__{side}_weight_fc.{k}"] for k in ("weight", "bias"))
    counts, mask = dmae["word_mask"], dmae["frame_mask"]
    shares = [
        token_match.token_weights(layer, dmae[side], there)
        for layer, side, there in (
            (model.word_weight, "words", counts),
            (model.word_weight, "sentence", counts[:, :1]),
            (model.frame_weight, "frames", mask),
        )
    ]
    found = model.match(
        {"text_embeds": dmae["sentence"][:, 0], "word_tokens": dmae["words"], "word_weights": shares[0]},
        {"frame_tokens": dmae["frames"], "frame_weights": shares[2]},
    )
    for padding, wanted in ((THEIRS, dmae[f"sim_{name}"]), (OURS, found)):
        levels = [
            plain(x, m, dmae["frames"], mask, attend, padding, (share, shares[2]))
            for x, m, share in ((dmae["words"], counts, shares[0]), (dmae["sentence"], counts[:, :1], shares[1]))
        ]
        torch.testing.assert_close(torch.stack(levels).mean(0), wanted, rtol=0, atol=1e-9)


def test_logits_of_raw_tokens_are_the_published_but_for_padding(dmae):
    """Content words, visual attention, both levels; what comes from the encoders is made unit vectors."""
    words, frames = (F.normalize(dmae[f"raw_{side}"], dim=-1) for side in ("words", "frames"))
    counts, mask = dmae["word_mask_twm"], dmae["frame_mask"]
    model = build(visual_attention=True)
    found = model.match(
        {
            "text_embeds": dmae["sentence"][:, 0],
            "word_tokens": words,
            "word_weights": token_match.token_weights(None, words, counts),
        },
        {"frame_tokens": frames, "frame_weights": token_match.token_weights(None, frames, mask)},
    )
    for padding, wanted in ((THEIRS, dmae["sim_get_similarity_logits"]), (OURS, found)):
        levels = ((words, counts), (dmae["sentence"], counts[:, :1]))
        twin = torch.stack([plain(*level, frames, mask, True, padding) for level in levels]).mean(0)
        torch.testing.assert_close(twin, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("side", ["t2v", "v2t"])
def test_the_importance_predictors_are_the_published(side):
    with np.load(fixtures() / "arch_xwp.npz") as z:
        z = {name.removeprefix(f"{side}_"): torch.from_numpy(z[name]) for name in z.files if name.startswith(side)}
    predictor = predictor_of(z, "param__")
    q, k = z["q"].requires_grad_(), z["k"].requires_grad_()
    found = predictor(q, k, torch.ones(k.shape[:2], dtype=torch.bool))
    torch.testing.assert_close(found, z["weights"], rtol=0, atol=1e-9)
    gradients = torch.autograd.grad(found.square().sum(), [q, k])
    for gradient, name in zip(gradients, "qk", strict=True):
        torch.testing.assert_close(gradient, z[f"grad_{name}_of_sum_w2"], rtol=0, atol=1e-9)
    short = predictor(q, k[:, :-2], torch.ones(len(k), k.shape[1] - 2, dtype=torch.bool))
    mask = torch.arange(k.shape[1]).expand(len(k), -1) < k.shape[1] - 2
    padded = predictor(q, k * mask[..., None], mask)
    torch.testing.assert_close(padded[:, :-2], short)
    assert not padded[:, -2:].any() and torch.allclose(short.sum(1), torch.ones(len(k)).double())


def predictor_of(z: dict[str, torch.Tensor], prefix: str) -> Importance:
    """A predictor with the authors' weights."""
    names = {"qk_proj": "mix", "attn_proj.0": "norm", "attn_proj.1": "hidden", "attn_proj.3": "weight"}
    state = {}
    for theirs, ours in names.items():
        state |= {
            f"{ours}.{kind}": z[f"{prefix}{theirs}.{kind}"]
            for kind in ("weight", "bias")
            if f"{prefix}{theirs}.{kind}" in z
        }
    keys, queries = state["mix.weight"].shape
    found = Importance(queries, keys, state["hidden.weight"].shape[1] // 2).double()
    found.load_state_dict(state)
    return found


ORDERS = {2: "visual", 3: "textual", 4: "both"}


@pytest.mark.parametrize("margin", [0.6, 0.1])
@pytest.mark.parametrize("kind", ORDERS)
def test_partial_orders_are_the_published(tpmcl, kind, margin):
    z, rows = tpmcl, torch.arange(4)
    sides = [z[name].clone().requires_grad_() for name in ("sentence", "words", "frames")]
    weights = z["given_word_weights_text_video"][rows, rows], z["given_frame_weights_video_text"][rows, rows]
    words, frames = (sides[1], z["word_mask"] > 0), (sides[2], z["frame_mask"] > 0)
    whole, part = partial_scores(sides[0][:, 0], words, frames, *weights)
    named = {"t2vh": whole[:, 0], "tg2vh": whole[:, 1], "t2vhh": part[:, 0], "tg2vhh": part[:, 1], "tgh2vh": part[:, 2]}
    for name, scores in named.items():
        torch.testing.assert_close(scores, z[f"given_{name}"].diagonal(), rtol=0, atol=1e-9)
    loss = partial_order(whole, part, margin=margin, orders=ORDERS[kind])
    key = f"given_type{kind}_margin{margin}"
    assert loss.item() == pytest.approx(float(z[f"loss_{key}"]), rel=1e-9)
    for side, gradient in zip(("sentence", "words", "frames"), torch.autograd.grad(loss, sides), strict=True):
        torch.testing.assert_close(gradient, z[f"grad_{side}_{key}"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ORDERS)
def test_partial_orders_by_the_predictors_are_the_published(tpmcl, kind):
    """Theirs give padding importance, too: here no token is taken for padding before it is compared."""
    z = tpmcl
    words, frames = (z[name].clone().requires_grad_() for name in ("words", "frames"))
    of_frames, of_words = (predictor_of(z, f"param__{side}_linear_xwp.") for side in ("t2v", "v2t"))
    everything = [torch.ones_like(z[f"{side}_mask"], dtype=torch.bool) for side in ("word", "frame")]
    weights = of_words(frames, words, everything[0]), of_frames(z["sentence"], frames, everything[1])
    masks = z["word_mask"] > 0, z["frame_mask"] > 0
    scores = partial_scores(z["sentence"][:, 0], (words, masks[0]), (frames, masks[1]), *weights, learned_masks=False)
    loss = partial_order(*scores, orders=ORDERS[kind])
    assert loss.item() == pytest.approx(float(z[f"loss_pred_type{kind}"]), rel=1e-9)
    parameters = {"qk_proj.weight": of_words.mix.weight, "attn_proj.0.weight": of_words.norm.weight}
    parameters |= {"attn_proj.0.bias": of_words.norm.bias, "attn_proj.1.weight": of_words.hidden.weight}
    parameters |= {"attn_proj.3.weight": of_words.weight.weight} if kind == 4 else {}
    inputs = [words, frames, *(parameters.values() if kind == 4 else ())]
    found = torch.autograd.grad(loss, inputs)
    names = [f"grad_{side}_pred_type{kind}" for side in ("words", "frames")]
    names += [f"paramgrad_type4__v2t_linear_xwp.{name}" for name in parameters] if kind == 4 else []
    for gradient, name in zip(found, names, strict=True):
        torch.testing.assert_close(gradient, z[name], rtol=0, atol=1e-9)


def test_masks_teach_the_importance_of_frames():
    """What raises the score of the masked pair should be masked, so its importance grows; theirs never changes."""
    model, given = build(**FULL).train(), batch()
    outputs = model(**given)
    parameters = list(model.frame_importance.parameters())
    gradients = torch.autograd.grad(outputs["part_scores"][:, :2].sum(), parameters, retain_graph=True)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    frames, mask = outputs["frame_tokens"].detach(), given["frame_mask"]
    importance = (mask / mask.sum(1, keepdim=True)).requires_grad_()
    words = outputs["word_tokens"].detach(), given["attention_mask"].bool()
    told = torch.ones(words[1].shape, dtype=torch.float64) / 9
    for learned in (True, False):
        _, part = partial_scores(
            outputs["text_embeds"].detach(), words, (frames, mask), told, importance, learned_masks=learned
        )
        assert part[:, 0].requires_grad == learned
    _, part = partial_scores(outputs["text_embeds"].detach(), words, (frames, mask), told, importance)
    (gradient,) = torch.autograd.grad(part[:, 0].sum(), importance)
    products = torch.einsum("bd,bvd->bv", outputs["text_embeds"].detach(), frames)
    assert ((gradient < 0) == (products > 0))[mask].double().mean() > 0.8


def test_the_token_of_the_sentence_takes_all_importance_unless_the_ends_have_none():
    """Words of 12, of which four tell what half of the frames show; the first one is the sentence."""
    generator, rows = torch.Generator().manual_seed(0), torch.arange(32)[:, None]
    concepts, others = (F.normalize(torch.randn(count, 32, generator=generator), dim=-1) for count in (20, 10))
    concepts = F.normalize(concepts + concepts[:1], dim=-1)

    def drawn():
        told = torch.randint(20, (32, 4), generator=generator)
        place = 1 + torch.rand(32, 10, generator=generator).argsort(1)[:, :4]
        words = others[torch.randint(10, (32, 12), generator=generator)]
        words[rows, place] = concepts[told]
        words[:, 0] = F.normalize(concepts[told].sum(1), dim=-1)
        frames = concepts[torch.randint(20, (32, 6), generator=generator)]
        frames[:, ::2] = words[:, :1]
        return words, frames, torch.zeros(32, 12).scatter(1, place, 1.0)

    shares = {}
    for important_ends in (True, False):
        torch.manual_seed(0)
        of_words = Importance(6, 12, 32)
        optimiser = torch.optim.AdamW(of_words.parameters(), lr=1e-2)
        for _ in range(60):
            words, frames, tells = drawn()
            there = torch.ones(32, 12, dtype=torch.bool)
            of_frames, is_frame = torch.full((32, 6), 1 / 6), torch.ones(32, 6, dtype=torch.bool)
            importance = of_words(frames, words, there if important_ends else without_ends(there))
            scores = partial_scores(words[:, 0], (words, there), (frames, is_frame), importance, of_frames)
            optimiser.zero_grad()
            partial_order(*scores, margin=0.6, orders="textual").backward()
            optimiser.step()
        shares[important_ends] = [
            float((importance.detach() * some).sum(1).mean()) for some in (tells, F.one_hot(rows[:, 0] * 0, 12))
        ]
    assert shares[True][1] > 0.5 > 5 * shares[True][0], "the sentence alone"
    assert shares[False][1] == 0 and shares[False][0] > 0.55, (
        "the four of ten that tell something have .4 if all are equal"
    )


def test_the_ends_of_a_text_have_no_importance_where_the_model_is_told_so():
    given = batch()
    mask, rows = given["attention_mask"].bool(), torch.arange(6)
    for important_ends in (True, False):
        model = build(**FULL, important_ends=important_ends)
        outputs = model(**given)
        words, frames = (outputs["word_tokens"], mask), (outputs["frame_tokens"], given["frame_mask"].bool())
        of_words, _ = model.importance(outputs["text_embeds"], words, frames)
        ends = torch.stack([of_words[:, 0], of_words[rows, mask.sum(1) - 1]])
        assert (ends > 0).all() if important_ends else (ends == 0).all()
        torch.testing.assert_close(of_words.sum(1), torch.ones(6, dtype=torch.float64))
        assert outputs["part_scores"].isfinite().all()
    alone = torch.tensor([[True, True, False], [True, True, True]])
    assert without_ends(alone).tolist() == [[True, True, False], [False, True, False]], (
        "a text without words keeps them"
    )


def test_the_most_important_tokens_are_masked_as_published(tpmcl):
    found = without_important(tpmcl["selector_tokens"], tpmcl["selector_weights"])
    torch.testing.assert_close(found, tpmcl["selector_out"], rtol=0, atol=0)


def build(**options) -> token_match.Model:
    torch.manual_seed(0)
    return token_match.Model(token_match.Config(**{**SMALL, "text_encoder": BERT, **options})).double().eval()


OPTIONS = {"visual_attention": True, "importance": True}
FULL = OPTIONS | {"content_tokens": [5, 9, 17, 30], "max_frames": 9}


def batch(count: int = 6) -> dict[str, torch.Tensor]:
    given = batch_of([video.double() for video in videos((5, 1, 9, 7, 2, 9))[:count]])
    return {name: given[name] for name in ("frames", "frame_mask")} | sentences(count, 40)


def test_padding_and_blocks_do_not_matter(monkeypatch):
    model, given = build(**FULL), batch()
    with torch.inference_mode():
        found = model(**given)
        for name, width in (("frames", 9), ("frame_mask", 9), ("input_ids", 9), ("attention_mask", 9)):
            assert given[name].shape[1] == width
        few = {name: value[:, :7] for name, value in given.items()}
        some = [n for n in range(6) if few["frame_mask"][n].sum() == given["frame_mask"][n].sum()]
        some = [n for n in some if few["attention_mask"][n].sum() == given["attention_mask"][n].sum()]
        assert len(some) == 2
        short = model(**{name: value[some] for name, value in few.items()})
        torch.testing.assert_close(short["similarity"], found["similarity"][some][:, some])
        for name in ("whole_scores", "text_embeds", "video_embeds"):
            torch.testing.assert_close(short[name], found[name][some])
        monkeypatch.setattr(token_match, "CELLS", 1)
        torch.testing.assert_close(model(**given)["similarity"], found["similarity"], rtol=0, atol=1e-12)


def test_content_tokens_count_twice():
    model, given = build(**FULL), batch()
    weights = model.encode_texts(given["input_ids"], given["attention_mask"])["word_weights"]
    is_content = torch.isin(given["input_ids"], torch.tensor(FULL["content_tokens"]))
    counts = (1.0 + is_content) * given["attention_mask"]
    assert is_content.any()
    torch.testing.assert_close(weights, counts.double() / counts.sum(1, keepdim=True))
    triple = build(**FULL, content_weight=3.0).encode_texts(given["input_ids"], given["attention_mask"])["word_weights"]
    assert (triple[is_content] > weights[is_content]).all()


@pytest.mark.parametrize("published", [False, True])
def test_it_starts_as_the_clip_that_it_takes(backbone, published, tmp_path):  # noqa: F811
    """Sentence and frames are in the CLIP's own space."""
    if published:
        ids = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 39}
        tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = CLIPConfig(text_config=tower | ids, vision_config=tower | {"image_size": 32}, projection_dim=12)
        source = CLIPModel(config).eval()
        source.save_pretrained(tmp_path)
        backbone = tmp_path
    else:
        source = clip.Model.from_pretrained(backbone).eval()
    options = {"frame_dim": source.config.projection_dim, "text_length": 9, "vocab_size": 40, "max_frames": 9}
    torch.manual_seed(0)
    model = token_match.Model(token_match.Config(pretrained=str(backbone), **options)).eval()
    model.initialise()
    texts, frames = sentences(vocabulary=40), torch.randn(3, 4, options["frame_dim"])
    mask = torch.arange(4) < torch.tensor([[4], [1], [3]])
    with torch.inference_mode():
        wanted = F.normalize(source.get_text_features(**texts).pooler_output, dim=-1)
        torch.testing.assert_close(model.embed_texts(**texts), wanted, rtol=1e-4, atol=1e-5)
        mean = (F.normalize(frames, dim=-1) * mask[..., None]).sum(1)
        torch.testing.assert_close(model.embed_videos(frames=frames, frame_mask=mask), F.normalize(mean, dim=-1))
        saved = token_match.Model.from_pretrained(_saved(model, tmp_path / "again")).eval()
        torch.testing.assert_close(saved.embed_texts(**texts), wanted, rtol=1e-4, atol=1e-5)


def _saved(model, folder):
    model.save_pretrained(folder)
    return folder


def test_saved_is_loaded_equal(tmp_path):
    model = build(**FULL, learned_weights=True)
    saved = token_match.Model.from_pretrained(_saved(model, tmp_path))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(saved.state_dict()[name], value, msg=name)
    assert model.frame_importance.hidden.weight.std() > 0.1, "as torch's layers start"


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="needs a `backbone`"):
        token_match.Config(**SMALL)
    with pytest.raises(ValueError, match="content_weight 0"):
        token_match.Config(**SMALL, text_encoder=BERT, content_weight=0.0)
    with pytest.raises(ValueError, match="the encoder knows 40 tokens, the tokenizer 41"):
        token_match.Config(**SMALL | {"vocab_size": 41}, text_encoder=BERT)
    ids = torch.ones(1, 10, dtype=torch.int64)
    with pytest.raises(ValueError, match="10 tokens, expected at most 9"):
        build().embed_texts(ids, ids)


def test_trained_embedded_and_ranked_again(corpus, tmp_path, monkeypatch):  # noqa: F811
    words = tokenize.tokenizer(texts=CaptionVideo.vocabulary(corpus[0], {}), style="bert", vocab_size=300)
    words.save_pretrained(tmp_path / "bert")
    config = BERT | {"vocab_size": len(words), "max_position_embeddings": 24}
    torch.manual_seed(0)
    BertModel(BertConfig(**config)).save_pretrained(tmp_path / "bert")
    system = {
        "model": {"name": "token_match", "pretrained": str(tmp_path / "bert"), "dim": 32, **OPTIONS},
        "tokenizer": {"pretrained": str(tmp_path / "bert")},
        "examples": {
            "kind": "caption_video", "expert": "vectors", "max_length": 24, "max_frames": 8, "content_words": 9
        },
        "objectives": {
            "neg_nce": {"scale": 20.0},
            "partial_order": {"margin": 0.1},
            "triplet": {"hardest": False, "mean": True},
        },
        "training": {"epochs": 60, "batch": 14, "lr": 5e-3, "precision": "fp32", "validate_every": 0},
    }  # fmt: skip
    (tmp_path / "run").mkdir()
    given = {"corpus": corpus[0], "features": [corpus[1]], "threads": 1, "system": system}
    train(output=tmp_path / "run", scratch=tmp_path, seed=0, **given)
    rows = pl.read_csv(tmp_path / "run/log.csv")
    for name, share in (("neg_nce", 0.2), ("partial_order", 0.3), ("triplet", 0.5)):
        assert rows[f"train/{name}"][-1] < share * rows[f"train/{name}"][0], name
    model, _ = load_checkpoint(tmp_path / "run")
    chosen = {words.convert_ids_to_tokens(int(n)) for n in model.is_content.nonzero()[:, 0]}
    assert {"red", "blue", "left"} <= chosen and not {"a", "the", "has"} & chosen
    embed(output=tmp_path / "e", members=["seed0"], run=[tmp_path / "run"], **given)
    embedded = [Store(tmp_path / "e/seed0" / side) for side in ("videos", "texts")]
    scores = embedded[1].gather(embedded[1].ids)[0] @ embedded[0].gather(embedded[0].ids)[0].T
    best = embedded[0].ids.gather(scores.argmax(1))
    assert (
        np.mean([int(t[1:4]) % 8 == int(v[1:]) % 8 for t, v in zip(embedded[1].ids, best, strict=True)]) > 0.35
    )  # chance is an eighth
    # a search in which this model ranks again what its own vectors found
    folder = corpus[0]
    rows = pl.DataFrame({"text_id": embedded[1].ids}).with_columns(video=pl.col("text_id").str.slice(0, 4))
    rows = rows.filter(pl.col("video") != "v001")
    splits = [("captions", "query", t) for t in rows["text_id"]]
    splits += [("captions", "reference", v) for v in rows["video"].unique()]
    here = tmp_path / "corpus"
    shutil.copytree(folder, here)
    tables.write("splits", pl.concat([tables.read("splits", folder), tables.frame("splits", splits)]), here)
    tables.write("relevance", tables.frame("relevance", [(t, v, 1.0) for t, v in rows.iter_rows()]), here)
    monkeypatch.setattr("videomatch.stages._trained.SIDE", 5)
    found = {}
    for kind in ("text_video", "video_text"):
        for top in (3, None):
            output = tmp_path / f"{kind}-{top}"
            search(
                corpus=here, embeddings=tmp_path / "e", output=output, split="captions", kind=kind,
                members={"seed0": None}, rescore={"method": "rerank", "top": top}, features=[corpus[1]],
                run=[tmp_path / "run"],
            )  # fmt: skip
            found[kind, top] = tables.read("rankings", output / "seed0").filter(pl.col("grade").is_not_null())
    scorer = PairScorer(tmp_path / "run", here, [corpus[1]])
    texts = dict(tables.read("texts", here).select("text_id", "text").iter_rows())
    videos = sorted(rows["video"].unique())
    whole = scorer.matched(scorer.texts([texts[t] for t in rows["text_id"]]), scorer.videos(videos))
    place = {t: n for n, t in enumerate(rows["text_id"])}
    for query, reference, score, _, better, _ in found["text_video", None].iter_rows():
        row = whole[place[query]]
        assert score == pytest.approx(row[videos.index(reference)], abs=1e-5)
        assert better == pytest.approx((row > score).sum(), abs=1)
    one, other = (found[k, None].sort("score")["score"] for k in ("text_video", "video_text"))
    np.testing.assert_allclose(one, other, atol=1e-5)
    best = (
        found["text_video", 3]
        .filter(pl.col("better") < 3)
        .join(found["text_video", None], on=["query_id", "reference_id"], suffix="_all")
    )
    assert len(best) > 10
    np.testing.assert_allclose(best["score"], best["score_all"], atol=1e-5)


def test_a_model_that_scores_no_pairs_is_refused(corpus, tmp_path):  # noqa: F811
    folder = trained(tmp_path / "run", "image_tagger", image_size=32, channels=[16], blocks=[1])
    (folder / "system.yaml").write_text("model: {name: image_tagger}\nexamples: {kind: frame_tags, expert: frames}\n")
    with pytest.raises(ValueError, match="its model scores no pairs"):
        PairScorer(folder, corpus[0], [corpus[1]])
