"""The ledger of erasures: what it drops, what it lets through, and that no id is in it."""

import hashlib
import hmac
import os
import stat
from pathlib import Path

import pytest
from kafka import KafkaProducer
from topic_records import records

from streaming.config import KafkaSettings, client_options
from streaming.consumer import Received
from streaming.embedded.erasure_key import erasure_key_file, make_erasure_key, read_erasure_key
from streaming.events import ErasureCompleted, ErasureEntered, Event, IdentityLinked, Interaction, Kind, UserErased
from streaming.ledger import LedgerMissing, LedgerReader, LedgerUnreadable
from streaming.marks import ErasureKeyMissing, Marker
from streaming.namespace import Namespace, parse_namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

USER, SESSION = "Zoë 7", "s-1"
SECRET = "a secret that is long enough for this"
ENVELOPE = {"event_id": "e", "happened_at": 1, "producer": "test"}


def received(event: Event, appended_at: int) -> Received:
    return Received(event, b"", "topic", 0, 0, appended_at)


def click(received_at: int, user_id: str | None = USER, session_id: str | None = None) -> Interaction:
    return Interaction(
        **ENVELOPE, received_at=received_at, item_id="i", kind=Kind.CLICK, user_id=user_id, session_id=session_id
    )


def enter(kafka: KafkaSettings, topics: Topics, *events: Event) -> int:
    """Publish events one after the other and return the append time of the last."""
    producer = EventProducer(kafka, topics)
    times = [producer.send(event).get(timeout=30).timestamp for event in events]
    producer.close()
    return int(times[-1])


def test_a_mark_is_the_hmac_of_the_owner_under_the_namespaces_own_key() -> None:
    kafka = KafkaSettings(erasure_key=SECRET)
    mark = Marker(kafka, parse_namespace("shop")).mark(USER)
    key = hmac.new(SECRET.encode(), b"flywheel ledger of shop", hashlib.sha256).digest()
    assert mark == hmac.new(key, USER.encode(), hashlib.sha256).hexdigest()
    assert mark != Marker(kafka, parse_namespace("bigshop")).mark(USER)


def test_without_a_key_the_sentence_names_the_setting() -> None:
    with pytest.raises(ErasureKeyMissing, match="FLYWHEEL_KAFKA__ERASURE_KEY"):
        Marker(KafkaSettings(), parse_namespace("shop"))


def test_the_embedded_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key = make_erasure_key(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(erasure_key_file(tmp_path).stat().st_mode) == 0o600
    assert make_erasure_key(tmp_path) == read_erasure_key(tmp_path) == key
    assert KafkaSettings(erasure_key=key).erasure_key == key


def test_what_came_before_the_erasure_is_dropped_and_what_comes_later_is_a_new_users(
    broker: KafkaSettings, namespace: Namespace
) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    reader = LedgerReader(broker, topics)
    ledger, mark = reader.ledger, reader.ledger.marker.mark
    assert reader.refresh() == set()
    assert not ledger.drops(received(click(5), 5))

    marks = [mark(USER), mark(f"session:{SESSION}")]
    of_session, cut = (enter(broker, topics, ErasureEntered(**ENVELOPE, received_at=1, mark=m)) for m in marks[::-1])
    assert reader.refresh() == set(marks)
    assert reader.refresh() == set()
    assert ledger.drops(received(click(cut - 9), cut - 5))
    assert ledger.drops(received(click(cut - 9), cut + 5_000))  # it lay in a spool meanwhile
    assert ledger.drops(received(click(of_session + 5, None, SESSION), of_session))
    assert ledger.drops(received(IdentityLinked(**ENVELOPE, received_at=1, session_id="x", user_id=USER), 1))
    assert not ledger.drops(received(click(cut + 1), cut + 1))
    assert not ledger.drops(received(click(1, "another"), 1))
    assert ledger.drops(received(UserErased(**ENVELOPE, received_at=cut + 9, user_id="another"), cut + 9))
    assert set(ledger.pending) == set(marks)

    enter(broker, topics, ErasureCompleted(**ENVELOPE, received_at=1, mark=marks[0], cut=ledger.cuts[marks[0]]))
    reader.refresh()
    assert set(ledger.pending) == {marks[1]}
    again = enter(broker, topics, ErasureEntered(**ENVELOPE, received_at=1, mark=marks[0]))
    assert reader.refresh() == {marks[0]}
    assert ledger.pending[marks[0]] == ledger.cut(USER) == again
    reader.close()

    raw = b"".join(part for record in records(broker, topics.erasures) for part in (record.key, record.value))
    assert USER.encode() not in raw
    assert SESSION.encode() not in raw


def test_a_ledger_without_a_topic_says_how_to_make_it(broker: KafkaSettings, namespace: Namespace) -> None:
    with pytest.raises(LedgerMissing, match="flywheel topics"):
        LedgerReader(broker, Topics(namespace)).refresh()


@pytest.mark.parametrize("entry", [b"{", b'{"type": "erasure_undone", "mark": "ab"}'])
def test_an_entry_that_cannot_be_read_closes_the_ledger_for_good(
    broker: KafkaSettings, namespace: Namespace, entry: bytes
) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    reader = LedgerReader(broker, topics)
    reader.refresh()
    producer = KafkaProducer(**client_options(broker))
    producer.send(topics.erasures, entry, key=b"ab").get(timeout=30)
    producer.close()
    for _ in range(2):
        with pytest.raises(LedgerUnreadable, match="nobody can tell who was erased"):
            reader.refresh()
    reader.close()
