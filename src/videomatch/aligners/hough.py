"""Temporal Hough voting: matching frames vote for the offset, and the speed, at which one video lies in the other.

Douze, Jégou and Schmid, An image-based approach to video copy detection with spatio-temporal post-filtering, IEEE TMM
2010, as in VCSL. Every pair of frames at least ``min_similarity`` alike votes with its similarity. As published there
is one speed, the box of an offset is its whole diagonal inside the map, and boxes are dropped only if they overlap by
IoU > ``max_overlap``: recall 86.8 at precision 36.5 on VCSL.
# Deviation: by default votes are cast for several speeds and counted in bands of three frames; a line is trimmed to its
hits, cut where more than ``gap`` query frames in a row have none, and dropped if it is within a better one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from videomatch.aligners import Map, Segments
from videomatch.localisation.map_paths import Found, checked, containment, matched_parts, nms, segments

GRIDS: dict[str, dict[str, list[Any]]] = {
    "published": {"min_similarity": [0.2, 0.3, 0.7], "max_overlap": [0.9], "published": [True]},
    "ours": {"min_similarity": [0.4, 0.5, 0.6, 0.7, 0.8], "gap": [5, 9], "min_length": [5, 10, 15]},
}


def align(
    similarity: Map,
    *,
    min_similarity: float = 0.5,
    speeds: tuple[float, ...] = (1.0, 0.8, 1.25, 0.65, 1.5, 0.5, 2.0),
    gap: int = 5,
    min_length: int = 5,
    density: float = 0.5,
    max_overlap: float = 0.3,
    max_peaks: int = 100,
    published: bool = False,
) -> Segments:
    """Segments ``(N, 5)`` in frames, with options as above, and:

    Args:
        speeds: reference frames per query frame.
        density: min share of a segment's frames (on its longer axis) that match.
        max_overlap: max share of a line's box inside a better one's (as published: IoU).
        max_peaks: lines that are examined, those with most votes first.
    """
    values = checked(similarity)
    is_hit = values >= min_similarity
    query, reference = (axis.astype(np.int32) for axis in np.nonzero(is_hit))  # a still picture has many
    if not len(query):
        return segments([], published=published)
    votes = values[is_hit]
    if published:
        return segments(_whole_diagonals(values.shape, query, reference, votes, max_overlap, max_peaks), published=True)
    bands = [_votes(_offsets(query, reference, speed), votes) for speed in speeds]
    peaks = [(-votes, number, at) for number, band in enumerate(bands) for votes, at in _peaks(band, max_peaks)]
    best = sorted(peaks)[:max_peaks]
    lines: list[tuple[Found, float]] = []
    for number in sorted({number for _, number, _ in best}):  # of equal votes the earlier speed wins
        offset = _offsets(query, reference, speeds[number])
        for at in (at for _, n, at in best if n == number):
            hits = np.flatnonzero((offset >= at) & (offset <= at + 2))
            for line, total in _lines(query[hits], reference[hits], votes[hits], gap):
                sides = line[1] - line[0], line[3] - line[2]
                if min(sides) >= min_length and total >= density * min_similarity * max(sides):
                    lines.append((line, total))
    table = np.array([line for line, _ in lines]).reshape(-1, 5)
    totals = np.array([total for _, total in lines])
    return segments(table[nms(table[:, :4], totals, max_overlap, containment)].tolist(), published=False)


def _whole_diagonals(
    shape: tuple[int, ...], query: np.ndarray, reference: np.ndarray, votes: np.ndarray, max_overlap: float, peaks: int
) -> list[Found]:
    rows, columns = shape
    offset = reference - query + rows - 1
    sums, hits = np.bincount(offset, votes), np.bincount(offset)
    at = np.flatnonzero(hits)
    at = at[np.argsort(-sums[at], kind="stable")][:peaks]
    at = at[sums[at] > 0]
    shift = at - rows + 1
    start, end = np.maximum(0, -shift), np.minimum(rows, columns - shift)
    table = np.stack([start, end, start + shift, end + shift, sums[at] / hits[at]], axis=1)
    return table[nms(table[:, :4], sums[at], max_overlap)].tolist()


def _offsets(query: np.ndarray, reference: np.ndarray, speed: float) -> np.ndarray:
    """The offset of every hit at a speed, from 1. Steps are in place: of hits there may be as many as cells."""
    offset = float(speed) * query
    np.subtract(reference, offset, out=offset)
    offset += 0.5
    offset = np.floor(offset, out=offset).astype(np.int32)
    offset -= offset.min() - 1
    return offset


def _votes(offset: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """The votes of every band: an offset with its two neighbours."""
    sums = np.bincount(offset, votes, minlength=int(offset.max()) + 2)
    return sums[:-2] + sums[1:-1] + sums[2:]


def _peaks(votes: np.ndarray, most: int) -> list[tuple[float, int]]:
    """Votes and number of the best bands that are local maxima: neighbouring bands have most hits in common."""
    left, right = np.r_[0, votes[:-1]], np.r_[votes[1:], 0]
    at = np.flatnonzero((votes >= left) & (votes > right))
    at = at[np.argsort(-votes[at], kind="stable")][:most]
    return list(zip(votes[at].tolist(), at.tolist(), strict=True))


def _lines(query: np.ndarray, reference: np.ndarray, votes: np.ndarray, gap: int) -> list[tuple[Found, float]]:
    """Parts of a band without longer gaps: the box with its mean votes per query frame, and the votes (the best of each
    query frame)."""
    frames, starts = np.unique(query, return_index=True)
    best = np.maximum.reduceat(votes, starts)
    is_hit = np.zeros(int(frames[-1] - frames[0]) + 1, bool)
    is_hit[frames - frames[0]] = True
    lines = []
    for first, stop in matched_parts(is_hit, gap):
        low, end = int(first + frames[0]), int(stop + frames[0])
        inside = slice(*np.searchsorted(query, [low, end]))
        total = float(best[slice(*np.searchsorted(frames, [low, end]))].sum())
        r_low, r_end = int(reference[inside].min()), int(reference[inside].max()) + 1
        lines.append(((low, end, r_low, r_end, total / (end - low)), total))
    return lines
