"""Events on their way to Kafka: sent, or spooled and sent later, in order, whatever dies in between."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import TopicAuthorizationFailedError
from topic_records import delete_topic, records
from waiting import wait_until

from streaming.codec import decode
from streaming.config import KafkaSettings, client_options
from streaming.events import Event, Interaction, ItemRemoved, ItemUpserted, Kind, RecordsAcknowledged
from streaming.namespace import Namespace
from streaming.newest_last import NewestLast
from streaming.outbox import Delivery, Outbox, Outcome
from streaming.producer import EventProducer
from streaming.records import Record, records_of
from streaming.spool import Spool, SpoolPlace
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1")
BIG = 1_000_000_000


def click(number: int) -> Interaction:
    return Interaction(
        event_id=f"e{number}",
        happened_at=number,
        received_at=number,
        producer="test",
        item_id="i",
        user_id="u",
        kind=Kind.CLICK,
    )


class Told:
    """What outboxes said became of events, by the numbers they were sent with."""

    def __init__(self) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self._lock = threading.Lock()

    def send(self, outbox: Outbox, numbers: range) -> None:
        for number in numbers:
            outbox.send(click(number), lambda outcome, number=number: self._settle(number, outcome))

    def _settle(self, number: int, outcome: Outcome) -> None:
        with self._lock:
            assert number not in self.outcomes, "an event was settled twice"
            self.outcomes[number] = outcome

    def of(self, numbers: range) -> set[Outcome]:
        wait_until(lambda: all(number in self.outcomes for number in numbers))
        return {self.outcomes[number] for number in numbers}


@pytest.fixture
def topics(broker: KafkaSettings, namespace: Namespace) -> Iterator[Topics]:
    topics = Topics(namespace)
    ensure_topics(broker.model_copy(update={"partitions": 1}), topics)
    return topics


def place(folder: Path, capacity: int = BIG, now: Callable[[], int] = lambda: 0) -> SpoolPlace:
    return SpoolPlace(folder, "events", capacity, now)


def an_hour_later(folder: Path) -> SpoolPlace:
    return place(folder, now=lambda: 3_600_000)


def outbox(kafka: KafkaSettings, topics: Topics, spool: SpoolPlace | None, drained: list[int] | None = None) -> Outbox:
    one = Outbox(kafka, topics, Delivery(10_000, spool=spool), ([] if drained is None else drained).append)
    one.start()
    return one


def ids(broker: KafkaSettings, topics: Topics) -> list[str]:
    return [decode(record.value).event_id for record in records(broker, topics.interactions)]


def test_what_was_spooled_while_kafka_was_away_comes_first_and_in_order_when_it_is_back(
    broker: KafkaSettings, topics: Topics, tmp_path: Path
) -> None:
    told, drained = Told(), list[int]()
    away = outbox(NOWHERE, topics, place(tmp_path))
    told.send(away, range(1_200))
    assert told.of(range(1_200)) == {Outcome.SPOOLED}
    assert away.fill.records == 1_200
    assert not away.direct
    away.stop(0)

    back = outbox(broker, topics, place(tmp_path), drained)
    told.send(back, range(1_200, 1_300))  # before or while it drains
    wait_until(lambda: back.direct)
    told.send(back, range(1_300, 1_400))
    assert told.of(range(1_200, 1_300)) <= {Outcome.SPOOLED, Outcome.SENT}
    assert told.of(range(1_300, 1_400)) == {Outcome.SENT}
    assert back.fill.records == 0
    back.stop(10)
    assert ids(broker, topics) == [f"e{number}" for number in range(1_400)]
    assert sum(drained) == sum(told.outcomes[number] is Outcome.SPOOLED for number in range(1_300))


_SPOOLING = """
import itertools, sys, threading
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_outbox import NOWHERE, Outcome, click, outbox, place
from streaming.namespace import Namespace
from streaming.topics import Topics
room = threading.Semaphore(50)
def settle(outcome):
    assert outcome is Outcome.SPOOLED
    print("safe", flush=True)
    room.release()
away = outbox(NOWHERE, Topics(Namespace(sys.argv[2])), place(Path(sys.argv[1])))
for number in itertools.count():
    room.acquire()
    away.send(click(number), settle)
