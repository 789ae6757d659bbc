"""The audit: every record that the log ever gave a partition is accounted for in the lake, exactly."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from features.config import LakeSettings
from features.lake import LANDINGS, landed_tables
from features.snapshots import read_table
from streaming.config import KafkaSettings, client_options
from streaming.producer import BrokerUnavailable
from streaming.topics import Topics, dead_letters, parked

Place = tuple[str, int]
"""A topic and a partition."""

_COUNTS = ("records", "inserted", "duplicate", "dead", "parked", "tombstones")


@dataclass(frozen=True)
class Line:
    """One partition's account.

    `published` is what a producer had acknowledged (None if nobody counted), `kafka` the offsets in the log, `lake` the
    rows there are now, `dead_letters` and `parked_letters` the records in the side topics, each counted once.
    """

    topic: str
    partition: int
    published: int | None
    kafka: int
    records: int
    inserted: int
    duplicate: int
    dead: int
    parked: int
    tombstones: int
    compacted: int
    lake: int
    dead_letters: int
    parked_letters: int
    is_compacted: bool

    def problems(self) -> list[str]:
        """Return a sentence for everything that does not balance."""
        place = f"{self.topic}-{self.partition}"
        aside, held = dead_letters(self.topic), parked(self.topic)
        outcomes = self.inserted + self.duplicate + self.dead + self.parked + self.tombstones
        checks = [
            (self.published in (None, self.kafka), f"{self.published} published, {self.kafka} in Kafka"),
            (self.kafka == self.records + self.compacted, f"{self.kafka} in Kafka, {self.records} landed"),
            (
                self.is_compacted or self.compacted == 0,
                f"{self.compacted} offsets are gone from a topic that keeps all",
            ),
            (self.records == outcomes, f"{self.records} landed, {outcomes} accounted for"),
            (self.lake == self.inserted, f"{self.inserted} inserted, {self.lake} rows in the lake"),
            (self.dead_letters == self.dead, f"{self.dead} dead, {self.dead_letters} in {aside}"),
            (
                self.parked_letters == self.parked,
                f"{self.parked} parked, {self.parked_letters} in {held}",
            ),
        ]
        return [f"{place}: {sentence}" for balanced, sentence in checks if not balanced]


@dataclass(frozen=True)
class Accounting:
    """The account of a namespace, one line per topic and partition."""

    lines: list[Line]

    @property
    def problems(self) -> list[str]:
        """Everything that does not balance; empty when the account does."""
        return [problem for line in self.lines for problem in line.problems()]

    @property
    def balanced(self) -> bool:
        """Whether everything balances."""
        return not self.problems

    def total(self, name: str) -> int:
        """Return the sum of one of a line's counts."""
        return sum(getattr(line, name) or 0 for line in self.lines)


def audit(
    lake: LakeSettings, kafka: KafkaSettings, topics: Topics, published: Mapping[Place, int] | None = None
) -> Accounting:
    """Compare Kafka, the landing rows, the tables and the side topics as they are now, without tolerance.

    `published` holds the acknowledged records of everything ever produced, by topic and partition.
    Raises BrokerUnavailable when no broker answers, SnapshotMissing before anything was landed.
    """
    landings = _landings(lake, topics)
    rows = _lake_rows(lake, topics)
    consumer = _connect(kafka)
    try:
        ranges = _ranges(consumer, topics)
        letters = {side: _letters(consumer, topics, side) for side in (dead_letters, parked)}
    finally:
        consumer.close()
    lines = []
    for place, (log_start, log_end) in sorted(ranges.items()):
        landed = landings.get(place)
        start = (
            log_start if landed is None else min(log_start, landed["from_offset"])
        )  # retention moves the log's start
        until = start if landed is None else landed["until_offset"]
        counts = {name: 0 if landed is None else int(landed[name]) for name in _COUNTS}
        lines.append(
            Line(
                topic=place[0],
                partition=place[1],
                published=None if published is None else published.get(place, 0),
                kafka=log_end - start,
                compacted=until - start - counts["records"],
                lake=rows[place],
                dead_letters=letters[dead_letters][place],
                parked_letters=letters[parked][place],
                is_compacted=place[0] in topics.compacted,
                **counts,
            )
        )
    return Accounting(lines)


def _landings(lake: LakeSettings, topics: Topics) -> dict[Place, dict[str, int]]:
    landings = read_table(lake, topics.namespace, LANDINGS.name).arrow
    totals = landings.group_by(["topic", "partition"]).aggregate(
        [("from_offset", "min"), ("until_offset", "max"), *((name, "sum") for name in _COUNTS)]
    )
    return {
        (row["topic"], row["partition"]): {name.rsplit("_", 1)[0]: value for name, value in row.items()}
        for row in totals.to_pylist()
    }


def _lake_rows(lake: LakeSettings, topics: Topics) -> Counter[Place]:
    rows: Counter[Place] = Counter()
    for table in landed_tables(topics).values():
        places = read_table(lake, topics.namespace, table.name, columns=("topic", "partition")).arrow
        for row in places.group_by(["topic", "partition"]).aggregate([([], "count_all")]).to_pylist():
            rows[row["topic"], row["partition"]] += row["count_all"]
    return rows


def _ranges(consumer: KafkaConsumer, topics: Topics) -> dict[Place, tuple[int, int]]:
    partitions = [partition for topic in topics.landed for partition in _partitions(consumer, topic)]
    starts, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    return {(p.topic, p.partition): (starts[p], ends[p]) for p in partitions}


def _letters(consumer: KafkaConsumer, topics: Topics, side: Callable[[str], str]) -> Counter[Place]:
    """Count the keys in the side topics by where the records came from; a key that was sent again counts once."""
    partitions = [partition for topic in topics.landed for partition in _partitions(consumer, side(topic))]
    ends = consumer.end_offsets(partitions)
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    keys: set[bytes] = set()
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for records in consumer.poll(timeout_ms=100).values():
            keys.update(record.key for record in records)
    places = (key.decode().rsplit("-", 2) for key in keys)
    return Counter((topic, int(partition)) for topic, partition, _ in places)


def _partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic) or ())]


def _connect(kafka: KafkaSettings) -> KafkaConsumer:
    try:
        return KafkaConsumer(**client_options(kafka), bootstrap_timeout_ms=5_000, allow_auto_create_topics=False)
    except KafkaError as error:
        raise BrokerUnavailable(f"no broker answers at {kafka.bootstrap_servers}: {error}") from error
