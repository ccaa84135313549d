"""An index of frames: which videos of a large corpus show what a query video shows, frame by frame.

Every frame (key frames, as a rule) of every video is a few bytes in an inverted file (:mod:`videomatch.retrieval.ann`).
Each frame of a query finds its nearest frames, these vote for their videos, and those with the most votes on a line,
as the frames of a copy are, are worth aligning.

On the disk::

    codec/          how vectors become codes, trained once: projection to ``dim`` dimensions, centres of the lists
    parts/<name>/   the videos of a store: their codes in lists, their ids and the times of their frames

A part appears whole and never changes: a killed :meth:`FrameIndex.add` leaves the others as they are and is repeated.

A vote is the similarity of a query frame to a frame less a baseline: the similarity to the video that comes
:data:`SHARED`-th among those found, at least 0. So frames that many videos share (black, title cards) weigh nothing. A
query frame is *saturated* if all its nearest frames belong to fewer videos than that; it is searched again more deeply,
and if still saturated, its baseline is the similarity to the last frame found, since no other video is more similar.
The score of a video is the sum of the votes on its best line: of those whose times, at one of the :data:`SPEEDS`,
differ by the same within twice :data:`WIDTH`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl

from videomatch.common import digests, files
from videomatch.common.vectors import blocks, unit_rows
from videomatch.data.store import Store
from videomatch.retrieval import ann

log = logging.getLogger(__name__)

#: nearest frames of a query frame, and the rank among their videos whose similarity is the baseline
NEIGHBOURS, SHARED = 32, 10
#: times as many nearest frames for saturated query frames
DEEPER = 8
#: seconds of a video that pass in a second of its copy, and the half of the width of a line, s
SPEEDS, WIDTH = (0.8, 0.9, 1.0, 1.1, 1.25), 2.0
#: version of the parts; those of another are made again
PARTS = 2
#: query frames that are searched at once, and frames that are encoded at once
QUERIES, ROWS = 1024, 1 << 14


@dataclass(frozen=True)
class Codec:
    """How vectors become codes: by a projection ``(inputs, dim)``, if any, and faiss's inverted file, ``empty``."""

    empty: Any
    projection: np.ndarray | None
    inputs: int
    learned: int
    digest: str

    @classmethod
    def load(cls, folder: Path) -> Codec:
        """Read the codec of an index; raises as :class:`FrameIndex`."""
        if not (folder / "codec").is_dir():
            raise FileNotFoundError(f"{folder} is no index of frames: it has no codec")
        about = ann.checked(folder / "codec")
        projection = np.load(folder / "codec/projection.npy") if "projection.npy" in about["files"] else None
        empty = faiss.read_index(str(folder / "codec/lists.faiss"))
        return cls(empty, projection, int(about["inputs"]), int(about["learned"]), digests.digest([about, PARTS]))

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Unit vectors ``(n, dim)`` float32."""
        rows = _unit(rows)
        return rows if self.projection is None else _unit(rows @ self.projection)


class FrameIndex:
    """An opened index of ``frames``; those that are added later are found once it is opened again. ``ids`` are its
    videos by number, ``learned`` how many frames were there when it was made, ``inputs`` and ``dim`` the dimensions of
    frames that come in and of those that are kept; ``project`` makes query frames comparable with :meth:`features`. A
    query frame is compared with ``nprobe`` of the ``lists``, by default with :func:`probes`.

    Raises:
        FileNotFoundError: there is no index.
        ValueError: a part is damaged, belongs to another codec, or holds a video that another one holds, too.
    """

    def __init__(self, folder: Path, *, nprobe: int | None = None) -> None:
        codec = Codec.load(folder)
        empty, self.folder, self._nprobe = codec.empty, folder, nprobe
        self.lists, self.nprobe = int(empty.nlist), min(int(empty.nlist), nprobe or probes(empty.nlist))
        self.inputs, self.dim, self.project, self.learned = codec.inputs, int(empty.d), codec.project, codec.learned
        self._parts, self._times = [], []
        self._index: Any = faiss.IndexShardsIVF(empty.quantizer, empty.nlist, False, True)
        videos = [pl.DataFrame(schema={"id": pl.String, "length": pl.Int64})]
        for part in _parts(folder):
            about = ann.checked(part)
            if about["codec"] != codec.digest:
                raise ValueError(f"{part} was made with another codec than that of {folder}: remove and add it again")
            lists = ann.read_lists(empty, part / "lists.faiss", about["frames"])
            lists.nprobe = self.nprobe
            lists.make_direct_map()  # where the code of each frame is
            self._index.add_shard(lists)
            self._parts.append(lists)
            self._times.append(_read_times(part))
            videos.append(pl.read_parquet(part / "videos.parquet"))
        self.ids: list[str] = pl.concat(videos)["id"].to_list()
        self._number = {name: number for number, name in enumerate(self.ids)}
        if len(self._number) < len(self.ids):
            raise ValueError(f"{folder}: a video is in two stores; every video is added once")
        self._lengths = pl.concat(videos)["length"].to_numpy()
        self._ends = np.cumsum(self._lengths)  # of each video
        self._starts = np.cumsum([0, *(part.ntotal for part in self._parts)])  # of each part
        self.frames = int(self._starts[-1])

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
        """Make an empty index, its codec (of :data:`videomatch.retrieval.ann.CODECS`) trained on frames of randomly
        chosen videos of ``roots``, which are not added. It may come to hold ``expected`` frames (ten times more or
        fewer do no harm); ``dim`` dimensions of longer vectors are kept, the principal ones, without centring."""
        if (folder / "codec").exists():
            raise FileExistsError(f"{folder} is an index already")
        store = Store(*roots)
        if len(store.shape) != 1 or not store.lengths.sum():
            raise ValueError(f"{roots[0]}: {int(store.lengths.sum())} rows of shape {store.shape}, expected vectors")
        inputs = store.shape[0]
        nlist = ann.lists_for(expected or int(store.lengths.sum()))
        order = np.random.default_rng(seed).permutation(len(store))
        wanted = ann.sample_size(nlist, inputs)
        some = order[: 1 + int(np.searchsorted(np.cumsum(store.lengths[order]), wanted))]
        rows = _unit(store.gather(np.sort(some))[0])[: 2 * wanted]
        nlist = int(min(nlist, max(1, len(rows) // 39)))
        projection = None
        if dim < inputs:
            wide = rows.astype(np.float64)
            projection = np.linalg.eigh(wide.T @ wide)[1][:, : -dim - 1 : -1].astype(np.float32)
            rows = _unit(rows @ projection)
        empty = ann.train(rows, nlist, codec, seed)
        learned = int(store.lengths.sum())
        with ann.written(folder / "codec", {"inputs": inputs, "learned": learned}) as new:
            ann.write_index(empty, new / "lists.faiss")
            if projection is not None:
                np.save(new / "projection.npy", projection)

    @staticmethod
    def add(folder: Path, *roots: Path) -> int:
        """Add the videos of a store, or of several as one, as one part; returns how many frames were new."""
        codec, store = Codec.load(folder), Store(*roots)
        if store.shape != (codec.inputs,):
            raise ValueError(f"{roots[0]}: rows of shape {store.shape}, the index was made for ({codec.inputs},)")
        each = [digests.tree_digest(root) for root in roots]
        part = folder / "parts" / (each[0] if len(each) == 1 else digests.digest(each))[:16]
        files.sweep(part.parent)
        if part.exists():
            return 0
        known = {i for other in _parts(folder) for i in pl.read_parquet(other / "videos.parquet")["id"]}
        twice = next((i for i in store.ids if i in known), None)
        if twice is not None:
            raise ValueError(f"{roots[0]}: video {twice!r} is in the index already, from another store")
        lists, times = faiss.clone_index(codec.empty), [np.zeros((0, 2))]
        for block in blocks(store.lengths, ROWS):
            at = np.arange(block.start, block.stop)
            rows = store.gather(at)[0]
            if not np.isfinite(rows).all():
                raise ValueError(f"{roots[0]}: a frame holds a value that is not finite")
            lists.add(codec.project(rows))
            times.append(store.gather(at, "times")[0])
        videos = pl.DataFrame({"id": store.ids, "length": store.lengths})
        _write(part, codec, lists, np.concatenate(times), videos)
        log.info("%s: %d frames of %d videos added", roots[0], lists.ntotal, len(store))
        return int(lists.ntotal)

    @staticmethod
    def drop_damaged(folder: Path) -> list[str]:
        """Remove the parts that are damaged or of another codec, all if the codec is; returns what was wrong."""
        try:
            codec = Codec.load(folder)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            files.remove(folder)
            return [str(error)]
        found = []
        for part in _parts(folder):
            try:
                if ann.checked(part)["codec"] != codec.digest:
                    raise ValueError(f"{part} was made with another codec")
            except (OSError, ValueError) as error:
                found.append(str(error))
                _remove(part)
        return found

    @staticmethod
    def remove(folder: Path, ids: Collection[str]) -> None:
        """Remove videos. Each part that holds some is written again from its codes."""
        codec = Codec.load(folder)
        for part in _parts(folder):
            about, videos = ann.checked(part), pl.read_parquet(part / "videos.parquet")
            keep = ~videos["id"].is_in(list(ids))
            if keep.all():
                continue
            kept, rows = videos.filter(keep), np.flatnonzero(np.repeat(keep.to_numpy(), videos["length"].to_numpy()))
            if not len(kept):
                _remove(part)
                continue
            old = ann.read_lists(codec.empty, part / "lists.faiss", about["frames"])
            old.make_direct_map()
            lists = faiss.clone_index(codec.empty)
            for start in range(0, len(rows), ROWS):
                lists.add(old.reconstruct_batch(rows[start : start + ROWS]))
            _write(part, codec, lists, _read_times(part)[rows], kept)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(FrameIndex, nprobe=self._nprobe), (self.folder,)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, video_id: str) -> bool:
        return video_id in self._number

    def search(
        self,
        features: np.ndarray,
        times: np.ndarray,
        top: int = 10,
        *,
        min_votes: float = 0.0,
        exclude: Collection[str] = (),
    ) -> list[tuple[str, float]]:
        """Videos that the frames ``(Q, D)`` of one query, from when to when ``(Q, 2)``, vote for by more than
        ``min_votes``, but not ``exclude``, and scores, best first."""
        query, frame, vote, is_saturated = self._votes(features, NEIGHBOURS, exclude)
        if is_saturated.any():
            keep = ~is_saturated[query]
            again, *deeper, _ = self._votes(features[is_saturated], DEEPER * NEIGHBOURS, exclude)
            found = (query[keep], frame[keep], vote[keep]), (np.flatnonzero(is_saturated)[again], *deeper)
            query, frame, vote = (np.concatenate(both) for both in zip(*found, strict=True))
        query, frame, vote = (values[vote > 0] for values in (query, frame, vote))
        found, video = np.unique(self.owners(frame), return_inverse=True)
        moments = np.mean(times, axis=1)[query], self.times(frame).mean(axis=1)
        scores = _on_lines(*moments, video, vote, len(found))
        order = np.lexsort((found, -scores))[:top]
        return [(self.ids[found[n]], float(scores[n])) for n in order if scores[n] > min_votes]

    def _votes(
        self, features: np.ndarray, neighbours: int, exclude: Collection[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Query frame, frame and vote of every pair of them, and which query frames ``(Q,)`` are saturated."""
        similarity, frame = self.neighbours(features, neighbours, exclude)
        query = np.repeat(np.arange(len(similarity)), neighbours)
        is_full = (frame >= 0).all(axis=1)
        value, frame = similarity.ravel(), frame.ravel()
        video = self.owners(frame)
        hit = video >= 0
        query, value, video, frame = query[hit], value[hit], video[hit], frame[hit]
        # nearest frames come first: the first of a (query frame, video) is its similarity
        first = np.sort(np.unique(query * (len(self) + 1) + video, return_index=True)[1])
        starts = np.searchsorted(query[first], np.arange(len(similarity) + 1))
        baseline = np.where(is_full, similarity[:, -1], 0)
        is_known = np.diff(starts) >= SHARED
        baseline[is_known] = value[first[starts[:-1][is_known] + SHARED - 1]]
        baseline = np.maximum(0, baseline)
        return query, frame, np.maximum(value - baseline[query], 0), is_full & ~is_known

    def neighbours(
        self, features: np.ndarray, count: int, exclude: Collection[str] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosines ``(Q, count)`` and numbers of each query frame's nearest frames, nearest first, but not of videos to
        ``exclude``; -1: no more."""
        features = np.asarray(features, np.float32)
        if features.ndim != 2 or features.shape[1] != self.inputs or not np.isfinite(features).all():
            raise ValueError(f"a query of shape {features.shape}, expected finite (frames, {self.inputs})")
        similarity = np.full((len(features), count), -np.inf, np.float32)
        frame = np.full((len(features), count), -1)
        search = self._search_but({self._number[i] for i in exclude if i in self._number})
        for start in range(0, len(features) if self._parts else 0, QUERIES):
            at = slice(start, start + QUERIES)
            similarity[at], frame[at] = search(self.project(features[at]), count)
        return similarity, frame

    def _search_but(self, videos: Collection[int]) -> Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]:
        """The search of all frames but those of some videos: part by part, as faiss's shards take no selection."""
        if not videos:
            return self._index.search
        is_wanted = np.repeat(~np.isin(np.arange(len(self)), list(videos)), self._lengths)
        bits = (np.packbits(part, bitorder="little") for part in np.split(is_wanted, self._starts[1:-1]))
        how = [faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(part), nprobe=self.nprobe) for part in bits]

        def search(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
            found = [part.search(rows, count, params=given) for part, given in zip(self._parts, how, strict=True)]
            similarity, frame = (np.stack(each) for each in zip(*found, strict=True))
            frame += np.where(frame < 0, 0, self._starts[:-1, None, None])
            return faiss.merge_knn_results(similarity, frame, keep_max=True)

        return search

    def owners(self, frames: np.ndarray) -> np.ndarray:
        """Number of the video that each frame belongs to; -1 for -1."""
        return np.where(frames < 0, -1, np.searchsorted(self._ends, frames, side="right"))

    def rows(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames by number, as their codes have them, ``(n, dim)``, and start and end of each, s."""
        unique, at = np.unique(frames, return_inverse=True)
        rows = np.zeros((len(unique), self.dim), np.float32)
        for number, here, inside in self._by_part(unique):
            rows[here] = self._parts[number].reconstruct_batch(inside)
        return rows[at], self.times(frames)

    def times(self, frames: np.ndarray) -> np.ndarray:
        """Start and end ``(n, 2)`` of frames by number, s."""
        times = np.zeros((len(frames), 2))
        for number, here, inside in self._by_part(frames):
            times[here] = self._times[number][inside]
        return times

    def _by_part(self, frames: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Each part that holds some of the frames, which of them, and their numbers in it."""
        of_part = np.searchsorted(self._starts, frames, side="right") - 1
        for number in np.unique(of_part).tolist():
            here = of_part == number
            yield number, here, frames[here] - self._starts[number]

    def same_time(self, frame: int) -> np.ndarray:
        """Numbers of all rows of a video that begin when row number ``frame`` does: it has many of one picture."""
        video = int(self.owners(np.array(frame)))
        part = int(np.searchsorted(self._starts, frame, side="right")) - 1
        first, end = int(self._ends[video] - self._lengths[video]), int(self._ends[video])
        starts = self._times[part][first - self._starts[part] : end - self._starts[part], 0]
        at = starts[frame - first]
        return first + np.arange(np.searchsorted(starts, at), np.searchsorted(starts, at, side="right"))

    def features(self, video_id: str) -> tuple[np.ndarray, np.ndarray]:
        """The frames of a video as their codes have them, ``(L, dim)``, and start and end of each, s."""
        number = self._number[video_id]
        length, end = int(self._lengths[number]), int(self._ends[number])
        if not length:
            return np.zeros((0, self.dim), np.float32), np.zeros((0, 2))
        return self.rows(np.arange(end - length, end))


def _on_lines(query: np.ndarray, reference: np.ndarray, video: np.ndarray, vote: np.ndarray, videos: int) -> np.ndarray:
    """The most votes on a line of each of so many videos; times are in s."""
    scores = np.zeros(videos)
    for speed in SPEEDS if len(vote) else ():
        place = np.floor((reference - speed * query) / WIDTH).astype(np.int64)
        place -= place.min()
        span = int(place.max()) + 2
        line, at = np.unique(np.concatenate([video * span + place, video * span + place + 1]), return_inverse=True)
        np.maximum.at(scores, line // span, np.bincount(at, np.tile(vote, 2)))
    return scores


def probes(nlist: int) -> int:
    """How many of so many lists a query frame is compared with."""
    return max(32, nlist // 64)


def compared(frames: int, lists: int, nprobe: int) -> float:
    """How many vectors a query frame is compared with: the centres of all lists, and the frames of ``nprobe``."""
    return lists + frames * min(1.0, nprobe / lists)


def _unit(rows: np.ndarray) -> np.ndarray:
    return unit_rows(np.asarray(rows, np.float32), np.float32)


def _write(part: Path, codec: Codec, lists: Any, times: np.ndarray, videos: pl.DataFrame) -> None:
    with ann.written(part, {"codec": codec.digest, "frames": lists.ntotal}) as new:
        ann.write_lists(lists, new / "lists.faiss")
        _write_times(times, new)
        videos.write_parquet(new / "videos.parquet", compression="zstd")


def _write_times(times: np.ndarray, part: Path) -> None:
    """Starts and ends ``(n, 2)`` of frames, s, as whole microseconds since the frame before and lengths: most of them
    are equal, and take next to no room."""
    start, end = np.round(1e6 * times).astype(np.int64).T
    table = pl.DataFrame({"step": np.diff(start, prepend=0), "length": end - start})
    table.write_parquet(part / "times.parquet", compression="zstd")


def _read_times(part: Path) -> np.ndarray:
    step, length = pl.read_parquet(part / "times.parquet").to_numpy().T
    start = np.cumsum(step)
    return (np.stack([start, start + length], axis=1) / 1e6).astype(np.float32)


def _remove(part: Path) -> None:
    """Remove a part at once: what a kill leaves of it has a hidden name."""
    part.rename(hidden := files.unfinished(part))
    files.remove(hidden)


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / "parts").glob("[!.]*"))
