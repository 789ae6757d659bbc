"""A real Iceberg lake written without Spark, for tests that start behind the lander."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog

from features.config import LakeSettings
from streaming.namespace import Namespace

STAMP = pa.timestamp("us", "UTC")

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


def write_lake(home: Path, namespace: Namespace, **tables: Rows) -> LakeSettings:
    """Make a lake under `home` whose tables hold these rows; columns that a row leaves out are null."""
    home.mkdir(parents=True, exist_ok=True)
    lake = LakeSettings().under(home)
    catalog = open_to_write(lake)
    catalog.create_namespace(namespace)
    for name, schema in SCHEMAS.items():
        table = catalog.create_table((namespace, name), pa.schema(list(schema.items())))
        if tables.get(name):
            table.append(arrow(name, tables[name]))
    return lake


def arrow(table: str, rows: Rows) -> pa.Table:
    """Return rows of a table; times are ms."""
    columns = {}
    for name, kind in SCHEMAS[table].items():
        values = pa.array([row.get(name) for row in rows], pa.timestamp("ms", "UTC") if kind == STAMP else kind)
        columns[name] = values.cast(kind)
    return pa.table(columns)


def open_to_write(lake: LakeSettings) -> Catalog:
    """Return the lake's catalogue, which is made where there is none."""
    Path(str(lake.uri)).parent.mkdir(parents=True, exist_ok=True)
    return load_catalog("lake", type="sql", uri=f"sqlite:///{lake.uri}", warehouse=str(lake.warehouse))
