"""Which items may be shown: available, not hidden, as the surface and the request ask, not seen, not excluded."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.history import HistoryEvent
from services.recommend.live import Live
from services.recommend.state import State
from services.recommend.surfaces import Filters, Seen
from streaming.events import Kind
from streaming.ids import ItemId

Rows = NDArray[np.int64]

NO_FILTERS = Filters()
EVER = Seen()
_DAY_MS = 86_400_000
_LEAST_KEPT = 0.1  # bounds how much more is asked of a source because a surface's filters will take most of it out


@dataclass(frozen=True)
class Allowed:
    """The rows that may be shown.

    `barred` counts those that only this user or request rules out, `kept` is the share of the available items that the
    surface's own filters leave.
    """

    mask: NDArray[np.bool_]
    barred: int
    kept: float = 1.0

    @cached_property
    def rows(self) -> Rows:
        """Every allowed row, ascending."""
        return np.flatnonzero(self.mask)

    def among(self, rows: Rows) -> Rows:
        """Return the allowed ones of `rows` in their order; rows that the catalogue does not know are not allowed."""
        known = rows[rows < len(self.mask)]
        return known[self.mask[known]]

    def to_ask_for(self, limit: int) -> int:
        """Return how many rows to ask a source for, so that about `limit` of them may be shown."""
        return math.ceil((limit + self.barred) / max(self.kept, _LEAST_KEPT))


def may_show(
    live: Live, as_of: int, barred: Iterable[ItemId], categories: Sequence[str], filters: Filters = NO_FILTERS
) -> Allowed:
    """Return what may be shown at `as_of` (ms) without the items `barred`; no categories means all.

    Of `filters` the parts that ask for items hold here: categories and attributes.
    """
    mask, kept = live.columns.narrowed(as_of, filters)
    if categories:
        mask &= live.columns.within(categories)
    rows = live.rows_of(barred)
    mask[rows[rows < len(mask)]] = False
    return Allowed(mask, len(rows), kept)


def met(state: State, filters: Filters, as_of: int) -> Iterable[ItemId]:
    """Return the items that the user has met too lately or disliked, as the filters say; may repeat."""
    seen, fatigue = filters.seen, filters.fatigue
    found: Iterable[ItemId] = state.seen if seen == EVER else _acted_on(state, seen.kinds, _start(as_of, seen.days))
    if fatigue is None:
        return found
    return [*found, *_acted_on(state, fatigue.kinds, _start(as_of, fatigue.days))]


def without_tired(live: Live, state: State, filters: Filters, as_of: int) -> Filters:
    """Return the filters with the categories left out of which the user hid too many items lately."""
    fatigue = filters.fatigue
    if fatigue is None or fatigue.category_after is None:
        return filters
    hidden: Counter[str] = Counter()
    for event in _since(state, _start(as_of, fatigue.days)):
        row = live.rows.row(event.item_id) if event.kind is Kind.HIDE else None
        if row is not None:
            hidden.update(live.columns.categories(row))
    tired = [category for category, times in hidden.items() if times >= fatigue.category_after]
    return msgspec.structs.replace(filters, exclude_categories=(*filters.exclude_categories, *tired))


def _acted_on(state: State, kinds: Sequence[Kind] | None, start: int) -> Iterator[ItemId]:
    return (event.item_id for event in _since(state, start) if kinds is None or event.kind in kinds)


def _since(state: State, start: int) -> Iterator[HistoryEvent]:
    return (event for event in state.history.events if event.happened_at >= start)


def _start(as_of: int, days: int | None) -> int:
    return 0 if days is None else as_of - days * _DAY_MS
