"""Kill `library add` and `library remove`, or fill the disk, at every step in the file system; the next call mends all.

    python tests/crashes.py [--points N --seed S]

A step is whatever Python's own functions do below the library: a file opened to be written, a name changed or removed.
From a step on nothing reaches the disk (a kill), or nothing new has room on it (a full disk: what frees room is done).
Then the same library is opened and the call is repeated: videos, frames and files are those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Collection
from functools import cache
from pathlib import Path

import numpy as np

import films
from videomatch.app.descriptors import Descriptor, choose
from videomatch.app.requests import load_plan
from videomatch.app.video_library import VideoLibrary

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}
#: videos before, options then, options of the call, and the videos afterwards: more are added, or others removed
SCENARIOS: dict[str, tuple[int, dict[str, int], dict[str, int], Collection[int]]] = {
    "new": (0, {}, {}, range(4)),
    "grow": (3, {}, {"growth": 2}, range(6)),
    "settle": (4, {}, {"settled": 10, "growth": 100}, range(6)),
    "remove": (4, {}, {}, (0, 2)),
    "remove from a settled one": (4, {"settled": 10}, {"settled": 10}, (0, 2)),
}
WAYS = ("kill", "full disk")


class Killed(BaseException):
    """The process is gone."""


class Disk:
    """Counts the steps below a folder, and lets all from step ``left`` on fail."""

    def __init__(self) -> None:
        self.place, self.left, self.is_full = "", None, False

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.left is None or event not in EVENTS or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(arguments[0])
        if not path.startswith(self.place) or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        self.left -= 1
        if self.left < 0 and not self.is_full:
            raise Killed
        if self.left < 0 and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, "No space left on device", path)


@cache
def disk() -> Disk:
    """The one of this process, as hooks cannot be removed."""
    made = Disk()
    sys.addaudithook(made)
    return made


class Crashes:
    """The points of one scenario in an empty folder. Files are described once for all of them."""

    def __init__(self, folder: Path, scenario: str) -> None:
        self.before, early, self.options, self.after = SCENARIOS[scenario]
        self.raw = [films.write(folder / f"raw/{n}.mp4", (n, 0, 3)) for n in range(max(self.before, *self.after) + 1)]
        self.place, self.saved = folder / "library", folder / "saved"
        self.described = {}
        self.folder = folder
        if self.before:
            self.library(early).add(self.raw[: self.before])
            shutil.copytree(self.place, self.saved)
        self.call()
        self.wanted = self.frames()
        assert sorted(self.wanted) == [f"{n}.mp4" for n in self.after]
        self.steps = self.disturbed(sys.maxsize, "kill")

    def library(self, options: dict[str, int]) -> VideoLibrary:
        if VideoLibrary.exists(self.place):
            library = VideoLibrary(self.place, batch=2, **options)
        else:
            library = VideoLibrary.create(self.place, choose(load_plan), batch=2, **options)
        library.descriptor = _Once(library.descriptor, self.described, self.folder)
        return library

    def call(self) -> None:
        """Add videos, or remove those that are there still."""
        library = self.library(self.options)
        if len(self.after) > self.before:
            library.add([self.raw[n] for n in self.after])
        else:
            gone = [f"{n}.mp4" for n in range(self.before) if n not in self.after]
            library.remove([video_id for video_id in gone if video_id in set(library.videos()["video_id"])])

    def frames(self) -> dict[str, np.ndarray]:
        index = VideoLibrary(self.place).open_index()
        return {video_id: index.features(video_id)[0] for video_id in index.ids}

    def disturbed(self, step: int, way: str) -> int:
        """Call, and let all fail from a step on; returns how many steps were done."""
        shutil.rmtree(self.place)
        if self.before:
            shutil.copytree(self.saved, self.place)
        disk().place, disk().is_full, disk().left = str(self.place), way == "full disk", step
        try:
            self.call()
        except (Killed, OSError, ValueError, RuntimeError):
            assert disk().left < 0  # an error of its own is none of ours
        finally:
            left, disk().left = disk().left, None
        return step - left

    def problem(self, step: int, way: str) -> str | None:
        """What the next call does not mend after a crash."""
        self.disturbed(step, way)
        try:
            if len(self.after) < self.before:  # which are there still is known once what is unfinished is mended
                self.library(self.options).add()
            self.call()
            damage = self.library(self.options).check()
            found = self.frames()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if damage != ([], []):
            return f"damaged: {damage}"
        if found.keys() != self.wanted.keys():
            return f"videos {sorted(found)}, expected {sorted(self.wanted)}"
        if rest := [str(path) for path in self.place.rglob(".*.*.*")]:
            return f"left on the disk: {rest}"
        # another codec, learned from other frames, turns them: what is between them stays
        far = [i for i, rows in found.items() if np.abs(rows @ rows.T - self.wanted[i] @ self.wanted[i].T).max() > 0.1]
        return f"other frames of {far}" if far else None


class _Once:
    """A descriptor that describes the same files once."""

    def __init__(self, descriptor: Descriptor, known: dict, folder: Path) -> None:
        self.descriptor, self.known, self.folder, self.name = descriptor, known, folder, descriptor.name

    def check(self) -> None:
        self.descriptor.check()

    def describe(self, files: dict[str, Path], folder: Path, threads: int, beside: dict, backbones: dict):
        key = tuple(sorted(files)), tuple(beside)
        if key not in self.known:
            at = self.folder / f"described{len(self.known)}"
            self.known[key] = at, self.descriptor.describe(files, at, threads, beside, backbones)
        self.last, found = self.known[key]
        return found

    def passed(self, folder: Path) -> Path:
        return self.descriptor.passed(self.last)


def problems(folder: Path, scenario: str, way: str, points: int | None = None, seed: int = 0) -> tuple[int, list[str]]:
    """How many points of a scenario were tried (all, or so many random ones), and what was not mended."""
    crashes = Crashes(folder, scenario)
    steps = np.arange(crashes.steps)
    if points is not None:
        steps = np.sort(np.random.default_rng(seed).permutation(steps)[:points])
    found = ((step, crashes.problem(step, way)) for step in steps.tolist())
    return len(steps), [f"{way} at step {step} of {scenario!r}: {what}" for step, what in found if what is not None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, help="random points of each scenario and way; all by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total, found = 0, []
    for scenario in SCENARIOS:
        for way in WAYS:
            with tempfile.TemporaryDirectory(prefix="videomatch-crashes-") as folder:
                os.chdir(folder)
                tried, wrong = problems(Path(folder), scenario, way, options.points, options.seed)
            total, found = total + tried, found + wrong
            print(f"{scenario}, {way}: {tried - len(wrong)} of {tried} points mended", *wrong, sep="\n", flush=True)
    print(f"{total - len(found)} of {total} points mended")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
