"""The items' counts of the last hour and day: recomputed, never added up, so nothing counts twice or for ever."""

from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from pyspark.sql import SparkSession
from redis import Redis

from features.config import LakeSettings, StoreSettings, store_url
from features.lake import INTERACTIONS, table_name
from features.landing import Lander, land
from features.online import decode_value, entity_key, hash_field
from features.project import ITEM, RECENT_VIEW, feast_project
from features.recent import RecentItems, recent_rows, refresh
from features.snapshots import read_table
from features.transforms import recent_item_features
from streaming.config import KafkaSettings
from streaming.events import Interaction, Kind
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics
from tests.features.rows import append, at, frame, interaction

HOP, HOUR, DAY = timedelta(minutes=5), timedelta(hours=1), timedelta(days=1)
AS_OF = at(10)


def act(number: int, item: str, ago: timedelta, **fields: Any) -> dict[str, Any]:
    return interaction(number, "u", item, AS_OF - ago, **fields)


def counted(log: Iterable[dict[str, Any]], item: str, end: datetime) -> tuple[int, int, float | None, float]:
    """What a row must say, counted one by one."""
    of_item = [event for event in log if event["item_id"] == item and event.get("surface") != "probe"]
    hour = [event for event in of_item if end - HOUR <= event["happened_at"] < end]
    day = [event for event in of_item if end - DAY <= event["happened_at"] < end]
    positive = [event for event in day if event["kind"] in ("click", "like", "rating", "purchase")]
    share = len(positive) / len(day) if day else None
    return len(hour), len(day), share, (len(hour) + 1) / (len(day) / 24 + 1)


def by_end(rows: Iterable[Any]) -> dict[tuple[str, datetime], tuple[int, int, float | None, float]]:
    return {
        (row["item_id"], row["event_timestamp"]): (
            row["item_interactions_1h"],
            row["item_interactions_24h"],
            row["item_positive_share_24h"],
            row["item_trend"],
        )
        for row in rows
    }


def stored(lake: LakeSettings, namespace: Namespace) -> dict[tuple[str, datetime], Any]:
    return by_end(read_table(lake, namespace, "item_recent").arrow.to_pylist())


def delete(spark: SparkSession, namespace: Namespace, where: str) -> None:
    spark.sql(f"DELETE FROM {table_name(namespace, INTERACTIONS)} WHERE {where}")  # noqa: S608 - own names only


minutes = st.integers(0, 3 * 24 * 60)
act_parts = st.tuples(st.sampled_from("ab"), minutes, st.sampled_from(["click", "view"]), st.booleans())


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(act_parts, max_size=8))
def test_the_newest_row_up_to_any_time_says_what_the_hour_and_the_day_before_it_held(
    spark: SparkSession, drawn: list[tuple[str, int, str, bool]]
) -> None:
    log = [
        act(number, item, timedelta(minutes=ago), kind=kind, surface="probe" if probe else None)
        for number, (item, ago, kind, probe) in enumerate(drawn)
    ]
    rows = by_end(recent_item_features(frame(spark, INTERACTIONS, log)).toArrow().to_pylist())
    assert all(values == counted(log, *place) for place, values in rows.items())
    for item in "ab":
        for hop in range(0, 24 * 12 * 4, 7):
            end = AS_OF - 3 * DAY + hop * HOP
            newest = max((place for place in rows if place[0] == item and place[1] <= end), default=None)
            assert counted(log, item, end) == (rows[newest] if newest is not None else (0, 0, None, 1.0))


