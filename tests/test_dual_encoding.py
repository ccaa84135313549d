"""Dual encoding against the published system's own numbers and slow twins, its examples and its loss."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel, AutoTokenizer, CLIPConfig, CLIPModel

from paths import fixtures
from toys import toy
from videomatch import examples as examples_
from videomatch.data import tables, tokenize
from videomatch.data.store import Store, StoreWriter
from videomatch.examples.caption_video import CaptionVideo, recall_sum
from videomatch.models import clip, dual_encoding
from videomatch.objectives.margins import triplet
from videomatch.stages.embed import embed
from videomatch.stages.train import train

#: the authors' names and ours
VIDEO = {"rnn": "video.gru", "convs1": "video.convolutions", "visual_mapping": "video_maps.0"}
TEXT = {"embed": "words", "rnn": "sentence.gru", "convs1": "sentence.convolutions", "text_mapping": "text_map"}
SMALL = {"frame_dim": 12, "hidden": 5, "filters": 6, "dim": 16}
SENTENCE = {"word_dim": 9, "word_hidden": 4, "word_filters": 5, "vocab_size": 24, "text": "words"}
LEVELS = {"full": ["mean", "gru", "conv"], "reduced": ["gru", "conv"]}


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(fixtures() / name) as file:
        return {key: file[key] for key in file.files}


def published(z: dict[str, np.ndarray], prefix: str, names: dict[str, str], model: nn.Module) -> None:
    """Give a model the authors' weights of one side."""
    state = {}
    for key, value in z.items():
        if key.startswith(prefix):
            head, rest = key.removeprefix(prefix).split(".", 1)
            rest = rest.replace("fc1", "linear").replace("bn_1", "norm")
            weight = torch.from_numpy(value).double()
            state[f"{names[head]}.{rest}"] = weight.flatten(1) if weight.ndim == 4 else weight
    missing, odd = model.load_state_dict(state, strict=False)
    own = {name for name in missing if name.split(".")[0] in {n.split(".")[0] for n in names.values()}}
    assert not odd and all(name.endswith("num_batches_tracked") for name in own)


def published_side(z: dict[str, np.ndarray], which: str, side: str, names: dict[str, str]) -> dual_encoding.Model:
    """A double-precision model of some levels with the authors' weights of one side."""
    config = dual_encoding.Config(**SMALL, **SENTENCE, levels=LEVELS[which], fuse="concatenate", padded=True)
    model = dual_encoding.Model(config).double().eval()
    published(z, f"{side}_{which}_param__", names, model)
    return model


