"""One landing batch: decoded records into the lake's tables, the dead and parked ones into their topics, and the
accounting row that says so.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.commits import retried
from features.decoding import DEAD, EVENT, PARKED, TOMBSTONE
from features.kafka_source import kafka_options
from features.lake import LANDED, LANDINGS, Table, landed_tables, table_name
from features.lease import Lease
from streaming.config import KafkaSettings
from streaming.topics import Topics, dead_letters, parked


@dataclass(frozen=True)
class Landing:
    """The accounting of one batch and one partition: offsets `from_offset` up to but without `until_offset`.

    records = inserted + duplicate + dead + parked + tombstones; offsets without a record were compacted away.
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
    batch_id: int
    landed_at: datetime


def land_batch(
    records: DataFrame, batch_id: int, topics: Topics, kafka: KafkaSettings, now: int, lease: Lease
) -> list[Landing]:
    """Commit one batch of decoded records, `now` in ms; running it again with the same records changes nothing."""
    spark = records.sparkSession
    records.persist()
    try:
        summaries = _summarise(records)
        lease.check()
        inserted: dict[tuple[str, int], int] = {}
        for topic, table in landed_tables(topics).items():
            if any(summary["topic"] == topic and summary[EVENT] for summary in summaries):
                inserted |= _merge(spark, topics, table, records, [s for s in summaries if s["topic"] == topic])
        _send_aside(records, summaries, kafka)
        landings = [_landing(summary, inserted, batch_id, now) for summary in summaries]
        lease.check()
        _account(spark, topics, landings)
        return landings
    finally:
        records.unpersist()


def _summarise(records: DataFrame) -> list[Row]:
    # As text, since pyspark hands out times in the machine's zone, where an hour of the year is ambiguous.
    days = F.date_format(F.coalesce(*(f"{table.name}.happened_at" for table in LANDED)), "yyyy-MM-dd")
    counts = [F.count_if(F.col("outcome") == outcome).alias(outcome) for outcome in (EVENT, DEAD, PARKED, TOMBSTONE)]
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


def _merge(
    spark: SparkSession, topics: Topics, table: Table, records: DataFrame, summaries: list[Row]
) -> dict[tuple[str, int], int]:
    """Insert the events that the table lacks; returns the rows by topic and partition that came from this batch."""
    name = table_name(topics.namespace, table)
    span = _span(summaries)
    copies = Window.partitionBy("event_id", F.to_date("happened_at")).orderBy("partition", "offset")
    fresh = (
        records.where(F.col(table.name).isNotNull())
        .select(f"{table.name}.*", "topic", "partition", "offset", "appended_at")
        .withColumn("copy", F.row_number().over(copies))
        .where("copy = 1")
        .drop("copy")
    )
    fresh.createOrReplaceTempView("fresh")
    insert = (
        f"MERGE INTO {name} AS known USING fresh ON known.event_id = fresh.event_id "
        f"AND to_date(known.happened_at) = to_date(fresh.happened_at) AND known.{span} "
        "WHEN NOT MATCHED THEN INSERT *"
    )
    retried(lambda: spark.sql(insert))
    offsets = " OR ".join(
        f"(topic = '{s['topic']}' AND partition = {s['partition']} AND offset BETWEEN {s['first']} AND {s['last']})"
        for s in summaries
    )
    rows = spark.table(name).where(f"{span} AND ({offsets})").groupBy("topic", "partition").count().collect()
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


def _landing(summary: Row, inserted: dict[tuple[str, int], int], batch_id: int, now: int) -> Landing:
    rows = inserted.get((summary["topic"], summary["partition"]), 0)
    return Landing(
        topic=summary["topic"],
        partition=summary["partition"],
        from_offset=summary["first"],
        until_offset=summary["last"] + 1,
        records=summary["records"],
        inserted=rows,
        duplicate=summary[EVENT] - rows,
        dead=summary[DEAD],
        parked=summary[PARKED],
        tombstones=summary[TOMBSTONE],
        batch_id=batch_id,
        landed_at=datetime.fromtimestamp(now / 1000, UTC),
    )


def _account(spark: SparkSession, topics: Topics, landings: list[Landing]) -> None:
    if not landings:
        return
    spark.createDataFrame([asdict(landing) for landing in landings], LANDINGS.columns).createOrReplaceTempView("landed")
    insert = (
        f"MERGE INTO {table_name(topics.namespace, LANDINGS)} AS known USING landed "
        "ON known.topic = landed.topic AND known.partition = landed.partition "
        "AND known.from_offset = landed.from_offset WHEN NOT MATCHED THEN INSERT *"
    )
    retried(lambda: spark.sql(insert))
