"""Similarity maps of two videos' frames, ``(L, D)``, or ``(L, K, D)`` with a vector for each of K regions (ViSiL,
Kordopatis-Zilos et al., ICCV 2019). Rows are the query's frames, columns the reference's."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from videomatch.common.vectors import unit_rows

#: cosines of neighbouring key frames above which they begin to be interpolated, and are fully; below there is a cut
APART, TOGETHER = 0.5, 0.8
#: the similarity of regions that VCSL scales to 1
CHAMFER_TOP = 0.3


def cosines(
    query: Float[np.ndarray, "query_frames D"], reference: Float[np.ndarray, "reference_frames D"]
) -> Float[np.ndarray, "query_frames reference_frames"]:
    """Cosines of all frames with all frames; a frame of zeros is 0 to every other."""
    _check(query, reference, 2)
    return unit_rows(query) @ unit_rows(reference).T


def chamfer(
    query: Float[np.ndarray, "query_frames K D"], reference: Float[np.ndarray, "reference_frames L D"]
) -> Float[np.ndarray, "query_frames reference_frames"]:
    """Mean over the regions of one frame of its best inner product with the other's regions, averaged over both
    directions. Regions are not normalised (ViSiL's are weighted by attention)."""
    _check(query, reference, 3)
    regions = np.einsum("qkd,rld->qkrl", query, reference, optimize=True)
    return (regions.max(axis=3).mean(axis=1) + regions.max(axis=1).mean(axis=2)) / 2


def clipped(similarity: np.ndarray) -> np.ndarray:
    """Similarities from 0 to :data:`CHAMFER_TOP` scaled to 0 to 1, as VCSL does with ViSiL's."""
    return np.clip(similarity, 0, CHAMFER_TOP) / CHAMFER_TOP


def _check(query: np.ndarray, reference: np.ndarray, axes: int) -> None:
    if query.ndim != axes or reference.ndim != axes or query.shape[-1] != reference.shape[-1]:
        expected = "(L, D)" if axes == 2 else "(L, regions, D)"
        raise ValueError(f"query {query.shape} and reference {reference.shape}, expected both {expected} with one D")


def resampled(
    frames: Float[np.ndarray, "frames D"], times: Float[np.ndarray, "frames 2"], every: float
) -> tuple[Float[np.ndarray, "moments D"], Float[np.ndarray, "moments 2"]]:
    """Frames every so many seconds out of key frames at unequal distances, which bend the line of a copy: unit vectors
    and their times. Between similar key frames they are interpolated, with equal weights where the intervals meet;
    between others there is a cut, and the nearest counts alone. ``times`` are without gaps."""
    unit = unit_rows(frames)
    if not len(unit):
        return unit, np.zeros((0, 2))
    first, last = float(times[0, 0]), float(times[-1, 1])
    edges = first + every * np.arange(max(1, round((last - first) / every)) + 1)
    edges[-1] = last
    moments = (edges[1:] + edges[:-1]) / 2
    nearest = np.clip(np.searchsorted(times[:, 1], moments, side="right"), 0, len(unit) - 1)
    middle = times.mean(axis=1)
    is_later = moments >= middle[nearest]
    other = np.clip(np.where(is_later, nearest + 1, nearest - 1), 0, len(unit) - 1)
    room = np.abs(np.where(is_later, times[nearest, 1], times[nearest, 0]) - middle[nearest])
    weight = 0.5 * np.minimum(np.abs(moments - middle[nearest]) / np.maximum(room, 1e-9), 1)
    cosine = np.einsum("nd,nd->n", unit[nearest], unit[other])
    weight = (weight * np.clip((cosine - APART) / (TOGETHER - APART), 0, 1))[:, None].astype(unit.dtype)
    return unit_rows((1 - weight) * unit[nearest] + weight * unit[other]), np.stack([edges[:-1], edges[1:]], axis=1)
