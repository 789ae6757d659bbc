"""The user's state at request time: what the online store knows, merged with the session that the request brings."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
from cachetools import TTLCache
from redis.exceptions import RedisError

from features.history import History, HistoryEvent, merge
from features.online import OnlineReader
from streaming.ids import ItemId, UserId

_log = logging.getLogger(__name__)

STORE_DOWN = "store_unavailable"
LAST_KNOWN = "last_known_state"
NO_HISTORY = "no_history"

_REMEMBERED_S = 900.0


@dataclass(frozen=True)
class State:
    """A history (newest last), everything the user has seen, features by name, and what had to be replaced."""

    history: History
    seen: frozenset[ItemId]
    features: Mapping[str, str | float]
    fallbacks: tuple[str, ...] = ()

    def with_events(self, events: Sequence[HistoryEvent], limit: int) -> "State":
        """Return the state with more events."""
        if not events and len(self.history.events) <= limit:
            return self
        seen = self.seen | {event.item_id for event in events}
        return replace(self, history=merge(self.history, events, limit), seen=seen)

    def with_session(self, events: Sequence[HistoryEvent], limit: int) -> "State":
        """Return the state with the events of a session, some of which the store may have by now: those count once."""
        if not events:
            return self.with_events((), limit)
        stored = {(event.item_id, event.kind) for event in self.history.events}
        return self.with_events([event for event in events if (event.item_id, event.kind) not in stored], limit)

    def before(self, as_of: int) -> "State":
        """Return the state without what happened at `as_of` (ms) or later; what was seen stays seen."""
        return replace(self, history=self.history.before(as_of))


NOBODY = State(History(), frozenset(), {})


class LastStates:
    """The states that were read last, for while the store is away: `most` users', each for a quarter of an hour.

    `clock` in seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._states: TTLCache[UserId, State] = TTLCache(most, _REMEMBERED_S, clock)

    def put(self, user_id: UserId, state: State) -> None:
        """Remember what was read."""
        if self._states.maxsize:
            self._states[user_id] = state

    def instead(self, user_id: UserId) -> State:
        """Return what is remembered of a user, or nothing, and what it stands for."""
        known = self._states.get(user_id)
        if known is None:
            return replace(NOBODY, fallbacks=(STORE_DOWN,))
        return replace(known, fallbacks=(STORE_DOWN, LAST_KNOWN))


class UserStates:
    """Reads states from the online store within a deadline."""

    def __init__(
        self,
        reader: OnlineReader,
        deadline_s: float,
        history_length: int,
        last: LastStates,
        cut: Callable[[UserId], int | None],
    ) -> None:
        """`cut` says up to when (ms) what a user did is erased, None for who was never erased."""
        self._reader = reader
        self._deadline_s = deadline_s
        self._last = last
        self._cut = cut
        self.history_length = history_length

    async def read(self, user_id: UserId | None, as_of: int) -> State:
        """Return a user's stored state with the features known at `as_of`, ms.

        When the store does not answer in time it is the one that was read last, or empty, and says so.
        """
        if user_id is None:
            return NOBODY
        cut = self._cut(user_id)
        try:
            async with asyncio.timeout(self._deadline_s):
                stored = await self._reader.user_state(user_id, as_of)
        except (RedisError, TimeoutError, OSError, msgspec.MsgspecError) as error:  # the last: of a newer release
            _log.warning("the online store gave no state for a user: %s", error or "timeout")
            return self._last.instead(user_id) if cut is None else replace(NOBODY, fallbacks=(STORE_DOWN,))
        if cut is not None:
            stored = stored.since(cut)
            return State(stored.history, frozenset(stored.history.items), stored.features)
        state = State(stored.history, frozenset(stored.history.items), stored.features)
        self._last.put(user_id, state)
        return state
