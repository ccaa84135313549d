"""TFRecord files of tf.train.Example, read without TensorFlow.

A record is ``length (uint64) · masked CRC32C of the length (uint32) · data · masked CRC32C of the data (uint32)``,
all little-endian; the mask is ``rotate_right(crc, 15) + 0xa282ead8`` (TensorFlow, ``lib/io/record_writer.h``). The data
is an Example message (TensorFlow, ``core/example/feature.proto``), which protobuf decodes.
"""

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

#: the messages of feature.proto: name -> repeated or not, and field -> type by number; a map is a repeated entry
_MESSAGES: dict[str, tuple[str, dict[str, str]]] = {
    "BytesList": ("REPEATED", {"value": "BYTES"}),
    "FloatList": ("REPEATED", {"value": "FLOAT"}),
    "Int64List": ("REPEATED", {"value": "INT64"}),
    "Feature": ("OPTIONAL", {"bytes_list": "BytesList", "float_list": "FloatList", "int64_list": "Int64List"}),
    "Entry": ("OPTIONAL", {"key": "STRING", "value": "Feature"}),
    "Features": ("REPEATED", {"feature": "Entry"}),
    "Example": ("OPTIONAL", {"features": "Features"}),
}


def _example_class() -> type[message.Message]:
    file = descriptor_pb2.FileDescriptorProto(name="videomatch_example.proto", package="videomatch")
    for name, (label, fields) in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            own = {"type_name": kind, "type": "TYPE_MESSAGE"} if kind in _MESSAGES else {"type": f"TYPE_{kind}"}
            described.field.add(name=field, number=number, label=f"LABEL_{label}", **own)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("videomatch.Example"))


_EXAMPLE: Any = _example_class()


def masked_crc(data: bytes) -> int:
    """The checksum as stored: CRC32C rotated by 15 bits plus a constant."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def iterate(path: Path, *, keys: Collection[str] | None = None) -> Iterator[Example]:
    """The examples of a file in order, all features or those of ``keys``; one record is in memory at a time. An error
    names file, record number and byte offset."""
    size = path.stat().st_size
    with path.open("rb", buffering=1 << 20) as file:
        number = at = 0
        while at < size:
            where = f"{path}, record {number} at byte {at}"
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise ValueError(f"{where}: the file ends after {len(header)} bytes of the 12 of a header")
            length, crc = _HEADER.unpack(header)
            if masked_crc(header[:8]) != crc:
                raise ValueError(f"{where}: checksum of the length differs, the record is damaged")
            end = at + _HEADER.size + length + _FOOTER.size
            if end > size:
                raise ValueError(f"{where}: {length} bytes of data expected, but the file ends at {size}")
            data = file.read(length)
            if masked_crc(data) != _FOOTER.unpack(file.read(_FOOTER.size))[0]:
                raise ValueError(f"{where}: checksum of {length} bytes of data differs, they are damaged")
            try:
                yield parse_example(data, keys)
            except message.DecodeError as error:
                raise ValueError(f"{where}: not a tf.train.Example ({error})") from error
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
