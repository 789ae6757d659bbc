"""Consuming events: poll, decode, handle, commit, in that order, so that nothing is skipped when a process dies."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.base import MemberState
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError

from streaming.codec import FromTheFuture, Undecodable, decode
from streaming.config import KafkaSettings, client_options
from streaming.connection import unconnected
from streaming.errors import BrokerUnavailable
from streaming.events import Event

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
_COMMIT_MS = 5_000


@dataclass(frozen=True, slots=True)
class Received:
    """An event with its place in the log, `appended_at` in ms UTC; `event` is None for a compacted key's tombstone."""

    event: Event | None
    key: bytes | None
    topic: str
    partition: int
    offset: int
    appended_at: int


@dataclass(frozen=True)
class ConsumerSpec:
    """What is consumed and how much at once."""

    topics: Sequence[str]
    group: str
    max_records: int = 5_000
    poll_ms: int = 100


@dataclass
class ConsumerCounts:
    """What a consumer has seen so far; `undecodable` records are dead-lettered by the lander, and skipped elsewhere.

    `behind` are the records that each owned partition held beyond what was handled, when it was last asked.
    `appended_at` (ms UTC) is the append time of the newest record handled, `polled_at` (s, monotonic) when the log was
    last asked, or a handler tried again, 0 before the first time.
    """

    handled: int = 0
    undecodable: int = 0
    retries: int = 0
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    behind: dict[tuple[str, int], int] = field(default_factory=dict)
    appended_at: int = 0
    polled_at: float = 0.0


Handler = Callable[[list[Received]], None]


def consume(
    kafka: KafkaSettings,
    spec: ConsumerSpec,
    handle: Handler,
    stop: threading.Event,
    counts: ConsumerCounts | None = None,
) -> None:
    """Run a member of a consumer group until `stop` is set: offsets are committed only after `handle` returned.

    What `handle` raises ends the consumer with nothing committed, so the records come again. Members that stay keep
    their partitions while others come and go. Raises BrokerUnavailable when no broker answers.
    """
    counts = counts if counts is not None else ConsumerCounts()
    consumer = connect(kafka, spec)
    try:
        # kafka-python joins before it has asked about its topics, assigns nothing, and joins again at the next answer;
        # an answer that was under way to an older question leaves it idle until `metadata_max_age_ms`.
        for topic in spec.topics:
            consumer.partitions_for_topic(topic)
        consumer.subscribe(topics=list(spec.topics), listener=_LogRebalance())
        committed: dict[tuple[str, int], int] = {}
        while not stop.is_set():
            received = decoded(_poll(consumer, spec, stop), counts)
            _go_on_joining(consumer)
            if received:
                handle(received)
            if counts.positions != committed and _commit(consumer):
                committed = dict(counts.positions)
            _note(consumer, received, counts)
    finally:
        consumer.close()


def tail(
    kafka: KafkaSettings,
    topics: Sequence[str],
    handle: Handler,
    stop: threading.Event,
    caught_up: threading.Event,
    start: Mapping[int, int] = MappingProxyType({}),
) -> None:
    """Read topics from their first record and then follow them, outside any group, until `stop` is set.

    For state that each process keeps by itself. `start` are the offsets to begin at, by partition, where it is not the
    first record. `caught_up` is set once everything that the topics held at the start was handled. Raises
    BrokerUnavailable when no broker answers or a topic does not exist.
    """
    counts = ConsumerCounts()
    # Records end a poll at once; an empty one costs as much as a tenth of a request, and only `stop` waits for it.
    spec = ConsumerSpec(topics=topics, group="", poll_ms=1_000, max_records=20_000)
    consumer = connect(kafka, spec)
    try:
        numbers = {topic: sorted(consumer.partitions_for_topic(topic) or ()) for topic in topics}
        if missing := [topic for topic, found in numbers.items() if not found]:
            raise BrokerUnavailable(f"there is no topic {', '.join(map(repr, missing))}: run `flywheel topics`")
        partitions = [TopicPartition(topic, number) for topic, found in numbers.items() for number in found]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        for partition in partitions:
            if partition.partition in start:
                consumer.seek(partition, start[partition.partition])
        ends = consumer.end_offsets(partitions)
        while not stop.is_set():
            if not caught_up.is_set() and all((consumer.position(p) or 0) >= ends[p] for p in partitions):
                caught_up.set()
            received = decoded(_poll(consumer, spec, stop), counts)
            if received:
                handle(received)
                counts.handled += len(received)
    finally:
        consumer.close()


