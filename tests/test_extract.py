"""``extract`` and its experts: preprocessing against transformers, stores, order, independence of threads."""

from __future__ import annotations

import importlib.util
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    EfficientNetConfig,
    EfficientNetModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil

import clips
from toys import corpus_of, extracted
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.experts import frames
from videomatch.experts.image import Expert as Picture
from videomatch.experts.image import fold, pixels_of_processor, pixels_of_timm
from videomatch.media.decode import Sampler
from videomatch.stages.extract import extract

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
SIZES = [(90, 160), (160, 90), (40, 61), (64, 64), (33, 200)]


def natural(height: int, width: int, count: int = 3) -> np.ndarray:
    return np.stack([clips.picture(40 * n + 7, width, height) for n in range(count)])


def tiny_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={**TOWER, "image_size": 64, "patch_size": 16, "projection_dim": 24},
        text_config={**TOWER, "vocab_size": 50, "bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 1},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def tiny_efficientnet(folder: Path, **processor: Any) -> Path:
    torch.manual_seed(0)
    model = EfficientNetModel(
        EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.2, image_size=64, hidden_dim=320)
    )
    for module in model.modules():  # as initialised by transformers it returns nothing but zeros
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in" if module.groups > 1 else "fan_out")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    model.save_pretrained(folder)
    size = {"height": 64, "width": 64}
    EfficientNetImageProcessorPil(size=size, crop_size=size, **processor).save_pretrained(folder)
    return folder


def box(height: int, width: int) -> dict[str, int]:
    return {"height": height, "width": width}


OFFSET = {"rescale_offset": True, "rescale_factor": 1 / 127.5}
PROCESSORS = {
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size=box(48, 48)),
    "clip, crop larger than the frame": CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=box(45, 48)),
    "efficientnet": EfficientNetImageProcessorPil(size=box(60, 50)),
    "efficientnet without top": EfficientNetImageProcessorPil(size=box(60, 60), include_top=False, resample=2),
    "efficientnet, nearest": EfficientNetImageProcessorPil(size=box(48, 48), resample=0),
    "efficientnet, offset, crop": EfficientNetImageProcessorPil(
        size=box(60, 60), crop_size=box(50, 41), do_center_crop=True, include_top=False, **OFFSET
    ),
    "lanczos": EfficientNetImageProcessorPil(size=box(48, 48), resample=1),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_equal_the_processor(name: str) -> None:
    processor = PROCESSORS[name]
    ours = pixels_of_processor(processor)
    for height, width in SIZES:
        frames = natural(height, width)
        expected = processor([Image.fromarray(f) for f in frames], return_tensors="np")["pixel_values"]
        found = ours.floats(torch.from_numpy(ours.bytes(frames)), torch.float32).numpy()
        assert found.shape == expected.shape
        # in levels of 255, channel by channel
        levels = np.abs(found - expected) / np.array(ours.scale)[:, None, None]
        assert levels.max() < 2.01, (name, height, width)
        assert levels.mean() < 0.2, (name, height, width)


def test_pixels_of_extreme_shapes() -> None:
    ours = pixels_of_processor(PROCESSORS["clip"])
    assert ours.bytes(np.zeros((1, 4, 20000, 3), np.uint8)).shape == (1, 48, 48, 3)
    assert ours.bytes(np.zeros((1, 20000, 1, 3), np.uint8)).shape == (1, 48, 48, 3)


def test_image_expert_is_the_model(tmp_path: Path) -> None:
    frames = natural(80, 120)
    folder = tiny_clip(tmp_path / "clip")
    expert = Picture(backbone=str(folder), precision="float32")
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    inputs = processor([Image.fromarray(f) for f in frames], return_tensors="pt")
    with torch.inference_mode():
        expected = CLIPModel.from_pretrained(folder).eval().get_image_features(**inputs).pooler_output.numpy()
    found = expert.infer(expert.prepare(frames))
    assert expert.shape == (24,)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    # the vision tower alone, with its projection, is the same expert
    CLIPVisionModelWithProjection.from_pretrained(folder).save_pretrained(tmp_path / "vision")
    (tmp_path / "vision/preprocessor_config.json").write_bytes((folder / "preprocessor_config.json").read_bytes())
    alone = Picture(backbone=str(tmp_path / "vision"), precision="float32")
    assert np.allclose(alone.infer(alone.prepare(frames)), found, atol=1e-5)


