"""TFRecord files of tf.train.Example, written: what tests of their reader start from."""

import struct
from pathlib import Path

from videomatch.data import tfrecord


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(**features) -> bytes:
    body = b""
    for name, value in features.items():
        if value and isinstance(value[0], bytes):
            feature = field(1, b"".join(field(1, v) for v in value))
        elif value and isinstance(value[0], float):
            feature = field(2, field(1, struct.pack(f"<{len(value)}f", *value)))
        else:
            feature = field(3, field(1, b"".join(varint(v) for v in value)))
        body += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, body)


def write(path: Path, messages: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for data in messages:
            header = struct.pack("<Q", len(data))
            file.write(header + struct.pack("<I", tfrecord.masked_crc(header)))
            file.write(data + struct.pack("<I", tfrecord.masked_crc(data)))
    return path
