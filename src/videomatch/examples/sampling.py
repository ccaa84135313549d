"""Which frames of a video a model sees when it has more than fit."""

from __future__ import annotations

import numpy as np


def frame_index(num_frames: int, max_frames: int) -> np.ndarray:
    """Positions of the frames kept out of ``num_frames``, at most ``max_frames`` of them.

    The rule of the AIAC 2021 winners: all of them while they fit, else frame ``round((i + 1/2) (n - 1) / m)`` for
    i = 0 … m - 1, the middles of m equal parts, with halves rounded to the even number.

    # Deviation: for n = m + 1 their condition ``(n - 1) / m > 1`` is false and they return m + 1 frames; ours are
    # subsampled then, too. Our mask is all ones where frames were left out; theirs hides the last n - m of those kept.

    Returns:
        (min(n, m),) int64, ascending.
    """
    if num_frames < 0 or max_frames < 1:
        raise ValueError(f"{num_frames} frames, at most {max_frames}: expected at least 0 and 1")
    if num_frames <= max_frames:
        return np.arange(num_frames, dtype=np.int64)
    middles = (np.arange(max_frames) + 0.5) * (num_frames - 1) / max_frames
    return np.rint(middles).astype(np.int64)  # rint rounds halves to even


def pad_frames(frames: np.ndarray, max_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The frames kept by :func:`frame_index` followed by zeros, and which are real.

    Args:
        frames: (n, *shape).
        max_frames: rows of the result.

    Returns:
        (max_frames, *shape) of the same dtype, and a bool mask (max_frames,).
    """
    kept = frame_index(len(frames), max_frames)
    padded = np.zeros((max_frames, *frames.shape[1:]), dtype=frames.dtype)
    padded[: len(kept)] = frames[kept]
    return padded, np.arange(max_frames) < len(kept)
