"""Reading a part of a topic that has an end, outside any group: for what is worked out once from the log."""

from collections.abc import Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from streaming.config import KafkaSettings
from streaming.consumer import ConsumerCounts, ConsumerSpec, Received, connect, decoded


def records(
    kafka: KafkaSettings, topic: str, *, since_ms: int | None = None, until: Mapping[int, int] | None = None
) -> Iterator[list[Received]]:
    """Yield what a topic holds in batches, each partition in its order; records that do not decode are left out.

    From the first record, or the first appended at `since_ms` (UTC); up to, but not with, the offsets `until` by
    partition (none of the others), or those of the end at the time of the call. Raises BrokerUnavailable.
    """
    for batch in raw_records(kafka, topic, since_ms=since_ms, until=until):
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
    """Yield kafka-python's records as `records` does its events, headers and bytes as they are.

    `since` are offsets by partition to begin at; the others are then left out. Nothing of a topic that does not exist.
    """
    spec = ConsumerSpec(topics=[topic], group="", max_records=20_000)
    consumer = connect(kafka, spec)
    try:
        numbers = sorted(consumer.partitions_for_topic(topic) or ())
        partitions = [TopicPartition(topic, number) for number in numbers if since is None or number in since]
        consumer.assign(partitions)
        ends = {
            partition: end if until is None else min(end, until.get(partition.partition, 0))
            for partition, end in consumer.end_offsets(partitions).items()
        }
        _seek(consumer, partitions, since, since_ms)
        while left := [partition for partition in partitions if consumer.position(partition) < ends[partition]]:
            consumer.pause(*(partition for partition in partitions if partition not in left))
            polled = consumer.poll(timeout_ms=spec.poll_ms, max_records=spec.max_records)
            found = [
                record
                for batch in polled.values()
                for record in batch
                if record.offset < ends[TopicPartition(topic, record.partition)]
            ]
            if found:
                yield found
    finally:
        consumer.close()


def _seek(
    consumer: KafkaConsumer, partitions: list[TopicPartition], since: Mapping[int, int] | None, since_ms: int | None
) -> None:
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
