"""Compiled files (``__pycache__``) that a full disk cut short: Python fails on them ever after."""

from __future__ import annotations

import marshal
import sys
import traceback
from pathlib import Path


def mend(error: BaseException) -> str | None:
    """Remove damaged compiled files if an error may come from one, and say so; None if there were none."""
    loading = any("importlib" in frame.filename for frame in traceback.extract_tb(error.__traceback__)[-2:])
    if not loading or isinstance(error, ImportError):  # the loader of Python raises another error for these alone
        return None
    folders = {Path(folder).resolve() for folder in sys.path if folder and Path(folder).is_dir()}
    damaged = [file for folder in sorted(folders) for file in folder.glob("**/__pycache__/*.pyc") if _is_damaged(file)]
    for file in damaged:
        file.unlink(missing_ok=True)
    if not damaged:
        return None
    return f"{damaged[0]} was damaged, as by a full disk; removed such files of Python: {len(damaged)}; start again"


def _is_damaged(file: Path) -> bool:
    try:
        marshal.loads(file.read_bytes()[16:])
    except (EOFError, ValueError, TypeError):
        return True
    except OSError:
        return False
    return False
