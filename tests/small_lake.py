"""A lake written by pyiceberg, without Spark, for tests that only read."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog

from features.config import LakeSettings


def write_lake(home: Path, namespace: str, tables: Mapping[str, pa.Table]) -> LakeSettings:
    """Append the tables, made where they are missing, to the namespace of the lake under `home`; its settings."""
    lake = LakeSettings().under(home)
    Path(str(lake.uri)).parent.mkdir(parents=True, exist_ok=True)
    catalog = SqlCatalog("lake", uri=f"sqlite:///{lake.uri}", warehouse=str(lake.warehouse), init_catalog_tables="true")
    catalog.create_namespace_if_not_exists(namespace)
    for name, table in tables.items():
        stored = in_microseconds(table)
        catalog.create_table_if_not_exists((namespace, name), schema=stored.schema).append(stored)
    return lake


def in_microseconds(table: pa.Table) -> pa.Table:
    """Iceberg keeps microseconds."""
    micros = pa.timestamp("us", "UTC")
    fields = [pa.field(f.name, micros) if pa.types.is_timestamp(f.type) else f for f in table.schema]
    return table.cast(pa.schema(fields))
