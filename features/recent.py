"""Near-real-time aggregates: the items' counts of the last hour and day, kept up to date batch by batch.

Whatever happened to an item since is recomputed from the deduplicated table and overwritten, never added up: a batch
that lands again, a late event and an erased user leave what a computation from the start would give.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from operator import and_

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from redis.exceptions import RedisError

from features.commits import retried
from features.config import StoreSettings
from features.lake import INTERACTIONS, ITEM_RECENT, table_name
from features.store import FeatureStore
from features.transforms import LONGEST_SPAN, recent_item_features
from streaming.namespace import Namespace

_log = logging.getLogger(__name__)

KEPT = timedelta(days=2)
"""For how long rows are kept: those of the last day are exact, those before only as far as they change in it."""

_KEY = ("item_id", "event_timestamp")


def recent_rows(interactions: DataFrame, as_of: datetime) -> DataFrame:
    """Return the rows of `item_recent` that are kept at `as_of`, from the interactions of some items or of all."""
    first = as_of - KEPT
    since = interactions.where(F.col("happened_at") >= F.lit(first - LONGEST_SPAN))
    return recent_item_features(since).where(F.col("event_timestamp") > F.lit(first))


def refresh(spark: SparkSession, namespace: Namespace, items: DataFrame, as_of: datetime) -> int:
    """Recompute the rows of the given items (item_id) at `as_of`; returns how many were wrong, missing or too old.

    Doing so again changes nothing. Raises LakeBusy.
    """
    touched = F.broadcast(items.select("item_id").distinct())
    name, values = table_name(namespace, ITEM_RECENT), [n for n in ITEM_RECENT.columns.names if n not in _KEY]

    def overwrite() -> int:
        interactions = spark.table(table_name(namespace, INTERACTIONS)).join(touched, "item_id", "left_semi")
        fresh = recent_rows(interactions, as_of).alias("fresh")
        known = spark.table(name).join(touched, "item_id", "left_semi").alias("known")
        same = reduce(and_, (F.col(f"fresh.{value}").eqNullSafe(F.col(f"known.{value}")) for value in values))
        gone = F.col("fresh.item_id").isNull()
        keys = [F.coalesce(f"fresh.{key}", f"known.{key}").alias(key) for key in _KEY]
        joined = fresh.join(known, [F.col(f"fresh.{key}") == F.col(f"known.{key}") for key in _KEY], "full_outer")
        changes = (
            joined.where(gone | F.col("known.item_id").isNull() | ~same)
            .select(*keys, *(f"fresh.{value}" for value in values), gone.alias("gone"))
            .localCheckpoint()
        )
        count = changes.count()
        if count:
            changes.createOrReplaceTempView("recent_changes")
            columns = ", ".join(ITEM_RECENT.columns.names)
            spark.sql(
                f"MERGE INTO {name} AS known USING recent_changes AS fresh ON known.item_id = fresh.item_id "  # noqa: S608 - own names
                "AND known.event_timestamp = fresh.event_timestamp WHEN MATCHED AND fresh.gone THEN DELETE "
                f"WHEN MATCHED THEN UPDATE SET {', '.join(f'{value} = fresh.{value}' for value in values)} "
                f"WHEN NOT MATCHED AND NOT fresh.gone THEN INSERT ({columns}) "
                f"VALUES ({', '.join(f'fresh.{column}' for column in ITEM_RECENT.columns.names)})"
            )
        return count

    return retried(overwrite)


@dataclass
class RecentItems:
    """Keeps the aggregates of a namespace fresh, in the lake and in the online store, as batches land."""

    store: StoreSettings
    namespace: Namespace
    _pushed_until: datetime | None = field(default=None, init=False)
    _features: FeatureStore | None = field(default=None, init=False)

    def landed(self, spark: SparkSession, items: DataFrame, as_of: datetime) -> int:
        """Refresh the items of a landed batch (item_id), and push what holds since the last push; returns the rows.

        An online store that is down does not stop landing: the next batch pushes what this one could not.
        """
        refresh(spark, self.namespace, items, as_of)
        try:
            pushed = self._store().push_recent(spark, self._pushed_until, as_of, items)
        except RedisError as error:
            _log.warning("the items' recent counts could not be pushed, the next batch does it: %s", error)
            self._pushed_until = None
            return 0
        self._pushed_until = as_of
        return pushed

    def _store(self) -> FeatureStore:
        if self._features is None:
            self._features = FeatureStore(self.store, self.namespace)
            if not self._features.is_applied():
                self._features.apply()
        return self._features
