"""Everything a request computes on, aligned to the rows of one loaded model: scorer, item columns, popularity.

One thread owns it, the compute thread: requests read it there and the log's changes are applied there, without locks.
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
        """Lay the catalogue out in the rows of `scorer`, in rows of its own without one."""
        rows: RowSpace = PlainRows() if scorer is None else scorer
        live = cls(scorer, rows, Columns(), popularity, Unproven())
        for item in items:
            live.put(item)
        return live

    @property
    def model_version(self) -> str | None:
        """The loaded model's version."""
        return None if self.scorer is None else self.scorer.version

    @property
    def unproven_rows(self) -> Rows:
        """The rows of items that the model was not trained on, newest record last."""
        return self.unproven.rows

    def put(self, item: ItemUpserted) -> None:
        """Set an item as it is from now on; an item that the model does not know gets a row by its content."""
        known = self.rows.row(ItemId(item.item_id))
        row = self.rows.add_item(_content(item))
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

    def with_popularity_of(self, other: "Live", item_ids: Iterable[ItemId]) -> "Live":
        """Return the same with the popularity that `item_ids` have in `other`, whose rows are others."""
        table = np.full(other.columns.size, -1, dtype=np.int64)
        for item_id in item_ids:
            theirs, ours = other.rows.row(item_id), self.rows.row(item_id)
            if theirs is not None and ours is not None:
                table[theirs] = ours
        return replace(self, popularity=other.popularity.remapped(table, self.columns.size))

    def forked(self) -> "Live":
        """Return a copy whose popularity can be added to without changing this one."""
        return replace(self, popularity=self.popularity.copy())


def _content(item: ItemUpserted) -> ItemContent:
    return ItemContent(ItemId(item.item_id), item.title, item.categories, item.attributes, item.text)
