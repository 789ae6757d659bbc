"""Which items are in which categories: codes laid out at once, with what has changed since beside them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.recommend.item_table import ItemTable
from services.recommend.ragged import Ragged, ragged

Rows = NDArray[np.int64]

_NOTHING: Rows = np.zeros(0, dtype=np.int64)
_NOWHERE = -1


class Categories:
    """The categories of the items by row, and the rows by category."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._codes: dict[str, int] = {}
        self._laid_out: Ragged[np.int32] = ragged((), np.int32)
        self._places = np.zeros(0, dtype=np.int32)  # of each row in what was laid out
        self._members: Ragged[np.int64] = ragged((), np.int64)  # the rows of each code in it, ascending
        self._changed: dict[int, Sequence[int]] = {}  # the codes of each row that was put since
        self._added: dict[int, set[int]] = {}  # their rows by code
        self._rows: dict[int, Rows] = {}  # by code, where it was asked for and has not changed since

    def __contains__(self, category: str) -> bool:
        """Whether an item has ever been in a category."""
        return category in self._codes

    @classmethod
    def laid_out(cls, table: ItemTable, rows: Rows) -> "Categories":
        """Return the categories of the items of a table, which lie in `rows`, int64[items]."""
        categories = cls()
        categories._names = list(table.category_names)
        categories._codes = {name: code for code, name in enumerate(categories._names)}
        categories._laid_out = table.categories
        categories._places = np.full(int(rows.max(initial=-1)) + 1, _NOWHERE, dtype=np.int32)
        categories._places[rows] = np.arange(len(rows))
        codes, members = table.categories.values, np.repeat(rows, table.categories.lengths)
        order = np.lexsort((members, codes))
        starts = np.searchsorted(codes[order], np.arange(len(categories._names) + 1))
        categories._members = Ragged(members[order], starts.astype(np.int64))
        return categories

    def put(self, row: int, categories: Sequence[str]) -> None:
        """Set the categories of the item in `row`; none takes them away."""
        before, now = self._of(row), [self._code(name) for name in dict.fromkeys(categories)]
        self._changed[row] = now
        for code in before:
            self._added.get(code, set()).discard(row)
            self._rows.pop(code, None)
        for code in now:
            self._added.setdefault(code, set()).add(row)
            self._rows.pop(code, None)

    def of(self, row: int) -> Sequence[str]:
        """Return the categories of the item in `row`."""
        return tuple([self._names[code] for code in self._of(row)])

    def in_any(self, categories: Sequence[str]) -> Rows:
        """Return the rows of the items in at least one of `categories`, ascending; not to be changed."""
        found = [self._in(self._codes[name]) for name in dict.fromkeys(categories) if name in self._codes]
        if len(found) == 1:
            return found[0]
        # Sorting is several times faster than np.unique, which hashes.
        rows: Rows = np.sort(np.concatenate((*found, _NOTHING)))
        first = np.append(True, rows[1:] != rows[:-1])[: len(rows)]
        distinct: Rows = rows[first]
        return distinct

    def _of(self, row: int) -> Sequence[int]:
        changed = self._changed.get(row)
        if changed is not None:
            return changed
        place = int(self._places[row]) if row < len(self._places) else _NOWHERE
        return () if place == _NOWHERE else self._laid_out[place].tolist()

    def _in(self, code: int) -> Rows:
        rows = self._rows.get(code)
        if rows is None:
            rows = self._rows[code] = self._found(code)
        return rows

    def _found(self, code: int) -> Rows:
        laid_out = self._members[code] if code < len(self._members) else _NOTHING
        added = self._added.get(code, set())
        if self._changed and len(laid_out):
            changed = np.fromiter(self._changed, dtype=np.int64, count=len(self._changed))
            laid_out = laid_out[~np.isin(laid_out, changed)]
        if not added:
            return laid_out
        return np.sort(np.concatenate((laid_out, np.fromiter(added, dtype=np.int64, count=len(added)))))

    def _code(self, name: str) -> int:
        code = self._codes.setdefault(name, len(self._names))
        if code == len(self._names):
            self._names.append(name)
        return code
