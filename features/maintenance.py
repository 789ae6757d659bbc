"""Keeping the lake small: join small files, drop old snapshots, remove files that nothing refers to."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import SparkSession

from features.config import LakeSettings
from features.lake import TABLES, table_name
from features.spark import CATALOG
from streaming.namespace import Namespace

_ORPHAN_AGE = timedelta(days=3)  # a file younger than that may belong to a commit that is still on its way


@dataclass(frozen=True)
class Maintained:
    """What maintenance did to one table."""

    table: str
    files_before: int
    files_after: int
    snapshots: int


def maintain(spark: SparkSession, lake: LakeSettings, namespace: Namespace, now: datetime) -> list[Maintained]:
    """Compact every table of the namespace, keep its newest `lake.snapshots_kept` snapshots and those with a tag.

    Safe beside a running lander, and to run again.
    """
    return [_maintain(spark, lake, namespace, table.name, table_name(namespace, table), now) for table in TABLES]


def _maintain(
    spark: SparkSession, lake: LakeSettings, namespace: Namespace, table: str, name: str, now: datetime
) -> Maintained:
    before = _count(spark, f"{name}.files")
    place = f"table => '{namespace}.{table}'"
    # Deletes by row leave files behind that only a rewrite drops, hence from the first one on.
    spark.sql(
        f"CALL {CATALOG}.system.rewrite_data_files({place}, "
        "options => map('min-input-files', '2', 'delete-file-threshold', '1'))"
    )
    spark.sql(f"CALL {CATALOG}.system.rewrite_manifests({place})")
    spark.sql(
        f"CALL {CATALOG}.system.expire_snapshots({place}, "
        f"older_than => {_at(now)}, retain_last => {lake.snapshots_kept})"
    )
    spark.sql(f"CALL {CATALOG}.system.remove_orphan_files({place}, older_than => {_at(now - _ORPHAN_AGE)})")
    return Maintained(table.name, before, _count(spark, f"{name}.files"), _count(spark, f"{name}.snapshots"))


def _count(spark: SparkSession, name: str) -> int:
    return spark.table(name).count()


def _at(time: datetime) -> str:
    return f"TIMESTAMP '{time:%Y-%m-%d %H:%M:%S}'"
