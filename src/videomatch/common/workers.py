"""Worker processes that end with the job that started them."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

from videomatch.common import files


def pool(processes: int) -> ProcessPoolExecutor:
    """A pool of spawned processes (a fork of a process with threads may deadlock) that stop when this one is killed."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), files.end_with, (os.getpid(),))
