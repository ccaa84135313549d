"""CPU time of one picture every 0.5 s: the sampler against ``ffmpeg -vf fps=2`` and against decoding everything.

    python benchmarks/decode.py [folder of videos]

Without a folder it makes its own clips. All three deliver RGB pictures of the same size (short side 224, bicubic), on
one thread, one after the other in each round; medians over rounds. Where there is no ``ffmpeg`` program its column is
FFmpeg's own filters (``fps=2,scale=…``) run by PyAV.

    python benchmarks/decode.py [folder of videos] --shots 3.3

measures films that are read as shots of so many seconds instead: in one pass, and with a pass (and a seek) per shot.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av

import _clips
from _claims import claim
from videomatch.media.container import probe
from videomatch.media.decode import FrameRequest, Sampler

SHORT = 224
#: how many times as fast as FFmpeg on every clip of so many seconds
BAR, LONG = 1.54, 10


def ours(path: Path, *, decode_all: bool = False) -> int:
    request = FrameRequest(Fraction(1, 2), SHORT)
    return sum(len(c.values) for c in Sampler(path, [request], decode_all=decode_all))


def decoded(path: Path, spans: list[tuple[float, float]] | None) -> int:
    sampler = Sampler(path, [FrameRequest(Fraction(1, 2), SHORT)], spans=spans)
    for _ in sampler:
        pass
    return sampler.num_decoded


def by_seeking(path: Path, spans: list[tuple[float, float]]) -> int:
    """The frames of each shot by a seek to the key frame before it."""
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "NONE"
        for start, end in spans:
            container.seek(int(start / stream.time_base), stream=stream)
            wanted = start
            for frame in container.decode(stream):
                count += 1
                if frame.time + 1e-6 >= wanted:
                    frame.reformat(width=SHORT, height=SHORT, format="rgb24", interpolation="BICUBIC").to_ndarray()
                    wanted += 0.5
                if wanted >= end or frame.time >= end:
                    break
    return count


def of_shots(files: dict[str, Path], length: float, rounds: int) -> None:
    sys.stdout.write(f"{'':24} {'':>7} {'whole':>16} {'shots, 1 pass':>16} {'a seek per shot':>16}\n")
    sys.stdout.write(f"{'film':24} {'frames':>7}" + f" {'decoded':>9} {'s CPU':>6}" * 3 + "\n")
    for name, path in files.items():
        facts = probe(path)
        edges = [n * length for n in range(int(facts.duration / length) + 1)] + [facts.duration]
        spans = [(a, b) for a, b in pairwise(edges) if b > a]
        columns = []
        for work in (lambda: decoded(path, None), lambda: decoded(path, spans), lambda: by_seeking(path, spans)):  # noqa: B023
            measured = [cpu(work) for _ in range(rounds)]
            columns += [measured[0][1], statistics.median(seconds for seconds, _ in measured)]
        cells = " ".join(f"{c:9d}" if number % 2 == 0 else f"{c:6.2f}" for number, c in enumerate(columns))
        sys.stdout.write(f"{name[:24]:24} {facts.num_frames:7d} {cells}\n")


def program(path: Path, height: int, width: int) -> int:
    scale = f"fps=2,scale={width}:{height}:flags=bicubic"
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-filter_threads", "1", "-i", str(path), "-an", "-vf", scale]
    out = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    return len(out) // (height * width * 3)


def filters(path: Path, height: int, width: int) -> int:
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "NONE"
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream)
        steps = [("fps", "2"), ("scale", f"{width}:{height}:flags=bicubic"), ("format", "rgb24")]
        last = source
        for name, arguments in steps:
            node = graph.add(name, arguments)
            last.link_to(node)
            last = node
        sink = graph.add("buffersink")
        last.link_to(sink)
        graph.configure()
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            while True:
                try:
                    graph.pull().to_ndarray()
                    count += 1
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return count


def cpu(work: Callable[[], int]) -> tuple[float, int]:
    """Seconds of CPU time (children included) and what ``work`` returned."""
    before = os.times()
    result = work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4]), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="videos; without it, clips are made")
    parser.add_argument("--seconds", type=float, default=20, help="length of a clip that is made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shots", type=float, metavar="SECONDS", help="read films as shots of this length")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if options.folder:
            files = {p.name: p for p in sorted(options.folder.rglob("*")) if p.is_file()}
        else:
            files = {
                kind: _clips.make(Path(temporary) / f"{number}.mp4", kind, options.seconds)
                for number, kind in enumerate(_clips.KINDS)
            }
        if options.shots:
            of_shots(files, options.shots, options.rounds)
            return
        has_program = shutil.which("ffmpeg") is not None
        rival = program if has_program else filters
        other = "ffmpeg" if has_program else "filters"
        sys.stdout.write(
            f"{'seconds of CPU':34} {other:>9} {'all':>9} {'sampler':>9} {'x ' + other:>10} {'x real time':>12}\n"
        )
        spent: dict[str, tuple[list[float], list[float]]] = {}
        for name, path in files.items():
            facts = probe(path)
            height, width = FrameRequest(Fraction(1, 2), SHORT).shape(facts.width, facts.height)
            rounds = []
            for _ in range(options.rounds):
                theirs, _ = cpu(lambda: rival(path, height, width))  # noqa: B023
                everything, total = cpu(lambda: ours(path, decode_all=True))  # noqa: B023
                planned, count = cpu(lambda: ours(path))  # noqa: B023
                if count != total:
                    sys.exit(f"{name}: {count} pictures planned, {total} in full")
                rounds.append((theirs, everything, planned))
            columns = list(zip(*rounds, strict=True))
            theirs, everything, planned = map(statistics.median, columns)
            if facts.duration >= LONG:
                spent[name] = list(columns[2]), list(columns[0])
            speed = facts.duration / max(planned, 1e-3)  # CPU time has its own steps
            cells = f"{theirs:9.2f} {everything:9.2f} {planned:9.2f} {planned / max(theirs, 1e-3):10.2f} {speed:12.0f}"
            sys.stdout.write(f"{name[:34]:34} {cells}\n")
        if not spent:
            sys.exit(f"no clip of {LONG} s")
        peer, what = f"{rival.__name__} of FFmpeg", f"a picture every half second of {len(spent)} clips"
        mine, others = ([sum(one) for one in zip(*side, strict=True)] for side in zip(*spent.values(), strict=True))
        claim(what, mine, "CPU s", peer=(peer, others))
        mine, others = max(spent.values(), key=lambda sides: statistics.median(sides[0]) / statistics.median(sides[1]))
        claim(f"{what}, the slowest", mine, "CPU s", peer=(peer, others), bar=BAR)


if __name__ == "__main__":
    main()
