"""Tracked events that wait for the collector, in order and bounded."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from services.api.schemas import MAX_BATCH
from services.client.errors import BufferFull
from services.collect.bodies import EventBody, Result


@dataclass
class Buffer:
    """The events that were tracked and are not durable yet, oldest first. Not safe to share; its client guards it."""

    capacity: int
    _events: deque[tuple[int, EventBody]] = field(default_factory=deque)  # numbered in the order of tracking
    _tracked: int = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._events)

    @property
    def tracked(self) -> int:
        """How many were added so far."""
        return self._tracked

    def holds(self, tracked: int) -> bool:
        """Whether any of the first `tracked` events waits."""
        return bool(self._events) and self._events[0][0] < tracked

    def add(self, event: EventBody) -> None:
        """Append an event; raises BufferFull."""
        if len(self._events) >= self.capacity:
            raise BufferFull(
                f"{self.capacity} events wait for the collector already: it takes them more slowly than they come, or "
                "does not answer"
            )
        self._events.append((self._tracked, event))
        self._tracked += 1

    def first(self) -> list[EventBody]:
        """Return what goes in the next body; it stays until it is settled."""
        return [event for _, event in islice(self._events, MAX_BATCH)]

    def settle(self, sent: Sequence[EventBody], results: Sequence[Result | None]) -> None:
        """Drop the events of `sent`, which are the first ones, that have a result."""
        first = [self._events.popleft() for _ in sent]
        left = [one for one, result in zip(first, results, strict=True) if result is None]
        self._events.extendleft(reversed(left))

    def take(self) -> list[EventBody]:
        """Return everything that waits, and forget it."""
        events = [event for _, event in self._events]
        self._events.clear()
        return events
