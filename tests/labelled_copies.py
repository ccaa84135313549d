"""Small corpora of copied videos in the files of VCSL and of VSC 2022: labels, and released features of frames."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

#: query, reference, and (query_start, query_end, reference_start, reference_end), s; none if it is no copy
Pair = tuple[str, str, list[tuple[int, int, int, int]]]
Videos = dict[str, np.ndarray]


def drawn(rng: np.random.Generator, pairs: int, *, name: str = "", dim: int = 32) -> tuple[Videos, list[Pair]]:
    """Unit rows ``(seconds, dim)`` of videos, a frame a second, and pairs of them, of which two of three are copies:
    a stretch of the reference, noisier, stands in the query."""
    videos: Videos = {}
    made: list[Pair] = []
    for number in range(pairs):
        query, reference = f"Q{name}{number:03}", f"R{name}{number:03}"
        lengths = rng.integers(30, 60, 2).tolist()
        rows = [_unit(rng.normal(size=(length, dim)) + 0.5 * rng.normal(size=dim)) for length in lengths]
        boxes = []
        if number % 3:
            size = int(rng.integers(8, 24))
            start, first = (int(rng.integers(0, length - size + 1)) for length in lengths)
            noise = 0.6 * rng.normal(size=(size, dim)) / np.sqrt(dim)
            rows[0][start : start + size] = _unit(rows[1][first : first + size] + noise)
            boxes.append((start, start + size, first, first + size))
        videos |= {query: rows[0], reference: rows[1]}
        made.append((query, reference, boxes))
    return videos, made


def vcsl(raw: Path, *, train: int = 24, val: int = 12, test: int = 12, seed: int = 0, dim: int = 32) -> Path:
    """A folder as VCSL's ``data/`` with ``features/`` beside it."""
    (raw / "features").mkdir(parents=True)
    rng, labels, listed = np.random.default_rng(seed), {}, []
    for split, count in (("train", train), ("val", val), ("test", test)):
        videos, pairs = drawn(rng, count, name=split, dim=dim)
        for video, rows in videos.items():
            np.save(raw / f"features/{video}.npy", rows.astype(np.float32))
            listed.append((video, f"frames/{video}", len(rows)))
        _write(raw / f"pair_file_{split}.csv", ("query_id", "reference_id"), [pair[:2] for pair in pairs])
        labels |= {f"{q}-{r}": [[b[0], b[2], b[1], b[3]] for b in boxes] for q, r, boxes in pairs if boxes}
    _write(raw / "frames_all.csv", ("uuid", "path", "frame_count"), listed)
    (raw / "label_file_uuid_total.json").write_text(json.dumps(labels))
    (raw / "video_categories.json").write_text(json.dumps({"games": [video for video, *_ in listed]}))
    return raw


def vsc2022(raw: Path, *, train: int = 24, val: int = 12, test: int = 12, seed: int = 0, dim: int = 32) -> Path:
    """A folder as the challenge's, with ``train``, ``val`` and ``test``, and a file of descriptors each side."""
    rng = np.random.default_rng(seed)
    about = ("video_id", "duration_sec", "frames_per_sec", "width", "height", "rn", "base64_sha256")
    times = ("query_id", "ref_id", "query_start", "query_end", "ref_start", "ref_end")
    for number, (part, count) in enumerate((("train", train), ("val", val), ("test", test))):
        (raw / part).mkdir(parents=True)
        videos, pairs = drawn(rng, count, name=str(number), dim=dim)
        for letter, role, file in (("Q", "query", "queries"), ("R", "reference", "refs")):
            some = {video: rows for video, rows in videos.items() if video.startswith(letter)}
            lines = [(video, len(rows) + 0.04, 29.97, 480, 360, n, "") for n, (video, rows) in enumerate(some.items())]
            _write(raw / part / f"{part}_{role}_metadata.csv", about, lines)
            arrays = {
                "video_ids": np.repeat(list(some), [len(rows) for rows in some.values()]),
                "features": np.concatenate(list(some.values())).astype(np.float32),
                "timestamps": np.concatenate([np.arange(len(rows), dtype=np.float32) for rows in some.values()]),
            }
            np.savez(raw / part / f"{file}.npz", **arrays)
        rows = [(q, r, *box) for q, r, boxes in pairs for box in boxes]
        _write(raw / part / f"{part}_matching_ground_truth.csv", times, rows)
    return raw


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
