"""The text encoder that also reads a video: against a padded twin, its queue, and a killed pretraining."""

import copy
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModel

from toys import trained
from videomatch.data import tables
from videomatch.data.corpus import write_videos
from videomatch.data.store import StoreWriter
from videomatch.models.video_text import Config, Model, hard_negatives, row_weights
from videomatch.objectives.contrast import vtm
from videomatch.stages._trained import PairScorer
from videomatch.stages.train import train
from videomatch.training.loop import STATE

SIZES = {"layers": 2, "width": 32, "heads_count": 2, "ffn": 48, "dropout": 0.0, "vocab_size": 60, "sep_token_id": 3}
SIZES |= {"frame_dim": 5, "max_clips": 3, "max_tokens": 9, "group": 4}
BATCH, CLIPS = 6, 3


def model(**options) -> Model:
    torch.manual_seed(0)
    return Model(Config(**SIZES | options))


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Texts of several lengths, each with a false one and masks; two of the videos are one."""
    g = torch.Generator().manual_seed(1)
    lengths = torch.tensor([9, 4, 6, 7, 3, 5])
    mask = torch.arange(9) < lengths[:, None]
    ids = torch.randint(5, 60, (BATCH, 9), generator=g).masked_fill(~mask, 0)
    hidden = mask & (torch.rand(BATCH, 9, generator=g) < 0.3) & (torch.arange(9) > 0)
    hidden[0, 2] = True
    return {
        "frames": torch.randn(BATCH, CLIPS, 2, 5, generator=g),
        "input_ids": ids,
        "attention_mask": mask.long(),
        "video": torch.tensor([0, 1, 2, 3, 4, 1]),
        "masked_ids": ids.masked_fill(hidden, 4),
        "token_labels": torch.where(hidden, ids, -100),
        "false_ids": ids.flip(0),
        "false_mask": mask.flip(0).long(),
        "content_words": torch.tensor([[1, 3, 4], [1, 2, 1], [2, 3, 4], [1, 5, 2], [1, 1, 1], [3, 1, 2]]),
    }


class Twin:
    """The same modules on padded sequences, pair by pair."""

    def __init__(self, model: Model) -> None:
        self.model, self.bert = model, model.towers.encoder

    def text(self, ids, mask):
        return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state

    def clips(self, frames):
        return self.model.towers.frames(frames.mean(2))

    def joint(self, ids, mask, frames):
        words = self.bert.embeddings(input_ids=ids)
        end = self.bert.embeddings.word_embeddings(torch.full((len(ids), 1), SIZES["sep_token_id"]))
        seen = torch.cat([self.clips(frames), end], 1)
        seen = self.bert.embeddings(inputs_embeds=seen, token_type_ids=torch.ones(seen.shape[:2], dtype=torch.long))
        mask = torch.cat([mask, torch.ones(seen.shape[:2], dtype=torch.long)], 1)
        rows = torch.cat([words, seen], 1)
        attended = (1.0 - mask.float())[:, None, None] * -1e9
        for layer in self.bert.encoder.layer:
            rows = layer(rows, attended)
        return rows[:, : ids.shape[1]]

    def pooled(self, ids, mask, frames):
        return self.model.pair_pooler(self.joint(ids, mask, frames)[:, 0])


def test_outputs_and_gradients_are_those_of_padded_sequences(batch):
    ours = model().train()
    plain = copy.deepcopy(ours)
    plain.towers.encoder.set_attn_implementation("eager")
    twin, found = Twin(plain), ours(**batch)
    ids, mask, frames = (batch[name] for name in ("input_ids", "attention_mask", "frames"))
    hidden = batch["token_labels"] != -100
    state = twin.text(ids, mask)
    clips = F.normalize(plain.towers.clip_head(twin.clips(frames)), dim=-1)
    wanted = {
        "text_embeds": F.normalize(plain.towers.text_pooler(state[:, 0]), dim=-1),
        "clip_embeds": clips,
        "video_embeds": F.normalize(clips.mean(1), dim=-1),
        "word_embeds": torch.stack([state[n, batch["content_words"][n]] for n in range(BATCH)]),
        "token_logits": plain.token_head(twin.text(batch["masked_ids"], mask)[hidden]),
        "fused_logits": plain.token_head(twin.joint(batch["masked_ids"], mask, frames)[hidden]),
        "token_targets": ids[hidden],
        "fused_targets": ids[hidden],
        "own_column": torch.tensor([0, 1, 2, 3, 0, 1]),
        "match_logits": torch.cat(
            [
                plain.match_head(twin.pooled(ids, mask, frames)),
                plain.match_head(twin.pooled(batch["false_ids"], batch["false_mask"], frames)),
            ],
            1,
        ),
    }
    scores = torch.full((BATCH, 4), -torch.inf)  # groups of four and two
    for text in range(BATCH):
        for column in range(4 if text < 4 else 2):
            one = slice(text, text + 1)
            own = frames[text // 4 * 4 + column][None]
            scores[text, column] = plain.pair_head(twin.pooled(ids[one], mask[one], own))[0, 0]
    wanted["pair_scores"] = scores
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=name)
    g = torch.Generator().manual_seed(2)
    weights = {n: torch.randn(v.shape, generator=g) for n, v in wanted.items() if v.is_floating_point()}
    for outputs in (found, wanted):
        terms = [(torch.where(outputs[n].isinf(), 0.0, outputs[n]) * w).sum() for n, w in weights.items()]
        torch.stack(terms).sum().backward()
    for (name, p), q in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if q.grad is None:
            assert p.grad is None or not p.grad.any(), name
        else:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4, msg=name)


@torch.no_grad()
def test_videos_and_texts_alone_are_embedded_and_matched_as_in_training(batch, tmp_path):
    model().eval().save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path).eval()
    found = again(**batch)
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    torch.testing.assert_close(again.embed_texts(**text), found["text_embeds"])
    torch.testing.assert_close(again.embed_videos(frames=batch["frames"]), found["video_embeds"])
    scores = again.match(again.encode_texts(**text), again.encode_videos(frames=batch["frames"]))
    assert scores.shape == (BATCH, BATCH)
    torch.testing.assert_close(found["pair_scores"][:4], scores[:4, :4])
    torch.testing.assert_close(found["pair_scores"][4:, :2], scores[4:, 4:])


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
def test_words_show_the_clips_that_they_attend_to(batch, layers):
    found = model(layers=layers).eval()
    bert = found.towers.encoder
    bert.set_attn_implementation("eager")
    with torch.inference_mode():
        texts = found.encode_texts(batch["input_ids"], batch["attention_mask"])
        videos = found.encode_videos(batch["frames"][:4])
        place, share, is_word = found.best_frames(texts, videos)
        assert place.shape == share.shape == is_word.shape == (BATCH, 4, 9)
        assert torch.equal(is_word[:, 2], batch["attention_mask"].bool() & (torch.arange(9) > 0))
        for text in range(BATCH):
            count = int(batch["attention_mask"][text].sum())
            rows = torch.cat(
                [bert.embeddings(input_ids=batch["input_ids"][text, None, :count]), videos["clips"][1, None]], 1
            )
            for layer in bert.encoder.layer[:-1]:
                rows = layer(rows)
            rows = rows[0] if isinstance(rows, tuple) else rows
            attention = bert.encoder.layer[-1].attention.self(rows)[1][0]
            clips = attention[:, :count, count:-1]
            wanted = (clips / clips.sum(2, keepdim=True)).mean(0)
            torch.testing.assert_close(share[text, 1, :count], wanted.amax(1), rtol=1e-4, atol=1e-5)
            assert torch.equal(place[text, 1, :count], wanted.argmax(1))


def test_hard_steps_pair_a_text_with_the_videos_mined_for_it(batch):
    trained = model(mining="nearest", mining_every=0.5, mining_rise=0.4)
    early = trained(**batch, progress=torch.tensor(0.4), uniform=torch.tensor(0.0))
    unlucky = trained(**batch, progress=torch.tensor(0.6), uniform=torch.tensor(0.41))
    assert "row_weight" not in early and "row_weight" not in unlucky
    found = trained(**batch, progress=torch.tensor(0.6), uniform=torch.tensor(0.39))
    similarity = found["text_embeds"] @ found["video_embeds"].T
    own, others = torch.arange(BATCH), batch["video"][:, None] != batch["video"]
    columns = torch.cat([own[:, None], hard_negatives(similarity, own, others, 3, "nearest")], 1)
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    scores = trained.match(trained.encode_texts(**text), trained.encode_videos(frames=batch["frames"]))
    torch.testing.assert_close(found["pair_scores"], scores.gather(1, columns))
    assert not found["own_column"].any()
    torch.testing.assert_close(found["row_weight"], row_weights(similarity.diagonal()))


def test_the_queue_holds_what_a_slower_encoder_computed(batch):
    trained = model(queue=10, momentum=0.75).train()
    slow = dict(trained.slow_towers.named_parameters())
    assert not any(p.requires_grad for p in slow.values())
    first = trained(**batch)
    start = {name: p.clone() for name, p in trained.towers.named_parameters()}
    assert all(torch.equal(slow[name], p) for name, p in start.items())  # begins as the other
    torch.testing.assert_close(first["text_keys"], first["text_embeds"])  # there is no dropout
    assert (first["queue_video"] == -1).all() and not first["text_queue"].any()
    with torch.no_grad():
        for p in trained.towers.parameters():
            p.add_(1.0)
    second = trained(**batch | {"video": batch["video"] + 10})
    for name, p in start.items():
        torch.testing.assert_close(slow[name], p + 0.25)
    assert second["queue_video"].tolist() == [0, 1, 2, 3, 4, 1, -1, -1, -1, -1]
    assert torch.equal(second["text_queue"][:6], first["text_keys"])
    assert torch.equal(second["video_queue"][:6], first["video_keys"])
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    trained.eval()
    third = trained(**batch)
    assert third["queue_video"].tolist() == [10, 11, 12, 13, 14, 11, 0, 1, 2, 3]  # the oldest are gone
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_it_has_as_many_weights_as_the_published_encoder():
    """SNP with a ResNet-50 (23,508,032 weights): 160.4 M, of a shared BERT; three encoders had 205.5 M."""
    with torch.device("meta"):
        published = {"encoder": {"model_type": "bert"}, "vocab_size": 30522, "frame_dim": 2048}
        found = Model(Config(**published, heads=["tokens", "match"]))
    count = sum(p.numel() for p in found.parameters()) + 23_508_032
    assert round(count / 1e6, 1) == 160.4


@torch.no_grad()
def test_it_starts_from_a_bert_or_from_that_of_a_clip(batch, tmp_path):
    sizes = {"image_size": 16, "channels": [8], "blocks": [1], "width": 32, "text_layers": 1, "vocab_size": 60}
    folder = trained(tmp_path, "clip", **sizes, text_length=9)
    started = model(pretrained=str(folder)).eval()
    started.initialise()
    tower = AutoModel.from_pretrained(folder).text_model.eval()
    pooled = tower(batch["input_ids"], batch["attention_mask"]).pooler_output
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    torch.testing.assert_close(started.embed_texts(**text), F.normalize(pooled, dim=-1))
    assert torch.equal(started.pair_pooler[0].weight, tower.pooler.dense.weight)


def test_pictures_are_read_by_an_image_network_that_is_trained(batch, tmp_path):
    tagger = {"image_size": 16, "channels": [8, 12], "blocks": [1, 1], "id2label": {0: "a", 1: "b"}}
    network = trained(tmp_path / "tagger", "image_tagger", **tagger)
    pictures = torch.randint(0, 256, (BATCH, CLIPS, 2, 16, 16, 3), dtype=torch.uint8)
    seeing = model(vision=str(network))
    seeing.initialise()
    weights, found = load_file(network / "model.safetensors"), seeing.towers.vision.state_dict()
    assert all(torch.equal(value, weights[f"resnet.{name}"]) for name, value in found.items())
    outputs = seeing.train()(**batch | {"frames": pictures})
    vtm(outputs["pair_scores"], outputs["own_column"]).backward()
    assert all(p.grad is not None and p.grad.any() for p in seeing.towers.vision.parameters())
    seeing.eval().save_pretrained(tmp_path / "out")
    shutil.rmtree(network)
    again = Model.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(again.embed_videos(pictures), seeing.embed_videos(pictures))
    with pytest.raises(ValueError, match="frames are vectors"):
        again.embed_videos(batch["frames"])
    with pytest.raises(ValueError, match="frames are pictures"):
        model().embed_videos(pictures)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"heads": ["words"]}, "no head 'words'"),
        ({"group": 1}, "group 1"),
        ({"momentum": 2.0}, "momentum 2.0"),
        ({"mining": "top_k", "heads": ["tokens"]}, "no head for pairs"),
        ({"encoder": {"model_type": "roberta"}}, "expected bert"),
    ],
)
def test_bad_options_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        Config(**SIZES | options)


def test_longer_inputs_than_configured_are_named(batch):
    with pytest.raises(ValueError, match="9 tokens and 3 clips, expected at most 9 and 2"):
        model(max_clips=2)(**batch)


def test_a_model_without_pairs_scores_none(batch):
    small = model(heads=[])
    assert {"text_embeds", "video_embeds"} <= small(**batch).keys()
    with pytest.raises(ValueError, match="without the head `pairs`"):
        small.match(
            small.encode_texts(batch["input_ids"], batch["attention_mask"]), small.encode_videos(batch["frames"])
        )


#: a short pretraining with everything that a state has to remember
SYSTEM = {
    "model": {"name": "video_text", "layers": 1, "width": 32, "heads_count": 2, "ffn": 32, "group": 4, "queue": 48},
    "tokenizer": {"style": "bert", "vocab_size": 80},
    "examples": {"kind": "clip_text", "expert": "clip", "per_video": 3, "clips": 2, "max_length": 12},
    "objectives": dict.fromkeys(["mil_nce", "moco_nce", "vtm", "mlm", "fused_mlm", "itm"]),
    "training": {"epochs": 3, "batch": 8, "lr": 1e-3, "precision": "fp32"},
}
SYSTEM["model"] |= {"momentum": 0.9, "mining": "nearest", "mining_every": 0.2, "mining_rise": 0.3}
KILLED = """
import sys
from pathlib import Path
from test_video_text import SYSTEM
from videomatch.stages.train import train
from videomatch.training import loop
loop.Trainer.__init__.__kwdefaults__["save_seconds"] = 0.0
corpus, features, output, scratch = map(Path, sys.argv[1:])
train(corpus=corpus, features=[features], output=output, scratch=scratch, threads=1, system=SYSTEM, seed=0)
"""


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> tuple[Path, Path]:
    """A corpus of talking videos, and features of their frames."""
    folder, rng = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    words = ["red", "green", "blue", "cat", "dog", "runs", "sleeps", "here", "there", "now"]
    texts, listed = [], []
    with StoreWriter(folder / "features/clip", shape=(6,), times=True) as store:
        for number in range(24):
            video = f"v{number:02d}"
            store.add(video, rng.normal(size=(12, 6)).astype(np.float32), times=np.c_[np.arange(12), np.arange(1, 13)])
            for line in range(4):
                said = " ".join(rng.choice(words, 4))
                texts.append((f"{video}-{line}", video, "asr", "en", 3.0 * line, 3.0 * line + 3, said))
            listed.append(("train" if number < 18 else "val", "reference", video))
    corpus = folder / "corpus"
    tables.write("texts", tables.frame("texts", texts), corpus)
    tables.write("splits", tables.frame("splits", listed), corpus)
    write_videos(tables.videos([{"video_id": i} for _, _, i in listed]), corpus, 1)
    return corpus, folder / "features"


def run(speech: tuple[Path, Path], folder: Path, system=SYSTEM) -> bytes:
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    corpus, features = speech
    given = {"corpus": corpus, "features": [features], "output": folder / "out", "scratch": folder / "scratch"}
    train(**given, threads=1, system=system, seed=0)
    return (folder / "out/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(speech, tmp_path_factory) -> Path:
    """The folder of a pretraining that was not disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run(speech, folder)
    return folder


