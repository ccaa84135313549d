"""The sound expert: spectrograms and networks against transformers' own, and a small one trained here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    AutoModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

import clips
from paths import realdata
from toys import corpus_of, extracted, toy
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.examples import Source
from videomatch.examples.sound_tags import SoundTags
from videomatch.experts import log_mel
from videomatch.experts.log_mel import Expert as LogMel
from videomatch.experts.sound import Expert as Sound
from videomatch.media.container import probe
from videomatch.media.decode import Sampler
from videomatch.models import sound_tagger
from videomatch.stages.train import train

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
RATE = 16000
PITCHES = {"red": 300.0, "green": 700.0, "blue": 1500.0, "yellow": 3500.0}


def tones(count: int, seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """(count, samples) float32: chords in noise, silence the last."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    made = [0.4 * np.sin(2 * np.pi * rng.uniform(80, 6000) * time) for _ in range(count)]
    made = [wave + rng.normal(0, 0.02, len(wave)) for wave in made]
    made[-1][:] = 0
    return np.stack(made).astype(np.float32)


def drawn(model: Any) -> Any:
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.1)
    return model.eval()


def ast(folder: Path, **settings: Any) -> str:
    torch.manual_seed(0)
    extractor = ASTFeatureExtractor(num_mel_bins=48, max_length=120, **settings)
    config = ASTConfig(**SMALL, num_mel_bins=48, max_length=120, patch_size=16)
    drawn(ASTModel(config)).save_pretrained(folder)
    extractor.save_pretrained(folder)
    return str(folder)


def test_filter_banks_are_those_of_transformers() -> None:
    sound = tones(5)
    for bands in (40, 128):
        theirs = ASTFeatureExtractor(num_mel_bins=bands, max_length=98, do_normalize=False)
        expected = np.asarray(theirs(list(sound), sampling_rate=RATE, return_tensors="np")["input_values"])
        found = log_mel.log_mel(sound, RATE, bands)
        assert found.shape == expected.shape == (5, log_mel.num_frames(RATE), bands)
        assert np.abs(found - expected).max() < 1e-3
        assert expected.std() > 1  # not all the floor
    assert log_mel.num_frames(399) == 0 and log_mel.num_frames(400) == 1 and log_mel.num_frames(560) == 2


def test_log_mel_rows_are_spectrograms() -> None:
    expert = LogMel(bands=40, every=0.5)
    sound = tones(3, 0.5)
    assert expert.shape == (48, 40) and expert.dtype == "float16"
    assert np.array_equal(expert.infer(expert.prepare(sound)), log_mel.log_mel(sound, RATE, 40))
    for options, message in (
        ({"every": 0.01}, "every = 0.01"),
        ({"bands": 0}, "bands = 0"),
        ({"batch": 0}, "batch = 0"),
    ):
        with pytest.raises(ValueError, match=message):
            LogMel(**options)


