"""Replaying letters on a real broker: what a fix has mended goes back to its topic once, whatever cuts in."""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext

import pytest
from clicks import click
from topic_records import records

from streaming.codec import encode
from streaming.config import KafkaSettings
from streaming.consumer import Received
from streaming.events import ErasureEntered, ItemUpserted
from streaming.ledger import Ledger
from streaming.letters import Letter, Progress, Side, State, letters, note, progress
from streaming.marks import Marker
from streaming.namespace import parse_namespace
from streaming.producer import EventProducer
from streaming.records import Record
from streaming.redelivery import COPY_OF, Fate, Redelivery
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics


@pytest.fixture(scope="module")
def topics(broker: KafkaSettings) -> Topics:
    topics = Topics(parse_namespace(f"r{time.time_ns() % 10**15}"))
    ensure_topics(broker, topics)
    return topics


@pytest.fixture(scope="module")
def producer(broker: KafkaSettings, topics: Topics) -> Iterable[EventProducer]:
    producer = EventProducer(broker, topics)
    yield producer
    producer.close()


def put_aside(producer: EventProducer, topic: str, offset: int, value: bytes, key: bytes = b"k") -> None:
    """What the lander writes for a record of partition 1."""
    headers = {"reason": b"bad", "topic": topic.encode(), "partition": b"1", "offset": str(offset).encode(), "key": key}
    headers["appended_at"] = b"77"
    record = Record(Side.DEAD.topic(topic), f"{topic}-1-{offset}".encode(), value, tuple(headers.items()))
    producer.deliver([(record, None)])


def unmended(letter: Letter) -> str | None:
    return "still bad" if letter.value.startswith(b"bad") else None


def redelivery(kafka: KafkaSettings, topics: Topics, producer: EventProducer) -> Redelivery:
    return Redelivery(kafka, topics, producer, unmended, Ledger(Marker(kafka, topics.namespace)))


GOOD = encode(click(1))


class Cut(Exception):
    """Stands for a kill."""


class CutOff(EventProducer):
    """A producer whose process dies after so many deliveries."""

    left = 0

    def deliver(self, records: Iterable[tuple[Record, int | None]]) -> None:
        if self.left == 0:
            raise Cut
        self.left -= 1
        super().deliver(records)


def test_the_original_bytes_go_back_once_and_what_is_still_bad_stays(
    broker: KafkaSettings, topics: Topics, producer: EventProducer
) -> None:
    put_aside(producer, topics.interactions, 5, GOOD)
    put_aside(producer, topics.interactions, 5, GOOD)  # a batch that landed again put it aside again
    put_aside(producer, topics.interactions, 6, b"bad one")
    replay = redelivery(broker, topics, producer).replay
    [first, second] = letters(broker, topics.interactions, Side.DEAD)
    assert (first.offset, first.partition, first.appended_at, first.key, first.value) == (5, 1, 77, b"k", GOOD)
    everything = lambda _: True  # noqa: E731
    assert replay(topics.interactions, Side.DEAD, everything) == {Fate.REPLAYED: 1, Fate.STILL_BAD: 1}
    assert replay(topics.interactions, Side.DEAD, everything) == {
        Fate.REPLAYED_BEFORE: 1,
        Fate.STILL_BAD: 1,
    }
    [copy] = records(broker, topics.interactions)
    assert (copy.partition, copy.key, copy.value) == (1, b"k", GOOD)
    assert copy.headers == [(COPY_OF, first.id.encode())]
    assert replay(topics.interactions, Side.DEAD, lambda letter: letter == second) == {Fate.STILL_BAD: 1}


@pytest.mark.parametrize("deliveries", range(4))
def test_a_replay_that_is_killed_goes_on_without_sending_anything_twice(
    broker: KafkaSettings, topics: Topics, producer: EventProducer, deliveries: int
) -> None:
    values = [encode(click(10 * deliveries + number)) for number in range(3)]
    for number, value in enumerate(values):
        put_aside(producer, topics.impressions, 10 * deliveries + number, value)

    def wanted(letter: Letter) -> bool:
        return letter.offset // 10 == deliveries

    dying = CutOff(broker, topics)
    dying.left = deliveries
    with pytest.raises(Cut) if deliveries < 3 else nullcontext():
        redelivery(broker, topics, dying).replay(topics.impressions, Side.DEAD, wanted)
    dying.close()
    redelivery(broker, topics, producer).replay(topics.impressions, Side.DEAD, wanted)
    sent = Counter(record.value for record in records(broker, topics.impressions))
    assert {value: sent[value] for value in values} == dict.fromkeys(values, 1)
    states = progress(broker, topics.impressions, Side.DEAD)
    assert {now.state for now in states.values()} == {State.REPLAYED}


def item(title: str) -> bytes:
    return encode(
        ItemUpserted(event_id=title, happened_at=1, received_at=1, producer="test", item_id="i1", title=title)
    )


def test_a_letter_does_not_hide_what_its_key_became_since(
    broker: KafkaSettings, topics: Topics, producer: EventProducer
) -> None:
    values = [item("first"), item("second")]
    for offset, value in enumerate(values):
        producer.deliver([(Record(topics.items, b"i1", value), 1)])
        put_aside(producer, topics.items, offset, value, key=b"i1")
    found = redelivery(broker, topics, producer).replay(topics.items, Side.DEAD, lambda _: True)
    assert found == {Fate.SUPERSEDED: 1, Fate.REPLAYED: 1}
    assert [record.value for record in records(broker, topics.items)] == [*values, values[1]]


def test_nothing_of_a_user_who_was_erased_since_is_sent_again(
    broker: KafkaSettings, topics: Topics, producer: EventProducer
) -> None:
    put_aside(producer, topics.identities, 1, GOOD)  # appended at 77
    ledger = Ledger(Marker(broker, topics.namespace))
    entered = ErasureEntered(
        event_id="x", happened_at=1, received_at=1, producer="test", mark=ledger.marker.mark(str(click(1).user_id))
    )
    replay = Redelivery(broker, topics, producer, unmended, ledger).replay
    ledger.apply([Received(entered, None, topics.erasures, 0, 0, 80)])
    assert replay(topics.identities, Side.DEAD, lambda _: True) == {Fate.ERASED: 1}
    assert records(broker, topics.identities) == []


def test_what_is_no_letter_is_left_alone(broker: KafkaSettings, topics: Topics, producer: EventProducer) -> None:
    side = Side.PARKED.topic(topics.users)
    producer.deliver([(Record(side, b"x", b"no headers"), 0)])
    producer.deliver([(Record(side, b"x", b"v", (("topic", b"elsewhere"), ("partition", b"0"), ("offset", b"1"))), 0)])
    assert list(letters(broker, topics.users, Side.PARKED)) == []
    producer.deliver([(note(Letter(Side.PARKED, topics.users, 0, 3, 1, "r", None, b"v"), Progress(State.REPLAYED)), 0)])
    assert progress(broker, topics.users, Side.PARKED) == {f"{topics.users}-0-3": Progress(State.REPLAYED)}
