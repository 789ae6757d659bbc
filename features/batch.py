"""One landing batch: decoded records into the lake's tables, the dead and parked ones into their topics, and the
accounting row that says so.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial, reduce

from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.commits import insert_missing, same_in
from features.decoding import DEAD, ERASED, EVENT, PARKED, TOMBSTONE
from features.erasing import PLACE, at_places, erase_rows, erased_places
from features.kafka_source import kafka_options
from features.lake import INTERACTIONS, LANDED, LANDINGS, Table, landed_tables, table_name
from features.lease import Lease
from features.ledgered import judged
from features.recent import KEPT, RecentItems
from features.transforms import LONGEST_SPAN
from streaming.config import KafkaSettings
from streaming.ledger import LedgerReader
from streaming.topics import Topics, dead_letters, parked

OUTCOMES = ("inserted", "duplicate", "dead", "parked", "tombstones", "erased")
"""What a record may become, each a count of a Landing."""


@dataclass(frozen=True)
class Landing:
    """The accounting of one batch and one partition: offsets `from_offset` up to but without `until_offset`.

    records = inserted + duplicate + dead + parked + tombstones + erased; offsets without a record were compacted away.
    `erased` records were dropped, since the erasure ledger says so.
    """

    topic: str
    partition: int
    from_offset: int
    until_offset: int
    records: int
    inserted: int
    duplicate: int
    dead: int
    parked: int
    tombstones: int
    erased: int
    batch_id: int
    landed_at: datetime


@dataclass(frozen=True)
class Target:
    """What batches are landed with."""

    topics: Topics
    kafka: KafkaSettings
    ledger: LedgerReader
    lease: Lease
    recent: RecentItems | None = None


_Counts = dict[tuple[str, int], dict[str, int]]


def land_batch(records: DataFrame, batch_id: int, target: Target, now: int) -> list[Landing]:
    """Commit one batch of decoded records, `now` in ms; running it again with the same records changes nothing.

    What the ledger drops does not land, and what an entry that came meanwhile drops is taken out again. Raises
    LeaseLost, LakeBusy and NotErased.
    """
    spark, topics, reader = records.sparkSession, target.topics, target.ledger
    reader.refresh()
    records = judged(records, reader.ledger, topics).persist()
    try:
        summaries = _summarise(records)
        inserted: dict[tuple[str, int], int] = {}
        for topic, table in landed_tables(topics).items():
            if any(summary["topic"] == topic and summary[EVENT] for summary in summaries):
                inserted |= _merge(target, table, records, [s for s in summaries if s["topic"] == topic])
        counts = {_part(s): _counts(s, inserted.get(_part(s), 0)) for s in summaries}
        kept = records
        if reader.refresh() or reader.ledger.pending or any(summary[ERASED] for summary in summaries):
            kept = judged(records, reader.ledger, topics)
            _take_out(spark, topics, kept, now)
            counts, summaries = _recounted(spark, topics, kept, summaries), _summarise(kept)
        if target.recent is not None:
            _count_recent(target.recent, kept, summaries, now)
        target.lease.check()
        _send_aside(kept, summaries, target.kafka)
        landings = [_landing(summary, counts[_part(summary)], batch_id, now) for summary in summaries]
        _account(spark, target, landings)
        return landings
    finally:
        records.unpersist()


def _count_recent(recent: RecentItems, records: DataFrame, summaries: list[Row], now: int) -> None:
    """Have the items counted anew that the batch, or an erasure within it, touched: before the batch is accounted for,
    so that after a crash it comes again and so does this.
    """
    as_of = datetime.fromtimestamp(now / 1000, UTC)
    oldest = f"{as_of - KEPT - LONGEST_SPAN:%Y-%m-%d}"
    if any(summary["last_day"] is not None and summary["last_day"] >= oldest for summary in summaries):
        name = INTERACTIONS.name
        items = records.where(F.col(name).isNotNull()).select(f"{name}.item_id").distinct().localCheckpoint()
        if not items.isEmpty():
            recent.landed(records.sparkSession, items, as_of)


def _part(row: Row) -> tuple[str, int]:
    return row["topic"], row["partition"]


def _counts(summary: Row, inserted: int) -> dict[str, int]:
    return {"inserted": inserted, "duplicate": summary[EVENT] - inserted, "erased": summary[ERASED]}


def _take_out(spark: SparkSession, topics: Topics, records: DataFrame, now: int) -> None:
    """Delete the rows of dropped records: of a batch that came before, or whose owner was erased during this one."""
    dropped = records.where(F.col("outcome") == ERASED).select(*PLACE).collect()
    for topic, table in landed_tables(topics).items():
        places = [row for row in dropped if row["topic"] == topic]
        if places:
            name, frame = table_name(topics.namespace, table), spark.createDataFrame(places)
            erase_rows(spark, topics.namespace, table, partial(_rows_at, spark, name, frame), now)


def _rows_at(spark: SparkSession, name: str, places: DataFrame) -> DataFrame:
    return at_places(spark.table(name), places)


def _recounted(spark: SparkSession, topics: Topics, records: DataFrame, summaries: list[Row]) -> _Counts:
    """Return the counts where rows may have been erased since they were inserted: those were inserted all the same.

    A row is deleted only after its place was recorded, so the rows are read first, and each place counts once.
    """
    batch = _offsets(summaries)
    tables = [spark.table(table_name(topics.namespace, table)).where(batch).select(*PLACE) for table in LANDED]
    landed = reduce(DataFrame.union, [*tables, erased_places(spark, topics.namespace).where(batch)]).distinct()
    outcome, is_landed = F.col("outcome"), F.col("landed").isNotNull()
    rows = (
        records.select(*PLACE, "outcome")
        .join(landed.withColumn("landed", F.lit(True)), list(PLACE), "left")
        .groupBy("topic", "partition")
        .agg(
            F.count_if(is_landed).alias("inserted"),
            F.count_if((outcome == EVENT) & ~is_landed).alias("duplicate"),
            F.count_if((outcome == ERASED) & ~is_landed).alias("erased"),
        )
        .collect()
    )
    return {_part(row): row.asDict() for row in rows}


def _offsets(summaries: list[Row]) -> str:
    """Return the condition that finds the batch's places."""
    return " OR ".join(
        f"(topic = '{s['topic']}' AND partition = {s['partition']} AND offset BETWEEN {s['first']} AND {s['last']})"
        for s in summaries
    )


