"""The history updater with a real broker, Feast and Valkey: clicks arrive once, whatever happens around them."""

import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from waiting import wait_until

from features.config import StoreSettings, store_url
from features.history import event_of
from features.online import Layout, SyncOnlineReader, UserState
from features.store import FeatureStore
from features.updater import HistoryUpdater, group_of, run_updater
from features.valkey import start_valkey
from streaming.config import KafkaSettings
from streaming.consumer import ConsumerCounts, Received
from streaming.events import ErasureEntered, Interaction, Kind
from streaming.ids import UserId
from streaming.ledger import LedgerReader
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

NOW = 1_790_000_000_000
USER = UserId("Zoë 7")


def click(number: int, at: int, *, user: str | None = USER, item: str | None = None) -> Interaction:
    return Interaction(
        event_id=f"event-{number}",
        happened_at=at,
        received_at=at,
        producer="test",
        item_id=item or f"item-{number}",
        kind=Kind.CLICK,
        user_id=user,
        session_id=None if user else "guest",
    )


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


def received(*clicks: Interaction, appended_at: int = NOW) -> list[Received]:
    return [Received(event, None, "topic", 0, offset, appended_at) for offset, event in enumerate(clicks)]


@pytest.fixture
def features(store: StoreSettings, namespace: Namespace) -> FeatureStore:
    features = FeatureStore(store, namespace)
    features.apply()
    return features


@pytest.fixture
def reader(store: StoreSettings, namespace: Namespace) -> Iterator[SyncOnlineReader]:
    reader = SyncOnlineReader(store, namespace)
    yield reader
    reader.close()


@pytest.fixture
def updater(reader: SyncOnlineReader, features: FeatureStore, erasures: LedgerReader) -> HistoryUpdater:
    return HistoryUpdater(reader, features, erasures, history_length=100)


def items(reader: SyncOnlineReader, user: UserId = USER) -> list[str]:
    return list(reader.user_states([user])[0].history.items)


def test_two_clicks_in_one_millisecond_are_both_in_the_store(updater, reader):
    updater.update(received(click(1, NOW)))
    updater.update(received(click(2, NOW)))
    assert items(reader) == ["item-1", "item-2"]


def test_a_late_click_is_stored_in_its_place(updater, reader):
    updater.update(received(click(1, NOW - 1000), click(3, NOW)))
    updater.update(received(click(2, NOW - 500), appended_at=NOW + 1))
    assert items(reader) == ["item-1", "item-2", "item-3"]


def test_a_click_from_the_future_does_not_keep_later_ones_out(updater, reader):
    updater.update(received(click(1, NOW + 10**11)))
    updater.update(received(click(2, NOW), appended_at=NOW + 1))
    assert items(reader) == ["item-2", "item-1"]


def test_the_same_records_again_leave_the_store_byte_for_byte(updater, store, namespace):
    records = received(click(1, NOW), click(2, NOW + 1))
    updater.update(records)
    before = contents(store, namespace)
    updater.update(records)
    assert contents(store, namespace) == before


def test_a_guest_without_user_id_is_left_out(updater, store, namespace):
    updater.update(received(click(1, NOW, user=None)))
    assert contents(store, namespace) == {}


def test_two_namespaces_with_equal_ids_do_not_touch_each_other(updater, erasures, store, namespace):
    other = Namespace(f"x{namespace[:15]}")  # ends like the first one, where a sloppy key pattern would match
    theirs = FeatureStore(store, other)
    theirs.apply()
    HistoryUpdater(SyncOnlineReader(store, other), theirs, erasures, 100).update(received(click(9, NOW)))
    before = contents(store, other)
    updater.update(received(click(1, NOW)))
    assert contents(store, other) == before
    assert items(SyncOnlineReader(store, other)) == ["item-9"]
    assert items(SyncOnlineReader(store, namespace)) == ["item-1"]


class OnceStale(SyncOnlineReader):
    """A reader whose first answer is one that it was given: what an updater knew before it lost its partition."""

    def __init__(self, store: StoreSettings, namespace: Namespace, stale: list[UserState]) -> None:
        super().__init__(store, namespace)
        self._stale: list[UserState] | None = stale

    def user_states(self, user_ids: Sequence[UserId], as_of: int | None = None) -> list[UserState]:
        stale, self._stale = self._stale, None
        return stale if stale is not None else super().user_states(user_ids, as_of)


