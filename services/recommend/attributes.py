"""Items' attributes as columns by row, made when a rule first names an attribute and kept up to date from then on."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.recommend.item_table import NO_ATTRIBUTE, Attribute, ItemTable, Value, value_key
from services.recommend.surfaces import Predicate

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

NONE = -1
"""The code of an item without the attribute."""
_GROWTH = 1_024


class Attributes:
    """The attributes of the items by row. A flag is no number: true is not 1."""

    def __init__(self) -> None:
        self._laid_out: Mapping[str, Attribute] = {}
        self._rows: Rows = np.zeros(0, dtype=np.int64)
        self._changed: dict[int, Mapping[str, Value]] = {}
        self._columns: dict[str, _Column] = {}

    @classmethod
    def laid_out(cls, table: ItemTable, rows: Rows) -> "Attributes":
        """Return the attributes of the items of a table, which lie in `rows`, int64[items]."""
        attributes = cls()
        attributes._laid_out, attributes._rows = table.attributes, rows
        return attributes

    def put(self, row: int, attributes: Mapping[str, Value]) -> None:
        """Set the attributes of an item; none takes them away."""
        self._changed[row] = attributes
        for name, column in self._columns.items():
            column.put(row, attributes.get(name))

    def matching(self, predicate: Predicate, size: int) -> Mask:
        """Return for each row below `size` whether every condition of the predicate holds."""
        column = self._column(predicate.attribute)
        codes, numbers = column.codes(size), column.numbers(size)
        mask: Mask = codes != NONE
        if predicate.equals is not None:
            mask &= codes == column.code(predicate.equals)
        if predicate.among is not None:
            mask &= np.isin(codes, [column.code(value) for value in predicate.among])
        if predicate.at_least is not None:
            mask &= numbers >= predicate.at_least
        if predicate.at_most is not None:
            mask &= numbers <= predicate.at_most
        return mask

    def codes(self, name: str, rows: Rows) -> NDArray[np.int32]:
        """Return for each of `rows` a number that stands for its value of an attribute, NONE where it has none."""
        return self._column(name).codes(int(rows.max(initial=-1)) + 1)[rows]

    def _column(self, name: str) -> "_Column":
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = _Column.laid_out(self._laid_out.get(name, NO_ATTRIBUTE), self._rows)
            for row, attributes in self._changed.items():
                column.put(row, attributes.get(name))
        return column


class _Column:
    """One attribute: every distinct value has a code, and numbers stand beside it, NaN where the value is none."""

    def __init__(self) -> None:
        self._known: dict[tuple[type, Value], int] = {}
        self._codes = np.zeros(0, dtype=np.int32)
        self._numbers = np.zeros(0, dtype=np.float64)

    @classmethod
    def laid_out(cls, attribute: Attribute, rows: Rows) -> "_Column":
        column = cls()
        values = attribute.distinct()
        column._known = {value_key(value): code for code, value in enumerate(values)}
        column._grow(int(rows.max(initial=-1)) + 1)
        there = rows[attribute.items]
        column._codes[there] = attribute.codes
        column._numbers[there] = np.array([_number(value) for value in values], dtype=np.float64)[attribute.codes]
        return column

    def put(self, row: int, value: Value | None) -> None:
        self._grow(row + 1)
        self._codes[row] = NONE if value is None else self._known.setdefault(value_key(value), len(self._known))
        self._numbers[row] = _number(value)

    def code(self, value: Value) -> int:
        """Return the code of a value; one that no item has ever had gets a code that no item has."""
        return self._known.get(value_key(value), NONE - 1)

    def codes(self, size: int) -> NDArray[np.int32]:
        self._grow(size)
        return self._codes[:size]

    def numbers(self, size: int) -> NDArray[np.float64]:
        self._grow(size)
        return self._numbers[:size]

    def _grow(self, size: int) -> None:
        if size > len(self._codes):
            room = max(size, len(self._codes) * 2, _GROWTH) - len(self._codes)
            self._codes = np.pad(self._codes, (0, room), constant_values=NONE)
            self._numbers = np.pad(self._numbers, (0, room), constant_values=np.nan)


def _number(value: Value | None) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else np.nan
