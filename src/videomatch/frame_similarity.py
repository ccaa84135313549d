"""Similarity maps of two videos' frames: what an aligner reads.

Conventions
    Rows are the query's frames, columns the reference's; higher is more alike. Frames are ``(L, D)``, one vector each,
    or ``(L, K, D)``, one for each of K regions (ViSiL, Kordopatis-Zilos et al., ICCV 2019).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from videomatch.similarity import normalise

#: similarities of regions beyond which VCSL takes two frames for the same
CHAMFER_TOP = 0.3


def cosines(
    query: Float[np.ndarray, "query_frames D"], reference: Float[np.ndarray, "reference_frames D"]
) -> Float[np.ndarray, "query_frames reference_frames"]:
    """Cosines of all frames with all frames; a frame of zeros is 0 to every other.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check(query, reference, 2)
    return normalise(query) @ normalise(reference).T


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
