"""The motion expert: windows against a naive twin, networks against transformers' own, and a small one trained here."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    ResNetModel,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    VivitConfig,
    VivitForVideoClassification,
    VivitModel,
    VJEPA2Config,
    VJEPA2Model,
)
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
from transformers.models.vivit.image_processing_vivit import VivitImageProcessor

import clips
from toys import corpus_of, extracted, toy
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.examples import Source
from videomatch.examples.clip_tags import ClipTags
from videomatch.experts import BaseExpert, Windows
from videomatch.experts.motion import Expert as Motion
from videomatch.experts.motion import pixels_of, unfold
from videomatch.media.decode import Sampler
from videomatch.models import video_tagger
from videomatch.stages.extract import extract
from videomatch.stages.train import train

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZE = 32


def frames_of(count: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.stack([clips.picture(3 * n, width, height) for n in range(count)])


def saved(folder: Path, model: Any, **processor: Any) -> str:
    """A checkpoint with its processor, as on the hub."""
    with torch.no_grad():  # transformers' start leaves most tokens alike
        for weight in model.parameters():
            weight.normal_(0, 0.12)
    model.save_pretrained(folder)
    size = {"height": SIZE, "width": SIZE}
    VideoMAEImageProcessorPil(**{"size": {"shortest_edge": SIZE}, "crop_size": size, **processor}).save_pretrained(
        folder
    )
    return str(folder)


def videomae(folder: Path, num_frames: int = 4) -> str:
    torch.manual_seed(0)
    config = VideoMAEConfig(**SMALL, image_size=SIZE, patch_size=8, num_frames=num_frames)
    return saved(folder, VideoMAEModel(config))


def naive(count: int, windows: Windows) -> list[list[int | None]]:
    """Item numbers of every window, None where zeros are."""
    beyond = None if windows.fill == "zeros" else count - 1
    return [
        [n if n < count else beyond for n in range(start, start + windows.length)]
        for start in range(0, count, windows.step)
    ]


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(st.integers(0, 9), max_size=6),
    length=st.integers(1, 6),
    step=st.integers(1, 9),
    fill=st.sampled_from(["last", "zeros"]),
)
def test_windows_are_those_of_a_naive_loop(pieces: list[int], length: int, step: int, fill: Any) -> None:
    windows = Windows(length, step, fill)
    expert = BaseExpert()
    expert.windows = windows
    extractor = expert.start("v")
    items = np.arange(1, sum(pieces) + 1)[:, None].repeat(2, 1)
    spans = np.stack([np.arange(len(items)), np.arange(len(items)) + 1.0], 1)
    found = [extractor.update(part, 0) for part in np.split(items, np.cumsum(pieces)[:-1])] if pieces else []
    last = extractor.finalize(spans)
    found.append(last.rows)
    rows = [row for part in found for row in part.tolist()]
    assert rows == [[[0, 0] if n is None else [n + 1] * 2 for n in row] for row in naive(len(items), windows)]
    assert all(part.shape[1:] == (length, 2) for part in found[:-1])
    own = [list(range(s, min(s + length, len(items)))) for s in range(0, len(items), step)]
    assert last.times.tolist() == [[row[0], row[-1] + 1] for row in own]


def reference(model: Any, folder: str, frames: np.ndarray, pooling: str) -> np.ndarray:
    processor = VideoMAEImageProcessorPil.from_pretrained(folder)
    pixels = processor([list(frames)], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        out = model.eval()(**{model.main_input_name: pixels})
    if pooling == "pooled":
        return out.pooler_output.numpy()
    return (out.last_hidden_state[:, 0] if pooling == "first" else out.last_hidden_state.mean(1)).numpy()


def networks(folder: Path) -> dict[str, tuple[str, Any, str]]:
    """Folder, the plain model, and what it should be pooled by."""
    torch.manual_seed(0)
    labelled = {"num_labels": 5}
    head = VideoMAEForVideoClassification(VideoMAEConfig(**SMALL, **labelled, image_size=SIZE, patch_size=8))
    times = TimesformerModel(TimesformerConfig(**SMALL, image_size=SIZE, patch_size=8, num_frames=4))
    vivit: dict[str, Any] = {**SMALL, "image_size": SIZE, "num_frames": 4, "tubelet_size": [2, 8, 8]}
    jepa = VJEPA2Model(
        VJEPA2Config(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2.0, crop_size=SIZE, patch_size=8,
            frames_per_clip=4, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1,
            pred_num_mask_tokens=1,
        )
    )  # fmt: skip
    classified = VivitForVideoClassification(VivitConfig(**vivit, **labelled))
    known = {
        "videomae": (VideoMAEModel(VideoMAEConfig(**SMALL, image_size=SIZE, patch_size=8, num_frames=4)), "mean"),
        "videomae, trained on labels": (head, "mean"),
        "timesformer": (times, "first"),
        "vivit": (VivitModel(VivitConfig(**vivit)), "pooled"),
        "vivit, trained on labels": (classified, "first"),  # without a pooling layer
        "v-jepa 2": (jepa, "mean"),
    }
    found = {}
    for name, (model, pooling) in known.items():
        path = saved(folder / name, model, image_mean=[0.4, 0.5, 0.6])
        found[name] = (path, getattr(model, model.base_model_prefix, model), pooling)
    return found


def test_each_network_is_transformers_own(tmp_path: Path) -> None:
    for name, (folder, model, pooling) in networks(tmp_path).items():
        expert = Motion(backbone=folder, rate=4, precision="float32")
        count = 16 if name == "videomae, trained on labels" else 4
        assert expert.windows == Windows(count, count), name
        assert expert.pooling == pooling, name
        frames = frames_of(count)
        expected = reference(model, folder, frames, pooling)
        found = expert.infer(expert.prepare(frames)[None])
        assert found.shape == expected.shape == (1, *expert.shape)
        assert np.abs(expected).max() > 0.01, name
        # the processors resize by Pillow and not by torch: 1 level of 255 here and there
        assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max(), name
        backwards = expert.infer(expert.prepare(frames[::-1].copy())[None])
        assert np.abs(found - backwards).max() > 1e-4, name  # time has a direction


def test_patches_are_the_convolution() -> None:
    torch.manual_seed(0)
    model = VideoMAEModel(VideoMAEConfig(**SMALL, image_size=SIZE, patch_size=8, num_frames=4)).eval()
    values = torch.randn(2, 4, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = model(values).last_hidden_state
        unfold(model)
        assert not any(isinstance(m, torch.nn.Conv3d) for m in model.modules())
        torch.testing.assert_close(model(values).last_hidden_state, expected, rtol=1e-4, atol=1e-4)
    overlapping = torch.nn.Sequential(torch.nn.Conv3d(3, 4, (2, 8, 8), stride=(1, 8, 8)))
    unfold(overlapping)
    assert isinstance(overlapping[0], torch.nn.Conv3d)


def test_frames_are_prepared_as_the_file_says(tmp_path: Path) -> None:
    config = VideoMAEConfig(image_size=SIZE)
    vivit = VivitImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    vivit.save_pretrained(tmp_path / "vivit")
    frames = frames_of(2, 50, 70)
    expected = np.asarray(vivit(list(frames), return_tensors="np")["pixel_values"])[0]
    ours = pixels_of(str(tmp_path / "vivit"), config)
    found = ours.floats(torch.from_numpy(ours.bytes(frames)), torch.float32).numpy()
    assert np.abs(found - expected).max() < 2.01 * max(ours.scale)
    # old files of TimeSformer: one number is the short side
    old = {"feature_extractor_type": "VideoMAEFeatureExtractor", "size": 48, "do_center_crop": False}
    # what transformers writes where torchvision is installed
    jepa = {"video_processor_type": "VJEPA2VideoProcessor", "crop_size": {"height": 224, "width": 224}}
    for name, file, content in (
        ("old", "preprocessor_config.json", old),
        ("jepa", "video_preprocessor_config.json", {**jepa, "size": {"shortest_edge": 256}}),
        ("nested", "processor_config.json", {"video_processor": {**jepa, "crop_size": 200, "size": None}}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
    assert pixels_of(str(tmp_path / "old"), config).resize == 48
    found = pixels_of(str(tmp_path / "jepa"), config)
    assert (found.resize, found.crop) == (256, (224, 224))
    assert found.shift == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert pixels_of(str(tmp_path / "nested"), config).crop == (200, 200)
    (tmp_path / "none").mkdir()
    assert pixels_of(str(tmp_path / "none"), config).resize == (SIZE, SIZE)


def test_motion_refuses(tmp_path: Path) -> None:
    folder = videomae(tmp_path / "net")
    for options, message in (
        ({"pooling": "max"}, "pooling 'max'"),
        ({"batch": 0}, "batch = 0"),
        ({"rate": 4, "every": 0.3}, r"every = 0.3 seconds is 1.2 frames at rate 4, not whole"),
        ({"rate": 0}, "expected more than 0"),
        ({"num_frames": 6}, r"trained on 4 frames\) cannot read 6 frames of 32 x 32"),
    ):
        with pytest.raises(ValueError, match=message):
            Motion(backbone=folder, **options)
    with pytest.raises(ValueError, match="no checkpoint"):
        Motion(backbone=str(tmp_path / "nowhere"))


def test_extract_groups_frames_to_windows(tmp_path: Path) -> None:
    folder = videomae(tmp_path / "net")
    names = {"v0": 140, "v1": 5, "v2": 64}
    raw = {name: clips.write(tmp_path / f"{name}.mp4", range(count)) for name, count in names.items()}
    corpus = corpus_of(tmp_path / "corpus", {**raw, "bare": None})
    options = {"extractor": "motion", "backbone": "b", "precision": "float32"}
    experts = {
        "motion": {**options, "rate": 5, "batch": 3},
        "often": {**options, "rate": 5, "every": 0.4},
        "frames": {"extractor": "frames", "size": SIZE, "every": 0.2},
    }
    found = extracted(tmp_path, corpus, experts, {"b": folder})
    assert found["frames"].lengths.tolist() == [24, 1, 11]  # 4.67, 0.17 and 2.13 seconds
    assert found["motion"].lengths.tolist() == [6, 1, 3]
    assert found["often"].lengths.tolist() == [12, 1, 6]
    times = found["often"].times("v2")
    assert times is not None
    assert times.tolist() == pytest.approx(
        np.array([[0.4 * n, min(0.4 * n + 0.8, 64 / 30)] for n in range(6)]), abs=1e-6
    )
    expert = Motion(backbone=folder, rate=5, precision="float32")
    frames = np.concatenate([c.values for c in Sampler(raw["v2"], [expert.request])])
    assert expert.request.every == Fraction(1, 5)
    padded = np.concatenate([frames, frames[-1:], frames[-1:]])
    for row, start in enumerate(range(0, 11, 4)):
        alone = expert.infer(expert.prepare(padded[start : start + 4])[None])[0]
        assert np.abs(found["motion"]["v2"][row] - alone).max() < 2e-3 * np.abs(alone).max()
    # stored frames are read at the rate at which they were stored
    second = {"again": {**options, "source": "frames", "rate": 5, "every": 0.4}}
    arguments = {"corpus": corpus, "shard": 0, "backbones": {"b": folder}, "features": [tmp_path / "1"]}
    extract(**arguments, experts=second, output=tmp_path / "second")
    again = Store(tmp_path / "second/again")
    assert again.lengths.tolist() == [12, 1, 6]
    assert np.allclose(again.times("v2"), times)
    stored = found["frames"]["v2"]
    alone = expert.infer(expert.prepare(np.concatenate([stored[10:], *[stored[-1:]] * 3]))[None])[0]
    assert np.abs(again["v2"][5] - alone).max() < 2e-3 * np.abs(alone).max()
    wrong = {"again": {**options, "source": "frames", "rate": 2}}
    with pytest.raises(ValueError, match=r"a frame every 0.5 s, but the stored ones of video 'v0' are 0.2 s apart"):
        extract(**arguments, experts=wrong, output=tmp_path / "third")


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return toy(tmp_path_factory.mktemp("toy"), videos=72, frames=5)


def test_a_clip_and_its_labels(toys: tuple[Path, Path]) -> None:
    corpus, features = toys
    store = Store(features / "frames")
    examples = ClipTags(Source(corpus, store), num_frames=3, words=["left", "red"]).on("train")
    batch = examples.batch(np.arange(len(examples.videos)), np.random.default_rng(0))
    assert batch["clips"].shape == (24, 3, 32, 32, 3) and batch["clips"].dtype == torch.uint8
    starts = set()
    for video, clip in zip(examples.videos, batch["clips"].numpy(), strict=True):
        frames = store[video]
        places = [p for p in range(5) if all(np.array_equal(clip[k], frames[min(p + k, 4)]) for k in range(3))]
        assert len(places) == 1
        starts |= set(places)
    assert starts == {0, 1, 2, 3}  # at least two of three frames are its own
    names = np.array(examples.labels)
    words = [name for name in names if name.startswith("word:")]
    for video, row in zip(examples.videos, batch["labels"].numpy(), strict=True):
        about = corpora.videos(corpus).row(by_predicate=pl.col("video_id") == video, named=True)
        caption = f"{about['tags'][0]} {about['category']}".split()
        expected = {f"tag:{about['tags'][0]}", f"category:{about['category']}"}
        assert set(names[row > 0]) == expected | {w for w in words if w.removeprefix("word:") in caption}
    assert examples.on("val").labels == examples.labels
    some = ClipTags(Source(corpus, store), num_tags=0, words=["left", "red"], categories=False).on("train")
    assert some.labels == ["word:left", "word:red"]
    with pytest.raises(ValueError, match="no caption of split 'train' has the word 'violet'"):
        ClipTags(Source(corpus, store), words=["violet"]).on("train")
    assert examples.derived_config()["image_size"] == 32 and examples.derived_config()["num_frames"] == 3


def test_labels_are_what_a_corpus_knows(tmp_path: Path) -> None:
    corpus, features = toy(tmp_path)
    known = [
        ("v000", "colour", "red", None, None),
        ("v001", "colour", "green", 0.0, 1.0),
        ("v001", "place", "left", None, None),
    ]
    tables.write("facts", tables.frame("facts", known), corpus)
    examples = ClipTags(Source(corpus, Store(features / "frames")), facts=["colour"], num_tags=0, categories=False)
    train = examples.on("train")
    assert train.labels == ["fact:colour=green", "fact:colour=red"]
    labels = train.batch(np.arange(3), np.random.default_rng(0))["labels"]
    assert labels.tolist() == [[0, 1], [1, 0], [0, 0]]


def test_short_videos_repeat_their_last_frame(tmp_path: Path) -> None:
    corpus, _ = toy(tmp_path, videos=24, frames=2)
    with StoreWriter(tmp_path / "one", shape=(8, 8, 3), dtype="uint8") as writer:
        for number in range(24):
            values = np.full((2, 8, 8, 3), 2 * number, np.uint8)
            values[1] += 1
            writer.add(f"v{number:03d}", values)
    examples = ClipTags(Source(corpus, Store(tmp_path / "one")), num_frames=6).on("train")
    batch = examples.batch(np.array([3]), np.random.default_rng(0))
    assert batch["clips"][0, :, 0, 0, 0].tolist() == [6, 7, 7, 7, 7, 7]
    with pytest.raises(ValueError, match="num_frames = 0"):
        ClipTags(Source(corpus, Store(tmp_path / "one")), num_frames=0)


def test_a_tagger_trained_here_is_a_motion_backbone(toys: tuple[Path, Path], tmp_path: Path) -> None:
    corpus, features = toys
    system = {
        "model": {"name": "video_tagger", "channels": [16, 32], "blocks": [1, 1]},
        "examples": {"kind": "clip_tags", "expert": "frames", "per_video": 8},
        "objectives": {"bce_tags": None},
        "training": {"epochs": 6, "batch": 16, "lr": 3e-3, "precision": "fp32"},
    }
    output, scratch = tmp_path / "run", tmp_path / "scratch"
    output.mkdir()
    scratch.mkdir()
    train(corpus=corpus, features=[features], output=output, scratch=scratch, threads=1, system=system, seed=0)
    log = pl.read_csv(output / "log.csv")
    # one of four colours and one of two places in every video: what knowing only how frequent they are costs
    prior = (4 * (0.25 * np.log(4) + 0.75 * np.log(4 / 3)) + 2 * np.log(2)) / 6
    assert log["val/bce_tags"][-1] < 0.8 * prior
    plain, info = AutoModel.from_pretrained(output, output_loading_info=True)
    assert type(plain) is ResNetModel and not info["missing_keys"]
    expert = Motion(backbone=str(output), rate=2, precision="float32")
    assert expert.windows == Windows(4, 4) and expert.pooling == "pooled"
    frames = Store(features / "frames")["v000"][:4]
    found = expert.infer(expert.prepare(frames)[None])
    head = video_tagger.Model.from_pretrained(output).eval()
    with torch.inference_mode():
        logits = head(torch.from_numpy(frames)[None])["logits"]
        same = head.classifier(torch.from_numpy(found))
    torch.testing.assert_close(logits, same, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"blocks": [1]}, "one each a stage"), ({"vision": "{videomae}"}, "expected a resnet")],
)
def test_the_tagger_refuses_what_is_no_resnet(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = videomae(tmp_path / "net")
    given = {name: folder if value == "{videomae}" else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        video_tagger.Config(**given)
