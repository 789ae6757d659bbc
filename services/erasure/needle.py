"""An id that is searched for in bytes of every kind."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.project import USER
from streaming.ids import UserId

_TELLING = 8  # bytes from which on an id does not turn up in other bytes by chance
_AVRO = b"Obj\x01"
_SYNC = 16


@dataclass(frozen=True)
class Needle:
    """A user's id. A short one, such as `42`, would turn up everywhere: it is looked for where a user's id stands.

    That is: as the value of a field `user_id` in JSON, MessagePack, Feast's keys, or a column.
    """

    user_id: UserId

    @property
    def is_telling(self) -> bool:
        """Whether the id by itself is looked for."""
        return len(self.user_id.encode()) >= _TELLING

    def is_in(self, data: bytes) -> bool:
        """Whether the id is in `data`, as it is."""
        return any(form in data for form in self._forms())

    def is_in_file(self, data: bytes) -> bool:
        """Whether the id is in a file of the lake, Parquet and Avro unpacked, or in any other as it is."""
        if data[:4] == b"PAR1":
            return self._is_in_table(pq.ParquetFile(io.BytesIO(data)).read()) or self.is_in(data)
        if data[:4] == _AVRO:
            return any(self.is_in(block) or self._is_bound_in(block) for block in _avro_blocks(data))
        return self.is_in(data)

    def _forms(self) -> list[bytes]:
        text = self.user_id.encode()
        quoted = msgspec.json.encode(self.user_id)
        if self.is_telling:
            return [text, quoted[1:-1]]
        name = USER.encode()
        packed = msgspec.msgpack.encode(USER) + msgspec.msgpack.encode(self.user_id)
        entity = name + struct.pack("<II", 2, len(text)) + text
        return [b'"' + name + b'":' + quoted, b'"' + name + b'": ' + quoted, packed, entity]

    def _is_bound_in(self, block: bytes) -> bool:
        """Whether the id is a bound in a manifest: a length and the text, which Iceberg cuts at 16 characters."""
        start = self.user_id[:16].encode()
        return len(start) >= _TELLING and start in block

    def _is_in_table(self, table: pa.Table) -> bool:
        for name, column in zip(table.column_names, table.columns, strict=True):
            if name == USER and pc.any(pc.equal(column, self.user_id)).as_py():
                return True
            if self.is_telling and any(self._is_in_values(texts) for texts in _texts(column.combine_chunks())):
                return True
        return False

    def _is_in_values(self, values: pa.Array) -> bool:
        return any(value is not None and self.is_in(value) for value in values.cast(pa.binary()).to_pylist())


def _texts(array: pa.Array) -> Iterator[pa.Array]:
    """Yield the strings and bytes of a column, those inside structs and lists too."""
    kind = array.type
    if pa.types.is_struct(kind):
        for part in array.flatten():
            yield from _texts(part)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(array.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        yield array.unique()


def _avro_blocks(data: bytes) -> Iterator[bytes]:
    """Yield the header and the blocks of an Avro container, unpacked (Avro specification 1.11, object container)."""
    position, codec = 4, b"null"
    count, position = _long(data, position)
    while count:
        if count < 0:  # then the block's size follows
            _, position = _long(data, position)
        for _ in range(abs(count)):
            key, position = _bytes(data, position)
            value, position = _bytes(data, position)
            if key == b"avro.codec":
                codec = value
        count, position = _long(data, position)
    position += _SYNC
    yield data[:position]
    while position < len(data):
        _, position = _long(data, position)
        block, position = _bytes(data, position)
        position += _SYNC
        yield zlib.decompress(block, -15) if codec == b"deflate" else block


def _bytes(data: bytes, position: int) -> tuple[bytes, int]:
    size, position = _long(data, position)
    return data[position : position + size], position + size


def _long(data: bytes, position: int) -> tuple[int, int]:
    """Read a zig-zag varint."""
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (result >> 1) ^ -(result & 1), position
