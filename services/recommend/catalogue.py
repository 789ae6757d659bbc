"""The catalogue as the log has it: the newest record of each item.

Most of it is a table, which may lie in a file; only what has changed since the table was made is kept as objects.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from services.recommend.item_table import ItemTable
from streaming.consumer import Received
from streaming.events import ItemRemoved, ItemUpserted
from streaming.ids import ItemId

Changes = Mapping[ItemId, ItemUpserted | None]
"""Items as they are now by id, None for one that is gone."""


@dataclass(frozen=True)
class Held:
    """A catalogue at one time: a table, what has changed since, and the next offset of each partition of the topic."""

    table: ItemTable
    changes: Changes
    offsets: Mapping[str, int]

    def folded(self) -> ItemTable:
        """Return all of it as one table."""
        if not self.changes:
            return self.table
        new = ItemTable.of(item for item in self.changes.values() if item is not None)
        if not len(self.table):
            return new
        kept = np.array([item_id not in self.changes for item_id in self.table.ids()], dtype=np.bool_)
        return self.table.only(kept).joined(new)


class Catalogue:
    """Items by id, with the offsets up to which the log was applied."""

    def __init__(self) -> None:
        self._table = ItemTable.of(())
        self._changes: dict[ItemId, ItemUpserted | None] = {}
        self._offsets: dict[str, int] = {}

    @property
    def offsets(self) -> dict[str, int]:
        """The next offset of each partition of the topic."""
        return dict(self._offsets)

    def apply(self, received: Received) -> ItemUpserted | ItemId | None:
        """Apply one record; returns the item as it is now, the id of one that is gone, or None for neither."""
        self._offsets[str(received.partition)] = received.offset + 1
        match received.event:
            case ItemUpserted() as item:
                self._changes[ItemId(item.item_id)] = item
                return item
            case ItemRemoved(item_id=gone):
                return self._remove(ItemId(gone))
            case None if received.key is not None:
                return self._remove_by(received.key)
        return None

    def held(self) -> Held:
        """Return the catalogue as it is now."""
        return Held(self._table, dict(self._changes), self.offsets)

    def restore(self, table: ItemTable, offsets: Mapping[str, int]) -> None:
        """Take the place of what was read so far."""
        self._table, self._changes, self._offsets = table, {}, dict(offsets)

    def fold(self, held: Held, table: ItemTable) -> Changes:
        """Put `table`, into which `held` was folded, in place; returns what has changed since `held` was taken."""
        since = {
            item_id: item
            for item_id, item in self._changes.items()
            if item_id not in held.changes or held.changes[item_id] is not item
        }
        self._table, self._changes = table, since
        return since

    def _remove_by(self, key: bytes) -> ItemId | None:
        try:
            return self._remove(ItemId(key.decode()))
        except UnicodeDecodeError:
            return None  # no item has such an id

    def _remove(self, item_id: ItemId) -> ItemId:
        self._changes[item_id] = None
        return item_id
