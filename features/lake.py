"""The lake's tables: what columns they have, how they are laid out, and how they come to be."""

from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from features.spark import CATALOG
from streaming.namespace import Namespace
from streaming.topics import Topics

_TEXT, _TIME, _INT, _LONG, _REAL, _FLAG = (
    StringType(),
    TimestampType(),
    IntegerType(),
    LongType(),
    DoubleType(),
    BooleanType(),
)


def _columns(**types: DataType) -> StructType:
    return StructType([StructField(name, kind) for name, kind in types.items()])


_ENVELOPE = _columns(
    event_id=_TEXT, happened_at=_TIME, received_at=_TIME, source_time=_TIME, producer=_TEXT, schema_version=_INT
)
COORDINATES = _columns(topic=_TEXT, partition=_INT, offset=_LONG, appended_at=_TIME)

_SLATE_ITEM = _columns(
    item_id=_TEXT,
    position=_INT,
    score=_REAL,
    propensity=_REAL,
    source=_TEXT,
    fixed=_FLAG,
    rules=ArrayType(_TEXT),
)
_REPLAY = _columns(
    n=_INT,
    categories=ArrayType(_TEXT),
    exclude=ArrayType(_TEXT),
    shown=ArrayType(_TEXT),
    history=BinaryType(),
    interaction_offsets=_TEXT,  # JSON object
)


@dataclass(frozen=True)
class Table:
    """One table: `columns` without the Kafka coordinates that landed tables carry besides."""

    name: str
    columns: StructType
    partitioning: str | None = None
    landed: bool = False

    def schema(self) -> StructType:
        """Return all columns."""
        return StructType([*self.columns.fields, *(COORDINATES.fields if self.landed else [])])


# Months, not days: 90,000 events of seven months became 191 files instead of 7, merging them took 3 times as long, and
# so did reading. The day still decides what is a duplicate, and a busy lake can move to days with ALTER TABLE.
_BY_MONTH = "months(happened_at)"


def _landed(name: str, partitioning: str | None = None, **types: DataType) -> Table:
    columns = StructType([*_ENVELOPE.fields, *_columns(**types).fields])
    return Table(name, columns, partitioning, landed=True)


INTERACTIONS = _landed(
    "interactions",
    _BY_MONTH,
    item_id=_TEXT,
    kind=_TEXT,
    user_id=_TEXT,
    session_id=_TEXT,
    surface=_TEXT,
    value=_REAL,
    request_id=_TEXT,
    position=_INT,
)
IMPRESSIONS = _landed(
    "impressions",
    _BY_MONTH,
    user_id=_TEXT,
    session_id=_TEXT,
    surface=_TEXT,
    variant=_TEXT,
    model_version=_TEXT,
    slate=ArrayType(_SLATE_ITEM),
    seed=_LONG,
    fallbacks=ArrayType(_TEXT),
    user_history=ArrayType(_TEXT),
    user_features=_TEXT,  # JSON object, as logged at serving
    catalogue_offsets=_TEXT,  # JSON object
    surfaces_version=_TEXT,
    policy=_TEXT,
    replay=_REPLAY,
)
ITEMS = _landed(
    "items",
    item_id=_TEXT,
    removed=_FLAG,
    title=_TEXT,
    categories=ArrayType(_TEXT),
    attributes=_TEXT,  # JSON object
    text=_TEXT,
    available_from=_TIME,
    available_until=_TIME,
    hidden=_FLAG,
)
USERS = _landed("users", user_id=_TEXT, erased=_FLAG, attributes=_TEXT)
IDENTITIES = _landed("identities", session_id=_TEXT, user_id=_TEXT)

LANDINGS = Table(
    "landings",
    _columns(
        topic=_TEXT,
        partition=_INT,
        from_offset=_LONG,
        until_offset=_LONG,
        records=_LONG,
        inserted=_LONG,
        duplicate=_LONG,
        dead=_LONG,
        parked=_LONG,
        tombstones=_LONG,
        erased=_LONG,
        batch_id=_LONG,
        landed_at=_TIME,
    ),
)
ERASED_ROWS = Table("erased_rows", _columns(topic=_TEXT, partition=_INT, offset=_LONG, erased_at=_TIME))
"""Where the rows lay in Kafka that were landed and erased since: what the audit subtracts. No id is in it."""
USER_FEATURES = Table(
    "user_features",
    _columns(
        user_id=_TEXT,
        event_timestamp=_TIME,
        interactions_30d=_LONG,
        interactions_total=_LONG,
        mean_value=_REAL,
        attributes=_TEXT,
    ),
)
ITEM_FEATURES = Table(
    "item_features",
    _columns(
        item_id=_TEXT,
        event_timestamp=_TIME,
        item_interactions_7d=_LONG,
        item_interactions_30d=_LONG,
        item_interactions_total=_LONG,
        item_mean_value=_REAL,
    ),
)
ITEM_RECENT = Table(
    "item_recent",
    _columns(
        item_id=_TEXT,
        event_timestamp=_TIME,
        item_interactions_1h=_LONG,
        item_interactions_24h=_LONG,
        item_positive_share_24h=_REAL,
        item_trend=_REAL,
    ),
)
EXAMPLES = Table(
    "examples",
    _columns(
        group_id=_TEXT,
        user_id=_TEXT,
        item_id=_TEXT,
        label=_INT,
        sampling=_TEXT,
        position=_INT,
        event_timestamp=_TIME,
        logged_user_features=_TEXT,
        interactions_30d=_LONG,
        interactions_total=_LONG,
        mean_value=_REAL,
        attributes=_TEXT,
        item_interactions_7d=_LONG,
        item_interactions_30d=_LONG,
        item_interactions_total=_LONG,
        item_mean_value=_REAL,
    ),
)

