"""What a library of frames is on the disk: its codec and its parts. See :mod:`retrieval.library`, the only user."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl

from videomatch.common import digests
from videomatch.data.store import Ids, Store

FORMAT = 1
#: how a vector of ``dim`` numbers is kept: a byte, 6 or 4 bits a dimension, or 64 or 32 bytes of a product quantiser
CODECS = ("SQ8", "SQ6", "SQ4", "PQ64", "PQ32")
#: rows a list that the codec is trained on, and bytes of them at most
SAMPLE, SAMPLE_BYTES = 48, 1 << 28
#: rounds of the k-means
ROUNDS = 8
#: rows that are encoded at once
ROWS = 1 << 14


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; zeros stay. (As :func:`retrieval.similarity.normalise`, without loading torch.)"""
    rows = np.asarray(rows, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


@dataclass(frozen=True)
class Codec:
    """How vectors become codes.

    Attributes:
        empty: faiss's inverted file without a row. projection: ``(inputs, dim)``, or None if nothing is left out.
        inputs: dimensions of the vectors that come in. digest: of what is on the disk.
    """

    empty: Any
    projection: np.ndarray | None
    inputs: int
    digest: str = ""

    @property
    def nlist(self) -> int:
        """How many lists there are."""
        return int(self.empty.nlist)

    @property
    def code_size(self) -> int:
        """Bytes of a frame."""
        return int(self.empty.code_size)

    def index(self) -> Any:
        """An empty inverted file to fill."""
        return faiss.clone_index(self.empty)

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Unit vectors ``(n, dim)`` float32."""
        return unit(rows) if self.projection is None else unit(unit(rows) @ self.projection)

    @classmethod
    def train(cls, store: Store, expected: int, dim: int, codec: str, seed: int) -> Codec:
        """Learn projection and lists from frames of randomly drawn videos."""
        if codec not in CODECS:
            raise ValueError(f"no codec {codec!r}; there are {', '.join(CODECS)}")
        if len(store.shape) != 1 or not store.lengths.sum():
            raise ValueError(f"{store.roots[0]}: {int(store.lengths.sum())} rows of shape {store.shape}: expected rows")
        inputs = store.shape[0]
        nlist = 2 ** round(np.log2(2 * np.sqrt(max(1, expected))))
        order = np.random.default_rng(seed).permutation(len(store))
        wanted = min(SAMPLE * nlist, SAMPLE_BYTES // (4 * inputs))
        some = order[: 1 + int(np.searchsorted(np.cumsum(store.lengths[order]), wanted))]
        rows = unit(store.gather(np.sort(some))[0])[: 2 * wanted]
        nlist = int(min(nlist, max(1, len(rows) // 39)))
        projection = None
        if dim < inputs:
            wide = rows.astype(np.float64)
            projection = np.linalg.eigh(wide.T @ wide)[1][:, : -dim - 1 : -1].astype(np.float32)
            rows = unit(rows @ projection)
        empty: Any = faiss.index_factory(min(dim, inputs), f"IVF{nlist},{codec}", faiss.METRIC_INNER_PRODUCT)
        empty.cp.niter, empty.cp.spherical, empty.cp.seed, empty.cp.min_points_per_centroid = ROUNDS, True, seed, 1
        empty.cp.max_points_per_centroid = SAMPLE
        empty.train(rows)
        return cls(empty, projection, inputs)

    def save(self, folder: Path) -> None:
        """Write a folder, whole."""
        new = folder.with_name(f".{folder.name}.new.{os.getpid()}")
        new.mkdir(parents=True)
        faiss.write_index(self.empty, str(new / "lists.faiss"))
        if self.projection is not None:
            np.save(new / "projection.npy", self.projection)
        about = {"format": FORMAT, "inputs": self.inputs, "files": _digests(new)}
        (new / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        new.replace(folder)

    @classmethod
    def load(cls, folder: Path) -> Codec:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is none.
            ValueError: a file is not what was written.
        """
        if not (folder / "about.json").exists():
            raise FileNotFoundError(f"{folder.parent} is no library: it has no codec")
        about = _checked(folder)
        path = folder / "projection.npy"
        projection = np.load(path) if "projection.npy" in about["files"] else None
        empty = faiss.read_index(str(folder / "lists.faiss"))
        return cls(empty, projection, int(about["inputs"]), digests.digest(about))


@dataclass(frozen=True)
class Rows:
    """The frames of the items [first, last) of a store."""

    store: Store
    first: int
    last: int

    def blocks(self, part: str) -> Iterator[np.ndarray]:
        """Rows of a part of the store, some items at a time."""
        ends = np.cumsum(self.store.lengths[self.first : self.last])
        at = self.first
        while at < self.last:
            done = ends[at - self.first - 1] if at > self.first else 0
            to = self.first + int(np.searchsorted(ends, done + ROWS, side="right"))
            to = min(self.last, max(at + 1, to))
            yield self.store.gather(np.arange(at, to), part)[0]
            at = to


def write_part(folder: Path, codec: Codec, rows: Rows, about: dict[str, Any]) -> int:
    """Encode some items of a store as a part; returns how many frames. 0 if the part stands already."""
    target = folder / "parts" / f"{about['store'][:16]}-{about['number']:05d}"
    if (target / "about.json").exists() and _about(target) == {**_about(target), **about, "codec": codec.digest}:
        return 0
    index, count = codec.index(), 0
    for block in rows.blocks("values"):
        if not np.isfinite(block).all():
            raise ValueError(f"{rows.store.roots[0]}: a frame holds a value that is not finite")
        index.add(codec.project(block))
        count += len(block)
    times = np.concatenate([np.zeros((0, 2), np.float32), *rows.blocks("times")]).astype(np.float32)
    places = np.zeros((count, 2), np.int32)  # list of every frame, and where in it
    for number in range(index.nlist):
        ids = _ids(index.invlists, number)
        places[ids, 0], places[ids, 1] = number, np.arange(len(ids))
    new = target.with_name(f".{target.name}.new.{os.getpid()}")
    new.mkdir(parents=True)
    writer = faiss.FileIOWriter(str(new / "lists.faiss"))
    faiss.write_InvertedLists(index.invlists, writer)
    del writer  # closes the file
    np.save(new / "times.npy", times)
    np.save(new / "places.npy", places)
    ids = pl.Series(rows.store.ids[rows.first : rows.last], dtype=pl.String)
    videos = pl.DataFrame({"id": ids, "length": rows.store.lengths[rows.first : rows.last]})
    videos.write_parquet(new / "videos.parquet", compression="zstd")
    said = {"format": FORMAT, "codec": codec.digest, **about, "rows": count, "files": _digests(new)}
    (new / "about.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    if target.exists():  # of another codec
        shutil.rmtree(target)
    new.replace(target)
    return count


class Part:
    """A part that stands, its lists mapped.

    Attributes:
        store: digest of the store that it was made from. rows: frames. ids, lengths, ends: of its videos.
        times: ``(rows, 2)``, s.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.store, self.rows = folder, str(about["store"]), int(about["rows"])
        videos = pl.read_parquet(folder / "videos.parquet")
        self.lengths = videos["length"].to_numpy()
        self.ends = np.cumsum(self.lengths)
        self._videos = Ids(videos["id"])
        self.times = np.load(folder / "times.npy", mmap_mode="r")
        self._places = np.load(folder / "places.npy", mmap_mode="r")
        reader = faiss.FileIOReader(str(folder / "lists.faiss"))
        self._lists: Any = faiss.read_InvertedLists(reader, faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)

    @property
    def ids(self) -> list[str]:
        """Of its videos."""
        return self._videos.column.to_list()

    def locate(self, video_id: str) -> int:
        """Which of its videos that is; -1 for none."""
        return int(self._videos.locate([video_id])[0])

    def copy_to(self, index: Any, base: int) -> None:
        """Add its codes to an inverted file in memory, its frames numbered from ``base`` on."""
        for number in range(index.nlist):
            size = self._lists.list_size(number)
            if size:
                ids = np.ascontiguousarray(_ids(self._lists, number) + base)
                index.invlists.add_entries(number, size, faiss.swig_ptr(ids), self._lists.get_codes(number))
        index.ntotal += self.rows

    @contextlib.contextmanager
    def lent_to(self, index: Any) -> Iterator[None]:
        """An inverted file without lists of its own has this part's for a while."""
        own = index.invlists
        index.own_invlists, index.invlists = False, self._lists
        try:
            yield
        finally:
            index.invlists, index.own_invlists = own, True

    def decode(self, codec: Codec, rows: slice) -> np.ndarray:
        """Vectors of some frames, ``(n, dim)`` float32."""
        places = np.asarray(self._places[rows])
        width = codec.empty.coarse_code_size()
        codes = np.empty((len(places), width + codec.code_size), np.uint8)
        codes[:, :width] = places[:, :1].astype("<i8").view(np.uint8)[:, :width]
        for row, (number, offset) in enumerate(places.tolist()):
            codes[row, width:] = faiss.rev_swig_ptr(self._lists.get_single_code(number, offset), codec.code_size)
        return codec.empty.sa_decode(codes) if len(codes) else np.zeros((0, codec.empty.d), np.float32)


def parts_of(folder: Path, codec: Codec) -> list[Part]:
    """The parts of all stores that were added whole, by name.

    Raises:
        ValueError: a part is damaged, or belongs to another codec.
    """
    said = {path: _about(path) for path in sorted((folder / "parts").glob("[!.]*"))}
    stand: dict[str, int] = {}
    for about in said.values():
        stand[about["store"]] = stand.get(about["store"], 0) + 1
    parts = []
    for path, about in said.items():
        if stand[about["store"]] < about["of"]:
            continue
        if about["codec"] != codec.digest:
            raise ValueError(f"{path} was made with another codec than that of {folder}; remove it and add it again")
        parts.append(Part(path, _checked(path)))
    return parts


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written."""
    for path in (folder / "parts").glob(".*.new.*"):
        number = path.name.rsplit(".", 1)[1]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _ids(lists: Any, number: int) -> np.ndarray:
    """Numbers of the frames of a list."""
    size = lists.list_size(number)
    return faiss.rev_swig_ptr(lists.get_ids(number), size).copy() if size else np.zeros(0, np.int64)


def _digests(folder: Path) -> dict[str, str]:
    return {p.name: digests.file_digest(p) for p in sorted(folder.iterdir())}


def _about(folder: Path) -> dict[str, Any]:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    if about.get("format") != FORMAT:
        raise ValueError(f"{folder}/about.json has format {about.get('format')!r}, expected {FORMAT}")
    return about


def _checked(folder: Path) -> dict[str, Any]:
    """What ``about.json`` says, or a ValueError if a file is another one: faiss believes what files say of
    themselves."""
    about = _about(folder)
    for name, wanted in about["files"].items():
        path = folder / Path(name).name
        if not path.exists() or digests.file_digest(path) != wanted:
            raise ValueError(f"{path} is not the file that was written: remove {folder} and add its store again")
    return about
