"""Same-source search in a large library: ``python benchmarks/copies.py`` (100 hours; ``--full``: 1,000).

Two ways from a query video to the segments that it shares with a library, on the same simulated videos:

frames      2 frames a second of library and query; the frames of the query vote for videos; temporal network on the
            maps of the best 5.
key frames  the same with the key frames alone (15 %), of both, and smaller maps.

Simulated features: shots of some seconds that drift around a random direction, a few of them shared by many videos
(black, title cards). A query is a video of its own with one to three stretches of library videos in it, faster or
slower (0.6 to 1.5), moved by one constant and by noise, and with one frame in ten blacked out. Positive cosines come to
0.5 to 0.9. So recall says that nothing is lost on the way; how alike real copies are it does not say.

Prints bytes an hour on the disk, seconds a query hour (frames' features are given; medians of rounds in which both ways
answer the same queries one after the other), recall of the planted segments, what is left of an index whose building
was killed, and latency and memory of the library of key frames, about one million at 1,000 hours. Nothing is
extrapolated.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import numpy as np

from _claims import claim
from _clips import regular
from videomatch.aligners import temporal_network
from videomatch.common.vectors import unit_rows
from videomatch.data.store import StoreWriter
from videomatch.localisation import key_frame_selection
from videomatch.localisation.intervals import to_seconds
from videomatch.metrics import segments
from videomatch.retrieval.frame_index import FrameIndex

log = logging.getLogger("benchmark")
RATE = 2.0
#: mean seconds of a video (the median of VCSL) and of a shot
VIDEO, SHOT = 187.0, 4.0
#: videos of a store
SHARD = 1000
#: candidates that are aligned
TOP = 5


@dataclass(frozen=True)
class Way:
    """A way to search: how frames are chosen (None: all), and options of the temporal network on its maps."""

    name: str
    method: str | None
    options: dict[str, Any]

    def frames(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The frames that are kept, and their times."""
        times = regular(len(features), RATE)
        if self.method is None:
            return features, times
        kept = key_frame_selection.select(features, times, method=self.method)
        return features[kept], key_frame_selection.assigned_intervals(kept, times, features=features)


class World:
    """Videos by number: what is drawn of one does not depend on the others."""

    def __init__(self, dim: int) -> None:
        rng = np.random.default_rng(0)
        self.dim = dim
        self.drifts = rng.standard_normal((1 << 14, dim), dtype=np.float32)
        self.common = rng.standard_normal((20, dim), dtype=np.float32)

    def video(self, number: int) -> np.ndarray:
        """Unit rows ``(frames, dim)``."""
        rng = np.random.default_rng([number, 1])
        count = max(20, int(RATE * VIDEO * np.exp(0.5 * rng.normal() - 0.125)))
        lengths = 1 + rng.geometric(1 / (RATE * SHOT), 2 + int(count / (RATE * SHOT) * 2))
        shot = np.repeat(np.arange(len(lengths)), lengths)[:count]
        count = len(shot)
        centres = rng.standard_normal((shot[-1] + 1, self.dim), dtype=np.float32)
        is_common = rng.random(len(centres)) < 0.03
        centres[is_common] = self.common[rng.integers(len(self.common), size=is_common.sum())]
        at = int(rng.integers(len(self.drifts) - count))
        drift = np.cumsum(self.drifts[at : at + count], axis=0)
        first = np.searchsorted(shot, np.arange(len(centres)))
        scale = np.where(is_common, 0.0, 0.15)[shot, None].astype(np.float32)
        return unit_rows(centres[shot] + scale * (drift - drift[first[shot]]))

    def query(self, number: int, library: int) -> tuple[np.ndarray, list[tuple[int, list[float]]]]:
        """A query's rows, and (library video, segment in s) for everything that was planted."""
        rng = np.random.default_rng([number, 2])
        host, black = self.video(10**7 + number), unit_rows(self.common[:1])
        pieces, truth, at, done = [], [], 0, 0
        for cut in np.sort(rng.integers(0, len(host), int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])))):
            source = int(rng.integers(library))
            rows = self.video(source)
            speed = 1.0 if rng.random() < 0.43 else float(rng.uniform(0.6, 1.5))
            length = min(int(RATE * np.clip(12 * np.exp(0.9 * rng.normal()), 4, 120)), int(len(rows) / speed) - 2)
            start = float(rng.uniform(0, len(rows) - 1 - length * speed))
            copied = rows[np.floor(start + speed * np.arange(length)).astype(int)]
            noise = rng.standard_normal((length + 1, self.dim), dtype=np.float32) / np.sqrt(self.dim)
            copied = unit_rows(copied + rng.uniform(0.3, 0.9) * noise[:1] + rng.uniform(0.3, 0.9) * noise[1:])
            copied[rng.random(length) < 0.1] = black
            pieces += [host[done:cut], copied]
            at += cut - done
            box = [at, at + length, start, start + length * speed]
            truth.append((source, [x / RATE for x in box]))
            at, done = at + length, int(cut)
        return np.concatenate([*pieces, host[done:]]), truth


