"""A made-up world for the serving benchmark: items in groups, users who mostly stay with a few of the groups.

Popularity falls off like 1/rank within a group and over the groups, as it does in real logs; categories follow the
groups. Everything is drawn from one seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.history import History, HistoryEvent
from models.log import KINDS, Log
from streaming.events import Interaction, ItemUpserted, Kind
from streaming.ids import EventId, ItemId

DAY_MS = 86_400_000
GROUP_SIZE = 200
_CATEGORIES, _DAYS, _GROUPS_OF_A_USER = 40, 60, 4
_KINDS = (Kind.VIEW, Kind.VIEW, Kind.VIEW, Kind.CLICK, Kind.LIKE)
_ENVELOPE = {"producer": "benchmark"}


@dataclass(frozen=True)
class WorldSpec:
    """How large: `events` is the length of every user's history; `now` in ms is when the last ones happened."""

    items: int
    users: int
    events: int
    seed: int
    now: int


@dataclass(frozen=True)
class World:
    """`log` holds every history, the user's number as its code and item i in row i, which is of group i // 200."""

    spec: WorldSpec
    log: Log

    @cached_property
    def item_ids(self) -> list[ItemId]:
        """The items' ids by row."""
        return [ItemId(f"item-{row:07d}") for row in range(self.spec.items)]

    def user_id(self, user: int) -> str:
        """Return a user's id."""
        return f"user-{user:07d}"

    def categories(self, row: int) -> list[str]:
        """Return one or two categories."""
        group = row // GROUP_SIZE
        names = {group % _CATEGORIES} | ({(group + 7 * row) % _CATEGORIES} if row % 3 == 0 else set())
        return [f"category-{name:02d}" for name in sorted(names)]

    def items(self) -> Iterator[ItemUpserted]:
        """Yield the catalogue; one item in 500 may be shown only until a time, one in 500 only from one on."""
        now = self.spec.now
        for row, item_id in enumerate(self.item_ids):
            yield ItemUpserted(
                event_id=f"put-{row}",
                happened_at=now - _DAYS * DAY_MS,
                received_at=now,
                item_id=item_id,
                title=f"Item {row}",
                categories=self.categories(row),
                attributes={"year": 1950.0 + row % 75, "price": 1.0 + row % 97},
                available_from=now - DAY_MS if row % 500 == 1 else None,
                available_until=now + 30 * DAY_MS if row % 500 == 2 else None,
                **_ENVELOPE,
            )

    def history(self, user: int) -> History:
        """Return a user's history, newest last."""
        part = slice(int(self.log.starts[user]), int(self.log.starts[user + 1]))
        rows, times, kinds = self.log.rows[part], self.log.times[part], self.log.kinds[part]
        return History(
            tuple(
                HistoryEvent(time, EventId(f"{user}-{number}"), self.item_ids[row], Kind(KINDS[kind]))
                for number, (row, time, kind) in enumerate(
                    zip(rows.tolist(), times.tolist(), kinds.tolist(), strict=True)
                )
            )
        )

    def newest(self, count: int) -> Iterator[Interaction]:
        """Yield the newest interactions of all users, oldest first."""
        for at in np.argsort(self.log.times, kind="stable")[-count:].tolist():
            yield Interaction(
                event_id=f"use-{at}",
                happened_at=int(self.log.times[at]),
                received_at=self.spec.now,
                item_id=self.item_ids[self.log.rows[at]],
                kind=Kind(KINDS[self.log.kinds[at]]),
                user_id=self.user_id(int(self.log.users[at])),
                **_ENVELOPE,
            )


def make_world(spec: WorldSpec) -> World:
    """Draw the histories."""
    rng = np.random.default_rng(spec.seed)
    groups = -(-spec.items // GROUP_SIZE)
    own = rng.choice(groups, (spec.users, _GROUPS_OF_A_USER), p=_falling(groups))
    chosen = own[np.arange(spec.users)[:, None], rng.integers(0, _GROUPS_OF_A_USER, (spec.users, spec.events))]
    within = rng.choice(GROUP_SIZE, chosen.shape, p=_falling(GROUP_SIZE))
    rows = np.minimum(chosen * GROUP_SIZE + within, spec.items - 1)
    times = spec.now - 60_000 - np.sort(rng.integers(0, _DAYS * DAY_MS, rows.shape), axis=1)[:, ::-1]
    codes = np.array([KINDS.index(kind.value) for kind in _KINDS])
    log = Log(
        users=np.repeat(np.arange(spec.users), spec.events),
        rows=rows.ravel(),
        times=times.ravel(),
        kinds=codes[rng.integers(0, len(codes), rows.size)],
        starts=np.arange(spec.users + 1) * spec.events,
    )
    return World(spec, log)


def _falling(count: int) -> NDArray[np.float64]:
    weights = 1.0 / (10.0 + np.arange(count))
    return weights / weights.sum()
