"""Taking rows out of landed tables: recorded by their coordinates, then deleted, so that the audit knows of each."""

from collections.abc import Callable
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.commits import insert_missing, retried, same_in
from features.lake import ERASED_ROWS, Table, table_name
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

PLACE = ("topic", "partition", "offset")
_ATTEMPTS = 5


class NotErased(FlywheelError):
    """Rows came back time after time."""


def erase_rows(spark: SparkSession, namespace: Namespace, table: Table, rows: Callable[[], DataFrame], now: int) -> int:
    """Delete rows of a landed table and return how many there were; `rows` reads those that are there, with PLACE.

    Their coordinates are recorded first, so that the audit knows of every row that is gone, and doing it again after a
    crash counts none twice. Rows that another process adds meanwhile are found by the next look. `now` in ms UTC.
    Raises NotErased and LakeBusy.
    """
    erased = 0
    for _ in range(_ATTEMPTS):
        places = rows().select(*PLACE).distinct().collect()
        if not places:
            return erased
        found = spark.createDataFrame(places, "topic string, partition int, offset bigint")
        _record(namespace, found, now)
        retried(partial(_delete, spark, namespace, table, found))
        erased += len(places)
    raise NotErased(f"rows of table {table.name!r} keep coming: erase again once landing has stopped")


def erased_places(spark: SparkSession, namespace: Namespace) -> DataFrame:
    """Return PLACE of all rows that were ever erased."""
    return spark.table(table_name(namespace, ERASED_ROWS)).select(*PLACE)


def at_places(table: DataFrame, places: DataFrame) -> DataFrame:
    """Return the rows of a landed table at some places."""
    return table.join(F.broadcast(places), list(PLACE), "left_semi")


def _record(namespace: Namespace, found: DataFrame, now: int) -> None:
    rows = found.withColumn("erased_at", F.timestamp_millis(F.lit(now)))
    insert_missing(rows, namespace, ERASED_ROWS, same_in(PLACE))


def _delete(spark: SparkSession, namespace: Namespace, table: Table, found: DataFrame) -> None:
    found.createOrReplaceTempView("erased_now")
    spark.sql(
        f"DELETE FROM {table_name(namespace, table)} AS known "  # noqa: S608 - own names
        f"WHERE EXISTS (SELECT 1 FROM erased_now AS fresh WHERE {same_in(PLACE)})"
    )
