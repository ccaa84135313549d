"""OCR and speech: words as rows, OCR of generated and real frames, given transcripts, and Whisper's own."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    EfficientNetConfig,
    EfficientNetModel,
    GenerationConfig,
    VideoMAEConfig,
    VideoMAEModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

import clips
from paths import ROOT, realdata
from toys import corpus_of, extracted, see, voice_detection
from videomatch.data import tables
from videomatch.data.corpus import videos, write_transcripts
from videomatch.data.store import Store
from videomatch.data.tokenize import tokenizer
from videomatch.experts.ocr import Expert as Ocr
from videomatch.experts.ocr import TextBox, is_word, similarity, stamp_of
from videomatch.experts.speech import Expert as Speech
from videomatch.experts.speech import Whisper
from videomatch.media.decode import FrameRequest, Sampler
from videomatch.pipeline import jobs, params
from videomatch.pipeline.plan import Plan
from videomatch.stages.extract import extract
from videomatch.synthetic import pictures as synthetic_pictures
from videomatch.synthetic.latent import library_latent, scenes
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.video import render_video

OPTIONS = SyntheticOptions(videos=60, size=112, max_duration=6, median_duration=5)
SEED = 3


def hashed(text: str, dim: int) -> np.ndarray:
    return Speech(dim=dim).words([text])[0]


def cosine(a: str, b: str, dim: int = 300) -> float:
    return float(hashed(a, dim) @ hashed(b, dim))


def test_near_equal_words_have_near_equal_rows() -> None:
    assert cosine("Watch to the end", "watch  TO the end!") == pytest.approx(1, abs=1e-6)
    assert cosine("behind the scenes", "behind the scene") > 0.8
    assert cosine("basketball", "basketbal") > 0.55
    assert cosine("五分钟学会", "五分钟学") > 0.7
    assert cosine("新手入门", "入门新手") > cosine("新手入门", "新人手工") > cosine("新手入门", "幕后花絮")
    assert abs(cosine("football", "volcano")) < 0.25


def test_rows_of_different_words_are_nearly_at_right_angles() -> None:
    letters = np.random.default_rng(0).integers(97, 123, (200, 8)).astype(np.uint8)
    rows = np.stack([hashed(bytes(word).decode(), 300) for word in letters])
    others = (rows @ rows.T)[~np.eye(len(rows), dtype=bool)]
    # random unit vectors: mean 0, deviation 1 / sqrt(300)
    assert abs(others.mean()) < 0.01 and others.std() == pytest.approx(300**-0.5, rel=0.3)


def test_a_row_is_the_mean_of_its_words() -> None:
    words = [hashed(word, 64) for word in ("old", "town")]
    both = words[0] + words[1]
    np.testing.assert_allclose(hashed("Old town", 64), both / np.linalg.norm(both), atol=1e-6)
    assert not hashed("…!", 64).any()
    np.testing.assert_allclose(hashed("x, TEA!", 64), hashed("Tea x", 64), atol=1e-6)
    assert not np.allclose(hashed("养生", 64), hashed("生养", 64))  # characters, and pairs of neighbours


def test_rows_do_not_change_from_release_to_release() -> None:
    # stores that exist hold these numbers
    row = hashed("harbour", 16)
    known = [-0.1336, 0.3341, -0.4009, 0.0668, -0.3341, 0.2004, 0.0, 0.4009]
    known += [-0.0668, -0.2673, -0.1336, -0.1336, -0.2004, 0.0668, 0.4677, -0.1336]
    np.testing.assert_allclose(row, known, atol=1e-4)
    assert np.linalg.norm(row) == pytest.approx(1)
    assert Speech(dim=16).words([]).shape == (0, 16)
    with pytest.raises(ValueError, match="dim = 3"):
        Speech(dim=3)


def test_similarity_of_readings() -> None:
    assert similarity("Chapter 3", "chapter3") == 1
    assert similarity("Watch to the end", "Watch to he end") > 0.8
    assert similarity("Finally", "Number one") < 0.2
    assert similarity("第一章", "第二章") < 0.7


def test_words_by_an_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vocabulary = tokenizer(None, ["the old town", "a red heart", "新手入门"] * 3, vocab_size=80)
    vocabulary.save_pretrained(tmp_path)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=20, **tower)).save_pretrained(tmp_path)
    words = Speech(encoder=str(tmp_path)).words
    rows = words(["the old town", "a red heart " * 30, "the old town"])
    assert rows.shape == (3, 32) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(rows[0], words(["the old town"])[0])


def test_words_by_a_clip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vocabulary = tokenizer(None, ["the old town", "a red heart"] * 3, vocab_size=80, style="clip")
    vocabulary.save_pretrained(tmp_path)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    last = len(vocabulary) - 1
    text = {**tower, "vocab_size": last + 1, "bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": 0}
    config = CLIPConfig(
        vision_config={**tower, "image_size": 32, "patch_size": 16}, text_config=text, projection_dim=24
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    tokens = vocabulary(["a red heart"], return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
    rows = Speech(encoder=str(tmp_path)).words(["a red heart"])
    np.testing.assert_allclose(rows, torch.nn.functional.normalize(expected, dim=-1).numpy(), atol=1e-5)


@pytest.fixture(scope="module")
def reader() -> Ocr:
    return Ocr(every=1.0, size=112)


def test_readings_that_are_no_words() -> None:
    assert all(map(is_word, ["Wow", "测评", "2021", "Part 2", "1080p hd"]))
    assert not any(map(is_word, ["O", "8", "00", "十", "★", "", "8O8O", "1+1", "-"]))


def test_what_generated_scenes_say_is_read(reader: Ocr) -> None:
    written = found = false = 0
    for index in range(24):
        latent = library_latent(SEED, index, OPTIONS)
        scene = scenes(latent)[0]
        frame = synthetic_pictures.frame(latent, 0.4, latent.format.width, latent.format.height)
        texts = [text.text for text in see(reader, frame[None]).texts]
        matches = [similarity(scene.words, text) for text in texts]
        if scene.words:
            written += 1
            found += max(matches, default=0) > 0.8
        false += sum(match < 0.5 for match in matches)
    assert written > 8
    assert found >= 0.75 * written and false <= 3, (written, found, false)


def test_a_text_on_screen_is_one_row_with_its_time(reader: Ocr) -> None:
    known = ("Number one", "Watch to the end", "Nobody tells you this", "You won't believe this")
    latents = (library_latent(SEED, k, OPTIONS) for k in range(300))
    latent = next(s for s in latents if scenes(s)[0].words in known and scenes(s)[0].end > 2)
    words = scenes(latent)[0].words
    frames = np.stack(
        [synthetic_pictures.frame(latent, t, 200, 112) for t in np.linspace(0, scenes(latent)[0].end - 0.1, 4)]
    )
    blank = np.full_like(frames[:1], 90)
    found = see(reader, np.concatenate([blank, frames, blank, blank, blank]))
    where = next(k for k, text in enumerate(found.texts) if similarity(text.text, words) > 0.8)
    assert len([text for text in found.texts if similarity(text.text, words) > 0.5]) == 1
    assert (found.texts[where].start, found.texts[where].end, found.texts[where].language) == (1, 5, "en")
    assert 0.8 <= (found.texts[where].confidence or 0) <= 1
    assert found.times[where].tolist() == [1, 5]
    np.testing.assert_array_equal(found.rows[where], hashed(found.texts[where].text, 300))
    # a text that comes again after a while is another row
    again = see(reader, np.concatenate([frames[:1], blank, blank, blank, frames[:1]]))
    assert sum(similarity(text.text, words) > 0.8 for text in again.texts) == 2
    nothing = see(reader, blank)
    assert nothing.rows.shape == (0, 300) and nothing.times.shape == (0, 2)


def test_a_box_that_stays_is_known_again_and_another_is_not() -> None:
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (20, 90, 3), dtype=np.uint8)
    box = TextBox((10, 10, 100, 30), stamp_of(crop), "words", 0.9)
    dimmed = (crop * 0.8 + 10).astype(np.uint8)
    assert box.matches((11, 10, 101, 30), stamp_of(dimmed))
    assert not box.matches((11, 40, 101, 60), stamp_of(crop))
    assert not box.matches((10, 10, 100, 30), stamp_of(crop[:, ::-1]))


def test_real_titles_are_read() -> None:
    clips = realdata() / "videos/Zulko+moviepy"
    expert = Ocr(every=1.0, size=240)
    sampler = Sampler(clips / "result.mp4", [FrameRequest(Fraction(1), 240)])
    reading = expert.start("result")
    for chunk in sampler:
        reading.update(chunk.values, chunk.first)
    found = reading.finalize(sampler.times(0))
    assert any("fps Photo JPEG" in text.text for text in found.texts), found.texts
    # the title shakes on a noisy ground: it is read with errors
    assert any(similarity("Holidays 2013", text.text) > 0.5 for text in found.texts), found.texts
    assert (found.times[:, 0] < found.times[:, 1]).all()


def transcripts() -> pl.DataFrame:
    rows = [
        ("a", 1.0, 2.5, "second"),
        ("a", 0.2, 0.8, "first one"),
        ("b", None, None, "whenever"),
        (None, 0.0, 1.0, "x"),
    ]
    rows = [(f"t{n}", video, "asr", "en", *timed) for n, (video, *timed) in enumerate(rows)]
    return tables.frame("texts", rows)


def test_transcripts_are_rows_in_order_of_time(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", dict.fromkeys("abc"))
    write_transcripts(transcripts(), videos(corpus), corpus, 1)
    expert = Speech(dim=64)
    assert expert.request is None
    expert.set_corpus(corpus, 0)
    found = expert.start("a").finalize(np.zeros((0, 2)))
    assert [(text.text, text.language) for text in found.texts] == [("first one", "en"), ("second", "en")]
    assert found.times.tolist() == [[0.2, 0.8], [1.0, 2.5]]
    np.testing.assert_array_equal(found.rows[1], hashed("second", 64))
    assert expert.start("b").finalize(np.zeros((0, 2))).times.tolist() == [[-1, -1]]
    assert expert.start("c").finalize(np.zeros((0, 2))).rows.shape == (0, 64)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of random weights with a vocabulary of bytes: it recognises nonsense, in the form of a real one."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    letters = sorted(ByteLevel.alphabet())
    words = WhisperTokenizer(vocab={c: k for k, c in enumerate(letters)}, merges=[])
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|transcribe|>"]
    special += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    words.add_special_tokens({"additional_special_tokens": special})
    words.add_tokens([f"<|{k * 0.02:.2f}|>" for k in range(1501)])
    ids = {name: words.convert_tokens_to_ids(name) for name in special}
    common = {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|endoftext|>"]}
    common |= {"pad_token_id": ids["<|endoftext|>"], "decoder_start_token_id": ids["<|startoftranscript|>"]}
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(words), **sizes, **heads, **common, begin_suppress_tokens=None, suppress_tokens=None
        )
    )
    model.generation_config = GenerationConfig(
        **common,
        max_length=60,
        is_multilingual=True,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        lang_to_id={"<|en|>": ids["<|en|>"], "<|zh|>": ids["<|zh|>"]},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        prev_sot_token_id=ids["<|startofprev|>"],
        return_timestamps=True,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), words).save_pretrained(folder)
    return folder


def test_utterances_of_whisper_are_rows_with_times(whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voice_detection(monkeypatch)
    expert = Speech(backbone=str(whisper), dim=64, max_tokens=24, language="en", precision="float32")
    sound = (0.3 * np.sin(np.arange(31 * 16000) / 20)).astype(np.float32).reshape(31, 16000)
    sound[0] = 0
    times = np.stack([np.arange(31.0), np.arange(1.0, 32.0)], axis=1)
    results = []
    for _ in range(2):
        reading = expert.start("v")
        reading.update(sound[:2], 0)
        reading.update(sound[2:], 2)
        results.append(reading.finalize(times))
    found = results[0]
    assert len(found.texts) == len(found.rows) == len(found.times) > 0
    assert (found.times[:, 0] < found.times[:, 1]).all() and (found.times >= 1).all() and (found.times <= 31).all()
    assert {text.language for text in found.texts} <= {"en", "und"}
    np.testing.assert_array_equal(found.rows, results[1].rows)
    silent = expert.start("s")
    silent.update(np.zeros((3, 16000), np.float32), 0)
    assert len(silent.finalize(times).rows) == 0


def test_silence_and_noise_hold_no_speech() -> None:
    pytest.importorskip("faster_whisper", reason="the extra `speech` is not installed")
    sound = np.random.default_rng(0).normal(size=(2, 5 * 16000)).astype(np.float32) * [[0], [0.05]]
    whisper = object.__new__(Whisper)  # its network is not asked
    assert [whisper.transcribe(row.astype(np.float32)) for row in sound] == [[], []]


def test_another_model_than_whisper_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config\.json, expected a Whisper"):
        Speech(backbone=str(tmp_path))
    BertConfig(vocab_size=10).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected a Whisper"):
        Speech(backbone=str(tmp_path))


def test_extract_writes_rows_and_words(tmp_path: Path) -> None:
    videos = ["w0000000", "w0000003"]
    for video in videos:
        render_video(tmp_path / f"{video}.mp4", video, seed=SEED, options=OPTIONS, speak=None)
    corpus = corpus_of(tmp_path / "corpus", {v: tmp_path / f"{v}.mp4" for v in videos})
    spoken = transcripts().with_columns(video_id=pl.lit(videos[1]))
    write_transcripts(spoken, pl.DataFrame({"video_id": videos, "shard": 0}), corpus, 1)
    wanted = {
        "ocr": {"extractor": "ocr", "every": 1, "size": 112, "dim": 64},
        "speech": {"extractor": "speech", "dim": 32},
        "frames": {"extractor": "frames", "size": 16},
    }
    stores, output = extracted(tmp_path, corpus, wanted), tmp_path / "1"
    given, (spoken, speech) = spoken, (tables.read("texts", output / "speech"), stores["speech"])
    assert spoken["language"].to_list() == given["language"].to_list()
    assert speech.lengths.tolist() == [0, 4]
    assert spoken["text"].to_list() == ["x", "first one", "second", "whenever"] and spoken["start"][-1] is None
    assert speech.times(videos[1])[-1].tolist() == [-1, -1]
    written, ocr = tables.read("texts", output / "ocr"), stores["ocr"]
    for video in videos:
        mine = written.filter(written["video_id"] == video)
        assert len(mine) == len(ocr[video])
        np.testing.assert_allclose(mine.select("start", "end").to_numpy(), ocr.times(video))
        for text, row in zip(mine["text"], ocr[video], strict=True):
            np.testing.assert_allclose(row, hashed(text, 64), atol=1e-3)
    assert len(stores["frames"][videos[0]]) > 4


def networks(folder: Path) -> dict[str, str]:
    """Small networks of random weights, of the kinds that the recipes name by their hub ids."""
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    words = tokenizer(None, ["the old town", "a red heart"] * 3, vocab_size=80)
    pictures = {"image_size": 32, "patch_size": 16}
    found = {
        "bert": BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=20, **tower)),
        "clip": CLIPModel(CLIPConfig(vision_config=tower | pictures, text_config=tower, projection_dim=24)),
        "dino": Dinov2Model(Dinov2Config(**tower, **pictures)),
        "videomae": VideoMAEModel(VideoMAEConfig(**tower, **pictures)),
        "ast": ASTModel(ASTConfig(**tower)),
        "efficientnet": EfficientNetModel(
            EfficientNetConfig(image_size=64, width_coefficient=0.2, depth_coefficient=0.1, hidden_dim=256)
        ),
    }
    for name, network in found.items():
        network.save_pretrained(folder / name)
    words.save_pretrained(folder / "bert")
    ASTFeatureExtractor().save_pretrained(folder / "ast")
    return {name: str(folder / name) for name in found}


@pytest.mark.parametrize(
    ("config", "dims"),
    [
        (
            "msrvtt_media",
            {"appearance": 32, "motion": 32, "audio": 32, "face": 24, "ocr": 32, "speech": 32, "scene": 24},
        ),
        ("efficientnet", {"scene": 256}),
    ],
)
def test_a_recipe_on_media_runs_with_folders_in_place_of_hub_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whisper: Path, config: str, dims: dict[str, int]
) -> None:
    monkeypatch.chdir(ROOT)
    folders = networks(tmp_path) | {"whisper": str(whisper)}
    content, files = params.load([f"configs/{config}.yaml"])
    hub = [name for name, entry in content["backbones"].items() if entry.get("pretrained")]
    changes = {"backbones": {name: {"pretrained": folders[name]} for name in hub}}
    if config == "msrvtt_media":
        changes["datasets"] = {"videos": {"raw": str(tmp_path)}}
    plan = Plan(params.resolved(params.overlay(content, changes), files))
    voice_detection(monkeypatch)
    made = [jobs.extract(plan, "videos", passage, "0").settings for passage in plan.passes("videos")]
    experts = {name: options for settings in made for name, options in settings["experts"].items()}
    backbones = {name: path for settings in made for name, path in settings["backbones"].items()}
    wanted = {name: experts[name] for name in dims}
    clips.write(tmp_path / "v.mp4", range(60), tone=0.0)
    corpus = corpus_of(tmp_path / "corpus", {"v": tmp_path / "v.mp4"})
    write_transcripts(tables.frame("texts"), pl.DataFrame({"video_id": ["v"], "shard": 0}), corpus, 1)
    extract(corpus=corpus, shard=0, experts=wanted, backbones=backbones, output=tmp_path / "1", threads=2)
    stores = {name: Store(tmp_path / "1" / name) for name in dims}
    assert {name: store.shape for name, store in stores.items()} == {name: (dim,) for name, dim in dims.items()}
    empty = [name for name, store in stores.items() if not len(store["v"])]
    assert set(empty) <= {"face", "ocr", "speech"}, empty
