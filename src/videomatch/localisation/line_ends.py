"""Ends of segments, sought along their lines in all frames of the query.

A map of key frames, or of frames spread out to one a second, cannot tell where a copy ends more exactly than that, and
where few of its frames are similar a segment stops too early. But a segment says at which moment of the reference each
frame of the query is sought. So the similarity along its line, continued to both ends of the videos, is a curve of one
number for every frame of the query: high inside the copy and low outside. Each end is put where the sum of the curve,
less the level halfway between both, is largest.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.ndimage import maximum_filter1d

from videomatch.common.vectors import unit_rows
from videomatch.localisation.map_paths import nms
from videomatch.metrics.segments import ENDS, SCORE, STARTS

#: seconds off the line at which a frame may be, and by which a segment may get shorter at each end
OFF, TRIM = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), 1.0
#: similarity by which a copy differs from what surrounds it, else its ends stay as they are
MIN_CONTRAST = 0.1
#: one query frame in so many tells how similar unrelated frames of both videos are; of a long query so many frames
SAMPLE, SAMPLED = 3, 1000
#: two segments that overlap by more than this are the same
SAME = 0.9

Frames = Float[np.ndarray, "frames D"]
Times = Float[np.ndarray, "frames 2"]
Segments = Float[np.ndarray, "segments 5"]


def followed(
    segments: Segments, query: Frames, query_times: Times, reference: Frames, reference_times: Times
) -> Segments:
    """The segments, s, with their ends moved along their lines; of those that become the same the best. ``reference``
    may be key frames; times are without gaps (:func:`videomatch.localisation.intervals.filled`)."""
    if not len(segments):
        return segments
    rows, others = unit_rows(query), unit_rows(reference)
    # the best of as many frames as on the line
    width = 1 + round(float(np.ptp(OFF) / np.median(np.diff(reference_times, axis=1))))
    sample = rows[:: max(SAMPLE, -(-len(rows) // SAMPLED))]
    usual = float(np.median(maximum_filter1d(sample @ others.T, width, axis=1)))
    moved = np.array([_moved(one, usual, rows, query_times, others, reference_times) for one in segments])
    return moved[nms(moved[:, :SCORE], moved[:, SCORE], SAME)]


def _moved(
    segment: np.ndarray, usual: float, query: Frames, query_times: Times, reference: Frames, reference_times: Times
) -> np.ndarray:
    start, end, first, last, score = segment.tolist()
    speed = (last - first) / (end - start)
    middle = query_times.mean(axis=1)
    line = first + speed * (middle - start)
    is_there = (line >= 0) & (line < reference_times[-1, 1])
    inside = np.flatnonzero((middle >= start) & (middle < end) & is_there)
    if len(inside) < 2:
        return segment
    at = np.searchsorted(reference_times[:, 1], line + OFF[:, None], side="right")
    similarity = np.einsum("nd,snd->sn", query, reference[np.minimum(at, len(reference) - 1)]).max(axis=0)
    contrast = float(np.median(similarity[inside])) - usual
    if contrast < MIN_CONTRAST:
        return segment
    # a frame weighs as much as a usual one at most; none beyond the ends of the reference is inside
    gain = np.clip(similarity - usual - contrast / 2, -contrast / 2, contrast / 2)
    gain[~is_there] = -np.inf
    centre = (inside[0] + inside[-1]) // 2
    begin = min(centre, int(np.searchsorted(middle, start + TRIM)))
    stop = max(centre, int(np.searchsorted(middle, end - TRIM)) - 1)
    begin -= int(np.cumsum(gain[begin::-1]).argmax())
    stop += int(np.cumsum(gain[stop:]).argmax())
    start_end = np.array([query_times[begin, 0], query_times[stop, 1]])
    result = np.r_[start_end, np.clip(first + speed * (start_end - start), 0.0, reference_times[-1, 1]), score]
    return result if (result[ENDS] > result[STARTS]).all() else segment
