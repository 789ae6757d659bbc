"""The items that the model was not trained on, in the order of their newest records."""

from bisect import bisect_left, insort

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
        self._order: list[tuple[int, ItemId, int]] | None = None  # since it was first asked for
        self._rows: Rows | None = None

    def __contains__(self, row: int) -> bool:
        return row in self._keys

    def put(self, row: int, item_id: ItemId, happened_at: int) -> None:
        """Add a row, or take its newest record's time, ms."""
        before, now = self._keys.get(row), (happened_at, item_id)
        self._keys[row] = now
        self._rows = None
        if self._order is not None:
            if before is not None:
                del self._order[bisect_left(self._order, (*before, row))]
            insort(self._order, (*now, row))

    @property
    def rows(self) -> Rows:
        """The rows, int64[n], newest record last; not to be written to."""
        if self._order is None:
            self._order = sorted((*key, row) for row, key in self._keys.items())
        if self._rows is None:
            self._rows = np.fromiter((row for _, _, row in self._order), np.int64, len(self._order))
        return self._rows

    def among(self, rows: Rows) -> Rows:
        """Return those of `rows`, int64[n], that are here, newest record last."""
        found = [row for row in rows.tolist() if row in self._keys]
        return np.array(sorted(found, key=self._keys.__getitem__), dtype=np.int64)
