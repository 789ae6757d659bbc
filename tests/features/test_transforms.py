"""Feature rows against an independent count in Python, in a session whose machine is half a day from UTC."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from features.lake import INTERACTIONS, ITEMS, USERS
from features.transforms import item_features, user_features
from tests.features.rows import MIDNIGHT, at, frame, interaction


def utc(naive: datetime) -> datetime:
    return naive.astimezone(UTC)  # pyspark hands out the machine's local time without a zone


@pytest.fixture(scope="module")
def log():
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when a test fails
    draw = random.Random(seed)  # noqa: S311
    rows = []
    for number in range(400):
        moment = at(draw.randrange(60), seconds=draw.choice([0, 1, 43_200, 86_399, draw.randrange(86_400)]))
        value = draw.choice([None, 1.0, 3.0, 5.0])
        surface = draw.choice([None, "home", "home", "probe"])
        row = interaction(number, draw.choice(["u1", "u2", None]), f"i{draw.randrange(5)}", moment)
        rows.append(row | {"value": value, "surface": surface})
    return rows


def expected(log, key: str, owner: str, windows: dict[str, int | None], extra_days: set) -> dict:
    kept = [row for row in log if row["surface"] != "probe" and row[key] == owner]
    days = {row["happened_at"].date() for row in kept} | extra_days
    rows = {}
    for day in days:
        until = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1)
        before = [row for row in kept if row["happened_at"] < until]
        counts = {
            name: sum(1 for row in before if size is None or row["happened_at"] >= until - timedelta(days=size))
            for name, size in windows.items()
        }
        values = [row["value"] for row in before if row["value"] is not None]
        rows[until] = (counts, sum(values) / len(values) if values else None)
    return rows


def close(rows: dict) -> dict:
    return {moment: (counts, mean if mean is None else pytest.approx(mean)) for moment, (counts, mean) in rows.items()}


@pytest.mark.parametrize("user", ["u1", "u2"])
def test_user_features_count_each_day_up_to_its_end(spark, log, user):
    table = user_features(frame(spark, INTERACTIONS, log), frame(spark, USERS, []))
    found = {
        utc(row.event_timestamp): (
            {"interactions_30d": row.interactions_30d, "interactions_total": row.interactions_total},
            row.mean_value,
        )
        for row in table.where(f"user_id = '{user}'").collect()
    }
    windows = {"interactions_30d": 30, "interactions_total": None}
    assert found == close(expected(log, "user_id", user, windows, set()))


@pytest.mark.parametrize("item", ["i0", "i4"])
def test_item_features_count_each_day_up_to_its_end(spark, log, item):
    windows = {"item_interactions_7d": 7, "item_interactions_30d": 30, "item_interactions_total": None}
    changed = frame(spark, ITEMS, [{"event_id": "c", "item_id": item, "happened_at": at(45, hours=23)}])
    table = item_features(frame(spark, INTERACTIONS, log), changed)
    found = {
        utc(row.event_timestamp): ({name: row[name] for name in windows}, row.item_mean_value)
        for row in table.where(f"item_id = '{item}'").collect()
    }
    assert found == close(expected(log, "item_id", item, windows, {at(45).date()}))


def test_attributes_are_those_of_the_days_end(spark):
    changes = [
        {"event_id": "a", "user_id": "u", "happened_at": at(1, hours=1), "attributes": '{"age":1.0}'},
        {"event_id": "b", "user_id": "u", "happened_at": at(1, hours=23, minutes=59), "attributes": '{"age":2.0}'},
        {"event_id": "c", "user_id": "u", "happened_at": at(3), "attributes": '{"age":3.0}'},
    ]
    log = [interaction(1, "u", "i", at(0, hours=5)), interaction(2, "u", "i", at(2))]
    table = user_features(frame(spark, INTERACTIONS, log), frame(spark, USERS, changes))
    assert {utc(row.event_timestamp): row.attributes for row in table.collect()} == {
        at(1): None,
        at(2): '{"age":2.0}',
        at(3): '{"age":2.0}',
        at(4): '{"age":3.0}',
    }


def test_the_last_second_of_a_day_belongs_to_it(spark):
    log = [interaction(1, "u", "i", MIDNIGHT - timedelta(microseconds=1)), interaction(2, "u", "i", MIDNIGHT)]
    table = item_features(frame(spark, INTERACTIONS, log), frame(spark, ITEMS, []))
    assert {utc(row.event_timestamp): row.item_interactions_total for row in table.collect()} == {at(0): 1, at(1): 2}
