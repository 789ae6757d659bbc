"""What Kafka has acknowledged to an outbox, told to the log itself, so that an audit can ask for exactly that.

An offset is given to one record, once. So an offset that was acknowledged and lies behind the log's end, or that was
acknowledged twice, stands for a record that the log has lost, as after an unclean election or on a restored disk.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from streaming.events import AcknowledgedOffsets, RecordsAcknowledged

_EVERY_S = 10.0
_MOST_RANGES = 20_000  # of at most 30 bytes each, in a record of at most 1 MB
_MOST_KEPT = 10 * _MOST_RANGES  # some 30 MB, where nothing can be told

_Ranges = dict[tuple[str, int], list[list[int]]]


class Metadata(Protocol):
    """What kafka-python says of a record that was acknowledged; an offset of -1 is one that the broker did not tell."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...


class Acknowledgements:
    """What was acknowledged and is not in the log yet, as an event every ten seconds. Safe to share between threads.

    An event is given out again until it is known to be in the log. Never told is what was acknowledged in the last
    seconds before a process was killed, and what comes once 200,000 ranges wait, as where the topic is missing.
    """

    def __init__(self, outbox: str, now: Callable[[], int]) -> None:
        """Begin with nothing; `outbox` is an id of its own, `now` in ms UTC."""
        self._outbox = outbox
        self._now = now
        self._lock = threading.Lock()
        self._ranges: _Ranges = {}
        self._count = 0
        self._number = 1
        self._telling: RecordsAcknowledged | None = None
        self._next_s = 0.0

    def note(self, metadata: Metadata) -> None:
        """Take in a record that was acknowledged."""
        offset = metadata.offset
        if offset < 0:
            return
        with self._lock:
            ranges = self._ranges.setdefault((metadata.topic, metadata.partition), [])
            if ranges and ranges[-1][1] == offset - 1:
                ranges[-1][1] = offset
            elif self._count < _MOST_KEPT:
                ranges.append([offset, offset])
                self._count += 1

    def due(self, at_s: float) -> RecordsAcknowledged | None:
        """Return what is to be told by `at_s`, seconds of a monotonic clock; None while it is too early, or nothing."""
        with self._lock:
            if at_s < self._next_s and (self._telling is not None or self._count < _MOST_RANGES):
                return None
            self._next_s = at_s + _EVERY_S
            if self._telling is None and self._ranges:
                self._telling = self._taken()
            return self._telling

    def told(self, event: RecordsAcknowledged) -> None:
        """Forget what is in the log now."""
        with self._lock:
            if self._telling is not None and self._telling.number == event.number:
                self._telling = None
                self._number += 1

    def _taken(self) -> RecordsAcknowledged:
        offsets: list[AcknowledgedOffsets] = []
        room = _MOST_RANGES
        for (topic, partition), ranges in sorted(self._ranges.items()):
            taken, self._ranges[topic, partition] = ranges[:room], ranges[room:]
            room -= len(taken)
            if taken:
                told = [(first, last) for first, last in taken]
                offsets.append(AcknowledgedOffsets(topic=topic, partition=partition, ranges=told))
        self._ranges = {place: ranges for place, ranges in self._ranges.items() if ranges}
        self._count = sum(map(len, self._ranges.values()))
        now = self._now()
        return RecordsAcknowledged(
            event_id=f"{self._outbox}:{self._number}",
            happened_at=now,
            received_at=now,
            producer="outbox",
            outbox=self._outbox,
            number=self._number,
            offsets=offsets,
        )