"""


def test_what_a_killed_process_had_spooled_is_sent_by_the_next_one(
    broker: KafkaSettings, topics: Topics, namespace: Namespace, tmp_path: Path
) -> None:
    told, here = tmp_path / "told", Path(__file__).parent
    with told.open("w") as output:
        arguments = [str(tmp_path / "spool"), namespace, str(here), str(here.parent)]
        process = subprocess.Popen([sys.executable, "-c", _SPOOLING, *arguments], stdout=output)
        try:
            wait_until(lambda: told.read_text().count("safe") >= 300)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    safe = told.read_text().count("safe\n")
    back = outbox(broker, topics, place(tmp_path / "spool"))
    wait_until(lambda: back.direct)
    back.stop(10)
    found = ids(broker, topics)
    assert len(found) >= safe >= 300
    assert found == [f"e{number}" for number in range(len(found))]


def test_what_processes_that_are_no_more_left_behind_is_sent_too(
    broker: KafkaSettings, topics: Topics, tmp_path: Path
) -> None:
    several = [place(tmp_path).claim() for _ in range(3)]
    for number, spool in enumerate(several):
        spool.append(records_of(topics, click(number))).result(10)
        spool.close()
    only = outbox(broker, topics, place(tmp_path))
    wait_until(lambda: only.direct)
    only.stop(10)
    assert sorted(ids(broker, topics)) == ["e0", "e1", "e2"]
    assert [spool.is_empty for spool in place(tmp_path).left_behind()] == [True] * 3


def test_a_full_spool_refuses_and_keeps_what_it_took(broker: KafkaSettings, topics: Topics, tmp_path: Path) -> None:
    told = Told()
    size = sum(record.size for record in records_of(topics, click(10)))
    away = outbox(NOWHERE, topics, place(tmp_path, 5 * size))
    told.send(away, range(10, 20))
    assert told.of(range(10, 20)) == {Outcome.SPOOLED, Outcome.NEITHER}
    assert [number for number, outcome in told.outcomes.items() if outcome is Outcome.SPOOLED] == [*range(10, 15)]
    assert not away.has_room or away.fill.bytes == 5 * size
    away.stop(0)
    back = outbox(broker, topics, place(tmp_path))
    wait_until(lambda: back.direct)
    back.stop(10)
    assert ids(broker, topics) == [f"e{number}" for number in range(10, 15)]


def test_without_a_spool_nothing_is_taken_while_kafka_is_away(topics: Topics) -> None:
    told = Told()
    away = outbox(NOWHERE, topics, None)
    told.send(away, range(3))
    assert told.of(range(3)) == {Outcome.NEITHER}
    away.stop(0)


def test_a_record_that_kafka_would_not_take_is_refused_and_holds_nothing_up(
    broker: KafkaSettings, topics: Topics, tmp_path: Path
) -> None:
    outcomes: list[Outcome] = []
    one = outbox(broker, topics, place(tmp_path))
    wait_until(lambda: one.direct)
    huge: Event = Interaction(
        event_id="huge",
        happened_at=1,
        received_at=1,
        producer="t",
        item_id="i" * 1_000_000,
        kind=Kind.VIEW,
        user_id="u",
    )
    for event in (huge, click(1)):
        one.send(event, outcomes.append)
    wait_until(lambda: len(outcomes) == 2)
    one.stop(10)
    assert outcomes == [Outcome.NEITHER, Outcome.SENT]
    assert ids(broker, topics) == ["e1"]


def test_a_removed_item_is_spooled_with_its_tombstone(broker: KafkaSettings, topics: Topics, tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    away = outbox(NOWHERE, topics, place(tmp_path))
    away.send(ItemRemoved(event_id="gone", happened_at=1, received_at=1, producer="t", item_id="i"), outcomes.append)
    wait_until(lambda: outcomes == [Outcome.SPOOLED])
    away.stop(0)
    back = outbox(broker, topics, place(tmp_path))
    wait_until(lambda: back.direct)
    back.stop(10)
    first, second = records(broker, topics.items)
    assert decode(first.value).event_id == "gone"
    assert (second.key, second.value) == (b"i", None)


def item(item_id: str, at: int) -> ItemUpserted:
    return ItemUpserted(event_id=f"{item_id}{at}", happened_at=at, received_at=at, producer="t", item_id=item_id)


def removal(item_id: str, at: int) -> ItemRemoved:
    return ItemRemoved(event_id=f"{item_id}{at}", happened_at=at, received_at=at, producer="t", item_id=item_id)


def send_all(one: Outbox, events: Sequence[Event], outcome: Outcome) -> None:
    outcomes: list[Outcome] = []
    for event in events:
        one.send(event, outcomes.append)
    wait_until(lambda: outcomes == [outcome] * len(events))


def said_of(broker: KafkaSettings, topics: Topics) -> dict[str, list[str | None]]:
    """What the log says of each item, in its order: ids of events, None for a tombstone."""
    found: dict[str, list[str | None]] = {}
    for record in records(broker, topics.items):
        said = None if record.value is None else decode(record.value).event_id
        found.setdefault(record.key.decode(), []).append(said)
    return found


def spool_all(topics: Topics, folder: Path, events: Sequence[Event]) -> None:
    away = outbox(NOWHERE, topics, place(folder))
    send_all(away, events, Outcome.SPOOLED)
    away.stop(0)


def drain(broker: KafkaSettings, topics: Topics, spool: SpoolPlace) -> None:
    back = outbox(broker, topics, spool)
    wait_until(lambda: back.direct)
    back.stop(10)


def test_a_newer_state_that_others_sent_is_the_last_again_after_an_older_one_was_drained(
    broker: KafkaSettings, topics: Topics, tmp_path: Path
) -> None:
    old = [item("changed", 1), item("removed", 1), item("own", 1), removal("back", 1), item("newer", 5), item("own", 3)]
    spool_all(topics, tmp_path, old)
    other = outbox(broker, topics, None)
    wait_until(lambda: other.direct)
    send_all(
        other,
        [item("changed", 2), removal("removed", 2), item("back", 2), item("newer", 4), item("else", 1)],
        Outcome.SENT,
    )
    other.stop(10)

    drain(broker, topics, an_hour_later(tmp_path))

    assert said_of(broker, topics) == {
        "changed": ["changed2", "changed1", "changed2"],
        "removed": ["removed2", None, "removed1", "removed2", None],
        "own": ["own1", "own3"],
        "back": ["back2", "back1", None, "back2"],
        "newer": ["newer4", "newer5"],
        "else": ["else1"],
    }
    sent = sum(len(said) for said in said_of(broker, topics).values())
    assert told_offsets(broker, topics)[topics.items, 0] == [*range(sent)]


def test_what_compaction_has_left_of_a_removal_is_the_last_again_too(
    broker: KafkaSettings, topics: Topics, tmp_path: Path
) -> None:
    with closing(EventProducer(broker, topics)) as producer:
        producer.deliver([(Record(topics.items, b"gone", None), None)])
    now = time.time_ns() // 1_000_000
    spool_all(topics, tmp_path, [item("gone", 1), item("gone", 2), item("again", now)])
    drain(broker, topics, an_hour_later(tmp_path))
    assert said_of(broker, topics) == {"gone": [None, "gone1", "gone2", None], "again": [f"again{now}"]}


def test_states_that_waited_but_a_moment_are_not_looked_up(
    broker: KafkaSettings, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("this takes longer than the moment")

    monkeypatch.setattr("streaming.draining.NewestLast", refuse)
    spool_all(topics, tmp_path, [item("i", 1)])
    drain(broker, topics, place(tmp_path))
    assert said_of(broker, topics) == {"i": ["i1"]}


def test_states_that_may_not_be_read_are_drained_all_the_same(
    broker: KafkaSettings,
    topics: Topics,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_args: object) -> None:
        raise TopicAuthorizationFailedError(topics.items)

    monkeypatch.setattr(NewestLast, "misplaced", refuse)
    spool_all(topics, tmp_path, [item("i", 1)])
    drain(broker, topics, an_hour_later(tmp_path))
    assert said_of(broker, topics) == {"i": ["i1"]}
    assert "may stand behind newer ones" in caplog.text


def test_states_that_kafka_does_not_take_hold_up_nothing_else_that_was_spooled(
    broker: KafkaSettings, topics: Topics, tmp_path: Path
) -> None:
    spool_all(topics, tmp_path, [item("i", 1), click(1), item("j", 1), click(2)])
    delete_topic(broker, topics.items)
    back = outbox(broker, topics, an_hour_later(tmp_path))
    wait_until(lambda: back.fill.records == 2)
    assert ids(broker, topics) == ["e1", "e2"]
    assert not back.direct
    ensure_topics(broker.model_copy(update={"partitions": 1}), topics)
    wait_until(lambda: back.direct)
    back.stop(10)
    assert said_of(broker, topics) == {"i": ["i1"], "j": ["j1"]}


def told_offsets(broker: KafkaSettings, topics: Topics) -> dict[tuple[str, int], list[int]]:
    found: dict[tuple[str, int], list[int]] = {}
    for event in (decode(record.value) for record in records(broker, topics.acknowledgements)):
        assert isinstance(event, RecordsAcknowledged)
        for one in event.offsets:
            offsets = found.setdefault((one.topic, one.partition), [])
            offsets += [offset for first, last in one.ranges for offset in range(first, last + 1)]
    return {place: sorted(offsets) for place, offsets in found.items()}


def test_what_kafka_acknowledged_is_told_to_the_log_record_by_record_whether_it_was_spooled_before_or_not(
    broker: KafkaSettings, topics: Topics, tmp_path: Path
) -> None:
    told = Told()
    away = outbox(NOWHERE, topics, place(tmp_path))
    told.send(away, range(700))
    assert told.of(range(700)) == {Outcome.SPOOLED}
    away.stop(0)
    assert told_offsets(broker, topics) == {}

    back = outbox(broker, topics, place(tmp_path))
    wait_until(lambda: back.direct)
    told.send(back, range(700, 900))
    removed = ItemRemoved(event_id="gone", happened_at=1, received_at=1, producer="t", item_id="i")
    back.send(removed, lambda _: None)
    back.stop(10)
    everything = {(topics.interactions, 0): [*range(900)], (topics.items, 0): [0, 1]}
    assert told_offsets(broker, topics) == everything


def sends_although_it_cannot_tell(broker: KafkaSettings, topics: Topics, has_failed: Callable[[], bool]) -> Outbox:
    """Send ten events before what was acknowledged could not be told, and ten after that."""
    told, one = Told(), outbox(broker, topics, None)
    wait_until(lambda: one.direct)
    for numbers in (range(10), range(10, 20)):
        told.send(one, numbers)
        assert told.of(numbers) == {Outcome.SENT}
        wait_until(has_failed)
        assert one.direct
    return one


def test_an_outbox_works_without_the_topic_that_it_tells_what_was_acknowledged(
    broker: KafkaSettings, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    delete_topic(broker, topics.acknowledgements)
    one = sends_although_it_cannot_tell(broker, topics, lambda: "flywheel topics" in caplog.text)
    one.stop(10)
    assert ids(broker, topics) == [f"e{number}" for number in range(20)]


def take_records_of(broker: KafkaSettings, topic: str, most_bytes: int) -> None:
    admin = KafkaAdminClient(**client_options(broker))
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(most_bytes)})])
    admin.close()


def test_what_cannot_be_told_keeps_no_event_from_kafka_and_is_told_when_it_can_be(
    broker: KafkaSettings, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    take_records_of(broker, topics.acknowledgements, 10)
    one = sends_although_it_cannot_tell(broker, topics, lambda: "was not told" in caplog.text)
    take_records_of(broker, topics.acknowledgements, 1_000_000)
    one.stop(10)
    assert ids(broker, topics) == [f"e{number}" for number in range(20)]
    assert told_offsets(broker, topics) == {(topics.interactions, 0): [*range(20)]}


def test_what_kafka_has_not_acknowledged_at_the_end_is_spooled(
    broker: KafkaSettings, topics: Topics, tmp_path: Path
) -> None:
    told = Told()
    one = Outbox(broker, topics, Delivery(40_000, linger_ms=15_000, spool=place(tmp_path)), lambda _: None)
    one.start()
    wait_until(lambda: one.direct)
    told.send(one, range(5))  # they linger, so nothing of them is on its way
    one.stop(0.5)
    assert told.of(range(5)) == {Outcome.SPOOLED}
    [spool] = place(tmp_path).left_behind()
    del spool
    left = Spool(tmp_path / "events-0.spool", BIG, lambda: 0)
    assert [one.record for one in left.first(10)] == [
        Record(topics.interactions, b"u", records_of(topics, click(number))[0].value) for number in range(5)
    ]
    left.close()
    assert ids(broker, topics) == []
