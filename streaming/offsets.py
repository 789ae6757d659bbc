"""The bounds of topics: where their partitions begin and end now."""

from collections.abc import Iterable

from kafka import TopicPartition

from streaming.config import KafkaSettings
from streaming.consumer import ConsumerSpec, connect


def bounds(
    kafka: KafkaSettings, topics: Iterable[str], until_ms: int | None = None
) -> dict[TopicPartition, tuple[int, int]]:
    """Return the offsets of the first record and behind the last one of each partition; none of a missing topic.

    With `until_ms` (UTC) the last one is the last that was appended before that time.
    Raises BrokerUnavailable, and kafka.errors.KafkaError when the broker goes away meanwhile.
    """
    consumer = connect(kafka, ConsumerSpec(topics=[], group=""))
    try:
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        if until_ms is not None and partitions:
            later = consumer.offsets_for_times(dict.fromkeys(partitions, until_ms))
            end |= {partition: found.offset for partition, found in later.items() if found is not None}
        return {partition: (first[partition], end[partition]) for partition in partitions}
    finally:
        consumer.close()
