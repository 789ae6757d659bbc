"""Landing with a real broker, Spark and Iceberg: every record is in the lake once, or aside with its reason."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from environ import without_settings
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from pydantic import SecretStr
from pyspark.sql import Row, SparkSession
from topic_records import delete_topic, records

from features.accounting import audit
from features.config import LakeSettings, StoreSettings, require
from features.decoding import refusal
from features.lake import TABLES, changed_properties, ensure_tables, missing_parts
from features.landed import find_impression
from features.landing import Lander, LandingRun, LogLost, land
from features.lease import LANDER, LeaseHeld, LeaseUnknown, landing_lease, refuse_while_held
from features.snapshots import current_snapshot_id, read_table
from services.config import Settings
from services.environment import settings_environ
from streaming.codec import encode
from streaming.config import KafkaSettings, client_options
from streaming.events import (
    Event,
    IdentityLinked,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpserted,
    Kind,
    LoggedState,
    ReplayInputs,
    SlateItem,
    UserUpserted,
)
from streaming.ids import RequestId
from streaming.letters import letters as letters_of
from streaming.letters import sides
from streaming.namespace import Namespace, parse_namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics, dead_letters, parked

NOW = 1_790_000_000_000
DAY = 86_400_000

POISON = b'{"type":"interaction","event_id":"x","kind":"no such kind"}'
NOT_JSON = b"\xff\xfe not JSON"
UNKNOWN_TYPE = b'{"type":"hologram_shown","event_id":"h1","happened_at":1,"received_at":1,"producer":"p"}'
NEWER = encode(
    IdentityLinked(event_id="n", happened_at=NOW, received_at=NOW, producer="p", session_id="s", user_id="u")
)
NEWER = NEWER.replace(b'"schema_version":1', b'"schema_version":99')


def envelope(event_id: str, at: int = NOW) -> dict[str, object]:
    return {"event_id": event_id, "happened_at": at, "received_at": NOW, "producer": "test"}


NEWER = encode(IdentityLinked(**envelope("n"), session_id="s", user_id="u"))
NEWER = NEWER.replace(b'"schema_version":1', b'"schema_version":99')


def rating(number: int, at: int = NOW, user: str = "Zoë 7") -> Interaction:
    return Interaction(**envelope(f"r{number}", at), item_id=f"i{number}", kind=Kind.RATING, value=4.0, user_id=user)


EVENTS: list[Event] = [
    *(rating(number, NOW - number * DAY) for number in range(40)),
    rating(0),  # a producer that sends again
    rating(0, NOW + 1),  # the same id on the same day
    rating(0, NOW - 200 * DAY),  # the same id on another day is another event
    ItemUpserted(**envelope("i-1"), item_id="i1", title="Ünder", categories=["a", "b"], attributes={"year": 1995.0}),
    ItemRemoved(**envelope("i-2"), item_id="i2"),
    UserUpserted(**envelope("u-1"), user_id="u1", attributes={"age": 24.0, "gender": "F"}),
    IdentityLinked(**envelope("l-1"), session_id="s1", user_id="u1"),
    Impression(
        **envelope("q-1"),
        surface="home",
        variant="a",
        slate=[SlateItem(item_id="i1", position=0, score=0.5, propensity=0.25, source="model")],
        seed=7,
        user_id="u1",
        user_state=LoggedState(history=["i3", "i1"], features={"interactions_30d": 3.0}),
        catalogue_offsets={"0": 12},
    ),
]
FULL = Impression(
    **envelope("q-3"),
    surface="home",
    variant="champion",
    slate=[
        SlateItem(
            item_id="i1",
            position=0,
            score=0.5,
            propensity=1.0,
            source="model",
            fixed=True,
            rules=["pin", "boost:sale"],
        )
    ],
    seed=7,
    user_id="u1",
    surfaces_version="0123456789ab",
    policy="explored",
    replay=ReplayInputs(
        n=10, categories=["a"], exclude=["i2"], shown=["i3"], history=b"\x93\x00\xff", interaction_offsets={"0": 40}
    ),
)
IMPOSSIBLE = Impression(**envelope("q-2"), surface="home", variant="a", slate=[], seed=2**63, user_id="u1")


@dataclass(frozen=True)
class World:
    """A namespace with everything that can be in a log, landed once."""

    spark: SparkSession
    lander: Lander
    run: LandingRun

    @property
    def topics(self) -> Topics:
        return self.lander.topics

    def rows(self, table: str) -> list[Row]:
        return self.spark.table(f"lake.{self.topics.namespace}.{table}").collect()

    def land(self) -> LandingRun:
        return land(self.lander, available_now=True)

    def checkpoint(self) -> Path:
        return Path(urlsplit(require(self.lander.lake.checkpoints, "lake.checkpoints")).path) / self.topics.namespace

    def balance(self) -> list[str]:
        accounting = audit(self.spark, self.lander.kafka, self.topics)
        return [problem for part in accounting.partitions for problem in part.problems]


def lander_of(
    spark: SparkSession, kafka: KafkaSettings, lake: LakeSettings, store: StoreSettings, namespace: Namespace
) -> Lander:
    return Lander(spark, kafka, lake, store, Topics(namespace), clock=lambda: NOW)


@pytest.fixture(scope="module")
def world(spark: SparkSession, broker: KafkaSettings, lake: LakeSettings, store: StoreSettings) -> Iterator[World]:
    lander = lander_of(spark, broker, lake, store, parse_namespace(f"w{time.time_ns() % 10**15}"))
    ensure_topics(broker, lander.topics)
    producer = EventProducer(broker, lander.topics)
    producer.publish(EVENTS)
    producer.close()
    send_raw(broker, lander.topics.interactions, POISON, NOT_JSON, UNKNOWN_TYPE, encode(EVENTS[-1]))
    send_raw(broker, lander.topics.identities, NEWER)
    send_raw(broker, lander.topics.impressions, encode(IMPOSSIBLE))
    return World(spark, lander, land(lander, available_now=True))


def send_raw(kafka: KafkaSettings, topic: str, *values: bytes) -> None:
    producer = KafkaProducer(**client_options(kafka))
    for value in values:
        producer.send(topic, value, key=b"raw", partition=0).get(timeout=30)
    producer.close()


def letters(kafka: KafkaSettings, topic: str) -> dict[bytes, dict[str, bytes]]:
    """Return the records of a side topic by value, with their headers."""
    consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end, found = consumer.end_offsets([partition])[partition], {}
    while consumer.position(partition) < end:
        for record in consumer.poll(timeout_ms=200).get(partition, []):
            found[record.value] = dict(record.headers)
    consumer.close()
    return found


def test_every_event_is_a_row_once(world):
    ids = [(row.event_id, row.happened_at.timestamp()) for row in world.rows("interactions")]
    expected = [(f"r{number}", (NOW - number * DAY) / 1000) for number in range(40)] + [
        ("r0", (NOW - 200 * DAY) / 1000)
    ]
    assert sorted(ids) == sorted(expected)


def test_times_and_text_arrive_as_they_were_sent(world, lake):
    row = next(r for r in world.rows("items") if not r.removed)
    assert (row.title, row.categories, row.attributes) == ("Ünder", ["a", "b"], '{"year":1995.0}')
    times = read_table(lake, world.topics.namespace, "users", columns=("happened_at", "received_at")).arrow
    assert [value.value for value in times.column("happened_at")] == [NOW * 1000]
    assert str(times.schema.field("happened_at").type) == "timestamp[us, tz=UTC]"


def test_a_slate_lands_with_its_state(world):
    row = next(iter(world.rows("impressions")))
    assert row.slate[0].asDict() == {
        "item_id": "i1",
        "position": 0,
        "score": 0.5,
        "propensity": 0.25,
        "source": "model",
        "fixed": False,
        "rules": [],
    }
    assert (row.surfaces_version, row.policy, row.replay) == (None, None, None)  # the event says nothing of them
    assert (row.user_history, row.user_features, row.catalogue_offsets) == (
        ["i3", "i1"],
        '{"interactions_30d":3.0}',
        '{"0":12}',
    )


def test_a_landed_impression_can_be_had_again_as_it_was_sent(world, lake):
    [sent] = [event for event in EVENTS if isinstance(event, Impression)]
    assert find_impression(lake, world.topics.namespace, RequestId("q-1")) == sent


def test_a_removed_item_is_a_row_and_its_null_record_is_counted(world):
    assert [row.item_id for row in world.rows("items") if row.removed] == ["i2"]
    assert sum(landing.tombstones for landing in world.run.landings) == 1


def test_poison_goes_to_the_dead_letters_with_reason_place_and_bytes(world, broker):
    found = letters(broker, dead_letters(world.topics.interactions))
    assert set(found) == {POISON, NOT_JSON, encode(EVENTS[-1])}
    headers = found[POISON]
    assert headers["topic"].decode() == world.topics.interactions
    assert (headers["partition"], headers["key"]) == (b"0", b"raw")
    assert int(headers["offset"]) >= 0
    assert b"no such kind" in headers["reason"] or b"Invalid enum value" in headers["reason"]
    assert b"belongs in topic" in found[encode(EVENTS[-1])]["reason"]


def test_an_event_that_no_column_can_hold_is_dead_and_the_rest_lands(world, broker):
    found = letters(broker, dead_letters(world.topics.impressions))
    assert list(found) == [encode(IMPOSSIBLE)]
    assert b"does not fit" in found[encode(IMPOSSIBLE)]["reason"]


def test_what_a_newer_release_sent_is_parked(world, broker):
    unknown = letters(broker, parked(world.topics.interactions))
    newer = letters(broker, parked(world.topics.identities))
    assert list(unknown) == [UNKNOWN_TYPE]
    assert b"hologram_shown" in unknown[UNKNOWN_TYPE]["reason"]
    assert list(newer) == [NEWER]


def test_a_replay_judges_what_was_put_aside_as_landing_does(world, broker):
    found = [one for topic, side in sides(world.topics) for one in letters_of(broker, topic, side)]
    assert {one.value for one in found} == {
        POISON,
        NOT_JSON,
        encode(EVENTS[-1]),
        encode(IMPOSSIBLE),
        UNKNOWN_TYPE,
        NEWER,
    }
    assert all(refusal(world.topics, one.topic, one.value) == one.reason for one in found)
    log = {
        (one.topic, one.partition, one.offset): one for topic in world.topics.landed for one in records(broker, topic)
    }
    sources = [log[one.topic, one.partition, one.offset] for one in found]
    assert [(one.value, one.timestamp) for one in sources] == [(one.value, one.appended_at) for one in found]
    assert refusal(world.topics, world.topics.interactions, encode(rating(5))) is None


def test_the_account_balances_to_the_record(world):
    assert world.balance() == []
    by_topic = {
        topic: {
            name: sum(getattr(landing, name) for landing in world.run.landings if landing.topic == topic)
            for name in ("records", "inserted", "duplicate", "dead", "parked")
        }
        for topic in world.topics.landed
    }
    assert by_topic[world.topics.interactions] == {
        "records": 47,
        "inserted": 41,
        "duplicate": 2,
        "dead": 3,
        "parked": 1,
    }


def test_landing_again_changes_nothing(world, lake):
    tables = ("interactions", "items", "landings")
    before = {table: current_snapshot_id(lake, world.topics.namespace, table) for table in tables}
    assert world.land().landings == []
    assert {table: current_snapshot_id(lake, world.topics.namespace, table) for table in tables} == before


def test_a_crash_between_the_lake_and_the_checkpoint_duplicates_nothing(world):
    before = sorted(map(str, world.rows("interactions")))
    commits = sorted(
        (path for path in (world.checkpoint() / "commits").glob("[0-9]*")), key=lambda path: int(path.name)
    )
    for stale in (commits[-1], commits[-1].with_name(f".{commits[-1].name}.crc")):
        stale.unlink(missing_ok=True)  # what a kill right after the Iceberg commit leaves behind
    again = world.land()
    assert again.restarts == 1  # Spark's own failure after such a crash
    assert sum(landing.records for landing in again.landings) > 0
    assert sorted(map(str, world.rows("interactions"))) == before
    assert world.balance() == []


def test_a_lost_checkpoint_goes_on_behind_what_has_landed(world, broker):
    shutil.rmtree(world.checkpoint())
    producer = EventProducer(broker, world.topics)
    producer.publish([rating(1000)])
    producer.close()
    again = world.land()
    assert [(landing.records, landing.inserted) for landing in again.landings] == [(1, 1)]
    assert world.balance() == []


def test_a_second_lander_says_so_and_ends(world, store):
    with landing_lease(store, world.topics.namespace), pytest.raises(LeaseHeld, match="another lander"):
        world.land()


def test_a_second_lander_is_refused_before_it_starts_spark(world, broker, store, tmp_path):
    with pytest.raises(LeaseUnknown, match="is away"):
        refuse_while_held(StoreSettings(redis_url=SecretStr("redis://127.0.0.1:1")), world.topics.namespace, LANDER)
    refuse_while_held(store, world.topics.namespace, LANDER)
    settings = Settings(
        namespace=world.topics.namespace, home=tmp_path, kafka=broker, store=store, lake=LakeSettings(spark_master="no")
    )
    with landing_lease(store, world.topics.namespace):
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", "land"],
            env={**without_settings(), **settings_environ(settings)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "one is enough" in done.stderr
    assert not (tmp_path / "lake").exists()


def test_the_lease_is_free_again_afterwards(world, store):
    with landing_lease(store, world.topics.namespace) as lease:
        lease.check()


BEFORE = (
    "event_id string, happened_at timestamp, received_at timestamp, source_time timestamp, producer string, "
    "schema_version int, user_id string, session_id string, surface string, variant string, model_version string, "
    "slate array<struct<item_id:string,position:int,score:double,propensity:double,source:string>>, seed bigint, "
    "fallbacks array<string>, user_history array<string>, user_features string, catalogue_offsets string, "
    "topic string, partition int, offset bigint, appended_at timestamp"
)
"""The columns of `impressions` before it had those of rules and replay."""


def test_a_table_from_before_gains_the_newer_columns_and_keeps_its_rows(spark, broker, lake, store, namespace):
    lander = lander_of(spark, broker, lake, store, namespace)
    table = f"lake.{namespace}.impressions"
    spark.sql(f"CREATE NAMESPACE lake.{namespace}")
    spark.sql(f"CREATE TABLE {table} ({BEFORE}) USING iceberg PARTITIONED BY (months(happened_at))")
    spark.sql(
        f"INSERT INTO {table} (event_id, happened_at, surface, slate, offset) VALUES ('old', TIMESTAMP "  # noqa: S608
        "'2026-01-02 03:04:05', 'home', array(named_struct('item_id', 'i9', 'position', 0, 'score', 0.1D, "
        "'propensity', 0.5D, 'source', 'new')), 3)"
    )
    ensure_topics(broker, lander.topics)
    producer = EventProducer(broker, lander.topics)
    producer.publish([FULL])
    producer.close()
    land(lander, available_now=True)
    old, new = sorted(spark.table(table).collect(), key=lambda row: row.event_id != "old")
    shown = {"item_id": "i9", "position": 0, "score": 0.1, "propensity": 0.5, "source": "new"}
    assert old.slate[0].asDict() == shown | {"fixed": None, "rules": None}
    assert (old.offset, old.surfaces_version, old.policy, old.replay) == (3, None, None, None)
    assert (new.slate[0].fixed, new.slate[0].rules) == (True, ["pin", "boost:sale"])
    assert (new.surfaces_version, new.policy) == ("0123456789ab", "explored")
    assert new.replay.asDict() == {
        "n": 10,
        "categories": ["a"],
        "exclude": ["i2"],
        "shown": ["i3"],
        "history": bytearray(b"\x93\x00\xff"),
        "interaction_offsets": '{"0":40}',
    }
    assert find_impression(lake, namespace, RequestId("q-3")) == FULL
    assert find_impression(lake, namespace, RequestId("q-4")) is None
    before = current_snapshot_id(lake, namespace, "impressions")
    fields = spark.table(table).schema
    ensure_tables(spark, namespace)
    assert (current_snapshot_id(lake, namespace, "impressions"), spark.table(table).schema) == (before, fields)


def test_what_a_migration_would_do_is_told_first_and_nothing_is_left_to_do_afterwards(spark, namespace):
    told = missing_parts(spark, namespace)
    assert [change.what for change in told] == ["create the namespace"] + ["create the table"] * len(TABLES)
    assert missing_parts(spark, namespace) == told  # telling changed nothing
    ensure_tables(spark, namespace)
    spark.sql(f"ALTER TABLE lake.{namespace}.users DROP COLUMN attributes")
    spark.sql(f"ALTER TABLE lake.{namespace}.items UNSET TBLPROPERTIES ('write.delete.isolation-level')")
    assert [(change.table, change.what) for change in missing_parts(spark, namespace)] == [
        ("users", "add attributes string")
    ]
    assert [(change.table, change.what) for change in changed_properties(spark, namespace)] == [
        ("items", "set 'write.delete.isolation-level'='snapshot'")
    ]
    for find in (missing_parts, changed_properties):
        for change in find(spark, namespace):
            spark.sql(change.statement)
        assert find(spark, namespace) == []


def test_this_release_lands_beside_a_newer_one_that_has_widened_a_table(spark, broker, lake, store, namespace):
    lander = lander_of(spark, broker, lake, store, namespace)
    ensure_tables(spark, namespace)
    for table in ("interactions", "landings"):
        spark.sql(f"ALTER TABLE lake.{namespace}.{table} ADD COLUMNS (of_tomorrow string)")
    ensure_topics(broker, lander.topics)
    producer = EventProducer(broker, lander.topics)
    producer.publish([rating(1)])
    producer.close()
    [landing] = land(lander, available_now=True).landings
    [row] = spark.table(f"lake.{namespace}.interactions").collect()
    assert (landing.inserted, row.event_id, row.of_tomorrow) == (1, "r1", None)
    assert read_table(lake, namespace, "interactions").arrow["item_id"].to_pylist() == ["i1"]


def test_landing_ends_after_the_batch_in_hand_though_events_keep_coming_and_not_on_another_log(
    spark: SparkSession, broker: KafkaSettings, lake: LakeSettings, store: StoreSettings, namespace: Namespace
) -> None:
    quickly = lake.model_copy(update={"trigger_seconds": 0})  # one batch after the other
    lander, published = lander_of(spark, broker, quickly, store, namespace), list[int]()
    ensure_topics(broker, lander.topics)
    stop, enough, runs = threading.Event(), threading.Event(), list[LandingRun]()

    def publish() -> None:
        with closing(EventProducer(broker, lander.topics)) as producer:
            while not enough.is_set():
                producer.publish([rating(len(published))])
                published.append(len(published))

    def landing() -> None:
        runs.append(land(lander, available_now=False, stop=stop, progress=lambda _: stop.set()))

    threads = [threading.Thread(target=publish), threading.Thread(target=landing)]
    for thread in threads:
        thread.start()
    try:
        threads[1].join(120)
        assert not threads[1].is_alive(), "landing goes on while events come"
    finally:
        stop.set()
        enough.set()
        for thread in threads:
            thread.join()
    assert len(runs) == 1
    land(lander, available_now=True)
    found = [row.event_id for row in spark.table(f"lake.{namespace}.interactions").collect()]
    assert sorted(found) == sorted(f"r{number}" for number in published)
    audit(spark, broker, lander.topics).check()

    delete_topic(broker, lander.topics.interactions)
    ensure_topics(broker, lander.topics)
    with pytest.raises(LogLost, match="the topic was lost or made anew"):
        land(lander, available_now=True)
