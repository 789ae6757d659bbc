"""The audit: what is in Kafka against what the lake made of it, exactly, by topic and partition.

It balances ranges that are closed: offsets appended before a given time, and batches whose accounting row stands. So it
holds while events come in, land and are erased. What does not add up is listed by offset (`features.differences`), and
so is what Kafka has acknowledged to our services and has no more (`features.acknowledged`).
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import islice
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.acknowledged import acknowledged, lost
from features.differences import Compared, Difference, latest_differences, row_differences
from features.erasing import PLACE
from features.lake import ERASED_ROWS, LANDED, LANDINGS, Table, table_name
from streaming.config import KafkaSettings
from streaming.errors import FlywheelError
from streaming.ledger import LedgerReader
from streaming.offsets import bounds
from streaming.topics import Topics

_OUTCOMES = ("inserted", "duplicate", "dead", "parked", "tombstones", "erased")
_COUNTS = ("records", *_OUTCOMES)
_LISTED = 1_000

_Part = tuple[str, int]


class Unbalanced(FlywheelError):
    """Records in Kafka and in the lake do not add up."""


@dataclass(frozen=True)
class PartitionAccount:
    """One partition. `offsets` is how many Kafka gave out from its first to the last of the range; `acknowledged` how
    many of those the collectors and recommenders say were theirs; `landed_offsets` how many lie in landed batches,
    compacted ones included; `erased` how many records the erasure ledger dropped; `erased_rows` how many were inserted
    and erased since; `rows` is what the lake holds of the batches now.
    """

    topic: str
    partition: int
    offsets: int
    acknowledged: int
    landed_offsets: int
    records: int
    inserted: int
    duplicate: int
    dead: int
    parked: int
    tombstones: int
    erased: int
    erased_rows: int
    rows: int

    @property
    def problems(self) -> list[str]:
        """What does not add up, in words."""
        made_of = sum(getattr(self, name) for name in _OUTCOMES)
        found = []
        if self.offsets != self.landed_offsets:
            found.append(f"{self.offsets - self.landed_offsets} offsets have not landed")
        if self.records != made_of:
            found.append(f"{self.records} records became {made_of}")
        if self.rows != self.inserted - self.erased_rows:
            found.append(f"{self.inserted} rows were inserted, {self.erased_rows} erased, and {self.rows} are there")
        return found


@dataclass(frozen=True)
class Accounting:
    """All partitions of the landed topics, and the offsets at which something is wrong."""

    partitions: tuple[PartitionAccount, ...]
    differences: tuple[Difference, ...]

    @property
    def balanced(self) -> bool:
        """Whether everything adds up, without tolerance."""
        return not self.differences and not any(part.problems for part in self.partitions)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each partition, with its problems."""
        return [{**asdict(part), "problems": "; ".join(part.problems)} for part in self.partitions]

    def check(self) -> None:
        """Raise Unbalanced, naming the partitions at fault, unless everything adds up."""
        wrong = {f"{part.topic}-{part.partition}": list(part.problems) for part in self.partitions if part.problems}
        for one in self.differences:
            wrong.setdefault(f"{one.topic}-{one.partition}", []).append(str(one))
        if wrong:
            told = " | ".join(f"{place}: {'; '.join(found[:3])}" for place, found in sorted(wrong.items()))
            raise Unbalanced(f"the audit found differences: {told}")


def audit(spark: SparkSession, kafka: KafkaSettings, topics: Topics, until: int | None = None) -> Accounting:
    """Balance what was appended to the landed topics before `until` (ms UTC), or before the call. They must exist.

    Raises BrokerUnavailable, ErasureKeyMissing, LedgerMissing and LedgerUnreadable.
    """
    ranges = {(part.topic, part.partition): ends for part, ends in bounds(kafka, topics.landed, until).items()}
    landed = _landed(spark, topics)
    # The rows first: one is deleted only after its place was recorded, so that each place is seen at least once.
    rows = _places(spark, topics, *LANDED)
    erased = _places(spark, topics, ERASED_ROWS)
    held = _held(rows, erased, landed)
    told = acknowledged(kafka, topics)
    parts, differences = [], [*_uneven(spark, topics)]
    for (topic, partition), (first, end) in sorted(ranges.items()):
        counts = landed.get((topic, partition), {})
        kept, gone = held.get((topic, partition), (0, 0))
        reached = min(max(counts.get("until", first), first), end)
        part = PartitionAccount(
            topic=topic,
            partition=partition,
            offsets=end - first,
            acknowledged=told.count((topic, partition), first, end),
            landed_offsets=reached - first,
            rows=kept,
            erased_rows=gone,
            **{name: counts.get(name, 0) for name in _COUNTS},
        )
        parts.append(part)
        if reached < end and topic not in topics.compacted:
            differences.append(Difference(topic, partition, reached, end - 1, "has not landed"))
    ends = {part: (counts["since"], counts["until"]) for part, counts in landed.items()}
    wrong = {part.topic for part in parts if part.rows != part.inserted - part.erased_rows}
    with closing(LedgerReader(kafka, topics)) as erasures:
        compared = Compared(spark, kafka, topics, erasures)
        for topic in topics.landed:
            if topic in topics.compacted:
                differences += latest_differences(compared, topic, ends, ranges)
            if topic in wrong:
                differences += row_differences(compared, topic, ends)
    # Apart from the others: one election that loses much would hide them.
    lacking = islice(lost(kafka, told), _LISTED)
    return Accounting(tuple(parts), (*differences[:_LISTED], *lacking))