def test_a_search_scores_pairs_as_they_are_scored_together(speech, whole, monkeypatch):
    """One text with some videos, or blocks of both; texts of a block are padded to its longest."""
    scorer = PairScorer(whole / "out", speech[0], [speech[1]])
    texts, ids = ["red", "the cat sleeps here now and there", "a dog", "blue"], [f"v{n:02d}" for n in range(5)]
    together = scorer.matched(scorer.texts(texts), scorer.videos(ids))
    assert together.shape == (4, 5) and together.std() > 0
    monkeypatch.setattr("videomatch.models.video_text.PAIRS", 7)
    scores = scorer.of_pairs(texts, ids)
    np.testing.assert_allclose(scores(np.arange(4), np.arange(5)), together, atol=1e-5)
    some = np.array([[4, 0], [2, 3], [1, 4], [0, 1]])
    np.testing.assert_allclose(scores(np.arange(4), some), np.take_along_axis(together, some, 1), atol=1e-5)
    matches = scorer.matches("the cat sleeps", "v03")
    assert [match["word"] for match in matches][-2:] == ["cat", "sleeps"]
    spans = scorer.reader.frame_times("v03")  # a clip is the frame in the middle of its part of the time
    assert [(m["start"], m["end"]) in [(s, s + 1) for s in spans[:, 0]] for m in matches] == [True] * len(matches)


