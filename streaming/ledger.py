"""The ledger of erasures: who was erased, and up to when what they did is dropped for ever.

Every consumer asks it, so that no replay of old offsets, no lost checkpoint and no restored backup brings a user back.
An event is dropped when it was appended, or received by Flywheel, before the erasure was appended; what comes later is
a new user's. The `erasures` topic carries it, compacted; it holds marks (`streaming.marks`) and no id.

Who writes a store asks twice: before the write, to drop, and after it, to undo. An erasure clears the stores only after
it stands in the ledger, so a write that it did not see has seen the entry at the latest when it asks again.
"""

from collections.abc import Iterable, Mapping

from kafka import KafkaConsumer, TopicPartition

from streaming.bounded import read_until
from streaming.config import KafkaSettings
from streaming.consumer import ConsumerCounts, ConsumerSpec, Received, connect, decoded
from streaming.errors import FlywheelError
from streaming.events import ErasureCompleted, ErasureEntered, UserErased
from streaming.marks import Marker, Owner, event_owner
from streaming.topics import Topics


class LedgerMissing(FlywheelError):
    """The ledger's topic does not exist."""


class LedgerUnreadable(FlywheelError):
    """The ledger holds an entry that does not decode."""


class Ledger:
    """The entries that were applied so far. One thread applies them, any may ask."""

    def __init__(self, marker: Marker) -> None:
        self.marker = marker
        self._cuts: dict[str, int] = {}
        self._completed: dict[str, int] = {}

    @property
    def cuts(self) -> Mapping[str, int]:
        """Up to when (ms UTC) what belongs to each mark is dropped."""
        return self._cuts

    @property
    def pending(self) -> Mapping[str, int]:
        """The cuts, by mark, whose erasure was not completed in every store yet."""
        return {mark: cut for mark, cut in self._cuts.items() if self._completed.get(mark, -1) < cut}

    def apply(self, records: Iterable[Received]) -> set[str]:
        """Take the topic's records in; returns the marks that came in or came again with a later cut."""
        changed = set()
        for record in records:
            event = record.event
            if isinstance(event, ErasureEntered) and record.appended_at > self._cuts.get(event.mark, -1):
                self._cuts[event.mark] = record.appended_at
                changed.add(event.mark)
            elif isinstance(event, ErasureCompleted):
                self._completed[event.mark] = max(event.cut, self._completed.get(event.mark, -1))
        return changed

    def cut(self, owner: Owner) -> int | None:
        """Return up to when (ms UTC) what `owner` did is dropped, None for an owner who was never erased."""
        return self._cuts.get(self.marker.mark(owner)) if self._cuts else None

    def drops(self, received: Received) -> bool:
        """Whether a record belongs to somebody who was erased after it; the request to erase always does."""
        event = received.event
        if event is None:
            return False
        if isinstance(event, UserErased):
            return True
        owner = event_owner(event) if self._cuts else None
        cut = None if owner is None else self.cut(owner)
        return cut is not None and min(received.appended_at, event.received_at) <= cut


class LedgerReader:
    """A ledger that is read up to the topic's end whenever it is asked to. For one thread at a time."""

    def __init__(self, kafka: KafkaSettings, topics: Topics) -> None:
        """Nothing is connected yet; raises ErasureKeyMissing."""
        self.ledger = Ledger(Marker(kafka, topics.namespace))
        self._kafka = kafka
        self._partition = TopicPartition(topics.erasures, 0)
        self._consumer: KafkaConsumer | None = None
        self._counts = ConsumerCounts()

    def refresh(self) -> set[str]:
        """Read what was appended before the call; returns the marks that are new or have a later cut.

        Raises BrokerUnavailable, LedgerMissing, LedgerUnreadable (from then on always), and KafkaError when the broker
        goes away meanwhile.
        """
        consumer = self._connected()
        end = consumer.end_offsets([self._partition])[self._partition]
        changed: set[str] = set()
        for batch in read_until(consumer, {self._partition: end}):
            changed |= self.ledger.apply(decoded({self._partition: batch}, self._counts))
        if self._counts.undecodable:
            raise LedgerUnreadable(
                f"topic {self._partition.topic!r} holds an entry that this release cannot read, so nobody can tell who "
                "was erased: run the release that wrote it, or a newer one"
            )
        return changed

    def close(self) -> None:
        """Disconnect. Harmless when repeated."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            topic = self._partition.topic
            consumer = connect(self._kafka, ConsumerSpec(topics=[topic], group=""))
            if not consumer.partitions_for_topic(topic):
                consumer.close()
                raise LedgerMissing(f"topic {topic!r} does not exist: run `flywheel topics`")
            consumer.assign([self._partition])
            consumer.seek_to_beginning(self._partition)
            self._consumer = consumer
        return self._consumer
