from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from streaming.codec import decode
from streaming.config import KafkaSettings, client_options
from streaming.errors import BrokerUnavailable
from streaming.events import Interaction, ItemRemoved, Kind
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.records import Record, records_of
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics


def interaction(number: int) -> Interaction:
    return Interaction(
        event_id=f"e{number}",
        happened_at=1_700_000_000_000 + number,
        received_at=1_700_000_000_000,
        producer="test",
        item_id=f"i{number % 7}",
        user_id=f"u{number % 11}",
        kind=Kind.CLICK,
    )


def records(kafka: KafkaSettings, topic: str) -> list[object]:
    """Every record of `topic`, read independently of the code under test."""
    consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found: list[object] = []
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            found += [record for batch in consumer.poll(timeout_ms=500).values() for record in batch]
        return found
    finally:
        consumer.close()


def test_every_published_event_is_in_kafka_under_its_users_key(broker: KafkaSettings, namespace: Namespace) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    events = [interaction(number) for number in range(500)]
    told: list[int] = []
    producer = EventProducer(broker, topics)
    acknowledged = producer.publish(events, told.append)
    producer.close()
    found = records(broker, topics.interactions)
    assert sum(told) == 500
    assert acknowledged == Counter((record.topic, record.partition) for record in found)
    assert sorted((decode(record.value) for record in found), key=lambda event: event.happened_at) == events
    assert all(record.key.decode() == decode(record.value).user_id for record in found)
    for user in {event.user_id for event in events}:
        times = [decode(record.value).happened_at for record in found if record.key.decode() == user]
        assert times == sorted(times)


class Watched(EventProducer):
    """One that keeps the futures of what it sent."""

    def __init__(self, kafka: KafkaSettings, topics: Topics) -> None:
        super().__init__(kafka, topics, linger_ms=200)  # so that nothing is acknowledged at once
        self.sent: list[Any] = []

    def send_record(self, record: Record, partition: int | None = None) -> Any:
        self.sent.append(super().send_record(record, partition))
        return self.sent[-1]


@pytest.mark.parametrize("deliver", [False, True])
def test_only_so_much_is_under_way_at_once(
    broker: KafkaSettings, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, deliver: bool
) -> None:
    monkeypatch.setattr("streaming.producer._IN_FLIGHT", 10)
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    producer, under_way = Watched(broker, topics), []

    def events() -> Iterator[Interaction]:
        for number in range(35):
            under_way.append(sum(not future.is_done for future in producer.sent))
            yield interaction(number)

    if deliver:
        producer.deliver((record, None) for event in events() for record in records_of(topics, event))
    else:
        producer.publish(events())
    producer.close()
    assert 0 < max(under_way) < 10
    assert len(records(broker, topics.interactions)) == 35


def test_a_removed_item_is_followed_by_a_tombstone(broker: KafkaSettings, namespace: Namespace) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    producer = EventProducer(broker, topics)
    producer.publish([ItemRemoved(event_id="e", happened_at=1, received_at=1, producer="test", item_id="i")])
    producer.close()
    first, second = records(broker, topics.items)
    assert isinstance(decode(first.value), ItemRemoved)
    assert (second.key, second.value) == (b"i", None)


def test_a_broker_that_is_down_is_a_sentence(free_tcp_port: int) -> None:
    nowhere = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_tcp_port}")
    with pytest.raises(BrokerUnavailable, match=f"no broker answers at 127.0.0.1:{free_tcp_port}"):
        EventProducer(nowhere, Topics(Namespace("nowhere")))
