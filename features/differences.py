"""Where exactly Kafka and the lake differ: records compared one by one, where counts or keys say that they must be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.decoding import refusal
from features.lake import Table, landed_tables, table_name
from streaming.bounded import records
from streaming.codec import encode
from streaming.config import KafkaSettings
from streaming.consumer import Received
from streaming.ledger import LedgerReader
from streaming.topics import Topics

_LISTED = 1_000
_CHUNK = 50_000

Ranges = Mapping[tuple[str, int], tuple[int, int]]
"""By topic and partition: the first offset, and the one behind the last."""


@dataclass(frozen=True)
class Compared:
    """What is compared, the log and the lake, and the erasures that both must show."""

    spark: SparkSession
    kafka: KafkaSettings
    topics: Topics
    erasures: LedgerReader

    def table(self, topic: str) -> Table:
        """Return the table that a landed topic fills."""
        return landed_tables(self.topics)[topic]

    def rows(self, topic: str) -> DataFrame:
        """Return what the lake has of a landed topic."""
        return self.spark.table(table_name(self.topics.namespace, self.table(topic)))

    def received(self, topic: str, until: Mapping[int, int]) -> Iterator[Received]:
        """Yield a topic's events and tombstones; what does not decode is none, even where it is its key's latest."""
        return chain.from_iterable(records(self.kafka, topic, until=until))


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


def latest_differences(compared: Compared, topic: str, landed: Ranges, ranges: Ranges) -> list[Difference]:
    """Return the keys of a compacted topic whose latest record did not land, or whose value in the lake is another one.

    Records appended after `ranges`, and those behind what has `landed`, are left out; the latter are a difference. A
    user whose erasure is pending may have rows left.
    """
    latest: dict[bytes, Received] = {}
    for record in compared.received(topic, {part: end for (name, part), (_, end) in ranges.items() if name == topic}):
        if record.key is not None:
            latest[record.key] = record
    found = []
    judged = []
    for record in latest.values():
        if record.offset >= landed.get((topic, record.partition), (0, 0))[1]:
            found.append(_at(record, "has not landed"))
        else:
            judged.append(record)
    missing = _missing(compared, topic, _counting(compared, judged))
    found += [_at(record, "is the latest of its key and not in the lake") for record in missing]
    gone = [record for record in judged if record.event is None and not _is_pending(compared, record)]
    return [*found, *_not_removed(compared, topic, gone)][:_LISTED]


def row_differences(compared: Compared, topic: str, landed: Ranges) -> list[Difference]:
    """Return the landed records of a topic that Kafka still has and the lake lacks, and rows that are there twice."""
    ends = {part: end for (name, part), (_, end) in landed.items() if name == topic}
    found: list[Difference] = []
    chunk: list[Received] = []
    for record in compared.received(topic, ends):
        chunk.append(record)
        if len(chunk) == _CHUNK:
            found += _lost(compared, topic, chunk)
            chunk = []
    found += _lost(compared, topic, chunk)
    return [*found, *_doubled(compared, topic)][:_LISTED]


def _lost(compared: Compared, topic: str, landed: list[Received]) -> list[Difference]:
    missing = _missing(compared, topic, _counting(compared, landed))
    return [_at(record, "has landed and is not in the lake") for record in missing]


def _doubled(compared: Compared, topic: str) -> Iterator[Difference]:
    copies = (
        compared.rows(topic)
        .groupBy("event_id", F.to_date("happened_at").alias("day"))
        .agg(F.count("*").alias("copies"), F.max(F.struct("offset", "topic", "partition")).alias("last"))
        .where("copies > 1")
        .limit(_LISTED)
    )
    for row in copies.collect():
        last = row["last"]
        what = f"is in the lake {row['copies']} times"
        yield Difference(last["topic"], last["partition"], last["offset"], last["offset"], what)


def _missing(compared: Compared, topic: str, counting: list[Received]) -> list[Received]:
    """Return the records whose event could be a row of the topic's table and is none."""
    events = [(number, record.event) for number, record in enumerate(counting) if record.event]
    if not events:
        return []
    asked = [
        (number, event.event_id, datetime.fromtimestamp(event.happened_at / 1000, UTC).date())
        for number, event in events
    ]
    frame = compared.spark.createDataFrame(asked, "number int, event_id string, day date")
    known = compared.rows(topic).select("event_id", F.to_date("happened_at").alias("day"))
    lacking = [counting[row["number"]] for row in frame.join(known, ["event_id", "day"], "left_anti").collect()]
    return [one for one in lacking if one.event and refusal(compared.topics, topic, encode(one.event)) is None]


def _is_pending(compared: Compared, tombstone: Received) -> bool:
    """Whether a tombstone is of a user whose erasure, as the ledger was last read, is still to be carried out."""
    if tombstone.topic != compared.topics.users or tombstone.key is None:
        return False
    ledger = compared.erasures.ledger
    return ledger.marker.mark(tombstone.key.decode(errors="replace")) in ledger.pending


def _not_removed(compared: Compared, topic: str, gone: list[Received]) -> list[Difference]:
    """Return the tombstones of items whose newest row before them is no removal, and of users who have a row left."""
    if not gone:
        return []
    key, flag = ("item_id", "removed") if topic == compared.topics.items else ("user_id", "erased")
    asked = [
        (number, (record.key or b"").decode(errors="replace"), record.offset) for number, record in enumerate(gone)
    ]
    tombstones = compared.spark.createDataFrame(asked, f"number int, {key} string, at bigint")
    rows = compared.rows(topic).select(key, "happened_at", "offset", flag)
    newest = (
        tombstones.join(rows, key, "left")
        .where("offset < at")
        .groupBy("number")
        # By the event's time, as in the log, where a newest one that is sent again lands no second time.
        .agg(F.max_by(flag, F.struct("happened_at", "offset")).alias("is_gone"))
        .where("NOT is_gone")
    )
    return [_at(gone[row["number"]], "is a removal that the lake does not know of") for row in newest.collect()]


def _counting(compared: Compared, read: list[Received]) -> list[Received]:
    """Leave out what the erasure ledger, read anew, drops, and what belongs elsewhere."""
    compared.erasures.refresh()
    topics, ledger = compared.topics, compared.erasures.ledger
    return [
        record
        for record in read
        if record.event is not None and topics.of(record.event) == record.topic and not ledger.drops(record)
    ]


def _at(record: Received, what: str) -> Difference:
    return Difference(record.topic, record.partition, record.offset, record.offset, what)
