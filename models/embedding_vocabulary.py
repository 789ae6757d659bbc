"""Which row of the item table each item has: admission by frequency, shared rows for the rest, eviction, growth.

Torch-free. An item that has a row keeps it from one retraining to the next until it is evicted; a row that was given
up goes to another item only as new, since a retraining takes over nothing but the rows that stayed with their items.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.config import VocabularySettings
from models.inputs import shared_row
from models.vocabulary import in_natural_order, natural_place
from streaming.ids import ItemId

_DAY_MS = 86_400_000

Rows = NDArray[np.int64]


class EmbeddingVocabulary(msgspec.Struct, frozen=True):
    """The items with a row of their own, by row, None where a row is free; then come `shared` rows for all others.

    Raises ValueError when an item has two rows or there is no shared row.
    """

    item_ids: tuple[ItemId | None, ...]
    shared: int

    def __post_init__(self) -> None:
        owners = [item_id for item_id in self.item_ids if item_id is not None]
        if len(set(owners)) != len(owners):
            raise ValueError("the embedding vocabulary gives an item two rows")
        if self.shared < 1:
            raise ValueError("the embedding vocabulary has no shared row")

    @property
    def size(self) -> int:
        """The number of the table's rows."""
        return len(self.item_ids) + self.shared

    def own_rows(self) -> dict[ItemId, int]:
        """Return the row of each item that has its own."""
        return {item_id: row for row, item_id in enumerate(self.item_ids) if item_id is not None}

    def rows_of(self, item_ids: Sequence[ItemId]) -> "ItemRows":
        """Return the rows of these items."""
        own = self.own_rows()
        shared = [len(self.item_ids) + shared_row(item_id, self.shared) for item_id in item_ids]
        used = [own.get(item_id, row) for item_id, row in zip(item_ids, shared, strict=True)]
        return ItemRows(np.array(used, dtype=np.int64), np.array(shared, dtype=np.int64), self.size, self.shared)

    def kept_by(self, later: "EmbeddingVocabulary") -> tuple[Rows, Rows]:
        """Return the rows here and in `later`, int64[n] each, that stand for the same: for an item or the same hashes.

        An item's two rows are one number; shared rows come after all others in both.
        """
        pairs = enumerate(zip(self.item_ids, later.item_ids, strict=False))
        own = [row for row, (here, there) in pairs if here is not None and here == there]
        shared = np.arange(self.shared if self.shared == later.shared else 0)
        here, there = len(self.item_ids) + shared, len(later.item_ids) + shared
        return np.append(own, here).astype(np.int64), np.append(own, there).astype(np.int64)


@dataclass(frozen=True)
class ItemRows:
    """The rows of a catalogue's items: `used` and, when an item is taken for a new one, `shared`, int64[items] each.

    Of the table's `size` rows the last `shared_count` are the shared ones.
    """

    used: Rows
    shared: Rows
    size: int
    shared_count: int

    @classmethod
    def own(cls, items: int) -> "ItemRows":
        """Give each of `items` items the row of its own number, and one shared row to all."""
        return cls(np.arange(items), np.full(items, items), items + 1, 1)

    @property
    def first_shared(self) -> int:
        """The first row that is shared."""
        return self.size - self.shared_count


@dataclass(frozen=True)
class Usage:
    """How often each of `item_ids` was used, int64[items], and when for the last time, int64[items] in ms."""

    item_ids: Sequence[ItemId]
    counts: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, item_ids: Sequence[ItemId], rows: Rows, times: NDArray[np.int64]) -> "Usage":
        """Count events given by their item's place in `item_ids` and time, ms, int64[events] each."""
        last = np.full(len(item_ids), np.iinfo(np.int64).min)
        np.maximum.at(last, rows, times)
        return cls(item_ids, np.bincount(rows, minlength=len(item_ids)), last)


def next_vocabulary(
    before: EmbeddingVocabulary | None, usage: Usage, settings: VocabularySettings, until: int
) -> EmbeddingVocabulary:
    """Return who has which row in a training on what happened before `until`, ms.

    Whoever had a row in `before` keeps it unless it is evicted: unseen for too long, or among the rarest of too many.
    New items that were used often enough get the free rows and then new ones, in natural order. The order of `usage`
    does not matter.
    """
    counts = dict(zip(usage.item_ids, usage.counts.tolist(), strict=True))
    known = before.own_rows() if before else {}
    recent = _recent(usage, settings, until)
    admitted = {item_id for item_id in recent if counts[item_id] >= settings.admit_at}
    staying = known.keys() & recent if settings.evict_after_days else known.keys()
    wanted = _most_used(staying | admitted, known.keys(), counts, settings.most_items)
    rows = [item_id if item_id in wanted else None for item_id in (before.item_ids if before else ())]
    free = [row for row, item_id in enumerate(rows) if item_id is None]
    newcomers = in_natural_order(wanted - known.keys())
    for row, item_id in zip(free, newcomers, strict=False):
        rows[row] = item_id
    return EmbeddingVocabulary((*rows, *newcomers[len(free) :]), settings.shared_rows)


def _recent(usage: Usage, settings: VocabularySettings, until: int) -> set[ItemId]:
    if not settings.evict_after_days:
        return set(usage.item_ids)
    earliest = until - settings.evict_after_days * _DAY_MS
    return {item_id for item_id, last in zip(usage.item_ids, usage.last.tolist(), strict=True) if last >= earliest}


def _most_used(
    item_ids: Iterable[ItemId], known: Iterable[ItemId], counts: dict[ItemId, int], most: int
) -> set[ItemId]:
    """Return the `most` most used items, of equals those that are known and then the first in natural order."""
    if not most:
        return set(item_ids)
    before = set(known)
    order = sorted(
        item_ids, key=lambda item_id: (-counts.get(item_id, 0), item_id not in before, *natural_place(item_id))
    )
    return set(order[:most])
