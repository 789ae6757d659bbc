"""The slow path with real Spark, Iceberg, Feast and Valkey: no example knows the future, runs repeat exactly."""

import json
import random
import threading
from collections import Counter
from datetime import UTC, datetime

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from features.config import LakeSettings, StoreSettings
from features.labels import ExampleSpec
from features.lake import IMPRESSIONS, INTERACTIONS, USERS, ensure_tables
from features.online import SyncOnlineReader
from features.snapshots import SnapshotMissing, open_catalog, pin_snapshot, read_table
from features.store import FeatureStore
from features.training_set import build_features, build_training_set
from features.updater import HistoryUpdater
from streaming.consumer import Received
from streaming.events import Interaction, Kind
from streaming.ids import UserId
from streaming.namespace import Namespace, parse_namespace
from tests.features.rows import append, at, interaction

SPEC = ExampleSpec(positives=40, negatives=6, seed=5)
AS_OF = at(50, hours=12)
LOGGED = {"interactions_30d": 77.0, "attributes": '{"age":1.0}'}


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@pytest.fixture(scope="module")
def log() -> list[dict[str, object]]:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when a test fails
    draw = random.Random(seed)  # noqa: S311
    edges = (0, 1, 86_399)
    return [
        interaction(
            number,
            f"u{draw.randrange(6)}",
            f"i{draw.randrange(80)}",
            at(draw.randrange(60), seconds=draw.choice([*edges, draw.randrange(86_400), draw.randrange(86_400)])),
            value=draw.choice([1.0, 2.0, 5.0, None]),
        )
        for number in range(300)
    ]


@pytest.fixture(scope="module")
def built(spark, store: StoreSettings, log) -> tuple[Namespace, FeatureStore]:
    """A namespace with features and examples as of AS_OF; the log goes on for ten days after that."""
    namespace = parse_namespace(f"b{random.SystemRandom().getrandbits(60):x}")
    ensure_tables(spark, namespace)
    append(spark, namespace, INTERACTIONS, log)
    change = {"event_id": "c", "user_id": "u0", "happened_at": at(20, hours=5), "attributes": '{"age":30.0}'}
    append(spark, namespace, USERS, [change])
    slate = [{"item_id": f"i{n}", "position": n, "score": 0.0, "propensity": 1.0, "source": "s"} for n in range(3)]
    shown = {"event_id": "q", "user_id": "u1", "surface": "home", "happened_at": at(49), "slate": slate}
    append(spark, namespace, IMPRESSIONS, [shown | {"user_features": json.dumps(LOGGED)}])
    features = FeatureStore(store, namespace)
    features.apply()
    build_features(spark, namespace, AS_OF)
    build_training_set(spark, namespace, features, SPEC, AS_OF)
    return namespace, features


@pytest.fixture(scope="module")
def examples(built, lake: LakeSettings) -> pd.DataFrame:
    return read_table(lake, built[0], "examples").arrow.to_pandas()


def before_the_day_of(log, key: str, owner: str, moment: datetime) -> list[dict[str, object]]:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return [row for row in log if row[key] == owner and row["happened_at"] < day]


def test_no_example_sees_anything_of_its_own_day_or_later(examples, log):
    assert len(examples) > SPEC.positives * 4
    for row in examples[examples["sampling"] != "impression"].itertuples():
        moment = row.event_timestamp.to_pydatetime()
        past = before_the_day_of(log, "user_id", row.user_id, moment)
        values = [event["value"] for event in past if event["value"] is not None]
        # A user without an earlier day has no row to join.
        known = bool(past) or (row.user_id == "u0" and moment >= at(21))
        assert (row.interactions_total == len(past)) if known else pd.isna(row.interactions_total)
        assert row.mean_value == pytest.approx(sum(values) / len(values)) if values else pd.isna(row.mean_value)
        shown = before_the_day_of(log, "item_id", row.item_id, moment)
        assert (row.item_interactions_total == len(shown)) if shown else pd.isna(row.item_interactions_total)


def test_windows_end_with_the_last_day_that_the_item_was_active(examples, log):
    for row in examples.itertuples():
        past = before_the_day_of(log, "item_id", row.item_id, row.event_timestamp.to_pydatetime())
        if past:
            last = max(event["happened_at"] for event in past).date()
            recent = [event for event in past if (last - event["happened_at"].date()).days < 30]
            assert row.item_interactions_30d == len(recent)


def test_attributes_join_from_the_day_after_they_changed(examples):
    of_user = examples[(examples["user_id"] == "u0") & (examples["sampling"] != "impression")]
    for row in of_user.itertuples():
        assert (row.attributes == '{"age":30.0}') == (row.event_timestamp >= pd.Timestamp(at(21)))


