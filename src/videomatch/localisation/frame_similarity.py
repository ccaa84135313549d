"""Similarity maps of two videos' frames: what an aligner reads.

Conventions
    Rows are the query's frames, columns the reference's; higher is more alike. Frames are ``(L, D)``, one vector each,
    or ``(L, K, D)``, one for each of K regions (ViSiL, Kordopatis-Zilos et al., ICCV 2019).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from videomatch.common.vectors import unit_rows

#: similarities of regions beyond which VCSL takes two frames for the same
CHAMFER_TOP = 0.3
#: cosines of neighbouring key frames from which what lies between them begins to be, and is, on the way from one to the
#: other; less alike ones are of different shots
APART, TOGETHER = 0.5, 0.8


def cosines(
    query: Float[np.ndarray, "query_frames D"], reference: Float[np.ndarray, "reference_frames D"]
) -> Float[np.ndarray, "query_frames reference_frames"]:
    """Cosines of all frames with all frames; a frame of zeros is 0 to every other.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check(query, reference, 2)
    return unit_rows(query) @ unit_rows(reference).T


def resampled(
    frames: Float[np.ndarray, "frames D"], times: Float[np.ndarray, "frames 2"], every: float
) -> tuple[Float[np.ndarray, "moments D"], Float[np.ndarray, "moments 2"]]:
    """Frames at equal distances instead of key frames anywhere, as unit vectors, and the times of each.

    Key frames at unequal distances bend the line of a copy, which then has no speed. What lies between two alike key
    frames is drawn from both, half of each where one's interval ends and the other's begins; between unlike ones there
    is a cut, and the nearest counts alone.

    Args:
        frames: of one video. times: intervals that they stand for, s, one after the other without gaps.
        every: s.
    """
    unit = unit_rows(frames)
    if not len(unit):
        return unit, np.zeros((0, 2))
    first, last = float(times[0, 0]), float(times[-1, 1])
    edges = first + every * np.arange(max(1, round((last - first) / every)) + 1)
    edges[-1] = last
    moments = (edges[1:] + edges[:-1]) / 2
    own = np.clip(np.searchsorted(times[:, 1], moments, side="right"), 0, len(unit) - 1)
    middle = times.mean(axis=1)
    is_later = moments >= middle[own]
    other = np.clip(np.where(is_later, own + 1, own - 1), 0, len(unit) - 1)
    room = np.abs(np.where(is_later, times[own, 1], times[own, 0]) - middle[own])
    share = 0.5 * np.minimum(np.abs(moments - middle[own]) / np.maximum(room, 1e-9), 1)
    alike = np.einsum("nd,nd->n", unit[own], unit[other])
    share = (share * np.clip((alike - APART) / (TOGETHER - APART), 0, 1))[:, None].astype(unit.dtype)
    return unit_rows((1 - share) * unit[own] + share * unit[other]), np.stack([edges[:-1], edges[1:]], axis=1)


def chamfer(
    query: Float[np.ndarray, "query_frames K D"], reference: Float[np.ndarray, "reference_frames L D"]
) -> Float[np.ndarray, "query_frames reference_frames"]:
    """Mean over the regions of one frame of its best inner product with the other's regions, averaged over both
    directions. Regions are taken as they are (ViSiL's are weighted by attention).

    Raises:
        ValueError: shapes that do not fit.
    """
    _check(query, reference, 3)
    regions = np.einsum("qkd,rld->qkrl", query, reference, optimize=True)
    return (regions.max(axis=3).mean(axis=1) + regions.max(axis=1).mean(axis=2)) / 2


def clipped(similarity: np.ndarray, top: float = CHAMFER_TOP) -> np.ndarray:
    """Similarities from 0 to ``top`` spread over 0 to 1, as VCSL does with ViSiL's."""
    return np.clip(similarity, 0, top) / top


def _check(query: np.ndarray, reference: np.ndarray, axes: int) -> None:
    if query.ndim != axes or reference.ndim != axes or query.shape[-1] != reference.shape[-1]:
        expected = "(L, D)" if axes == 2 else "(L, regions, D)"
        raise ValueError(f"query {query.shape} and reference {reference.shape}, expected both {expected} with one D")