@pytest.mark.parametrize("late_by", [0, 5])
def test_an_updater_that_lost_its_partition_does_not_undo_the_new_owner(
    updater, features, erasures, reader, store, namespace, late_by
):
    updater.update(received(click(1, NOW), appended_at=NOW))
    stale = reader.user_states([USER])
    updater.update(received(click(2, NOW + 1), click(3, NOW + 2), appended_at=NOW + 2 + late_by))
    former = HistoryUpdater(OnceStale(store, namespace, stale), features, erasures, 100)
    former.update(received(click(2, NOW + 1), appended_at=NOW + 2))
    assert items(reader) == ["item-1", "item-2", "item-3"]


def test_the_new_owner_writes_again_when_the_former_one_came_first(
    updater, features, erasures, reader, store, namespace
):
    stale = reader.user_states([USER])
    updater.update(received(click(1, NOW), appended_at=NOW + 7))
    owner = HistoryUpdater(OnceStale(store, namespace, stale), features, erasures, 100)
    owner.update(received(click(2, NOW + 1), appended_at=NOW + 7))
    assert items(reader) == ["item-1", "item-2"]


@pytest.fixture
def own(broker: KafkaSettings, namespace: Namespace) -> Iterator[LedgerReader]:
    """The ledger of the test's own namespace."""
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    ledger = LedgerReader(broker, topics)
    ledger.refresh()
    yield ledger
    ledger.close()


def enter(broker: KafkaSettings, namespace: Namespace, mark: str) -> int:
    """Have a user stand in the ledger and return up to when what they did is dropped."""
    producer = EventProducer(broker, Topics(namespace))
    entry = ErasureEntered(event_id="e", happened_at=NOW, received_at=NOW, producer="test", mark=mark)
    cut = producer.send(entry).get(timeout=30).timestamp
    producer.close()
    return int(cut)


def test_an_erasure_that_comes_while_a_history_is_written_wins_and_what_is_later_is_a_new_user(
    broker, store, namespace, features, reader, own
):
    updater = HistoryUpdater(reader, features, own, history_length=100)
    before = milliseconds() - 1_000
    updater.update(received(click(1, before), appended_at=before))
    cut = enter(broker, namespace, own.ledger.marker.mark(USER))
    # The updater does not know of the entry while it writes these.
    batch = [*received(click(2, before), appended_at=before), *received(click(3, cut + 1), appended_at=cut + 1)]
    updater.update(batch)
    assert items(reader) == ["item-3"]

    updater.update(received(click(1, before), click(2, before), appended_at=before))  # a replay of old offsets
    assert items(reader) == ["item-3"]


def test_what_a_dead_updater_left_of_an_erased_user_goes_when_its_records_come_again(
    broker, store, namespace, features, reader, own, erasures
):
    records = received(click(1, before := milliseconds() - 1_000), appended_at=before)
    enter(broker, namespace, own.ledger.marker.mark(USER))
    own.refresh()
    HistoryUpdater(reader, features, erasures, 100).update(records)  # one that never read the ledger's end
    assert contents(store, namespace)
    HistoryUpdater(reader, features, own, 100).update(records)
    assert contents(store, namespace) == {}


@contextmanager
def running(kafka: KafkaSettings, store: StoreSettings, topics: Topics) -> Iterator[ConsumerCounts]:
    stop, counts = threading.Event(), ConsumerCounts()
    thread = threading.Thread(target=run_updater, args=(kafka, store, topics, stop, counts))
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


def test_no_click_is_lost_while_updaters_come_and_go(broker, store, namespace, reader):
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    producer = EventProducer(broker, topics)
    users = [UserId(f"user-{number}") for number in range(8)]

    def publish(numbers: range) -> None:
        producer.publish(click(number, NOW + number, user=users[number % 8]) for number in numbers)

    def complete(until: int) -> bool:
        return sum(len(state.history.events) for state in reader.user_states(users)) == until

    publish(range(100))
    with running(broker, store, topics) as first:
        wait_until(lambda: complete(100))
        publish(range(100, 200))
        with running(broker, store, topics) as second:
            publish(range(200, 300))
            wait_until(lambda: bool(second.positions) or complete(300))
            publish(range(300, 400))
        publish(range(400, 500))
        wait_until(lambda: complete(500))
        assert first.handled > 0
    producer.close()
    for index, state in enumerate(reader.user_states(users)):
        assert state.history.items == [f"item-{number}" for number in range(index, 500, 8)]