def _landed(spark: SparkSession, topics: Topics) -> dict[_Part, dict[str, int]]:
    sums = [F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in _COUNTS]
    reach = [F.min("from_offset").alias("since"), F.max("until_offset").alias("until")]
    by_partition = _landings(spark, topics).groupBy("topic", "partition").agg(*reach, *sums)
    return {(row["topic"], row["partition"]): row.asDict() for row in by_partition.collect()}


def _landings(spark: SparkSession, topics: Topics) -> DataFrame:
    return spark.table(table_name(topics.namespace, LANDINGS))


def _uneven(spark: SparkSession, topics: Topics) -> Iterator[Difference]:
    """Yield the batches whose own counts do not add up, and what lies between batches that should follow each other.

    Only compaction may leave offsets out.
    """
    before = Window.partitionBy("topic", "partition").orderBy("from_offset")
    made_of = reduce(lambda one, other: one + other, (F.coalesce(name, F.lit(0)) for name in _OUTCOMES))
    compacted = F.col("topic").isin(*topics.compacted)
    found = (
        _landings(spark, topics)
        .withColumn("before", F.lag("until_offset").over(before))
        .withColumn("made_of", made_of)
        .withColumn("overlaps", F.col("from_offset") < F.col("before"))
        .withColumn("skips", ~compacted & (F.col("from_offset") > F.col("before")))
        .withColumn("lacks", ~compacted & (F.col("until_offset") - F.col("from_offset") != F.col("records")))
        .where((F.col("made_of") != F.col("records")) | F.col("overlaps") | F.col("skips") | F.col("lacks"))
        .orderBy("topic", "partition", "from_offset")
        .limit(_LISTED)
    )
    for row in found.collect():
        place, last = (row["topic"], row["partition"]), row["until_offset"] - 1
        if row["made_of"] != row["records"]:
            yield Difference(*place, row["from_offset"], last, f"{row['records']} records became {row['made_of']}")
        if row["overlaps"]:
            yield Difference(*place, row["from_offset"], row["before"] - 1, "was landed in two batches")
        if row["skips"]:
            yield Difference(*place, row["before"], row["from_offset"] - 1, "never landed")
        if row["lacks"]:
            yield Difference(*place, row["from_offset"], last, f"held only {row['records']} records")


def _places(spark: SparkSession, topics: Topics, *tables: Table) -> DataFrame:
    found = (spark.table(table_name(topics.namespace, table)) for table in tables)
    return reduce(DataFrame.union, (rows.select(*PLACE) for rows in found))


def _held(rows: DataFrame, erased: DataFrame, landed: dict[_Part, dict[str, int]]) -> dict[_Part, tuple[int, int]]:
    """Return how many rows of accounted batches are there, and how many are not but were erased, by partition."""
    if not landed:
        return {}
    ends = [(topic, partition, counts["until"]) for (topic, partition), counts in landed.items()]
    closed = F.broadcast(rows.sparkSession.createDataFrame(ends, "topic string, partition int, until bigint"))
    there = rows.withColumn("rows", F.lit(1)).unionByName(erased.withColumn("rows", F.lit(0)))
    counted = (
        there.join(closed, ["topic", "partition"])
        .where("offset < until")
        .groupBy(*PLACE)
        .agg(F.sum("rows").alias("rows"))
        .groupBy("topic", "partition")
        .agg(F.sum("rows").alias("rows"), F.count_if(F.col("rows") == 0).alias("erased"))
    )
    return {(row["topic"], row["partition"]): (row["rows"], row["erased"]) for row in counted.collect()}
