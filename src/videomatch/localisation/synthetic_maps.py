"""Similarity maps made up from nothing but numbers, with the segments that were planted in them.

Two videos are sequences of vectors: shots that stand still or drift, some of which come back; a part that all frames
of a video share, and one that all videos share. Stretches of the reference, at a speed of their own, stand in the
query in any order, also twice or cut off by its ends; their vectors are changed as edits change them (noise of each
frame, one offset, a second video shining through). What is no copy may still be of the same places: shots of the
reference that the query's own film shows too, moving otherwise. Ends lie anywhere within frames.

Shares of segments, speeds and lengths are about those counted in VCSL's and VSC 2022's labels: 57 % of the copies keep
their speed, others have 0.5 to 2; 7 of 10 copied pairs have one segment.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from videomatch.localisation import frame_similarity, key_frame_selection

Map = Float[np.ndarray, "query_frames reference_frames"]
Boxes = Float[np.ndarray, "segments 4"]

#: moments of a frame: so finely films are drawn
FINE = 4


@dataclass(frozen=True)
class _Look:
    """What all videos of a map have in common: length of the vectors, shared part, shots, drift."""

    common: np.ndarray
    share: float
    own: float
    shot: float
    drift: float
    again: float


def drawn(
    rng: np.random.Generator, *, shortest: int = 10, longest: int = 128, copied: float = 0.7, condensed: float = 0.0
) -> tuple[Map, Boxes]:
    """A map and its segments in frames, half open.

    Args:
        rng: source of everything random.
        shortest, longest: frames of either video.
        copied: share of maps that hold a segment.
        condensed: share of maps whose reference has key frames only, spread out again over all of its frames.

    Raises:
        ValueError: lengths that are none.
    """
    if not 4 <= shortest <= longest:
        raise ValueError(f"videos of {shortest} to {longest} frames, expected 4 or more, rising")
    dim = int(np.exp(rng.uniform(np.log(10), np.log(100))))
    look = _Look(
        common=_unit(rng.normal(size=dim)),
        share=rng.choice([0.0, rng.uniform(0, 0.6)]),
        own=rng.uniform(0, 0.6),
        shot=np.exp(rng.uniform(np.log(3), np.log(40))),
        drift=np.exp(rng.uniform(np.log(0.06), np.log(0.8))),
        again=rng.choice([0.0, rng.uniform(0, 0.6)]),
    )
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), 2)).astype(int)
    reference, places = _film(rng, lengths[1] * FINE, look, [])
    known = places if rng.random() < 0.35 else []
    host, _ = _film(rng, lengths[0] * FINE, look, known)
    boxes: list[tuple[float, ...]] = []
    if rng.random() < copied:
        query, found = _planted(rng, host, reference, look, longest)
        host, boxes = (query, found) if found else (host, [])
    query, reference = (_unit(film[FINE // 2 :: FINE]) for film in (host, reference))
    if rng.random() < condensed:
        reference = condensed_rows(rng, reference)
    values = query @ reference.T
    return values.astype(np.float32), np.array(boxes, np.float64).reshape(-1, 4)


def condensed_rows(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """What key frames of a video, chosen in any way, say of all of its frames.

    Args:
        rng: source of everything random. rows: ``(L, D)`` frames at equal distances.

    Returns:
        unit vectors ``(L, D)``.
    """
    times = np.arange(len(rows))[:, None] + np.array([0.0, 1.0])
    share = np.exp(rng.uniform(np.log(0.1), np.log(0.35)))
    method = rng.choice(key_frame_selection.METHODS)
    keys = key_frame_selection.select(rows, times, method=method, share=share, longest=20.0)
    covered = key_frame_selection.assigned_intervals(keys, times, features=rows)
    return frame_similarity.resampled(rows[keys], covered, 1.0)[0]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)


def _film(
    rng: np.random.Generator, moments: int, look: _Look, known: list[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Vectors of so many moments, and its places; shots are of ``known`` places now and then."""
    dim = len(look.common)
    centre = _unit(rng.normal(size=dim))
    ends = np.cumsum(np.maximum(rng.exponential(look.shot * FINE, max(4, 4 * moments // FINE)), FINE))
    cuts = np.r_[0, ends[ends < moments].astype(int), moments]
    rows = np.empty((moments, dim))
    places: list[np.ndarray] = []
    for start, end in itertools.pairwise(cuts.tolist()):
        if known and rng.random() < 0.5:
            place = known[rng.integers(len(known))]
        elif places and rng.random() < look.again:
            place = places[rng.integers(len(places))]
        else:
            place = _unit(np.sqrt(look.own) * centre + np.sqrt(1 - look.own) * _unit(rng.normal(size=dim)))
        places.append(place)
        walk = rng.normal(size=(end - start, dim)) * (look.drift / np.sqrt(dim * FINE))
        if rng.random() < 0.3:  # repeats itself: people dance, wheels turn
            period = rng.uniform(3, 16) * FINE
            phase = 2 * np.pi * np.arange(end - start) / period
            swing = [_unit(rng.normal(size=dim)) for _ in range(2)]
            rows[start:end] = place + rng.uniform(0.2, 0.8) * (
                np.outer(np.cos(phase), swing[0]) + np.outer(np.sin(phase), swing[1])
            )
            walk *= 0.3
        else:
            rows[start:end] = place
        rows[start:end] += np.cumsum(walk, axis=0)
    return np.sqrt(look.share) * look.common + np.sqrt(1 - look.share) * _unit(rows), places


def _planted(
    rng: np.random.Generator, host: np.ndarray, reference: np.ndarray, look: _Look, longest: int
) -> tuple[np.ndarray, list[tuple[float, ...]]]:
    """The host with stretches of the reference in it, and where they stand."""
    count = int(rng.choice([1, 2, 3, 4], p=[0.7, 0.17, 0.08, 0.05]))
    severity = rng.choice([rng.uniform(0, 0.4), rng.uniform(0.2, 1.0), rng.uniform(0.6, 1.6)], p=[0.4, 0.45, 0.15])
    last: tuple[int, int] | None = None
    pieces: list[np.ndarray] = []
    boxes: list[tuple[float, ...]] = []
    cuts = np.sort(rng.integers(0, len(host) + 1, count))
    if rng.random() < 0.15:  # nothing but the copy
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
        if last is not None and rng.random() < 0.15:  # the same stretch again
            start = min(last[0], len(reference) - length)
        last = (int(start), int(start + length))
        moments = int(length / speed)
        seen = np.minimum((start + (np.arange(moments) + 0.5) * speed).astype(int), len(reference) - 1)
        pieces.append(_edited(rng, reference[seen], look, severity))
        end = start + moments * speed
        boxes.append((at / FINE, (at + moments) / FINE, start / FINE, min(end, len(reference)) / FINE))
        at += moments
    pieces.append(host[used:])
    query = np.concatenate(pieces)[: longest * FINE]
    frames = len(query) // FINE  # moments behind the last whole frame are of no frame, nor of a segment
    return query[: frames * FINE], [b for b in (_inside(b, frames) for b in boxes) if b]


def _inside(box: tuple[float, ...], frames: int) -> tuple[float, ...] | None:
    """A box cut off where the query ends; none if less than 1.5 frames are left."""
    start, end, first, last = box
    if end > frames:
        last, end = first + (frames - start) / (end - start) * (last - first), frames
    return (start, end, first, last) if min(end - start, last - first) >= 1.5 else None


def _edited(rng: np.random.Generator, rows: np.ndarray, look: _Look, severity: float) -> np.ndarray:
    """Vectors of a copied stretch after an edit of some severity: 1 leaves cosines of about 0.7."""
    dim = rows.shape[1]
    offset = _unit(rng.normal(size=dim)) * severity * rng.random()
    noise = rng.normal(size=rows.shape) * (severity * rng.uniform(0, 0.7) / np.sqrt(dim))
    changed = rows + offset + np.repeat(noise[::FINE], FINE, axis=0)[: len(rows)]
    if rng.random() < 0.2 * (severity > 0.2):  # picture in picture, blends
        other, _ = _film(rng, len(rows), look, [])
        changed = changed + rng.uniform(0.2, 0.8) * other
    return changed
