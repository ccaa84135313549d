"""Which frames of a query show a part of which frames of a library: by corners (:mod:`videomatch.experts.points`) that
look alike and lie alike.

Each corner of the query finds its nearest ones in the library. Pairs of frames in which several do, most of all where
other frames of the two videos do at the same distance in time, are compared corner by corner. Each pair of corners that
are each other's most similar ones proposes a similarity transform (shift, scale, rotation) of one picture to the other,
as they have places, sizes and angles; so the right one is found among many wrong pairs (Lowe, IJCV 2004). Frames are
related if one transform holds for several of them, or for a picture that stands still, and what agrees spans a fair
part of either picture: a logo or a word that strangers share spans little, and by chance only single frames agree.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from videomatch.retrieval.frame_index import FrameIndex

#: numbers of a patch; factors of x, y, log2 of the size and angle in a row
PATCH, PLACE = 64, np.full(4, 1e-3, np.float32)
#: every so manyth corner of the query is sought; nearest corners that count, and their least cosine
EVERY, NEAREST, SIMILAR = 2, 8, 0.8
#: pairs of corners that propose about the same transform, in two frames that are worth a closer look; frames that get
#: one per query frame: of a video, of all
PAIRS, OF_VIDEO, OF_ALL = 3, 4, 12
#: short sides of a bin in which shifts of one picture to another are counted
PLACES = 0.3
#: short sides by which corners may roughly be displaced, before a transform is refined
ROUGHLY = 0.1
#: short sides by which a corner may be displaced; by how much scale (log2) and angle (degrees) may differ; side of a
#: cell in which only one corner counts
TOLERANCE, SCALE, ANGLE, CELL = 0.025, 1.6, 25.0, 0.03
#: scales of two pictures at most
MAX_SCALE = 5.0
#: square short sides that the corners in agreement span in one of the frames at least
SPAN = 0.15
#: corners in agreement at least, which make a similarity of one half
LEAST = 6
#: corners of the query that are sought at once, those of whole frames
ROWS = 1 << 14
#: seconds that a frame lasts from which on it needs no other one in agreement
STILL = 2.0


@dataclass(frozen=True)
class RelatedFrames:
    """Frames of the query and of one video that are related: start and end of both, s, and how many corners agree."""

    times: np.ndarray  # (pairs, 4)
    corners: np.ndarray  # (pairs,)

    def __add__(self, other: RelatedFrames) -> RelatedFrames:
        """Those of two parts of the query."""
        return RelatedFrames(np.concatenate([self.times, other.times]), np.r_[self.corners, other.corners])

    @property
    def similarity(self) -> np.ndarray:
        """From 0.5 to 1."""
        return self.corners / (self.corners + LEAST)

    def map(self, every: float, query: float, reference: float) -> np.ndarray:
        """The similarity map in cells of ``every`` s of both videos, which last so many seconds."""
        ends = np.maximum(1, np.ceil(np.array([query, reference]) / every - 1e-6)).astype(int)
        values = np.zeros(ends, np.float32)
        edges = np.round(self.times / every).astype(int)
        for (start, end, r_start, r_end), value in zip(edges.tolist(), self.similarity.tolist(), strict=True):
            box = values[start : max(end, start + 1), r_start : max(r_end, r_start + 1)]
            np.maximum(box, value, out=box)
        return values


def mirrored(rows: np.ndarray) -> np.ndarray:
    """The corners of the mirrored frames."""
    side = round(PATCH**0.5)
    rows = np.array(rows, np.float32)
    rows[:, :PATCH] = rows[:, :PATCH].reshape(-1, side, side)[:, ::-1].reshape(-1, PATCH)
    rows[:, PATCH] *= -1
    rows[:, PATCH + 3] = np.pi * PLACE[3] - rows[:, PATCH + 3]
    return rows


def related(
    index: FrameIndex, rows: np.ndarray, times: np.ndarray, exclude: Collection[str] = ()
) -> dict[str, RelatedFrames]:
    """Video of the library, but not ``exclude`` -> its frames that are related to some of the query, whose corners are
    ``rows`` with ``times`` ``(n, 2)``, s."""
    if not len(rows):
        return {}
    _, frame = np.unique(times[:, 0], return_inverse=True)
    ends = np.searchsorted(frame, np.arange(frame[-1] + 2))
    parts = list[tuple[np.ndarray, ...]]()
    cuts = sorted({int(ends[np.searchsorted(ends, cut)]) for cut in range(0, len(rows), ROWS)} | {len(rows)})
    for start, stop in itertools.pairwise(cuts):
        parts.append(_frame_pairs(index, rows[:stop], frame, start, exclude))
    pairs, counts, first = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not len(pairs):
        return {}
    other_times = index.times(first)
    shifts = np.round(other_times[:, 0] - times[ends[pairs[:, 0]], 0]).astype(np.int64)
    lasting = np.minimum(*(np.ptp(t, axis=1) for t in (times[ends[pairs[:, 0]]], other_times)))
    votes = counts * lasting * _at_shift(pairs[:, 1], shifts, counts * lasting)  # what stands still is described once
    seen: Counter[tuple[int, ...]] = Counter()
    examined: dict[int, list[_FramePair]] = {}
    for pair in np.argsort(-votes, kind="stable").tolist():
        of_frame, of_video = (int(pairs[pair, 0]),), tuple(pairs[pair, :2].tolist())
        if counts[pair] < PAIRS or seen[of_frame] >= OF_ALL or seen[of_video] >= OF_VIDEO:
            continue
        seen.update((of_frame, of_video))
        at = slice(ends[of_frame[0]], ends[of_frame[0] + 1])
        whole, _ = index.rows(index.same_time(int(first[pair])))
        box = (*times[at.start].tolist(), *other_times[pair].tolist())
        examined.setdefault(of_video[1], []).append(_FramePair.of(box, index.project(rows[at]), rows[at], whole))
    hits = {index.ids[number]: _related(pairs) for number, pairs in examined.items()}
    return {video: RelatedFrames(hit[:, :4], hit[:, 4]) for video, hit in sorted(hits.items()) if len(hit)}


def _frame_pairs(
    index: FrameIndex, rows: np.ndarray, frame: np.ndarray, start: int, exclude: Collection[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of frames that have corners alike, of the frames of the corners from ``start`` on: number of the query
    frame, number of the video and ms, ``(n, 3)``; how many propose the same transform; and one of the library's rows
    each."""
    sought = np.arange(-(-start // EVERY) * EVERY, len(rows), EVERY)
    similarity, nearest = index.neighbours(rows[sought], NEAREST, exclude)
    corner, rank = np.nonzero(similarity >= SIMILAR)
    corner, found = sought[corner], nearest[corner, rank]
    keys = np.stack([frame[corner], index.owners(found), np.round(1000 * index.times(found)[:, 0])], axis=1)
    pairs, first, of_pair = np.unique(keys.astype(np.int64), axis=0, return_index=True, return_inverse=True)
    if not len(pairs):
        return pairs, np.zeros(0, np.int64), found
    counts = _alike_placed(of_pair.ravel(), _places(rows[corner]), _places(index.rows(found)[0]))
    return pairs, counts, found[first]


def _alike_placed(of_pair: np.ndarray, query: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Of each pair of frames, how many pairs of corners propose about the same scale, rotation and shift: votes in two
    grids of bins, so that what a border of the one parts is whole in the other (Lowe, IJCV 2004)."""
    linear = _sizes(query) / _sizes(reference)
    shift = (query[:, 0] + 1j * query[:, 1]) - linear * (reference[:, 0] + 1j * reference[:, 1] - (0.5 + 0.5j))
    units = [np.log2(np.abs(linear)), np.angle(linear) * 3 / np.pi, shift.real / PLACES, shift.imag / PLACES]
    best = np.zeros(of_pair.max() + 1, np.int64)
    for half in (0.0, 0.5):
        bins = [np.clip(np.floor(unit + half).astype(np.int64) + 32, 0, 63) for unit in units]
        keys, votes = np.unique(np.ravel_multi_index((of_pair, *bins), (len(best), *4 * (64,))), return_counts=True)
        np.maximum.at(best, keys // 64**4, votes)
    return best


def _at_shift(videos: np.ndarray, shifts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of each pair of frames, the sum of the weights of those of its video that are shifted alike, within a second."""
    keys, at = np.unique(np.stack([videos, shifts], axis=1), axis=0, return_inverse=True)
    sums = np.bincount(at.ravel(), weights)
    total = sums.copy()
    is_next = (np.diff(keys[:, 0]) == 0) & (np.diff(keys[:, 1]) == 1)
    total[1:] += sums[:-1] * is_next
    total[:-1] += sums[1:] * is_next
    return total[at.ravel()]


@dataclass(frozen=True)
class _FramePair:
    """Two frames: start and end of both, s, and the places of their corners that look alike."""

    times: tuple[float, ...]
    query: np.ndarray
    reference: np.ndarray

    @classmethod
    def of(cls, times: tuple[float, ...], patches: np.ndarray, rows: np.ndarray, other: np.ndarray) -> _FramePair:
        """Of the corners of both that are each other's most similar ones."""
        cosines = patches[:, :PATCH] @ other[:, :PATCH].T
        partner = cosines.argmax(axis=1)
        number = np.flatnonzero(cosines.argmax(axis=0)[partner] == np.arange(len(rows)))
        number = number[cosines[number, partner[number]] >= SIMILAR]
        return cls(times, _places(rows[number]), _places(other[partner[number]]))

    def transform(self) -> np.ndarray | None:
        """The similarity transform ``(2, 3)`` that takes most places of the reference near those of the query: each
        pair of corners proposes one (Lowe, IJCV 2004), and those that agree with the best roughly refine it."""
        query, reference = self.query, self.reference
        (q, sizes), (r, of_reference) = ((side[:, 0] + 1j * side[:, 1], _sizes(side)) for side in (query, reference))
        linear = (sizes / of_reference)[:, None]
        away = np.abs(linear * (r - r[:, None]) - (q - q[:, None]))
        is_near = (away <= ROUGHLY * np.minimum(1, np.abs(linear))) & _alike(sizes, of_reference, linear)
        near = is_near[is_near.sum(axis=1).argmax()] if len(is_near) else np.zeros(0, bool)
        if near.sum() < 3:
            return None
        start, end = (np.ascontiguousarray(side[near, :2]) for side in (reference, query))
        return cv2.estimateAffinePartial2D(start, end, ransacReprojThreshold=TOLERANCE, maxIters=200)[0]

    def agreeing(self, matrix: np.ndarray) -> int:
        """How many corners a transform takes to their counterparts, one a cell; 0 where they span little."""
        query, reference = self.query, self.reference
        moved = reference[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        linear = complex(matrix[0, 0], matrix[1, 0])
        near = np.linalg.norm(moved - query[:, :2], axis=1) <= TOLERANCE * min(1, abs(linear))
        near &= _alike(_sizes(query), _sizes(reference), linear)
        sides = [side[near, :2] for side in (query, reference)]
        if not near.any() or max(float(np.prod(np.ptp(side, axis=0))) for side in sides) < SPAN:
            return 0
        return min(len(np.unique(np.round(side / CELL), axis=0)) for side in sides)


def _sizes(places: np.ndarray) -> np.ndarray:
    """Size and angle of corners as complex numbers."""
    return (np.exp2(places[:, 2]) * np.exp(1j * places[:, 3])).astype(np.complex64)


def _alike(query: np.ndarray, reference: np.ndarray, linear: np.ndarray | complex) -> np.ndarray:
    """Whether a transform takes sizes and angles of corners near those of their counterparts."""
    rest = query / (reference * linear)
    size = np.abs(rest)
    return (np.abs(np.log2(size)) <= SCALE) & (rest.real >= size * np.cos(np.radians(ANGLE)))


def _related(pairs: Sequence[_FramePair]) -> np.ndarray:
    """Times and corners in agreement ``(n, 5)`` of pairs of frames of one video, of those that are related: one
    transform relates several frames, or a picture that stands still."""
    rest = []
    for pair in pairs:
        matrix = pair.transform()
        if matrix is not None and 1 / MAX_SCALE <= np.hypot(*matrix[:, 0]) <= MAX_SCALE:
            rest.append((pair.agreeing(matrix), matrix, pair))
    rest.sort(key=lambda proposal: -proposal[0])
    found: list[tuple[float, ...]] = []
    while rest and rest[0][0] >= LEAST:
        matrix = rest[0][1]
        agreeing = [pair.agreeing(matrix) for _, _, pair in rest]
        group = [(*pair.times, n) for n, (_, _, pair) in zip(agreeing, rest, strict=True) if n >= LEAST]
        starts = {row[0] for row in group}
        if len(starts) > 1 or any(end - start >= STILL for start, end, *_ in group):
            found += group
        rest = [proposal for n, proposal in zip(agreeing[1:], rest[1:], strict=True) if n < LEAST]
    return np.array(found).reshape(-1, 5)


def _places(rows: np.ndarray) -> np.ndarray:
    """x, y, log2 of the size, angle."""
    return rows[:, PATCH:].astype(np.float32) / PLACE