def test_what_serving_logged_wins_over_what_joins(examples, log):
    shown = examples[examples["sampling"] == "impression"]
    assert sorted(shown["position"]) == [0, 1, 2]
    assert set(shown["interactions_30d"]) == {77}
    assert set(shown["attributes"]) == {'{"age":1.0}'}
    assert set(shown["interactions_total"]) == {len(before_the_day_of(log, "user_id", "u1", at(49)))}


def test_only_days_that_ended_have_features(built, lake):
    for table in ("user_features", "item_features"):
        stamps = read_table(lake, built[0], table).arrow.to_pandas()["event_timestamp"]
        assert stamps.max() <= pd.Timestamp(AS_OF)
        assert (stamps == stamps.dt.normalize()).all()


def test_running_again_gives_the_same_rows(spark, built, lake):
    namespace, features = built

    def rows(table: str) -> Counter[str]:
        return Counter(map(str, read_table(lake, namespace, table).arrow.to_pylist()))

    tables = ("user_features", "item_features", "examples")
    before = {table: rows(table) for table in tables}
    build_features(spark, namespace, AS_OF)
    build_training_set(spark, namespace, features, SPEC, AS_OF)
    assert {table: rows(table) for table in tables} == before


def test_an_earlier_training_set_can_be_read_by_its_snapshot(spark, built, lake, examples):
    namespace, features = built
    first = read_table(lake, namespace, "examples").snapshot_id
    assert pin_snapshot(lake, namespace, "examples", first, "champion")
    assert not pin_snapshot(lake, namespace, "examples", 12345, "champion")
    build_training_set(spark, namespace, features, ExampleSpec(positives=3, negatives=2, seed=5), AS_OF)
    assert len(read_table(lake, namespace, "examples").arrow) < len(examples)
    assert len(read_table(lake, namespace, "examples", snapshot_id=first).arrow) == len(examples)
    second = read_table(lake, namespace, "examples").snapshot_id
    assert pin_snapshot(lake, namespace, "examples", second, "champion")
    assert open_catalog(lake).load_table((namespace, "examples")).refs()["champion"].snapshot_id == second
    with pytest.raises(SnapshotMissing, match="no snapshot 12345"):
        read_table(lake, namespace, "examples", snapshot_id=12345)


def click(number: int, user: str) -> Received:
    event = Interaction(
        event_id=f"click-{number}",
        happened_at=milliseconds(AS_OF) + number,
        received_at=milliseconds(AS_OF),
        producer="test",
        item_id=f"i{number}",
        kind=Kind.CLICK,
        user_id=user,
    )
    return Received(event, None, "t", 0, number, milliseconds(AS_OF) + number)


def test_materialising_while_users_click_loses_neither(spark, built, store, erasures, log):
    namespace, features = built
    users = [UserId(f"u{number}") for number in range(6)]
    reader = SyncOnlineReader(store, namespace)
    updater = HistoryUpdater(reader, FeatureStore(store, namespace), erasures, 1000)
    materialised = threading.Event()
    clicked = 0

    def materialise() -> None:
        features.materialise(spark, AS_OF)
        materialised.set()

    thread = threading.Thread(target=materialise)
    thread.start()
    while not materialised.is_set() or clicked < 60:
        updater.update([click(clicked, users[clicked % 6])])
        clicked += 1
    thread.join()

    states = reader.user_states(users, as_of=milliseconds(AS_OF))
    for index, state in enumerate(states):
        assert state.history.items == [f"i{number}" for number in range(index, clicked, 6)]
        past = before_the_day_of(log, "user_id", users[index], AS_OF)
        assert state.features["interactions_total"] == len(past)
        assert datetime.fromtimestamp(state.features_at / 1000, UTC) <= AS_OF
    reader.close()


def test_a_late_event_changes_the_features_of_a_day_that_was_written_before(spark, store, tables):
    features = FeatureStore(store, tables)
    features.apply()
    reader = SyncOnlineReader(store, tables)
    for number in range(2):
        append(spark, tables, INTERACTIONS, [interaction(number, "u", "i", at(3, hours=number))])
        build_features(spark, tables, at(4))
        assert features.materialise(spark, at(4)) == {"user_features": 1, "item_features": 1, "item_recent": 1}
        state = reader.user_states([UserId("u")], as_of=milliseconds(at(4)))[0]
        assert state.features["interactions_total"] == number + 1
    reader.close()


def test_before_there_is_anything_to_learn_from_there_is_no_example(
    spark: SparkSession, tables: Namespace, store: StoreSettings
) -> None:
    features = FeatureStore(store, tables)
    features.apply()
    build_features(spark, tables, AS_OF)
    assert build_training_set(spark, tables, features, SPEC, AS_OF).rows == 0
