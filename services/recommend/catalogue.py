"""The catalogue as the log has it: the newest record of each item, kept in memory from the compacted `items` topic."""

from streaming.consumer import Received
from streaming.events import ItemRemoved, ItemUpserted
from streaming.ids import ItemId


class Catalogue:
    """Items by id, with the offsets up to which the log was applied."""

    def __init__(self) -> None:
        self._items: dict[ItemId, ItemUpserted] = {}
        self._offsets: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def offsets(self) -> dict[str, int]:
        """The next offset of each partition of the topic."""
        return dict(self._offsets)

    def snapshot(self) -> dict[ItemId, ItemUpserted]:
        """Return the items as they are now, by id."""
        return dict(self._items)

    def apply(self, received: Received) -> ItemUpserted | ItemId | None:
        """Apply one record; returns the item as it is now, the id of one that is gone, or None when nothing changed."""
        self._offsets[str(received.partition)] = received.offset + 1
        match received.event:
            case ItemUpserted() as item:
                item_id = ItemId(item.item_id)
                self._items.pop(item_id, None)  # the newest record comes last
                self._items[item_id] = item
                return item
            case ItemRemoved(item_id=gone):
                return self._remove(ItemId(gone))
            case None if received.key is not None:
                return self._remove(ItemId(received.key.decode()))
        return None

    def _remove(self, item_id: ItemId) -> ItemId | None:
        return item_id if self._items.pop(item_id, None) is not None else None
