"""What followed each event of a log: the events of its user's next second. Those of one second have no order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.inputs import gap_buckets
from models.log import Log

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class NextSeconds:
    """For every event of a log, int64 [events] each, where the next second begins and ends, and the gap's bucket.

    `is_last`, bool [events], marks the last event of its second, from which the next second is predicted; both bounds
    are equal at the end of a history. `rows` and `wanted` are the log's.
    """

    begins: Rows
    ends: Rows
    gaps: Rows
    is_last: NDArray[np.bool_]
    rows: Rows
    wanted: NDArray[np.bool_]

    @classmethod
    def of(cls, log: Log) -> Self:
        """Look through a log."""
        begins, ends, gaps = (np.zeros_like(log.rows) for _ in range(3))
        for first, last in zip(log.starts[:-1], log.starts[1:], strict=True):
            seconds = log.times[first:last] // 1000
            begin = np.searchsorted(seconds, seconds, side="right")
            end = np.append(begin, last - first)[begin]
            begins[first:last], ends[first:last] = first + begin, first + end
            if first < last:
                gaps[first:last] = gap_buckets(log.times[first:last], int(log.times[last - 1]))
        return cls(begins, ends, gaps, begins == np.arange(len(begins)) + 1, log.rows, log.wanted)

    def targets(self, windows: Sequence[slice], length: int) -> tuple[Rows, Rows]:
        """Return the places that have a target and the targets' rows, int64 [pairs] each, ascending by place.

        A pair for each wanted event of the next second; a place is that in the windows, each `length` long, laid end
        to end.
        """
        pairs = list(self._pairs(windows, length))
        if not pairs:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        places, events = np.concatenate([place for place, _ in pairs]), np.concatenate([event for _, event in pairs])
        wanted = self.wanted[events]
        return places[wanted], self.rows[events[wanted]]

    def _pairs(self, windows: Sequence[slice], length: int) -> Iterator[tuple[Rows, Rows]]:
        for number, window in enumerate(windows):
            at = np.flatnonzero(self.is_last[window])
            begins, ends = self.begins[window][at], self.ends[window][at]
            sizes = ends - begins
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            yield np.repeat(number * length + at, sizes), np.repeat(begins, sizes) + within
