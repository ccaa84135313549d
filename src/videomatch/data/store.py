"""The ragged store: one array of any length for every id, for features and embeddings alike.

An item is an array ``(L, *shape)``: L frames, tokens or experts, or a single embedding. L may be 0 (the expert found
nothing). Ids are any strings; they are never file names. A store is a folder::

    values-00000.npy …   (sum of L, *shape), rolled over at about 1 GiB; an item never crosses two files
    times-00000.npy …    (sum of L, 2) float64, start and end in seconds; only if written with times
    index.parquet        id, shard, offset, length: rows of an item, in the order in which items were added
    store.json           shape, dtype, rows per file, made_by; written last, so a folder without it is not a store

The files are plain ``.npy`` (``np.load(path, mmap_mode="r")`` opens them). :class:`Store` itself reads with ``pread``
straight into the batch. Measured with ``benchmarks/store.py``: 0.6 of the speed of the fastest way to read a memory
map, and the process does not grow with the store (pages read through a map count as resident memory).
"""

import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import polars as pl

from videomatch.common import files
from videomatch.data.tables import read_parquet

FORMAT = 1
INDEX = {"id": pl.String, "shard": pl.Int64, "offset": pl.Int64, "length": pl.Int64}
#: bytes of values after which the next item opens a new file
SHARD_BYTES = 1 << 30
#: files that a store keeps open at once
OPEN_FILES = 128

#: row shape and type of every part of a store
Parts = dict[str, tuple[tuple[int, ...], np.dtype]]


def name_of(part: str, shard: int) -> str:
    """File name of one shard of ``values`` or ``times``."""
    return f"{part}-{shard:05d}.npy"


