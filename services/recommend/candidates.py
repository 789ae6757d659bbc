"""Candidate sources: each names rows it would show; together, merged, they are what gets ranked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.scorer import Query
from services.recommend.filters import Allowed
from services.recommend.live import Live
from services.recommend.surfaces import Quota

Rows = NDArray[np.int64]

TRENDING_DAYS, POPULAR_DAYS = 7, 30
NOTHING: Rows = np.zeros(0, dtype=np.int64)
FILL = "catalogue"


@dataclass(frozen=True)
class Need:
    """What the sources are asked: the query, what may be shown, and the categories to look in, if any."""

    query: Query
    allowed: Allowed
    categories: Sequence[str]


@dataclass(frozen=True)
class Candidates:
    """Distinct rows, ascending, and for each the index in `names` of the source that named it first."""

    rows: Rows
    sources: NDArray[np.intp]
    names: Sequence[str]

    def only(self, kept: NDArray[np.bool_]) -> "Candidates":
        """Return the candidates that `kept`, bool[rows], marks."""
        return Candidates(self.rows[kept], self.sources[kept], self.names)

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
    return most_used(live, need.allowed.rows, need.query.as_of, TRENDING_DAYS, k)


def popular(live: Live, need: Need, k: int) -> Rows:
    """The most used items of the last month."""
    return most_used(live, need.allowed.rows, need.query.as_of, POPULAR_DAYS, k)


def in_category(live: Live, need: Need, k: int) -> Rows:
    """The most used items of the month in the categories asked for, or else in those of the user's last item."""
    categories: Sequence[str] = need.categories
    if not categories and need.query.history.events:
        last = live.rows.row(need.query.history.events[-1].item_id)
        categories = () if last is None else live.columns.categories(last)
    return most_used(live, need.allowed.among(live.columns.in_any(categories)), need.query.as_of, 30, k)


def unproven(live: Live, need: Need, k: int) -> Rows:
    """The newest of the items that the model was not trained on."""
    return need.allowed.among(live.unproven_rows[::-1])[:k]


SOURCES: Mapping[str, Source] = MappingProxyType(
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

    Only rows that may be shown come back. When the sources name fewer than `at_least`, every row that may be shown is a
    candidate, so filters never starve a slate.
    """
    found = [
        need.allowed.among(SOURCES[quota.source](live, need, quota.limit + need.allowed.barred))[: quota.limit]
        for quota in quotas
    ]
    names = [quota.source for quota in quotas]
    size = len(need.allowed.mask)
    merged = _merged(found, names, size)
    if len(merged.rows) < at_least:
        merged = _merged([*found, need.allowed.rows], [*names, FILL], size)
    return merged


def most_used(live: Live, rows: Rows, as_of: int, days: int, k: int) -> Rows:
    """Return up to `k` of `rows` with the most interactions in the `days` before `as_of`, never one with none."""
    counts = usage(live, rows, as_of, days)
    used = np.flatnonzero(counts)
    if len(used) > k:
        used = used[np.argpartition(-counts[used], k)[:k]]
    return rows[used[np.argsort(-counts[used], kind="stable")]]


def usage(live: Live, rows: Rows, as_of: int, days: int) -> NDArray[np.int64]:
    """Return how often each of `rows` was used in the `days` before `as_of`, ms."""
    counts = live.popularity.counts(as_of, days)
    found = np.zeros(len(rows), dtype=np.int64)
    counted = rows < len(counts)
    found[counted] = counts[rows[counted]]
    return found


def _merged(found: Sequence[Rows], names: Sequence[str], size: int) -> Candidates:
    owner = np.full(size, -1, dtype=np.int64)
    for source in reversed(range(len(found))):  # the first source writes last
        owner[found[source]] = source
    rows = np.flatnonzero(owner >= 0)
    return Candidates(rows, owner[rows], names)
