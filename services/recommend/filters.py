"""Which items may be shown at all: available, not hidden, in the categories asked for, not seen and not excluded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from services.recommend.live import Live
from streaming.ids import ItemId

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Allowed:
    """The rows that may be shown; `barred` counts those that only this user or request rules out."""

    mask: NDArray[np.bool_]
    barred: int

    @cached_property
    def rows(self) -> Rows:
        """Every allowed row, ascending."""
        return np.flatnonzero(self.mask)

    def among(self, rows: Rows) -> Rows:
        """Return the allowed ones of `rows` in their order; rows that the catalogue does not know are not allowed."""
        known = rows[rows < len(self.mask)]
        return known[self.mask[known]]


def may_show(live: Live, as_of: int, barred: Iterable[ItemId], categories: Sequence[str]) -> Allowed:
    """Return what may be shown at `as_of` (ms) without the items `barred`; no categories means all."""
    mask = live.columns.eligible(as_of)
    if categories:
        within = np.zeros(len(mask), dtype=np.bool_)
        within[live.columns.in_any(categories)] = True
        mask &= within
    rows = live.rows_of(barred)
    mask[rows[rows < len(mask)]] = False
    return Allowed(mask, len(rows))
