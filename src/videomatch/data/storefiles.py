"""What a store is on disk: the npy files, the index and ``store.json``, each checked against the others.

See :mod:`videomatch.data.store`, the only module that uses this one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

FORMAT = 1
INDEX = {"id": pl.String, "shard": pl.Int64, "offset": pl.Int64, "length": pl.Int64}

#: row shape and type of every part of a store
Parts = dict[str, tuple[tuple[int, ...], np.dtype]]


def name_of(part: str, shard: int) -> str:
    """File name of one shard of ``values``, ``times`` or ``weights``."""
    return f"{part}-{shard:05d}.npy"


def parts_of(shape: tuple[int, ...], dtype: str, times: bool, weights: bool) -> Parts:
    """Row shape and type of every kind of file that a store has."""
    parts: Parts = {"values": (shape, np.dtype(dtype))}
    if times:
        parts["times"] = ((2,), np.dtype("float64"))
    if weights:
        parts["weights"] = ((), np.dtype("float32"))
    return parts


def write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write an npy header. Its size does not depend on the number of rows: numpy leaves room for 21 digits."""
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": dtype.str})


class NpyFile:
    """An open npy file: its descriptor (closed with the object) and where its data begins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(os.dup(self.descriptor), "rb") as file:
            np.lib.format.read_magic(file)
            self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(file)
            self.start = file.tell()

    def check(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """A ValueError unless the file holds exactly ``shape`` of ``dtype``."""
        size = self.start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        found = os.fstat(self.descriptor).st_size
        if self.shape != shape or self.dtype != dtype or found != size:
            raise ValueError(
                f"{self.path} holds {self.shape} {self.dtype} in {found} bytes, expected {shape} {dtype} in {size}: "
                f"the file does not belong to this store.json, or it is cut"
            )

    def read(self, into: memoryview, offset: int) -> None:
        """Fill ``into`` with the bytes at ``offset`` of the data."""
        done = 0
        while done < len(into):  # one call returns 2 GiB at most
            count = os.preadv(self.descriptor, [into[done:]], self.start + offset + done)
            if not count:
                raise ValueError(f"{self.path} ends at byte {self.start + offset + done}: it was cut while in use")
            done += count

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def open_index(root: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """``store.json`` and the index of one folder, checked against each other."""
    if not (root / "store.json").is_file():
        raise FileNotFoundError(f"{root} holds no store: there is no store.json (it is written last)")
    about = json.loads((root / "store.json").read_text())
    if about.get("format") != FORMAT:
        raise ValueError(f"{root}/store.json has format {about.get('format')!r}, expected {FORMAT}")
    if not (root / "index.parquet").is_file():
        raise FileNotFoundError(f"{root} has a store.json but no index.parquet")
    frame = pl.read_parquet(root / "index.parquet", columns=list(INDEX))
    rows = np.asarray(about["rows"], np.int64)
    shard, offset, length = (frame[c].to_numpy() for c in ("shard", "offset", "length"))
    fits = len(frame) == about["items"] and ((shard >= 0) & (shard < len(rows)) & (offset >= 0) & (length >= 0)).all()
    if fits:
        fits = (offset + length <= rows[shard]).all() and np.array_equal(
            np.bincount(shard, weights=length, minlength=len(rows)).astype(np.int64), rows
        )
    if not fits:
        raise ValueError(
            f"{root}/index.parquet does not fit store.json ({about['items']} items in {rows.tolist()} rows)"
        )
    return about, frame
