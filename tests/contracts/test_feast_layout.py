"""Feast's layout in the online store, which serving reads without Feast: every byte against Feast's own code."""

import asyncio
import importlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.config import StoreSettings
from features.history import History, HistoryEvent
from features.online import OnlineReader, decode_stamp, decode_value, entity_key, hash_field
from features.project import HISTORY, USER_VIEW, feast_project
from features.store import FeatureStore
from streaming.events import Kind
from streaming.ids import EventId, ItemId, UserId
from streaming.namespace import Namespace

USER = UserId("Zoë 7")
STAMP = datetime(2026, 11, 24, 3, 4, 5, 678_901, tzinfo=UTC)


@pytest.fixture(scope="session", autouse=True)
def feast_is_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import Feast as the product does."""
    url = "redis://127.0.0.1:1/0"
    FeatureStore(
        StoreSettings.model_validate({"redis_url": url}).under(tmp_path_factory.mktemp("feast")), Namespace("contracts")
    )


def feast(module: str):
    return importlib.import_module(f"feast.{module}")


@given(st.text(min_size=1, max_size=50))
def test_the_entity_key_is_feasts(user_id):
    key = feast("protos.feast.types.EntityKey_pb2").EntityKey
    value = feast("protos.feast.types.Value_pb2").Value
    theirs = feast("infra.key_encoding_utils").serialize_entity_key(
        key(join_keys=["user_id"], entity_values=[value(string_val=user_id)]), entity_key_serialization_version=3
    )
    assert entity_key("user_id", user_id) == theirs


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_the_hash_field_is_feasts(view, feature):
    assert hash_field(view, feature) == feast("infra.online_stores.helpers")._mmh3(f"{view}:{feature}")


@given(
    st.one_of(
        st.tuples(st.just("string_val"), st.text(max_size=300)),
        st.tuples(st.just("bytes_val"), st.binary(max_size=300)),
        st.tuples(st.just("int64_val"), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just("int32_val"), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just("double_val"), st.floats(allow_nan=False)),
        st.tuples(st.just("float_val"), st.floats(allow_nan=False, width=32)),
        st.tuples(st.just("bool_val"), st.booleans()),
    )
)
def test_a_value_is_read_as_feast_wrote_it(field_and_value):
    field, value = field_and_value
    written = feast("protos.feast.types.Value_pb2").Value(**{field: value}).SerializeToString()
    assert decode_value(written) == value


def test_a_value_that_is_absent_reads_as_none():
    assert decode_value(feast("protos.feast.types.Value_pb2").Value().SerializeToString()) is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_a_timestamp_is_read_as_protobuf_wrote_it(moment):
    timestamp = importlib.import_module("google.protobuf.timestamp_pb2").Timestamp()
    timestamp.FromDatetime(moment)
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert decode_stamp(timestamp.SerializeToString()) == expected


def test_what_feasts_own_reader_gives_is_what_serving_reads(valkey, namespace, tmp_path):
    store = FeatureStore(valkey.under(tmp_path), namespace)
    store.apply()
    sdk = store._feast  # Feast's own reader and writer
    row = {"interactions_30d": 3, "interactions_total": 2**40, "mean_value": 3.25, "attributes": '{"age":24.0}'}
    frame = importlib.import_module("pandas").DataFrame([{"user_id": USER, "event_timestamp": STAMP, **row}])
    sdk.write_to_online_store(USER_VIEW.name, frame)
    history = History((HistoryEvent(1_000, EventId("e1"), ItemId("ä"), Kind.LIKE, 2.5),))
    store.write_histories({USER: (history, 1_000_001)})

    references = [f"{view.name}:{name}" for view in (HISTORY, USER_VIEW) for name in view.features]
    theirs = sdk.get_online_features(features=references, entity_rows=[{"user_id": USER}]).to_dict()
    ours = asyncio.run(read(valkey, namespace, int(STAMP.timestamp() * 1000) + 1))

    assert {name: [value] for name, value in ours.features.items()} == {
        name: theirs[name] for name in USER_VIEW.features
    }
    assert ours.features == row
    assert ours.features_at == int(STAMP.timestamp() * 1000)
    assert ours.history == history
    assert ours.history_version == 1_000_001


async def read(store: StoreSettings, namespace: Namespace, as_of: int):
    reader = OnlineReader(store, namespace)
    try:
        return await reader.user_state(USER, as_of)
    finally:
        await reader.close()


def test_features_that_are_absent_too_old_or_of_the_future_are_not_there(valkey, namespace, tmp_path):
    store = FeatureStore(valkey.under(tmp_path), namespace)
    store.apply()
    row = {"interactions_30d": 3, "interactions_total": 4, "mean_value": 1.0, "attributes": "{}"}
    frame = importlib.import_module("pandas").DataFrame([{"user_id": USER, "event_timestamp": STAMP, **row}])
    at, day = int(STAMP.timestamp() * 1000), 86_400_000
    assert asyncio.run(read(valkey, namespace, at)).features_at is None
    store._feast.write_to_online_store(USER_VIEW.name, frame)
    moments = (at - 1, at, at + 400 * day, at + 401 * day)
    known = [asyncio.run(read(valkey, namespace, moment)).features for moment in moments]
    assert [bool(features) for features in known] == [False, True, True, False]


@pytest.mark.parametrize("shorter", ["shop", "op", "bigsho"])
def test_no_project_ends_like_another(shorter):
    assert not feast_project(Namespace("bigshop")).endswith(feast_project(Namespace(shorter)))


def test_importing_feast_leaves_torch_out(tmp_path):
    program = f"""
import sys
from pathlib import Path
from features.config import StoreSettings
from features.store import FeatureStore
from streaming.namespace import Namespace
settings = StoreSettings.model_validate({{"redis_url": "redis://127.0.0.1:1/0"}})
FeatureStore(settings.under(Path({str(tmp_path)!r})), Namespace("alone"))
print(sorted(name for name in sys.modules if name.split(".")[0] == "torch" and sys.modules[name]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_reading_the_store_needs_neither_feast_nor_spark():
    program = "import sys, features.online; print({'feast', 'pyspark', 'pandas', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