def write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write an npy header. Its size does not depend on the number of rows: numpy leaves room for 21 digits."""
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": dtype.str})


def _parts(shape: tuple[int, ...], dtype: str, times: bool) -> Parts:
    parts: Parts = {"values": (shape, np.dtype(dtype))}
    return {**parts, "times": ((2,), np.dtype("float64"))} if times else parts


class StoreWriter:
    """Writes a store item by item, as a context manager; only the index is kept in memory. The store exists once the
    block is left without an exception. ``shape`` is that of one row; ``made_by`` are JSON values."""

    def __init__(
        self,
        root: Path,
        *,
        shape: tuple[int, ...],
        dtype: str = "float16",
        made_by: Mapping[str, Any] | None = None,
        times: bool = False,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.root = Path(root)
        if (self.root / "store.json").exists():
            raise FileExistsError(f"{self.root} holds a store already; a store is never written over")
        self.made_by = dict(made_by or {})
        json.dumps(self.made_by)  # what cannot be written is refused before the work, not after it
        self._parts = _parts(tuple(int(n) for n in shape), dtype, times)
        self._row_bytes = np.dtype(dtype).itemsize * math.prod(shape)
        self._shard_bytes = shard_bytes
        self._rows: list[int] = []  # rows of every shard
        self._files: dict[str, IO[bytes]] = {}  # the open files of the last shard
        self._index: dict[str, tuple[int, int, int]] = {}
        self.root.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._close()
        if kind is not None:
            return
        rows = [(i, *where) for i, where in self._index.items()]
        pl.DataFrame(rows, schema=INDEX, orient="row").write_parquet(self.root / "index.parquet", compression="zstd")
        shape, dtype = self._parts["values"]
        about = {
            "format": FORMAT,
            "items": len(self._index),
            "shape": list(shape),
            "dtype": dtype.str,
            "rows": self._rows,
            "times": "times" in self._parts,
            "made_by": self.made_by,
        }
        files.write_json(self.root / "store.json", about)

    def add(self, item_id: str, values: np.ndarray, *, times: np.ndarray | None = None) -> None:
        """Append an item under a new id: values ``(L, *shape)``, converted to the store's type if no value is damaged
        beyond rounding, and times ``(L, 2)`` if the store has them. A ValueError names an item that does not fit."""
        if item_id in self._index:
            raise ValueError(f"{self.root}: id {item_id!r} stands twice")
        item_id.encode()  # a string that is not valid unicode cannot be written to the index
        given = {"values": values} if times is None else {"values": values, "times": times}
        if given.keys() != self._parts.keys():
            raise ValueError(f"{self.root}: id {item_id!r} came with the wrong parts, expected {list(self._parts)}")
        rows = {part: self._fit(item_id, part, np.asarray(array)) for part, array in given.items()}
        lengths = {part: len(array) for part, array in rows.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{self.root}: id {item_id!r} has parts of different lengths: {lengths}")
        self._open_for(lengths["values"])
        self._index[item_id] = (len(self._rows) - 1, self._rows[-1], lengths["values"])
        for part, array in rows.items():
            self._files[part].write(array.reshape(-1).view(np.uint8).data)
        self._rows[-1] += lengths["values"]

    def add_rows(self, ids: Sequence[str], values: np.ndarray) -> None:
        """Append items of one row each, ``(len(ids), *shape)``, to a store without times."""
        if len(values) != len(ids):
            raise ValueError(f"{self.root}: {len(ids)} ids came with {len(values)} rows")
        for item_id, row in zip(ids, values, strict=True):
            self.add(item_id, row[None])

    def _fit(self, item_id: str, part: str, array: np.ndarray) -> np.ndarray:
        """``array`` in the type of ``part``, contiguous, or a ValueError that says why it does not fit."""
        shape, dtype = self._parts[part]
        where = f"{self.root}: {part} of id {item_id!r}"
        if array.shape[1:] != shape or array.ndim != len(shape) + 1:
            raise ValueError(f"{where} have shape {array.shape}, expected (L, {', '.join(map(str, shape))})")
        if array.dtype == dtype or not array.size:
            return np.ascontiguousarray(array, dtype)
        kinds = {"f": "fiub", "i": "iub", "u": "iub"}.get(dtype.kind, dtype.kind)
        if array.dtype.kind not in kinds:
            raise ValueError(f"{where} are {array.dtype}, expected something that becomes {dtype}")
        with np.errstate(over="ignore"):
            fitted = np.ascontiguousarray(array, dtype)
        # float16 ends at 65504: a feature beyond it would silently become infinite
        damaged = fitted != array if dtype.kind != "f" else np.isinf(fitted) & np.isfinite(array)
        if damaged.any():
            raise ValueError(f"{where} hold {array[damaged][0]}, which does not fit {dtype}")
        return fitted

    def _open_for(self, length: int) -> None:
        """Begin a new shard unless the last one has room for so many rows, or is empty."""
        if self._rows and (not self._rows[-1] or (self._rows[-1] + length) * self._row_bytes <= self._shard_bytes):
            return
        self._close()
        self._rows.append(0)
        for part, (shape, dtype) in self._parts.items():
            self._files[part] = (self.root / name_of(part, len(self._rows) - 1)).open("wb")
            write_header(self._files[part], (0, *shape), dtype)

    def _close(self) -> None:
        for part, file in self._files.items():
            file.seek(0)
            shape, dtype = self._parts[part]
            write_header(file, (self._rows[-1], *shape), dtype)
            file.close()
        self._files = {}


#: numpy reads a header as Python's syntax, whose parser counts depth for all threads together (CPython issue 106905)
HEADERS = threading.Lock()


class _NpyFile:
    """An open npy file (closed with the object)."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb", buffering=0)
        try:
            np.lib.format.read_magic(self.file)
            with HEADERS:
                self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(self.file)
        except Exception as error:  # numpy raises whatever a damaged header leads to
            raise ValueError(f"{path}: no header of an array ({error})") from error
        self.start = self.file.tell()

    def check(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """A ValueError unless the file holds exactly ``shape`` of ``dtype``."""
        size = self.start + dtype.itemsize * math.prod(shape)
        found = os.fstat(self.file.fileno()).st_size
        if self.shape != shape or self.dtype != dtype or found != size:
            raise ValueError(
                f"{self.file.name} holds {self.shape} {self.dtype} in {found} bytes, expected {shape} {dtype} in "
                f"{size}: the file does not belong to this store.json, or it is cut"
            )

    def read(self, into: memoryview, offset: int) -> None:
        """Fill ``into`` with the bytes at ``offset`` of the data."""
        done = 0
        while done < len(into):  # one call returns 2 GiB at most
            count = os.preadv(self.file.fileno(), [into[done:]], self.start + offset + done)
            if not count:
                raise ValueError(f"{self.file.name} ends at byte {self.start + offset + done}: it was cut while in use")
            done += count

    def __del__(self) -> None:
        if "file" in vars(self):
            self.file.close()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


#: what ``store.json`` must hold
_ABOUT: dict[str, Callable[[Any], bool]] = {
    "items": _is_count,
    "rows": _is_counts,
    "shape": _is_counts,
    "dtype": lambda value: isinstance(value, str) and re.fullmatch(r"[<>|=]?[bfiu]\d", value) is not None,
    "times": lambda value: isinstance(value, bool),
    "made_by": lambda value: isinstance(value, dict),
}


def _open_index(root: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """``store.json`` and the index of one folder, checked against each other."""
    if not (root / "store.json").is_file():
        raise FileNotFoundError(f"{root} holds no store: there is no store.json (it is written last)")
    about = files.parse_json(files.text_of(root / "store.json"), f"{root}/store.json")
    given = about.get("format") if isinstance(about, dict) else None
    if given != FORMAT:
        raise ValueError(f"{root}/store.json has format {str(given)[:60]}, expected {FORMAT}")
    odd = [name for name, fits in _ABOUT.items() if not fits(about.get(name))]
    if odd:
        raise ValueError(f"{root}/store.json: {odd[0]} is {str(about.get(odd[0]))[:60]}, as in no store")
    frame = read_parquet(root / "index.parquet")
    if frame.schema != pl.Schema(INDEX) or any(frame.null_count().row(0)):
        raise ValueError(f"{root}/index.parquet: columns {dict(frame.schema)}, expected {INDEX}, none empty")
    rows = np.asarray(about["rows"], np.int64)
    shard, offset, length = (frame[c].to_numpy() for c in ("shard", "offset", "length"))
    fits = len(frame) == about["items"] and ((shard >= 0) & (shard < len(rows)) & (offset >= 0) & (length >= 0)).all()
    if fits:
        fits = (
            (offset <= rows[shard]).all()
            and (length <= rows[shard] - offset).all()
            and np.array_equal(np.bincount(shard, weights=length, minlength=len(rows)).astype(np.int64), rows)
        )
    if not fits:
        raise ValueError(
            f"{root}/index.parquet does not fit store.json ({about['items']} items in {rows.tolist()} rows)"
        )
    return about, frame


class Store:
    """A store, or several as one (of disjoint ids and equal parts); read-only, safe to use from threads and forked or
    spawned workers. ``ids`` are in the order in which they were added, root after root; ``lengths`` (N,) are the rows
    of every item."""

    def __init__(self, *roots: Path) -> None:
        self.roots = tuple(Path(r) for r in roots)
        self._file = lru_cache(OPEN_FILES)(self._open_file)
        self._shards: list[tuple[Path, int]] = []  # folder of every shard, and its number there
        self.made_by: list[dict[str, Any]] = []  # of every root
        self._parts: Parts = {}
        frames = []
        for root in self.roots:
            about, frame = _open_index(root)
            parts = _parts(tuple(about["shape"]), about["dtype"], about["times"])
            self._parts = self._parts or parts
            if parts != self._parts:
                raise ValueError(f"{root} holds rows of {parts}, expected {self._parts} as in {self.roots[0]}")
            frames.append(frame.with_columns(pl.col("shard") + len(self._shards)))
            self.made_by.append(about["made_by"])
            for shard, rows in enumerate(about["rows"]):
                self._shards.append((root, shard))
                for part, (shape, dtype) in parts.items():
                    _NpyFile(root / name_of(part, shard)).check((rows, *shape), dtype)
        index = pl.concat(frames)
        self.shape, self.dtype = self._parts["values"]
        self.lengths: np.ndarray = index["length"].to_numpy()
        self._shard, self._offset = index["shard"].to_numpy(), index["offset"].to_numpy()
        self.ids = index["id"].rechunk()  # a fraction of the size of a list
        if self.ids.n_unique() < len(self.ids):
            twice = self.ids.filter(self.ids.is_duplicated())[0]
            raise ValueError(f"id {twice!r} stands twice in {', '.join(map(str, self.roots))}")
        hashes = np.fromiter(map(hash, self.ids), np.int64, len(self))
        self._order = np.argsort(hashes)
        self._hashes = hashes[self._order]

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, self.roots

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, item_id: str) -> bool:
        return bool(self._find([item_id])[0] >= 0)

    def _find(self, ids: Sequence[str]) -> np.ndarray:
        """Positions of ids, -1 for an unknown one; searched by hash, because a dict takes hundreds of bytes each."""
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        ranges = (np.searchsorted(self._hashes, hashes, side).tolist() for side in ("left", "right"))
        found = (
            next((at for at in self._order[first:last].tolist() if self.ids[at] == item_id), -1)
            for item_id, first, last in zip(ids, *ranges, strict=True)
        )
        return np.fromiter(found, np.int64, len(ids))

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """How many rows each of ``ids`` has, ``(n,)``; 0 for an unknown one."""
        return np.array([self.lengths[at] if at >= 0 else 0 for at in self._find(list(ids)).tolist()], np.int64)

    def present(self, ids: Sequence[str], *, single: bool = False) -> list[str]:
        """Those of ``ids`` that have rows, in order; with ``single`` a ValueError names one that has several."""
        lengths = self.rows(ids)
        if single and (lengths > 1).any():
            odd = int((lengths > 1).argmax())
            raise ValueError(f"{self.roots[0]}: {ids[odd]!r} has {lengths[odd]} rows, expected one embedding")
        return [i for i, length in zip(ids, lengths.tolist(), strict=True) if length]

    def __getitem__(self, item_id: str) -> np.ndarray:
        """The values of one item, ``(L, *shape)``."""
        return self.gather([item_id])[0]

    def index(self, ids: Iterable[str]) -> np.ndarray:
        """Positions of ``ids`` in :attr:`ids`. KeyError names the first unknown id."""
        ids = list(ids)
        at = self._find(ids)
        if (at < 0).any():
            where = ", ".join(map(str, self.roots[:3])) + (", …" if len(self.roots) > 3 else "")
            raise KeyError(f"no item {ids[int((at < 0).argmax())]!r} among the {len(self)} of {where}")
        return at

    def gather(
        self, ids: Sequence[str] | pl.Series | np.ndarray, part: str = "values"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Items one below the other: rows ``(sum of L, *shape)`` of ``values`` or ``times``, and the lengths ``(B,)``.
        ``ids`` are B ids, in any order, also repeated; or their positions, an integer array (see :meth:`index`)."""
        if part not in self._parts:
            raise ValueError(f"{self.roots[0]} has no {part}, only {', '.join(self._parts)}")
        at = ids if isinstance(ids, np.ndarray) and ids.dtype.kind == "i" else self.index(ids)
        shape, dtype = self._parts[part]
        rows = np.empty((int(self.lengths[at].sum()), *shape), dtype)
        if len(rows):
            width = rows.nbytes // len(rows)
            into = rows.reshape(-1).view(np.uint8).data
            for shard, offset, begin, count in self._runs(at):
                file = self._file(part, shard)
                file.read(into[begin * width : (begin + count) * width], offset * width)
        return rows, self.lengths[at]

    def times(self, item_id: str) -> np.ndarray:
        """Start and end of every row in seconds, ``(L, 2)``; a ValueError if the store has no times."""
        return self.gather([item_id], "times")[0]

    def _runs(self, at: np.ndarray) -> list[list[int]]:
        """What to read for the items ``at``, in file order: shard, first row there, first row here, number of rows.
        Items that are neighbours both in the file and in the batch are read at once."""
        to = np.cumsum(self.lengths[at]) - self.lengths[at]
        order = np.lexsort((self._offset[at], self._shard[at]))
        order = order[self.lengths[at[order]] > 0]
        shard, offset, counts, to = self._shard[at[order]], self._offset[at[order]], self.lengths[at[order]], to[order]
        breaks = (
            (shard[1:] != shard[:-1]) | (offset[1:] != offset[:-1] + counts[:-1]) | (to[1:] != to[:-1] + counts[:-1])
        )
        first = np.flatnonzero(np.r_[True, breaks])
        return np.stack([shard[first], offset[first], to[first], np.add.reduceat(counts, first)], axis=1).tolist()

    def _open_file(self, part: str, number: int) -> _NpyFile:
        root, shard = self._shards[number]
        return _NpyFile(root / name_of(part, shard))


def expert_store(features: Iterable[Path], expert: str) -> Store:
    """The features of an expert in result folders of ``extract``, at least one of which must have them."""
    roots = [folder / expert for folder in features if (folder / expert).is_dir()]
    if not roots:
        raise ValueError(f"expert {expert!r} is in none of {[str(f) for f in features]}")
    return Store(*roots)
