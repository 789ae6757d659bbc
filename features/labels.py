"""Labelled examples: what was shown and answered, and what users chose by themselves beside sampled alternatives."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.sampling import CLICK_WINDOW_MS, IMPRESSION, POPULAR, POSITIVE, UNIFORM
from features.transforms import POSITIVE_KINDS, organic
from streaming.events import PROBE_SURFACE

COLUMNS = (
    "group_id",
    "user_id",
    "item_id",
    "label",
    "sampling",
    "happened_at",
    "position",
    "logged_user_features",
)
"""What an example has before features join; group_id is the positive's event id, or the slate's request id."""

# A heavy user has taken most popular items, so most popular draws for him are refused.
_DRAWS_PER_NEGATIVE = {POPULAR: 4, UNIFORM: 2}


@dataclass(frozen=True)
class ExampleSpec:
    """Which examples are made. `seed` fixes the sampled negatives, whatever the machine."""

    positives: int = 4000
    negatives: int = 50
    seed: int = 17
    click_window: timedelta = timedelta(milliseconds=CLICK_WINDOW_MS)


def impression_examples(
    impressions: DataFrame, interactions: DataFrame, spec: ExampleSpec, as_of: datetime
) -> DataFrame:
    """Return one example per shown item of every slate whose click window closed by `as_of`.

    label is 1 when the user answered the slate with a positive act on the item within the window.
    """
    window = F.expr(f"INTERVAL {int(spec.click_window.total_seconds())} SECONDS")
    shown = (
        impressions.where((F.col("surface") != PROBE_SURFACE) & (F.col("happened_at") + window <= F.lit(as_of)))
        .where(F.col("user_id").isNotNull())
        .select(
            F.col("event_id").alias("group_id"),
            "user_id",
            "happened_at",
            F.col("user_features").alias("logged_user_features"),
            F.explode("slate").alias("shown"),
        )
        .select("group_id", "user_id", "happened_at", "logged_user_features", "shown.item_id", "shown.position")
    )
    answers = (
        interactions.where(F.col("request_id").isNotNull() & F.col("kind").isin(*POSITIVE_KINDS))
        .groupBy(F.col("request_id").alias("group_id"), "item_id")
        .agg(F.min("happened_at").alias("answered_at"))
    )
    clicked = F.coalesce(F.col("answered_at") <= F.col("happened_at") + window, F.lit(False))
    return (
        shown.join(answers, ["group_id", "item_id"], "left")
        .withColumn("label", clicked.cast("int"))
        .withColumn("sampling", F.lit(IMPRESSION))
        .select(*COLUMNS)
    )


def organic_examples(log: DataFrame, spec: ExampleSpec) -> DataFrame:
    """Return the latest `spec.positives` unprompted positive acts of a `numbered_log`, each with sampled negatives.

    A user's acts of one second count as one choice without an order inside: one of them, picked by a hash, stands for
    it, and the others are no negatives either.

    Half of a positive's negatives are drawn uniformly from the items with an interaction before it, half in proportion
    to the interactions before it; before means in an earlier second. None is an item that the user ever chose, nor one
    that occurs twice in its group. A draw depends on the seed, the positive's event id and the draw's number alone.
    """
    pick = Window.partitionBy("user_id", "second").orderBy(F.xxhash64(F.lit(spec.seed), "event_id"), "event_id")
    positives = (
        log.where(F.col("user_id").isNotNull() & F.col("request_id").isNull())
        .withColumn("place", F.row_number().over(pick))
        .where("place = 1")
        .orderBy(F.desc("happened_at"), F.desc("event_id"))
        .limit(spec.positives)
        .withColumnRenamed("event_id", "group_id")
    )
    taken = log.where(F.col("user_id").isNotNull()).groupBy("user_id").agg(F.collect_set("item_id").alias("taken"))
    popular = _drawn(positives, POPULAR, "rows_before", log.select("row", "item_id"), spec)
    uniform = _drawn(positives, UNIFORM, "items_before", log.where("is_first").select("item_row", "item_id"), spec)
    groups = (
        positives.select("group_id", "user_id", "item_id", "happened_at")
        .join(popular, "group_id", "left")
        .join(uniform, "group_id", "left")
        .join(taken, "user_id")
        .withColumn(POPULAR, _first_not_in(F.col("taken"), POPULAR, spec.negatives // 2))
        .withColumn(UNIFORM, _first_not_in(F.concat("taken", POPULAR), UNIFORM, spec.negatives - spec.negatives // 2))
    )
    kinds = (
        (POSITIVE, 1, F.array("item_id")),
        (POPULAR, 0, F.col(POPULAR)),
        (UNIFORM, 0, F.col(UNIFORM)),
    )
    chosen = [
        F.struct(F.lit(kind).alias("sampling"), F.lit(label).alias("label"), items.alias("items"))
        for kind, label, items in kinds
    ]
    return (
        groups.select("group_id", "user_id", "happened_at", F.inline(F.array(*chosen)))
        .withColumn("item_id", F.explode("items"))
        .withColumns({"position": F.lit(None).cast("int"), "logged_user_features": F.lit(None).cast("string")})
        .select(*COLUMNS)
    )


def numbered_log(interactions: DataFrame, as_of: datetime) -> DataFrame:
    """Return the positive acts before `as_of`, each with its place in time.

    `row` numbers all of them by time from 0, `item_row` the items by their first one (`is_first`); `rows_before` and
    `items_before` say how many of each came in earlier seconds. Day by day, so that no single task sorts everything.
    It is read several times: checkpoint it.
    """
    log = organic(interactions).where(F.col("kind").isin(*POSITIVE_KINDS) & (F.col("happened_at") < F.lit(as_of)))
    first = Window.partitionBy("item_id").orderBy("happened_at", "event_id")
    log = log.select(
        "event_id",
        "user_id",
        "item_id",
        "request_id",
        "happened_at",
        F.to_date("happened_at").alias("day"),
        F.unix_seconds("happened_at").alias("second"),
        (F.row_number().over(first) == 1).alias("is_first"),
    )
    day = Window.partitionBy("day").orderBy("happened_at", "event_id").rowsBetween(Window.unboundedPreceding, -1)
    earlier = Window.partitionBy("day").orderBy("second").rangeBetween(Window.unboundedPreceding, -1)
    one, is_first = F.lit(1), F.col("is_first").cast("int")
    counts = log.groupBy("day").agg(F.count("*").alias("rows"), F.sum(is_first).alias("items"))
    days_before = Window.orderBy("day").rowsBetween(Window.unboundedPreceding, -1)
    offsets = counts.select(
        "day", _count("rows", days_before).alias("day_row"), _count("items", days_before).alias("day_item")
    )
    return log.join(F.broadcast(offsets), "day").select(
        "event_id",
        "user_id",
        "item_id",
        "request_id",
        "happened_at",
        "second",
        "is_first",
        (F.col("day_row") + _count(one, day)).alias("row"),
        (F.col("day_item") + _count(is_first, day)).alias("item_row"),
        (F.col("day_row") + _count(one, earlier)).alias("rows_before"),
        (F.col("day_item") + _count(is_first, earlier)).alias("items_before"),
    )


def _drawn(positives: DataFrame, sampling: str, bound: str, pool: DataFrame, spec: ExampleSpec) -> DataFrame:
    """Return group_id and, named `sampling`, items of `pool` (row number, item_id) below each positive's `bound`.

    They come in the order of the draws and are several times as many as will be kept.
    """
    number = pool.columns[0]
    draws = F.sequence(F.lit(0), F.lit((spec.negatives + 1) // 2 * _DRAWS_PER_NEGATIVE[sampling] - 1))
    hashed = F.xxhash64(F.lit(spec.seed), F.lit(sampling), "group_id", "draw")
    items = F.transform(F.sort_array(F.collect_list(F.struct("draw", "item_id"))), lambda drawn: drawn["item_id"])
    return (
        positives.where(F.col(bound) > 0)
        .select("group_id", bound, F.explode(draws).alias("draw"))
        .select("group_id", "draw", F.pmod(hashed, F.col(bound)).alias(number))
        .join(pool, number)
        .groupBy("group_id")
        .agg(items.alias(sampling))
    )


def _first_not_in(excluded: Column, drawn: str, count: int) -> Column:
    return F.slice(F.array_except(F.coalesce(F.col(drawn), F.array().cast("array<string>")), excluded), 1, count)


def _count(column: Column | str, window: WindowSpec) -> Column:
    return F.coalesce(F.sum(column).over(window), F.lit(0)).cast("bigint")