def test_a_late_event_an_erasure_and_doing_it_again_leave_what_a_computation_from_the_start_gives(
    spark: SparkSession, lake: LakeSettings, tables: Namespace
) -> None:
    log = [act(number, "ab"[number % 2], timedelta(minutes=37 * number)) for number in range(30)]
    append(spark, tables, INTERACTIONS, log)
    both = spark.createDataFrame([("a",), ("b",)], "item_id string")
    assert refresh(spark, tables, both, AS_OF) > 0
    late = act(100, "a", timedelta(hours=9))
    append(spark, tables, INTERACTIONS, [late])
    only_a = both.where("item_id = 'a'")
    assert 0 < refresh(spark, tables, only_a, AS_OF) <= 3 + len(log)
    assert refresh(spark, tables, only_a, AS_OF) == 0
    delete(spark, tables, "event_id IN ('e0', 'e7')")
    refresh(spark, tables, both, AS_OF)
    left = [event for event in [*log, late] if event["event_id"] not in ("e0", "e7")]
    found = stored(lake, tables)
    assert found == by_end(recent_rows(frame(spark, INTERACTIONS, left), AS_OF).toArrow().to_pylist())
    assert all(values == counted(left, *place) for place, values in found.items())
    later = AS_OF + 3 * DAY
    refresh(spark, tables, both, later)
    assert stored(lake, tables) == {}


def online(store: StoreSettings, namespace: Namespace, item: str) -> tuple[Any, ...]:
    """The item's counts as the online store holds them."""
    key = entity_key(ITEM, item) + feast_project(namespace).encode()
    with Redis.from_url(store_url(store)) as client:
        found = client.hmget(key, [hash_field(RECENT_VIEW.name, name) for name in RECENT_VIEW.features])
    return tuple(value if value is None else decode_value(value) for value in found)


def test_what_a_batch_touched_and_what_left_its_hour_meanwhile_is_pushed(
    spark: SparkSession, store: StoreSettings, tables: Namespace
) -> None:
    first, second = (spark.createDataFrame([(item,)], "item_id string") for item in "ab")
    log = [act(1, "a", timedelta(minutes=10)), act(2, "b", timedelta(minutes=20), kind="view")]
    append(spark, tables, INTERACTIONS, log)
    recent = RecentItems(store, tables)
    assert recent.landed(spark, first.union(second), AS_OF) == 2
    assert [online(store, tables, item) for item in "ab"] == [counted(log, item, AS_OF) for item in "ab"]
    assert recent.landed(spark, second, AS_OF + HOUR) == 2  # b was touched, a has left its hour
    assert online(store, tables, "a") == (0, 1, 1.0, 1 / (1 / 24 + 1))
    delete(spark, tables, "item_id = 'b'")
    assert RecentItems(store, tables).landed(spark, second, AS_OF + HOUR) == 2  # as after a restart
    assert online(store, tables, "b") == (0, 0, None, 1.0)


def test_landing_counts_a_duplicate_once_and_a_late_event_in_its_hour_also_after_a_restart(
    spark: SparkSession, broker: KafkaSettings, store: StoreSettings, lake: LakeSettings, namespace: Namespace
) -> None:
    topics, now = Topics(namespace), int(AS_OF.timestamp() * 1000)
    ensure_topics(broker, topics)

    def publish(*ago: timedelta) -> None:
        clicks = [
            Interaction(
                event_id=f"ago-{one}",
                happened_at=now - int(one.total_seconds() * 1000),
                received_at=now,
                producer="test",
                item_id="a",
                user_id="u",
                kind=Kind.CLICK,
            )
            for one in ago
        ]
        with closing(EventProducer(broker, topics)) as producer:
            producer.publish(clicks)

    def landed() -> None:
        recent = RecentItems(store, namespace)  # a new process each time
        land(Lander(spark, broker, lake, store, topics, clock=lambda: now, recent=recent), available_now=True)

    early, late = timedelta(minutes=10), timedelta(hours=5)
    publish(early, early)
    landed()
    assert online(store, namespace, "a") == counted([act(1, "a", early, kind="click")], "a", AS_OF)
    publish(early, late)
    landed()
    log = [act(1, "a", early, kind="click"), act(2, "a", late, kind="click")]
    assert online(store, namespace, "a") == counted(log, "a", AS_OF) == (1, 2, 1.0, 2 / (2 / 24 + 1))
    assert all(values == counted(log, *place) for place, values in stored(lake, namespace).items())
