"""Reading a part of a topic that has an end, outside any group: for what is worked out once from the log."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from streaming.config import KafkaSettings
from streaming.consumer import ConsumerCounts, ConsumerSpec, Received, connect, decoded
from streaming.errors import BrokerUnavailable

_POLL_MS = 100
_MAX_RECORDS = 20_000
_STALLED_S = 60.0


def records(
    kafka: KafkaSettings,
    topic: str,
    *,
    since: Mapping[int, int] | None = None,
    since_ms: int | None = None,
    until: Mapping[int, int] | None = None,
) -> Iterator[list[Received]]:
    """Yield what a topic holds in batches, each partition in its order; records that do not decode are left out.

    From the first record, the offsets `since` by partition (nothing of the others), or the first appended at `since_ms`
    (UTC); up to, but not with, the offsets `until` by partition (none of the others), or those of the end at the time
    of the call. Nothing of a topic that does not exist. Raises BrokerUnavailable.
    """
    for batch in raw_records(kafka, topic, since=since, since_ms=since_ms, until=until):
        found = decoded({TopicPartition(topic, 0): batch}, ConsumerCounts())
        if found:
            yield found


def raw_records(
    kafka: KafkaSettings,
    topic: str,
    *,
    since: Mapping[int, int] | None = None,
    since_ms: int | None = None,
    until: Mapping[int, int] | None = None,
) -> Iterator[list[Any]]:
    """Yield kafka-python's records as `records` does its events, headers and bytes as they are."""
    consumer = connect(kafka, ConsumerSpec(topics=[topic], group=""))
    try:
        numbers = sorted(consumer.partitions_for_topic(topic) or ())
        partitions = [TopicPartition(topic, number) for number in numbers if since is None or number in since]
        if not partitions:
            return
        consumer.assign(partitions)
        ends = {
            partition: end if until is None else min(end, until.get(partition.partition, 0))
            for partition, end in consumer.end_offsets(partitions).items()
        }
        seek(consumer, partitions, since, since_ms)
        for batch in read_until(consumer, ends):
            found = [record for record in batch if record.offset < ends[TopicPartition(topic, record.partition)]]
            if found:
                yield found
    finally:
        consumer.close()


def read_until(
    consumer: KafkaConsumer, ends: Mapping[TopicPartition, int], stalled_s: float = _STALLED_S
) -> Iterator[list[Any]]:
    """Yield kafka-python's records from where an assigned consumer is until each partition has reached its end.

    What lies behind an end and was fetched with the rest is yielded too; a partition that is there is paused while
    others are not. Raises BrokerUnavailable when nothing has moved for `stalled_s`.
    """
    before: dict[TopicPartition, int] = {}
    deadline = 0.0
    while True:
        # None while the consumer has not learnt where the partition begins
        at = {partition: consumer.position(partition) or 0 for partition in ends}
        reached = [partition for partition, end in ends.items() if at[partition] >= end]
        if len(reached) == len(ends):
            return
        if at != before:
            before, deadline = at, time.monotonic() + stalled_s
        elif time.monotonic() > deadline:
            told = ", ".join(f"{part.topic}-{part.partition}" for part in ends if part not in reached)
            raise BrokerUnavailable(f"the broker gave nothing more of {told} for {stalled_s:.0f} s, before their ends")
        consumer.pause(*reached)
        batches = consumer.poll(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS).values()
        if found := [record for batch in batches for record in batch]:
            yield found


def seek(
    consumer: KafkaConsumer, partitions: list[TopicPartition], since: Mapping[int, int] | None, since_ms: int | None
) -> None:
    """Have an assigned consumer begin as `records` does."""
    if since_ms is None:
        consumer.seek_to_beginning(*partitions)
        if since is None:
            return
        for partition, first in consumer.beginning_offsets(partitions).items():
            consumer.seek(partition, max(first, since[partition.partition]))
        return
    consumer.seek_to_end(*partitions)
    for partition, found in consumer.offsets_for_times(dict.fromkeys(partitions, since_ms)).items():
        if found is not None:
            consumer.seek(partition, found.offset)
