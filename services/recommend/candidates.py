"""Candidate sources: each names rows it would show; together, merged, they are what gets ranked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.scorer import Query
from models.top import best
from services.recommend.filters import Allowed
from services.recommend.live import Live
from services.recommend.surfaces import Quota, SourceName

Rows = NDArray[np.int64]

TRENDING_DAYS, POPULAR_DAYS = 7, 30
NOTHING: Rows = np.zeros(0, dtype=np.int64)
FILL = "catalogue"
MOST_FILLED = 1_000
"""How many items fill up what the sources name too few of; more than any list of slates has."""

_OFTEN_ENOUGH = 8  # times as many leaders as are asked for, nearly always enough of which may be shown


@dataclass(frozen=True)
class Need:
    """What the sources are asked: the query, what may be shown, and the categories to look in, if any."""

    query: Query
    allowed: Allowed
    categories: Sequence[str]


@dataclass(frozen=True)
class Candidates:
    """Distinct rows, ascending, and for each the index in `names` of the source that named it first.

    `places` are those in the order of retrieval: what the first source names, best first, then what the next one adds.
    """

    rows: Rows
    sources: NDArray[np.intp]
    names: Sequence[str]
    places: NDArray[np.intp]

    @property
    def retrieval_scores(self) -> NDArray[np.float32]:
        """What brings the candidates into the order of retrieval, float32[rows]: their places, negated."""
        return -self.places.astype(np.float32)

    def including(self, rows: Rows, name: str) -> "Candidates":
        """Return the same with further rows, which the source `name` names; those that are there keep their source."""
        new = np.setdiff1d(rows, self.rows)
        at = np.searchsorted(self.rows, new)
        sources = np.insert(self.sources, at, len(self.names))
        last = self.places.max(initial=-1) + 1 + np.arange(len(new))
        return Candidates(np.insert(self.rows, at, new), sources, [*self.names, name], np.insert(self.places, at, last))

    def only(self, kept: NDArray[np.bool_]) -> "Candidates":
        """Return the candidates that `kept`, bool[rows], marks."""
        return Candidates(self.rows[kept], self.sources[kept], self.names, self.places[kept])

    def counts(self) -> Iterator[tuple[str, int]]:
        """Yield each source that named a row first and how many."""
        counts = np.bincount(self.sources, minlength=len(self.names))
        yield from ((name, int(count)) for name, count in zip(self.names, counts, strict=True) if count)


Source = Callable[[Live, Need, int], Rows]
"""Returns about so many rows, best first; what may not be shown is taken out afterwards."""


def sequence(live: Live, need: Need, k: int) -> Rows:
    """What the sequence model retrieves for the history."""
    if live.scorer is None or not need.query.history.events:
        return NOTHING
    return live.scorer.retrieve(need.query, k).rows


def co_visited(live: Live, need: Need, k: int) -> Rows:
    """What others went on to after the items that the user came to last."""
    if live.scorer is None or not need.query.history.events:
        return NOTHING
    return live.scorer.co_visited(need.query, k).rows


def trending(live: Live, need: Need, k: int) -> Rows:
    """The most used items of the last week."""
    return most_used(live, need.allowed, need.query.as_of, TRENDING_DAYS, k)


def popular(live: Live, need: Need, k: int) -> Rows:
    """The most used items of the last month."""
    return most_used(live, need.allowed, need.query.as_of, POPULAR_DAYS, k)


def in_category(live: Live, need: Need, k: int) -> Rows:
    """The most used items of the month in the categories asked for, or else in those of the user's last item."""
    categories: Sequence[str] = need.categories
    if not categories and need.query.history.events:
        last = live.rows.row(need.query.history.events[-1].item_id)
        categories = () if last is None else live.columns.categories(last)
    if not categories:
        return NOTHING
    within = Allowed(live.columns.within(categories) & need.allowed.mask, need.allowed.barred)
    leading = _leading(live, within, need.query.as_of, POPULAR_DAYS, k)
    if leading is not None:
        return leading
    rows = need.allowed.among(live.columns.in_any(categories))
    return _ordered_by_use(rows, usage(live, rows, need.query.as_of, POPULAR_DAYS), k)


def unproven(live: Live, need: Need, k: int) -> Rows:
    """The newest of the items that the model was not trained on."""
    return need.allowed.among(live.unproven_rows[::-1])[:k]


SOURCES: Mapping[SourceName, Source] = MappingProxyType(
    {
        "sequence": sequence,
        "co_visited": co_visited,
        "trending": trending,
        "popular": popular,
        "category": in_category,
        "new": unproven,
    }
)


def gather(live: Live, need: Need, quotas: Sequence[Quota], at_least: int) -> Candidates:
    """Ask the sources in the order of `quotas` and merge what they name; the first to name a row keeps it.

    Only rows that may be shown come back. When the sources name fewer than `at_least`, the most used rows that may be
    shown are candidates too, all of them or as many as any list can show: filters never starve a slate, and no request
    has the whole catalogue ranked.
    """
    found = [
        need.allowed.among(SOURCES[quota.source](live, need, need.allowed.to_ask_for(quota.limit)))[: quota.limit]
        for quota in quotas
    ]
    names = [quota.source for quota in quotas]
    merged = _merged(found, names)
    if len(merged.rows) < at_least:
        used = usage(live, need.allowed.rows, need.query.as_of, POPULAR_DAYS)
        fill = need.allowed.rows[best(used, max(MOST_FILLED, at_least))]
        merged = _merged([*found, fill], [*names, FILL])
    return merged


def most_used(live: Live, allowed: Allowed, as_of: int, days: int, k: int) -> Rows:
    """Return up to `k` allowed rows with the most interactions in the `days` before `as_of`, never one with none.

    Of rows that were used equally often the first come first.
    """
    leading = _leading(live, allowed, as_of, days, k)
    return _ordered_by_use(allowed.rows, usage(live, allowed.rows, as_of, days), k) if leading is None else leading


def usage(live: Live, rows: Rows, as_of: int, days: int) -> NDArray[np.int64]:
    """Return how often each of `rows` was used in the `days` before `as_of`, ms."""
    live.popularity.cover(live.columns.size)
    return live.popularity.counts(as_of, days)[rows]


def _leading(live: Live, allowed: Allowed, as_of: int, days: int, k: int) -> Rows | None:
    """Return the `k` most used allowed rows, None when the leaders have fewer: the rest was used less often."""
    live.popularity.cover(live.columns.size)
    leaders = live.popularity.most_used(as_of, days)
    for some in (leaders[: _OFTEN_ENOUGH * k], leaders):
        leading = allowed.among(some)
        if len(leading) >= k:
            return leading[:k]
    return None


def _ordered_by_use(rows: Rows, counts: NDArray[np.int64], k: int) -> Rows:
    order = best(counts, k)
    return rows[order[counts[order] > 0]]


def _merged(found: Sequence[Rows], names: Sequence[str]) -> Candidates:
    rows = np.concatenate(found)
    named_by = np.repeat(np.arange(len(found)), [len(some) for some in found])
    order = np.argsort(rows, kind="stable")  # of equal rows the first source's comes first
    rows = rows[order]
    first = np.append(True, rows[1:] != rows[:-1])[: len(rows)]
    return Candidates(rows[first], named_by[order][first], names, order[first])