def connect(kafka: KafkaSettings, spec: ConsumerSpec) -> KafkaConsumer:
    """Return a consumer that commits nothing by itself; raises BrokerUnavailable."""
    try:
        return KafkaConsumer(
            **client_options(kafka),
            group_id=spec.group or None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            session_timeout_ms=10_000,
            heartbeat_interval_ms=3_000,
            bootstrap_timeout_ms=5_000,
            reconnect_backoff_max_ms=1_000,
            metadata_max_age_ms=10_000,
            allow_auto_create_topics=False,
        )
    except KafkaError as error:
        raise unconnected(kafka, error) from error


def decoded(polled: dict[TopicPartition, list[object]], counts: ConsumerCounts) -> list[Received]:
    """Return the events of what was polled; what does not decode is counted and skipped."""
    return [received for records in polled.values() for received in _decode_all(records, counts)]


def _decode_all(records: list[object], counts: ConsumerCounts) -> Iterator[Received]:
    for record in records:
        topic, partition, offset = record.topic, record.partition, record.offset  # type: ignore[attr-defined]
        key, value, appended_at = record.key, record.value, record.timestamp  # type: ignore[attr-defined]
        counts.positions[topic, partition] = offset + 1
        try:
            event = None if value is None else decode(value)
        except (Undecodable, FromTheFuture) as error:
            counts.undecodable += 1
            _log.warning("skipped %s-%d@%d, the lander keeps it: %s", topic, partition, offset, error)
            continue
        yield Received(event, key, topic, partition, offset, appended_at)


def _poll(consumer: KafkaConsumer, spec: ConsumerSpec, stop: threading.Event) -> dict[TopicPartition, list[object]]:
    """Return what came; nothing, after a moment, while the broker is away."""
    try:
        polled: dict[TopicPartition, list[object]] = consumer.poll(
            timeout_ms=spec.poll_ms, max_records=spec.max_records
        )
    except KafkaError as error:
        if not error.retriable:
            raise
        _log.warning("no records came, trying again: %s", error)
        stop.wait(_RETRY_S)
        return {}
    return polled


def _go_on_joining(consumer: KafkaConsumer) -> None:
    """Have the next poll go on with a join that the last one has begun.

    kafka-python forgets a join that it began because a topic has grown, when a poll ends between the group's two
    answers: it would go on with the partitions that it had, and be expelled without noticing.
    """
    if consumer.group_metadata().state is not MemberState.STABLE:
        consumer._coordinator.request_rejoin()


def _commit(consumer: KafkaConsumer) -> bool:
    """Whether the group took the offsets; while it divides its partitions anew, or the broker is away, it does not.

    Whoever owns the partitions in the end may read the same records again, which handlers must bear.
    """
    try:
        consumer.commit(timeout_ms=_COMMIT_MS)
    except CommitFailedError:
        _log.info("offsets are not committed, the group is dividing its partitions")
        return False
    except KafkaError as error:
        if not error.retriable and not isinstance(error, RebalanceInProgressError):
            raise
        _log.info("offsets are not committed yet: %s", error)
        return False
    return True


def _note(consumer: KafkaConsumer, received: list[Received], counts: ConsumerCounts) -> None:
    counts.handled += len(received)
    counts.polled_at = time.monotonic()
    counts.appended_at = max((record.appended_at for record in received), default=counts.appended_at)
    counts.behind = {
        (part.topic, part.partition): max(0, end - counts.positions.get((part.topic, part.partition), end))
        for part in consumer.assignment()
        if (end := consumer.highwater(part)) is not None
    }


class _LogRebalance(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        _log.info("partitions revoked: %s", revoked)

    def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        _log.info("partitions assigned: %s", assigned)
