"""The ragged store: one array of any length for every id, for features and embeddings alike.

An item is an array ``(L, *shape)``: L frames, tokens or experts, or a single embedding. L may be 0 (the expert found
nothing). Ids are any strings; they are never file names. A store is a folder::

    values-00000.npy …   (sum of L, *shape), rolled over at about 1 GiB; an item never crosses two files
    times-00000.npy …    (sum of L, 2) float64, start and end in seconds; only if written with times
    weights-00000.npy …  (sum of L,) float32; only if written with weights
    index.parquet        id, shard, offset, length: rows of an item, in the order in which items were added
    store.json           shape, dtype, rows per file, made_by; written last, so a folder without it is no store

The files are plain ``.npy`` (``np.load(path, mmap_mode="r")`` opens them). :class:`Store` itself reads with ``pread``
straight into the batch: it is as fast as fancy indexing of a memory map, and the process does not grow with the store
(pages touched through a map count as resident memory, those of the page cache do not); see ``benchmarks/store.py``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import polars as pl

from videomatch.data.ids import Ids
from videomatch.data.storefiles import FORMAT, INDEX, NpyFile, Parts, name_of, open_index, parts_of, write_header

#: bytes of values after which the next item opens a new file
SHARD_BYTES = 1 << 30
#: files that a store keeps open at once
OPEN_FILES = 128


class StoreWriter:
    """Writes a store item by item; nothing is kept in memory but the index.

    Use as a context manager. The store exists once the block is left without an exception; after one, the files written
    so far are removed.

    Args:
        root: folder of the store; made if missing. It must not hold a store already.
        shape: shape of one row, e.g. ``(1536,)``.
        dtype: numpy name of the values' type.
        made_by: what made the store (extractor, parameters, …): JSON values, kept in ``store.json``.
        times: every item comes with times ``(L, 2)``, seconds.
        weights: every item comes with weights ``(L,)``.
        shard_bytes: bytes of values after which the next item opens a new file.
    """

    def __init__(
        self,
        root: Path,
        *,
        shape: tuple[int, ...],
        dtype: str = "float16",
        made_by: Mapping[str, Any] | None = None,
        times: bool = False,
        weights: bool = False,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.root = Path(root)
        if (self.root / "store.json").exists():
            raise FileExistsError(f"{self.root} holds a store already; a store is never written over")
        self.shape = tuple(int(n) for n in shape)
        if any(n < 1 for n in self.shape):
            raise ValueError(f"{self.root}: shape {self.shape} of a row, expected sizes of at least 1")
        if np.dtype(dtype).hasobject:
            raise ValueError(f"{self.root}: dtype {dtype!r}, expected a plain number type")
        self.dtype = np.dtype(dtype)
        self.made_by = dict(made_by or {})
        json.dumps(self.made_by)  # what cannot be written is refused before the work, not after it
        self._parts = parts_of(self.shape, self.dtype.str, times, weights)
        self._row_bytes = self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        self._shard_bytes = shard_bytes
        self._rows: list[int] = []  # rows of every shard
        self._files: dict[str, IO[bytes]] = {}  # the open files of the last shard
        self._index: dict[str, tuple[int, int, int]] = {}
        self.root.mkdir(parents=True, exist_ok=True)
        self._clear()  # what a killed writer left

    def _clear(self) -> None:
        for path in [p for part in ("values", "times", "weights") for p in self.root.glob(f"{part}-*.npy")]:
            path.unlink()
        for name in ("index.parquet", "store.json.part"):
            (self.root / name).unlink(missing_ok=True)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        else:
            for file in self._files.values():
                file.close()
            self._clear()

    def add(
        self, item_id: str, values: np.ndarray, *, times: np.ndarray | None = None, weights: np.ndarray | None = None
    ) -> None:
        """Append an item.

        Args:
            item_id: any string that was not added before.
            values: ``(L, *shape)``; converted to the store's type if no value is damaged by it beyond rounding.
            times: ``(L, 2)`` start and end in seconds, if and only if the store has times.
            weights: ``(L,)``, if and only if the store has weights.

        Raises:
            ValueError: a shape, a type or an id does not fit; the message names the item.
        """
        if item_id in self._index:
            raise ValueError(f"{self.root}: id {item_id!r} stands twice")
        item_id.encode()  # a string that is no valid unicode cannot be written to the index
        given = {"values": values, "times": times, "weights": weights}
        odd = [part for part, array in given.items() if (array is not None) != (part in self._parts)]
        if odd:
            raise ValueError(f"{self.root}: id {item_id!r} came with the wrong parts, expected {list(self._parts)}")
        rows = {part: self._fit(item_id, part, np.asarray(given[part])) for part in self._parts}
        length = len(rows["values"])
        if {len(r) for r in rows.values()} != {length}:
            lengths = {part: len(r) for part, r in rows.items()}
            raise ValueError(f"{self.root}: id {item_id!r} has parts of different lengths: {lengths}")
        used = self._rows[-1] * self._row_bytes if self._rows else 0
        if not self._rows or (used and used + length * self._row_bytes > self._shard_bytes):
            self._roll()
        self._index[item_id] = (len(self._rows) - 1, self._rows[-1], length)
        for part, array in rows.items():
            self._files[part].write(array.reshape(-1).view(np.uint8).data)
        self._rows[-1] += length

    def add_rows(self, ids: Sequence[str], values: np.ndarray) -> None:
        """Append items of one row each, ``(len(ids), *shape)``, to a store without times and weights. The same as
        :meth:`add` with each of them, in fewer steps: a file takes all the rows that it has room for at once.

        Raises:
            ValueError: as of :meth:`add`.
        """
        if list(self._parts) != ["values"]:
            raise ValueError(f"{self.root}: rows came with the wrong parts, expected {list(self._parts)}")
        rows = self._fit(f"{ids[0]} …" if len(ids) else "", "values", np.asarray(values))
        if len(rows) != len(ids):
            raise ValueError(f"{self.root}: {len(ids)} ids came with {len(rows)} rows")
        if len(set(ids)) < len(ids) or not self._index.keys().isdisjoint(ids):
            twice = Counter([*ids, *(i for i in ids if i in self._index)]).most_common(1)[0][0]
            raise ValueError(f"{self.root}: id {twice!r} stands twice")
        "".join(ids).encode()
        done = 0
        while done < len(ids):
            used = self._rows[-1] * self._row_bytes if self._rows else 0
            if not self._rows or (used and used + self._row_bytes > self._shard_bytes):
                self._roll()
            room = max(1, self._shard_bytes // self._row_bytes - self._rows[-1])
            some = ids[done : done + room]
            shard, first = len(self._rows) - 1, self._rows[-1]
            self._index |= {item_id: (shard, first + n, 1) for n, item_id in enumerate(some)}
            self._files["values"].write(rows[done : done + len(some)].reshape(-1).view(np.uint8).data)
            self._rows[-1] += len(some)
            done += len(some)

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

    def _roll(self) -> None:
        self._close()
        self._rows.append(0)
        for part, (shape, dtype) in self._parts.items():
            file = (self.root / name_of(part, len(self._rows) - 1)).open("wb")
            self._files[part] = file
            write_header(file, (0, *shape), dtype)

    def _close(self) -> None:
        for part, file in self._files.items():
            file.seek(0)
            shape, dtype = self._parts[part]
            write_header(file, (self._rows[-1], *shape), dtype)
            file.close()
        self._files = {}

    def _finish(self) -> None:
        self._close()
        rows = [(i, *where) for i, where in self._index.items()]
        pl.DataFrame(rows, schema=INDEX, orient="row").write_parquet(self.root / "index.parquet", compression="zstd")
        about = {
            "format": FORMAT,
            "items": len(self._index),
            "shape": list(self.shape),
            "dtype": self.dtype.str,
            "rows": self._rows,
            "times": "times" in self._parts,
            "weights": "weights" in self._parts,
            "made_by": self.made_by,
        }
        part = self.root / "store.json.part"
        part.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        part.replace(self.root / "store.json")


class Store:
    """A store, or several as one; read-only, safe to use from threads and forked or spawned workers.

    Attributes:
        shape, dtype: of one row of values.
        lengths: ``(N,)`` rows of every item.
        made_by: what made the store, one mapping a root.
    """

    def __init__(self, *roots: Path) -> None:
        if not roots:
            raise ValueError("a store needs at least one folder")
        self.roots = tuple(Path(r) for r in roots)
        self._files: dict[tuple[str, int], NpyFile] = {}
        self._parts: list[Parts] = []  # of every root
        self._shards: list[tuple[int, int]] = []  # (root, number in that root) of every shard
        self.made_by: list[dict[str, Any]] = []
        frames = []
        for number, root in enumerate(self.roots):
            about, frame = open_index(root)
            parts = parts_of(tuple(about["shape"]), about["dtype"], about["times"], about["weights"])
            if self._parts and parts["values"] != self._parts[0]["values"]:
                raise ValueError(
                    f"{root} holds rows of {parts['values']}, expected {self._parts[0]['values']} as in {self.roots[0]}"
                )
            frames.append(frame.with_columns(pl.col("shard") + len(self._shards)))
            self._parts.append(parts)
            self.made_by.append(about["made_by"])
            for shard, rows in enumerate(about["rows"]):
                self._shards.append((number, shard))
                for part, (shape, dtype) in parts.items():
                    NpyFile(root / name_of(part, shard)).check((rows, *shape), dtype)
        index = pl.concat(frames)
        self.shape, self.dtype = self._parts[0]["values"]
        self.lengths: np.ndarray = index["length"].to_numpy()
        self._shard, self._offset = index["shard"].to_numpy(), index["offset"].to_numpy()
        try:
            self._ids = Ids(index["id"])
        except ValueError as twice:
            raise ValueError(f"id {str(twice)!r} stands twice in {', '.join(map(str, self.roots))}") from None

    @classmethod
    def open(cls, *roots: Path) -> Store:
        """Open the store in a folder, or the stores in several (with disjoint ids, equal shape and dtype) as one.

        Raises:
            FileNotFoundError: a folder holds no (complete) store.
            ValueError: the files do not fit the index, or the roots do not fit each other.
        """
        return cls(*roots)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, self.roots

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: object) -> bool:
        return isinstance(item_id, str) and self._ids.locate([item_id])[0] >= 0

    @property
    def ids(self) -> list[str]:
        """The ids in the order in which they were added, root after root."""
        return self._ids.column.to_list()

    def rows(self, ids: Sequence[str] | pl.Series) -> np.ndarray:
        """How many rows each of ``ids`` has, ``(n,)``; 0 for one that is not there."""
        at = self._ids.locate(ids)
        return np.where(at >= 0, self.lengths[at], 0) if len(self) else np.zeros(len(at), np.int64)

    def __getitem__(self, item_id: str) -> np.ndarray:
        """The values of one item, ``(L, *shape)``."""
        return self.gather([item_id])[0]

    def index(self, ids: Iterable[str]) -> np.ndarray:
        """Positions of ``ids`` in :attr:`ids`. KeyError names the first id that is not there."""
        wanted = list(ids)
        at = self._ids.locate(wanted)
        if (at < 0).any():
            where = ", ".join(map(str, self.roots[:3])) + (", …" if len(self.roots) > 3 else "")
            raise KeyError(f"no item {wanted[int((at < 0).argmax())]!r} among the {len(self)} of {where}")
        return at

    def gather(self, ids: Sequence[str] | np.ndarray, part: str = "values") -> tuple[np.ndarray, np.ndarray]:
        """Items one below the other.

        Args:
            ids: B ids, in any order, also repeated; or their positions, an integer array (see :meth:`index`).
            part: ``values``, ``times`` or ``weights``.

        Returns:
            rows ``(sum of L, *shape)`` in the order of ``ids``, and the lengths ``(B,)``.
        """
        at = ids if isinstance(ids, np.ndarray) and ids.dtype.kind == "i" else self.index(ids)
        lengths = self.lengths[at]
        ends = np.cumsum(lengths)
        shape, dtype = self._part(at, part)
        rows = np.empty((int(ends[-1]) if len(ends) else 0, *shape), dtype)
        self._read(part, at, lengths, ends - lengths, rows)
        return rows, lengths

    def batch(
        self, ids: Sequence[str], max_length: int | None = None, part: str = "values"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Items side by side, padded with zeros to the longest of them.

        Args:
            ids: B ids.
            max_length: of longer items, only the first ``max_length`` rows are read.
            part: ``values``, ``times`` or ``weights``.

        Returns:
            rows ``(B, L, *shape)``, and ``(B, L)`` True where a row is an item's own.
        """
        at = self.index(ids)
        lengths = self.lengths[at] if max_length is None else np.minimum(self.lengths[at], max_length)
        longest = int(lengths.max(initial=0))
        shape, dtype = self._part(at, part)
        rows = np.zeros((len(at), longest, *shape), dtype)
        self._read(part, at, lengths, np.arange(len(at)) * longest, rows.reshape(-1, *shape))
        return rows, np.arange(longest) < lengths[:, None]

    def times(self, item_id: str) -> np.ndarray | None:
        """Start and end of every row in seconds, ``(L, 2)``; None if the store has no times."""
        return self._one(item_id, "times")

    def weights(self, item_id: str) -> np.ndarray | None:
        """Weight of every row, ``(L,)``; None if the store has no weights."""
        return self._one(item_id, "weights")

    def _one(self, item_id: str, part: str) -> np.ndarray | None:
        position = int(self.index([item_id])[0])
        root = self._shards[self._shard[position]][0]
        return self.gather([item_id], part)[0] if part in self._parts[root] else None

    def _part(self, at: np.ndarray, part: str) -> tuple[tuple[int, ...], np.dtype]:
        """Row shape and type of ``part``, or a ValueError if one of the items ``at`` has no such part."""
        roots = {self._shards[s][0] for s in np.unique(self._shard[at])} or {0}
        for root in roots:
            if part not in self._parts[root]:
                raise ValueError(f"{self.roots[root]} has no {part}, only {', '.join(self._parts[root])}")
        return self._parts[min(roots)][part]

    def _read(self, part: str, at: np.ndarray, counts: np.ndarray, to: np.ndarray, rows: np.ndarray) -> None:
        """Fill ``rows[to : to + counts]`` with the first ``counts`` rows of the items ``at``, in file order."""
        some = np.flatnonzero(counts)
        if not len(some):
            return
        order = some[np.lexsort((self._offset[at[some]], self._shard[at[some]]))]
        shard, offset, counts, to = self._shard[at[order]], self._offset[at[order]], counts[order], to[order]
        # items that are neighbours both in the file and in the batch are read at once
        breaks = (
            (shard[1:] != shard[:-1]) | (offset[1:] != offset[:-1] + counts[:-1]) | (to[1:] != to[:-1] + counts[:-1])
        )
        first = np.flatnonzero(np.r_[True, breaks])
        total = np.add.reduceat(counts, first)
        width = rows.dtype.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64))
        into = rows.reshape(-1).view(np.uint8).data
        runs = np.stack([shard[first], offset[first] * width, to[first] * width, total * width], axis=1)
        file, current = None, -1
        for number, start, begin, size in runs.tolist():
            if file is None or number != current:
                file, current = self._file(part, number), number
            file.read(into[begin : begin + size], start)

    def _file(self, part: str, number: int) -> NpyFile:
        file = self._files.get((part, number))
        if file is None:
            root, shard = self._shards[number]
            file = NpyFile(self.roots[root] / name_of(part, shard))
            while len(self._files) >= OPEN_FILES:  # another thread that still reads from it holds it open
                self._files.pop(next(iter(self._files)), None)
            self._files[part, number] = file
        return file