def _summarise(records: DataFrame) -> list[Row]:
    # As text, since pyspark hands out times in the machine's zone, where an hour of the year is ambiguous.
    days = F.date_format(F.coalesce(*(f"{table.name}.happened_at" for table in LANDED)), "yyyy-MM-dd")
    counts = [
        F.count_if(F.col("outcome") == outcome).alias(outcome) for outcome in (EVENT, DEAD, PARKED, TOMBSTONE, ERASED)
    ]
    return (
        records.groupBy("topic", "partition")
        .agg(
            F.min("offset").alias("first"),
            F.max("offset").alias("last"),
            F.count("*").alias("records"),
            F.min(days).alias("first_day"),
            F.max(days).alias("last_day"),
            *counts,
        )
        .collect()
    )


def _merge(target: Target, table: Table, records: DataFrame, summaries: list[Row]) -> dict[tuple[str, int], int]:
    """Insert the events that the table lacks; returns the rows by topic and partition that came from this batch."""
    spark, name = records.sparkSession, table_name(target.topics.namespace, table)
    span = _span(summaries)
    copies = Window.partitionBy("event_id", F.to_date("happened_at")).orderBy("partition", "offset")
    fresh = (
        records.where((F.col("outcome") == EVENT) & F.col(table.name).isNotNull())
        .select(f"{table.name}.*", "topic", "partition", "offset", "appended_at")
        .withColumn("copy", F.row_number().over(copies))
        .where("copy = 1")
        .drop("copy")
    )
    same = (
        f"known.event_id = fresh.event_id AND to_date(known.happened_at) = to_date(fresh.happened_at) AND known.{span}"
    )
    insert_missing(fresh, target.topics.namespace, table, same, target.lease.check)
    rows = (
        spark.table(name).where(f"{span} AND ({_offsets(summaries)})").groupBy("topic", "partition").count().collect()
    )
    return {(row["topic"], row["partition"]): row["count"] for row in rows}


def _span(summaries: list[Row]) -> str:
    """Return the condition that lets Iceberg skip the files of other days."""
    first = min(summary["first_day"] for summary in summaries if summary["first_day"] is not None)
    last = max(summary["last_day"] for summary in summaries if summary["last_day"] is not None)
    return f"happened_at BETWEEN TIMESTAMP '{first} 00:00:00' AND TIMESTAMP '{last} 23:59:59.999999'"


def _send_aside(records: DataFrame, summaries: list[Row], kafka: KafkaSettings) -> None:
    """Copy dead and parked records to their topics: original bytes, and in headers where they came from and why.

    A batch that comes again sends them again under the same key, so consumers count keys and not records.
    """
    for outcome, side in ((DEAD, dead_letters), (PARKED, parked)):
        for topic in {summary["topic"] for summary in summaries if summary[outcome]}:
            aside = records.where((F.col("outcome") == outcome) & (F.col("topic") == topic))
            header = [
                _header("reason", F.col("reason")),
                _header("topic", F.col("topic")),
                _header("partition", F.col("partition").cast("string")),
                _header("offset", F.col("offset").cast("string")),
                _header("appended_at", F.unix_millis("appended_at").cast("string")),
                F.struct(F.lit("key").alias("key"), F.col("key").alias("value")),
            ]
            (
                aside.select(
                    F.concat_ws("-", "topic", "partition", "offset").cast("binary").alias("key"),
                    "value",
                    F.array(*header).alias("headers"),
                )
                .write.format("kafka")
                .options(**kafka_options(kafka), **{"kafka.acks": "all", "includeHeaders": "true"})
                .option("topic", side(topic))
                .save()
            )


def _header(name: str, value: Column) -> Column:
    return F.struct(F.lit(name).alias("key"), value.cast("binary").alias("value"))


def _landing(summary: Row, counts: dict[str, int], batch_id: int, now: int) -> Landing:
    return Landing(
        topic=summary["topic"],
        partition=summary["partition"],
        from_offset=summary["first"],
        until_offset=summary["last"] + 1,
        records=summary["records"],
        inserted=counts["inserted"],
        duplicate=counts["duplicate"],
        dead=summary[DEAD],
        parked=summary[PARKED],
        tombstones=summary[TOMBSTONE],
        erased=counts["erased"],
        batch_id=batch_id,
        landed_at=datetime.fromtimestamp(now / 1000, UTC),
    )


def _account(spark: SparkSession, target: Target, landings: list[Landing]) -> None:
    if not landings:
        return
    rows = spark.createDataFrame([asdict(landing) for landing in landings], LANDINGS.columns)
    same = same_in(("topic", "partition", "from_offset"))
    insert_missing(rows, target.topics.namespace, LANDINGS, same, target.lease.check)
