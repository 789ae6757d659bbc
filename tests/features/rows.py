"""Rows of the lake's tables for tests that start behind the lander."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from features.lake import Table, table_name
from streaming.namespace import Namespace

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def at(day: float, **parts: float) -> datetime:
    """Return the moment `day` days (and parts of a timedelta) after the tests' first midnight, UTC."""
    return MIDNIGHT + timedelta(days=day, **parts)


def frame(spark: SparkSession, table: Table, rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """Return rows of a table; columns that a row leaves out are null."""
    schema = table.schema()
    return spark.createDataFrame([{name: row.get(name) for name in schema.names} for row in rows], schema)


def append(spark: SparkSession, namespace: Namespace, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a table of the lake."""
    frame(spark, table, rows).writeTo(table_name(namespace, table)).append()


def interaction(number: int, user: str | None, item: str, happened_at: datetime, **fields: Any) -> dict[str, Any]:
    """Return a row of `interactions`: a rating of 4 unless told otherwise."""
    return {
        "event_id": f"e{number}",
        "user_id": user,
        "item_id": item,
        "happened_at": happened_at,
        "kind": "rating",
        "value": 4.0,
        **fields,
    }
