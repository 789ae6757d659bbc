"""Keeping the lake small: compact files, expire snapshots, remove files that nothing points to."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import SparkSession

from features.commits import retried
from features.lake import TABLES, table_name
from features.spark import CATALOG
from streaming.namespace import Namespace

# Iceberg itself refuses a younger age: a file may belong to a commit that is under way.
_ORPHAN_AGE = timedelta(days=3)


def maintain(spark: SparkSession, namespace: Namespace, snapshots_kept: int) -> list[dict[str, Any]]:
    """Maintain every table of the namespace; returns what was done to each. Safe beside landing and reading.

    `snapshots_kept` newest snapshots stay, and so does any that a tag pins.
    """
    return [maintain_table(spark, table_name(namespace, table), snapshots_kept) for table in TABLES]


def maintain_table(spark: SparkSession, table: str, snapshots_kept: int) -> dict[str, Any]:
    """Maintain one table, by its full name; returns what was done to it."""
    compacted = _call(spark, f"rewrite_data_files(table => '{table}')")
    _call(spark, f"rewrite_manifests(table => '{table}')")
    expired = expire_snapshots(spark, table, snapshots_kept)
    orphans = (
        f"CALL {CATALOG}.system.remove_orphan_files(table => '{table}', "
        f"older_than => TIMESTAMP '{datetime.now(UTC) - _ORPHAN_AGE:%Y-%m-%d %H:%M:%S}', prefix_listing => true)"
    )
    return {
        "table": table.rpartition(".")[2],
        "files_compacted": compacted["rewritten_data_files_count"],
        "files_deleted": expired["deleted_data_files_count"],
        "orphans_removed": retried(lambda: spark.sql(orphans).count()),
    }


def expire_snapshots(spark: SparkSession, table: str, kept: int) -> dict[str, int]:
    """Expire all but the newest `kept` snapshots of a table and what tags pin; returns how many files of which kind."""
    return _call(
        spark,
        f"expire_snapshots(table => '{table}', retain_last => {int(kept)}, "
        f"older_than => TIMESTAMP '{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}')",
    )


def _call(spark: SparkSession, procedure: str) -> dict[str, Any]:
    return retried(lambda: spark.sql(f"CALL {CATALOG}.system.{procedure}").first().asDict())  # type: ignore[union-attr]
