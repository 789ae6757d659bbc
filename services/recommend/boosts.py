"""Business boosts: rules that move items up or down the ranked order by a bounded number of places."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommend.columns import Columns
from services.recommend.surfaces import MOST_PLACES, Boost

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Boosted:
    """Rows in their boosted order, and for each boost by name the rows that it moved, ascending."""

    rows: Rows
    moved: Sequence[tuple[str, Rows]]

    def names(self, row: int) -> list[str]:
        """Return the boosts of a row."""
        return [name for name, rows in self.moved if row in rows]


def boosted(columns: Columns, ranked: Rows, boosts: Sequence[Boost]) -> Boosted:
    """Move each of `ranked`, best first, up by the places of its boosts; an item's own place breaks ties.

    The places of all boosts of one item together are cut to MOST_PLACES either way.
    """
    if not boosts:
        return Boosted(ranked, ())
    gain = np.zeros(len(ranked), dtype=np.int64)
    moved = []
    for boost in boosts:
        concerned = np.isin(ranked, _rows(columns, boost))
        gain[concerned] += boost.places
        moved.append((boost.name, np.sort(ranked[concerned])))
    order = np.argsort(np.arange(len(ranked)) - np.clip(gain, -MOST_PLACES, MOST_PLACES), kind="stable")
    return Boosted(ranked[order], moved)


def _rows(columns: Columns, boost: Boost) -> Rows:
    if boost.where is not None:
        return np.flatnonzero(columns.matching(boost.where))
    return columns.in_any([boost.category] if boost.category is not None else [])
