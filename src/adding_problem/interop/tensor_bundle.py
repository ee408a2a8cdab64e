"""Reader of TensorFlow's checkpoint files (`variables.index` and `variables.data-...`), without TensorFlow.

The index is an uncompressed LevelDB table (leveldb/doc/table_format.md) from names to protocol buffers; the data file
holds the arrays end to end (tensorflow/core/util/tensor_bundle, tensorflow/core/protobuf/tensor_bundle.proto).
Only float32 arrays are read. Every offset and size is checked against the files before memory is taken, and the
checksum of every array before it is given away.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adding_problem.errors import InteropError
from adding_problem.interop.protobuf import fields, varint
from adding_problem.interop.weights import Float32

__all__ = ["Entry", "read_array", "read_index"]

_MAX_INDEX_BYTES = 16 << 20
_MAX_KEY_BYTES, _MAX_ENTRIES = (
    4 << 10,
    10_000,
)  # keys share their beginnings: a small file could hold any number of long ones
_MAX_DIMENSIONS = (
    254  # tensorflow/core/framework/tensor_shape.h; the product of very many would take hours
)
_FOOTER_BYTES, _MAGIC = 48, 0xDB4775248B80FB57
_FLOAT32 = 1  # tensorflow/core/framework/types.proto, DT_FLOAT


@dataclass(frozen=True)
class Entry:
    """Where an array lies: bytes offset .. offset + size - 1 of the data file. The checksum is TensorFlow's masked CRC-32C."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int


def read_index(path: Path) -> dict[str, Entry]:
    """The float32 arrays of a checkpoint by name.

    Raises:
        InteropError: when the file is no such index.
    """
    try:
        if path.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError("larger than 16 MiB")
        data = path.read_bytes()
        entries = {name.decode(): _entry(value) for name, value in _limited(_table(data)) if name}
    except (OSError, ValueError, IndexError, struct.error, RecursionError) as error:
        raise InteropError(
            f"{path}: is no TensorFlow checkpoint index ({error})",
            "give the folder that TensorFlow wrote, whole",
        ) from None
    return {name: entry for name, entry in entries.items() if entry.dtype == _FLOAT32}


def read_array(path: Path, name: str, entry: Entry) -> Float32:
    """An array of the data file.

    Raises:
        InteropError: when the file is shorter than its index says, or its checksum differs.
    """
    try:
        if (
            entry.size != 4 * math.prod(entry.shape)
            or not 0 <= entry.offset <= path.stat().st_size - entry.size
        ):
            raise ValueError("the index does not fit the data file")
        with path.open("rb") as stream:
            stream.seek(entry.offset)
            data = stream.read(entry.size)
        if _masked_crc32c(data) != entry.checksum:
            raise ValueError("the checksum differs")
    except (OSError, ValueError) as error:
        raise InteropError(f"{path}: {name} is damaged ({error})", "restore the file") from None
    return np.frombuffer(data, "<f4").reshape(entry.shape)


# --- the table -------------------------------------------------------------------------------------------------------


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in order."""
    if len(data) < _FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("the magic number at its end is missing")
    footer = data[-_FOOTER_BYTES:]
    position = 0
    for _ in range(2):  # the handle of the meta index, which TensorFlow leaves empty, comes first
        offset, position = varint(footer, position)
        size, position = varint(footer, position)
    unread = len(data)
    for _, handle in _limited(_block(data, offset, size)):
        offset, position = varint(handle, 0)
        size, _ = varint(handle, position)
        unread -= size
        if unread < 0:  # or reading would take far longer than the file is long
            raise ValueError("its blocks overlap")
        yield from _block(data, offset, size)


def _limited(entries: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for count, entry in enumerate(entries):
        if count == _MAX_ENTRIES:
            raise ValueError(f"more than {_MAX_ENTRIES:,} entries")
        yield entry


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of a block: each key is given as what differs from the end of the last one."""
    block = data[offset : offset + size]
    if len(block) < size or size < 4 or data[offset + size] != 0:
        raise ValueError("a block is cut or compressed")
    end = (
        size - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    )  # restart points, and how many there are
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position)
        fresh, position = varint(block, position)
        length, position = varint(block, position)
        key = key[:shared] + block[position : position + fresh]
        if len(key) > _MAX_KEY_BYTES:
            raise ValueError("a name is longer than 4 KiB")
        position += fresh
        yield key, block[position : position + length]
        position += length


# --- values ----------------------------------------------------------------------------------


def _entry(message: bytes) -> Entry:
    """A `BundleEntryProto`: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 checksum, 7 slices."""
    numbers: dict[int, int] = {}
    shape: tuple[int, ...] = ()
    for number, value in fields(message):
        if number == 2 and isinstance(value, bytes):
            shape = tuple(_dimension(size) for field, size in fields(value) if field == 2)
        elif isinstance(value, int):
            numbers[number] = value
    if numbers.get(3, 0) != 0:
        raise ValueError("it has more than one data file")
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"an array has more than {_MAX_DIMENSIONS} dimensions")
    return Entry(numbers.get(1, 0), shape, numbers.get(4, 0), numbers.get(5, 0), numbers.get(6, 0))


def _dimension(message: int | bytes) -> int:
    sizes = dict(fields(message)) if isinstance(message, bytes) else {}
    size = sizes.get(1, 0)
    return size if isinstance(size, int) else 0


# --- the checksum ----------------------------------------------------------------------------------------------------


def _crc_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [
            value >> 1 ^ (0x82F63B78 if value & 1 else 0) for value in table
        ]  # Castagnoli's polynomial (RFC 3720)
    return table


_CRC_TABLE = _crc_table()


def _masked_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF  # leveldb/util/crc32c.h
