"""Which files of indexed folders hold the same film, and which one of them to keep.

All files are compared with all: every video's frames vote for others in the index, and an aligner finds what two share
(:mod:`videomatch.app.copies`, whole pictures). Two videos belong together if a ``share`` of the shorter one lies in the
longer; so an opening or a scene that strangers share joins nobody.

A group is one file to keep, and files that were compared with *it*: no chain of likenesses leads from a file to one
that holds nothing of it. Kept is, of those that hold the whole film, the one of most pixels, then of the highest bit
rate. A compilation is longer than its parts, so it is kept, and they are parts of it.
"""

import copy
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from videomatch.app.copies import CopySearch, choose_aligner
from videomatch.app.requests import Answer
from videomatch.common import digests
from videomatch.common.messages import count
from videomatch.common.progress import track
from videomatch.data.walk import videos_below
from videomatch.folders.folder_index import FolderIndex
from videomatch.media.container import Timeline, Unreadable, probe
from videomatch.media.decode import FrameRequest, Sampler
from videomatch.metrics.segments import (
    QUERY_END,
    QUERY_START,
    REFERENCE_END,
    REFERENCE_START,
    SCORE,
    SWAPPED,
    union_length,
)

#: what a file is to the one that is kept, as words
IDENTICAL, SAME, EDITED, PART = "identical", "same content", "edited", "part"
#: what is suggested
KEEP, DELETE, LOOK = "keep", "delete", "look"
#: share of the shorter video that lies in the longer one, at least, by default; and that is all of it
SHARE, WHOLE = 0.5, 0.9
#: what was measured on real clips; Hough voting puts the ends of a part in a compilation up to 0.75 s too far
ALIGNER = "temporal_network"
#: what finds still pictures, which the network does not: it follows a few of the frames that all are alike
OF_STILLS = "hough"
#: seconds, and share of its length, by which a video of the same length may differ
TRIMMED, LENGTH = 0.5, 0.98
#: videos that are aligned with one
TOP = 50
#: pictures that are compared to tell an edit from another encoding, their side, and the side of a part of them
LOOKS, SIDE, PARTS = 7, 64, 8
#: difference of the parts' mean colours (of 255) that another encoding has at most: of all, and of a part
FADED, COVERED = 6.0, 24.0


@dataclass(frozen=True)
class Duplicate:
    """A file of a group. ``kind`` is what it is to the file ``of``, which is to be kept (of that one itself: empty):
    ``share`` of it is contained in that file, the longest segment from ``start`` to ``end`` (s) of it, with the mean
    similarity ``score``. ``duration`` is in s, ``bit_rate`` in bits a second."""

    group: int
    suggestion: str
    kind: str
    path: str
    of: str
    share: float
    start: float
    end: float
    score: float
    duration: float
    width: int
    height: int
    bit_rate: int
    bytes: int
    sha256: str


