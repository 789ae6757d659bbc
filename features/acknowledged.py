"""What Kafka has acknowledged to our services against what it has: nothing behind its end, nothing given out twice."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from features.differences import Difference
from streaming.bounded import records
from streaming.config import KafkaSettings
from streaming.consumer import Received
from streaming.events import RecordsAcknowledged
from streaming.offsets import bounds
from streaming.topics import Topics

_Part = tuple[str, int]
_Offsets = npt.NDArray[np.int64]


@dataclass
class Acknowledged:
    """Ranges of offsets by partition, as often as they were acknowledged, and what was told and is gone itself."""

    ranges: dict[_Part, tuple["array[int]", "array[int]"]] = field(default_factory=dict)
    missing: list[Difference] = field(default_factory=list)

    def count(self, part: _Part, first: int, end: int) -> int:
        """Return how many offsets from `first` on and before `end` were acknowledged."""
        firsts, lasts = self._sorted(part)
        if not firsts.size:
            return 0
        reached = np.concatenate(([first - 1], np.maximum.accumulate(lasts)[:-1]))
        begin, until = np.maximum(np.maximum(firsts, reached + 1), first), np.minimum(lasts + 1, end)
        return int(np.maximum(until - begin, 0).sum())

    def differences(self, ends: Mapping[_Part, int]) -> Iterator[Difference]:
        """Yield what was acknowledged and cannot be in a log whose partitions end there."""
        for part in sorted(self.ranges):
            firsts, lasts = self._sorted(part)
            end = ends.get(part, 0)
            for at in np.flatnonzero(lasts >= end):
                first = max(int(firsts[at]), end)
                yield Difference(*part, first, int(lasts[at]), "was acknowledged and is not in the log")
            reached = np.maximum.accumulate(lasts)
            for at in np.flatnonzero(firsts[1:] <= reached[:-1]) + 1:
                last = min(int(lasts[at]), int(reached[at - 1]))
                what = "was acknowledged for two records, of which the log has one"
                yield Difference(*part, int(firsts[at]), last, what)
        yield from self.missing

    def add(self, event: RecordsAcknowledged) -> None:
        """Take in what one outbox told."""
        for one in event.offsets:
            firsts, lasts = self.ranges.setdefault((one.topic, one.partition), (array("q"), array("q")))
            for first, last in one.ranges:
                firsts.append(first)
                lasts.append(last)

    def _sorted(self, part: _Part) -> tuple[_Offsets, _Offsets]:
        firsts, lasts = (np.asarray(one, dtype=np.int64) for one in self.ranges.get(part, (array("q"), array("q"))))
        order = np.argsort(firsts, kind="stable")
        return firsts[order], lasts[order]


def acknowledged(kafka: KafkaSettings, topics: Topics) -> Acknowledged:
    """Return what the outboxes have told up to the call, as far back as the log keeps it; raises BrokerUnavailable."""
    found = Acknowledged()
    numbers: dict[str, int] = {}
    for record in chain.from_iterable(records(kafka, topics.acknowledgements)):
        event = record.event
        if not isinstance(event, RecordsAcknowledged) or event.number <= numbers.get(event.outbox, 0):
            continue
        expected = numbers.get(event.outbox, event.number - 1) + 1  # what came before may have expired
        if event.number != expected:
            found.missing.append(_gap(record, event.number - expected))
        numbers[event.outbox] = event.number
        found.add(event)
    return found


def lost(kafka: KafkaSettings, told: Acknowledged) -> list[Difference]:
    """Return where the log lacks what it has acknowledged; raises BrokerUnavailable."""
    ends = bounds(kafka, {topic for topic, _ in told.ranges})
    return list(told.differences({(part.topic, part.partition): end for part, (_, end) in ends.items()}))


def _gap(record: Received, count: int) -> Difference:
    what = f"follows on {count} records of its outbox that the log has lost"
    return Difference(record.topic, record.partition, record.offset, record.offset, what)
