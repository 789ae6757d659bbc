"""What the filters ask of items, as columns in process memory: a request reads no item from any store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from services.recommend.attributes import Attributes
from services.recommend.categories import Categories
from services.recommend.item_table import FOREVER, ItemTable, end_of, tie_of
from services.recommend.surfaces import Filters, Predicate
from streaming.events import ItemUpserted

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

T = TypeVar("T")

_GROWTH = 1_024
_NARROWED_BYTES = 2_000_000  # of the masks that are kept, of all that a surface asks of items
_MASKS_BYTES = 8_000_000  # of the masks that are kept, of those that surfaces and requests ask for


@dataclass
class _Eligible:
    """What may be shown from `since` up to, but not at, `until`, ms: in between no item's time begins or ends."""

    mask: Mask
    since: int
    until: int
    narrowed: LRUCache[bytes, tuple[Mask, float]] = field(
        default_factory=lambda: LRUCache(_NARROWED_BYTES, getsizeof=lambda one: len(one[0]))
    )  # by what surfaces ask of items, until one of them changes

    def put(self, row: int, shown: bool, start: int, end: int) -> None:
        """Change one row, and shorten the time to where its own begins and ends."""
        self.mask[row] = shown and start <= self.since < end
        self.narrowed.clear()
        for bound in (start, end):
            if self.since < bound < self.until:
                self.until = bound


