"""Everything a request computes on, aligned to the rows of one loaded model: scorer, item columns, popularity.

The engine lets one thread at a time have it: a request that reads it, or who follows the log and changes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.popularity import PopularityWindow
from models.content import ItemContent
from models.scorer import Scorer
from models.vocabulary import ItemRow
from services.recommend.columns import Columns
from services.recommend.item_table import ItemTable
from services.recommend.unproven import Unproven
from streaming.events import PROBE_SURFACE, Interaction, ItemUpserted
from streaming.ids import ItemId

Rows = NDArray[np.int64]


class RowSpace(Protocol):
    """Which row stands for which item. A scorer is one."""

    def row(self, item_id: ItemId) -> ItemRow | None:
        """Return an item's row, or None for an item it does not know."""

    def item_id(self, row: ItemRow) -> ItemId:
        """Return the item of a row."""

    def add_item(self, item: ItemContent) -> ItemRow:
        """Give an item a row, or take its new content when it has one."""


class PlainRows:
    """The row space while there is no model: rows in the order of coming."""

    def __init__(self) -> None:
        self._rows: dict[ItemId, ItemRow] = {}
        self._ids: list[ItemId] = []

    def row(self, item_id: ItemId) -> ItemRow | None:
        """Return an item's row, or None for an item it does not know."""
        return self._rows.get(item_id)

    def item_id(self, row: ItemRow) -> ItemId:
        """Return the item of a row."""
        return self._ids[row]

    def add_item(self, item: ItemContent) -> ItemRow:
        """Give an item a row."""
        if item.item_id not in self._rows:
            self._rows[item.item_id] = ItemRow(len(self._ids))
            self._ids.append(item.item_id)
        return self._rows[item.item_id]


@dataclass(frozen=True)
class Live:
    """A model (or none yet) with the catalogue and the popularity in its rows."""

    scorer: Scorer | None
    rows: RowSpace
    columns: Columns
    popularity: PopularityWindow
    unproven: Unproven

    @classmethod
    def build(cls, scorer: Scorer | None, items: Iterable[ItemUpserted], popularity: PopularityWindow) -> "Live":
        """Lay items out in the rows of `scorer`, in rows of their own without one; of one id the last item holds."""
        newest = {item.item_id: item for item in items}
        return cls.laid_out(scorer, ItemTable.of(newest.values()), popularity)

    @classmethod
    def laid_out(cls, scorer: Scorer | None, table: ItemTable, popularity: PopularityWindow) -> "Live":
        """Lay a table of items out; only the records of items that the model does not know are read."""
        space: RowSpace = PlainRows() if scorer is None else scorer
        rows, unproven = np.zeros(len(table), dtype=np.int64), Unproven()
        for place, item_id in enumerate(table.ids()):
            row = space.row(item_id)
            if row is None:
                row = space.add_item(content_of(table.item(place)))
                if scorer is not None:
                    unproven.put(row, item_id, int(table.happened_at[place]))
            rows[place] = row
        return cls(scorer, space, Columns.laid_out(table, rows), popularity, unproven)

    @property
    def model_version(self) -> str | None:
        """The loaded model's version."""
        return None if self.scorer is None else self.scorer.version

    @property
    def unproven_rows(self) -> Rows:
        """The rows of items that the model was not trained on, newest record last."""
        return self.unproven.rows

    def change(self, change: ItemUpserted | ItemId) -> None:
        """Set an item as it is from now on, or take the one of an id out."""
        if isinstance(change, ItemUpserted):
            self.put(change)
        else:
            self.remove(change)

    def put(self, item: ItemUpserted) -> None:
        """Set an item as it is from now on; an item that the model does not know gets a row by its content."""
        known = self.rows.row(ItemId(item.item_id))
        row = self.rows.add_item(content_of(item))
        self.columns.put(row, item)
        if self.scorer is not None and (known is None or row in self.unproven):
            self.unproven.put(row, ItemId(item.item_id), item.happened_at)

    def remove(self, item_id: ItemId) -> None:
        """Take an item out."""
        row = self.rows.row(item_id)
        if row is not None:
            self.columns.remove(row)

    def observe(self, interactions: Iterable[Interaction]) -> None:
        """Count interactions towards popularity: negative feedback and our own measurements do not count."""
        counted = [
            (row, interaction.happened_at)
            for interaction in interactions
            if not interaction.kind.is_negative
            and interaction.surface != PROBE_SURFACE
            and (row := self.rows.row(ItemId(interaction.item_id))) is not None
        ]
        if counted:
            table = np.array(counted, dtype=np.int64)
            self.popularity.observe(table[:, 0], table[:, 1])

    def rows_of(self, item_ids: Iterable[ItemId]) -> Rows:
        """Return the rows of the items that have one."""
        found = [row for item_id in item_ids if (row := self.rows.row(item_id)) is not None]
        return np.array(found, dtype=np.int64)

    def with_popularity(self, popularity: PopularityWindow) -> "Live":
        """Return the same with another popularity, which is in the same rows."""
        return replace(self, popularity=popularity)

    def with_popularity_of(self, other: "Live") -> "Live":
        """Return the same with the popularity that the items have in `other`, whose rows are others."""
        used = other.popularity.used_rows()
        table = np.full(other.popularity.size, -1, dtype=np.int64)
        for theirs in used.tolist():
            ours = self.rows.row(other.rows.item_id(ItemRow(theirs)))
            table[theirs] = -1 if ours is None else ours
        size = max(self.columns.size, int(table.max(initial=-1)) + 1)
        return replace(self, popularity=other.popularity.remapped(table, size))

    def forked(self) -> "Live":
        """Return a copy whose popularity can be added to without changing this one."""
        return replace(self, popularity=self.popularity.copy())


def content_of(item: ItemUpserted) -> ItemContent:
    """Return what a model reads of an item."""
    return ItemContent(ItemId(item.item_id), item.title, item.categories, item.attributes, item.text)
