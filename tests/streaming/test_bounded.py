"""Reading a part of a topic that has an end."""

from itertools import chain
from typing import Any

import pytest
from clicks import click
from kafka import KafkaProducer, TopicPartition

from streaming.bounded import raw_records, read_until, records
from streaming.config import KafkaSettings, client_options
from streaming.consumer import ConsumerSpec, Received, connect
from streaming.errors import BrokerUnavailable
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics


def publish(kafka: KafkaSettings, topics: Topics, numbers: range) -> None:
    producer = EventProducer(kafka, topics)
    producer.publish(click(number) for number in numbers)
    producer.close()


@pytest.fixture
def topics(broker: KafkaSettings, namespace: Namespace) -> Topics:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    publish(broker, topics, range(100))
    return topics


def read(kafka: KafkaSettings, topics: Topics, **part: object) -> list[Received]:
    return [record for batch in records(kafka, topics.interactions, **part) for record in batch]  # type: ignore[arg-type]


def names(found: list[Received]) -> list[str]:
    return sorted(record.event.event_id for record in found if record.event is not None)


def test_everything_up_to_the_present_end_is_read_once(broker: KafkaSettings, topics: Topics) -> None:
    assert names(read(broker, topics)) == sorted(f"e{number}" for number in range(100))


def test_nothing_at_or_after_the_offsets_is_read(broker: KafkaSettings, topics: Topics) -> None:
    everything = read(broker, topics)
    ends = {0: 3, 1: 0, 2: 10_000}
    expected = [record for record in everything if record.offset < ends.get(record.partition, 0)]
    assert names(read(broker, topics, until=ends)) == names(expected)
    assert read(broker, topics, until={}) == []


def test_reading_begins_with_what_was_appended_at_a_time(broker: KafkaSettings, topics: Topics) -> None:
    before = max(record.appended_at for record in read(broker, topics))
    while True:  # until the log's clock has moved on
        publish(broker, topics, range(100, 110))
        later = [record for record in read(broker, topics) if record.appended_at > before]
        if later:
            break
    assert names(read(broker, topics, since_ms=before + 1)) == names(later)
    assert read(broker, topics, since_ms=max(record.appended_at for record in later) + 3_600_000) == []


def test_a_record_that_does_not_decode_is_left_out(broker: KafkaSettings, topics: Topics) -> None:
    producer = KafkaProducer(**client_options(broker))
    producer.send(topics.interactions, b"{", key=b"u1").get(timeout=30)
    producer.close()
    assert len(read(broker, topics)) == 100


def test_a_topic_that_holds_nothing_gives_nothing(broker: KafkaSettings, topics: Topics) -> None:
    assert list(records(broker, topics.items)) == []


def test_reading_begins_at_offsets_of_the_partitions_named(broker: KafkaSettings, topics: Topics) -> None:
    everything = read(broker, topics)
    first, second = sorted({record.partition for record in everything})[:2]
    since = {first: 4, second: 0, 3: 10_000}
    expected = [r for r in everything if r.partition in since and r.offset >= since[r.partition]]
    assert {record.partition for record in expected} == {first, second}
    assert names(read(broker, topics, since=since)) == names(expected)
    assert read(broker, topics, since={}) == []


def test_a_topic_that_does_not_exist_gives_nothing(broker: KafkaSettings, topics: Topics) -> None:
    for part in ({}, {"since": {0: 1}}, {"since_ms": 1}, {"until": {0: 1}}):
        assert list(raw_records(broker, f"{topics.namespace}.nowhere", **part)) == []  # type: ignore[arg-type]


def test_a_log_that_gives_nothing_more_before_the_end_is_a_sentence_and_not_waited_for_for_ever(
    broker: KafkaSettings, topics: Topics
) -> None:
    publish(broker, topics, range(50))
    consumer = connect(broker, ConsumerSpec(topics=[], group=""))
    partitions = [TopicPartition(topics.interactions, number) for number in range(broker.partitions)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions) | {partitions[1]: 1_000}
    found: list[Any] = []
    try:
        with pytest.raises(BrokerUnavailable, match=rf"gave nothing more of {topics.interactions}-1 for"):
            found.extend(chain.from_iterable(read_until(consumer, ends, stalled_s=0.3)))
    finally:
        consumer.close()
    assert len(found) == 150
