"""Commits to the lake beside other writers: a change that lost against another one is made again on the newest."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from py4j.protocol import Py4JJavaError
from pyspark.errors import IllegalArgumentException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.lake import Table, iceberg_table, table_name
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

T = TypeVar("T")

_log = logging.getLogger(__name__)

_ATTEMPTS = 8
_FIRST_PAUSE_S = 0.2
# What Iceberg says of a change whose base is gone: rows came, files were compacted or deleted meanwhile, or its own
# retries of the commit ran out; nothing was committed then. Of the last it does not know whether the catalogue took it.
# https://iceberg.apache.org/docs/latest/reliability
_CONFLICTS = (
    "org.apache.iceberg.exceptions.ValidationException",
    "org.apache.iceberg.exceptions.CommitFailedException",
    "org.apache.iceberg.exceptions.CommitStateUnknownException",
    "org.apache.iceberg.exceptions.NotFoundException",  # a file that was read went with an expired snapshot
)
# What it says when the snapshot that a merge began on has expired, as after an erasure.
_EXPIRED = "is not an ancestor of"
# What Hadoop says when a file of a local disk went away between being listed and being looked at.
_WENT_AWAY = "Error while running command to get file permissions"


class LakeBusy(FlywheelError):
    """A change to the lake lost against another one time after time."""


@dataclass(frozen=True)
class Written:
    """A table as it was written: its rows and the snapshot that holds them."""

    rows: int
    snapshot_id: int


def retried(change: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Return what `change` returns, made again from the newest snapshot when another commit came in between.

    `change` must be one that may be made twice. Raises LakeBusy when it loses every time, Py4JJavaError and PySpark's
    own errors when it fails otherwise.
    """
    lost: Py4JJavaError | IllegalArgumentException | None = None
    for attempt in range(_ATTEMPTS):
        if lost is not None:
            _log.info("a commit to the lake lost against another one and is made again")
            pause(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            return change()
        except (Py4JJavaError, IllegalArgumentException) as error:
            if not _is_conflict(error):
                raise
            lost = error
    raise LakeBusy("other changes to the lake came in between every time: do it again when less is going on") from lost


def insert_missing(
    rows: DataFrame, namespace: Namespace, table: Table, same: str, check: Callable[[], None] = lambda: None
) -> None:
    """Insert the rows for which the table has none that is the `same`, a condition on `known` and `fresh`.

    No two of `rows` may be the same as one of the table. `check` runs before every attempt and may raise. Columns go by
    name: a table that a newer release has widened takes them, with nulls in what is new. Raises LakeBusy.

    Iceberg lets two merges that only insert both commit, so a lander that was stopped for longer than its lease would
    insert beside the next one. Hence this one says that it may delete, which it never does: then it is refused, and
    made again, when rows came in between that it has not looked at.
    """
    spark, names, source = rows.sparkSession, table.schema().names, f"fresh_{table.name}"
    rows.createOrReplaceTempView(source)
    merge = (
        f"MERGE INTO {table_name(namespace, table)} AS known USING {source} AS fresh ON {same} "  # noqa: S608
        f"WHEN MATCHED AND false THEN DELETE WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) "
        f"VALUES ({', '.join(f'fresh.{name}' for name in names)})"
    )

    def insert() -> None:
        check()
        spark.sql(merge)

    retried(insert)


def same_in(names: Iterable[str]) -> str:
    """Return the condition that `known` and `fresh` are equal in some columns."""
    return " AND ".join(f"known.{name} = fresh.{name}" for name in names)


def replace_rows(spark: SparkSession, namespace: Namespace, table: Table, rows: Callable[[], DataFrame]) -> Written:
    """Write `rows()` in place of all that the table holds, computed anew when another one changed it meanwhile.

    Returns what the table holds then. Raises LakeBusy.
    """

    def overwrite() -> None:
        before = current_snapshot(spark, namespace, table)
        writer = rows().select(*table.columns.names).writeTo(table_name(namespace, table))
        writer = writer.option("isolation-level", "serializable")
        if before is not None:
            writer = writer.option("validate-from-snapshot-id", before.snapshot_id)
        writer.overwrite(F.lit(True))

    retried(overwrite)
    written = current_snapshot(spark, namespace, table)
    if written is None:
        raise RuntimeError(f"table {table.name} has no snapshot after a write")
    return written


def current_snapshot(spark: SparkSession, namespace: Namespace, table: Table) -> Written | None:
    """Return what the table holds now, None when nothing was written to it."""
    current = iceberg_table(spark, table_name(namespace, table)).currentSnapshot()
    if current is None:
        return None
    return Written(int(current.summary()["total-records"]), int(current.snapshotId()))


def _is_conflict(error: Py4JJavaError | IllegalArgumentException) -> bool:
    if isinstance(error, IllegalArgumentException):
        return _EXPIRED in str(error)
    cause = error.java_exception
    while cause is not None:
        message = str(cause.getMessage())
        if cause.getClass().getName() in _CONFLICTS or _WENT_AWAY in message or _EXPIRED in message:
            return True
        cause = cause.getCause()
    return False
