"""Per-item columns that start as an artifact's memory-mapped arrays and grow by items added later."""

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


class GrowingTable(Generic[Scalar]):
    """Rows 0 … n-1 are those of `trained`, which is never copied or written; later rows are kept in memory."""

    def __init__(self, trained: NDArray[Scalar]) -> None:
        self._trained = trained
        self._added = np.zeros((0, *trained.shape[1:]), dtype=trained.dtype)
        self._size = len(trained)

    def __len__(self) -> int:
        return self._size

    @property
    def trained(self) -> NDArray[Scalar]:
        """The rows that came with the artifact."""
        return self._trained

    @property
    def added(self) -> NDArray[Scalar]:
        """The rows that were put later, in order."""
        return self._added[: self._size - len(self._trained)]

    def take(self, rows: NDArray[np.int64]) -> NDArray[Scalar]:
        """Return the values of `rows`, each below the table's length."""
        if self._size == len(self._trained):
            return self._trained.take(rows, axis=0)
        new = rows >= len(self._trained)
        if not new.any():
            return self._trained.take(rows, axis=0)
        values = np.empty((len(rows), *self._trained.shape[1:]), dtype=self._trained.dtype)
        values[~new] = self._trained[rows[~new]]
        values[new] = self._added[rows[new] - len(self._trained)]
        return values

    def put(self, row: int, value: Any) -> None:
        """Set an added row, or append the next one; raises IndexError for any other row."""
        at = row - len(self._trained)
        if at < 0 or row > self._size:
            raise IndexError(f"row {row} is neither an added row nor the next one, which is {self._size}")
        if at == len(self._added):
            room = np.zeros((max(at, 64), *self._added.shape[1:]), dtype=self._added.dtype)
            self._added = np.concatenate((self._added, room))
        self._added[at] = value
        self._size = max(self._size, row + 1)
