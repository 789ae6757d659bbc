"""What happened before each event under the same key: sums and histories that are point in time by construction."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Past:
    """For each of n events those with the same key in earlier seconds, and never one of its own second.

    `keys` and `times`, both int64[n], are codes and ms, in any order. Later events see those of one second in the order
    in which they were given.
    """

    def __init__(self, keys: Ints, times: Ints) -> None:
        seconds = times // 1000
        self._order = np.lexsort((seconds, keys))
        key, second = keys[self._order], seconds[self._order]
        new_key = np.append(True, key[1:] != key[:-1])[: len(key)]
        new_second = new_key | np.append(True, second[1:] != second[:-1])[: len(key)]
        place = np.arange(len(key))
        self._start, self._end = np.empty_like(place), np.empty_like(place)
        self._start[self._order] = np.maximum.accumulate(np.where(new_key, place, 0))
        self._end[self._order] = np.maximum.accumulate(np.where(new_second, place, 0))

    @property
    def count(self) -> Ints:
        """How many events there were, int64[n]."""
        return self._end - self._start

    def total(self, values: Floats, newest: int | None = None) -> Floats:
        """Return the sum of `values`, float64[n], over the events before, or over the `newest` of them."""
        sums = np.append(0.0, np.cumsum(values[self._order]))
        start = self._start if newest is None else np.maximum(self._start, self._end - newest)
        totals: Floats = sums[self._end] - sums[start]
        return totals

    def newest(self, length: int) -> Ints:
        """Return the events before as int64[n, length], newest first, then -1."""
        places = self._end[:, None] - 1 - np.arange(length)
        return np.where(places >= self._start[:, None], self._order[np.maximum(places, 0)], -1)

    def first(self) -> Ints:
        """Return the first event before, int64[n], -1 where there is none."""
        return np.where(self.count > 0, self._order[self._start], -1)
