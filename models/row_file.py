"""Tables too large to hold, of which a request wants a few rows: those are read, and nothing is mapped.

What was read lately is in the system's page cache, for all processes together and for as long as there is room; in no
process's memory, as pages of a mapped table would be once they were touched.
"""

import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_KEPT = 4_096  # rows read last, which the next request may want again

Scalar = TypeVar("Scalar", bound=np.generic)
Other = TypeVar("Other", bound=np.generic)
Given_co = TypeVar("Given_co", bound=np.generic, covariant=True)


class RowTable(Protocol[Given_co]):
    """A table of which rows are taken: an array [rows, width], or a file."""

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[np.int64], /, axis: Literal[0]) -> NDArray[Given_co]:
        """Return some rows."""


class RowFile(Generic[Scalar]):
    """The rows of a file in NumPy's format that holds one array [rows, width]."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises OSError, and ValueError when it holds anything else, or less than it says."""
        self._file = path.open("rb")
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, by_column, self.dtype = read_header[npy.read_magic(self._file)](self._file)
        if len(shape) != 2 or by_column or self.dtype.hasobject:
            raise ValueError("it holds no array of rows")
        self._rows, self.width = shape
        self._first, self._bytes = self._file.tell(), self.width * self.dtype.itemsize
        if path.stat().st_size < self._first + self._rows * self._bytes:
            raise ValueError("it is cut short")
        # Of the file, not of this object: what refers to itself is freed late, and holds its file open until then.
        self.row = lru_cache(_KEPT)(partial(_row, self._file, self._rows, self._first, self._bytes))

    def __len__(self) -> int:
        return self._rows

    def part(self, columns: slice, dtype: type[Other]) -> "RowPart[Other]":
        """Return some neighbouring columns as a table of their own, the bytes read as `dtype`, of the same size."""
        size = self.dtype.itemsize
        return RowPart(self, columns.start * size, columns.stop * size, np.dtype(dtype))

    def take(self, indices: NDArray[np.int64], /, axis: Literal[0]) -> NDArray[Scalar]:
        """Return [n, width]: the rows of `indices`, int64[n]; raises IndexError when there is none of that number."""
        values: NDArray[Scalar] = self.part(slice(0, self.width), self.dtype.type).take(indices, axis=axis)
        return values


def _row(file: BinaryIO, rows: int, first: int, size: int, row: int) -> bytes:
    """Return the `size` bytes of a row; raises IndexError when there is none of that number."""
    if not 0 <= row < rows:
        raise IndexError(f"rows lie between 0 and {rows - 1}")
    return os.pread(file.fileno(), size, first + size * row)


@dataclass(frozen=True)
class RowPart(Generic[Scalar]):
    """The bytes from `first` up to, but not at, `last` of every row of a file."""

    file: RowFile[Any]
    first: int
    last: int
    dtype: np.dtype[Scalar]

    def __len__(self) -> int:
        return len(self.file)

    def of(self, rows: NDArray[Any]) -> NDArray[Scalar]:
        """Return [n, width]: this part of whole rows of the file, [n, width of the file]."""
        size = rows.dtype.itemsize
        return rows[:, self.first // size : self.last // size].view(self.dtype)

    def take(self, indices: NDArray[np.int64], /, axis: Literal[0]) -> NDArray[Scalar]:
        """Return [n, width]: the rows of `indices`, int64[n]; raises IndexError when there is none of that number."""
        row, first, last = self.file.row, self.first, self.last
        data = b"".join([row(index)[first:last] for index in indices.tolist()])
        values: NDArray[Scalar] = np.frombuffer(data, self.dtype)
        return values.reshape(len(indices), (last - first) // self.dtype.itemsize)
