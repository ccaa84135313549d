"""TFRecord files of tf.train.Example, read without TensorFlow and without protobuf.

A record is ``length (uint64) · masked CRC32C of the length (uint32) · data · masked CRC32C of the data (uint32)``,
all little-endian; the mask is ``rotate_right(crc, 15) + 0xa282ead8`` (TensorFlow, ``lib/io/record_writer.h``). The
data is an Example message: field 1 = Features, whose field 1 entries map a name to a Feature, which is one of
bytes_list (1), float_list (2) or int64_list (3) (TensorFlow, ``core/example/feature.proto``).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

import google_crc32c
import numpy as np

Value = list[bytes] | np.ndarray
#: values by key; int64 lists are int64 arrays, float lists float32 arrays
Example = dict[str, Value]

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK = 0xA282EAD8


class RecordError(ValueError):
    """A record that is cut off, damaged or no Example; the message names file, record number and byte offset."""


def masked_crc(data: bytes) -> int:
    """The checksum as stored: CRC32C rotated by 15 bits plus a constant."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def iterate(path: Path, *, check: bool = True, keys: Collection[str] | None = None) -> Iterator[Example]:
    """The examples of a file in order; one record is in memory at a time.

    Args:
        path: the file.
        check: compare the checksums (about 1 GB/s); lengths are checked always.
        keys: decode only these, None for all.

    Raises:
        RecordError: a record is cut off, its checksum differs or it is no Example.
    """
    for _, _, example in _records(path, check, keys):
        yield example


def offsets(path: Path) -> np.ndarray:
    """Byte offset of every record, (N,) int64, found without reading the data.

    Raises:
        RecordError: the file ends inside a record, or a length is damaged.
    """
    size = path.stat().st_size
    found: list[int] = []
    with path.open("rb") as file:
        at = 0
        while at < size:
            length = _length(file, path, len(found), at, size, True)
            found.append(at)
            at += _HEADER.size + length + _FOOTER.size
            file.seek(at)
    return np.array(found, dtype=np.int64)


def example_at(path: Path, offset: int, *, check: bool = True, keys: Collection[str] | None = None) -> Example:
    """The example whose record begins at ``offset`` (see :func:`offsets`)."""
    with path.open("rb") as file:
        file.seek(offset)
        data = _data(file, path, -1, offset, path.stat().st_size, check)
    return _parsed(data, path, -1, offset, keys)


def _records(path: Path, check: bool, keys: Collection[str] | None) -> Iterator[tuple[int, int, Example]]:
    size = os.path.getsize(path)  # noqa: PTH202
    with path.open("rb", buffering=1 << 20) as file:
        number = at = 0
        while at < size:
            data = _data(file, path, number, at, size, check)
            yield number, at, _parsed(data, path, number, at, keys)
            number, at = number + 1, at + _HEADER.size + len(data) + _FOOTER.size


def _where(path: Path, number: int, at: int) -> str:
    return f"{path}, " + (f"record {number} at byte {at}" if number >= 0 else f"record at byte {at}")


def _length(file: IO[bytes], path: Path, number: int, at: int, size: int, check: bool) -> int:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise RecordError(f"{_where(path, number, at)}: the file ends after {len(header)} bytes of the 12 of a header")
    length, crc = _HEADER.unpack(header)
    if check and masked_crc(header[:8]) != crc:
        raise RecordError(f"{_where(path, number, at)}: checksum of the length differs, the record is damaged")
    if at + _HEADER.size + length + _FOOTER.size > size:
        raise RecordError(f"{_where(path, number, at)}: {length} bytes of data expected, but the file ends at {size}")
    return int(length)


def _data(file: IO[bytes], path: Path, number: int, at: int, size: int, check: bool) -> bytes:
    length = _length(file, path, number, at, size, check)
    data = file.read(length)
    footer = file.read(_FOOTER.size)
    if len(data) < length or len(footer) < _FOOTER.size:
        raise RecordError(f"{_where(path, number, at)}: the file was shortened while it was read")
    if check and masked_crc(data) != _FOOTER.unpack(footer)[0]:
        raise RecordError(f"{_where(path, number, at)}: checksum of {length} bytes of data differs, they are damaged")
    return data


def _parsed(data: bytes, path: Path, number: int, at: int, keys: Collection[str] | None) -> Example:
    try:
        return parse_example(data, keys)
    except (ValueError, IndexError, struct.error) as error:
        raise RecordError(f"{_where(path, number, at)}: not a tf.train.Example ({error})") from error


def parse_example(data: bytes, keys: Collection[str] | None = None) -> Example:
    """The features of a serialised tf.train.Example.

    Raises:
        ValueError: the bytes are no such message.
    """
    example: Example = {}
    view = memoryview(data)
    for field, features in _fields(view):
        if field != 1:
            continue
        for entry_field, entry in _fields(_bytes(features)):
            if entry_field != 1:
                continue
            name, value = "", memoryview(b"")
            for part, content in _fields(_bytes(entry)):
                if part == 1:
                    name = str(_bytes(content), "utf-8")
                elif part == 2:
                    value = _bytes(content)
            if keys is None or name in keys:
                example[name] = _feature(value)
    return example


def _feature(data: memoryview) -> Value:
    value: Value = []
    for kind, content in _fields(data):
        items = [item for field, item in _fields(_bytes(content)) if field == 1]
        if kind == 1:
            value = [bytes(_bytes(item)) for item in items]
        elif kind == 2:  # packed, or one fixed 32-bit field a value
            value = np.frombuffer(b"".join(_bytes(item) for item in items), dtype="<f4")
        elif kind == 3:
            numbers = []
            for item in items:
                numbers += [item] if isinstance(item, int) else _varints(item)
            value = np.array([n - (1 << 64) if n >> 63 else n for n in numbers], dtype=np.int64)
    return value


def _bytes(content: memoryview | int) -> memoryview:
    if isinstance(content, int):
        raise ValueError("a number where a message was expected")
    return content


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(field number, content) of a message: an int for varints, else the raw bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + length > end:
            raise ValueError(f"a field of {length} bytes where {end - at} are left")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + 1
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _varints(data: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        numbers.append(value)
    return numbers
