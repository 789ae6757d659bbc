"""A simulated world whose tastes are known, so that a recommender can be held against the best possible one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streaming.dataset import DataSet, InteractionRecord, ItemRecord, UserRecord
from streaming.events import Kind
from streaming.ids import ItemId, UserId

_DAY_MS = 24 * 3_600_000
_START_MS = 874_713_600_000  # 1997-09-20, near the start of MovieLens-100K


@dataclass(frozen=True)
class WorldSpec:
    """The size of the world and how strongly the last item decides the next category (`focus`, 0 to 1)."""

    users: int = 500
    items: int = 600
    categories: int = 15
    days: int = 120
    mean_events: int = 50
    focus: float = 0.7
    seed: int = 20_261_125


class World:
    """Users with tastes over categories, items with an appeal inside theirs.

    The next category is that of the last item with probability `focus`, else drawn from the user's taste; the item is
    drawn from the category's unseen ones by appeal. Nobody meets an item twice.
    """

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec
        rng = np.random.default_rng(spec.seed)
        self._taste = rng.dirichlet(np.full(spec.categories, 0.3), size=spec.users)
        self._category = np.arange(spec.items) % spec.categories
        self._appeal = 1.0 / (1.0 + rng.permutation(spec.items) // spec.categories)
        self._lengths = np.clip(rng.geometric(1 / spec.mean_events, spec.users), 5, spec.items // 3)
        self._rng = rng

    @cached_property
    def data(self) -> DataSet:
        """The world's data set: everything that its users did, in order of time."""
        events = [event for user in range(self.spec.users) for event in self._live(user)]
        events.sort()
        interactions = [
            InteractionRecord(number, user_id(user), item_id(item), Kind.CLICK, None, time)
            for number, (time, user, item) in enumerate(events)
        ]
        return DataSet("synthetic", self._users(), self._items(), interactions)

    def probabilities(self, user: UserId, history: Sequence[ItemId]) -> NDArray[np.float64]:
        """Return the true probability of each item (float64 [items]) to be the user's next one, given all before."""
        seen = np.array([_number(item) for item in history], dtype=np.int64)
        return self._next(_number(user), seen)

    def _next(self, user: int, seen: NDArray[np.int64]) -> NDArray[np.float64]:
        open_appeal = self._appeal.copy()
        open_appeal[seen] = 0.0
        wanted = self._taste[user].copy()
        if len(seen):
            wanted *= 1 - self.spec.focus
            wanted[self._category[seen[-1]]] += self.spec.focus
        per_category = np.bincount(self._category, weights=open_appeal, minlength=self.spec.categories)
        share = np.divide(wanted, per_category, out=np.zeros_like(wanted), where=per_category > 0)
        unnormalised: NDArray[np.float64] = open_appeal * share[self._category]
        return unnormalised / np.sum(unnormalised)

    def _live(self, user: int) -> list[tuple[int, int, int]]:
        rng, times, seen = self._rng, self._times(user), np.empty(0, dtype=np.int64)
        for _ in times:
            seen = np.append(seen, rng.choice(self.spec.items, p=self._next(user, seen)))
        return [(time, user, int(item)) for time, item in zip(times, seen, strict=True)]

    def _times(self, user: int) -> list[int]:
        rng, length = self._rng, int(self._lengths[user])
        starts = np.sort(rng.integers(0, self.spec.days * _DAY_MS, size=max(1, length // 20)))
        session = np.sort(rng.integers(0, len(starts), size=length))
        gaps = rng.integers(5_000, 90_000, size=length)
        first = np.r_[0, np.flatnonzero(np.diff(session)) + 1]
        since = np.cumsum(gaps) - np.repeat(np.cumsum(gaps)[first], np.diff(np.r_[first, length]))
        times = _START_MS + starts[session] + since
        return [int(time) for time in np.maximum.accumulate(times)]

    def _users(self) -> list[UserRecord]:
        return [UserRecord(user_id(user), {}) for user in range(self.spec.users)]

    def _items(self) -> list[ItemRecord]:
        return [
            ItemRecord(item_id(item), f"Item {item}", [f"category-{self._category[item]}"], {})
            for item in range(self.spec.items)
        ]


def user_id(number: int) -> UserId:
    """Return the id of the world's user `number`."""
    return UserId(f"user-{number}")


def item_id(number: int) -> ItemId:
    """Return the id of the world's item `number`."""
    return ItemId(f"item-{number}")


def _number(identifier: str) -> int:
    return int(identifier.rpartition("-")[2])
