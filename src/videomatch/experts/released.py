"""Features that a data set brings itself: nothing is decoded, nothing computed.

A reader of ``corpora`` that has such features says so by a function ``frame_features(raw, ids)``, which yields
``(video id, values (L, dim), times (L, 2) in seconds)`` for those of ``ids`` that it has, each once, in any order and a
video at a time. The features of AIAC lie in its TFRecords; others come as a file a video, or as one large matrix.
"""

from __future__ import annotations

from typing import Any


class Expert:
    """Released features of one size.

    Args:
        dim: numbers a row.
        dtype: of the store.
    """

    def __init__(self, *, dim: int, dtype: str = "float16") -> None:
        self.shape = (dim,)
        self.dtype = dtype
        self.about: dict[str, Any] = {}
