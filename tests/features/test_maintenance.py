"""Maintenance of a real lake: fewer files and snapshots, the same rows."""

from pyspark.sql import SparkSession

from features.lake import INTERACTIONS, table_name
from features.maintenance import maintain
from streaming.namespace import Namespace
from tests.features.rows import append, at, interaction

BATCHES = 6


def test_maintenance_leaves_the_rows_one_snapshot_and_whatever_a_tag_pins(
    spark: SparkSession, tables: Namespace
) -> None:
    name = table_name(tables, INTERACTIONS)
    for batch in range(BATCHES):
        append(spark, tables, INTERACTIONS, [interaction(batch, f"u{batch}", "i", at(0, hours=batch))])
    pinned = spark.table(f"{name}.snapshots").orderBy("committed_at").first()["snapshot_id"]
    spark.sql(f"ALTER TABLE {name} CREATE TAG champion AS OF VERSION {pinned}")

    done = {row["table"]: row for row in maintain(spark, tables, snapshots_kept=1)}

    assert done["interactions"]["files_compacted"] == BATCHES
    assert spark.table(f"{name}.files").count() == 1
    kept = {row["snapshot_id"] for row in spark.table(f"{name}.snapshots").collect()}
    assert len(kept) == 2
    assert pinned in kept
    assert {row["event_id"] for row in spark.table(name).collect()} == {f"e{batch}" for batch in range(BATCHES)}
    assert spark.read.option("versionAsOf", "champion").table(name).collect()[0]["event_id"] == "e0"
