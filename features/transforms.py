"""Feature transforms: pure functions from the lake's tables to one row per entity and event day.

A row carries the counts up to and including its UTC day and is stamped with that day's end, so a point-in-time join
never shows an event anything of its own day or later. Sessions must be in UTC (`features.spark` builds them so).
"""

from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from streaming.events import PROBE_SURFACE, Kind

POSITIVE_KINDS = tuple(kind.value for kind in (Kind.CLICK, Kind.LIKE, Kind.RATING, Kind.PURCHASE))
"""What says that a user wanted an item; a view only proves that it was seen."""

LONGEST_SPAN = timedelta(days=1)
"""How far back `recent_item_features` counts."""

_HOP_S, _HOUR_S, _DAY_S = 300, 3_600, 86_400
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


def recent_item_features(interactions: DataFrame) -> DataFrame:
    """Return item_id, event_timestamp, item_interactions_1h and _24h, item_positive_share_24h, item_trend.

    Time goes in hops of five minutes. An item has a row for the end of each hop at which a value changes: where events
    came in, and where they left the last hour and the last day. So the newest row up to a time holds at that time.
    item_trend is the last hour's rate against the last day's, both with one interaction an hour added: 1 is as ever.
    """
    counted = (
        organic(interactions)
        .groupBy("item_id", _hop_end().alias("end"))
        .agg(F.count("*").alias("n"), F.count_if(F.col("kind").isin(*POSITIVE_KINDS)).alias("positive"))
    )
    zero, leaves = F.lit(0).cast("bigint"), [F.col("end") + F.lit(span) for span in (_HOUR_S, _DAY_S)]
    changes = [
        F.struct("end", "n", "positive"),
        *(F.struct(end.alias("end"), zero.alias("n"), zero.alias("positive")) for end in leaves),
    ]
    ends = (
        counted.select("item_id", F.inline(F.array(*changes)))
        .groupBy("item_id", "end")
        .agg(F.sum("n").alias("n"), F.sum("positive").alias("positive"))
    )
    window = Window.partitionBy("item_id").orderBy("end")
    hour, day = (window.rangeBetween(1 - span, _NOW) for span in (_HOUR_S, _DAY_S))
    in_hour, in_day = _sum("n", hour), _sum("n", day)
    return ends.select(
        "item_id",
        F.timestamp_seconds("end").alias("event_timestamp"),
        in_hour.alias("item_interactions_1h"),
        in_day.alias("item_interactions_24h"),
        (_sum("positive", day) / F.nullif(in_day, F.lit(0))).alias("item_positive_share_24h"),
        ((in_hour + 1) / (in_day / 24 + 1)).alias("item_trend"),
    )


def _hop_end() -> Column:
    return ((F.floor(F.unix_seconds("happened_at") / _HOP_S) + 1) * _HOP_S).cast("bigint")


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
