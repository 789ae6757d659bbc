"""The items that the model was not trained on, in the order of their newest records."""

import numpy as np
from numpy.typing import NDArray

from streaming.ids import ItemId

Rows = NDArray[np.int64]


class Unproven:
    """Rows by the time of their items' newest records, then by item id: not by the order in which they were read.

    Partitions are read in any order, and every process is to show the same items.
    """

    def __init__(self) -> None:
        self._keys: dict[int, tuple[int, ItemId]] = {}
        self._rows: Rows | None = None

    def __contains__(self, row: int) -> bool:
        return row in self._keys

    def put(self, row: int, item_id: ItemId, happened_at: int) -> None:
        """Add a row, or take its newest record's time, ms."""
        self._keys[row] = (happened_at, item_id)
        self._rows = None

    @property
    def rows(self) -> Rows:
        """The rows, int64[n], newest record last; not to be written to."""
        if self._rows is None:
            self._rows = np.array(sorted(self._keys, key=self._keys.__getitem__), dtype=np.int64)
        return self._rows
