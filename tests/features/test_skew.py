"""Skew with real Spark, Iceberg, Feast and Valkey: none where store and lake agree, else the exact share."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from pyspark.sql import SparkSession
from redis import Redis

from features.config import StoreSettings, store_url
from features.lake import IMPRESSIONS, INTERACTIONS, USERS
from features.online import Layout, SyncOnlineReader, hash_field
from features.project import USER_VIEW
from features.skew import FeatureSkew, NothingServed, Served, measure_skew
from features.store import FeatureStore
from features.training_set import build_features
from streaming.ids import UserId
from streaming.namespace import Namespace
from tests.features.rows import append, at, interaction

KNOWN = [f"u{number}" for number in range(8)]


class Shop:
    """Requests that are served from the online store and land in the lake."""

    def __init__(self, spark: SparkSession, store: StoreSettings, namespace: Namespace) -> None:
        self._spark = spark
        self._namespace = namespace
        self._reader = SyncOnlineReader(store, namespace)
        self.features = FeatureStore(store, namespace)
        self.features.apply()
        self._rows: list[dict[str, Any]] = []

    def rate(self, number: int, user: str, moment: datetime, value: float) -> dict[str, Any]:
        return interaction(number, user, f"i{number % 3}", moment, value=value)

    def serve(self, users: Sequence[str], moment: datetime, **changes: Any) -> None:
        """Answer a request of each user with the features that the store has then."""
        states = self._reader.user_states([UserId(user) for user in users], int(moment.timestamp() * 1000))
        for user, state in zip(users, states, strict=True):
            served = {"context.page": "home", **state.features}
            shown = {"event_id": f"q{len(self._rows)}", "user_id": user, "happened_at": moment, "surface": "home"}
            self._rows.append(shown | {"user_features": json.dumps(served), "fallbacks": []} | changes)

    def land(self) -> None:
        append(self._spark, self._namespace, IMPRESSIONS, self._rows)

    def skew(self, since: datetime, until: datetime) -> dict[str, FeatureSkew]:
        served = Served(since, until, ("store_unavailable",))
        return {one.feature: one for one in measure_skew(self._spark, self._namespace, self.features, served)}

    def build(self, as_of: datetime) -> None:
        build_features(self._spark, self._namespace, as_of)

    def close(self) -> None:
        self._reader.close()


def test_skew_is_found_in_exactly_its_share_and_agreement_is_none(
    spark: SparkSession, store: StoreSettings, tables: Namespace
) -> None:
    shop = Shop(spark, store, tables)
    first = [shop.rate(number, user, at(3, hours=5), 4.0) for number, user in enumerate(KNOWN)]
    append(spark, tables, INTERACTIONS, first)
    change = {"happened_at": at(3), "attributes": '{"age":30.0}'}
    append(spark, tables, USERS, [{"event_id": f"c{user}", "user_id": user, **change} for user in ("u0", "u7")])
    shop.build(at(4))
    shop.features.materialise(spark, at(4))
    shop.serve([*KNOWN, "stranger"], at(4, hours=1))

    # Three users rate again and one comes on that day; its features are built on time and materialised late.
    again = [shop.rate(100 + number, f"u{number}", at(4, hours=2), 1.0) for number in range(3)]
    append(spark, tables, INTERACTIONS, [*again, shop.rate(200, "fresh", at(4, hours=2), 5.0)])
    shop.build(at(5))
    shop.serve([*KNOWN, "stranger", "fresh"], at(5, hours=1))
    shop.serve(["u0", "u1"], at(5, hours=2), surface="probe")
    shop.serve(["u0", "u1"], at(5, hours=2), fallbacks=["store_unavailable"], user_features="{}")
    shop.serve(["u0"], at(5, hours=2), user_id=None, session_id="guest")
    shop.features.materialise(spark, at(5))
    alter_in_the_store(store, tables, ["u6", "u7"])
    shop.serve(KNOWN, at(5, hours=9))
    shop.land()

    agreed = shop.skew(at(4), at(5))
    assert {name: (one.requests, one.compared, one.differing) for name, one in agreed.items()} == {
        "interactions_30d": (9, 8, 0),
        "interactions_total": (9, 8, 0),
        "mean_value": (9, 8, 0),
        "attributes": (9, 2, 0),
    }
    assert {one.mean_difference for name, one in agreed.items() if name != "attributes"} == {0.0}

    late = shop.skew(at(5), at(5, hours=8))
    # Of 9 requests with features those of u0, u1 and u2 lack one rating each, and `fresh` was served with none at all.
    for name in ("interactions_30d", "interactions_total"):
        one = late[name]
        assert (one.requests, one.compared, one.differing, one.only_served, one.only_joined) == (10, 9, 4, 0, 1)
        assert one.share == pytest.approx(4 / 9)
        assert one.mean_difference == pytest.approx(3 / 8)
    # The mean of 4 and 1 is 2.5, and 4 was served.
    assert late["mean_value"].mean_difference == pytest.approx(3 * 1.5 / 8)
    assert (late["attributes"].compared, late["attributes"].share) == (2, 0.0)

    altered = shop.skew(at(5, hours=8), at(6))
    # u6 has attributes in the store only.
    assert {name: (one.compared, one.share, one.only_served) for name, one in altered.items()} == {
        "interactions_30d": (8, 0.0, 0),
        "interactions_total": (8, 0.25, 0),
        "mean_value": (8, 0.0, 0),
        "attributes": (3, pytest.approx(2 / 3), 1),
    }
    assert altered["interactions_total"].mean_difference == pytest.approx(2 * 5 / 8)
    with pytest.raises(NothingServed, match="between 2026-03-09T00:00:00"):
        shop.skew(at(8), at(9))
    shop.close()


def alter_in_the_store(store: StoreSettings, namespace: Namespace, users: Sequence[str]) -> None:
    """Set interactions_total to 6, which was 1, and attributes to an age of 31, each as Feast stores it."""
    text = b'{"age":31.0}'
    values = {"interactions_total": b"\x20\x06", "attributes": b"\x12" + bytes([len(text)]) + text}
    with Redis.from_url(store_url(store)) as client:
        for user in users:
            key = Layout.of(store, namespace).user_key(UserId(user))
            client.hset(key, mapping={hash_field(USER_VIEW.name, name): value for name, value in values.items()})
