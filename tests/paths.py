"""Where tests find published numbers and real files. Both folders are optional: without one its tests skip."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT / default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing (set {variable})")
    return folder


def fixtures() -> Path:
    """Numbers of published implementations: $VIDEOMATCH_FIXTURES."""
    return _folder("VIDEOMATCH_FIXTURES", "../shared/fixtures")


def realdata() -> Path:
    """Real videos, annotations and labels: $VIDEOMATCH_REALDATA."""
    return _folder("VIDEOMATCH_REALDATA", "../shared/realdata")