LANDED = (ITEMS, USERS, IMPRESSIONS, INTERACTIONS, IDENTITIES)
LANDED_OF_USERS = (INTERACTIONS, IMPRESSIONS, USERS, IDENTITIES)
"""The landed tables of what belongs to users and guests, in the order of an erasure: the identities go last, since
while they are there a run that was interrupted finds the sessions again."""
DERIVED = (USER_FEATURES, ITEM_FEATURES, ITEM_RECENT, EXAMPLES)
INSERTED = (*LANDED, LANDINGS, ERASED_ROWS)
"""The tables into which `insert_missing` inserts."""
TABLES = (*INSERTED, *DERIVED)

_PROPERTIES = {
    "format-version": "2",
    "commit.retry.num-retries": "10",
    # Row-level deletes of an erasure must not fail because the lander appended meanwhile.
    "write.delete.isolation-level": "snapshot",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
# `insert_missing` is refused by this isolation alone, and merges as if it might delete: with copies on write it would
# rewrite every file that has one of its rows.
_OF_INSERTED = {"write.merge.isolation-level": "serializable", "write.merge.mode": "merge-on-read"}


def table_name(namespace: Namespace, table: Table) -> str:
    """Return the table's full name in Spark SQL."""
    return f"{CATALOG}.{namespace}.{table.name}"


def iceberg_table(spark: SparkSession, name: str) -> Any:
    """Return Iceberg's own `org.apache.iceberg.Table` of a table's full name, for what Spark SQL does not offer."""
    jvm: Any = spark.sparkContext._jvm
    return jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, name)


def landed_tables(topics: Topics) -> dict[str, Table]:
    """Return which table each landed topic fills."""
    return {
        topics.items: ITEMS,
        topics.users: USERS,
        topics.impressions: IMPRESSIONS,
        topics.interactions: INTERACTIONS,
        topics.identities: IDENTITIES,
    }


@dataclass(frozen=True)
class Change:
    """One step from the lake as it is to the lake of this release: the table, what happens to it, the statement."""

    table: str
    what: str
    statement: str


def ensure_tables(spark: SparkSession, namespace: Namespace) -> None:
    """Create the tables of the namespace that do not exist yet, and add the columns that older ones lack.

    A column that is added is null in the rows from before. Nothing is ever removed, so releases before and after work
    on the same tables.
    """
    for change in missing_parts(spark, namespace):
        spark.sql(change.statement)


def missing_parts(spark: SparkSession, namespace: Namespace) -> list[Change]:
    """Return what `ensure_tables` would do, in its order; nothing is changed."""
    place = f"{CATALOG}.{namespace}"
    changes = []
    existing: set[str] = set()
    if namespace in {row.namespace for row in spark.sql(f"SHOW NAMESPACES IN {CATALOG}").collect()}:
        existing = {row.tableName for row in spark.sql(f"SHOW TABLES IN {place}").collect()}
    else:
        changes.append(Change(namespace, "create the namespace", f"CREATE NAMESPACE IF NOT EXISTS {place}"))
    for table in TABLES:
        name = table_name(namespace, table)
        if table.name not in existing:
            changes.append(Change(table.name, "create the table", _ddl(namespace, table)))
        elif missing := _missing(spark.table(name).schema, table.schema()):
            columns = ", ".join(missing)
            changes.append(Change(table.name, f"add {columns}", f"ALTER TABLE {name} ADD COLUMNS ({columns})"))
    return changes


def changed_properties(spark: SparkSession, namespace: Namespace) -> list[Change]:
    """Return what must be set for the tables that exist to have the properties of this release."""
    changes = []
    for table in TABLES:
        name = table_name(namespace, table)
        if not spark.catalog.tableExists(name):
            continue
        found = {row.key: row.value for row in spark.sql(f"SHOW TBLPROPERTIES {name}").collect()}
        differ = [f"'{key}'='{value}'" for key, value in _properties(table).items() if found.get(key) != value]
        if differ:
            listed = ", ".join(differ)
            changes.append(Change(table.name, f"set {listed}", f"ALTER TABLE {name} SET TBLPROPERTIES ({listed})"))
    return changes


def _missing(found: DataType, wanted: DataType, path: str = "") -> list[str]:
    """Return what `found` lacks as Spark's definitions of columns, those inside structs and arrays by their paths."""
    if isinstance(found, ArrayType) and isinstance(wanted, ArrayType):
        return _missing(found.elementType, wanted.elementType, f"{path}element.")
    if not (isinstance(found, StructType) and isinstance(wanted, StructType)):
        return []
    missing = []
    for field in wanted.fields:
        if field.name in found.names:
            missing += _missing(found[field.name].dataType, field.dataType, f"{path}{field.name}.")
        else:
            missing.append(f"{path}{field.name} {field.dataType.simpleString()}")
    return missing


def _properties(table: Table) -> dict[str, str]:
    return _PROPERTIES | (_OF_INSERTED if table in INSERTED else {})


def _ddl(namespace: Namespace, table: Table) -> str:
    columns = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in table.schema().fields)
    properties = ", ".join(f"'{key}'='{value}'" for key, value in _properties(table).items())
    partitioning = f" PARTITIONED BY ({table.partitioning})" if table.partitioning else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {table_name(namespace, table)} ({columns}) USING iceberg{partitioning} "
        f"TBLPROPERTIES ({properties})"
    )
