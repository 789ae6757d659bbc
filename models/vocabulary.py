"""Which row stands for which item, and how open vocabularies are hashed. Torch-free: trainer and server."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NewType

import numpy as np
from numpy.typing import NDArray

from streaming.ids import ItemId

ItemRow = NewType("ItemRow", int)


class Vocabulary:
    """A catalogue's items and their rows: ids given first keep rows 0 … n-1, ids added later get the next ones.

    These are the rows of arrays by item; which row of the embedding table an item has, `EmbeddingVocabulary` says.
    """

    def __init__(self, item_ids: Iterable[ItemId]) -> None:
        self._ids = list(item_ids)
        self._rows = {item_id: ItemRow(row) for row, item_id in enumerate(self._ids)}
        if len(self._rows) != len(self._ids):
            raise ValueError("the vocabulary holds an item id twice")

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def item_ids(self) -> Sequence[ItemId]:
        """The items in the order of their rows."""
        return self._ids

    def row(self, item_id: ItemId) -> ItemRow | None:
        """Return the item's row, None when it has none."""
        return self._rows.get(item_id)

    def rows(self, item_ids: Iterable[ItemId]) -> NDArray[np.int64]:
        """Return each item's row, int64[n], -1 for one that has none."""
        return np.array([self._rows.get(item_id, -1) for item_id in item_ids], dtype=np.int64)

    def item_id(self, row: ItemRow) -> ItemId:
        """Return the item of a row; raises IndexError when no item has it."""
        return self._ids[row]

    def add(self, item_id: ItemId) -> ItemRow:
        """Return the item's row, a new one when it has none."""
        row = self._rows.get(item_id)
        if row is None:
            row = ItemRow(len(self._ids))
            self._ids.append(item_id)
            self._rows[item_id] = row
        return row


def in_natural_order(item_ids: Iterable[ItemId]) -> list[ItemId]:
    """Return the distinct ids, short ones first, so that numeric ids come in the order of their numbers."""
    return sorted(set(item_ids), key=natural_place)


def natural_place(item_id: ItemId) -> tuple[int, ItemId]:
    """Return what natural order compares."""
    return len(item_id), item_id


def hashed(table: str, value: str, buckets: int) -> int:
    """Return the bucket of `value` in the hashed embedding table `table`, the same in every process."""
    digest = hashlib.blake2b(f"{table}\0{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % buckets
