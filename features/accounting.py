"""The audit: what is in Kafka against what the lake made of it, exactly, by topic and partition."""

from dataclasses import asdict, dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.lake import ERASED_ROWS, LANDED, LANDINGS, table_name
from streaming.config import KafkaSettings, client_options
from streaming.errors import FlywheelError
from streaming.topics import Topics

_COUNTS = ("records", "inserted", "duplicate", "dead", "parked", "tombstones", "erased")


class Unbalanced(FlywheelError):
    """Records in Kafka and in the lake do not add up."""


@dataclass(frozen=True)
class PartitionAccount:
    """One partition. `offsets` is how many Kafka gave out from its first to its last; `landed_offsets` how many of
    those lie in landed batches, compacted ones included; `erased` how many records the erasure ledger dropped;
    `erased_rows` how many were inserted and erased since; `rows` is what the lake holds of the partition now.
    """

    topic: str
    partition: int
    offsets: int
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
        made_of = self.inserted + self.duplicate + self.dead + self.parked + self.tombstones + self.erased
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
    """All partitions of the landed topics."""

    partitions: tuple[PartitionAccount, ...]

    @property
    def balanced(self) -> bool:
        """Whether everything adds up, without tolerance."""
        return not any(part.problems for part in self.partitions)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each partition, with its problems."""
        return [{**asdict(part), "problems": "; ".join(part.problems)} for part in self.partitions]

    def check(self) -> None:
        """Raise Unbalanced, naming the partitions at fault, unless everything adds up."""
        wrong = [
            f"{part.topic}-{part.partition}: {'; '.join(part.problems)}" for part in self.partitions if part.problems
        ]
        if wrong:
            raise Unbalanced(f"the audit found differences: {' | '.join(wrong)}")


def audit(spark: SparkSession, kafka: KafkaSettings, topics: Topics) -> Accounting:
    """Balance the landed topics; only what was appended before the call counts. The topics must exist."""
    landed = _landed(spark, topics)
    rows = _count(*(spark.table(table_name(topics.namespace, table)) for table in LANDED))
    erased = _count(spark.table(table_name(topics.namespace, ERASED_ROWS)))
    parts = []
    for (topic, partition), (first, end) in sorted(_offsets(kafka, topics).items()):
        counts = landed.get((topic, partition), {})
        until = counts.get("until", first)
        parts.append(
            PartitionAccount(
                topic=topic,
                partition=partition,
                offsets=end - first,
                landed_offsets=until - first,
                rows=rows.get((topic, partition), 0),
                erased_rows=erased.get((topic, partition), 0),
                **{name: counts.get(name, 0) for name in _COUNTS},
            )
        )
    return Accounting(tuple(parts))


def _offsets(kafka: KafkaSettings, topics: Topics) -> dict[tuple[str, int], tuple[int, int]]:
    consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    try:
        partitions = [
            TopicPartition(topic, number)
            for topic in topics.landed
            for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        return {(part.topic, part.partition): (first[part], end[part]) for part in partitions}
    finally:
        consumer.close()


def _landed(spark: SparkSession, topics: Topics) -> dict[tuple[str, int], dict[str, int]]:
    sums = [F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in _COUNTS]
    landings = spark.table(table_name(topics.namespace, LANDINGS))
    by_partition = landings.groupBy("topic", "partition").agg(F.max("until_offset").alias("until"), *sums)
    return {(row["topic"], row["partition"]): row.asDict() for row in by_partition.collect()}


def _count(*tables: DataFrame) -> dict[tuple[str, int], int]:
    return {
        (row["topic"], row["partition"]): row["count"]
        for table in tables
        for row in table.groupBy("topic", "partition").count().collect()
    }
