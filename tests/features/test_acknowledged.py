"""What Kafka acknowledged against what it has: compared with sets of offsets, and with a log that really lost some."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from topic_records import delete_topic
from waiting import wait_until

from features.acknowledged import Acknowledged, OffsetRanges, acknowledged, lost
from streaming.config import KafkaSettings
from streaming.events import AcknowledgedOffsets, Interaction, Kind, RecordsAcknowledged
from streaming.namespace import Namespace
from streaming.outbox import Delivery, Outbox
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

PART = ("shop.items", 0)
ENVELOPE = {"event_id": "e", "happened_at": 1, "received_at": 1, "producer": "test"}


def told(number: int, *ranges: tuple[int, int], outbox: str = "one", topic: str = PART[0]) -> RecordsAcknowledged:
    offsets = [AcknowledgedOffsets(topic=topic, partition=0, ranges=[*ranges])]
    return RecordsAcknowledged(**ENVELOPE, outbox=outbox, number=number, offsets=offsets)


_RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda one: (one[0], one[0] + one[1])))


@given(_RANGES, st.integers(0, 40), st.integers(0, 40))
def test_the_differences_are_what_lies_behind_the_end_and_what_was_acknowledged_before(
    ranges: list[tuple[int, int]], first: int, end: int
) -> None:
    found = Acknowledged()
    for number, one in enumerate(ranges):
        found.add(told(number + 1, one))
    offsets = [offset for low, high in ranges for offset in range(low, high + 1)]
    assert found.count(PART, first, end) == len({offset for offset in offsets if first <= offset < end})
    listed: dict[str, set[int]] = {"is not in the log": set(), "of which the log has one": set()}
    for one in found.differences({PART: end}):
        [said] = [what for what in listed if one.what.endswith(what)]
        listed[said] |= {*range(one.first, one.last + 1)}
    assert listed["is not in the log"] == {offset for offset in offsets if offset >= end}
    assert listed["of which the log has one"] == {offset for offset in offsets if offsets.count(offset) > 1}


@given(_RANGES, st.integers(1, 5))
def test_ranges_that_are_put_together_as_they_come_say_what_sets_of_offsets_say(
    ranges: list[tuple[int, int]], merge_at: int
) -> None:
    found = OffsetRanges(merge_at)
    for one in ranges:
        found.add(*one)
    offsets = [offset for low, high in ranges for offset in range(low, high + 1)]
    for said, expected in (
        (found.added(), {*offsets}),
        (found.repeated(), {offset for offset in offsets if offsets.count(offset) > 1}),
    ):
        firsts, lasts = (one.tolist() for one in said)
        spelt_out = [offset for low, high in zip(firsts, lasts, strict=True) for offset in range(low, high + 1)]
        assert spelt_out == sorted(expected)
        assert all(high + 1 < low for high, low in zip(lasts, firsts[1:], strict=False)), "two of them touch"


def test_offsets_that_two_collectors_were_given_in_turns_are_one_range() -> None:
    found = OffsetRanges(100)
    for start in range(2):
        for offset in range(start, 5_000, 2):
            found.add(offset, offset)
    assert [one.tolist() for one in found.added()] == [[0], [4_999]]
    assert [one.tolist() for one in found.repeated()] == [[], []]


def test_a_partition_that_is_not_there_is_one_difference() -> None:
    found = Acknowledged()
    found.add(told(1, (3, 4), (5, 9)))
    assert [str(one) for one in found.differences({})] == [
        "offsets 3 to 9 was acknowledged, and there is no such partition to be seen"
    ]


@pytest.fixture
def topics(broker: KafkaSettings, namespace: Namespace) -> Topics:
    topics = Topics(namespace)
    ensure_topics(broker.model_copy(update={"partitions": 1}), topics)
    return topics


def publish(broker: KafkaSettings, topics: Topics, *events: RecordsAcknowledged) -> None:
    producer = EventProducer(broker, topics)
    producer.publish(events)
    producer.close()


def test_a_record_of_an_outbox_that_is_missing_between_two_others_is_itself_a_difference(
    broker: KafkaSettings, topics: Topics
) -> None:
    two, three, six, again = told(2, (0, 1)), told(3, (2, 3)), told(6, (4, 5)), told(3, (2, 3))
    other = told(9, (6, 6), outbox="other")  # what it told before has expired
    publish(broker, topics, two, three, three, six, again, other)
    found = acknowledged(broker, topics)
    assert found.count(PART, 0, 100) == 7
    assert [(one.first, one.what) for one in found.missing] == [
        (3, "follows on 2 records of its outbox that the log has lost")
    ]
    assert [str(one) for one in found.differences({PART: 7})] == [
        "offset 3 follows on 2 records of its outbox that the log has lost"
    ]


def click(number: int) -> Interaction:
    return Interaction(**ENVELOPE | {"event_id": f"e{number}"}, item_id="i", kind=Kind.CLICK, user_id="u")


def send(broker: KafkaSettings, topics: Topics, count: int) -> None:
    outbox = Outbox(broker, topics, Delivery(10_000), lambda _: None)
    outbox.start()
    wait_until(lambda: outbox.direct)
    for number in range(count):
        outbox.send(click(number), lambda _: None)
    outbox.stop(10)


def test_a_topic_that_was_lost_and_made_anew_is_found_by_what_was_acknowledged(
    broker: KafkaSettings, topics: Topics
) -> None:
    send(broker, topics, 10)
    assert [*lost(broker, acknowledged(broker, topics))] == []

    delete_topic(broker, topics.interactions)
    ensure_topics(broker.model_copy(update={"partitions": 1}), topics)
    assert [(one.first, one.last, one.what) for one in lost(broker, acknowledged(broker, topics))] == [
        (0, 9, "was acknowledged and is not in the log")
    ]

    send(broker, topics, 4)
    found = [(one.first, one.last, one.what) for one in lost(broker, acknowledged(broker, topics))]
    assert sorted(found) == [
        (0, 3, "was acknowledged for two records, of which the log has one"),
        (4, 9, "was acknowledged and is not in the log"),
    ]
