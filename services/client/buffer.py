"""Tracked events that wait for the collector, in order and bounded."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.api.schemas import MAX_BATCH
from services.client.errors import BufferFull
from services.collect.bodies import EventBody, Result


@dataclass
class Buffer:
    """The events that were tracked and are not durable yet, oldest first. Not safe to share; its client guards it."""

    capacity: int
    _events: deque[EventBody] = field(default_factory=deque)
    _numbers: deque[int] = field(default_factory=deque)  # of the events, in the order of tracking
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
        return bool(self._numbers) and self._numbers[0] < tracked

    def add(self, event: EventBody) -> None:
        """Append an event; raises BufferFull."""
        if len(self._events) >= self.capacity:
            raise BufferFull(
                f"{self.capacity} events wait for the collector already: it takes them more slowly than they come, or "
                "does not answer"
            )
        self._events.append(event)
        self._numbers.append(self._tracked)
        self._tracked += 1

    def first(self) -> list[EventBody]:
        """Return what goes in the next body; it stays until it is settled."""
        return [self._events[number] for number in range(min(MAX_BATCH, len(self._events)))]

    def settle(self, sent: Sequence[EventBody], results: Sequence[Result | None]) -> None:
        """Drop the events of `sent`, which are the first ones, that have a result."""
        numbers = [self._numbers.popleft() for _ in sent]
        left = [at for at, result in enumerate(results) if result is None]
        for _ in sent:
            self._events.popleft()
        self._events.extendleft(sent[at] for at in reversed(left))
        self._numbers.extendleft(numbers[at] for at in reversed(left))

    def take(self) -> list[EventBody]:
        """Return everything that waits, and forget it."""
        events = [*self._events]
        self._events.clear()
        self._numbers.clear()
        return events
