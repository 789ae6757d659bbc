"""Reading a topic, and losing one, independently of the code under test."""

from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from waiting import wait_until

from streaming.config import KafkaSettings, client_options


def records(kafka: KafkaSettings, topic: str) -> list[Any]:
    """Return every record of a topic, read to its end; each partition's in its order."""
    consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found: list[Any] = []
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for polled in consumer.poll(timeout_ms=200).values():
                found += polled
        return found
    finally:
        consumer.close()


def delete_topic(kafka: KafkaSettings, topic: str) -> None:
    """Delete a topic, and return when it is gone."""
    admin = KafkaAdminClient(**client_options(kafka))
    try:
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics())
    finally:
        admin.close()
