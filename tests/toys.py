"""A toy corpus of coloured squares, and corpora of given files: what tests of training and extraction share."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from videomatch.common import named
from videomatch.data import tables
from videomatch.data.corpus import write_videos
from videomatch.data.store import Store, StoreWriter
from videomatch.experts import BaseExpert, Extracted
from videomatch.stages.extract import extract

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "yellow": (220, 220, 30)}
PLACES = {"left": 0, "right": 1}


def toy(folder: Path, *, videos: int = 24, frames: int = 4, size: int = 32, seed: int = 0) -> tuple[Path, Path]:
    """Write a corpus folder and a features folder with the expert ``frames``; returns both.

    A video shows a square of one colour on one side before noise; its captions, tags and category say which. A third
    of the videos each is in val and test.
    """
    rng = np.random.default_rng(seed)
    corpus, features = folder / "corpus", folder / "features"
    rows, texts, splits = [], [], []
    with StoreWriter(features / "frames", shape=(size, size, 3), dtype="uint8", times=True) as store:
        for number in range(videos):
            colour = list(COLOURS)[number % 4]
            place = list(PLACES)[number // 4 % 2]
            video = f"v{number:03d}"
            images = rng.integers(60, 120, (frames, size, size, 3), dtype=np.uint8)
            for image in images:
                x = int(rng.integers(0, size // 8)) + PLACES[place] * size // 2
                y = int(rng.integers(0, size // 2))
                image[y : y + size // 3, x : x + size // 3] = COLOURS[colour]
            start = np.arange(frames) * 0.5
            store.add(video, images, times=np.stack([start, start + 0.5], 1))
            rows.append(
                {
                    "video_id": video,
                    "path": None,
                    "duration": frames / 2,
                    "fps": 2.0,
                    "width": size,
                    "height": size,
                    "has_audio": False,
                    "sha256": None,
                    "category": place,
                    "tags": [colour],
                    "shard": 0,
                }
            )
            title = {"text_id": f"{video}-title", "kind": "title", "text": f"{colour} {place} 第{number}号"}
            captions = [f"a {colour} square on the {place}", f"the {place} has a {colour} square"]
            said = [{"text_id": f"{video}-{n}", "kind": "caption", "text": text} for n, text in enumerate(captions)]
            for text in [title, *said]:
                texts.append({**text, "video_id": video, "language": "en", "start": None, "end": None})
            split = ("train", "val", "test")[number // 8 % 3]
            splits.append((split, "reference", video))
    corpus.mkdir(parents=True)
    tables.write("texts", pl.DataFrame(texts, schema=tables.SCHEMAS["texts"]), corpus)
    tables.write("splits", tables.frame("splits", splits), corpus)
    write_videos(tables.check("videos", pl.DataFrame(rows, schema=tables.SCHEMAS["videos"])), corpus, 1)
    return corpus, features


def corpus_of(folder: Path, videos: dict[str, Path | None]) -> Path:
    """Write a corpus folder that holds nothing but these videos, in one shard."""
    blank = {**dict.fromkeys(tables.SCHEMAS["videos"]), "shard": 0, "tags": []}
    rows = [{**blank, "video_id": n, "path": None if p is None else str(p)} for n, p in videos.items()]
    folder.mkdir()
    write_videos(tables.check("videos", pl.DataFrame(rows, schema=tables.SCHEMAS["videos"])), folder, 1)
    return folder


def see(expert: BaseExpert, frames: np.ndarray) -> Extracted:
    """All rows of an expert on frames of one video, one per second."""
    extractor = expert.start("v")
    rows = [extractor.update(frames[first : first + 3], first) for first in range(0, len(frames), 3)]
    start = np.arange(len(frames)) * 1.0
    last = extractor.finalize(np.stack([start, start + 1], axis=1))
    return replace(last, rows=np.concatenate([part for part in [*rows, last.rows] if len(part)] or [last.rows]))


def extracted(
    folder: Path, corpus: Path, experts: dict[str, dict[str, Any]], backbones: dict[str, str] | None = None
) -> dict[str, Store]:
    """The stores of ``extract`` in ``folder/1``, which are the same byte for byte with any number of threads."""
    contents = []
    for threads in (1, 3):
        output = folder / str(threads)
        extract(corpus=corpus, shard=0, experts=experts, backbones=backbones or {}, output=output, threads=threads)
        contents.append({p.relative_to(output): p.read_bytes() for p in output.rglob("*") if p.is_file()})
    assert contents[0] == contents[1]
    return {name: Store(folder / "1" / name) for name in experts}


def voice_detection(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """A stand-in for the package faster-whisper, in which a voice is what is loud, second by second; ``more`` are
    further things of it."""

    def voiced(sound: np.ndarray, options: Any, rate: int) -> list[dict[str, int]]:
        loud = np.abs(sound[: len(sound) // rate * rate].reshape(-1, rate)).max(1) > 0.1
        edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.view(np.int8), [0]])))
        return [{"start": int(a) * rate, "end": int(b) * rate} for a, b in edges.reshape(-1, 2)]

    contents = {"faster_whisper": more}
    contents["faster_whisper.vad"] = {"VadOptions": SimpleNamespace, "get_speech_timestamps": voiced}
    for name, content in contents.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


CLIP = {
    "model": {"name": "clip", "image_size": 32, "channels": [16, 32], "blocks": [1, 1], "width": 64, "text_layers": 1},
    "tokenizer": {"style": "clip", "vocab_size": 300},
    "examples": {"kind": "frame_caption", "expert": "frames", "per_video": 4, "max_length": 16},
    "objectives": {"clip_contrastive": {"weight": 1.0}},
    "training": {"epochs": 2, "batch": 8, "lr": 1e-3, "precision": "fp32"},
}
TAGGER = {
    "model": {"name": "image_tagger", "image_size": 32, "channels": [16, 32], "blocks": [1, 1]},
    "examples": {"kind": "frame_tags", "expert": "frames", "per_video": 4},
    "objectives": {"bce_tags": None},
    "training": {"epochs": 2, "batch": 8, "lr": 2e-3, "precision": "fp32"},
}


def trained(folder: Path, name: str, **options: Any) -> Path:
    """A checkpoint as ``train`` leaves it, with the weights that it begins with."""
    torch.manual_seed(0)
    room = named.module("models", name)
    model = room.Model(room.Config(**options))
    model.save_pretrained(folder)
    if (processor := model.processor()) is not None:
        processor.save_pretrained(folder)
    (folder / "system.yaml").write_text(yaml.safe_dump({"model": {"name": name}}))
    return folder
