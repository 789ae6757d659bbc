"""How often each item was used lately: counts per item and UTC day, growable, cheap to read and to copy. Numpy only."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000

_GROWTH = 1_024
_WINDOWS_KEPT = 8
_LEADERS, _ENOUGH = 4_096, 1_024  # rows that are looked at for the most used ones: about so many, and how few will do


@dataclass(frozen=True)
class Leaders:
    """Every row that was used at least `least` times, ascending, int64[n]: no other row was used more often."""

    rows: NDArray[np.int64]
    least: int

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Self:
        """Take some thousand rows with the largest counts; of equals at their end all or none."""
        place = max(len(counts) - _LEADERS, 0)
        least = max(int(np.partition(counts, place)[place]), 1) if len(counts) else 1
        rows = np.flatnonzero(counts >= least)
        above = rows[counts[rows] > least]
        if len(rows) > 2 * _LEADERS and len(above) >= _ENOUGH:
            return cls(above, least + 1)
        return cls(rows, least)

    def joined_by(self, rows: NDArray[np.int64], counts: NDArray[np.int64]) -> Self:
        """Return the leaders after the counts of `rows` have grown to `counts`, int64[all rows]."""
        risen = rows[counts[rows] >= self.least]
        places = np.searchsorted(self.rows, risen)
        within = places < len(self.rows)
        if within.all() and (self.rows[places] == risen).all():
            return self
        return type(self)(np.union1d(self.rows, risen), self.least)


@dataclass(frozen=True)
class DayCounts:
    """Interactions by row and UTC day since 1970, each pair once: `rows`, `days` and `counts`, integers [n]."""

    rows: NDArray[np.integer]
    days: NDArray[np.integer]
    counts: NDArray[np.integer]


class PopularityWindow:
    """Counts of interactions per item row and UTC day over the last `days` days up to the newest day observed.

    Windows are read to the nearest day boundary. Interactions older than what is kept do not count. The result depends
    neither on the order nor on the grouping of `observe` calls that stay within the days kept. Not thread-safe.
    """

    def __init__(self, size: int = 0, days: int = 45) -> None:
        self._days = days
        self._size = size
        self._newest: int | None = None
        self._buckets = np.zeros((days, size), dtype=np.int32)  # the ring: day d lies in row d % days
        self._sums: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._leaders: dict[tuple[int, int], Leaders] = {}
        self._totals: dict[tuple[int, int], int] = {}  # both of these hold until the next `observe`
        self._most_used: dict[tuple[int, int], NDArray[np.int64]] = {}

    @property
    def size(self) -> int:
        """The number of item rows counted so far."""
        return self._size

    def cover(self, size: int) -> None:
        """Count for the rows 0 … size-1 at least, those not used yet as 0."""
        self._grow(size)

    def observe(self, rows: NDArray[np.int64], times_ms: NDArray[np.int64]) -> None:
        """Count one interaction for each of `rows`, int64[n] ≥ 0, that happened at `times_ms`, int64[n] ms UTC."""
        if len(rows) == 0:
            return
        days = times_ms // DAY_MS
        newest = self._advance(int(days.max()))
        self._grow(int(rows.max()) + 1)
        kept = days > newest - self._days
        rows, days = rows[kept], days[kept]
        np.add.at(self._buckets, (days % self._days, rows), 1)
        self._totals.clear()
        self._most_used.clear()
        for (first, last), counts in self._sums.items():
            within = rows[(first <= days) & (days <= last)]
            np.add.at(counts, within, 1)
            if (leaders := self._leaders.get((first, last))) is not None:
                self._leaders[first, last] = leaders.joined_by(within, counts)

    def by_day(self) -> DayCounts:
        """Return everything that is kept, by row and day."""
        if self._newest is None:
            return DayCounts(*(np.zeros(0, dtype=np.int32) for _ in range(3)))
        ring, rows = np.nonzero(self._buckets[:, : self._size])
        days = self._newest - (self._newest - ring) % self._days
        return DayCounts(rows.astype(np.int32), days.astype(np.int32), self._buckets[ring, rows])

    def add(self, counted: DayCounts) -> None:
        """Count what another window has counted, in rows of this one."""
        if len(counted.rows) == 0:
            return
        newest = self._advance(int(counted.days.max()))
        self._grow(int(counted.rows.max()) + 1)
        kept = counted.days > newest - self._days
        np.add.at(self._buckets, (counted.days[kept] % self._days, counted.rows[kept]), counted.counts[kept])
        for derived in (self._sums, self._leaders, self._totals, self._most_used):
            derived.clear()

    def counts(self, as_of_ms: int, days: int) -> NDArray[np.int64]:
        """Return the counts of the `days` days before `as_of_ms`, int64[size], read-only until the next `observe`.

        What was observed on the day of `as_of_ms` counts whole. Raises ValueError when `days` exceeds the days kept.
        """
        view = self._summed(self._window(as_of_ms, days))[: self._size].view()
        view.flags.writeable = False
        return view

    def leaders(self, as_of_ms: int, days: int) -> Leaders:
        """Return some thousand of the rows with the largest `counts`; raises ValueError as `counts` does."""
        window = self._window(as_of_ms, days)
        counts = self._summed(window)
        leaders = self._leaders.get(window)
        if leaders is None:
            leaders = self._leaders[window] = Leaders.of(counts)
        return leaders

    def used_rows(self) -> NDArray[np.int64]:
        """Return the rows that were used on any of the days kept, ascending."""
        return np.flatnonzero(self._buckets[:, : self._size].any(axis=0))

    def total(self, as_of_ms: int, days: int) -> int:
        """Return the sum of `counts`; raises ValueError as `counts` does."""
        window = self._window(as_of_ms, days)
        total = self._totals.get(window)
        if total is None:
            total = self._totals[window] = int(self._summed(window).sum())
        return total

    def most_used(self, as_of_ms: int, days: int) -> NDArray[np.int64]:
        """Return the rows of `leaders`, int64[n], those used most first, of equals the first; not to be written to."""
        window = self._window(as_of_ms, days)
        rows = self._most_used.get(window)
        if rows is None:
            leading = self.leaders(as_of_ms, days).rows
            rows = leading[np.argsort(-self._summed(window)[leading], kind="stable")]
            self._most_used[window] = rows
        return rows

    def copy(self) -> Self:
        """Return an independent copy."""
        return self.remapped(np.arange(self._size, dtype=np.int64), self._size)

    def remapped(self, rows: NDArray[np.int64], size: int) -> Self:
        """Return the counts in another row space: `rows`, int64[n], holds the new row of each row, -1 to drop it.

        Rows that `rows` does not cover are dropped too. Raises ValueError when a new row is not below `size`.
        """
        if len(rows) and int(rows.max()) >= size:
            raise ValueError(f"new rows must lie below {size}, not at {int(rows.max())}")
        rows = rows[: self._size]
        kept = rows >= 0
        other = type(self)(size, self._days)
        other._newest = self._newest
        for theirs, ours in zip(other._buckets, self._buckets, strict=True):
            np.add.at(theirs, rows[kept], ours[: len(rows)][kept])
        return other

    def _window(self, as_of_ms: int, days: int) -> tuple[int, int]:
        if not 1 <= days <= self._days:
            raise ValueError(f"days must lie between 1 and the {self._days} that are kept, not {days}")
        return round(as_of_ms / DAY_MS) - days, as_of_ms // DAY_MS

    def _summed(self, window: tuple[int, int]) -> NDArray[np.int64]:
        counts = self._sums.get(window)
        if counts is None:
            counts = self._sum(*window)
            if len(self._sums) >= _WINDOWS_KEPT:
                oldest = next(iter(self._sums))
                for kept in (self._sums, self._leaders, self._totals, self._most_used):
                    kept.pop(oldest, None)
            self._sums[window] = counts
        return counts

    def _sum(self, first: int, last: int) -> NDArray[np.int64]:
        if self._newest is None:
            return np.zeros(self._buckets.shape[1], dtype=np.int64)
        first, last = max(first, self._newest - self._days + 1), min(last, self._newest)
        ring = np.arange(first, last + 1) % self._days
        counts: NDArray[np.int64] = self._buckets[ring].sum(axis=0, dtype=np.int64)
        return counts

    def _advance(self, day: int) -> int:
        """Make room for `day` and return the newest day."""
        newest = day if self._newest is None else max(self._newest, day)
        if newest != self._newest:
            passed = self._days if self._newest is None else min(newest - self._newest, self._days)
            self._buckets[np.arange(newest - passed + 1, newest + 1) % self._days] = 0
            self._newest = newest
            for kept in (self._sums, self._leaders, self._totals, self._most_used):
                kept.clear()  # days that fell out of the ring may have been part of a sum
        return newest

    def _grow(self, size: int) -> None:
        self._size = max(self._size, size)
        room = self._size - self._buckets.shape[1]
        if room > 0:
            room = max(room, self._buckets.shape[1], _GROWTH)
            self._buckets = np.pad(self._buckets, ((0, 0), (0, room)))
            self._sums = {window: np.pad(counts, (0, room)) for window, counts in self._sums.items()}