def test_efficientnet_is_folded_and_prepared_as_its_file_says(tmp_path: Path) -> None:
    frames = natural(64, 64)
    for include_top in (True, False):
        folder = tiny_efficientnet(tmp_path / f"net{include_top}", include_top=include_top)
        expert = Picture(backbone=str(folder), precision="float32")
        assert not any(isinstance(m, nn.BatchNorm2d) for m in expert.model.modules())
        processor = EfficientNetImageProcessorPil.from_pretrained(folder)
        inputs = processor([Image.fromarray(f) for f in frames], return_tensors="pt")
        with torch.inference_mode():
            expected = EfficientNetModel.from_pretrained(folder).eval()(**inputs).pooler_output.flatten(1).numpy()
        found = expert.infer(expert.prepare(frames))
        assert np.abs(expected).max() > 1e-3
        assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_fold_leaves_what_it_cannot_fold() -> None:
    """BatchNorm before its convolution looks foldable by registration, but is not."""
    model = EfficientNetModel(EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.2, hidden_dim=320))

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            nn.init.uniform_(self.norm.bias)

        def forward(self, pixel_values: torch.Tensor) -> Any:
            out = type(model(torch.zeros(1, 3, 64, 64)))()
            out.pooler_output = self.conv(self.norm(pixel_values)).mean((2, 3))
            return out

    odd: Any = Odd().eval()
    assert fold(odd, torch.rand(2, 3, 8, 8)) is odd


def test_other_backbones(tmp_path: Path) -> None:
    frames = natural(50, 70)
    vision = {**TOWER, "image_size": 32, "patch_size": 16}
    Dinov2Model(Dinov2Config(**vision)).save_pretrained(tmp_path / "dino")
    ViTForImageClassification(ViTConfig(**vision)).save_pretrained(tmp_path / "vit")
    SiglipModel(SiglipConfig(vision_config=vision, text_config={**TOWER, "vocab_size": 50})).save_pretrained(
        tmp_path / "siglip"
    )
    for name, pooling in (("dino", "pooled"), ("vit", "first"), ("siglip", "pooled")):
        expert = Picture(backbone=str(tmp_path / name), precision="float32")
        assert expert.pooling == pooling  # the classifier's pooling layer was never trained
        assert expert.pixels.resize == (32, 32)
        found = expert.infer(expert.prepare(frames))
        assert found.shape == (3, 32)
        again = Picture(backbone=str(tmp_path / name), precision="float32")
        assert np.array_equal(again.infer(again.prepare(frames)), found)
        mean = Picture(backbone=str(tmp_path / name), precision="float32", pooling="mean")
        assert not np.allclose(mean.infer(mean.prepare(frames)), found)


def torchscript(file: Path, network: nn.Module) -> Path:
    torch.manual_seed(0)
    torch.jit.script(network.eval()).save(str(file))
    return file


def test_a_torchscript_file_is_an_expert(tmp_path: Path) -> None:
    pixels = natural(50, 70)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    file = torchscript(tmp_path / "copy.pt", network)
    expert = Picture(backbone=str(file), size=32, mean=[0.4, 0.5, 0.6], std=[0.2, 0.2, 0.1], precision="float32")
    found = expert.infer(expert.prepare(pixels))
    resized = np.stack([np.asarray(Image.fromarray(p).resize((32, 32), Image.Resampling.BILINEAR)) for p in pixels])
    inputs = (torch.from_numpy(resized) / 255 - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.2, 0.1])
    expected = torch.jit.load(file)(inputs.permute(0, 3, 1, 2)).detach().numpy()
    assert expert.shape == (8,)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_torchscript_files_that_are_refused(tmp_path: Path) -> None:
    maps = torchscript(tmp_path / "maps.pt", nn.Conv2d(3, 8, 5, 4))
    with pytest.raises(ValueError, match=r"size = None, expected the pixels of a side that .*maps.pt"):
        Picture(backbone=str(maps))
    with pytest.raises(ValueError, match=r"maps.pt returns a tensor \(1, 8, 7, 7\), expected a row of numbers"):
        Picture(backbone=str(maps), size=32)
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match=r"pickled.pt: no TorchScript file"):
        Picture(backbone=str(tmp_path / "pickled.pt"), size=32)
    with pytest.raises(ValueError, match="size = 32 is of a TorchScript file"):
        Picture(backbone=str(tiny_clip(tmp_path / "clip")), size=32)