@dataclass
class Duplicates(Answer):
    """Groups of files, in each first the one to keep; of ``files`` files that were compared by ``min_share``."""

    min_share: float
    files: int = 0
    groups: list[list[Duplicate]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Content:
    """A video of an index, and all files that hold just this."""

    sha256: str
    number: int  # of the index
    video_id: str
    paths: tuple[str, ...]
    seconds: float | None

    @property
    def path(self) -> Path:
        return Path(self.paths[0])

    @functools.cached_property
    def timeline(self) -> Timeline | None:
        """The properties of its video, None where it cannot be read any more."""
        try:
            return probe(self.path)
        except (Unreadable, OSError):
            return None

    @functools.cached_property
    def duration(self) -> float:
        return self.seconds or (self.timeline.duration if self.timeline else 0.0)

    @functools.cached_property
    def quality(self) -> tuple[int, float, str]:
        """What is compared to choose the one to keep."""
        line = self.timeline
        return (0, 0.0, "") if line is None else (line.width * line.height, self.bit_rate, self.paths[0])

    @functools.cached_property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def bit_rate(self) -> float:
        return 8 * self.size / max(self.duration, 0.1)


class _Pairs:
    """What any two contents share, each pair aligned once; less than ``least`` of the shorter one is looked at again
    as still pictures are."""

    def __init__(self, searches: Sequence[CopySearch], contents: Sequence[_Content], least: float) -> None:
        self.searches, self.contents, self.least = searches, contents, least
        self.of_stills = [copy.copy(search) for search in searches]
        for search in self.of_stills:
            search.aligner = choose_aligner(OF_STILLS)
        self.of = {(c.number, c.video_id): c for c in contents}
        self.segments: dict[_Content, dict[_Content, np.ndarray]] = {c: {} for c in contents}

    def find(self, one: _Content) -> None:
        """Compare a content with those that its frames vote for."""
        known = {one, *self.segments[one]}
        frames = self.searches[one.number].frames(one.video_id)
        for number, search in enumerate(self.searches):
            exclude = [c.video_id for c in known if c.number == number]
            for video_id, _ in search.index.search(*frames, TOP, exclude=exclude):
                other = self.of.get((number, video_id))  # None: it is compared as one of another index
                if other is not None and other not in known:
                    segments = self._align(number, frames, search.frames(video_id))
                    if len(segments):
                        self._keep(one, other, segments)

    def share(self, one: _Content, other: _Content) -> float:
        """How much of a content lies in another; 0 where they were found to share nothing."""
        segments = self.segments[one].get(other)
        if segments is None or not len(segments):
            return 0.0
        return min(1.0, _covered(segments) / max(one.duration, 1e-6))

    def compare(self, one: _Content, other: _Content) -> None:
        """Align two contents, unless they were."""
        if other not in self.segments[one]:
            frames = (self.searches[c.number].frames(c.video_id) for c in (one, other))
            self._keep(one, other, self._align(one.number, *frames))

    def _align(self, number: int, *frames: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The segments of two videos: of the aligner that finds more of the first, if the network finds too little."""
        given = [part for pair in frames for part in pair]
        found = self.searches[number].align(*given)
        wanted = self.least * min(float(times[-1, 1]) if len(times) else 0.0 for _, times in frames)
        if _covered(found) >= wanted:
            return found
        return max(found, self.of_stills[number].align(*given), key=_covered)

    def _keep(self, one: _Content, other: _Content, segments: np.ndarray) -> None:
        self.segments[one][other] = segments
        self.segments[other][one] = segments[:, [*SWAPPED, SCORE]]


def _covered(segments: np.ndarray) -> float:
    """Seconds of the query in some segments."""
    return union_length(segments[:, QUERY_START], segments[:, QUERY_END])


def duplicates(indexes: Sequence[FolderIndex], min_share: float = SHARE) -> Duplicates:
    """The groups of all files of some indexes, of which at least ``min_share`` of each lies in the one to keep."""
    if not 0 < min_share <= 1:
        raise ValueError(f"share = {min_share:g}, expected more than 0 and at most 1")
    answer = Duplicates(min_share)
    with answer.timed("files"):
        contents = _contents(indexes, answer)
    with answer.timed("pairs"):
        searches = [CopySearch(index, choose_aligner(ALIGNER)) for index in indexes]
        pairs = _Pairs(searches, contents, min_share)
        for one in track(contents, label="videos"):
            pairs.find(one)
    with answer.timed("groups"):
        for group in [*_grouped(pairs, min_share)]:
            rows = list(_rows(len(answer.groups) + 1, group, pairs))
            answer.groups += [rows] if len(rows) > 1 else []
    return answer


def _contents(indexes: Sequence[FolderIndex], answer: Duplicates) -> list[_Content]:
    """The contents of all files that are in an index, of each once."""
    paths: dict[str, dict[tuple[int, int], str]] = {}
    absent = 0
    known = [{row["sha256"]: row for row in index.videos().iter_rows(named=True)} for index in indexes]
    for index, rows in zip(indexes, known, strict=True):
        for path in videos_below(index.watched, lambda path, reason: None)[0]:
            try:
                stat, digest = path.stat(), digests.file_digest(path)
            except OSError:
                continue
            answer.files += digest in rows
            absent += digest not in rows
            # two names of one file (links) free nothing: one of them counts
            paths.setdefault(digest, {}).setdefault((stat.st_dev, stat.st_ino), str(path))
    if absent:
        answer.notes.append(f"{count(absent, 'file')} are not in the index, or cannot be read: `videomatch index`")
    found: dict[str, _Content] = {}
    for number, rows in enumerate(known):
        for digest, row in rows.items():
            if digest in paths and digest not in found:
                held = tuple(sorted(paths[digest].values(), key=lambda path: (len(path), path)))
                found[digest] = _Content(digest, number, row["video_id"], held, row["duration"])
    return sorted(found.values(), key=lambda c: (-c.duration, c.sha256))


def _grouped(pairs: _Pairs, least: float) -> Iterator[list[_Content]]:
    """Contents that belong together, the one to keep first, longest first; and those of several files."""
    free = dict.fromkeys(pairs.contents)
    for head in pairs.contents:
        if head not in free:
            continue
        near = [other for other in pairs.segments[head] if other in free]
        for other in [other for other in near if _is_whole(pairs, head, other)]:
            for third in [t for t in pairs.segments[other] if t in free and t is not head and t not in near]:
                pairs.compare(head, third)
                near.append(third)
        kept = max([head, *(other for other in near if _is_whole(pairs, head, other))], key=lambda c: c.quality)
        group = [kept]
        for other in [head, *(other for other in near if pairs.share(other, head) >= least)]:
            if other is not kept:
                pairs.compare(kept, other)
                shorter, longer = sorted((kept, other), key=lambda c: c.duration)
                group += [other] if pairs.share(shorter, longer) >= least else []
        for one in group:
            free.pop(one)
        yield group


def _is_whole(pairs: _Pairs, one: _Content, other: _Content) -> bool:
    return min(pairs.share(one, other), pairs.share(other, one)) >= WHOLE


def _rows(number: int, group: Sequence[_Content], pairs: _Pairs) -> Iterator[Duplicate]:
    """The rows of a group."""
    kept = group[0]
    yield _row(number, kept, kept.path, KEEP, "", kept.path, 1.0, (0.0, kept.duration, 1.0))
    for one in group:
        if one is not kept:
            segments = pairs.segments[one][kept]
            longest = segments[(segments[:, QUERY_END] - segments[:, QUERY_START]).argmax()]
            where = tuple(longest[[REFERENCE_START, REFERENCE_END, SCORE]].tolist())
            kind, share = _kind(pairs, one, kept), pairs.share(one, kept)
            yield _row(number, one, one.path, DELETE if kind == SAME else LOOK, kind, kept.path, share, where)
        for path in one.paths[1:]:
            yield _row(number, one, Path(path), DELETE, IDENTICAL, one.path, 1.0, (0.0, one.duration, 1.0))


def _row(
    number: int,
    content: _Content,
    path: Path,
    suggestion: str,
    kind: str,
    of: Path,
    share: float,
    where: tuple[float, ...],
) -> Duplicate:
    line = content.timeline
    size = (line.width, line.height) if line else (0, 0)
    start, end, score = (round(value, 3) for value in where)
    rate = round(content.bit_rate)
    held = (round(share, 3), start, end, score, round(content.duration, 3))
    return Duplicate(number, suggestion, kind, str(path), str(of), *held, *size, rate, content.size, content.sha256)


def _kind(pairs: _Pairs, one: _Content, kept: _Content) -> str:
    """What a video is to the one that is kept."""
    if pairs.share(one, kept) < WHOLE:
        return EDITED
    if kept.duration - one.duration > max(TRIMMED, (1 - LENGTH) * kept.duration):
        return PART
    return SAME if _is_whole(pairs, one, kept) and _looks_same(one, kept) else EDITED


def _looks_same(one: _Content, other: _Content) -> bool:
    """Whether two videos of one length look the same but for their encoding, in colour: the index knows grey alone."""
    if abs(one.duration - other.duration) > max(TRIMMED, (1 - LENGTH) * other.duration):
        return False
    try:
        first, second = (_parts(c.path, other.duration) for c in (one, other))
    except (Unreadable, OSError, ValueError):
        return False
    shown = min(len(first), len(second))
    apart = np.abs(first[:shown] - second[:shown]).mean(axis=2)
    return shown > 0 and bool(np.median(apart.mean(axis=1)) <= FADED and np.median(apart.max(axis=1)) <= COVERED)


@functools.lru_cache(maxsize=64)
def _parts(path: Path, seconds: float) -> np.ndarray:
    """Mean colours of the parts of some pictures of a video, ``(pictures, parts, 3)`` of 255."""
    every = Fraction(max(seconds, 0.2) / (LOOKS + 1)).limit_denominator(1000)
    chunks = [chunk.values for chunk in Sampler(path, [FrameRequest(every, (SIDE, SIDE))])]
    pictures = np.concatenate(chunks)[1 : LOOKS + 1].astype(np.float64)
    blocks = pictures.reshape(len(pictures), PARTS, SIDE // PARTS, PARTS, SIDE // PARTS, 3).mean(axis=(2, 4))
    return blocks.reshape(len(pictures), PARTS * PARTS, 3)


def freed(groups: Iterable[Sequence[Duplicate]]) -> int:
    """Bytes of the files that are suggested to be deleted."""
    return sum(row.bytes for group in groups for row in group if row.suggestion == DELETE)
