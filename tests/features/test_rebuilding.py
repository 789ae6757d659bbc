"""Rebuilding from the lake and the log behind it gives what was there, byte for byte."""

from contextlib import closing

from pyspark.sql import SparkSession
from topic_records import delete_topic, records

from features.config import LakeSettings, StoreSettings
from features.landing import Lander, land
from features.online import SyncOnlineReader
from features.rebuilding import rebuild_catalogue, rebuild_histories
from features.store import FeatureStore
from features.updater import HistoryUpdater
from streaming.bounded import records as received
from streaming.codec import decode
from streaming.config import KafkaSettings
from streaming.events import Event, Interaction, ItemRemoved, ItemUpserted, Kind
from streaming.ids import UserId
from streaming.ledger import LedgerReader
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

NOW = 1_790_000_000_000
USERS = [UserId(f"u{number}") for number in range(4)]


def envelope(event_id: str, at: int = NOW) -> dict[str, object]:
    return {"event_id": event_id, "happened_at": at, "received_at": NOW, "producer": "test"}


def act(number: int) -> Interaction:
    value = 4.5 if number % 3 else None
    kind = Kind.RATING if value else Kind.SKIP
    at = NOW - 997 * (number * 7 % 31)
    return Interaction(
        **envelope(f"e{number}", at), item_id=f"i{number}", kind=kind, value=value, user_id=USERS[number % 4]
    )


NEWEST = ItemUpserted(**envelope("d2"), item_id="d", title="changed by others while a collector spooled")
ITEMS: list[Event] = [
    ItemUpserted(**envelope("a1"), item_id="a", title="first"),
    ItemUpserted(
        **envelope("a2"),
        item_id="a",
        title="Ünder",
        categories=["x"],
        attributes={"year": 1995.0, "de": True},
        hidden=True,
    ),
    ItemUpserted(**envelope("b1"), item_id="b", text="long", available_from=NOW, available_until=NOW + 1),
    ItemUpserted(**envelope("c1"), item_id="c"),
    ItemRemoved(**envelope("c2"), item_id="c"),
    NEWEST,
    ItemUpserted(**envelope("d1", NOW - 1), item_id="d", title="spooled"),
    NEWEST,
]


def test_the_histories_and_the_catalogue_are_what_they_were(
    spark: SparkSession, broker: KafkaSettings, lake: LakeSettings, store: StoreSettings, namespace: Namespace
) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    producer = EventProducer(broker, topics)
    producer.publish([*map(act, range(30)), *ITEMS])
    land(Lander(spark, broker, lake, store, topics, clock=lambda: NOW), available_now=True)
    producer.publish(map(act, range(30, 35)))  # which stay in the log

    features = FeatureStore(store, namespace)
    features.apply()
    with closing(LedgerReader(broker, topics)) as erasures, closing(SyncOnlineReader(store, namespace)) as reader:
        erasures.refresh()
        updater = HistoryUpdater(reader, features, erasures, history_length=8)
        for batch in received(broker, topics.interactions):
            updater.update(batch)
        live = reader.stored_histories(USERS)
        assert all(live)
        reader.delete_users(USERS)
        assert reader.stored_histories(USERS) == [None] * 4
        assert rebuild_histories(lake, broker, topics, updater) == 35
        assert reader.stored_histories(USERS) == live
        rebuild_histories(lake, broker, topics, updater)
        assert reader.stored_histories(USERS) == live

    def catalogue() -> dict[bytes, Event]:
        latest = {record.key: record.value for record in records(broker, topics.items)}
        return {key: decode(value) for key, value in latest.items() if value is not None}

    before = catalogue()
    assert rebuild_catalogue(lake, broker, topics, producer) == 0
    producer.close()
    delete_topic(broker, topics.items)
    ensure_topics(broker, topics)
    with closing(EventProducer(broker, topics)) as again:
        assert rebuild_catalogue(lake, broker, topics, again) == 3
    assert catalogue() == before
