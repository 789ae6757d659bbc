"""The audit on a real lake: nothing is wrong while things go on, and whatever is wrong is named by its offset."""

import time

import msgspec
from kafka import KafkaProducer
from pyspark.sql import Row, SparkSession

from features.accounting import audit
from features.config import LakeSettings, StoreSettings
from features.landing import Lander, land
from streaming.codec import encode
from streaming.config import KafkaSettings, client_options
from streaming.events import (
    AcknowledgedOffsets,
    Event,
    Interaction,
    ItemRemoved,
    ItemUpserted,
    Kind,
    RecordsAcknowledged,
)
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics, key_of

NOW = 1_790_000_000_000


def envelope(event_id: str) -> dict[str, object]:
    return {"event_id": event_id, "happened_at": NOW, "received_at": NOW, "producer": "test"}


def click(number: int) -> Interaction:
    return Interaction(**envelope(f"e{number}"), item_id="i", kind=Kind.CLICK, user_id=f"u{number}")


def item(event_id: str, item_id: str) -> ItemUpserted:
    return ItemUpserted(**envelope(event_id), item_id=item_id, title=event_id)


def send(kafka: KafkaSettings, topic: str, event: Event) -> tuple[int, int, int]:
    """Send one event; its partition, offset and append time."""
    producer = KafkaProducer(**client_options(kafka))
    sent = producer.send(topic, encode(event), key=key_of(event)).get(timeout=30)
    producer.close()
    return sent.partition, sent.offset, sent.timestamp


def test_whatever_does_not_add_up_is_listed_by_offset_and_nothing_else_is(
    spark: SparkSession, broker: KafkaSettings, lake: LakeSettings, store: StoreSettings, namespace: Namespace
) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    producer = EventProducer(broker, topics)
    items = [item("old", "changed"), item("new", "changed"), item("kept", "kept"), item("bought", "gone")]
    # As a collector leaves it that had spooled an old state of an item which others have removed since.
    again, old = ItemRemoved(**envelope("again"), item_id="drained"), item("drained", "drained")
    drained = [again, msgspec.structs.replace(old, happened_at=NOW - 1), again]
    producer.publish([*map(click, range(20)), *items, ItemRemoved(**envelope("removed"), item_id="gone"), *drained])
    producer.close()
    assert land(Lander(spark, broker, lake, store, topics, clock=lambda: NOW), available_now=True).landings
    landed_at = time.time_ns() // 1_000_000
    partition, offset, appended_at = send(broker, topics.interactions, click(100))
    while appended_at <= landed_at:  # until the log's clock has moved on
        _, _, appended_at = send(broker, topics.interactions, click(100))

    def rows(table: str) -> dict[str, Row]:
        return {row.event_id: row for row in spark.table(f"lake.{namespace}.{table}").collect()}

    def place(row: Row) -> tuple[str, int, int, int]:
        return row.topic, row.partition, row.offset, row.offset

    closed = audit(spark, broker, topics, until=landed_at)
    assert (closed.balanced, closed.differences) == (True, ())
    assert sum(part.inserted for part in closed.partitions) == 27

    first, end = next(
        (part.landed_offsets, part.offsets)
        for part in audit(spark, broker, topics).partitions
        if (part.topic, part.partition) == (topics.interactions, partition)
    )
    assert first == offset
    told = AcknowledgedOffsets(topic=topics.interactions, partition=partition, ranges=[(first, end + 1)])
    send(
        broker,
        topics.acknowledgements,
        RecordsAcknowledged(**envelope("acknowledged"), outbox="one", number=1, offsets=[told]),
    )
    clicks, catalogue = rows("interactions"), rows("items")
    for table, event_id in (("interactions", "e3"), ("items", "new"), ("items", "removed")):
        spark.sql(f"DELETE FROM lake.{namespace}.{table} WHERE event_id = '{event_id}'")  # noqa: S608
    copy = spark.table(f"lake.{namespace}.interactions").where("event_id = 'e5'")
    copy.writeTo(f"lake.{namespace}.interactions").append()
    wrong_batch = f"topic = '{topics.items}' AND partition = {catalogue['kept'].partition}"
    spark.sql(f"UPDATE lake.{namespace}.landings SET duplicate = duplicate + 1 WHERE {wrong_batch}")  # noqa: S608
    batch = spark.table(f"lake.{namespace}.landings").where(wrong_batch).first()
    assert batch is not None

    found = audit(spark, broker, topics)
    assert {(part.topic, part.partition): part.acknowledged for part in found.partitions if part.acknowledged} == {
        (topics.interactions, partition): end - first
    }
    lost = "has landed and is not in the lake"
    expected = {
        (*place(clicks["e3"]), lost),
        (*place(clicks["e5"]), "is in the lake 2 times"),
        (*place(catalogue["new"]), lost),
        (*place(catalogue["new"]), "is the latest of its key and not in the lake"),
        (*place(catalogue["removed"]), lost),
        (
            topics.items,
            batch.partition,
            batch.from_offset,
            batch.until_offset - 1,
            f"{batch.records} records became {batch.records + 1}",
        ),
        (topics.interactions, partition, offset, end - 1, "has not landed"),
        (topics.interactions, partition, end, end + 1, "was acknowledged and is not in the log"),
    }
    listed = {(one.topic, one.partition, one.first, one.last, one.what) for one in found.differences}
    removals = {one for one in listed if one[4] == "is a removal that the lake does not know of"}
    assert listed - removals == expected
    assert [(one[0], one[1], one[2]) for one in removals] == [
        (topics.items, catalogue["removed"].partition, catalogue["removed"].offset + 1)
    ]
