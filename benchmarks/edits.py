"""What edits of real clips `videomatch copies` finds: ``python benchmarks/edits.py FOLDER [--pairs PAIRS]``.

Clips of the folder are cut to some seconds, made small, edited in every way of ``EDITS`` and encoded again. Each is
looked for in a library of the originals and of other videos of the folder, which are strangers. So are edited
strangers that no video of the library shows: whatever is found of them is wrong. PAIRS is a tab-separated file with
the columns ``query`` and ``ref``: videos that are known to share footage, of which one is taken; without it, what is
rightly found in another video that has the same footage counts as wrong.

Printed are, by kind, the share of clips of which a segment of the right video was found at the right time, segments
that are wrong, and those at another time of the right video where its picture is the same, which nobody could tell
apart; over all the precision, with these as right and as wrong; and CPU seconds per hour of video, of the library, of
its frames without what describes them, and of the queries.
"""

from __future__ import annotations

import argparse
import csv
import functools
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from _claims import claim
from videomatch.app import copies
from videomatch.app.descriptors import GREY, POINTS, choose
from videomatch.app.requests import load_plan
from videomatch.app.video_library import VideoLibrary
from videomatch.common import named
from videomatch.media.decode import Sampler

#: clips that are edited, strangers that are, and seconds of each: at least, at most
CLIPS, STRANGERS, SECONDS = 10, 6, (3.5, 8.0)
#: pixels of the longer side, and pictures a second
SIDE, RATE = 320, 12
#: seconds by which a segment may be displaced
WITHIN = 1.0
#: pixels of the longer side of pictures that are compared, and levels of 255 by which each may differ in the same one
LOOK, SAME = 32, 8

Frames = list[np.ndarray]


def crop(share: float, x: float = 0.5, y: float = 0.5) -> Callable[[np.ndarray], np.ndarray]:
    """Without a share of the area; ``x``, ``y``: where the rest lies, 0 to 1."""

    def edit(frame: np.ndarray) -> np.ndarray:
        height, width = (round(n * (1 - share) ** 0.5) for n in frame.shape[:2])
        top, left = round(y * (frame.shape[0] - height)), round(x * (frame.shape[1] - width))
        return frame[top : top + height, left : left + width]

    return edit


