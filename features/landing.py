"""Landing: Kafka to Iceberg, idempotent by content.

Every batch is merged on event id and event day, so a batch that comes again after a crash changes nothing. Where
landing goes on is known twice, by Spark's checkpoint and by the accounting rows in the lake; the rows decide when the
checkpoint is gone. Records that do not decode go to `<topic>.dlq`, records from a newer release to `<topic>.parked`.
"""

import json
import logging
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql.streaming.query import StreamingQuery

from features.batch import Landing, Target, land_batch
from features.config import LakeSettings, StoreSettings, require
from features.decoding import DECODED, decoder
from features.kafka_source import kafka_options
from features.lake import LANDINGS, ensure_tables, table_name
from features.lease import landing_lease
from features.recent import RecentItems
from streaming.config import KafkaSettings
from streaming.errors import FlywheelError
from streaming.ledger import LedgerReader
from streaming.offsets import bounds
from streaming.topics import Topics

_log = logging.getLogger(__name__)

# Spark asks for offsets on the connection whose fetch waits for new records: with Kafka's default of 500 ms every
# partition that was read to its end cost half a second.
_FETCH = {"kafka.fetch.max.wait.ms": "20", "kafka.max.poll.records": "5000"}
# How the failure of `KafkaMicroBatchStream.metrics` reads by the time it reaches Python.
_KNOWN_RESTART = ("scala.collection.IterableOps.map", '"scala.Option.get()" is null')


class LogLost(FlywheelError):
    """Kafka has less of a topic than has landed of it."""


class _Stopped(Exception):
    """Landing is to stop, so no other batch begins."""


@dataclass(frozen=True)
class Lander:
    """What landing works with. `clock` gives ms UTC; `recent` keeps the items' recent counts where they are wanted."""

    spark: SparkSession
    kafka: KafkaSettings
    lake: LakeSettings
    store: StoreSettings
    topics: Topics
    clock: Callable[[], int]
    recent: RecentItems | None = None


@dataclass
class LandingRun:
    """What one run of the lander did; `landings` are those of a run that ends by itself."""

    landings: list[Landing] = field(default_factory=list)
    restarts: int = 0
    stopped_early: bool = False  # a batch was not begun, since landing was to stop


def land(
    lander: Lander,
    *,
    available_now: bool,
    stop: threading.Event | None = None,
    progress: Callable[[list[Landing]], None] | None = None,
) -> LandingRun:
    """Land what the topics hold and return (`available_now`), or go on until `stop` is set.

    `progress` is told of every committed batch. Raises LeaseHeld when another lander of the namespace is at work,
    LeaseLost when this one lost its place, LogLost when the lake has more of the log than there is of it,
    ErasureKeyMissing, LedgerMissing and LedgerUnreadable when it cannot know who was erased.
    """
    run = LandingRun()
    ledger = LedgerReader(lander.kafka, lander.topics)
    with closing(ledger), landing_lease(lander.store, lander.topics.namespace) as lease:
        target = Target(lander.topics, lander.kafka, ledger, lease, lander.recent)
        ensure_tables(lander.spark, lander.topics.namespace)
        _refuse_lost_log(lander)
        while True:
            query = _start(lander, target, run, available_now=available_now, stop=stop, progress=progress)
            try:
                _wait(query, stop)
                return run
            except StreamingQueryException as error:
                if run.stopped_early:
                    return run
                lease.check()
                # Spark 4.1 dies of it once, and once only, when it starts after a crash between batch and checkpoint.
                if run.restarts or not all(word in str(error) for word in _KNOWN_RESTART):
                    raise
                run.restarts += 1
                _log.warning("landing restarts once after the known failure of Spark's Kafka metrics")
            finally:
                query.stop()


def _start(
    lander: Lander,
    target: Target,
    run: LandingRun,
    *,
    available_now: bool,
    stop: threading.Event | None,
    progress: Callable[[list[Landing]], None] | None,
) -> StreamingQuery:
    def batch(records: DataFrame, batch_id: int) -> None:
        if stop is not None and stop.is_set():
            run.stopped_early = True
            raise _Stopped("landing was told to stop before this batch, which it begins with when it goes on")
        landings = land_batch(records, batch_id, target, lander.clock())
        if available_now:  # else it would grow for as long as landing runs
            run.landings.extend(landings)
        if progress is not None:
            progress(landings)

    namespace = lander.topics.namespace
    checkpoint = f"{require(lander.lake.checkpoints, 'lake.checkpoints')}/{namespace}"
    writer = _decoded(lander).writeStream.foreachBatch(batch).option("checkpointLocation", checkpoint)
    if available_now:
        writer = writer.trigger(availableNow=True)
    else:
        writer = writer.trigger(processingTime=f"{lander.lake.trigger_seconds} seconds")
    return writer.queryName(f"land-{namespace}").start()


def _wait(query: StreamingQuery, stop: threading.Event | None) -> None:
    while not query.awaitTermination(1):
        if stop is not None and stop.is_set():
            # The batch in hand ends first: a query that is stopped inside one can end in a stack overflow of its own.
            while query.status["isTriggerActive"] and not query.awaitTermination(1):
                pass
            return


def _decoded(lander: Lander) -> DataFrame:
    records = (
        lander.spark.readStream.format("kafka")
        .options(**kafka_options(lander.kafka))
        .option("subscribe", ",".join(lander.topics.landed))
        .option("startingOffsets", _starting_offsets(lander))
        .options(**_FETCH)
        .option("maxOffsetsPerTrigger", lander.lake.max_records_per_batch)
        .load()
        .coalesce(lander.lake.shuffle_partitions)  # one Python worker for many partitions, not one task for each
        .select("key", "value", "topic", "partition", "offset", F.unix_micros("timestamp").alias("appended_at"))
    )
    return records.mapInArrow(decoder(lander.topics), DECODED)


def _refuse_lost_log(lander: Lander) -> None:
    """Raise LogLost when a partition ends before what has landed of it."""
    ends = {(part.topic, part.partition): end for part, (_, end) in bounds(lander.kafka, lander.topics.landed).items()}
    for topic, partition, until in _landed_until(lander):
        end = ends.get((topic, partition), until)
        if until > end:
            raise LogLost(
                f"{topic}-{partition} ends at offset {end}, and the lake has landed up to {until}: the topic was lost "
                "or made anew, and its records could not be told from those of before; put the log back, or export and "
                "import into another namespace"
            )


def _landed_until(lander: Lander) -> list[Row]:
    landings = lander.spark.table(table_name(lander.topics.namespace, LANDINGS))
    return landings.groupBy("topic", "partition").agg(F.max("until_offset").alias("until")).collect()


def _starting_offsets(lander: Lander) -> str:
    """Return where landing starts without a checkpoint: behind what the accounting rows say has landed."""
    offsets = {
        topic: {str(partition): -2 for partition in range(lander.kafka.partitions)} for topic in lander.topics.landed
    }  # -2 = the earliest
    for row in _landed_until(lander):
        offsets[row["topic"]][str(row["partition"])] = row["until"]
    return json.dumps(offsets)
