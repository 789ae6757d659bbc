"""Rows of the lake's tables, for tests that start behind the lander and need no Spark."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from small_lake import write_lake

from features.config import LakeSettings
from streaming.namespace import Namespace

STAMP = pa.timestamp("ms", "UTC")

INTERACTIONS = {
    "event_id": pa.string(),
    "happened_at": STAMP,
    "user_id": pa.string(),
    "session_id": pa.string(),
    "surface": pa.string(),
    "item_id": pa.string(),
    "kind": pa.string(),
    "value": pa.float64(),
}
ITEMS = {
    "event_id": pa.string(),
    "happened_at": STAMP,
    "item_id": pa.string(),
    "removed": pa.bool_(),
    "title": pa.string(),
    "categories": pa.list_(pa.string()),
    "attributes": pa.string(),
    "text": pa.string(),
    "available_from": STAMP,
    "available_until": STAMP,
    "hidden": pa.bool_(),
}
USER_FEATURES = {
    "user_id": pa.string(),
    "event_timestamp": STAMP,
    "interactions_30d": pa.int64(),
    "interactions_total": pa.int64(),
    "mean_value": pa.float64(),
    "attributes": pa.string(),
}
SCHEMAS: Mapping[str, Mapping[str, pa.DataType]] = {
    "interactions": INTERACTIONS,
    "items": ITEMS,
    "user_features": USER_FEATURES,
}

Rows = list[dict[str, object]]


def write_rows(home: Path, namespace: Namespace, **tables: Rows) -> LakeSettings:
    """Make a lake under `home` whose tables hold these rows; columns that a row leaves out are null."""
    return write_lake(home, namespace, {name: arrow(name, tables.get(name, [])) for name in SCHEMAS})


def arrow(table: str, rows: Rows) -> pa.Table:
    """Return rows of a table; times are ms."""
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in SCHEMAS[table].items()})
