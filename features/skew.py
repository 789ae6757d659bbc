"""Training-serving skew: what requests were served with, against what the point-in-time join gives for them.

A served feature comes from the online store; the joined one is what a training example of the same request would get.
They differ when features are materialised late, when a day's row changes after it was served, or when the store and the
lake do not agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql.types import DoubleType, StringType

from features.lake import IMPRESSIONS, USER_FEATURES, table_name
from features.logged import logged_feature
from features.project import USER_VIEW
from features.store import BY_USER, FeatureStore
from streaming.errors import FlywheelError
from streaming.events import PROBE_SURFACE
from streaming.namespace import Namespace

_TOLERANCE = 1e-9  # relative; numbers pass through JSON and back


class NothingServed(FlywheelError):
    """No request that could be compared has landed."""


@dataclass(frozen=True)
class Served:
    """Which requests count: those answered from `since` up to but without `until`, without any of `fallbacks`."""

    since: datetime
    until: datetime
    fallbacks: Sequence[str] = ()


@dataclass(frozen=True)
class FeatureSkew:
    """One feature over the requests that count.

    `compared` of them have a value on at least one side; `differing` have not the same on both, among them
    `only_served` and `only_joined`. `share` is differing / compared, None without any. `mean_difference` is the mean
    absolute difference of numbers where both sides have one.
    """

    feature: str
    requests: int
    compared: int
    differing: int
    only_served: int
    only_joined: int
    share: float | None
    mean_difference: float | None


def measure_skew(spark: SparkSession, namespace: Namespace, store: FeatureStore, served: Served) -> list[FeatureSkew]:
    """Return the skew of every user feature over the landed impressions of users, probes aside.

    Raises NothingServed when there is none.
    """
    requests = _requests(spark.table(table_name(namespace, IMPRESSIONS)), served)
    if requests.isEmpty():
        raise NothingServed(
            f"no request of a user that was answered between {served.since.isoformat()} and {served.until.isoformat()} "
            "is in the lake: run `flywheel land`, or look further back with --hours"
        )
    joined = store.point_in_time_join(requests, (BY_USER,))
    counts = [_counts(name) for name in USER_VIEW.features]
    row = joined.agg(F.count("*").alias("requests"), *(column for columns in counts for column in columns)).first()
    if row is None:
        raise RuntimeError("an aggregate without groups gave no row")
    return [_skew(name, row.asDict()) for name in USER_VIEW.features]


def _requests(impressions: DataFrame, served: Served) -> DataFrame:
    """Return user_id, event_timestamp and a column of each served feature: one row a request."""
    within = (F.col("happened_at") >= F.lit(served.since)) & (F.col("happened_at") < F.lit(served.until))
    left_out = F.array(*map(F.lit, served.fallbacks)).cast("array<string>")
    fell_back = F.coalesce(F.arrays_overlap("fallbacks", left_out), F.lit(False))
    logged = F.col("user_id").isNotNull() & F.col("user_features").isNotNull() & (F.col("surface") != PROBE_SURFACE)
    return (
        impressions.where(within & logged & ~fell_back)
        # Feature rows are stamped at midnight, so the start of the day finds the same row, for far fewer times.
        .withColumn("event_timestamp", F.date_trunc("day", "happened_at"))
        .select("user_id", "event_timestamp", *map(_served, USER_VIEW.features))
        .localCheckpoint()  # the join reads it twice
    )


def _served(name: str) -> Column:
    kind = StringType() if _is_text(name) else DoubleType()
    return logged_feature("user_features", name, kind).alias(f"served_{name}")


def _counts(name: str) -> list[Column]:
    served, joined = F.col(f"served_{name}"), F.col(name) if _is_text(name) else F.col(name).cast("double")
    both, difference = served.isNotNull() & joined.isNotNull(), F.lit(None).cast("double")
    same = served == joined
    if not _is_text(name):
        difference = F.abs(served - joined)
        same = difference <= _TOLERANCE * F.greatest(F.abs(served), F.abs(joined), F.lit(1.0))
    only_served, only_joined = served.isNotNull() & joined.isNull(), served.isNull() & joined.isNotNull()
    return [
        F.count_if(served.isNotNull() | joined.isNotNull()).alias(f"{name}_compared"),
        F.count_if(only_served | only_joined | (both & ~same)).alias(f"{name}_differing"),
        F.count_if(only_served).alias(f"{name}_only_served"),
        F.count_if(only_joined).alias(f"{name}_only_joined"),
        F.avg(difference).alias(f"{name}_mean_difference"),
    ]


def _skew(name: str, row: dict[str, Any]) -> FeatureSkew:
    compared, differing = row[f"{name}_compared"], row[f"{name}_differing"]
    return FeatureSkew(
        feature=name,
        requests=row["requests"],
        compared=compared,
        differing=differing,
        only_served=row[f"{name}_only_served"],
        only_joined=row[f"{name}_only_joined"],
        share=differing / compared if compared else None,
        mean_difference=row[f"{name}_mean_difference"],
    )


def _is_text(name: str) -> bool:
    return isinstance(USER_FEATURES.columns[name].dataType, StringType)
