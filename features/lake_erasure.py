"""Erasing a user from the lake: their rows in every table, and every older snapshot, manifest and tag that has them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial, reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.commits import retried
from features.erasing import erase_rows
from features.lake import (
    EXAMPLES,
    IDENTITIES,
    IMPRESSIONS,
    INTERACTIONS,
    LANDED_OF_USERS,
    USER_FEATURES,
    Table,
    iceberg_table,
    table_name,
)
from features.ledgered import mark_of, owner_column
from features.maintenance import expire_snapshots
from features.recent import KEPT, refresh
from features.transforms import LONGEST_SPAN
from streaming.ids import SessionId, UserId
from streaming.marks import Marker
from streaming.namespace import Namespace

DERIVED_OF_USERS = (USER_FEATURES, EXAMPLES)
OF_USERS = (*LANDED_OF_USERS, *DERIVED_OF_USERS)
_WITH_SESSIONS = (INTERACTIONS, IMPRESSIONS, IDENTITIES)
_OF_GUESTS = (INTERACTIONS, IMPRESSIONS)


@dataclass(frozen=True)
class Subject:
    """Who is erased: a user, if known, the guests' sessions linked to them, and up to when each, ms UTC."""

    user_id: UserId | None
    sessions: frozenset[SessionId]
    cut: int
    sessions_cut: int


@dataclass(frozen=True)
class TableErased:
    """What was done to one table: rows deleted, tags dropped that pinned them, files of expired snapshots deleted."""

    table: str
    rows: int
    tags: tuple[str, ...]
    files: int


def linked_sessions(spark: SparkSession, namespace: Namespace, user_id: UserId, cut: int) -> frozenset[SessionId]:
    """Return the sessions that what has landed of a user up to `cut` names."""
    found: set[SessionId] = set()
    for table in _WITH_SESSIONS:
        rows = spark.table(table_name(namespace, table)).where(_until(cut) & (F.col("user_id") == user_id))
        found |= {SessionId(row[0]) for row in rows.where("session_id IS NOT NULL").select("session_id").collect()}
    return frozenset(found)


def users_of(spark: SparkSession, namespace: Namespace, marks: Iterable[str], marker: Marker) -> Mapping[str, UserId]:
    """Return the users with these marks of whom the lake has anything, by mark."""
    tables = [spark.table(table_name(namespace, table)).select("user_id") for table in OF_USERS]
    users = reduce(DataFrame.union, tables).where("user_id IS NOT NULL").distinct()
    return {mark: UserId(owner) for mark, owner in _with_marks(users, F.col("user_id"), marks, marker).items()}


def sessions_of(
    spark: SparkSession, namespace: Namespace, marks: Iterable[str], marker: Marker
) -> Mapping[str, SessionId]:
    """Return the guests' sessions with these marks of which the lake has anything, by mark."""
    tables = [spark.table(table_name(namespace, table)).select("user_id", "session_id") for table in _OF_GUESTS]
    guests = reduce(DataFrame.union, tables).where("user_id IS NULL AND session_id IS NOT NULL").distinct()
    owner = owner_column(F.col("user_id"), F.col("session_id"))
    found = _with_marks(guests, owner, marks, marker)
    return {mark: SessionId(owner.removeprefix("session:")) for mark, owner in found.items()}


def erase_from_lake(spark: SparkSession, namespace: Namespace, subject: Subject, now: int) -> list[TableErased]:
    """Delete a subject's rows everywhere in the lake, and what older snapshots keep of them; `now` in ms UTC.

    Doing it again changes nothing. Raises NotErased and LakeBusy.
    """
    as_of = datetime.fromtimestamp(now / 1000, UTC)
    done, items = [], _recent_items(spark, namespace, subject, as_of)
    for table in OF_USERS:
        condition = _of(subject, table)
        rows = 0
        if table in LANDED_OF_USERS:
            read = partial(_matching, spark, table_name(namespace, table), condition)
            rows = erase_rows(spark, namespace, table, read, now)
        elif subject.user_id is not None:
            rows = _delete_derived(spark, table_name(namespace, table), subject.user_id)
        tags, files = _forget_past(spark, table_name(namespace, table), condition)
        done.append(TableErased(table.name, rows, tags, files))
    refresh(spark, namespace, items, as_of)
    return done


