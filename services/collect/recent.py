"""The ids of the newest events of this process, which tell an event that comes again from a new one."""

from collections.abc import Iterable

from cachetools import FIFOCache

from streaming.events import Event

_DAY_MS = 86_400_000

Key = tuple[type[Event], str, int]
"""What makes two events one: their type, their id, and the UTC day on which they happened."""


def key_of(event: Event) -> Key:
    """Return what the lake tells duplicates by."""
    return type(event), event.event_id, event.happened_at // _DAY_MS


class RecentIds:
    """A bounded memory of durable events. What it forgets, and what another process has seen, the lake tells."""

    def __init__(self, size: int) -> None:
        """Remember the newest `size`."""
        self._days: FIFOCache[tuple[type[Event], str], int] = FIFOCache(size)
        self._remembers = size > 0

    def knows(self, event: Event) -> bool:
        """Whether the event was added before: its id on its day, or on any day when its time is only that of arrival.

        An application that gives no time sends the same event again at a later one, perhaps after midnight.
        """
        day = self._days.get((type(event), event.event_id))
        return day is not None and (day == event.happened_at // _DAY_MS or event.happened_at == event.received_at)

    def add(self, events: Iterable[Event]) -> None:
        """Remember events that are durable."""
        if self._remembers:
            for event in events:
                self._days[type(event), event.event_id] = event.happened_at // _DAY_MS
