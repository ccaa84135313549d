"""Synthetic similarity maps of two random sequences of vectors, and their segments.

A video is a sequence of shots, constant or drifting or periodic, some of which repeat; a component is common to all
frames of a video, another to all videos. Segments of the reference, each at its own speed, are inserted into the query
in any order, also twice or truncated by its ends, and changed as by edits. Other parts of the query may show the same
scenes as the reference, with other motion. Segments begin and end anywhere within frames.

Shares of segments, speeds and lengths are about those counted in VCSL's and VSC 2022's labels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from videomatch.localisation import frame_similarity, key_frame_selection

Map = Float[np.ndarray, "query_frames reference_frames"]
Boxes = Float[np.ndarray, "segments 4"]

#: vectors per frame before sampling, and share of maps that have a segment
FINE, COPIED = 4, 0.7


@dataclass(frozen=True)
class _Style:
    """Parameters of all videos of a map."""

    common: np.ndarray  # unit vector that is a component of all frames, and its share
    common_share: float
    centre_share: float  # of the component of all scenes of a video
    shot: float  # mean frames, and their drift
    drift: float
    repeat: float  # probability that a shot is of an earlier scene


def drawn(
    rng: np.random.Generator, *, shortest: int = 10, longest: int = 128, condensed: float = 0.0
) -> tuple[Map, Boxes]:
    """A map of videos of ``shortest`` to ``longest`` frames, and its segments in frames, half open. ``condensed`` is
    the share of maps whose reference is interpolated from its key frames."""
    dim = int(np.exp(rng.uniform(np.log(10), np.log(100))))
    style = _Style(
        common=_unit(rng.normal(size=dim)),
        common_share=rng.choice([0.0, rng.uniform(0, 0.6)]),
        centre_share=rng.uniform(0, 0.6),
        shot=np.exp(rng.uniform(np.log(3), np.log(40))),
        drift=np.exp(rng.uniform(np.log(0.06), np.log(0.8))),
        repeat=rng.choice([0.0, rng.uniform(0, 0.6)]),
    )
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), 2)).astype(int)
    reference, scenes = _video(rng, lengths[1] * FINE, style, [])
    known = scenes if rng.random() < 0.35 else []
    host, _ = _video(rng, lengths[0] * FINE, style, known)
    boxes: list[tuple[float, ...]] = []
    if rng.random() < COPIED:
        query, found = _with_copies(rng, host, reference, style, longest)
        host, boxes = (query, found) if found else (host, [])
    query, reference = (_unit(rows[FINE // 2 :: FINE]) for rows in (host, reference))
    if rng.random() < condensed:
        reference = condensed_rows(rng, reference)
    values = query @ reference.T
    return values.astype(np.float32), np.array(boxes, np.float64).reshape(-1, 4)


def condensed_rows(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Frames ``(L, D)`` interpolated from key frames by a random method, as unit vectors."""
    times = np.arange(len(rows))[:, None] + np.array([0.0, 1.0])
    share = np.exp(rng.uniform(np.log(0.1), np.log(0.35)))
    method = rng.choice(key_frame_selection.METHODS)
    keys = key_frame_selection.select(rows, times, method=method, share=share, longest=20.0)
    covered = key_frame_selection.assigned_intervals(keys, times, features=rows)
    return frame_similarity.resampled(rows[keys], covered, 1.0)[0]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)