def test_clicks_wait_for_a_store_that_is_down(broker, namespace, tmp_path):
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    valkey = start_valkey(tmp_path, StoreSettings(), os.environ)
    store = valkey.settings.under(tmp_path)
    valkey.stop()
    with running(broker, store, topics):
        producer = EventProducer(broker, topics)
        producer.publish([click(1, NOW)])
        producer.close()
        again = start_valkey(tmp_path, store.model_copy(update={"redis_url": None, "port": port_of(store)}), os.environ)
        reader = SyncOnlineReader(store, namespace)
        wait_until(lambda: items(reader) == ["item-1"])
        reader.close()
    again.stop()


def port_of(store: StoreSettings) -> int:
    port = urlsplit(store_url(store)).port
    assert port is not None
    return port


def test_the_group_is_named_after_the_namespace(namespace):
    assert group_of(namespace) == f"{namespace}.history"


def contents(store: StoreSettings, namespace: Namespace) -> dict[bytes, dict[bytes, bytes]]:
    """Return every hash of the namespace, byte for byte."""
    ending = Layout.of(store, namespace).project.encode()
    with Redis.from_url(store_url(store)) as client:
        return {key: client.hgetall(key) for key in client.scan_iter() if key.endswith(ending)}


def test_a_history_is_what_the_interactions_say(updater, reader):
    clicks = [click(number, NOW + number) for number in range(5)]
    updater.update(received(*clicks))
    assert list(reader.user_states([USER])[0].history.events) == [event_of(event) for event in clicks]


class HistoriesAgainstASortedLog(RuleBasedStateMachine):
    """Whatever befalls two updaters, a history is the newest of all that either was ever given, each event once."""

    features: FeatureStore
    erasures: LedgerReader
    store: StoreSettings
    namespace: Namespace
    examples = itertools.count()
    LIMIT = 4

    @initialize()
    def nobody(self) -> None:
        example = next(self.examples)
        self.users = [UserId(f"{example}-{name}") for name in "ab"]
        self.log: list[Received] = []
        self.committed = self.given = 0
        self.reader = SyncOnlineReader(self.store, self.namespace)

    def updater(self, reader: SyncOnlineReader) -> HistoryUpdater:
        return HistoryUpdater(reader, self.features, self.erasures, self.LIMIT)

    def next(self, count: int) -> list[Received]:
        records = self.log[self.committed : self.committed + count]
        self.given = max(self.given, self.committed + len(records))
        return records

    @rule(sent=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), min_size=1, max_size=6))
    def send(self, sent: list[tuple[int, int]]) -> None:
        for number, user in sent:  # an id says when it happened; late ones, repeats and equal times are common
            event = click(number, NOW + number * 7 % 5, user=self.users[user])
            self.log.append(Received(event, None, "topic", 0, len(self.log), NOW + len(self.log) // 2))

    @rule(count=st.integers(1, 4))
    def handle_and_commit(self, count: int) -> None:
        self.updater(self.reader).update(self.next(count))
        self.committed = min(self.committed + count, len(self.log))

    @rule(count=st.integers(1, 4))
    def handle_and_die(self, count: int) -> None:
        self.updater(self.reader).update(self.next(count))

    @rule(by=st.integers(1, 6))
    def go_back(self, by: int) -> None:
        self.committed = max(self.committed - by, 0)

    @rule(count=st.integers(1, 4), meanwhile=st.integers(1, 6))
    def fall_asleep_between_reading_and_writing(self, count: int, meanwhile: int) -> None:
        records = self.next(count)
        users = list(dict.fromkeys(UserId(record.event.user_id) for record in records))
        reader = OnceStale(self.store, self.namespace, self.reader.user_states(users))
        self.handle_and_commit(meanwhile)
        self.updater(reader).update(records)
        reader.close()

    @invariant()
    def each_history_is_that_of_the_sorted_log(self) -> None:
        for user, state in zip(self.users, self.reader.user_states(self.users), strict=True):
            known = {(r.event.happened_at, r.event.event_id) for r in self.log[: self.given] if r.event.user_id == user}
            found = [(event.happened_at, event.event_id) for event in state.history.events]
            assert found == sorted(known)[-self.LIMIT :]

    def teardown(self) -> None:
        self.reader.close()


def test_whatever_befalls_two_updaters_a_history_is_the_sorted_log(features, erasures, store, namespace):
    machine = type(
        "Histories",
        (HistoriesAgainstASortedLog,),
        {"features": features, "erasures": erasures, "store": store, "namespace": namespace},
    )
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=15, deadline=None))
