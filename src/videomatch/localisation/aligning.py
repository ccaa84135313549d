"""What aligns a map: an algorithm of ``aligners/``, or a detector that was trained."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videomatch.common import named
from videomatch.common.checkpoint import load_checkpoint

Align = Callable[..., np.ndarray]
Grids = Mapping[str, Mapping[str, Sequence[Any]]]


def align_of(aligner: str | None, run: Path | None) -> tuple[Align, Grids]:
    """The function from a map to segments, and the named grids of its options.

    Args:
        aligner: a file of ``aligners/``.
        run: result of ``train``, a system whose model can ``detect``.

    Raises:
        ValueError: neither of the two or both, or a model that detects nothing.
    """
    if (aligner is None) == (run is None):
        raise ValueError(f"aligner {aligner}, run {run}: expected one of an aligner and a trained detector")
    if aligner is not None:
        module = named.module("aligners", aligner)
        return module.align, module.GRIDS
    assert run is not None
    return _detector(run)


@functools.lru_cache(maxsize=4)
def _detector(run: Path) -> tuple[Align, Grids]:
    model, system = load_checkpoint(run, "cuda" if torch.cuda.is_available() else "cpu")
    name = system["model"]["name"]
    if not model.detects_segments:
        raise ValueError(f"{run} holds a {name}, which detects no segments, expected a model like segment_detector")
    return model.detect, named.module("models", name).GRIDS
