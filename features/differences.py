"""Where exactly Kafka and the lake differ: records compared one by one, where counts or keys say that they must be."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.decoding import refusal
from features.lake import Table, landed_tables, table_name
from streaming.bounded import raw_records
from streaming.codec import FromTheFuture, Undecodable, decode, encode
from streaming.config import KafkaSettings
from streaming.consumer import Received
from streaming.ledger import LedgerReader
from streaming.topics import Topics

_LISTED = 1_000
_CHUNK = 50_000

Ranges = Mapping[tuple[str, int], tuple[int, int]]
"""By topic and partition: the first offset, and the one behind the last."""


@dataclass(frozen=True)
class Difference:
    """Offsets `first` to `last` of a partition, and what is wrong with them."""

    topic: str
    partition: int
    first: int
    last: int
    what: str

    def __str__(self) -> str:
        """Return it in words."""
        offsets = f"offset {self.first}" if self.first == self.last else f"offsets {self.first} to {self.last}"
        return f"{offsets} {self.what}"


def latest_differences(
    spark: SparkSession, kafka: KafkaSettings, topics: Topics, table: Table, landed: Ranges, ranges: Ranges
) -> list[Difference]:
    """Return the keys of a compacted topic whose latest record did not land, or whose value in the lake is another one.

    Records appended after `ranges`, and those behind what has `landed`, are left out; the latter are a difference.
    """
    topic = _topic_of(topics, table)
    latest: dict[bytes, Received] = {}
    for record in _received(kafka, topic, {part: end for (name, part), (_, end) in ranges.items() if name == topic}):
        if record.key is not None:
            latest[record.key] = record
    found = []
    judged = []
    for record in latest.values():
        if record.offset >= landed.get((topic, record.partition), (0, 0))[1]:
            found.append(_at(record, "has not landed"))
        else:
            judged.append(record)
    missing = _missing(spark, topics, table, _counting(kafka, topics, judged))
    found += [_at(record, "is the latest of its key and not in the lake") for record in missing]
    gone = [record for record in judged if record.event is None]
    return [*found, *_not_removed(spark, topics, table, gone)][:_LISTED]


def row_differences(
    spark: SparkSession, kafka: KafkaSettings, topics: Topics, table: Table, landed: Ranges
) -> list[Difference]:
    """Return the landed records of a topic that Kafka still has and the lake lacks, and rows that are there twice."""
    topic = _topic_of(topics, table)
    ends = {part: end for (name, part), (_, end) in landed.items() if name == topic}
    found: list[Difference] = []
    chunk: list[Received] = []
    for record in _received(kafka, topic, ends):
        chunk.append(record)
        if len(chunk) == _CHUNK:
            found += _lost(spark, kafka, topics, table, chunk)
            chunk = []
    found += _lost(spark, kafka, topics, table, chunk)
    return [*found, *_doubled(spark, topics, table)][:_LISTED]


def _lost(
    spark: SparkSession, kafka: KafkaSettings, topics: Topics, table: Table, records: list[Received]
) -> list[Difference]:
    missing = _missing(spark, topics, table, _counting(kafka, topics, records))
    return [_at(record, "has landed and is not in the lake") for record in missing]


def _doubled(spark: SparkSession, topics: Topics, table: Table) -> Iterator[Difference]:
    copies = (
        spark.table(table_name(topics.namespace, table))
        .groupBy("event_id", F.to_date("happened_at").alias("day"))
        .agg(F.count("*").alias("copies"), F.max(F.struct("offset", "topic", "partition")).alias("last"))
        .where("copies > 1")
        .limit(_LISTED)
    )
    for row in copies.collect():
        last = row["last"]
        what = f"is in the lake {row['copies']} times"
        yield Difference(last["topic"], last["partition"], last["offset"], last["offset"], what)


def _missing(spark: SparkSession, topics: Topics, table: Table, records: list[Received]) -> list[Received]:
    """Return the records whose event could be a row of the table and is none."""
    events = [(number, record.event) for number, record in enumerate(records) if record.event]
    if not events:
        return []
    asked = [
        (number, event.event_id, datetime.fromtimestamp(event.happened_at / 1000, UTC).date())
        for number, event in events
    ]
    frame = spark.createDataFrame(asked, "number int, event_id string, day date")
    known = spark.table(table_name(topics.namespace, table)).select("event_id", F.to_date("happened_at").alias("day"))
    lacking = [records[row["number"]] for row in frame.join(known, ["event_id", "day"], "left_anti").collect()]
    return [one for one in lacking if one.event and refusal(topics, one.topic, encode(one.event)) is None]


def _not_removed(spark: SparkSession, topics: Topics, table: Table, gone: list[Received]) -> list[Difference]:
    """Return the tombstones of items whose newest row before them is no removal, and of users who have a row left."""
    if not gone:
        return []
    key, flag = ("item_id", "removed") if "removed" in table.columns.names else ("user_id", "erased")
    asked = [
        (number, (record.key or b"").decode(errors="replace"), record.offset) for number, record in enumerate(gone)
    ]
    tombstones = spark.createDataFrame(asked, f"number int, {key} string, at bigint")
    rows = spark.table(table_name(topics.namespace, table)).select(key, "offset", flag)
    newest = (
        tombstones.join(rows, key, "left")
        .where("offset < at")
        .groupBy("number")
        .agg(F.max_by(flag, "offset").alias("is_gone"))
        .where("NOT is_gone")
    )
    return [_at(gone[row["number"]], "is a removal that the lake does not know of") for row in newest.collect()]


def _counting(kafka: KafkaSettings, topics: Topics, records: list[Received]) -> list[Received]:
    """Leave out what the erasure ledger drops, and what belongs elsewhere."""
    with closing(LedgerReader(kafka, topics)) as reader:
        reader.refresh()
        return [
            record
            for record in records
            if record.event is not None and topics.of(record.event) == record.topic and not reader.ledger.drops(record)
        ]


def _received(kafka: KafkaSettings, topic: str, until: Mapping[int, int]) -> Iterator[Received]:
    """Yield a topic's events and tombstones; the latest of a key may be one that does not decode: it counts as none."""
    for batch in raw_records(kafka, topic, until=until):
        for record in batch:
            try:
                event = None if record.value is None else decode(record.value)
            except (Undecodable, FromTheFuture):
                continue
            yield Received(event, record.key, topic, record.partition, record.offset, record.timestamp)


def _topic_of(topics: Topics, table: Table) -> str:
    return next(topic for topic, landed in landed_tables(topics).items() if landed == table)


def _at(record: Received, what: str) -> Difference:
    return Difference(record.topic, record.partition, record.offset, record.offset, what)
