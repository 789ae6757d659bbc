"""The stored form of a slate's record: replicas of two releases read each other's while one replaces the other."""

from pathlib import Path

import msgspec

from features.history import History, HistoryEvent
from features.slate_records import SlateRecord, decode_record, encode_record
from streaming.events import Impression, Kind, LoggedState, SlateItem
from streaming.ids import EventId, ItemId

GOLDEN = Path(__file__).parent / "golden_records" / "v1.msgpack"

IMPRESSION = Impression(
    event_id="0" * 31 + "1",
    happened_at=1_767_225_600_123,
    received_at=1_767_225_600_123,
    producer="recommender",
    surface="home",
    variant="champion",
    slate=[SlateItem(item_id="boots-42 Größe", position=0, score=1.25, propensity=0.5, source="s", rules=["pin"])],
    seed=7,
    user_id="ユーザー 1",
    session_id="s-9",
    model_version="m-1",
    user_state=LoggedState(history=["a", "b"], features={"interactions_total": 2.0}),
    surfaces_version="0123456789ab",
    policy="explored",
)
HISTORY = History(
    (
        HistoryEvent(5, EventId("e1"), ItemId("a"), Kind.RATING, 4.0),
        HistoryEvent(7, EventId("e2"), ItemId("b"), Kind.HIDE),
    )
)
RECORD = SlateRecord.of(IMPRESSION, HISTORY)


def test_a_record_of_the_first_release_is_read() -> None:
    read = decode_record(GOLDEN.read_bytes())
    assert read == RECORD
    assert [(event.happened_at, event.item_id, event.kind) for event in read.history.events] == [
        (5, "a", Kind.RATING),
        (7, "b", Kind.HIDE),
    ]


def test_the_first_release_reads_what_is_written_now() -> None:
    written, golden = (msgspec.msgpack.decode(data) for data in (encode_record(RECORD), GOLDEN.read_bytes()))
    assert {name: written[name] for name in golden} == golden


def test_what_a_newer_release_adds_is_ignored() -> None:
    newer = msgspec.msgpack.decode(GOLDEN.read_bytes()) | {"mood": "fine"}
    assert decode_record(msgspec.msgpack.encode(newer)) == RECORD
