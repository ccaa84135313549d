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
    query, reference = np.nonzero(values >= min_similarity)
    if not len(query):
        return segments([], published=published)
    votes = values[query, reference]
    if published:
        return segments(_whole_diagonals(values.shape, query, reference, votes, max_overlap, max_peaks), published=True)
    lines: list[tuple[int, Found, float]] = []
    bands = [_Bands(query, reference, votes, speed) for speed in speeds]
    peaks = [(-votes, number, at) for number, band in enumerate(bands) for votes, at in band.peaks(max_peaks)]
    for _, number, at in sorted(peaks)[:max_peaks]:
        hits = bands[number].hits(at)
        for line, total in _lines(query[hits], reference[hits], votes[hits], gap):
            sides = line[1] - line[0], line[3] - line[2]
            if min(sides) >= min_length and total >= density * min_similarity * max(sides):
                lines.append((number, line, total))
    lines.sort(key=lambda line: line[0])  # of equal votes the earlier speed wins
    table = np.array([line for _, line, _ in lines]).reshape(-1, 5)
    totals = np.array([total for *_, total in lines])
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


class _Bands:
    """The offsets of one speed, each with its two neighbours: the ``offset`` of every hit, from 1, and the ``votes`` of
    every band."""

    def __init__(self, query: np.ndarray, reference: np.ndarray, votes: np.ndarray, speed: float) -> None:
        offset = np.floor(reference - speed * query + 0.5).astype(np.int64)
        self.offset = offset - (offset.min() - 1)
        sums = np.bincount(self.offset, votes, minlength=int(self.offset.max()) + 2)
        self.votes = sums[:-2] + sums[1:-1] + sums[2:]

    def peaks(self, most: int) -> list[tuple[float, int]]:
        """Votes and number of the best bands that are local maxima: neighbouring bands have most hits in common."""
        left, right = np.r_[0, self.votes[:-1]], np.r_[self.votes[1:], 0]
        at = np.flatnonzero((self.votes >= left) & (self.votes > right))
        at = at[np.argsort(-self.votes[at], kind="stable")][:most]
        return list(zip(self.votes[at].tolist(), at.tolist(), strict=True))

    def hits(self, at: int) -> np.ndarray:
        """The hits of a band, by query frame."""
        return np.flatnonzero((self.offset >= at) & (self.offset <= at + 2))


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