@pytest.mark.parametrize("which", LEVELS)
def test_videos_equal_the_published_system(which):
    z = arrays("arch_dual_encoding_video.npz")
    model = published_side(z, which, "video", VIDEO)
    batch = batch_of([torch.from_numpy(v) for v in np.split(z["frames_concat"], np.cumsum(z["n_frames"])[:-1])])
    with torch.inference_mode():
        each = model.video(batch["frame_mean"], batch["frames"], batch["frame_mask"], (True, True))
        levels = dict(zip(model.video.sizes, each, strict=True))
        found = model.embed_videos(**batch)
    for level, name in (("gru", "level2_bigru_mean"), ("conv", "level3_conv"), ("mean", "level1_mean")):
        if level in levels:
            np.testing.assert_allclose(levels[level], z[f"{which}_{name}"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found, z[f"{which}_output"], rtol=0, atol=1e-9)
    single = model.float()
    with torch.inference_mode():
        found = single.embed_videos(**{k: v if v.dtype == torch.bool else v.float() for k, v in batch.items()})
    np.testing.assert_allclose(found, z[f"{which}_output"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", LEVELS)
def test_sentences_equal_the_published_system(which):
    z = arrays("arch_dual_encoding_text.npz")
    model = published_side(z, which, "text", TEXT)
    ids = torch.from_numpy(z["token_ids_padded"])
    mask = torch.arange(ids.shape[1]) < torch.from_numpy(z["lengths"])[:, None]
    with torch.inference_mode():
        found = model.embed_texts(ids, mask)
    np.testing.assert_allclose(found, z[f"{which}_output"], rtol=0, atol=1e-9)


def test_size_equals_the_published_system():
    counts = json.loads((fixtures() / "param_counts.json").read_text())
    for name, count in counts.items():
        if not name.startswith("dual_encoding"):
            continue
        side, size = name.split()[1], int(name.split()[1].partition("_D")[2] or name.split()[3])
        facts = {"frame_dim": size} if side != "text" else {"vocab_size": size + 4}
        levels = LEVELS["reduced" if "reduced" in name else "full"]
        with torch.device("meta"):
            model = dual_encoding.Model(dual_encoding.Config(**facts, text="words", fuse="concatenate", levels=levels))
        parts = [model.words, model.sentence, model.text_map] if side == "text" else [model.video, model.video_maps]
        assert sum(p.numel() for part in parts for p in part.parameters()) == count, name


def batch_of(frames: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    cut = [video[:64] for video in frames]
    mask = torch.arange(max(map(len, cut))) < torch.tensor([len(v) for v in cut])[:, None]
    return {
        "frames": nn.utils.rnn.pad_sequence(cut, batch_first=True),
        "frame_mask": mask,
        "frame_mean": torch.stack([v.mean(0) for v in frames]),
    }


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A CLIP whose text tower is taken."""
    torch.manual_seed(3)
    tokens = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 39}
    config = clip.Config(**tokens, image_size=32, channels=[16, 32], blocks=[1, 1], text_layers=1)
    folder = tmp_path_factory.mktemp("backbone")
    clip.Model(config).save_pretrained(folder)
    return folder


def built(backbone=None, **options) -> dual_encoding.Model:
    torch.manual_seed(0)
    given = SMALL | (SENTENCE if backbone is None else {"pretrained": str(backbone), "vocab_size": 40})
    model = dual_encoding.Model(dual_encoding.Config(**(given | options)))
    model.initialise()
    return model


def videos(lengths=(5, 1, 9, 70, 2, 9)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 12, generator=generator) for n in lengths]


def of_text(text: str, backbone, **options) -> tuple[dual_encoding.Model, dict[str, torch.Tensor]]:
    """A model that reads a sentence in one of the two ways, and sentences for it."""
    is_clip = text == "clip"
    return built(backbone if is_clip else None, **options), sentences(vocabulary=40 if is_clip else 24)


def sentences(count: int = 6, vocabulary: int = 24) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(4, vocabulary - 1, (count, 9), generator=generator)
    lengths = torch.tensor([9, 4, 6, 3, 9, 5])[:count]
    ids[:, 0] = 1
    ids[torch.arange(count), lengths - 1] = vocabulary - 1
    mask = (torch.arange(9) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def test_videos_do_not_depend_on_their_batch():
    model, given = built().eval(), videos()
    with torch.inference_mode():
        found = model.embed_videos(**batch_of(given))
        torch.testing.assert_close(model.embed_videos(**batch_of(given[:2])), found[:2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))
    quirk = built(padded=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(quirk.embed_videos(**batch_of(given[3:4])), found[3:4], rtol=1e-4, atol=1e-6)
        assert (quirk.embed_videos(**batch_of(given))[0] - found[0]).abs().max() > 1e-3


def test_frames_are_centred_as_examples_were():
    plain, centred = built(), built(centred=True)
    centred.load_state_dict(plain.state_dict(), strict=False)
    batch = batch_of([video * torch.arange(1, 13) * 0.01 + torch.arange(12) for video in videos()])
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    plain.fit_statistics(lambda: batch)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    centred.fit_statistics(lambda: batch)
    rows = batch["frames"][batch["frame_mask"]].double()
    mean, spread = rows.mean(0), rows.std(0)
    shown = {**batch, "frame_mean": ((batch["frame_mean"] - mean) / spread).float()}
    shown["frames"] = torch.where(batch["frame_mask"][..., None], (batch["frames"] - mean) / spread, 0.0).float()
    with torch.inference_mode():
        for model in (plain.eval(), centred.eval()):
            model.config.padded = True  # what is not there has to stay zero
        torch.testing.assert_close(centred.embed_videos(**batch), plain.embed_videos(**shown), rtol=1e-3, atol=1e-4)
        assert (centred.embed_videos(**batch) - plain.embed_videos(**batch)).abs().max() > 1e-2


def test_a_number_that_never_varies_stays_finite_and_centring_is_saved(tmp_path):
    model = built(centred=True)
    batch = batch_of(videos())
    batch["frames"][..., 3] = 0.5
    model.fit_statistics(lambda: batch)
    assert model.frame_spread[3] > 0
    with torch.inference_mode():
        found = model.eval().embed_videos(**batch)
        model.save_pretrained(tmp_path)
        again = dual_encoding.Model.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(again.embed_videos(**batch), found)
    assert found.isfinite().all()


@pytest.mark.parametrize("padded", [False, True])
def test_vectors_and_gradients_equal_a_plain_twin(padded):
    """With padding fed as published, against torch's GRU over the padded batch."""
    model, batch = built(padded=padded, levels=["gru", "conv"], batch_norm=False).double(), videos((5, 1, 9, 2))
    batch = {k: v if v.dtype == torch.bool else v.double() for k, v in batch_of(batch).items()}
    model.eval()
    weights = torch.randn(4, 32, generator=torch.Generator().manual_seed(4)).double()
    vectors = model.embed_videos(**batch)
    (vectors * weights).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    gru = model.video.gru
    if padded:
        states, _ = nn.GRU.forward(gru, batch["frames"])
    else:
        lengths = batch["frame_mask"].sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(batch["frames"], lengths, batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(nn.GRU.forward(gru, packed)[0], batch_first=True)
    states = states * batch["frame_mask"][..., None]
    levels = [states.sum(1) / batch["frame_mask"].sum(1, keepdim=True)]
    maps = []
    for k, layer in zip(model.config.kernels, model.video.convolutions, strict=True):
        outputs = F.conv2d(states[:, None], layer.weight.view(-1, 1, k, 10), layer.bias, padding=(k - 1, 0)).squeeze(3)
        if not padded:
            real = torch.arange(outputs.shape[2]) < (batch["frame_mask"].sum(1) + k - 1)[:, None]
            outputs = outputs.masked_fill(~real[:, None], -torch.inf)
        maps.append(F.relu(outputs).amax(2))
    levels.append(torch.cat(maps, dim=1))
    each = [one(level) for one, level in zip(model.video_maps, levels, strict=True)]
    plain = torch.cat(each, dim=1) / 2**0.5
    torch.testing.assert_close(vectors, plain)
    (plain * weights).sum().backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fuse", ["mean", "concatenate"])
@pytest.mark.parametrize("text", ["clip", "words"])
def test_a_score_is_the_mean_of_the_levels_cosines(text, fuse, backbone):
    model, texts = of_text(text, backbone, fuse=fuse)
    model.eval()
    with torch.inference_mode():
        outputs = model(**batch_of(videos()), **texts)
        scores = model.embed_videos(**batch_of(videos())) @ model.embed_texts(**texts).T
        torch.testing.assert_close(model.embed_texts(**texts).norm(dim=1), torch.ones(6))
    assert outputs["video_embeds"].shape == (6, 3 if fuse == "mean" else 1, 16)
    each = [F.cosine_similarity(v[:, None], outputs["text_embeds"], dim=-1) for v in outputs["video_embeds"].unbind(1)]
    torch.testing.assert_close(scores, torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("levels", [["mean"], ["gru"], ["conv"]])
@pytest.mark.parametrize("text", ["clip", "words"])
def test_each_level_alone_has_only_what_it_needs(levels, text, backbone):
    model, texts = of_text(text, backbone, levels=levels, dropout=0.0)
    outputs = model(**batch_of(videos()), **texts)
    (outputs["video_embeds"].sum() + outputs["text_embeds"].square().sum()).backward()
    unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused
    assert (model.video.gru is None) == (levels == ["mean"])
    assert (model.video.convolutions is None) == (levels != ["conv"])


def test_the_tower_is_the_clips_own_and_stays(backbone, tmp_path):
    model, texts = built(backbone, map_text=False), sentences(vocabulary=40)
    whole = AutoModel.from_pretrained(backbone).eval()
    with torch.inference_mode():
        features = whole.get_text_features(**texts).pooler_output
    torch.testing.assert_close(model.embed_texts(**texts)[:, :128] * 3**0.5, F.normalize(features, dim=1))
    assert model.config.dim == 128  # videos are mapped to where the sentences are
    model.train()
    assert not model.tower.training and not any(p.requires_grad for p in model.tower.parameters())
    model.tower = None  # vectors of known texts are cached
    assert model.embed_texts(**sentences(2, vocabulary=40)).shape == (2, 384)
    with pytest.raises(TypeError):
        model.embed_texts(torch.tensor([[1, 7, 39]]), torch.ones(1, 3))


@pytest.mark.parametrize("text", ["clip", "words"])
def test_saved_is_loaded_equal(text, backbone, tmp_path):
    model, texts = of_text(text, backbone)
    model.eval()
    model.save_pretrained(tmp_path)
    again = dual_encoding.Model.from_pretrained(tmp_path).eval()
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with torch.inference_mode():
        torch.testing.assert_close(again.embed_texts(**texts), model.embed_texts(**texts))
        torch.testing.assert_close(again.embed_videos(**batch_of(videos())), model.embed_videos(**batch_of(videos())))
    assert type(AutoModel.from_pretrained(tmp_path)) is dual_encoding.Model


@pytest.mark.parametrize("text", ["clip", "words"])
def test_overfits_one_batch(text, backbone):
    model, texts = of_text(text, backbone, dropout=0.0)
    model.train()
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(30):
        loss = triplet(**model(**batch_of(videos()), **texts))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3  # of some 3


def test_bfloat16_does_not_stop_it(backbone):
    model = built(backbone)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(**batch_of(videos()), **sentences(vocabulary=40))
        triplet(**outputs).backward()
    assert outputs["video_embeds"].dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": []}, "levels"),
        ({"levels": ["mean", "max"]}, "'max'"),
        ({"text": "clip"}, "needs a `backbone`"),
        ({"pretrained": "x"}, "of no use"),
        ({"kernels": [0]}, "kernels"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        dual_encoding.Config(**(SENTENCE | options))


def test_a_tokenizer_of_another_backbone_is_refused(backbone):
    with pytest.raises(ValueError, match="knows 40 tokens, the tokenizer 50"):
        built(backbone, vocab_size=50)


@pytest.mark.parametrize("gap", [slice(0, None), slice(0, 1)])
def test_a_video_without_frames_is_refused(gap):
    batch = batch_of(videos((5, 4)))
    batch["frame_mask"][1, gap] = False
    with pytest.raises(ValueError, match="empty or has a gap"):
        built().embed_videos(**batch)


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("mean", [True, False])
def test_triplet_equals_the_published_loss(hardest, mean):
    z = arrays("loss_dual_encoding_triplet.npz")
    sides = [torch.from_numpy(z[name]).requires_grad_() for name in ("videos", "captions")]
    loss = triplet(*sides, hardest=hardest, mean=mean)
    loss.backward()
    name = f"maxviol{int(hardest)}_{'mean' if mean else 'sum'}_all"
    assert loss.item() == pytest.approx(float(z[f"loss_{name}"]), rel=1e-9)
    for side, which in zip(sides, ("videos", "captions"), strict=True):
        wanted = z[f"grad_{which}_{name}"]
        assert np.abs(side.grad.numpy() - wanted).max() <= 1e-9 * np.abs(wanted).max()


def naive_triplet(scores: np.ndarray, video: np.ndarray, margin: float) -> float:
    total = 0.0
    for i in range(len(scores)):
        others = [j for j in range(len(scores)) if video[j] != video[i]]
        total += max([0.0, *(margin + scores[i, j] - scores[i, i] for j in others)])
        total += max([0.0, *(margin + scores[j, i] - scores[i, i] for j in others)])
    return total


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeds = F.normalize(torch.randn(7, 3, 4, generator=generator, dtype=torch.float64), dim=-1)
    texts = F.normalize(torch.randn(7, 4, generator=generator, dtype=torch.float64), dim=-1)
    return embeds, texts, torch.tensor([0, 1, 0, 2, 3, 1, 0])


def test_triplet_equals_a_naive_twin_that_spares_the_same_video():
    embeds, texts, video = drawn()
    each = [naive_triplet((v @ texts.T).numpy(), video.numpy(), 0.3) for v in embeds.unbind(1)]
    assert triplet(embeds, texts, video, margin=0.3).item() == pytest.approx(np.mean(each), rel=1e-12)
    alone = np.mean([naive_triplet((v @ texts.T).numpy(), np.arange(7), 0.3) for v in embeds.unbind(1)])
    found = triplet(embeds, texts, video, margin=0.3, same_video=True)
    assert found.item() == pytest.approx(alone, rel=1e-12)
    assert alone > np.mean(each)


def test_triplet_closed_forms():
    eye = torch.eye(5)
    assert triplet(eye, eye).item() == 0  # own 1, others 0
    assert triplet(eye, eye, margin=1.5).item() == pytest.approx(5 * 2 * 0.5)
    one = torch.ones(5, 1)
    assert triplet(one, one).item() == pytest.approx(5 * 2 * 0.2)
    assert triplet(one, one, torch.zeros(5)).item() == 0  # no negative


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The toy corpus with vectors that show what a video shows, of 1 to 9 frames; v001 has none."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus, features = toy(folder, videos=24)
    rng = np.random.default_rng(0)
    shown = rng.normal(size=(8, 12))
    with StoreWriter(features / "vectors", shape=(12,), dtype="float16") as store:
        for number in range(24):
            frames = shown[number % 8] + 0.1 * rng.normal(size=(0 if number == 1 else 1 + number % 9, 12))
            store.add(f"v{number:03d}", frames)
    return corpus, features


def examples(corpus, **options) -> CaptionVideo:
    words = tokenize.tokenizer(texts=CaptionVideo.vocabulary(corpus[0], {}), style="words", min_count=1)
    return of_options(corpus, words, **options)


def of_options(corpus, words, **options) -> CaptionVideo:
    system = {"examples": {"kind": "caption_video", "expert": "vectors", **options}}
    return examples_.of_system(system, corpus[0], [corpus[1]], words)


def test_an_epoch_visits_every_caption_once(corpus):
    drawn = examples(corpus).on("train")
    assert drawn.videos == [f"v{n:03d}" for n in (0, 2, 3, 4, 5, 6, 7)]  # v001 has no frame
    assert len(drawn) == 14
    assert sorted(drawn.epoch(np.random.default_rng(0)).tolist()) == list(range(14))
    batch = drawn.batch(np.array([3, 13, 2]), np.random.default_rng(0))
    assert batch["video"].tolist() == [1, 6, 1]
    vectors = Store(corpus[1] / "vectors")
    for row, video in zip(range(3), ("v002", "v007", "v002"), strict=True):
        own = vectors[video].astype(np.float32)
        assert batch["frame_mask"][row].sum() == len(own)
        np.testing.assert_array_equal(batch["frames"][row][batch["frame_mask"][row]], own)
        assert not batch["frames"][row][~batch["frame_mask"][row]].any()
        np.testing.assert_allclose(batch["frame_mean"][row], own.astype(float).mean(0), rtol=1e-5)
    decoded = [drawn.source.tokenizer.decode(ids) for ids in batch["input_ids"]]
    assert decoded[0].startswith("<start> the left has a blue square <end>")
    assert decoded[2].startswith("<start> a blue square on the left <end>")


def test_an_epoch_visits_one_caption_of_each_video(corpus):
    drawn = examples(corpus, captions="one", per_video=3).on("train")
    assert len(drawn) == 21
    numbers = drawn.epoch(np.random.default_rng(0))
    assert sorted(numbers.tolist()) == sorted(3 * list(range(7)))
    batch, again = (drawn.batch(numbers, np.random.default_rng(seed)) for seed in (0, 1))
    assert batch["video"].tolist() == numbers.tolist()
    assert not torch.equal(batch["input_ids"], again["input_ids"])
    texts = [drawn.source.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in batch["input_ids"]]
    own = tables.read("texts", corpus[0]).filter(kind="caption").select("video_id", "text")
    for text, number in zip(texts, numbers, strict=True):
        assert text in own.filter(video_id=drawn.videos[number])["text"].to_list()


def test_only_the_first_frames_are_read_in_order_but_all_in_the_mean(corpus):
    drawn, vectors = examples(corpus, max_frames=4), Store(corpus[1] / "vectors")
    batch = drawn.read_videos(["v017", "v000"])  # of 9 and 1 frames
    assert batch["frames"].shape == (2, 4, 12) and batch["frame_mask"].sum(1).tolist() == [4, 1]
    np.testing.assert_array_equal(batch["frames"][0], vectors["v017"][:4].astype(np.float32))
    np.testing.assert_allclose(batch["frame_mean"][0], vectors["v017"].astype(float).mean(0), rtol=1e-5)


def test_what_does_not_fit_is_named(corpus):
    with pytest.raises(ValueError, match="max_frames 0"):
        examples(corpus, max_frames=0)
    with pytest.raises(ValueError, match=r"shape \(32, 32, 3\), expected vectors"):
        examples(corpus, expert="frames")
    with pytest.raises(ValueError, match="need a tokenizer"):
        of_options(corpus, None)


def test_the_sum_of_recalls_equals_a_naive_twin():
    embeds, texts, _ = drawn(5)
    video = torch.tensor([4, 1, 4, 2, 3, 1, 0])
    embeds = embeds[torch.tensor([int((video == v).nonzero()[0]) for v in video])]  # equal for equal videos
    scores = (embeds.mean(1) @ texts.T).numpy()  # by row: the video of that caption
    _, first = np.unique(video, return_index=True)
    total = 0.0
    for k in (1, 5, 10):
        t2v = [(scores[first, n] > scores[n, n]).sum() < k for n in range(7)]
        v2t = [min((scores[n] > scores[n, m]).sum() for m in range(7) if video[m] == video[n]) < k for n in first]
        total += 100 * (np.mean(t2v) + np.mean(v2t))
    assert recall_sum(embeds, texts, video) == pytest.approx(total)
    assert recall_sum(embeds[:, 0], embeds[:, 0], video) == 600


def test_words_are_those_of_the_published_system():
    published_ = json.loads((fixtures() / "bigfile_expected.json").read_text())
    captions = published_["caption_file"]["captions"]
    words = tokenize.tokenizer(texts=captions.values(), style="words", min_count=2)
    vocabulary = words.get_vocab()
    assert [words.decode(n) for n in range(4)] == published_["vocab_rnn_threshold2"]["first_ids"][:4]
    assert sorted(vocabulary) == published_["vocab_rnn_threshold2"]["words"]
    theirs = published_["vocab_rnn_threshold2"]["order_of_first_occurrence"]
    for caption, text in captions.items():
        own = words(text)["input_ids"]
        assert words.convert_ids_to_tokens(own) == [theirs[n] for n in published_["token_ids"][caption]]
    model = built(levels=["mean"], vocab_size=len(words)).eval()
    bags = []
    model.text_map.linear.register_forward_hook(lambda _, inputs, __: bags.append(inputs[0]))
    encoded = words(list(captions.values()), padding=True, return_tensors="pt")
    model.embed_texts(encoded["input_ids"], encoded["attention_mask"])
    for caption, bag in zip(captions, bags[0], strict=True):
        found = {words.decode(n + 4): bag[n].item() for n in range(len(bag)) if bag[n]}
        assert found == published_["bow_counts"][caption]


def test_rare_words_and_no_words(tmp_path):
    words = tokenize.tokenizer(texts=["a b b", "b c", "C-c"], style="words", min_count=2)
    words.save_pretrained(tmp_path)
    assert words.get_vocab() == {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "b": 4, "c": 5}
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("B, é a-c").input_ids == words("B, é a-c").input_ids == [1, 4, 3, 5, 2]
    with pytest.raises(ValueError, match="none of the 3 words occurs 5 times"):
        tokenize.tokenizer(texts=["a b c"], style="words")


TRAINED = {
    "model": {"name": "dual_encoding", "dim": 32, "hidden": 16, "filters": 8, "word_dim": 8, "word_hidden": 8},
    "examples": {"kind": "caption_video", "expert": "vectors", "validation": "val"},
    "objectives": {"triplet": {"weight": 1.0}},
    "training": {
        "epochs": 16, "batch": 14, "lr": 5e-3, "precision": "fp32", "warmup": 0.0, "schedule": "constant",
        "decay": 0.99, "plateau": 0.5, "monitor": "val/R@sum", "keep": "best",
    },
}  # fmt: skip


@pytest.mark.parametrize("text", ["clip", "words"])
def test_trained_embedded_and_searched(text, corpus, backbone, tmp_path):
    model, tokens = {"text": text}, {"style": "words", "min_count": 1}
    if text == "clip":
        texts = CaptionVideo.vocabulary(corpus[0], {})
        tokens = {"pretrained": str(tmp_path / "clip")}
        words = tokenize.tokenizer(texts=texts, style="clip", vocab_size=300)
        words.save_pretrained(tmp_path / "clip")
        ids = {name: getattr(words, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
        text, vision = {**tower, **ids, "vocab_size": len(words)}, {**tower, "image_size": 32, "patch_size": 16}
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64)).save_pretrained(
            tmp_path / "clip"
        )
        model["pretrained"] = str(tmp_path / "clip")
    system = {**TRAINED, "model": {**TRAINED["model"], **model}, "tokenizer": tokens}
    (tmp_path / "run").mkdir()
    given = {"corpus": corpus[0], "features": [corpus[1]], "threads": 1, "system": system}
    train(output=tmp_path / "run", scratch=tmp_path, seed=0, **given)
    rows = pl.read_csv(tmp_path / "run/log.csv")
    assert rows["train/triplet"][-1] < 0.7 * rows["train/triplet"][0]
    if text == "clip":
        shutil.rmtree(tmp_path / "clip")  # the checkpoint holds all that it takes
    embed(output=tmp_path / "e", members=["seed0"], run=[tmp_path / "run"], **given)
    videos, texts = (Store(tmp_path / "e/seed0" / side) for side in ("videos", "texts"))
    assert "v001" not in videos and len(videos) == 23
    scores = texts.gather(texts.ids)[0] @ videos.gather(videos.ids)[0].T
    best = videos.ids.gather(scores.argmax(1))
    right = [int(t[1:4]) % 8 == int(v[1:]) % 8 for t, v in zip(texts.ids, best, strict=True)]
    assert np.mean(right) > 0.6  # chance is an eighth
