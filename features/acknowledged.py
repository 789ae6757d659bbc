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

_GONE = "was acknowledged and is not in the log"
_UNSEEN = "was acknowledged, and there is no such partition to be seen"
_REPEATED = "was acknowledged for two records, of which the log has one"


class OffsetRanges:
    """Offsets of one partition, and those of them that were added twice. Ranges that touch are kept as one.

    So several collectors that take turns in a partition, each with a few records, cost no memory for each turn.
    """

    def __init__(self, merge_at: int = 1_000_000) -> None:
        """Begin with none; ranges are put together when so many came, and as many again as were left then."""
        self._firsts, self._lasts = array("q"), array("q")
        self._least = self._merge_at = merge_at
        self._repeated: tuple[_Offsets, _Offsets] = (np.empty(0, np.int64), np.empty(0, np.int64))

    def add(self, first: int, last: int) -> None:
        """Add the offsets from `first` to `last`."""
        self._firsts.append(first)
        self._lasts.append(last)
        if len(self._firsts) >= self._merge_at:
            self._merge()
            self._merge_at = max(self._least, 2 * len(self._firsts))

    def added(self) -> tuple[_Offsets, _Offsets]:
        """Return the first and the last offsets of the ranges, int64, sorted; none touches another."""
        self._merge()
        return np.array(self._firsts, np.int64), np.array(self._lasts, np.int64)

    def repeated(self) -> tuple[_Offsets, _Offsets]:
        """Return those of what was added more than once, in the same way."""
        self._merge()
        return self._repeated

    def _merge(self) -> None:
        firsts, lasts = _sorted(np.array(self._firsts, np.int64), np.array(self._lasts, np.int64))
        reached = np.maximum.accumulate(lasts)
        again = np.flatnonzero(firsts[1:] <= reached[:-1]) + 1
        more = firsts[again], np.minimum(lasts[again], reached[again - 1])
        self._repeated = _merged(*_sorted(*(np.concatenate(pair) for pair in zip(self._repeated, more, strict=True))))
        firsts, lasts = _merged(firsts, lasts)
        self._firsts, self._lasts = array("q", firsts.tobytes()), array("q", lasts.tobytes())


@dataclass
class Acknowledged:
    """Offsets that were acknowledged, by partition, and what was told and is gone itself."""

    ranges: dict[_Part, OffsetRanges] = field(default_factory=dict)
    missing: list[Difference] = field(default_factory=list)

    def count(self, part: _Part, first: int, end: int) -> int:
        """Return how many offsets from `first` on and before `end` were acknowledged."""
        if part not in self.ranges:
            return 0
        firsts, lasts = self.ranges[part].added()
        return int(np.maximum(np.minimum(lasts + 1, end) - np.maximum(firsts, first), 0).sum())

    def differences(self, ends: Mapping[_Part, int]) -> Iterator[Difference]:
        """Yield what was acknowledged and cannot be in a log whose partitions end there; others are not to be seen."""
        for part, ranges in sorted(self.ranges.items()):
            end = ends.get(part, 0)
            gone = _GONE if part in ends else _UNSEEN
            firsts, lasts = ranges.added()
            for at in np.flatnonzero(lasts >= end):
                yield Difference(*part, max(int(firsts[at]), end), int(lasts[at]), gone)
            for first, last in zip(*ranges.repeated(), strict=True):
                yield Difference(*part, int(first), int(last), _REPEATED)
        yield from self.missing

    def add(self, event: RecordsAcknowledged) -> None:
        """Take in what one outbox told."""
        for one in event.offsets:
            ranges = self.ranges.setdefault((one.topic, one.partition), OffsetRanges())
            for first, last in one.ranges:
                ranges.add(first, last)


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


def lost(kafka: KafkaSettings, told: Acknowledged) -> Iterator[Difference]:
    """Yield where the log lacks what it has acknowledged.

    Raises BrokerUnavailable, and kafka.errors.KafkaError when the broker goes away meanwhile.
    """
    ends = bounds(kafka, {topic for topic, _ in told.ranges})
    yield from told.differences({(part.topic, part.partition): end for part, (_, end) in ends.items()})


def _sorted(firsts: _Offsets, lasts: _Offsets) -> tuple[_Offsets, _Offsets]:
    order = np.argsort(firsts, kind="stable")
    return firsts[order], lasts[order]


def _merged(firsts: _Offsets, lasts: _Offsets) -> tuple[_Offsets, _Offsets]:
    """Return ranges that are sorted, those that touch or overlap as one."""
    reached = np.maximum.accumulate(lasts)
    apart = firsts[1:] > reached[:-1] + 1
    begins, ends = np.ones(len(firsts), bool), np.ones(len(firsts), bool)
    begins[1:], ends[:-1] = apart, apart
    return firsts[begins], reached[ends]


def _gap(record: Received, count: int) -> Difference:
    what = f"follows on {count} records of its outbox that the log has lost"
    return Difference(record.topic, record.partition, record.offset, record.offset, what)