@pytest.mark.parametrize("settings", [{}, {"mean": -6.0, "std": 3.0}, {"do_normalize": False}])
def test_ast_is_transformers_own(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = ast(tmp_path / "ast", **settings)
    expert = Sound(backbone=folder, precision="float32")
    assert expert.pooling == "pooled" and expert.windows.length == 1
    sound = tones(4)
    inputs = ASTFeatureExtractor.from_pretrained(folder)(list(sound), sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = ASTModel.from_pretrained(folder).eval()(**inputs).pooler_output.numpy()
    found = expert.infer(expert.prepare(sound)[:, None])
    assert found.shape == (4, 32)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.abs(found[:1] - found[1:]).max(1).min() > 1e-3  # rows differ between sounds
    mean = Sound(backbone=folder, precision="float32", pooling="mean")
    assert not np.allclose(mean.infer(sound[:, None]), found)


def test_other_networks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whisper = WhisperModel(
        WhisperConfig(
            d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=80, max_source_positions=100, vocab_size=60,
            decoder_start_token_id=1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    drawn(whisper).save_pretrained(tmp_path / "whisper")
    WhisperFeatureExtractor(chunk_length=2).save_pretrained(tmp_path / "whisper")
    audio = {
        "patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 32,
        "num_hidden_layers": 2, "window_size": 4, "spec_size": 64, "num_mel_bins": 64, "patch_size": 4,
        "projection_dim": 24, "enable_fusion": False,
    }  # fmt: skip
    text = {**SMALL, "vocab_size": 50, "projection_dim": 24}
    clap = drawn(ClapModel(ClapConfig(audio_config=audio, text_config=text, projection_dim=24)))
    clap.save_pretrained(tmp_path / "clap")
    extractor = ClapFeatureExtractor(feature_size=64, sampling_rate=RATE, max_length_s=1, truncation="rand_trunc")
    extractor.save_pretrained(tmp_path / "clap")
    sound = tones(3)
    expert = Sound(backbone=str(tmp_path / "whisper"), precision="float32")
    inputs = WhisperFeatureExtractor(chunk_length=2)(list(sound), sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = whisper.encoder(inputs["input_features"]).last_hidden_state.mean(1).numpy()
    assert expert.pooling == "mean"
    assert np.abs(expert.infer(sound[:, None]) - expected).max() < 1e-4 * np.abs(expected).max()
    with pytest.raises(ValueError, match=r"windows of 3 seconds, but .* takes from 0.025 to 2"):
        Sound(backbone=str(tmp_path / "whisper"), span=3)
    expert = Sound(backbone=str(tmp_path / "clap"), precision="float32")
    assert expert.pooling == "pooled" and expert.shape == (24,)
    inputs = extractor(list(sound), sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = clap.get_audio_features(input_features=inputs["input_features"]).pooler_output.numpy()
    assert np.abs(expert.infer(sound[:, None]) - expected).max() < 1e-4 * np.abs(expected).max()


def test_sound_refuses(tmp_path: Path) -> None:
    folder = ast(tmp_path / "ast")
    for options, message in (
        ({"pooling": "first"}, "pooling 'first'"),
        ({"batch": 0}, "batch = 0"),
        ({"every": 0.5, "span": 0.8}, "span = 0.8 seconds, expected a multiple of every = 0.5"),
        ({"every": 0.5, "span": 1.5}, r"windows of 1.5 seconds, but .* takes from 0.025 to 1.22"),
        ({"every": 0.02}, "windows of 0.02 seconds"),
    ):
        with pytest.raises(ValueError, match=message):
            Sound(backbone=folder, **options)
    (tmp_path / "ast/preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="no audio feature extractor"):
        Sound(backbone=folder)


def test_extract_groups_sound_to_windows(tmp_path: Path) -> None:
    folder = ast(tmp_path / "ast")
    paths = {
        n: clips.write(tmp_path / f"{n}.mp4", range(k), tone=t) for n, k, t in (("v0", 100, 1.0), ("v1", 40, None))
    }
    corpus = corpus_of(tmp_path / "corpus", paths)
    experts = {
        "sound": {"extractor": "sound", "backbone": "b", "precision": "float32", "every": 0.5, "span": 1.0},
        "log_mel": {"extractor": "log_mel", "bands": 48, "every": 0.5},
    }
    stores = extracted(tmp_path, corpus, experts, {"b": folder})  # no picture is wanted
    found = stores["sound"]
    assert found.ids.to_list() == ["v0", "v1"] and tables.read("rejected", tmp_path / "1").is_empty()
    assert found.lengths.tolist() == [7, 0] == stores["log_mel"].lengths.tolist()
    end = 100 / 30
    assert found.times("v0") == pytest.approx(np.array([[0.5 * n, min(0.5 * n + 1, end)] for n in range(7)]), abs=1e-6)
    expert = Sound(backbone=folder, precision="float32", every=0.5, span=1.0)
    pieces = np.concatenate([c.values for c in Sampler(paths["v0"], [expert.request])])
    assert expert.request.every == Fraction(1, 2)
    pieces = np.concatenate([pieces, np.zeros_like(pieces[:1])])
    for n in range(7):
        alone = expert.infer(pieces[None, n : n + 2])[0]
        assert np.abs(found["v0"][n] - alone).max() < 2e-3 * np.abs(alone).max()
    assert np.abs(found["v0"][0] - found["v0"][3]).max() > 5e-3  # silence, then the tone
    # pictures and sound together are the same sound
    both = {**experts, "frames": {"extractor": "frames", "size": 16}}
    assert np.array_equal(extracted(tmp_path / "both", corpus, both, {"b": folder})["sound"]["v0"], found["v0"])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The toy corpus, in which each colour has a pitch; every fifth video is silent."""
    folder = tmp_path_factory.mktemp("sounds")
    corpus, features = toy(folder, videos=96, frames=1, size=8)
    rng = np.random.default_rng(0)
    expert = LogMel(bands=32, every=0.5)
    time = np.arange(expert.request.samples) / RATE
    with StoreWriter(features / "log_mel", shape=expert.shape, times=True) as store:
        for number, (video, tags) in enumerate(corpora.videos(corpus).select("video_id", "tags").iter_rows()):
            count = 0 if number % 5 == 4 else 3
            pitch = PITCHES[tags[0]] * rng.uniform(0.9, 1.1)
            phase = rng.uniform(0, 6, (count, 1))
            sound = 0.3 * np.sin(2 * np.pi * pitch * time + phase) + rng.normal(0, 0.03, (count, len(time)))
            start = np.arange(count) * 0.5
            rows = expert.infer(sound.astype(np.float32)) if count else np.zeros((0, *expert.shape), np.float32)
            store.add(video, rows, times=np.stack([start, start + 0.5], 1))
    return corpus, features


def test_a_spectrogram_and_its_labels(sounds: tuple[Path, Path]) -> None:
    corpus, features = sounds
    store = Store(features / "log_mel")
    examples = SoundTags(Source(corpus, store), num_tags=4).on("train")
    listed = [f"v{n:03d}" for n in range(96) if n // 8 % 3 == 0]
    assert examples.videos == [v for v in listed if int(v[1:]) % 5 != 4]  # those with sound
    assert examples.derived_config()["num_frames"] == 48 and examples.derived_config()["bands"] == 32
    batch = examples.batch(np.arange(len(examples.videos)), np.random.default_rng(0))
    assert batch["log_mel"].dtype == torch.float32
    for video, row, marked in zip(examples.videos, batch["log_mel"].numpy(), batch["labels"].numpy(), strict=True):
        assert any(np.array_equal(row, piece.astype(np.float32)) for piece in store[video])
        assert {examples.labels[n].partition(":")[0] for n in np.flatnonzero(marked)} == {"tag", "category"}
    with pytest.raises(ValueError, match=r"expected \(frames, bands\)"):
        SoundTags(Source(corpus, Store(features / "frames")), expert="frames")


def test_a_tagger_trained_here_is_a_sound_backbone(sounds: tuple[Path, Path], tmp_path: Path) -> None:
    corpus, features = sounds
    system = {
        "model": {"name": "sound_tagger", "width": 32, "layers": 1},
        "examples": {"kind": "sound_tags", "expert": "log_mel", "per_video": 8},
        "objectives": {"bce_tags": None},
        "training": {"epochs": 6, "batch": 16, "lr": 3e-3, "precision": "fp32"},
    }
    output, scratch = tmp_path / "run", tmp_path / "scratch"
    output.mkdir()
    scratch.mkdir()
    train(corpus=corpus, features=[features], output=output, scratch=scratch, threads=1, system=system, seed=0)
    log = pl.read_csv(output / "log.csv")
    # one of four colours, which have a sound, and one of two places, which have none
    sounding, silent = 4 * (0.25 * np.log(4) + 0.75 * np.log(4 / 3)), 2 * np.log(2)
    assert log["val/bce_tags"][-1] < (0.6 * sounding + silent) / 6
    plain, info = AutoModel.from_pretrained(output, output_loading_info=True)
    assert type(plain) is ASTModel and not info["missing_keys"]
    expert = Sound(backbone=str(output), every=0.5, precision="float32")
    sound = tones(3, 0.5)
    found = torch.from_numpy(expert.infer(sound[:, None]))
    head = sound_tagger.Model.from_pretrained(output).eval()
    stored = LogMel(bands=32, every=0.5)
    with torch.inference_mode():
        logits = head(torch.from_numpy(stored.infer(sound)))["logits"]
        torch.testing.assert_close(head.classifier(found), logits, rtol=1e-3, atol=1e-3)
    # the extractor beside the weights gives the stored log-mel
    inputs = ASTFeatureExtractor.from_pretrained(output)(list(sound), sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(plain.eval()(**inputs).pooler_output, found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"width": 40}, "width 40"), ({"num_frames": 8}, "no patch of 16 fits 8 frames of 64 bands")],
)
def test_the_tagger_refuses_sizes_that_do_not_fit(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sound_tagger.Config(**options)


REAL = ("DAMO-NLP-SG+Video-LLaMA/dog_barking.mp4", "Zulko+moviepy/sintel_5s.mp4", "akamhy+videohash/rocket_a.webm")


def test_real_clips(tmp_path: Path) -> None:
    paths = [realdata() / "videos" / name for name in REAL]
    found = {path.stem: path for path in paths if path.exists() and probe(path).has_audio}
    if not found:
        pytest.skip("none of the real clips with sound is there")
    folder = ast(tmp_path / "ast")
    corpus = corpus_of(tmp_path / "corpus", found)
    experts = {"sound": {"extractor": "sound", "backbone": "b", "precision": "float32"}}
    store = extracted(tmp_path, corpus, experts, {"b": folder})["sound"]
    expert = Sound(backbone=folder, precision="float32")
    plain, extractor = ASTModel.from_pretrained(folder).eval(), ASTFeatureExtractor.from_pretrained(folder)
    for video, path in found.items():
        sampler = Sampler(path, [expert.request])
        sound = np.concatenate([c.values for c in sampler])
        assert len(store[video]) == len(sound) > 0
        inputs = extractor(list(sound[:8]), sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            expected = plain(**inputs).pooler_output.numpy()
        assert np.abs(store[video][:8] - expected).max() < 5e-3 * np.abs(expected).max()
        times = store.times(video)
        assert times is not None and np.allclose(times[:, 0], np.arange(len(times)))
