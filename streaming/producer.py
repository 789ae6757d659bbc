"""Producing events: idempotent, acknowledged by all in-sync replicas, in memory only as far as a bound allows."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.connection import unconnected
from streaming.errors import FlywheelError
from streaming.events import Event
from streaming.records import Record, records_of
from streaming.topics import Topics

_IN_FLIGHT = 20_000

Acknowledged = dict[tuple[str, int], int]
"""Acknowledged records by (topic, partition)."""


class NotDurable(FlywheelError):
    """An event was not acknowledged by all in-sync replicas."""


class _Producer(KafkaProducer):
    """One that `close(timeout=0)` ends: kafka-python's own flushes first, and raises while anything is unsent."""

    def flush(self, timeout: float | None = None) -> None:
        if timeout != 0:
            super().flush(timeout)


class EventProducer:
    """Sends events to their topics under their keys. Safe to share between threads.

    kafka-python bounds no memory of its own: `publish` and `deliver` have 20,000 under way at most, and whoever uses
    `send` bounds what it has not seen acknowledged, as the services do by the requests that they take at once.
    """

    def __init__(
        self, kafka: KafkaSettings, topics: Topics, *, delivery_timeout_ms: int = 30_000, linger_ms: int = 5
    ) -> None:
        """Connect; raises BrokerUnavailable when no broker answers within a few seconds.

        An event waits up to `linger_ms` for others, with which it shares a request; that is part of the time for its
        delivery.
        """
        self._topics = topics
        self._delivery_timeout_s = delivery_timeout_ms / 1000
        try:
            self._producer = _Producer(
                **client_options(kafka),
                acks="all",
                enable_idempotence=True,
                max_in_flight_requests_per_connection=5,  # the most that keeps an idempotent producer's order
                compression_type="lz4",
                linger_ms=linger_ms,
                batch_size=65_536,
                max_block_ms=2_000,
                request_timeout_ms=min(10_000, (delivery_timeout_ms - linger_ms) // 2),
                delivery_timeout_ms=delivery_timeout_ms,
                bootstrap_timeout_ms=5_000,
                reconnect_backoff_max_ms=1_000,
                allow_auto_create_topics=False,
            )
        except KafkaError as error:
            raise unconnected(kafka, error) from error

    def send(self, event: Event) -> Any:
        """Queue one event and return kafka-python's future of its topic, partition and offset.

        An `ItemRemoved` or `UserErased` is followed by the null record that lets compaction drop the key; the future is
        that of the event. Raises NotDurable when the topic cannot be reached.
        """
        future, *_ = [self.send_record(record) for record in records_of(self._topics, event)]
        return future

    def send_record(self, record: Record, partition: int | None = None) -> Any:
        """Queue one record and return kafka-python's future; raises NotDurable when the topic cannot be reached.

        It goes to `partition`, or to its key's.
        """
        try:
            return self._producer.send(record.topic, record.value, record.key, [*record.headers], partition)
        except KafkaError as error:
            raise NotDurable(f"the event could not be queued for topic {record.topic!r}: {error}") from error

    def publish(self, events: Iterable[Event], progress: Callable[[int], None] | None = None) -> Acknowledged:
        """Send events and wait until every one is acknowledged; returns the counts by topic and partition.

        `progress` is told how many events were acknowledged since it was last told.
        Raises NotDurable at the first event that is not acknowledged.
        """
        return self._all((self.send(event) for event in events), progress)

    def deliver(self, records: Iterable[tuple[Record, int | None]]) -> None:
        """Send records, each to its partition or its key's, and wait until every one is acknowledged.

        Raises NotDurable at the first one that is not.
        """
        self._all(self.send_record(record, partition) for record, partition in records)

    def flush(self) -> None:
        """Wait until everything queued is acknowledged or has failed."""
        self._producer.flush(timeout=self._delivery_timeout_s)

    def close(self) -> None:
        """Send what is queued and disconnect."""
        self._producer.close(timeout=self._delivery_timeout_s)

    def abort(self) -> None:
        """Disconnect now: what is queued and not acknowledged yet fails, unless it was on its way."""
        self._producer.close(timeout=0)

    def _all(self, futures: Iterable[Any], progress: Callable[[int], None] | None = None) -> Acknowledged:
        """Wait until everything is acknowledged whose future comes; only so many are asked for at once."""
        acknowledged: Counter[tuple[str, int]] = Counter()
        waiting: deque[Any] = deque()
        for future in futures:
            waiting.append(future)
            if len(waiting) >= _IN_FLIGHT:
                self._settle(waiting, _IN_FLIGHT // 2, acknowledged, progress)
        self._settle(waiting, len(waiting), acknowledged, progress)
        return dict(acknowledged)

    def _settle(
        self,
        waiting: deque[Any],
        count: int,
        acknowledged: Counter[tuple[str, int]],
        progress: Callable[[int], None] | None,
    ) -> None:
        for _ in range(count):
            try:
                metadata = waiting.popleft().get(timeout=self._delivery_timeout_s)
            except KafkaError as error:
                raise NotDurable(f"an event was not acknowledged: {error}") from error
            acknowledged[metadata.topic, metadata.partition] += 1
        if progress is not None:
            progress(count)
