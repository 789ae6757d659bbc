"""The Spark jobs of the slow path: feature tables, then examples with their features as of their time."""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.commits import LakeBusy, Written, current_snapshot, replace_rows
from features.labels import ExampleSpec, impression_examples, numbered_log, organic_examples
from features.lake import (
    EXAMPLES,
    IMPRESSIONS,
    INTERACTIONS,
    ITEM_FEATURES,
    ITEM_RECENT,
    ITEMS,
    USER_FEATURES,
    USERS,
    Table,
    table_name,
)
from features.logged import logged_feature
from features.project import USER_VIEW
from features.recent import recent_rows
from features.store import FeatureStore
from features.transforms import item_features, user_features
from streaming.namespace import Namespace

_log = logging.getLogger(__name__)


def build_features(spark: SparkSession, namespace: Namespace, as_of: datetime) -> dict[str, Written]:
    """Recompute the user and item features of every UTC day that ended by `as_of`, and the items' recent counts.

    Returns what was written by table.

    Each table is replaced as a whole in one commit, so running again gives the same and readers see no half. Raises
    LakeBusy when others change a table every time that it is computed.
    """
    closed = F.col("event_timestamp") <= F.lit(as_of)

    def known() -> DataFrame:
        return _table(spark, namespace, INTERACTIONS).where(F.col("happened_at") < F.lit(as_of))

    def users() -> DataFrame:
        return user_features(known(), _table(spark, namespace, USERS)).where(closed)

    def items() -> DataFrame:
        return item_features(known(), _table(spark, namespace, ITEMS)).where(closed)

    def recent() -> DataFrame:  # with what landed since, which the lander has counted
        return recent_rows(_table(spark, namespace, INTERACTIONS), as_of)

    return {
        USER_FEATURES.name: replace_rows(spark, namespace, USER_FEATURES, users),
        ITEM_FEATURES.name: replace_rows(spark, namespace, ITEM_FEATURES, items),
        ITEM_RECENT.name: _replace_recent(spark, namespace, recent),
    }


def _replace_recent(spark: SparkSession, namespace: Namespace, rows: Callable[[], DataFrame]) -> Written:
    """Compute the items' recent counts anew, unless the lander, which keeps them too, changes them every time."""
    try:
        return replace_rows(spark, namespace, ITEM_RECENT, rows)
    except LakeBusy:
        kept = current_snapshot(spark, namespace, ITEM_RECENT)
        if kept is None:
            raise
        _log.warning("the items' recent counts are left as the lander has them, which changes them all the time")
        return kept


def build_training_set(
    spark: SparkSession, namespace: Namespace, store: FeatureStore, spec: ExampleSpec, as_of: datetime
) -> Written:
    """Write the examples known at `as_of` with their features as of each example's time; returns rows and snapshot.

    Features that were logged when a slate was served win over joined ones. Raises LakeBusy.
    """
    return replace_rows(spark, namespace, EXAMPLES, partial(_examples, spark, namespace, store, spec, as_of))


def _examples(
    spark: SparkSession, namespace: Namespace, store: FeatureStore, spec: ExampleSpec, as_of: datetime
) -> DataFrame:
    interactions = _table(spark, namespace, INTERACTIONS)
    # Checkpoints rather than caches: they also cut the plan, which otherwise grows with every step that reads it.
    log = numbered_log(interactions, as_of).localCheckpoint()
    prompted = impression_examples(_table(spark, namespace, IMPRESSIONS), interactions, spec, as_of)
    # Feature rows are stamped at midnight, so joining at the start of the example's day finds the same row, and the
    # join works on thousands of user-days and item-days instead of every second.
    by_day = F.date_trunc("day", "happened_at")
    examples = organic_examples(log, spec).union(prompted).withColumn("event_timestamp", by_day).localCheckpoint()
    joined = store.point_in_time_join(examples)
    return joined.select(*map(_column, EXAMPLES.columns.names))


def _column(name: str) -> Column:
    if name == "event_timestamp":
        return F.col("happened_at").alias(name)
    if name in USER_VIEW.features:
        logged = logged_feature("logged_user_features", name, EXAMPLES.columns[name].dataType)
        return F.coalesce(logged, F.col(name)).alias(name)
    return F.col(name)


def _table(spark: SparkSession, namespace: Namespace, table: Table) -> DataFrame:
    return spark.table(table_name(namespace, table))
