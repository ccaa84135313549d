"""A library of frames: which videos of a large corpus show what a query video shows, frame by frame.

Every frame (key frames, as a rule: :mod:`localisation.keyframes`) of every video lies in one inverted file in few bytes
(Sivic and Zisserman 2003, "Video Google"; Douze et al. 2024, arXiv:2401.08281). Each frame of a query finds its nearest
frames, these vote for their videos, and the videos with the most votes are what is worth aligning.

On the disk::

    codec/          how vectors become codes, trained once: projection to ``dim`` dimensions, centres of the lists
    parts/<name>/   some videos of one store: their codes in lists, ids, times and where each frame's code lies

A store is added in parts of at most :data:`PART_ROWS` frames. A part is written beside and renamed, and never changes:
a kill loses the part at work, and adding the same store again goes on behind those that stand. A store counts once all
its parts stand. Frames of other stores are not touched.

A vote
    The similarity of a frame is that of the nearest frame of a video, less what is common: the similarity to the video
    that comes ``common``-th among those found, :data:`FLOOR` at least. Where the frames of fewer videos take all
    places, however deep it looks, that is the similarity of the last of them: the ``common``-th video is no more alike.
    Black frames and title cards, which are alike in many videos, so weigh nothing (as score normalisation does; see
    :mod:`videomatch.retrieval.score_normalisation`). The score of a video is the sum over the query's frames.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from videomatch.common import digests
from videomatch.data.store import Store
from videomatch.retrieval.library_parts import CODECS, Codec, Part, Rows, parts_of, sweep, write_part

__all__ = ["CODECS", "Candidate", "Library"]
log = logging.getLogger(__name__)

#: frames of a part at most
PART_ROWS = 1 << 18
#: neighbours of a query frame, and the rank among their videos from which on a similarity is common
NEIGHBOURS, COMMON = 32, 10
#: times as many neighbours, for query frames whose neighbours all belong to fewer videos than that
DEEPER = 8
#: similarity that never is a vote
FLOOR = 0.0
#: query frames that are searched at once
QUERIES = 1024
#: bytes of codes up to which they are read into memory when the library is opened; more stay mapped, which takes about
#: twice as long to search
MEMORY = 1 << 30


@dataclass(frozen=True)
class Candidate:
    """A video that may share something with the query: its id, its score and how many query frames voted for it."""

    reference: str
    score: float
    frames: int


class Library:
    """An opened library; what is added later is seen by :meth:`open` again.

    Attributes:
        folder: where it lies. codec: how vectors become codes. nprobe: lists that a query frame looks into.
        ids: of all videos, by number.
    """

    def __init__(self, folder: Path, *, memory: int = MEMORY, nprobe: int | None = None) -> None:
        """Open a library.

        Args:
            folder: of :meth:`create`.
            memory: bytes of codes that may be read into memory.
            nprobe: lists that a query frame looks into; a sixty-fourth of all by default, at least 32.

        Raises:
            FileNotFoundError: there is no library.
            ValueError: a part is damaged, belongs to another codec, or holds a video that another one holds, too.
        """
        self.folder, self.codec = folder, Codec.load(folder / "codec")
        self.nprobe = min(self.codec.nlist, nprobe or max(32, self.codec.nlist // 64))
        self._parts = parts_of(folder, self.codec)
        self.ids: list[str] = [i for part in self._parts for i in part.ids]
        if len(set(self.ids)) < len(self.ids):
            raise ValueError(f"{folder}: a video stands in two stores; every video is added once")
        # part after part: the number of each one's first video, each video's first frame, and each part's first frame
        self._firsts = np.cumsum([0, *(len(p.ids) for p in self._parts)])
        self._bases = np.cumsum([0, *(p.rows for p in self._parts)])
        self._lengths = np.concatenate([np.zeros(0, np.int64), *(p.lengths for p in self._parts)])
        self._ends = np.cumsum(self._lengths)
        self._index = self._stacked(memory)

    @classmethod
    def create(
        cls,
        folder: Path,
        roots: Sequence[Path],
        *,
        expected: int | None = None,
        dim: int = 256,
        codec: str = "SQ8",
        seed: int = 0,
    ) -> None:
        """Make an empty library, its codec trained on frames drawn from some stores.

        Args:
            folder: for the library.
            roots: stores of vectors to learn from; they are not added.
            expected: frames that the library may come to hold; those of ``roots`` by default. Ten times more or fewer
                do no harm.
            dim: dimensions that are kept of longer vectors (the principal ones, without centring).
            codec: one of :data:`CODECS`.
            seed: of the draw.

        Raises:
            FileExistsError: there is a library.
            ValueError: an unknown codec, or nothing to learn from.
        """
        if (folder / "codec").exists():
            raise FileExistsError(f"{folder} is a library already")
        store = Store.open(*roots)
        made = Codec.train(store, expected or int(store.lengths.sum()), dim, codec, seed)
        made.save(folder / "codec")

    @property
    def frames(self) -> int:
        """How many frames it holds."""
        return int(self._bases[-1])

    def __len__(self) -> int:
        return len(self.ids)

    # ------------------------------------------------------------------------------------------------------- adding

    @staticmethod
    def add(folder: Path, *roots: Path) -> int:
        """Add the videos of a store; returns how many frames were encoded (0: all stood already).

        Args:
            folder: of the library.
            roots: a store, or several that are added, and taken out, as one: fewer and larger parts.

        Raises:
            FileNotFoundError: no library, or no store.
            ValueError: the store does not fit the codec, has no times, or holds a video of another store.
        """
        codec, store = Codec.load(folder / "codec"), Store.open(*roots)
        if store.shape != (codec.inputs,):
            raise ValueError(f"{roots[0]}: rows of shape {store.shape}, the library was made for ({codec.inputs},)")
        sweep(folder)
        digest = _digest(roots)
        others = {i for part in parts_of(folder, codec) if part.store != digest for i in part.ids}
        twice = next((i for i in store.ids if i in others), None)
        if twice is not None:
            raise ValueError(f"{roots[0]}: video {twice!r} is in the library already, from another store")
        cut = list(_cut(store.lengths))
        encoded = 0
        for number, (first, last) in enumerate(cut):
            about = {"store": digest, "number": number, "of": len(cut)}
            encoded += write_part(folder, codec, Rows(store, first, last), about)
        log.info("%s: %d frames of %d videos added", roots[0], encoded, len(store))
        return encoded

    @staticmethod
    def remove(folder: Path, *roots: Path) -> int:
        """Take out the parts of a store (or of several that were added as one); returns how many there were."""
        digest = _digest(roots)
        found = sorted((folder / "parts").glob(f"{digest[:16]}-*"))
        for part in found:
            gone = part.with_name(f".{part.name}.new.{os.getpid()}")
            part.replace(gone)
            shutil.rmtree(gone)
        return len(found)

    # ---------------------------------------------------------------------------------------------------- searching

    def search(
        self,
        features: np.ndarray,
        top: int = 10,
        *,
        neighbours: int = NEIGHBOURS,
        common: int = COMMON,
        exclude: Collection[str] = (),
    ) -> list[Candidate]:
        """The videos that the frames of one query vote for, most votes first; of equal ones the one added first.

        Args:
            features: ``(Q, D)`` frames of the query, of any length.
            top: videos at most.
            neighbours: frames that each query frame finds.
            common: rank of the video whose similarity counts as common.
            exclude: ids that do not count (the query itself).

        Raises:
            ValueError: frames that do not fit the library.
        """
        out = np.array([n for n, i in enumerate(self.ids) if i in set(exclude)], np.int64)
        features = np.asarray(features, np.float32)
        query, value, video, usual, is_deaf = self._heard(features, neighbours, common, out)
        # where still pictures of a few videos take all places, nobody knows yet what is common
        deaf = np.flatnonzero(is_deaf)
        if len(deaf):
            keep = ~np.isin(query, deaf)
            more = self._heard(features[deaf], DEEPER * neighbours, common, out)
            query = np.concatenate([query[keep], deaf[more[0]]])
            value, video = np.concatenate([value[keep], more[1]]), np.concatenate([video[keep], more[2]])
            usual[deaf] = more[3]
        votes = np.maximum(value - usual[query], 0)
        found, at = np.unique(video[votes > 0], return_inverse=True)
        scores = np.bincount(at, votes[votes > 0], len(found))
        frames = np.bincount(at, minlength=len(found))
        order = np.lexsort((found, -scores))[:top]
        return [Candidate(self.ids[found[n]], float(scores[n]), int(frames[n])) for n in order]

    def _heard(
        self, features: np.ndarray, neighbours: int, common: int, out: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of query frame and video with their similarity, three arrays; and ``(Q,)`` what is common to a frame,
        and whether fewer videos than that take all places: it is the last one's similarity then, as what did not come
        up is no more alike."""
        similarity, frame = self.neighbours(features, neighbours)
        query = np.repeat(np.arange(len(similarity)), neighbours)
        value, video = similarity.ravel(), self.owners(frame.ravel())
        full = (video.reshape(-1, neighbours) >= 0).all(axis=1)
        found = (video >= 0) & ~np.isin(video, out)
        query, value, video = query[found], value[found], video[found]
        # neighbours come nearest first: the first of a (query frame, video) is its similarity
        first = np.sort(np.unique(query * (len(self) + 1) + video, return_index=True)[1])
        query, value, video = query[first], value[first], video[first]
        starts = np.searchsorted(query, np.arange(len(similarity) + 1))
        usual = np.maximum(FLOOR, np.where(full, similarity[:, -1], FLOOR))
        is_known = np.diff(starts) >= common
        many = np.flatnonzero(is_known)
        usual[many] = np.maximum(FLOOR, value[starts[many] + common - 1])
        return query, value, video, usual, full & ~is_known

    def neighbours(self, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines ``(Q, count)`` and numbers of the nearest frames of each query frame, nearest first; -1 is none."""
        features = np.asarray(features, np.float32)
        if features.ndim != 2 or features.shape[1] != self.codec.inputs or not np.isfinite(features).all():
            raise ValueError(f"a query of shape {features.shape}, expected finite (frames, {self.codec.inputs})")
        blocks = [self.codec.project(features[n : n + QUERIES]) for n in range(0, len(features), QUERIES)]
        parameters = faiss.SearchParametersIVF(nprobe=self.nprobe)  # pyright: ignore[reportCallIssue]
        found = [self._index.search(block, count, params=parameters) for block in blocks]
        none: tuple[Any, Any] = (np.zeros((0, count), np.float32), np.zeros((0, count), np.int64))
        return np.concatenate([none[0], *(f[0] for f in found)]), np.concatenate([none[1], *(f[1] for f in found)])

    def owners(self, frames: np.ndarray) -> np.ndarray:
        """Number of the video that each frame belongs to; -1 for -1."""
        return np.where(frames < 0, -1, np.searchsorted(self._ends, frames, side="right"))

    def features(self, video_id: str) -> tuple[np.ndarray, np.ndarray]:
        """The frames of a video as their codes have them, ``(L, dim)``, and start and end of each, s.

        Raises:
            KeyError: it is not in the library.
        """
        for part in self._parts:
            at = part.locate(video_id)
            if at >= 0:
                rows = slice(int(part.ends[at] - part.lengths[at]), int(part.ends[at]))
                return part.decode(self.codec, rows), part.times[rows].astype(np.float64)
        raise KeyError(f"no video {video_id!r} among the {len(self)} of {self.folder}")

    def project(self, features: np.ndarray) -> np.ndarray:
        """Query frames as unit vectors of the library's own dimensions, to be held against :meth:`features`."""
        return self.codec.project(np.asarray(features, np.float32))

    def _stacked(self, memory: int) -> Any:
        """One inverted file of all parts: read into memory, or over the mapped parts."""
        index = self.codec.index()
        if self.frames * self.codec.code_size <= memory:
            for part, base in zip(self._parts, self._bases, strict=False):
                part.copy_to(index, int(base))
        else:
            index = _Mapped(index, self._parts, self._bases)
        return index


class _Mapped:
    """The parts one after the other, the nearest of all kept: what :data:`MEMORY` does not hold."""

    def __init__(self, index: Any, parts: Sequence[Part], bases: np.ndarray) -> None:
        self._index, self._parts, self._bases = index, parts, bases
        self._lock = threading.Lock()

    def search(self, queries: np.ndarray, count: int, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """As faiss's; the lists to look into are chosen once for all parts."""
        distance, lists = self._index.quantizer.search(queries, params.nprobe)
        self._index.nprobe = params.nprobe
        values = np.full((len(queries), count), -np.inf, np.float32)
        frames = np.full((len(queries), count), -1)
        for part, base in zip(self._parts, self._bases, strict=False):
            with self._lock, part.lent_to(self._index):
                near, at = self._index.search_preassigned(queries, count, lists, distance)
            values = np.concatenate([values, np.where(at < 0, -np.inf, near)], axis=1)
            frames = np.concatenate([frames, np.where(at < 0, -1, at + base)], axis=1)
            order = np.argsort(-values, axis=1, kind="stable")[:, :count]
            values, frames = np.take_along_axis(values, order, 1), np.take_along_axis(frames, order, 1)
        return values, frames


def _digest(roots: Sequence[Path]) -> str:
    """Of a store, or of several in this order."""
    each = [digests.tree_digest(root) for root in roots]
    return each[0] if len(each) == 1 else digests.digest(each)


def _cut(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Items [first, last) of every part: so many frames as a part may have, one item at least."""
    first, rows = 0, 0
    for number, length in enumerate(lengths.tolist()):
        if number > first and rows + length > PART_ROWS:
            yield first, number
            first, rows = number, 0
        rows += length
    if first < len(lengths):
        yield first, len(lengths)
