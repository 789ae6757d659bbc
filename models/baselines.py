"""Baselines behind one protocol: simple rankers that every report shows beside the model.

Each is fitted on training events and can be fed later ones; what it does with those is said at each.
"""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from streaming.dataset import InteractionRecord
from streaming.ids import ItemId, UserId

_DAY_MS = 24 * 3_600_000
_EVER = np.iinfo(np.int64).min

Scores = NDArray[np.float64]


class Baseline(ABC):
    """Ranks the catalogue, the items with a training event, for a user as of a time. Seen items are never returned."""

    def __init__(self, train: Sequence[InteractionRecord]) -> None:
        self.items = sorted({event.item_id for event in train}, key=lambda item: (len(item), item))
        self._row = {item: row for row, item in enumerate(self.items)}
        self._history: dict[UserId, list[int]] = defaultdict(list)
        for event in train:
            self._history[event.user_id].append(self._row[event.item_id])

    def answer(self, user_id: UserId, as_of: int, n: int) -> list[ItemId]:
        """Return up to `n` unseen items, best first, ties by the smaller id; `as_of` in ms."""
        scores = self.scores(user_id, as_of)
        scores[self._history.get(user_id, [])] = -np.inf
        best = np.argsort(-scores, kind="stable")[:n]
        return [self.items[row] for row in best if scores[row] > -np.inf]

    def observe(self, event: InteractionRecord) -> None:
        """Add an event to the user's history; items outside the catalogue are left out."""
        row = self._row.get(event.item_id)
        if row is not None:
            self._history[event.user_id].append(row)

    @abstractmethod
    def scores(self, user_id: UserId, as_of: int) -> Scores:
        """Return a new float64 [catalogue] of scores for a user."""


class Popularity(Baseline):
    """The number of training events."""

    def __init__(self, train: Sequence[InteractionRecord]) -> None:
        super().__init__(train)
        rows = [self._row[event.item_id] for event in train]
        self._counts = np.bincount(rows, minlength=len(self.items)).astype(np.float64)

    def scores(self, user_id: UserId, as_of: int) -> Scores:
        """The same for everybody, and fixed."""
        return self._counts.copy()


class _Timed(Baseline):
    """Knows when each event was, later observed ones included; all come in the order of their times."""

    def __init__(self, train: Sequence[InteractionRecord]) -> None:
        super().__init__(train)
        self._times = np.array([event.time for event in train], dtype=np.int64)
        self._rows = np.array([self._row[event.item_id] for event in train], dtype=np.int64)
        self._later_times, self._later_rows = array("q"), array("q")

    def observe(self, event: InteractionRecord) -> None:
        """Count the event as well; events come in the order of their times."""
        super().observe(event)
        if event.item_id in self._row:
            self._later_times.append(event.time)
            self._later_rows.append(self._row[event.item_id])

    def _between(self, since: int, until: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return int64 [events] of times (ms) and of rows, from `since` on and before `until`."""
        first, last = np.searchsorted(self._times, [since, until])
        later = slice(bisect_left(self._later_times, since), bisect_left(self._later_times, until))
        times = np.concatenate((self._times[first:last], np.array(self._later_times[later], dtype=np.int64)))
        return times, np.concatenate((self._rows[first:last], np.array(self._later_rows[later], dtype=np.int64)))


class RecentPopularity(_Timed):
    """The number of events in the last `days` before the time of asking, later observed ones included."""

    def __init__(self, train: Sequence[InteractionRecord], days: int) -> None:
        super().__init__(train)
        self._window = days * _DAY_MS

    def scores(self, user_id: UserId, as_of: int) -> Scores:
        """The same for everybody, as of now."""
        _, rows = self._between(as_of - self._window, as_of)
        return np.bincount(rows, minlength=len(self.items)).astype(np.float64)


class DecayedPopularity(_Timed):
    """The number of events before the time of asking, each halved every `half_life_days`, later observed ones too."""

    def __init__(self, train: Sequence[InteractionRecord], half_life_days: float) -> None:
        super().__init__(train)
        self._half_life = half_life_days * _DAY_MS

    def scores(self, user_id: UserId, as_of: int) -> Scores:
        """The same for everybody, as of now."""
        times, rows = self._between(_EVER, as_of)
        weights = np.exp2((times - as_of) / self._half_life)
        return np.bincount(rows, weights, minlength=len(self.items)).astype(np.float64)


class ItemKnn(Baseline):
    """Sums, over the history, the cosine similarities of each candidate's `k` nearest items (binary histories).

    B. Sarwar et al., Item-based collaborative filtering recommendation algorithms, WWW 2001.
    """

    def __init__(self, train: Sequence[InteractionRecord], k: int = 50) -> None:
        super().__init__(train)
        similarity = _cosine(self._history.values(), len(self.items))
        farther = np.argsort(-similarity, axis=1, kind="stable")[:, k:]
        np.put_along_axis(similarity, farther, 0.0, axis=1)
        self._nearest = similarity

    def scores(self, user_id: UserId, as_of: int) -> Scores:
        """Zero for a user without history."""
        history = np.unique(np.array(self._history.get(user_id, []), dtype=np.int64))
        total: Scores = self._nearest[:, history].sum(axis=1)
        return total


class Markov(Baseline):
    """A windowed Markov chain: transitions within `window` steps weigh 1/distance, and so do the last items' votes.

    Plus `back_off` times each item's share among all transition targets, so that unvisited items have an order.
    """

    def __init__(self, train: Sequence[InteractionRecord], window: int = 5, back_off: float = 0.01) -> None:
        super().__init__(train)
        self._window = window
        counts = np.zeros((len(self.items), len(self.items)))
        for history in self._history.values():
            rows = np.array(history)
            for distance in range(1, min(window, len(rows) - 1) + 1):
                np.add.at(counts, (rows[:-distance], rows[distance:]), 1.0 / distance)
        self._transitions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
        self._back_off = back_off * counts.sum(axis=0) / max(counts.sum(), 1e-12)

    def scores(self, user_id: UserId, as_of: int) -> Scores:
        """The transitions are fixed; the last items are live."""
        total: Scores = self._back_off.copy()
        for distance, row in enumerate(reversed(self._history.get(user_id, [])[-self._window :]), start=1):
            total += self._transitions[row] / distance
        return total


class Product(Baseline):
    """The product of two baselines' scores, the second one raised to `power`."""

    def __init__(
        self, train: Sequence[InteractionRecord], first: Baseline, second: Baseline, power: float = 0.5
    ) -> None:
        super().__init__(train)
        self._first, self._second, self._power = first, second, power

    def observe(self, event: InteractionRecord) -> None:
        """Feed both."""
        super().observe(event)
        self._first.observe(event)
        self._second.observe(event)

    def scores(self, user_id: UserId, as_of: int) -> Scores:
        """As live as the two are."""
        product: Scores = self._first.scores(user_id, as_of) * self._second.scores(user_id, as_of) ** self._power
        return product


def _cosine(histories: Iterable[Sequence[int]], items: int) -> Scores:
    rows = [np.unique(history) for history in histories]
    users = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    seen = sparse.csr_array((np.ones(len(users)), (users, np.concatenate(rows))), shape=(len(rows), items))
    both: Scores = (seen.T @ seen).toarray()
    norms = np.sqrt(both.diagonal())
    both /= np.maximum(np.outer(norms, norms), 1e-12)
    np.fill_diagonal(both, 0.0)
    return both