def _video(
    rng: np.random.Generator, size: int, style: _Style, known: list[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """``size`` vectors of a video, and its scenes; some shots are of ``known`` scenes."""
    dim = len(style.common)
    centre = _unit(rng.normal(size=dim))
    ends = np.cumsum(np.maximum(rng.exponential(style.shot * FINE, max(4, 4 * size // FINE)), FINE))
    cuts = np.r_[0, ends[ends < size].astype(int), size]
    rows = np.empty((size, dim))
    scenes: list[np.ndarray] = []
    for start, end in itertools.pairwise(cuts.tolist()):
        if known and rng.random() < 0.5:
            scene = known[rng.integers(len(known))]
        elif scenes and rng.random() < style.repeat:
            scene = scenes[rng.integers(len(scenes))]
        else:
            share = style.centre_share
            scene = _unit(np.sqrt(share) * centre + np.sqrt(1 - share) * _unit(rng.normal(size=dim)))
        scenes.append(scene)
        walk = rng.normal(size=(end - start, dim)) * (style.drift / np.sqrt(dim * FINE))
        if rng.random() < 0.3:  # periodic: people dance, wheels turn
            period = rng.uniform(3, 16) * FINE
            phase = 2 * np.pi * np.arange(end - start) / period
            swing = [_unit(rng.normal(size=dim)) for _ in range(2)]
            rows[start:end] = scene + rng.uniform(0.2, 0.8) * (
                np.outer(np.cos(phase), swing[0]) + np.outer(np.sin(phase), swing[1])
            )
            walk *= 0.3
        else:
            rows[start:end] = scene
        rows[start:end] += np.cumsum(walk, axis=0)
    return np.sqrt(style.common_share) * style.common + np.sqrt(1 - style.common_share) * _unit(rows), scenes


def _with_copies(
    rng: np.random.Generator, host: np.ndarray, reference: np.ndarray, style: _Style, longest: int
) -> tuple[np.ndarray, list[tuple[float, ...]]]:
    """The host with segments of the reference inserted, and their boxes in frames."""
    count = int(rng.choice([1, 2, 3, 4], p=[0.7, 0.17, 0.08, 0.05]))
    severity = rng.choice([rng.uniform(0, 0.4), rng.uniform(0.2, 1.0), rng.uniform(0.6, 1.6)], p=[0.4, 0.45, 0.15])
    last: int | None = None
    pieces: list[np.ndarray] = []
    boxes: list[tuple[float, ...]] = []
    cuts = np.sort(rng.integers(0, len(host) + 1, count))
    if rng.random() < 0.15:  # only copies
        host, cuts = host[:0], np.zeros(count, int)
    at = used = 0
    for cut in cuts.tolist():
        pieces.append(host[used:cut])
        at, used = at + cut - used, cut
        speed = 1.0 if rng.random() < 0.57 else float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
        room = min(len(reference), (longest * FINE - at) * speed)
        length = min(max(len(reference) * min(0.4 * np.exp(0.6 * rng.normal()), 1.0), 3 * FINE), room)
        if length < 2 * FINE or length / speed < 2 * FINE:
            break
        start = rng.uniform(0, len(reference) - length)
        if last is not None and rng.random() < 0.15:  # from the same start again
            start = min(last, len(reference) - length)
        last = int(start)
        size = int(length / speed)
        source = np.minimum((start + (np.arange(size) + 0.5) * speed).astype(int), len(reference) - 1)
        pieces.append(_edited(rng, reference[source], style, severity))
        end = start + size * speed
        boxes.append((at / FINE, (at + size) / FINE, start / FINE, min(end, len(reference)) / FINE))
        at += size
    pieces.append(host[used:])
    query = np.concatenate(pieces)[: longest * FINE]
    frames = len(query) // FINE  # whole frames only
    return query[: frames * FINE], [b for b in (_inside(b, frames) for b in boxes) if b]


def _inside(box: tuple[float, ...], frames: int) -> tuple[float, ...] | None:
    """A box truncated at the end of the query; None if less than 1.5 frames are left."""
    start, end, first, last = box
    if end > frames:
        last, end = first + (frames - start) / (end - start) * (last - first), frames
    return (start, end, first, last) if min(end - start, last - first) >= 1.5 else None


def _edited(rng: np.random.Generator, rows: np.ndarray, style: _Style, severity: float) -> np.ndarray:
    """Vectors after an edit; severity 1 results in cosines of about 0.7."""
    dim = rows.shape[1]
    offset = _unit(rng.normal(size=dim)) * severity * rng.random()
    noise = rng.normal(size=rows.shape) * (severity * rng.uniform(0, 0.7) / np.sqrt(dim))
    changed = rows + offset + np.repeat(noise[::FINE], FINE, axis=0)[: len(rows)]
    if rng.random() < 0.2 * (severity > 0.2):  # picture in picture, blends
        other, _ = _video(rng, len(rows), style, [])
        changed = changed + rng.uniform(0.2, 0.8) * other
    return changed
