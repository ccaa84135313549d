"""TFRecord files of tf.train.Example, read without TensorFlow.

A record is ``length (uint64) · masked CRC32C of the length (uint32) · data · masked CRC32C of the data (uint32)``,
all little-endian; the mask is ``rotate_right(crc, 15) + 0xa282ead8`` (TensorFlow, ``lib/io/record_writer.h``). The data
is an Example message (TensorFlow, ``core/example/feature.proto``), which protobuf decodes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

#: values by key; int64 lists are int64 arrays, float lists float32 arrays
Example = dict[str, list[bytes] | np.ndarray]

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK = 0xA282EAD8

#: the messages of feature.proto: name -> (field, number, type, repeated); a map is a repeated entry of key and value
_MESSAGES: dict[str, list[tuple[str, int, str, bool]]] = {
    "BytesList": [("value", 1, "TYPE_BYTES", True)],
    "FloatList": [("value", 1, "TYPE_FLOAT", True)],
    "Int64List": [("value", 1, "TYPE_INT64", True)],
    "Feature": [
        ("bytes_list", 1, "BytesList", False),
        ("float_list", 2, "FloatList", False),
        ("int64_list", 3, "Int64List", False),
    ],
    "Entry": [("key", 1, "TYPE_STRING", False), ("value", 2, "Feature", False)],
    "Features": [("feature", 1, "Entry", True)],
    "Example": [("features", 1, "Features", False)],
}


def _example_class() -> type[message.Message]:
    file = descriptor_pb2.FileDescriptorProto(name="videomatch_example.proto", package="videomatch")
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            known = {"type_name": kind} if kind in _MESSAGES else {}
            own = field_type.Type.Value("TYPE_MESSAGE" if known else kind)
            described.field.add(name=field, number=number, type=own, label=label, **known)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("videomatch.Example"))


_EXAMPLE: Any = _example_class()


class RecordError(ValueError):
    """A record that is cut off, damaged or not an Example; the message names file, record number and byte offset."""


def masked_crc(data: bytes) -> int:
    """The checksum as stored: CRC32C rotated by 15 bits plus a constant."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def iterate(path: Path, *, keys: Collection[str] | None = None) -> Iterator[Example]:
    """The examples of a file in order, all features or those of ``keys``; one record is in memory at a time."""
    size = path.stat().st_size
    with path.open("rb", buffering=1 << 20) as file:
        number = at = 0
        while at < size:
            where = f"{path}, record {number} at byte {at}"
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise RecordError(f"{where}: the file ends after {len(header)} bytes of the 12 of a header")
            length, crc = _HEADER.unpack(header)
            if masked_crc(header[:8]) != crc:
                raise RecordError(f"{where}: checksum of the length differs, the record is damaged")
            end = at + _HEADER.size + length + _FOOTER.size
            if end > size:
                raise RecordError(f"{where}: {length} bytes of data expected, but the file ends at {size}")
            data = file.read(length)
            if masked_crc(data) != _FOOTER.unpack(file.read(_FOOTER.size))[0]:
                raise RecordError(f"{where}: checksum of {length} bytes of data differs, they are damaged")
            try:
                yield parse_example(data, keys)
            except message.DecodeError as error:
                raise RecordError(f"{where}: not a tf.train.Example ({error})") from error
            number, at = number + 1, end


def parse_example(data: bytes, keys: Collection[str] | None = None) -> Example:
    """The features of a serialised tf.train.Example; protobuf's DecodeError if it is not one."""
    entries = _EXAMPLE.FromString(data).features.feature
    return {entry.key: _values(entry.value) for entry in entries if keys is None or entry.key in keys}


def _values(feature: Any) -> list[bytes] | np.ndarray:
    if feature.HasField("float_list"):
        return np.array(feature.float_list.value, dtype=np.float32)
    if feature.HasField("int64_list"):
        return np.array(feature.int64_list.value, dtype=np.int64)
    return list(feature.bytes_list.value)
