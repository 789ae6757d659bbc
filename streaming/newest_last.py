"""The newest event of a key, last in its compacted topic again, after older ones were drained from a spool behind it.

A process that spooled an item while Kafka was away sends it when others have long sent newer states of it, and what
reads a compacted topic takes the last. Which is newer says `happened_at`; of two at one time the later in the log.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from streaming.bounded import read_until, seek
from streaming.codec import FromTheFuture, Undecodable, decode
from streaming.config import KafkaSettings
from streaming.consumer import ConsumerSpec, connect
from streaming.records import Record, records_of
from streaming.topics import Topics

_CLOCKS_MS = 10 * 60_000  # by how much the clocks of a spool's machine and of the broker may differ


@dataclass
class _State:
    """The newest state of a key: when it happened, ms, its records, and whether the log has no other after it."""

    happened_at: int
    records: list[Record]
    is_last: bool = True

    @property
    def is_removal(self) -> bool:
        """Whether the key is gone: a null record belongs behind the event, or is all that compaction has left."""
        return self.records[-1].value is None


class NewestLast:
    """Watches keys of one compacted topic; to be closed."""

    def __init__(
        self, kafka: KafkaSettings, topics: Topics, topic: str, keys: Collection[bytes], spooled_at: int
    ) -> None:
        """Watch `keys` from when the first of them was spooled on, `spooled_at`, ms UTC; raises BrokerUnavailable."""
        self._topics = topics
        self.topic = topic
        self._keys = set(keys)
        self._since_ms = max(0, spooled_at - _CLOCKS_MS)
        self._states: dict[bytes, _State] = {}
        self._partitions: list[TopicPartition] = []
        self._consumer: KafkaConsumer = connect(kafka, ConsumerSpec(topics=[topic], group=""))

    def watch(self, keys: Collection[bytes]) -> None:
        """Watch further keys, which were spooled only now, from here on."""
        self._keys.update(keys)

    def misplaced(self) -> list[Record]:
        """Read on to the end of the topic; return what to send again, so that the newest of each key is the last.

        While that is sent others may send too: ask again until nothing is returned. Raises BrokerUnavailable and
        KafkaError.
        """
        if not self._partitions:
            self._begin()
        if self._partitions:
            self._consumer.resume(*self._partitions)
            for batch in read_until(self._consumer, self._consumer.end_offsets(self._partitions)):
                for record in batch:
                    self._take(record)
        return [record for state in self._states.values() if not state.is_last for record in state.records]

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _begin(self) -> None:
        numbers = sorted(self._consumer.partitions_for_topic(self.topic) or ())
        partitions = [TopicPartition(self.topic, number) for number in numbers]
        if partitions:
            self._consumer.assign(partitions)
            seek(self._consumer, partitions, None, self._since_ms)
            self._partitions = partitions

    def _take(self, record: Any) -> None:
        if record.key not in self._keys:
            return
        state = self._states.get(record.key)
        kept = Record(self.topic, record.key, record.value, tuple(record.headers))
        if record.value is None:
            if state is None:  # compaction has taken the removal itself
                self._states[record.key] = _State(record.timestamp, [kept])
            else:
                state.is_last = state.records == [kept] or (state.is_last and state.is_removal)
            return
        try:
            event = decode(record.value)
        except (Undecodable, FromTheFuture):  # the lander keeps it
            return
        if state is not None and event.happened_at < state.happened_at:
            state.is_last = False
        else:
            self._states[record.key] = _State(event.happened_at, [kept, *records_of(self._topics, event)[1:]])