class Columns:
    """The items of the catalogue by row; rows without an item, and hidden items, are never eligible."""

    def __init__(self) -> None:
        self._size = 0
        self._shown = np.zeros(0, dtype=np.bool_)
        self._starts = np.zeros(0, dtype=np.int64)
        self._ends = np.zeros(0, dtype=np.int64)
        self._ties = np.zeros(0, dtype=np.int64)
        self._categories = Categories()
        self.attributes = Attributes()
        self._now: _Eligible | None = None
        self._masks: LRUCache[bytes, Mask] = LRUCache(_MASKS_BYTES, getsizeof=len)  # until an item changes

    @classmethod
    def laid_out(cls, table: ItemTable, rows: Rows) -> "Columns":
        """Return the items of a table in `rows`, int64[items], of which no two are equal."""
        columns = cls()
        columns._grow(int(rows.max(initial=-1)) + 1)
        columns._shown[rows] = table.shown
        columns._starts[rows] = table.starts
        columns._ends[rows] = table.ends
        columns._ties[rows] = table.ties
        columns._categories = Categories.laid_out(table, rows)
        columns.attributes = Attributes.laid_out(table, rows)
        return columns

    @property
    def size(self) -> int:
        """One more than the highest row that was put."""
        return self._size

    def put(self, row: int, item: ItemUpserted) -> None:
        """Set an item as it is from now on."""
        self._grow(row + 1)
        self._shown[row] = not item.hidden
        self._ties[row] = tie_of(item)
        self._starts[row] = item.available_from or 0
        self._ends[row] = end_of(item)
        self._changed(row)
        self._categories.put(row, item.categories)
        self.attributes.put(row, item.attributes)
        self._forget_masks()

    def remove(self, row: int) -> None:
        """Take an item out; its row stays."""
        if row < self._size:
            self._shown[row] = False
            self._changed(row)
            self._categories.put(row, ())
            self.attributes.put(row, {})
            self._forget_masks()

    def eligible(self, as_of: int) -> Mask:
        """Return for every row whether it may be shown at `as_of`, ms; the caller may change the mask."""
        return self._at(as_of).mask[: self._size].copy()

    def narrowed(self, as_of: int, filters: Filters) -> tuple[Mask, float]:
        """Return which rows may be shown at `as_of`, ms, and are what the filters ask of items, and which share it is.

        The caller may change the mask.
        """
        if not (filters.include_categories or filters.exclude_categories or filters.attributes):
            return self.eligible(as_of), 1.0
        now = self._at(as_of)
        asked = (filters.include_categories, filters.exclude_categories, filters.attributes)
        mask, share = _kept(now.narrowed, asked, lambda: self._narrow(now.mask[: self._size].copy(), filters))
        return mask.copy(), share

    def best_first(self, rows: Rows, scores: NDArray[np.float32]) -> Rows:
        """Return rows of items in the order of their scores, float32[rows]; of equal ones a hash of the item decides.

        Rows do not: they are given in the order of reading, which differs between processes.
        """
        return rows[np.lexsort((self._ties[rows], -scores))]

    def has(self, row: int) -> bool:
        """Whether an item that is not hidden is in `row`."""
        return row < self._size and bool(self._shown[row])

    def in_any(self, categories: Sequence[str]) -> Rows:
        """Return the rows of the items in at least one of `categories`, ascending; not to be changed."""
        return self._categories.in_any(categories)

    def within(self, categories: Sequence[str]) -> Mask:
        """Return for every row whether its item is in at least one of `categories`; not to be written to."""
        masks = [self._within_one(category) for category in dict.fromkeys(categories) if category in self._categories]
        if len(masks) == 1:
            return masks[0]
        mask = np.zeros(self._size, dtype=np.bool_)
        for one in masks:
            mask |= one
        return mask

    def matching(self, predicate: Predicate) -> Mask:
        """Return for every row whether its item's attribute satisfies a predicate; not to be written to."""
        return _kept(self._masks, predicate, lambda: self.attributes.matching(predicate, self._size))

    def _narrow(self, mask: Mask, filters: Filters) -> tuple[Mask, float]:
        before = int(np.count_nonzero(mask))
        if filters.include_categories:
            mask &= self.within(filters.include_categories)
        if filters.exclude_categories:
            mask &= ~self.within(filters.exclude_categories)
        for predicate in filters.attributes:
            mask &= self.matching(predicate)
        return mask, int(np.count_nonzero(mask)) / max(before, 1)

    def _at(self, as_of: int) -> _Eligible:
        now = self._now
        if now is None or not now.since <= as_of < now.until:
            now = self._now = self._eligible(as_of)
        return now

    def _within_one(self, category: str) -> Mask:
        def within() -> Mask:
            mask = np.zeros(self._size, dtype=np.bool_)
            mask[self.in_any([category])] = True
            return mask

        return _kept(self._masks, category, within)

    def _forget_masks(self) -> None:
        if self._masks:
            self._masks.clear()

    def categories(self, row: int) -> Sequence[str]:
        """Return the categories of the item in `row`."""
        return self._categories.of(row)

    def _eligible(self, as_of: int) -> _Eligible:
        bounds = np.concatenate((self._starts, self._ends))
        passed = bounds <= as_of
        return _Eligible(
            mask=self._shown & (self._starts <= as_of) & (as_of < self._ends),
            since=int(bounds[passed].max(initial=-FOREVER)),
            until=int(bounds[~passed].min(initial=FOREVER)),
        )

    def _changed(self, row: int) -> None:
        if self._now is not None:
            self._now.put(row, bool(self._shown[row]), int(self._starts[row]), int(self._ends[row]))

    def _grow(self, size: int) -> None:
        if size > len(self._shown):
            room = max(size, len(self._shown) * 2, _GROWTH) - len(self._shown)
            self._shown = np.pad(self._shown, (0, room))
            self._starts = np.pad(self._starts, (0, room))
            self._ends = np.pad(self._ends, (0, room))
            self._ties = np.pad(self._ties, (0, room))
            self._now = None
        self._size = max(self._size, size)


def _kept(cache: LRUCache[bytes, T], of: object, make: Callable[[], T]) -> T:
    """Return what the cache has of something, or make it and keep it where it is not larger than the cache."""
    key = msgspec.msgpack.encode(of)  # equal predicates may differ: true is equal to 1
    found = cache.get(key)
    if found is None:
        found = make()
        if cache.getsizeof(found) <= cache.maxsize:
            cache[key] = found
    return found
