"""Which frames of a query show a part of which frames of a library: by corners (:mod:`videomatch.experts.points`) that
look alike and lie alike.

Each corner of the query finds its nearest ones in the library. Where several of one frame find corners of one other
frame, the two are related if one similarity transform (shift, scale, rotation) takes the places of some of them to
those of the others, and these span a fair part of either picture. A logo or a word that strangers share spans little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np

from videomatch.retrieval.frame_index import FrameIndex

#: numbers of a patch; factors of x, y, log2 of the size and angle in a row
PATCH, PLACE = 64, np.full(4, 1e-3, np.float32)
#: nearest corners that count, and their least cosine
NEAREST, SIMILAR = 8, 0.8
#: pairs of corners of two frames that are worth a closer look; frames that get one per query frame, those with most
#: pairs first: of one video, of all
PAIRS, OF_VIDEO, OF_ALL = 5, 4, 12
#: short sides by which a corner may be displaced; by how much scale (log2) and angle (degrees) may differ; side of a
#: cell in which only one corner counts
TOLERANCE, SCALE, ANGLE, CELL = 0.025, 0.6, 25.0, 0.03
#: scales of two pictures at most
MAX_SCALE = 5.0
#: square short sides that the corners in agreement span in one of the frames at least
SPAN = 0.15
#: corners in agreement at least, which make a similarity of one half
LEAST = 6


@dataclass(frozen=True)
class RelatedFrames:
    """Frames of the query and of one video that are related: start and end of both, s, and how many corners agree."""

    times: np.ndarray  # (pairs, 4)
    corners: np.ndarray  # (pairs,)

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
    similarity, nearest = index.neighbours(rows, NEAREST)
    corner, rank = np.nonzero(similarity >= SIMILAR)
    found = nearest[corner, rank]
    excluded = [number for number, name in enumerate(index.ids) if name in set(exclude)]
    keep = ~np.isin(index.owners(found), excluded)
    corner, found = corner[keep], found[keep]
    if not len(found):
        return {}
    other, other_times = index.rows(found)
    _, frame = np.unique(times[:, 0], return_inverse=True)
    keys = np.stack([frame[corner], index.owners(found), np.round(1000 * other_times[:, 0])], axis=1).astype(np.int64)
    pairs, of_pair, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(of_pair.ravel(), kind="stable")
    ends = np.cumsum(counts)
    places, others = _places(rows[corner]), _places(other)
    seen: Counter[tuple[int, ...]] = Counter()
    hits: dict[str, list[tuple[float, ...]]] = {}
    for pair in np.argsort(-counts, kind="stable").tolist():
        if counts[pair] < PAIRS:
            break
        of_frame, of_video = (int(pairs[pair, 0]),), tuple(pairs[pair, :2].tolist())
        if seen[of_frame] >= OF_ALL or seen[of_video] >= OF_VIDEO:
            continue
        seen.update((of_frame, of_video))
        at = order[ends[pair] - counts[pair] : ends[pair]]
        if agreeing := _agreeing(places[at], others[at]):
            box = (*times[corner[at[0]]].tolist(), *other_times[at[0]].tolist())
            hits.setdefault(index.ids[of_video[1]], []).append((*box, agreeing))
    return {
        video: RelatedFrames(np.array(table)[:, :4], np.array(table)[:, 4]) for video, table in sorted(hits.items())
    }


def _places(rows: np.ndarray) -> np.ndarray:
    """x, y, log2 of the size, angle."""
    return rows[:, PATCH:].astype(np.float32) / PLACE


def _agreeing(query: np.ndarray, reference: np.ndarray) -> int:
    """How many corners one similarity transform takes to their counterparts; 0 where they are few or span little."""
    points = np.ascontiguousarray(reference[:, :2]), np.ascontiguousarray(query[:, :2])
    matrix, inside = cv2.estimateAffinePartial2D(
        *points, method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE, maxIters=200, confidence=0.99
    )
    if matrix is None:
        return 0
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 1 / MAX_SCALE <= scale <= MAX_SCALE:
        return 0
    turn = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
    turned = (np.degrees(query[:, 3] - reference[:, 3]) - turn + 180) % 360 - 180
    scaled = query[:, 2] - reference[:, 2] - np.log2(scale)
    at = inside.ravel().astype(bool) & (np.abs(turned) <= ANGLE) & (np.abs(scaled) <= SCALE)
    if at.sum() < LEAST:
        return 0
    sides = [places[at, :2] for places in (query, reference)]
    span = max(float(np.prod(np.ptp(side, axis=0))) for side in sides)
    agreeing = min(len(np.unique(np.round(side / CELL), axis=0)) for side in sides)
    return agreeing if span >= SPAN and agreeing >= LEAST else 0
