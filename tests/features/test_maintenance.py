"""Maintenance of a real lake: fewer files and snapshots, the same rows."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyspark.sql import SparkSession

from features.commits import retried
from features.lake import INTERACTIONS, table_name
from features.maintenance import maintain, maintain_table
from features.training_set import build_features
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


def test_appends_deletes_jobs_and_maintenance_at_once_lose_nothing_on_sqlite(
    spark: SparkSession, tables: Namespace
) -> None:
    name = table_name(tables, INTERACTIONS)
    append(spark, tables, INTERACTIONS, [interaction(number, f"u{number % 3}", "i", at(0)) for number in range(9)])
    together = threading.Barrier(4)

    def repeated(work: Callable[[int], Any]) -> None:
        together.wait()
        for number in range(3):
            work(number)

    works: list[Callable[[int], Any]] = [
        lambda number: append(spark, tables, INTERACTIONS, [interaction(100 + number, "u2", "i", at(0, hours=number))]),
        lambda number: retried(lambda: spark.sql(f"DELETE FROM {name} WHERE user_id = 'u{number % 2}'")),  # noqa: S608
        lambda _: build_features(spark, tables, at(2)),
        lambda _: maintain_table(spark, name, 20),
    ]
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(repeated, work) for work in works]:
            future.result()
    left = {"e2", "e5", "e8", "e100", "e101", "e102"}
    assert sorted(row["event_id"] for row in spark.table(name).collect()) == sorted(left)
