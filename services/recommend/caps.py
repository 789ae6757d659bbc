"""Caps: at most so many items of one category, or of one value of an attribute, in a slate."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommend.attributes import NONE
from services.recommend.columns import Columns
from services.recommend.surfaces import Caps

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Groups:
    """Which groups some rows are in, and how many each group may send.

    `rows`, int64[n], ascending; `members`, bool [n, groups]; `most`, int64[groups].
    """

    rows: Rows
    members: Mask
    most: NDArray[np.int64]

    def of(self, rows: Rows) -> Mask:
        """Return bool [rows, groups] for some of the rows."""
        members: Mask = self.members[np.searchsorted(self.rows, rows)]
        return members


class Tally:
    """How many of each group stand in a slate so far; `within`, bool [ranked], tells whose groups have room."""

    def __init__(self, groups: Groups, ranked: Rows, standing: Rows) -> None:
        """Begin with the rows `standing`; those that may follow are named by their place in `ranked`."""
        self._members = groups.of(ranked)
        self._most = groups.most
        self._counts = groups.of(standing).sum(axis=0)
        self.within: Mask = np.ones(len(ranked), dtype=np.bool_)
        self._close(np.flatnonzero(self._counts >= self._most))

    def add(self, place: int) -> None:
        """Count a row that was given a slot."""
        own = np.flatnonzero(self._members[place])
        if len(own):
            self._counts[own] += 1
            self._close(own[self._counts[own] >= self._most[own]])

    def _close(self, full: Rows) -> None:
        for group in full.tolist():
            self.within[self._members[:, group]] = False


def groups_of(columns: Columns, rows: Rows, caps: Caps) -> Groups | None:
    """Return the groups among `rows`, ascending, that are larger than their cap; None when no cap can be exceeded."""
    found: list[tuple[Rows, int]] = []
    if caps.category is not None:
        found += [(places, caps.category) for places in _by_category(columns, rows)]
    for name, most in caps.attributes.items():
        codes = columns.attributes.codes(name, rows)
        found += [(np.flatnonzero(codes == code), most) for code in np.unique(codes[codes != NONE])]
    binding = [(places, most) for places, most in found if len(places) > most]
    if not binding:
        return None
    members = np.zeros((len(rows), len(binding)), dtype=np.bool_)
    for number, (places, _) in enumerate(binding):
        members[places, number] = True
    return Groups(rows, members, np.array([most for _, most in binding], dtype=np.int64))


def _by_category(columns: Columns, rows: Rows) -> Iterator[Rows]:
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows.tolist()):
        for category in columns.categories(row):
            places.setdefault(category, []).append(place)
    yield from (np.array(found, dtype=np.int64) for found in places.values())