def bars(sides: float, ends: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """Between black bars that take shares of the width and the height each."""

    def edit(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        across, down = round(width * sides / (1 - 2 * sides)), round(height * ends / (1 - 2 * ends))
        return cv2.copyMakeBorder(frame, down, down, across, across, cv2.BORDER_CONSTANT, value=(0, 0, 0))

    return edit


def between_blurred(frame: np.ndarray) -> np.ndarray:
    """Between parts of itself, enlarged and blurred, which take 40 % of the picture."""
    height, width = frame.shape[:2]
    along = 1 if width < height else 0  # bars at the sides of a tall picture, else above and below
    size = (round(width / 0.6), height) if along else (width, round(height / 0.6))
    wide = cv2.GaussianBlur(cv2.resize(frame, size), (0, 0), max(size) / 30)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    wide[top : top + height, left : left + width] = frame
    return wide


def titled(frame: np.ndarray) -> np.ndarray:
    """With a white box with words over 15 % of the height."""
    frame = frame.copy()
    height, width = frame.shape[:2]
    top = round(0.82 * height)
    cv2.rectangle(frame, (0, top), (width, top + round(0.15 * height)), (255, 255, 255), -1)
    scale = height / 320
    cv2.putText(
        frame, "SUBSCRIBE NOW", (8, top + round(0.11 * height)), cv2.FONT_HERSHEY_DUPLEX, scale, (20, 20, 20), 2
    )
    return frame


def rotated(degrees: float) -> Callable[[np.ndarray], np.ndarray]:
    """Rotated on a black ground."""

    def edit(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        return cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR)

    return edit


def with_logo(frame: np.ndarray) -> np.ndarray:
    """With a logo in a corner."""
    frame = frame.copy()
    height, width = frame.shape[:2]
    radius = round(min(height, width) / 10)
    cv2.circle(frame, (width - 2 * radius, 2 * radius), radius, (230, 30, 30), -1)
    cv2.circle(frame, (width - 2 * radius, 2 * radius), radius // 2, (255, 255, 255), -1)
    return frame


def within(share: float, x: float, y: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Over another picture, with a share of its sides at most."""

    def edit(frame: np.ndarray, ground: np.ndarray) -> np.ndarray:
        height, width = ground.shape[:2]
        scale = share * min(height / frame.shape[0], width / frame.shape[1])
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = round(y * (height - small.shape[0])), round(x * (width - small.shape[1]))
        ground = ground.copy()
        ground[top : top + small.shape[0], left : left + small.shape[1]] = small
        return ground

    return edit


#: name -> a frame to a frame; the last ones also take a frame of a stranger
EDITS: dict[str, Callable[..., np.ndarray]] = {
    "as it is": lambda f: f,
    "crop 10 %": crop(0.1),
    "crop 25 %": crop(0.25),
    "crop 25 %, a corner": crop(0.25, 0.0, 1.0),
    "crop 44 %": crop(0.4375),
    "mirror": lambda f: f[:, ::-1],
    "speed .75": lambda f: f,
    "speed 1.25": lambda f: f,
    "darker": lambda f: (0.5 * f).astype(np.uint8),
    "bars 4.5 %": bars(0.045),
    "bars 15 %": bars(0.15),
    "letterbox": bars(0.0, 0.12),
    "blurred borders": between_blurred,
    "title box": titled,
    "turned by 90": lambda f: np.rot90(f),
    "turned by 180": lambda f: f[::-1, ::-1],
    "rotated by 5": rotated(5),
    "rotated by 10": rotated(-10),
    "rotated by 30": rotated(30),
    "colour planes": lambda f: f[..., [1, 2, 0]],
    "logo": with_logo,
    "in a picture, 50 %": within(0.5, 0.95, 0.95),
    "in a picture, 35 %": within(0.35, 0.1, 0.6),
}
SPEED = {"speed .75": 0.75, "speed 1.25": 1.25}
#: kinds that strangers get, the others in turn
OF_STRANGERS = ("as it is", "bars 15 %", "title box", "in a picture, 50 %", "rotated by 10", "mirror")


@functools.cache
def read(path: Path, seconds: float, side: int = SIDE) -> Frames:
    """The frames of a video's first seconds, small, on a regular grid of time."""
    found: Frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            at = float(frame.time or 0.0) - float((container.start_time or 0) / av.time_base)
            if at >= seconds:
                break
            if at * RATE >= len(found):
                scale = side / max(frame.width, frame.height)
                size = (2 * round(n * scale / 2) for n in (frame.width, frame.height))
                image = frame.reformat(*size, format="rgb24").to_ndarray()
                found += [image] * (int(at * RATE) + 1 - len(found))
    return found


def write(path: Path, frames: Frames, rate: float) -> Path:
    """Encode frames as a sender would: H.264 of moderate quality."""
    height, width = (n - n % 2 for n in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = width, height, "yuv420p", 1
        for frame in frames:
            image = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def edited(kind: str, frames: Frames, ground: Frames) -> tuple[Frames, float]:
    """The frames of an edit, and its pictures a second."""
    takes_ground = kind.startswith("in a picture")
    grounds = [ground[n % len(ground)] for n in range(len(frames))]
    made = [EDITS[kind](f, g) if takes_ground else EDITS[kind](f) for f, g in zip(frames, grounds, strict=True)]
    return made, RATE * SPEED.get(kind, 1.0)


def groups(paths: list[str], pairs: Path | None) -> dict[str, str]:
    """Video -> the original of those that share footage with it."""
    first = {path: path for path in paths}
    if pairs is not None:
        with pairs.open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                copy, original = first[row["query"]], first[row["ref"]]
                first = {path: original if group == copy else group for path, group in first.items()}
    return first


def judged(segment: copies.Segment, original: str, folder: Path, speed: float) -> str:
    """Whether a segment is "right": it shows the part of the original that it names. It is "still" where another part
    of it, of the same picture, is named at its start, middle and end; else "wrong"."""
    queries = np.linspace(segment.query_start, segment.query_end, 3) * speed
    references = np.linspace(segment.reference_start, segment.reference_end, 3)
    if segment.reference != original:
        return "wrong"
    if abs(references[1] - queries[1]) <= WITHIN:
        return "right"
    looks = np.asarray(read(folder / original, np.inf, LOOK), np.int16)
    at = np.minimum(np.rint(np.stack([queries, references]) * RATE).astype(int), len(looks) - 1)
    own, other = looks[at]
    return "still" if np.abs(own - other).max() <= SAME else "wrong"


def main() -> None:
    """Make the edits, the library and the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--kinds", nargs="*", choices=EDITS, default=list(EDITS))
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--verbose", action="store_true", help="also print what was missed or wrong")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
        library = VideoLibrary.create(Path(scratch) / "all", choose(load_plan))
        before = time.process_time()
        library.add([options.folder])
        spent, videos = time.process_time() - before, library.videos()
        hours = float(videos["duration"].sum()) / 3600
        requests = [named.module("experts", name).Expert().request for name in (GREY, POINTS.name)]
        before = time.process_time()
        for path in videos["path"]:
            deque(Sampler(Path(path), requests), maxlen=0)
        floor = "decoding its frames", [(time.process_time() - before) / hours]
        claim("library of an hour of video", [spent / hours], "CPU s", floor=floor)
        first = groups(videos["video_id"].to_list(), options.pairs)
        long = videos.filter(videos["duration"] >= SECONDS[0]).sort("sha256")["video_id"].to_list()
        chosen = [video_id for video_id in long if first[video_id] == video_id]
        clips, strangers = chosen[: options.clips], chosen[options.clips :][:STRANGERS]
        library.remove([v for v in videos["video_id"] if first[v] in strangers or first[v] != v])
        search = copies.CopySearch(library, copies.choose_aligner())
        frames = {clip: read(options.folder / clip, SECONDS[1]) for clip in [*clips, *strangers]}
        grounds = {c: frames[strangers[n % len(strangers)]] for n, c in enumerate(clips)}
        grounds |= {s: frames[t] for s, t in zip(strangers, strangers[1:] + strangers[:1], strict=True)}
        spent, asked, counts = 0.0, 0.0, Counter[str]()
        for kind in options.kinds:
            found, here = 0, Counter[str]()
            for clip in [*clips, *(strangers if kind in OF_STRANGERS else [])]:
                made, rate = edited(kind, frames[clip], grounds[clip])
                path = write(Path(scratch) / "query.mp4", made, rate)
                before = time.process_time()
                answer = search.copies(path)
                spent, asked = spent + time.process_time() - before, asked + answer.duration / 3600
                kinds = [judged(s, clip, options.folder, SPEED.get(kind, 1.0)) for s in answer.segments]
                found, here = found + ("right" in kinds), here + Counter(kinds)
                if options.verbose and (set(kinds) - {"right"} or (clip in clips and "right" not in kinds)):
                    print(f"  {kind}: {clip}", *zip(kinds, answer.segments, strict=True), sep="\n    ")
            counts += here
            claim(f"edits of real clips that `copies` finds: {kind}", [found / len(clips)], "of the clips")
            about = f"wrong segments {here['wrong']}, same picture at another time {here['still']}"
            print(f"{kind:20} {found:3} of {len(clips)}, {about}", flush=True)
        right, total = counts["right"], max(1, counts.total())
        claim(f"precision of {total} segments, at the right time", [right / total], "")
        claim(f"precision of {total} segments, of the right picture", [(right + counts["still"]) / total], "")
        claim(f"copies of an hour of video in a library of {hours:.2f} hours", [spent / asked], "CPU s")


if __name__ == "__main__":
    main()