def test_a_killed_pretraining_ends_with_the_same_weights_and_queue(speech, whole, tmp_path):
    (tmp_path / "cut/out").mkdir(parents=True)
    (tmp_path / "cut/scratch").mkdir()
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    here = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    arguments = [*map(str, speech), str(tmp_path / "cut/out"), str(tmp_path / "cut/scratch")]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], env=here)
    state, saves, last = tmp_path / "cut/scratch" / STATE, 0, 0
    while process.poll() is None and saves < 5:  # a state after every step
        now = state.stat().st_mtime_ns if state.exists() else 0
        saves, last = saves + (now != last), now
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    saved = torch.load(state, weights_only=True)
    assert saved["epoch"] < 3 and saved["model"]["queue_video"].max() >= 0
    assert run(speech, tmp_path / "cut") == (whole / "out/model.safetensors").read_bytes()
    weights = load_file(tmp_path / "cut/out/model.safetensors")
    assert {"text_queue", "video_queue", "queue_video"} <= weights.keys() and (weights["queue_video"] >= 0).all()
    log = pl.read_csv(tmp_path / "cut/out/log.csv")
    assert log.equals(pl.read_csv(whole / "out/log.csv"))
    assert {"val/R@sum", *(f"train/{name}" for name in SYSTEM["objectives"])} <= set(log.columns)