def test_pixels_of_timm(tmp_path: Path) -> None:
    """As timm's transform for evaluation: the short side is resized, and the centre cut out of it."""
    given = {"input_size": [3, 224, 224], "crop_pct": 0.95, "mean": [0.5] * 3, "std": [0.25] * 3}
    for mode, resize in (("center", 235), ("squash", (235, 235))):
        pixels = pixels_of_timm("folder", {**given, "crop_mode": mode})
        assert (pixels.resize, pixels.crop) == (resize, (224, 224))
        assert np.allclose(pixels.floats(torch.tensor([[[[0, 255, 51]]]]), torch.float32).flatten(), [-2, 2, -1.2])
    with pytest.raises(ValueError, match="folder: crop_mode 'border' of 224 x 224 pixels is not supported"):
        pixels_of_timm("folder", {**given, "crop_mode": "border"})
    if importlib.util.find_spec("timm") is None:
        (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": given}))
        with pytest.raises(ValueError, match="requires the timm library"):
            Picture(backbone=str(tmp_path))


def test_image_expert_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        Picture(backbone=str(tmp_path / "nowhere"))
    folder = tiny_clip(tmp_path / "clip")
    with pytest.raises(ValueError, match="pooling 'max'"):
        Picture(backbone=str(folder), pooling="max")
    with pytest.raises(ValueError, match="precision 'int8'"):
        Picture(backbone=str(folder), precision="int8")
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack visual_projection\.weight"):
        Picture(backbone=str(folder))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven videos of one shard: one broken, one with sound, one without a file."""
    raw = tmp_path_factory.mktemp("raw")
    names = {"v3": range(100), "v1": range(40), "v2": range(5), "v0": range(140), "v4": range(33)}
    for name, numbers in names.items():
        clips.write(raw / f"{name}.mp4", numbers, tone=0.0 if name == "v0" else None)
    (raw / "bad.mp4").write_text("nothing")
    paths = {name: raw / f"{name}.mp4" for name in [*names, "bad"]}
    return corpus_of(raw / "corpus", {**paths, "bare": None})


def test_extract(corpus: Path, tmp_path: Path) -> None:
    clip = str(tiny_clip(tmp_path / "clip"))
    experts = {
        "frames": {"extractor": "frames", "size": 16, "every": 0.25},
        "clip": {"extractor": "image", "backbone": "b", "batch": 8, "precision": "float32"},
        "audio": {"extractor": "log_mel", "bands": 32, "every": 0.5},
    }
    stores, output = extracted(tmp_path, corpus, experts, {"b": clip}), tmp_path / "1"
    ids = ["v0", "v1", "v2", "v3", "v4"]
    assert all(store.ids.to_list() == ids for store in stores.values())
    assert stores["clip"].lengths.tolist() == [10, 3, 1, 7, 3]
    assert stores["frames"].lengths.tolist() == [19, 6, 1, 14, 5]
    assert stores["audio"].lengths.tolist() == [10, 0, 0, 0, 0]
    assert stores["frames"].dtype == np.uint8
    assert stores["clip"].times("v1").tolist() == pytest.approx(np.array([[0, 0.5], [0.5, 1], [1, 4 / 3]]))
    assert stores["clip"].made_by[0]["precision"] == "float32"
    numbers = [clips.number_of(f) for f in stores["frames"]["v3"]]
    assert numbers == [int(k * 7.5) for k in range(14)]
    # each frame's row is that of the frame alone
    expert = Picture(backbone=clip, precision="float32")
    video = corpora.videos(corpus).filter(pl.col("video_id") == "v3")["path"][0]
    frames = np.concatenate([c.values for c in Sampler(Path(video), [expert.request])])
    assert expert.request.every == Fraction(1, 2)
    alone = expert.infer(expert.prepare(frames))
    assert np.abs(stores["clip"]["v3"] - alone).max() < 2e-3 * np.abs(alone).max()
    rejected = tables.read("rejected", output)
    assert rejected["video_id"].to_list() == ["bad", "bare"]
    assert "not a media file" in rejected["reason"][0]
    assert json.loads((output / "warnings.json").read_text()) == {}
    # the same network on the stored frames, without the media
    second = {"again": {"extractor": "image", "backbone": "b", "source": "frames", "precision": "float32"}}
    arguments = {"corpus": corpus, "shard": 0, "experts": second, "backbones": {"b": clip}, "features": [output]}
    extract(**arguments, output=tmp_path / "second")
    again = Store(tmp_path / "second" / "again")
    assert again.ids.to_list() == ids
    assert again.lengths.tolist() == [19, 6, 1, 14, 5]
    assert np.array_equal(again.times("v1"), stores["frames"].times("v1"))
    expected = expert.infer(expert.prepare(stores["frames"]["v1"]))
    assert np.abs(again["v1"] - expected).max() < 2e-3 * np.abs(expected).max()


def test_extract_names_what_is_missing(corpus: Path, tmp_path: Path) -> None:
    image = {"extractor": "image", "backbone": "b"}
    clip = {"b": str(tiny_clip(tmp_path / "clip"))}
    with pytest.raises(ValueError, match="expert 'frames' is in none of"):
        extract(corpus=corpus, shard=0, experts={"x": {**image, "source": "frames"}}, backbones=clip, output=tmp_path)
    with pytest.raises(ValueError, match="trained backbones are missing"):
        extract(corpus=corpus, shard=0, experts={}, backbones={}, output=tmp_path, runs=[tmp_path / "gone"])


def test_an_error_of_an_expert_ends_extract(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither hangs nor leaves a store that opens."""

    def fail(self: frames.Expert, values: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of order")

    monkeypatch.setattr(frames.Expert, "prepare", fail)
    with pytest.raises(RuntimeError, match="out of order"):
        extract(
            corpus=corpus, shard=0, experts={"f": {"extractor": "frames"}}, backbones={}, output=tmp_path, threads=2
        )
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "f")
