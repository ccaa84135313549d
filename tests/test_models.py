"""Every file of ``models/``: what holds of all of them, and what each promises."""

import pytest
import torch
from transformers import (
    ASTForAudioClassification,
    AutoImageProcessor,
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
    ResNetForImageClassification,
    VisionTextDualEncoderModel,
)

from paths import ROOT
from toys import CLIP, TAGGER
from videomatch.common import named
from videomatch.models import SystemModel
from videomatch.pipeline import signatures
from videomatch.pipeline.check import Check

FRAMES = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = {0: "tag:red", 1: "tag:blue", 2: "category:left"}
FACTS = {
    "clip": {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 39},
    "image_tagger": {"id2label": LABELS},
    "video_tagger": {"id2label": LABELS, "image_size": 32, "num_frames": 2},
    "sound_tagger": {"id2label": LABELS, "num_frames": 48, "bands": 32},
}
SMALL = {
    "clip": CLIP["model"],
    "image_tagger": TAGGER["model"],
    "video_tagger": {"channels": [16, 32], "blocks": [1, 1]},
    "sound_tagger": {"width": 32, "layers": 1},
}


def normalised(frames: torch.Tensor, mean, std) -> torch.Tensor:
    """Bytes as an image network reads them, channels first."""
    return ((frames / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)


def build(name: str):
    torch.manual_seed(0)
    room = named.module("models", name)
    options = {k: v for k, v in SMALL[name].items() if k != "name"}
    model = room.Model(room.Config(**FACTS[name], **options))
    with torch.no_grad():
        for _ in range(30 if name in ("image_tagger", "video_tagger") else 0):
            model(**inputs(name))  # BatchNorm's statistics: without them a fresh network shrinks everything to nothing
    return model.eval()


def inputs(name: str, count: int = 6, padding: int = 0) -> dict[str, torch.Tensor]:
    if name == "video_tagger":
        return {"clips": torch.stack([FRAMES, FRAMES.flip(0)], 1)[:count]}
    if name == "sound_tagger":
        return {"log_mel": torch.randn(6, 48, 32, generator=torch.Generator().manual_seed(1))[:count] * 3 - 5}
    batch = {"frames": FRAMES[:count]}
    if name == "clip":
        ids = torch.randint(2, 39, (count, 7), generator=torch.Generator().manual_seed(1))
        ids[:, 0], ids[:, 5:] = 1, 0
        ids[:, 4] = 39
        ids = torch.nn.functional.pad(ids, (0, padding))
        batch |= {"input_ids": ids, "attention_mask": (ids != 0).long()}
    return batch


def test_these_tests_know_every_model():
    others = set(named.names("models")) - set(FACTS)  # these have files of tests of their own
    assert {name for name in others if not (ROOT / f"tests/test_{name}.py").exists()} == set()


@pytest.mark.parametrize("name", FACTS)
class TestContract:
    def test_a_row_does_not_depend_on_the_batch(self, name):
        model = build(name)
        with torch.inference_mode():
            whole, part = model(**inputs(name)), model(**inputs(name, 2))
        for key, value in part.items():
            if value.ndim:
                assert value.abs().max() > 0.01
                torch.testing.assert_close(value, whole[key][:2], rtol=1e-4, atol=1e-5)

    def test_saved_is_loaded_equal(self, name, tmp_path):
        model = build(name)
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
        with torch.inference_mode():
            for key, value in model(**inputs(name)).items():
                torch.testing.assert_close(again(**inputs(name))[key], value, rtol=1e-4, atol=1e-5)

    def test_defaults_make_a_model(self, name):
        room = named.module("models", name)
        config = room.Config(**FACTS[name])
        assert sum(p.numel() for p in room.Model(config).parameters()) < 2e6


@pytest.mark.parametrize("name", [name for name in FACTS if name != "sound_tagger"])
def test_processor_prepares_what_the_model_normalises(name, tmp_path):
    model = build(name)
    model.processor().save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    ours = normalised(FRAMES, processor.image_mean, processor.image_std)
    theirs = processor(images=list(FRAMES.numpy()), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours, theirs.view(ours.shape), rtol=1e-4, atol=1e-4)


def test_video_tagger_sees_equal_frames_as_the_image_network_that_it_starts_from(tmp_path):
    tagger = build("image_tagger")
    tagger.save_pretrained(tmp_path)
    room = named.module("models", "video_tagger")
    model = room.Model(room.Config(**FACTS["video_tagger"], vision=str(tmp_path))).eval()
    model.initialise()
    model.classifier.load_state_dict(tagger.classifier.state_dict())
    with torch.inference_mode():
        still, turned = (
            model(clips)["logits"]
            for clips in (FRAMES[:, None].repeat(1, 2, 1, 1, 1), *inputs("video_tagger").values())
        )
        torch.testing.assert_close(still, tagger(FRAMES)["logits"], rtol=1e-3, atol=1e-4)
    assert (still - turned).abs().max() > 1e-3


def test_sound_tagger_is_transformers_ast(tmp_path):
    model = build("sound_tagger")
    model.save_pretrained(tmp_path)
    plain = ASTForAudioClassification.from_pretrained(tmp_path).eval()
    log_mel = inputs("sound_tagger")["log_mel"]
    with torch.inference_mode():
        theirs = plain(input_values=(log_mel + 4.2677393) / (2 * 4.5689974)).logits
        torch.testing.assert_close(model(log_mel)["logits"], theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", named.names("models"))
def test_every_file_is_a_system_model(name):
    room = named.module("models", name)
    assert issubclass(room.Config, PretrainedConfig)
    assert issubclass(room.Model, PreTrainedModel) and issubclass(room.Model, SystemModel)
    assert room.Model.comparison in ("cosine", "dot")
    assert room.Model.scores_frames == name.startswith("key_frame")
    assert room.Model.detects_segments == name.endswith("detector")


@pytest.mark.parametrize(
    ("module", "option", "value", "hint"),
    [
        ("models.mmt", "aggregate", "sum", "there are: max, mean, zero"),
        ("models.mmt", "tokens", "frame", "did you mean 'frames'?"),
        ("models.mmt", "text", "lstm", "there are: bert, words"),
        ("models.fusion_bert", "pool", "max", "there are: attention, attention_all, mean"),
        ("models.fusion_bert", "tags_from", "mean", "there are: cls, embedding"),
        ("models.fusion_bert", "layout", "inside", "did you mean 'frames_inside'?"),
        ("models.dual_encoding", "fuse", "sum", "there are: concatenate, mean"),
        ("models.dual_encoding", "dtype", "float16", "no option named 'dtype'"),  # it is transformers' own
        ("training.loop", "schedule", "step", "there are: constant, cosine, linear"),
        ("training.loop", "precision", "fp8", "there are: auto, bf16, fp32"),
        ("training.loop", "keep", "first", "there are: best, last"),
    ],
)
def test_options_are_checked_before_anything_runs(module, option, value, hint):
    check, classes = Check({}, has_data=True), signatures.read(module)
    check.options((module,), {option: value}, classes.get("Config", classes.get("Training")).options)
    ((path, sentence),) = check.mistakes
    assert path == (module, option) and hint in sentence


@pytest.mark.parametrize("name", ["video_tagger", "sound_tagger"])
def test_small_taggers_start_alive(name):
    model = build(name)
    model.initialise()
    spread = model.train()(**inputs(name))["logits"].std(0)
    assert (spread > 1e-3).all()


def test_clip_is_a_dual_encoder_of_transformers(tmp_path):
    model = build("clip")
    model.save_pretrained(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path).eval()
    assert type(plain) is VisionTextDualEncoderModel
    batch = inputs("clip")
    pixels = normalised(batch["frames"], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        pooled = plain.vision_model(pixels).pooler_output.flatten(1)
        pictures = torch.nn.functional.normalize(plain.visual_projection(pooled), dim=1)
        texts = plain.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output
        ours = model(**batch)
    torch.testing.assert_close(ours["image_embeds"], pictures)
    torch.testing.assert_close(ours["text_embeds"], torch.nn.functional.normalize(texts, dim=1))


def test_a_locked_clip_keeps_the_image_network_it_starts_from(tmp_path):
    tagger = build("image_tagger")
    tagger.save_pretrained(tmp_path)
    room = named.module("models", "clip")
    options = {name: SMALL["clip"][name] for name in ("width", "text_layers")} | {"vision": str(tmp_path)}
    for locked in (True, False):
        model = room.Model(room.Config(**FACTS["clip"], **options, locked=locked))
        model.initialise()
        model.train()(**inputs("clip"))["image_embeds"].sum().backward()
        weights = model.vision_model.state_dict()
        kept = [torch.equal(value, weights[name]) for name, value in tagger.resnet.state_dict().items()]
        assert all(kept) == locked  # BatchNorm's statistics have seen a batch more
        assert any(p.grad is not None for p in model.vision_model.parameters()) != locked
        assert model.visual_projection.weight.grad is not None


def test_clip_texts_do_not_depend_on_padding():
    model = build("clip")
    with torch.inference_mode():
        short, long = (model(**inputs("clip", padding=n))["text_embeds"] for n in (0, 9))
    torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-5)


def test_clip_videos_are_the_mean_of_their_own_frames():
    model = build("clip")
    frames = torch.zeros(2, 4, 32, 32, 3, dtype=torch.uint8)
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    frames[0], frames[1, :2] = FRAMES[:4], FRAMES[4:]
    with torch.inference_mode():
        each = model.images(FRAMES)
        videos = model.embed_videos(frames, mask)
        frames[1, 2:] = 77  # padding
        assert torch.equal(videos, model.embed_videos(frames, mask))
    expected = torch.nn.functional.normalize(torch.stack([each[:4].mean(0), each[4:].mean(0)]), dim=1)
    torch.testing.assert_close(videos, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"width": 100}, "width 100"), ({"blocks": [1]}, "one each a stage")],
)
def test_clip_refuses_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        named.module("models", "clip").Config(**{**FACTS["clip"], **options})


def test_tagger_backbone_loads_with_trained_weights(tmp_path):
    model = build("image_tagger")
    model.save_pretrained(tmp_path)
    backbone, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    weights = dict(model.resnet.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in backbone.named_parameters())
    plain = ResNetForImageClassification.from_pretrained(tmp_path)
    assert plain.config.id2label == FACTS["image_tagger"]["id2label"]


def test_tagger_starts_alive():
    model = build("image_tagger").train()
    spread = model(FRAMES)["logits"].std(0)
    assert (spread > 0.05).all()
