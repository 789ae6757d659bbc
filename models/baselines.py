"""Baselines behind one contract: simple rankers that every report shows beside the model.

Each is fitted on training events and can be fed later ones: those lengthen the user's history, and what else they
change is said at each. An unknown user is one with an empty history.
"""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models import sequence_baselines
from models.leave_one_out import SequenceRanker
from models.sequences import Sequences
from models.vocabulary import in_natural_order
from streaming.dataset import InteractionRecord
from streaming.ids import ItemId, UserId

_DAY_MS = 24 * 3_600_000
_EVER = np.iinfo(np.int64).min

Scores = NDArray[np.float64]


class Baseline(ABC):
    """Ranks the catalogue, the items with a training event, for a user as of a time. Seen items are never returned.

    Raises ValueError without a training event.
    """

    def __init__(self, train: Sequence[InteractionRecord]) -> None:
        if not train:
            raise ValueError("a baseline needs an event to be fitted on")
        self.items = in_natural_order(event.item_id for event in train)
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


class OfOrder(Baseline):
    """A ranker of `models.sequence_baselines` or `models.ials`: fitted once on the training events, asked live."""

    def __init__(self, train: Sequence[InteractionRecord], fit: Callable[[Sequences], SequenceRanker]) -> None:
        super().__init__(train)
        lengths = [0, *(len(history) for history in self._history.values())]
        rows = [row for history in self._history.values() for row in history]
        training = Sequences(len(self.items), np.array(rows, dtype=np.int32), np.cumsum(lengths, dtype=np.int64))
        self._ranker = fit(training)

    def scores(self, user_id: UserId, as_of: int) -> Scores:
        """What was fitted is fixed; the history is live."""
        rows = np.array(self._history.get(user_id, ()), dtype=np.int32)
        asked = Sequences(len(self.items), rows, np.array([0, len(rows)]))
        scores: Scores = self._ranker.scores(asked)[0].astype(np.float64)
        return scores


class ItemKnn(OfOrder):
    """`models.sequence_baselines.ItemKnn`; zero for a user without history."""

    def __init__(self, train: Sequence[InteractionRecord], k: int = 50) -> None:
        super().__init__(train, partial(sequence_baselines.ItemKnn, k=k))


class Markov(OfOrder):
    """`models.sequence_baselines.Markov`; its back-off for a user without history."""

    def __init__(self, train: Sequence[InteractionRecord], window: int = 5) -> None:
        super().__init__(train, partial(sequence_baselines.Markov, window=window))


class Ease(OfOrder):
    """`models.sequence_baselines.Ease`; zero for a user without history."""

    def __init__(self, train: Sequence[InteractionRecord], strength: float = 200.0) -> None:
        super().__init__(train, partial(sequence_baselines.Ease, strength=strength))


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
