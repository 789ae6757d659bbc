"""Feature transforms: pure functions from the lake's tables to one row per entity and event day.

A row carries the counts up to and including its UTC day and is stamped with that day's end, so a point-in-time join
never shows an event anything of its own day or later. Sessions must be in UTC (`features.spark` builds them so).
"""

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from streaming.events import PROBE_SURFACE

_FIRST, _NOW = Window.unboundedPreceding, Window.currentRow


def organic(interactions: DataFrame) -> DataFrame:
    """Return the interactions that count: all but those of the probe surface, which only measure the system."""
    return interactions.where(~F.col("surface").eqNullSafe(PROBE_SURFACE))


def user_features(interactions: DataFrame, users: DataFrame) -> DataFrame:
    """Return user_id, event_timestamp, interactions_30d, interactions_total, mean_value, attributes (JSON).

    A user has a row for each day with an interaction or a change of attributes; attributes are those of that day's end.
    """
    newest = F.max_by("attributes", F.struct("happened_at", "event_id"))
    changes = users.groupBy("user_id", _day().alias("day")).agg(newest.alias("attributes"))
    active = organic(interactions).where(F.col("user_id").isNotNull())
    days = _daily(active, "user_id").join(changes, ["user_id", "day"], "full_outer")
    window = _by_day("user_id")
    return days.select(
        "user_id",
        _day_end().alias("event_timestamp"),
        _sum("interactions", window.rangeBetween(-29, _NOW)).alias("interactions_30d"),
        _sum("interactions", window.rangeBetween(_FIRST, _NOW)).alias("interactions_total"),
        _mean_value(window).alias("mean_value"),
        F.last("attributes", ignorenulls=True).over(window.rowsBetween(_FIRST, _NOW)).alias("attributes"),
    )


def item_features(interactions: DataFrame, items: DataFrame) -> DataFrame:
    """Return item_id, event_timestamp, item_interactions_7d, _30d and _total, item_mean_value.

    An item has a row for each day with an interaction or a change of its content.
    """
    changes = items.select("item_id", _day().alias("day")).distinct()
    days = _daily(organic(interactions), "item_id").join(changes, ["item_id", "day"], "full_outer")
    window = _by_day("item_id")
    return days.select(
        "item_id",
        _day_end().alias("event_timestamp"),
        _sum("interactions", window.rangeBetween(-6, _NOW)).alias("item_interactions_7d"),
        _sum("interactions", window.rangeBetween(-29, _NOW)).alias("item_interactions_30d"),
        _sum("interactions", window.rangeBetween(_FIRST, _NOW)).alias("item_interactions_total"),
        _mean_value(window).alias("item_mean_value"),
    )


def _daily(interactions: DataFrame, key: str) -> DataFrame:
    return interactions.groupBy(key, _day().alias("day")).agg(
        F.count("*").alias("interactions"), F.sum("value").alias("value_sum"), F.count("value").alias("value_count")
    )


def _day() -> Column:
    return F.to_date("happened_at")


def _day_end() -> Column:
    return F.date_add("day", 1).cast("timestamp")


def _by_day(key: str) -> WindowSpec:
    return Window.partitionBy(key).orderBy(F.unix_date("day"))


def _sum(column: str, window: WindowSpec) -> Column:
    return F.coalesce(F.sum(column).over(window), F.lit(0)).cast("bigint")


def _mean_value(window: WindowSpec) -> Column:
    so_far = window.rangeBetween(_FIRST, _NOW)
    return F.sum("value_sum").over(so_far) / F.nullif(F.sum("value_count").over(so_far), F.lit(0))
