"""What is exported and imported elsewhere is the same there."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from features.config import LakeSettings, StoreSettings
from features.landed_events import TABLES
from features.landing import Lander, land
from features.snapshots import read_table
from services.exports import ExportForm, export_table
from services.imports.format import Format
from services.imports.run import Source, import_file
from streaming.config import KafkaSettings
from streaming.events import (
    Event,
    IdentityLinked,
    Interaction,
    ItemRemoved,
    ItemUpserted,
    Kind,
    UserErased,
    UserUpserted,
)
from streaming.namespace import Namespace, parse_namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

NOW = time.time_ns() // 1_000_000
DAY_MS = 86_400_000
OF_KAFKA = ("topic", "partition", "offset", "appended_at")


def envelope(number: int) -> dict[str, Any]:
    at = NOW - 40 * DAY_MS + number * 7_919_001
    return {"event_id": f"e-{number}", "happened_at": at, "received_at": at + 5, "producer": "shop"}


EVENTS: list[Event] = [
    *(
        Interaction(
            **envelope(number),
            item_id=f"Größe {number} 🦆",
            kind=[*Kind][number % 7],
            user_id=None if number % 3 == 0 else f"u{number % 5}",
            session_id=f's "{number}"\n' if number % 2 == 0 or number % 3 == 0 else None,
            surface="home" if number % 4 == 0 else None,
            value=number / 3,
            request_id="r" if number % 5 == 0 else None,
            position=number if number % 5 == 0 else None,
            source_time=number if number % 6 == 0 else None,
        )
        for number in range(60)
    ),
    ItemUpserted(
        **envelope(100),
        item_id="i1",
        title="One, or \t two",
        categories=["a|b", " c ", "c", "c"],
        attributes={"year": 1999.0, "new": True, "brand": 'x"y', "empty": ""},
        text="long " * 100,
        available_from=NOW,
        available_until=NOW + DAY_MS,
        hidden=True,
    ),
    ItemUpserted(**envelope(101), item_id="i2"),
    ItemRemoved(**envelope(102), item_id="i1"),
    UserUpserted(**envelope(103), user_id="u1", attributes={"age": 30.0}),
    UserUpserted(**envelope(104), user_id="u2"),
    UserErased(**envelope(105), user_id="u3"),
    IdentityLinked(**envelope(106), session_id='=s "1",\r\n', user_id="u1"),
]


Landed = Callable[[Namespace], dict[str, list[dict[str, Any]]]]


@pytest.fixture
def landed(spark: SparkSession, broker: KafkaSettings, lake: LakeSettings, store: StoreSettings) -> Landed:
    """What lands the topics of a namespace and returns its rows without their places in Kafka."""

    def rows(namespace: Namespace) -> dict[str, list[dict[str, Any]]]:
        land(Lander(spark, broker, lake, store, Topics(namespace), lambda: NOW), available_now=True)
        tables = {name: read_table(lake, namespace, name).arrow for name in TABLES}
        return {name: table.drop_columns([*OF_KAFKA]).sort_by("event_id").to_pylist() for name, table in tables.items()}

    return rows


def test_an_export_that_is_imported_in_another_namespace_lands_as_the_same_rows(
    landed: Landed, broker: KafkaSettings, lake: LakeSettings, namespace: Namespace, tmp_path: Path
) -> None:
    other = parse_namespace(f"o{namespace[1:]}")

    def publish(to: Namespace, events: Any) -> None:
        producer = EventProducer(broker, Topics(to))
        producer.publish(events)
        producer.close()

    for name in (namespace, other):
        ensure_topics(broker, Topics(name))
    publish(namespace, EVENTS)
    sent = landed(namespace)
    counts = {}
    for table in sent:
        of_form: dict[str, list[Event]] = {}
        for form in ExportForm:
            file, events = tmp_path / f"{table}.{form}", of_form.setdefault(form, [])
            counts[table] = export_table((lake, namespace), table, file, form, lambda _: None)
            report = import_file(Source(file, Format(form.value)), tmp_path, events.extend, NOW, lambda _: True)
            assert (report.cursor.published, report.cursor.bad) == (counts[table], 0), report.bad_rows
        assert of_form["jsonl"] == of_form["csv"] == of_form["parquet"]
        publish(other, of_form["jsonl"])
    assert counts == {"interactions": 60, "items": 3, "users": 2, "identities": 1}  # who was erased is not exported
    sent["users"] = [row for row in sent["users"] if not row["erased"]]
    assert landed(other) == sent
