"""What an expert is to ``extract``."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from videomatch.media.decode import FrameRequest
from videomatch.media.sound import SoundRequest


class Expert(Protocol):
    """What the classes ``Expert`` of this room have in common: each is an :class:`Extractor`, of which every item
    becomes a row, or a :class:`videomatch.experts._reading.Reader`, which finds any number of them in a video. Their
    options are keyword-only arguments of ``__init__``. Rows are independent of each other: which others share a batch
    changes a row by rounding at most.

    Attributes:
        shape, dtype: of one row as it is stored.
        request: what the expert wants to see or hear; None: nothing of the media.
        batch: prepared rows of one call of :meth:`infer`; 0 if they are finished already.
        about: what else made the features (device, precision …): JSON values, kept with the store.
    """

    shape: tuple[int, ...]
    dtype: str
    request: FrameRequest | SoundRequest | None
    batch: int
    about: dict[str, Any]

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """``(n, …)`` prepared rows to ``(n, *shape)`` finished ones."""
        ...


class Extractor(Expert, Protocol):
    """An expert that makes one row of each item of its request (a picture, a window of sound).

    One whose rows are made of several consecutive items has one more attribute, ``windows``
    (:class:`videomatch.experts._windows.Windows`): what :meth:`prepare` gives is then grouped, and :meth:`infer` reads
    ``(n, length, …)``.
    """

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """``(n, …)`` items of one video to what is batched across videos. Runs beside decoding, in many threads."""
        ...


def seconds(value: float) -> Fraction:
    """A number of seconds as it was written: 0.1 is a tenth and not the nearest binary fraction.

    Raises:
        ValueError: it is not more than 0.
    """
    exact = Fraction(str(value))
    if exact <= 0:
        raise ValueError(f"every = {value} seconds, expected more than 0")
    return exact