def built(folder: Path, world: World, ways: list[Way], videos: int) -> dict[str, float]:
    """Fill a library a way; hours, and seconds of encoding a way."""
    seconds = dict.fromkeys([way.name for way in ways], 0.0)
    frames = 0
    for first in range(0, videos, SHARD):
        writers = [StoreWriter(folder / w.name / f"{first}", shape=(world.dim,), times=True) for w in ways]
        for number in range(first, min(first + SHARD, videos)):
            rows = world.video(number)
            frames += len(rows)
            for way, writer in zip(ways, writers, strict=True):
                values, times = way.frames(rows)
                writer.add(f"v{number}", values, times=times)
        for way, writer in zip(ways, writers, strict=True):
            writer.__exit__(None, None, None)
            started = time.monotonic()
            library = folder / f"library {way.name}"
            if not first:
                # as many lists for both ways, so that both look at the same share of their library
                expected = int(videos * VIDEO * RATE * key_frame_selection.SHARE)
                FrameIndex.create(library, [writer.root], expected=expected, dim=world.dim)
            FrameIndex.add(library, writer.root)
            seconds[way.name] += time.monotonic() - started
            shutil.rmtree(writer.root)
    return {**seconds, "hours": frames / RATE / 3600}


def answered(library: FrameIndex, way: Way, query: np.ndarray) -> tuple[list[str], dict[str, np.ndarray]]:
    """Candidates of one query, and the segments (N, 4) found with each, s."""
    rows, times = way.frames(query)
    candidates = [reference for reference, _ in library.search(rows, times, TOP)]
    found = {}
    left = library.project(rows)
    for reference in candidates:
        right, reference_times = library.features(reference)
        boxes = temporal_network.align(left @ right.T, **way.options)
        found[reference] = to_seconds(boxes, times, reference_times)[:, :4]
    return candidates, found


def overlap(box: np.ndarray, boxes: np.ndarray) -> float:
    """Largest intersection over union on the worse of the two axes."""
    best = 0.0
    for other in boxes:
        axes = []
        for a in (0, 2):
            inside = min(box[a + 1], other[a + 1]) - max(box[a], other[a])
            axes.append(max(0.0, inside) / (max(box[a + 1], other[a + 1]) - min(box[a], other[a])))
        best = max(best, min(axes))
    return best