def _recent_items(spark: SparkSession, namespace: Namespace, subject: Subject, as_of: datetime) -> DataFrame:
    """Return the items whose recent counts the subject is part of; read before the rows are gone."""
    rows = spark.table(table_name(namespace, INTERACTIONS)).where(_of(subject, INTERACTIONS))
    return rows.where(F.col("happened_at") >= F.lit(as_of - KEPT - LONGEST_SPAN)).select("item_id").localCheckpoint()


def delete_derived(spark: SparkSession, namespace: Namespace, marks: Iterable[str], marker: Marker) -> None:
    """Delete what a job derived of users with these marks; the next job derives anew what they did since."""
    for user_id in users_of(spark, namespace, marks, marker).values():
        for table in DERIVED_OF_USERS:
            _delete_derived(spark, table_name(namespace, table), user_id)


def _until(cut: int) -> Column:
    return F.unix_millis(F.least("appended_at", "received_at")) <= cut


def _of(subject: Subject, table: Table) -> Column:
    mine = F.lit(False) if subject.user_id is None else F.col("user_id") == subject.user_id
    if table in DERIVED_OF_USERS:
        return mine
    mine &= _until(subject.cut)
    if table not in _OF_GUESTS or not subject.sessions:
        return mine
    of_guests = F.col("user_id").isNull() & F.col("session_id").isin(sorted(subject.sessions))
    return mine | (of_guests & _until(subject.sessions_cut))


def _matching(spark: SparkSession, name: str, condition: Column) -> DataFrame:
    return spark.table(name).where(condition)


def _delete_derived(spark: SparkSession, name: str, user_id: UserId) -> int:
    rows = _matching(spark, name, F.col("user_id") == user_id).count()
    if rows:
        statement = f"DELETE FROM {name} WHERE user_id = :user_id"  # noqa: S608 - own names only
        retried(lambda: spark.sql(statement, args={"user_id": user_id}))
    return rows


def _forget_past(spark: SparkSession, name: str, condition: Column) -> tuple[tuple[str, ...], int]:
    """Drop the tags whose snapshot has such rows, and every snapshot but the newest; returns tags and files deleted."""
    tags = [row["name"] for row in spark.table(f"{name}.refs").where("type = 'TAG'").collect()]
    pinning = [tag for tag in tags if not _at(spark, name, tag).where(condition).isEmpty()]
    for tag in pinning:
        retried(partial(spark.sql, f"ALTER TABLE {name} DROP TAG IF EXISTS `{tag}`"))
    if spark.table(f"{name}.snapshots").count() < 2:
        return tuple(pinning), 0
    retried(lambda: _rewrite_manifests(spark, name))
    return tuple(pinning), sum(expire_snapshots(spark, name, 1).values())


def _rewrite_manifests(spark: SparkSession, name: str) -> None:
    """Write every manifest anew with the files that are there.

    One keeps the bounds of the files that its snapshot has lost, ids among them; the procedure of Spark SQL leaves a
    table's only manifest as it is.
    """
    jvm: Any = spark.sparkContext._jvm
    together = jvm.com.google.common.base.Functions.constant(1)
    iceberg_table(spark, name).rewriteManifests().clusterBy(together).commit()


def _at(spark: SparkSession, name: str, tag: str) -> DataFrame:
    return spark.read.option("versionAsOf", tag).table(name)


def _with_marks(rows: DataFrame, owner: Column, marks: Iterable[str], marker: Marker) -> dict[str, str]:
    wanted = rows.sparkSession.createDataFrame([(mark,) for mark in marks], "mark string")
    found = rows.select(owner.alias("owner"), mark_of(owner, marker).alias("mark")).join(F.broadcast(wanted), "mark")
    return {row["mark"]: row["owner"] for row in found.collect()}
