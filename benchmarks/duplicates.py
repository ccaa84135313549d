"""Duplicates among real files: ours beside ``videohash`` and ``vpdq``, on the same files in one run.

    python benchmarks/duplicates.py FOLDER PAIRS.tsv [--named] [--min-share 0.5]

PAIRS is a tab-separated file with the columns ``group``, ``query`` and ``ref``: files below FOLDER, of which those of
one group hold the same footage. A pair of files that a system joins is right if both are of one group. Printed are
recall over the pairs listed, precision over all pairs that are joined, and the CPU time with that of child processes.
``--named`` compares the files that PAIRS names alone.

``videohash`` (it needs ``ffmpeg`` on the path): files whose 64-bit hashes differ in at most :data:`BITS` bits.
``vpdq``: files of which at least half of the frames of the shorter one have a frame of the other within
:data:`FRAME_BITS` of 256 bits, as its authors propose. One that is not installed is passed over with a line.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from _claims import claim
from videomatch import Library
from videomatch.data.walk import videos_below
from videomatch.folders.duplicates import SHARE

#: differing bits at most, and quality of a frame at least
BITS, FRAME_BITS, QUALITY = 10, 31, 50
Pair = frozenset[str]


def ours(paths: list[Path], folder: Path, share: float) -> set[Pair]:
    """The pairs of :class:`videomatch.Library`, in a folder of links to the files."""
    for path in paths:
        link = folder / "files" / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    os.environ["VIDEOMATCH_HOME"] = str(folder / "home")
    found = Library(folder / "files", model="none", threads=1).duplicates(share)
    groups = [[str(Path(row.path).resolve()) for row in group] for group in found.groups]
    return {frozenset(pair) for group in groups for pair in itertools.combinations(group, 2)}


def videohash(paths: list[Path], folder: Path, share: float) -> set[Pair]:
    """The pairs of ``videohash``."""
    from PIL import Image

    # Pillow 10 dropped the old name of this filter, which videohash 3.0.1 uses
    vars(Image).setdefault("ANTIALIAS", Image.Resampling.LANCZOS)
    from videohash import VideoHash

    hashes = {
        str(path): int(VideoHash(path=str(path), storage_path=f"{folder}{os.sep}").hash_hex, 16) for path in paths
    }
    pairs = itertools.combinations(hashes, 2)
    return {frozenset(pair) for pair in pairs if (hashes[pair[0]] ^ hashes[pair[1]]).bit_count() <= BITS}


def vpdq(paths: list[Path], folder: Path, share: float) -> set[Pair]:
    """The pairs of ``vpdq``."""
    import vpdq as library

    frames = {}
    for path in paths:
        found = library.computeHash(str(path), seconds_per_hash=1)
        frames[str(path)] = [int(frame.hex, 16) for frame in found if frame.quality >= QUALITY]

    def matched(some: list[int], others: list[int]) -> float:
        near = [any((one ^ other).bit_count() <= FRAME_BITS for other in others) for one in some]
        return sum(near) / len(near) if near else 0.0

    joined = set()
    for pair in itertools.combinations(frames, 2):
        shorter, longer = sorted((frames[name] for name in pair), key=len)
        joined |= {frozenset(pair)} if matched(shorter, longer) >= 0.5 else set()
    return joined


def cpu() -> float:
    """Seconds of CPU time of this process and its children."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def main() -> None:
    """Compare what is installed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--named", action="store_true", help="only the files that are named in PAIRS")
    parser.add_argument("--min-share", type=float, default=SHARE)
    options = parser.parse_args()
    root = options.folder.resolve()
    with options.pairs.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    group = {str(root / row[side]): row["group"] for row in rows for side in ("query", "ref")}
    listed = {frozenset(str(root / row[side]) for side in ("query", "ref")) for row in rows}
    paths = sorted(map(Path, group)) if options.named else videos_below(root, lambda path, reason: None)[0]
    print(f"{len(paths)} files, {len(listed)} pairs listed")
    results: dict[str, list[float]] = {}
    systems: dict[str, Callable[..., set[Pair]]] = {"videomatch": ours, "videohash": videohash, "vpdq": vpdq}
    for name, find in systems.items():
        if find_spec(name) is None:
            print(f"{name}: not installed")
            continue
        with tempfile.TemporaryDirectory(prefix="videomatch-") as folder:
            before, started = cpu(), time.monotonic()
            joined: Any = find(paths, Path(folder), options.min_share)
            spent, waited = cpu() - before, time.monotonic() - started
        right = sum(len({group.get(one, one) for one in pair}) == 1 for pair in joined)
        precision = f"{right / len(joined):.0%}" if joined else "-"
        results[name] = [len(listed & joined) / len(listed), right / len(joined) if joined else 0.0, spent]
        print(
            f"{name}: {len(listed & joined)} of {len(listed)} listed pairs, precision {precision} of {len(joined)} "
            f"joined; {spent:.1f} s of CPU ({waited:.0f} s)"
        )
    mine = results.pop("videomatch")
    for n, (what, unit) in enumerate((("pairs found", ""), ("pairs that are right", ""), ("time", "CPU s"))):
        for peer in [(name, [values[n]]) for name, values in results.items()] or [None]:
            claim(f"duplicates of {len(paths)} real clips: {what}", [mine[n]], unit, peer=peer, more=not unit)


if __name__ == "__main__":
    main()