def memory(kind: str) -> float:
    """``VmHWM`` (the peak) or ``RssAnon`` (what no file backs) of this process, MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{kind}:")).split()[1]) / 1e3


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def searched(
    folder: Path, world: World, ways: list[Way], videos: int, queries: int, rounds: int
) -> tuple[dict[str, list[float]], float]:
    """Ask every query every way in turns; log what is found; seconds of CPU of every round, and hours of queries."""
    libraries = {way.name: FrameIndex(folder / f"library {way.name}") for way in ways}
    asks = [world.query(number, videos) for number in range(queries)]
    hours = sum(len(rows) for rows, _ in asks) / RATE / 3600
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(rounds):
        for way in ways:
            started = time.process_time()
            answers = [answered(libraries[way.name], way, rows) for rows, _ in asks]
            seconds[way.name].append(time.process_time() - started)
            if not number:
                found_by(way, asks, answers)
    return seconds, hours


def found_by(way: Way, asks: list[Any], answers: list[tuple[list[str], dict[str, np.ndarray]]]) -> None:
    """Log how much of what was planted was found."""
    reached, located, planted, pairs = 0, 0, 0, []
    for (_, truth), (candidates, found) in zip(asks, answers, strict=True):
        wanted = {f"v{source}" for source, _ in truth}
        for source, box in truth:
            planted += 1
            reached += f"v{source}" in candidates
            located += overlap(np.array(box), found.get(f"v{source}", np.zeros((0, 4)))) > 0.5
        for reference in sorted(wanted | set(found)):
            true = np.array([b for s, b in truth if f"v{s}" == reference]).reshape(-1, 4)
            pairs.append((found.get(reference, np.zeros((0, 4))), true))
    scores = segments.overall(segments.per_pair(pairs))
    log.info("%-10s of %d segments %.1f %% have their video among %d, %.1f %% are found with overlap > 0.5; F1 %.3f",
             way.name, planted, 100 * reached / planted, TOP, 100 * located / planted, scores["F1"])  # fmt: skip


def killed(folder: Path, world: World, way: Way, count: int = 1500, stores: int = 12) -> None:
    """Kill the building of an index in the middle, go on, and compare with one that was not."""
    roots, frames = [folder / f"some{n}" for n in range(stores)], 0
    for n, root in enumerate(roots):
        with StoreWriter(root, shape=(world.dim,), times=True) as writer:
            for number in range(n, count, stores):
                values, times = way.frames(world.video(number))
                writer.add(f"v{number}", values, times=times)
                frames += len(values)
    code = (
        "import sys; from pathlib import Path; from videomatch.retrieval.frame_index import FrameIndex; "
        "[FrameIndex.add(Path(sys.argv[1]), Path(root)) for root in sys.argv[2:]]"
    )
    found, written = [], 0
    for name in ("whole", "killed"):
        place = folder / name
        FrameIndex.create(place, roots, dim=world.dim)
        command = [sys.executable, "-c", code, str(place), *map(str, roots)]
        if name == "killed":
            process = subprocess.Popen(command)
            while process.poll() is None and len(list((place / "parts").glob("[!.]*"))) < 4:
                time.sleep(0.002)
            process.kill()
            process.wait()
            written = len(list((place / "parts").glob("[!.]*")))
        subprocess.run(command, check=True)
        index = FrameIndex(place)
        found.append((index.frames, index.neighbours(way.frames(world.query(0, count)[0])[0], 8)[1]))
    same = found[0][0] == found[1][0] == frames and np.array_equal(found[0][1], found[1][1])
    log.info("killed after %d of %d parts, then built on: %s", written, stores,
             "the same index" if same else "NOT THE SAME")  # fmt: skip


def latency(folder: Path, world: World, way: Way, videos: int) -> None:
    """Log memory and time of the index alone."""
    rows = np.concatenate([way.frames(world.query(n, videos)[0])[0] for n in range(10)])
    before, started = memory("RssAnon"), time.monotonic()
    index = FrameIndex(folder / f"library {way.name}")
    opened, times = time.monotonic() - started, []
    for row in rows[:200]:
        started = time.perf_counter()
        index.neighbours(row[None], 32)
        times.append(1000 * (time.perf_counter() - started))
    started = time.perf_counter()
    index.neighbours(rows, 32)
    together = 1000 * (time.perf_counter() - started) / len(rows)
    log.info("%d frames: opened in %.1f s, %.2f ms a query frame (median; 95 %%: %.2f), %.2f ms in batches, %.0f MB "
             "more memory", index.frames, opened, np.median(times), np.percentile(times, 95), together,
             memory("RssAnon") - before)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=100.0, help="of library video")
    parser.add_argument("--full", action="store_true", help="1,000 hours: a million key frames, some 2 GB on the disk")
    parser.add_argument("--rounds", type=int, default=3, help="in which times are taken")
    parser.add_argument("--queries", type=int, default=10, help="query videos, some three minutes each")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--method", choices=key_frame_selection.METHODS, default="k_center")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("videomatch").setLevel(logging.WARNING)
    faiss.omp_set_num_threads(1)
    ways = [
        Way("frames", None, {"max_step": 10, "top_k": 5, "min_similarity": 0.3, "min_length": 4}),
        Way("key frames", options.method, {"max_step": 5, "top_k": 3, "min_similarity": 0.3, "min_length": 1}),
    ]
    hours = 1000.0 if options.full else options.hours
    world, videos = World(options.dim), max(10, round(hours * 3600 / VIDEO))
    folder = Path(tempfile.mkdtemp(prefix="copies-", dir=os.environ.get("TMPDIR")))
    os.chdir(folder)  # digests are remembered below the working folder
    try:
        made = built(folder, world, ways, videos)
        for way in ways:
            library = folder / f"library {way.name}"
            log.info("%-10s %.3f MB an hour in %.0f hours (%d videos; codec: %.1f MB once), encoded in %.0f s",
                     way.name, size(library / "parts") / 1e6 / made["hours"], made["hours"], videos,
                     size(library / "codec") / 1e6, made[way.name])  # fmt: skip
        seconds, asked_hours = searched(folder, world, ways, videos, options.queries, options.rounds)
        log.info("%.2f hours of queries", asked_hours)
        every, mine = ([spent / asked_hours for spent in values] for values in seconds.values())
        what = f"copies of an hour of video in a library of {hours:.0f} hours, by key frames"
        claim(what, mine, "CPU s", peer=("all frames", every))
        killed(folder, world, ways[1])
        latency(folder, world, ways[1], videos)
    finally:
        os.chdir("/")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
