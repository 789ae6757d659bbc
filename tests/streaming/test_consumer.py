import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from clicks import click
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from msgspec.structs import replace
from waiting import wait_until

from streaming.config import KafkaSettings, client_options
from streaming.consumer import ConsumerCounts, ConsumerSpec, Received, consume, tail
from streaming.errors import BrokerUnavailable
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics


@pytest.fixture
def topics(broker: KafkaSettings, namespace: Namespace) -> Topics:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    producer = EventProducer(broker, topics)
    producer.publish(click(number) for number in range(100))
    producer.close()
    return topics


class Collected:
    """A handler that keeps what it got and says when it has `wanted` records."""

    def __init__(self, wanted: int, stop: threading.Event) -> None:
        self.events: list[str] = []
        self._wanted, self._stop = wanted, stop

    def __call__(self, received: list[Received]) -> None:
        self.events += [record.event.event_id for record in received if record.event is not None]
        if len(self.events) >= self._wanted:
            self._stop.set()


def test_a_member_that_joins_has_its_partitions_at_once(
    broker: KafkaSettings, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    spec = ConsumerSpec(topics=[topics.interactions], group=f"{topics.namespace}.once")
    stop = threading.Event()
    consume(broker, spec, Collected(100, stop), stop)
    assert "No partition metadata" not in caplog.text


def test_a_group_reads_every_event_once_and_continues_where_it_committed(broker: KafkaSettings, topics: Topics) -> None:
    spec = ConsumerSpec(topics=[topics.interactions], group=f"{topics.namespace}.test")
    stop = threading.Event()
    first = Collected(100, stop)
    consume(broker, spec, first, stop)
    assert sorted(first.events) == sorted(f"e{number}" for number in range(100))

    producer = EventProducer(broker, topics)
    producer.publish([click(100)])
    producer.close()
    stop.clear()
    second = Collected(1, stop)
    consume(broker, spec, second, stop)
    assert second.events == ["e100"]


def test_what_a_handler_failed_on_comes_again(broker: KafkaSettings, topics: Topics) -> None:
    spec = ConsumerSpec(topics=[topics.interactions], group=f"{topics.namespace}.test")

    def fail(received: list[Received]) -> None:
        raise RuntimeError(f"{len(received)} records could not be stored")

    with pytest.raises(RuntimeError, match="could not be stored"):
        consume(broker, spec, fail, threading.Event())
    stop = threading.Event()
    again = Collected(100, stop)
    consume(broker, spec, again, stop)
    assert len(again.events) == 100


def test_a_poison_record_does_not_stop_its_partition(broker: KafkaSettings, topics: Topics) -> None:
    raw = KafkaProducer(**client_options(broker))
    raw.send(topics.interactions, value=b"\x00 not json", key=b"u0").get(timeout=10)
    raw.close()
    producer = EventProducer(broker, topics)
    producer.publish([click(200)])
    producer.close()
    stop, counts = threading.Event(), ConsumerCounts()
    handler = Collected(101, stop)
    consume(broker, ConsumerSpec(topics=[topics.interactions], group=f"{topics.namespace}.test"), handler, stop, counts)
    assert "e200" in handler.events
    assert (counts.handled, counts.undecodable) == (101, 1)


def test_a_member_that_stays_keeps_its_partitions_while_another_comes_and_goes(
    broker: KafkaSettings, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streaming.consumer")
    spec = ConsumerSpec(topics=[topics.interactions], group=f"{topics.namespace}.test")
    first, second = ConsumerCounts(), ConsumerCounts()

    def member(counts: ConsumerCounts, stop: threading.Event) -> Callable[[], None]:
        return lambda: consume(broker, spec, lambda _received: None, stop, counts)

    stop = threading.Event()
    with running(member(first, stop), stop):
        wait_until(lambda: len(first.behind) == broker.partitions)
        leaving = threading.Event()
        with running(member(second, leaving), leaving):
            wait_until(lambda: len(first.behind) == len(second.behind) == broker.partitions // 2)
        wait_until(lambda: len(first.behind) == broker.partitions)
        wait_until(lambda: set(first.behind.values()) == {0})
        told = [record.getMessage() for record in caplog.records]
    revoked = [message.count("partition=") for message in told if "partitions revoked" in message]
    assert max(revoked) == broker.partitions // 2, "an eager rebalance takes every partition away"
    assert first.handled + second.handled >= 100


def test_a_member_whose_polls_end_while_it_joins_arrives_all_the_same_and_takes_what_is_new(
    broker: KafkaSettings, topics: Topics
) -> None:
    group = f"{topics.namespace}.expelled"
    spec = ConsumerSpec(topics=[topics.interactions], group=group, poll_ms=1)
    stop = threading.Event()
    admin = KafkaAdminClient(**client_options(broker))

    def committed() -> dict[int, int]:
        try:
            found = admin.list_group_offsets([group])[group]
        except KafkaError:  # nobody has come yet
            return {}
        return {part.partition: known.offset for part, known in found.items()}

    member = threading.Thread(target=consume, args=(broker, spec, lambda _: None, stop))
    member.start()
    try:
        wait_until(lambda: sum(committed().values()) == 100)
        admin.create_partitions({topics.interactions: 8})
        producer = EventProducer(broker, topics)
        producer.publish(replace(click(number), user_id=f"v{number}") for number in range(100, 300))
        producer.close()
        wait_until(lambda: len(committed()) == 8 and sum(committed().values()) == 300, 60, lambda: str(committed()))
    finally:
        stop.set()
        member.join()
        admin.close()


def test_a_tail_reads_everything_says_so_and_follows(broker: KafkaSettings, topics: Topics) -> None:
    stop, caught_up = threading.Event(), threading.Event()
    handler = Collected(101, stop)
    with running(lambda: tail(broker, [topics.interactions], handler, stop, caught_up), stop):
        assert caught_up.wait(30)
        assert len(handler.events) == 100
        producer = EventProducer(broker, topics)
        producer.publish([click(100)])
        producer.close()
        assert stop.wait(30)
    assert handler.events[-1] == "e100"


def test_a_tail_of_a_topic_that_does_not_exist_says_how_to_make_it(broker: KafkaSettings, topics: Topics) -> None:
    names = [topics.interactions, f"{topics.namespace}.nowhere"]
    with pytest.raises(BrokerUnavailable, match=rf"no topic '{topics.namespace}.nowhere': run `flywheel topics`"):
        tail(broker, names, Collected(1, threading.Event()), threading.Event(), threading.Event())


@contextmanager
def running(work: object, stop: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
